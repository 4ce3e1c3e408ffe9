"""A partition on a real engine: what is appended, read, found, forgotten, and what a new owner knows."""

import pytest

from automq.coordinators.group.checkpoint import CompactedLog, payload_head
from automq.ids import Offset
from automq.partition.partition import Partition
from automq.partition.retention_round import forget
from automq.protocol.compression import Compression
from automq.protocol.errors import ApiError, ErrorCode
from automq.protocol.records import Record, RecordBatch, build_batch
from automq.s3stream.model import BrokerFenced, StorageFull
from automq.s3stream.stream import Stream
from tests.support.data_path import TOPIC, DataPath
from tests.support.engine import Engine, durable

pytestmark = pytest.mark.looptime


async def a_partition(**configs: str) -> tuple[DataPath, Partition]:
    path = await DataPath().start()
    path.create_topic(configs={name.replace("_", "."): value for name, value in configs.items()})
    return path, path.partitions.get(TOPIC, 0)


def a_batch(*timestamps: int, compression: Compression = Compression.NONE, **fields: int) -> memoryview:
    records = [Record(key=b"k", value=b"v" * 20, timestamp=timestamp) for timestamp in timestamps or (0,)]
    return memoryview(build_batch(records, compression=compression, **fields))  # type: ignore[arg-type]


def idempotent(sequence: int, count: int = 1, *, epoch: int = 0) -> memoryview:
    return a_batch(*([0] * count), producer_id=77, producer_epoch=epoch, base_sequence=sequence)


async def put(path: DataPath, partition: Partition, *batches: memoryview) -> None:
    for batch in batches:
        partition.append(batch)
    await durable(path.engine.storage, partition.last_position)


async def bases(partition: Partition, start: int = 0) -> list[int]:
    return [
        RecordBatch(batch).base_offset
        async for batch in partition.read_batches(Offset(start), partition.high_watermark)
    ]


async def reopened(path: DataPath) -> tuple[DataPath, Partition]:
    """The next incarnation of the broker, after the first one was killed."""
    await path.engine.die()
    await path.tasks.close()
    engine = Engine(path.ledger, path.store, epoch=path.engine.me[1] + 1)
    await engine.recover(path.engine)
    image = path.metadata.image
    again = DataPath(engine=engine, store=path.store)
    again.metadata.replace(image)
    await again.start()
    return again, again.partitions.get(TOPIC, 0)


async def test_offsets_follow_one_another() -> None:
    path, partition = await a_partition()
    first = partition.append(a_batch(0, 0, 0))
    second = partition.append(a_batch(0))

    assert (first.base_offset, second.base_offset, partition.next_offset) == (0, 3, 4)
    assert partition.high_watermark == 0
    await durable(path.engine.storage, second.position)
    assert partition.high_watermark == 4
    assert await bases(partition) == [0, 3]
    await path.close()


async def test_batch_gets_offset_and_leader_epoch_in_place() -> None:
    path, partition = await a_partition()
    await put(path, partition, a_batch(0), a_batch(0))
    read = partition.read_cached(Offset(1), 1000)
    assert read is not None

    batch = RecordBatch(read.batches[0])
    assert (batch.base_offset, batch.leader_epoch) == (1, partition.leader_epoch)
    assert batch.has_valid_crc()
    read.release()
    await path.close()


async def test_append_time_replaces_the_producers() -> None:
    path, partition = await a_partition(message_timestamp_type="LogAppendTime")
    appended = partition.append(a_batch(5))
    await durable(path.engine.storage, appended.position)
    read = partition.read_cached(Offset(0), 1000)
    assert read is not None

    batch = RecordBatch(read.batches[0])
    assert batch.is_log_append_time
    assert batch.has_valid_crc()
    assert batch.max_timestamp == appended.log_append_time_ms >= 0
    read.release()
    await path.close()


async def test_duplicate_has_the_first_offset_and_waits_for_it() -> None:
    path, partition = await a_partition()
    first = partition.append(idempotent(0, 2))
    partition.append(a_batch(0))
    again = partition.append(idempotent(0, 2))

    assert (again.base_offset, again.position) == (first.base_offset, partition.last_position)
    assert partition.next_offset == 3
    await path.close()


async def test_refused_sequence_changes_nothing() -> None:
    path, partition = await a_partition()
    partition.append(idempotent(0))
    with pytest.raises(ApiError) as caught:
        partition.append(idempotent(5))

    assert caught.value.code == ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
    assert partition.next_offset == 1
    assert partition.append(idempotent(1)).base_offset == 1
    await path.close()


async def test_batch_the_engine_refuses_leaves_no_trace_in_the_producer_state() -> None:
    path, partition = await a_partition()
    path.engine.storage.halt(BrokerFenced("a test"))
    with pytest.raises(Exception, match="a test"):
        partition.append(idempotent(0))

    assert len(partition._producers) == 0


