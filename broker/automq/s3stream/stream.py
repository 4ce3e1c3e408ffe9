"""Streams as their owner sees them: append, read, trim. `Storage` opens them."""

from collections.abc import Callable, Sequence

from automq.ids import Offset, StreamEpoch, StreamId
from automq.s3stream.arena import ReadResult
from automq.s3stream.model import Segment
from automq.s3stream.storage import StorageEngine

__all__ = ["ReadResult", "Storage", "Stream"]


class Stream:
    """One open stream. Every call but those marked async is synchronous and does no I/O.

    Invariant: start_offset <= next_offset, confirmed_offset <= next_offset. Offsets in [confirmed_offset, next_offset)
    are appended and not durable yet; they are never returned by a read.
    """

    stream_id: StreamId
    epoch: StreamEpoch
    start_offset: Offset
    next_offset: Offset
    confirmed_offset: Offset
    last_position: int
    """WAL slot of the newest append (-1 before the first): when that is durable, everything appended so far is."""
    on_advance: Callable[[], None] | None
    """Called after `confirmed_offset` moved, and when the stream is lost."""
    on_lost: Callable[[], None] | None
    """Called once when a commit was refused because the stream is not ours any more."""
    checkpoint_source: Callable[[], bytes] | None
    """Called between two turns of the loop, when everything below `next_offset` is about to be uploaded: the bytes must
    describe the state at exactly `next_offset`, so state and append change in one turn. Must not raise."""

    def append(self, payload: memoryview, *, count: int, max_timestamp_ms: int) -> int:
        """Append one batch whose base offset is `next_offset`, already patched in; copies `payload` once.

        Returns the WAL slot it will be durable with. Raises BrokerFenced, StreamFenced (lost), StreamClosed,
        StorageFull, ValueError for a batch above `Storage.append_bytes_max`.
        """
        raise NotImplementedError

    def read_cached(self, start: Offset, end: Offset, max_bytes: int) -> ReadResult | None:
        """Batches from the one holding `start` up to `end` and `confirmed_offset`, from the log cache alone.

        At least one batch if there is any, else as many as fit `max_bytes`. Empty when start == confirmed_offset. None
        when the log cache no longer has `start`: use `read`. Raises OffsetOutOfRange outside [start_offset,
        confirmed_offset], BrokerFenced, StreamFenced.
        """
        raise NotImplementedError

    async def read(self, start: Offset, end: Offset, max_bytes: int) -> ReadResult:
        """As `read_cached`, but from wherever the batches are. May return less than there is: read on at `end_offset`.

        Raises also CorruptData, StoreError.
        """
        raise NotImplementedError

    async def find_timestamp(self, timestamp_ms: int) -> Offset | None:
        """Base offset of the first batch in [start_offset, confirmed_offset) whose max timestamp is >= `timestamp_ms`."""
        raise NotImplementedError

    def segments(self) -> Sequence[Segment]:
        """What the stream consists of, oldest first: for retention by time and size, without reading anything."""
        raise NotImplementedError

    async def read_checkpoint(self) -> tuple[Offset, bytes] | None:
        """The newest committed checkpoint and the offset it describes; None when there is none."""
        raise NotImplementedError

    async def trim(self, new_start: Offset) -> None:
        """Forget everything below `new_start` (at most `confirmed_offset`). Raises StreamFenced, StreamNotFound."""
        raise NotImplementedError

    def close(self) -> None:
        """Let go of the stream here; what was appended is uploaded in due time. Idempotent."""
        raise NotImplementedError


class Storage(StorageEngine):
    """The engine of one broker incarnation.

    Order of life: construct, `recover` every dead (node, epoch), `start`, `open_stream`..., `close`.
    """

    def open_stream(self, stream_id: StreamId) -> Stream:
        """Open at the epoch, start and end the durable image gives; `next_offset` is the larger of end and start.

        Raises StreamNotFound, StreamFenced when the image names another owner.
        """
        raise NotImplementedError
