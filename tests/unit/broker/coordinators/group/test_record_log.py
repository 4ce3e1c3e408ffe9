"""A shard's log over one partition: order, limits of a batch, failures."""

import pytest

from automq.coordinators.group.model import CommittedOffset, OffsetStored, Record
from automq.coordinators.group.record_log import PartitionRecordLog
from automq.ids import StreamEpoch
from automq.protocol.records import RecordBatch
from automq.replicated.machine import LogFailed, LogFenced
from automq.runtime.clock import SystemClock
from automq.s3stream.model import BrokerFenced, StreamFenced, StreamId
from tests.support.offsets_partitions import Disk, MemoryPartition


def an_offset(number: int) -> Record:
    return OffsetStored("g", "t", number, CommittedOffset(offset=number, leader_epoch=None, metadata="", commit_ms=0))


def a_log(disk: Disk, *, batch_bytes_max: int = 1_000_000) -> PartitionRecordLog:
    return PartitionRecordLog(
        partition=MemoryPartition(disk, 0, StreamEpoch(1)),
        when_durable=disk.when_durable,
        clock=SystemClock(),
        batch_bytes_max=batch_bytes_max,
    )


def in_order(records: list[Record]) -> list[Record]:
    """A load gives the state, in no order that means anything."""
    return sorted(records, key=lambda record: record.partition if isinstance(record, OffsetStored) else -1)


async def test_records_are_durable_in_order_and_read_back() -> None:
    disk = Disk(is_instant=False)
    log = a_log(disk)
    assert await log.load() == []
    first, second = log.append([an_offset(1)]), log.append([an_offset(2), an_offset(3)])
    disk.make_durable(1)
    assert first.done()
    assert not second.done()
    disk.make_durable()
    await second
    assert in_order(await a_log(disk).load()) == [an_offset(1), an_offset(2), an_offset(3)]


async def test_more_than_a_batch_becomes_several() -> None:
    disk = Disk()
    log = a_log(disk, batch_bytes_max=300)
    await log.load()
    await log.append([an_offset(number) for number in range(10)])
    sizes = [RecordBatch(memoryview(batch)).last_offset_delta + 1 for batch in disk.batches[0]]
    assert sum(sizes) == 10
    assert len(sizes) > 1
    assert in_order(await a_log(disk).load()) == [an_offset(number) for number in range(10)]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (BrokerFenced("newer"), LogFenced),
        (StreamFenced(stream=StreamId(1), ours=StreamEpoch(1), current=StreamEpoch(2)), LogFenced),
        (RuntimeError("the store is gone"), LogFailed),
    ],
)
async def test_after_a_failure_nothing_is_appended_any_more(error: Exception, kind: type[Exception]) -> None:
    disk = Disk(is_instant=False)
    log = a_log(disk)
    await log.load()
    pending = log.append([an_offset(1)])
    disk.lose(error)
    with pytest.raises(kind):
        await pending
    disk.error = None
    with pytest.raises(kind):
        await log.append([an_offset(2)])
    assert disk.appends == 1


async def test_a_checkpoint_is_the_state_at_the_tail_durable_or_not() -> None:
    disk = Disk(is_instant=False)
    partition = MemoryPartition(disk, 0, StreamEpoch(1))
    log = PartitionRecordLog(
        partition=partition, when_durable=disk.when_durable, clock=SystemClock(), batch_bytes_max=1_000_000
    )
    await log.load()
    log.append([an_offset(1)])
    partition.upload()
    assert [section.offset for section in disk.checkpoints[0, "group"]] == [1]
    disk.make_durable()
    disk.batches[0][0] = disk.batches[0][0][:61] + b"\xff" * (len(disk.batches[0][0]) - 61)
    assert await a_log(disk).load() == [an_offset(1)]


async def test_a_record_that_cannot_be_read_costs_only_itself(caplog: pytest.LogCaptureFixture) -> None:
    disk = Disk()
    log = a_log(disk)
    await log.load()
    await log.append([an_offset(1)])
    log._compacted.apply(b"\x00\x01junk", b"\x00\x04")
    log._partition.upload()  # type: ignore[attr-defined]
    assert await a_log(disk).load() == [an_offset(1)]
    assert "left alone" in caplog.text