async def test_new_owner_knows_the_producers_from_the_log() -> None:
    path, partition = await a_partition()
    await put(path, partition, idempotent(0, 2), idempotent(2))
    path, partition = await reopened(path)

    assert partition.append(idempotent(2)).base_offset == 2
    assert partition.append(idempotent(3)).base_offset == 3
    await path.close()


async def test_new_owner_knows_the_producers_from_the_checkpoint() -> None:
    path, partition = await a_partition()
    await put(path, partition, idempotent(0, 2))
    await path.engine.storage.upload.flush()
    await partition.delete_records(-1)
    path, partition = await reopened(path)

    assert (partition.log_start_offset, partition.next_offset) == (2, 2)
    assert partition.append(idempotent(0, 2)).base_offset == 0
    await path.close()


async def test_new_owner_knows_producers_from_checkpoint_and_tail_together() -> None:
    path, partition = await a_partition()
    await put(path, partition, idempotent(0, 2))
    await path.engine.storage.upload.flush()
    await put(path, partition, idempotent(2, 3))
    path, partition = await reopened(path)

    assert partition.append(idempotent(0, 2)).base_offset == 0
    assert partition.append(idempotent(2, 3)).base_offset == 2
    assert partition.append(idempotent(5)).base_offset == 5
    await path.close()


async def test_leader_epochs_survive() -> None:
    path, partition = await a_partition()
    await put(path, partition, a_batch(0, 0))
    path, partition = await reopened(path)
    await put(path, partition, a_batch(0))

    assert partition.leader_epoch == 1
    assert partition.epoch_end(0) == (0, 2)
    assert partition.epoch_end(1) == (1, 3)
    assert [partition.epoch_of(offset) for offset in (0, 1, 2)] == [0, 0, 1]
    await path.close()


async def test_end_of_the_current_epoch_is_what_is_durable() -> None:
    path, partition = await a_partition()
    partition.append(a_batch(0))

    assert partition.epoch_end(0) == (0, 0)
    await path.close()


@pytest.mark.parametrize(("epoch", "code"), [(4, ErrorCode.UNKNOWN_LEADER_EPOCH), (-2, None), (-1, None), (0, None)])
async def test_clients_leader_epoch_is_checked(epoch: int, code: ErrorCode | None) -> None:
    path, partition = await a_partition()
    if code is None:
        partition.check_leader_epoch(epoch)
    else:
        with pytest.raises(ApiError) as caught:
            partition.check_leader_epoch(epoch)
        assert caught.value.code == code
    await path.close()


async def test_older_leader_epoch_is_fenced() -> None:
    path, partition = await a_partition()
    await put(path, partition, a_batch(0))
    path, partition = await reopened(path)

    with pytest.raises(ApiError) as caught:
        partition.check_leader_epoch(0)
    assert caught.value.code == ErrorCode.FENCED_LEADER_EPOCH
    await path.close()


def attach(partition: Partition, state: CompactedLog) -> None:
    partition.attach_checkpoint("group", state.entries, payload_head)


async def read_section(partition: Partition) -> tuple[list[Offset], dict[bytes, bytes]]:
    state = CompactedLog()
    sections = await partition.checkpoint_section("group")
    for number, section in sections:
        for _ in state.restore(section.payload, number=number):
            pass
    return [section.offset for _, section in sections], dict(state.items())


async def test_section_of_a_checkpoint_comes_back_with_its_offset() -> None:
    path, partition = await a_partition()
    state = CompactedLog()
    attach(partition, state)
    await put(path, partition, a_batch(0))
    state.apply(b"key", b"value")
    await path.engine.storage.upload.flush()
    path, partition = await reopened(path)

    assert await read_section(partition) == ([1], {b"key": b"value"})
    assert await partition.checkpoint_section("other") == []
    await path.close()


async def test_section_that_was_attached_is_read_from_the_store_again() -> None:
    path, partition = await a_partition()
    state = CompactedLog()
    attach(partition, state)
    state.apply(b"key", b"value")
    await put(path, partition, a_batch(0))
    await path.engine.storage.upload.flush()

    assert await read_section(partition) == ([1], {b"key": b"value"})
    await path.close()


async def test_section_nobody_renews_is_handed_on() -> None:
    path, partition = await a_partition()
    state = CompactedLog()
    attach(partition, state)
    state.apply(b"key", b"value")
    await put(path, partition, a_batch(0))
    await path.engine.storage.upload.flush()
    for _ in range(2):
        path, partition = await reopened(path)
        await put(path, partition, a_batch(0))
        await path.engine.storage.upload.flush()
    path, partition = await reopened(path)

    assert await read_section(partition) == ([1], {b"key": b"value"})
    await path.close()


async def test_no_piece_is_written_while_a_section_is_being_loaded() -> None:
    path, partition = await a_partition()
    await partition.checkpoint_section("group")

    assert partition.capture(True) is None
    attach(partition, CompactedLog())
    assert partition.capture(True) is not None
    await path.close()


