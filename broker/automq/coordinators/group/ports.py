"""What group coordination needs from outside: a partition of `__consumer_offsets`, its durability, its making."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Protocol

from automq.ids import Offset, StreamEpoch
from automq.replicated.sharded_entries import ShardedEntries


class AppendedAt(Protocol):
    """Where a batch went."""

    @property
    def position(self) -> int:
        """The WAL slot it will be durable with."""
        ...


class CheckpointSection(Protocol):
    """A part of a checkpoint."""

    @property
    def offset(self) -> Offset:
        """What it describes: the records below."""
        ...

    @property
    def payload(self) -> bytes | memoryview:
        """Its bytes."""
        ...


class OffsetsPartition(Protocol):
    """One partition of `__consumer_offsets` that this broker leads."""

    @property
    def leader_epoch(self) -> StreamEpoch:
        """The leadership this object stands for."""
        ...

    @property
    def log_start_offset(self) -> Offset:
        """The oldest offset there is."""
        ...

    @property
    def high_watermark(self) -> Offset:
        """One past the newest durable offset."""
        ...

    @property
    def next_offset(self) -> Offset:
        """One past the newest offset, durable or not."""
        ...

    @property
    def is_quarantined(self) -> bool:
        """Whether it takes no batch because of damage, until it is repaired."""
        ...

    def append(self, records: memoryview, *, internal: bool = False) -> AppendedAt:
        """Take one batch at once. Raises ApiError."""
        ...

    def attach_checkpoint(self, section: str, entries: ShardedEntries, head: Callable[[int], bytes]) -> None:
        """Put these entries into checkpoints, `head` of their number before them.

        They are the state of the tail between any two turns of the loop.
        """
        ...

    async def checkpoint_section(self, section: str) -> Sequence[tuple[int | None, CheckpointSection]]:
        """The section as of the newest checkpoint, to be read in order; the last one has the offset it describes.

        Each comes with the number of its piece for `Entries.restore`, or None: write it anew. No checkpoint is written
        from now on until `attach_checkpoint`. Raises StreamError, StoreError.
        """
        ...

    def read_batches(self, start: Offset, end: Offset) -> AsyncIterator[memoryview]:
        """The durable batches from the one that holds `start` up to `end`; each view holds until the next step."""
        ...


class OffsetsPartitions(Protocol):
    """The partitions this broker leads."""

    def get(self, topic: str, index: int) -> OffsetsPartition:
        """Raises ApiError while the partition is not open here."""
        ...


class WhenDurable(Protocol):
    """The engine's word on durability."""

    def __call__(self, position: int, callback: Callable[[Exception | None], None]) -> None:
        """Call back once slot `position` is durable, or failed: in slot order, at once if it is."""
        ...


class CreateInternalTopic(Protocol):
    """The controller, as far as it is needed here."""

    async def __call__(
        self, *, name: str, partitions: int, replication_factor: int, configs: Mapping[str, str]
    ) -> None:
        """Done when the topic is in this broker's image. Raises ApiError."""
        ...
