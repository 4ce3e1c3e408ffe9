"""Partitions of `__consumer_offsets` in memory: the double of the ports that group coordination takes.

Batches live in a shared store, so that a second coordinator finds what the first one wrote. Durability is by hand
(`make_durable`) unless `is_instant`.
"""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from automq.ids import Offset, StreamEpoch
from automq.partition.checkpoint import Section
from automq.protocol.errors import ApiError, ErrorCode
from automq.protocol.records import RecordBatch
from automq.replicated.sharded_entries import ShardedEntries

WhenDurableCallback = Callable[[Exception | None], None]


@dataclass
class Position:
    """Where a batch went."""

    position: int


class Disk:
    """What survives: durable batches and checkpoints of every partition, and what is under way."""

    def __init__(self, *, is_instant: bool = True) -> None:
        self.is_instant = is_instant
        self.batches: dict[int, list[bytes]] = {}
        self.checkpoints: dict[tuple[int, str], list[Section]] = {}
        """By partition and section: all pieces."""
        self.appends = 0
        self._under_way: list[tuple[int, int, bytes, list[WhenDurableCallback]]] = []
        self._done = 0
        self.error: Exception | None = None

    def take(self, index: int, batch: bytes) -> int:
        """A batch of partition `index` is on its way; its position."""
        self.appends += 1
        self._under_way.append((self.appends, index, batch, []))
        return self.appends

    def when_durable(self, position: int, callback: WhenDurableCallback) -> None:
        """See ports.WhenDurable."""
        if position <= self._done:
            callback(None)
            return
        next(waiting for at, _, _, waiting in self._under_way if at == position).append(callback)
        if self.is_instant:
            self.make_durable()

    def make_durable(self, count: int | None = None) -> None:
        """The oldest `count` batches are durable now."""
        ready = self._under_way[:count]
        del self._under_way[: len(ready)]
        for position, index, batch, _ in ready:
            self.batches.setdefault(index, []).append(batch)
            self._done = position
        for _, _, _, waiting in ready:
            for callback in waiting:
                callback(None)

    def lose(self, error: Exception) -> None:
        """What is under way never arrives, and nothing else is taken."""
        self.error = error
        lost, self._under_way = self._under_way, []
        for _, _, _, waiting in lost:
            for callback in waiting:
                callback(error)

    def under_way(self, index: int) -> list[bytes]:
        """Batches of partition `index` that are not durable yet."""
        return [batch for _, at, batch, _ in self._under_way if at == index]

    def __len__(self) -> int:
        return sum(len(batches) for batches in self.batches.values())


class MemoryPartition:
    """See ports.OffsetsPartition."""

    def __init__(self, disk: Disk, index: int, leader_epoch: StreamEpoch) -> None:
        self._disk = disk
        self._index = index
        self.leader_epoch = leader_epoch
        self.is_quarantined = False
        self.damage: Exception | None = None
        """What a read of it meets."""
        self.log_start_offset = Offset(0)
        self.attached: dict[str, tuple[ShardedEntries, Callable[[int], bytes]]] = {}

    @property
    def high_watermark(self) -> Offset:
        batches = self._disk.batches.get(self._index, [])
        return Offset(RecordBatch(memoryview(batches[-1])).next_offset if batches else 0)

    @property
    def next_offset(self) -> Offset:
        under_way = self._disk.under_way(self._index)
        return Offset(RecordBatch(memoryview(under_way[-1])).next_offset) if under_way else self.high_watermark

    def append(self, records: memoryview, *, internal: bool = False) -> Position:
        if self._disk.error is not None:
            raise ApiError(ErrorCode.NOT_LEADER_OR_FOLLOWER, str(self._disk.error))
        assert internal
        batch = RecordBatch(records)
        assert batch.has_valid_crc()
        batch.place(base_offset=self.next_offset, leader_epoch=self.leader_epoch)
        return Position(self._disk.take(self._index, bytes(records)))

    def attach_checkpoint(self, section: str, entries: ShardedEntries, head: Callable[[int], bytes]) -> None:
        self.attached[section] = entries, head

    async def checkpoint_section(self, section: str) -> list[tuple[int | None, Section]]:
        return list(enumerate(self._disk.checkpoints.get((self._index, section), []), start=1))

    def upload(self) -> None:
        """Another piece of the checkpoint at the tail, as an upload does."""
        for name, (entries, head) in self.attached.items():
            pieces = self._disk.checkpoints.setdefault((self._index, name), [])
            captured = entries.capture(len(pieces) + 1)
            payload = head(len(captured)) + b"".join(captured.entries())
            pieces.append(Section(self.next_offset, payload))

    async def read_batches(self, start: Offset, end: Offset) -> AsyncIterator[memoryview]:
        if self.damage is not None:
            raise self.damage
        for data in list(self._disk.batches.get(self._index, [])):
            batch = RecordBatch(memoryview(data))
            if start < batch.next_offset and batch.base_offset < end:
                yield memoryview(data)


class MemoryPartitions:
    """See ports.OffsetsPartitions: opens what it is asked for."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self.opened: dict[int, MemoryPartition] = {}
        self.epochs: dict[int, StreamEpoch] = {}
        self.is_open = True

    def get(self, topic: str, index: int) -> MemoryPartition:
        if not self.is_open:
            raise ApiError(ErrorCode.NOT_LEADER_OR_FOLLOWER, f"{topic}-{index} is not open yet")
        epoch = self.epochs.get(index, StreamEpoch(1))
        partition = self.opened.get(index)
        if partition is None or partition.leader_epoch != epoch:
            partition = self.opened[index] = MemoryPartition(self._disk, index, epoch)
        return partition