async def test_b13_a_producer_id_that_the_metadata_here_do_not_know_is_taken_as_in_kafka() -> None:
    """A broker that lags behind, or was superseded, knows none of the newest ids, and a refusal ends the client.

    Simulation seed 172. What such producers take is bounded by their number (`test_producer_state`).
    """
    path, partition = await a_partition()
    assert path.metadata.image.next_producer_id == 0

    await put(path, partition, idempotent(0), idempotent(1))
    with pytest.raises(ApiError) as caught:
        partition.append(idempotent(5))

    assert caught.value.code is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
    assert await bases(partition) == [0, 1]
    await path.close()


@pytest.mark.parametrize("is_uploaded", [False, True])
async def test_offset_by_time(is_uploaded: bool) -> None:
    path, partition = await a_partition()
    batches = [a_batch(10, 20), a_batch(30, 25, compression=Compression.ZSTD), a_batch(40)]
    await put(path, partition, *batches)
    if is_uploaded:
        await path.engine.storage.upload.flush()

    assert await partition.find_timestamp(0) == (10, 0)
    assert await partition.find_timestamp(11) == (20, 1)
    assert await partition.find_timestamp(21) == (30, 2)
    assert await partition.find_timestamp(40) == (40, 4)
    assert await partition.find_timestamp(41) is None
    assert await partition.find_newest() == (40, 4)
    await path.close()


async def test_newest_record_of_an_empty_partition_is_none() -> None:
    path, partition = await a_partition()

    assert await partition.find_newest() is None
    await path.close()


async def test_record_below_the_start_is_not_found_by_time() -> None:
    path, partition = await a_partition()
    await put(path, partition, a_batch(10, 20), a_batch(5))
    await partition.delete_records(2)

    assert await partition.find_timestamp(5) == (5, 2)
    assert await partition.find_timestamp(6) is None
    await path.close()


async def test_deleted_records_are_below_the_start() -> None:
    path, partition = await a_partition()
    await put(path, partition, a_batch(0, 0, 0))

    assert await partition.delete_records(2) == 2
    assert await partition.delete_records(1) == 2
    assert await partition.delete_records(-1) == 3
    assert partition.epoch_of(3) == 0
    await path.close()


@pytest.mark.parametrize("before", [4, -2])
async def test_only_durable_records_can_be_deleted(before: int) -> None:
    path, partition = await a_partition()
    await put(path, partition, a_batch(0, 0, 0))
    partition.append(a_batch(0))
    with pytest.raises(ApiError) as caught:
        await partition.delete_records(before)

    assert caught.value.code == ErrorCode.OFFSET_OUT_OF_RANGE
    await path.close()


async def test_records_of_a_compacted_topic_cannot_be_deleted() -> None:
    path, partition = await a_partition(cleanup_policy="compact")
    await put(path, partition, a_batch(0))
    with pytest.raises(ApiError) as caught:
        await partition.delete_records(1)

    assert caught.value.code == ErrorCode.POLICY_VIOLATION
    await path.close()


async def retain(path: DataPath, partition: Partition, now_ms: int) -> None:
    await forget(path.engine.storage, [(partition, partition.retained_from(now_ms))])


async def test_records_past_their_age_go() -> None:
    path, partition = await a_partition(retention_ms="1000")
    await put(path, partition, a_batch(0))
    await path.engine.storage.upload.flush()
    await retain(path, partition, 1000)
    assert partition.log_start_offset == 0
    await retain(path, partition, 1001)

    assert partition.log_start_offset == 1
    await path.close()


async def test_compacted_topic_loses_nothing_to_age_or_size() -> None:
    path, partition = await a_partition(cleanup_policy="compact", retention_ms="1", retention_bytes="1")
    await put(path, partition, a_batch(0))
    await path.engine.storage.upload.flush()
    await retain(path, partition, 10**12)

    assert partition.log_start_offset == 0
    await path.close()


async def test_silent_producers_expire() -> None:
    path, partition = await a_partition()
    await put(path, partition, idempotent(0))
    await partition.expire_producers(path.clock.wall_ms() + 100, 100)

    assert partition.append(idempotent(41)).base_offset == 1
    await path.close()


async def test_offset_that_is_not_durable_yet_is_only_early() -> None:
    path, partition = await a_partition()
    partition.append(a_batch(0, 0))

    assert [partition.is_readable(offset) for offset in (-1, 0, 2, 3)] == [False, True, True, False]
    await path.close()


async def test_seed_826_first_batch_that_is_refused_for_room_is_not_overtaken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*_: object, **__: object) -> int:
        raise StorageFull("every arena is held")

    path, partition = await a_partition()
    with monkeypatch.context() as no_room:
        no_room.setattr(Stream, "append", full)
        with pytest.raises(StorageFull):
            partition.append(idempotent(0))
    with pytest.raises(ApiError) as caught:
        partition.append(idempotent(1))
    assert caught.value.code == ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
    await put(path, partition, idempotent(0), idempotent(1))

    assert await bases(partition) == [0, 1]
    await path.close()
