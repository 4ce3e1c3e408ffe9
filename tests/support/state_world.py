"""Large states that checkpoints describe: producers of a partition, committed offsets of a shard.

Used by `tests/scale`, which counts, and by the group `growth` of `make bench`, which takes times.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from automq.coordinators.group.checkpoint import CompactedLog, payload_head
from automq.coordinators.group.model import CommittedOffset, GroupSettings, OffsetStored
from automq.coordinators.group.record_log import PartitionRecordLog
from automq.coordinators.group.records import encode
from automq.coordinators.group.shard_runner import ShardRunner
from automq.ids import Offset, StreamEpoch
from automq.partition.checkpoint import Section
from automq.partition.checkpointing import Checkpointing, LoadedPieces
from automq.partition.leader_epochs import LeaderEpochs
from automq.partition.producer_state import ProducerState
from automq.replicated.sharded_entries import ShardedEntries
from automq.runtime.clock import SystemClock
from automq.runtime.tasks import Tasks
from automq.runtime.telemetry import Metrics
from automq.runtime.wall_time import WallTimeGuard
from automq.s3stream.model import CheckpointPiece
from automq.s3stream.upload.builder import encoded
from tests.support.offsets_partitions import Disk, MemoryPartition

PARTITIONS_OF_A_GROUP = 1000
Work = Callable[[], Awaitable[object]]


@dataclass
class Ends:
    """Of a stream."""

    start_offset: Offset = Offset(0)
    next_offset: Offset = Offset(0)


class StateWorld:
    """The checkpoints of one partition: what was written of them, and what the records took."""

    def __init__(self) -> None:
        self.producers, self.stream = ProducerState(), Ends()
        self.checkpointing = Checkpointing(self.producers, LeaderEpochs(), LoadedPieces())
        self.state_bytes = self.record_bytes = 0
        self.pieces = 0

    def produce(self, producer: int, sequence: int, *, size: int) -> None:
        """A batch of one record."""
        offset, self.stream.next_offset = self.stream.next_offset, Offset(self.stream.next_offset + 1)
        self.producers.record(
            producer, 0, sequence, 1, first_offset=offset, append_time_ms=-1, now_ms=offset, batch_bytes=size
        )
        self._count(size)

    def commit(self, compacted: CompactedLog, number: int, offset: int, *, overhead_bytes: int = 12) -> None:
        """One offset, in a batch with others."""
        key, value = encode(an_offset(number, offset))
        compacted.apply(key, value)
        size = len(key) + len(value or b"") + overhead_bytes
        compacted.entries.earn(size)
        self._count(size)

    def attach(self, entries: ShardedEntries) -> None:
        """Of the group coordinator."""
        self.checkpointing.attach("group", entries, payload_head)

    def _count(self, size: int) -> None:
        self.record_bytes += size
        self.checkpointing.tail_bytes += size

    async def upload(self) -> None:
        """Capture, and encode what an object of it would hold."""
        captured: CheckpointPiece | None = self.checkpointing.capture(self.stream, is_forced=False)
        if captured is not None:
            self.pieces += 1
            self.state_bytes += sum(map(len, await encoded(captured)))


def an_offset(number: int, offset: int) -> OffsetStored:
    """Of a thousand partitions a group has 20 topics."""
    committed = CommittedOffset(offset=offset, leader_epoch=3, metadata="", commit_ms=1_700_000_000_000 + offset)
    group, partition = divmod(number, PARTITIONS_OF_A_GROUP)
    return OffsetStored(f"group-{group}", f"topic-{partition // 50}", partition % 50, committed)


def a_shard(offsets: int, *, is_one_group: bool = False) -> Disk:
    """The checkpoint of a shard with so many committed offsets, of groups of a thousand each or of `group-0`."""
    compacted = CompactedLog()
    for number in range(offsets):
        record = an_offset(number, number)
        if is_one_group:
            topic = f"topic-{number // PARTITIONS_OF_A_GROUP}"
            record = OffsetStored("group-0", topic, number % PARTITIONS_OF_A_GROUP, record.committed)
        key, value = encode(record)
        compacted.apply(key, value)
    captured = compacted.entries.capture(1)
    disk = Disk()
    payload = payload_head(len(captured)) + b"".join(captured.entries())
    disk.checkpoints[0, "group"] = [Section(Offset(0), payload)]
    return disk


async def loading(disk: Disk) -> Work:
    """A coordinator that takes the shard over."""

    async def work() -> None:
        (await a_runner(disk)).close()

    return work


async def a_runner(disk: Disk) -> ShardRunner:
    """The shard, loaded."""
    clock = SystemClock()
    partition = MemoryPartition(disk, 0, StreamEpoch(1))
    runner = ShardRunner(
        index=0,
        leader_epoch=StreamEpoch(1),
        settings=GroupSettings(),
        clock=clock,
        aging=WallTimeGuard(clock, Metrics()),
        tasks=Tasks("scale", on_crash=lambda name, error: None),
        topic_exists=lambda name, topic_id: True,
        on_failed=lambda failed: None,
    )
    log = PartitionRecordLog(
        partition=partition, when_durable=disk.when_durable, clock=clock, batch_bytes_max=1_000_000
    )
    await runner.load(log)
    return runner


__all__ = ["StateWorld", "Work", "a_runner", "a_shard", "loading"]
