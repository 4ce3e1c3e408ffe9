"""Damage of the store as clients and operators meet it: the smallest unit is quarantined, the rest is served."""

import asyncio
from collections.abc import Callable

import pytest

from automq.ids import TopicPartition
from automq.metadata.image import QuarantineCause
from automq.partition.damage import LINES_MAX, DamageLog, kind_of
from automq.protocol.apis import ApiKey
from automq.protocol.errors import ApiError, ErrorCode
from automq.protocol.messages.admin_cluster import DescribeLogDirsRequest
from automq.protocol.messages.discovery import MetadataRequest, MetadataRequestTopic
from automq.protocol.messages.fetch import ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic
from automq.protocol.records import RecordBatch
from automq.runtime.telemetry import Metrics
from automq.s3stream.cache import block_cache
from automq.s3stream.model import CorruptData, DataMissing, StreamQuarantined
from automq.s3stream.objects.format import FOOTER_BYTES
from automq.s3stream.ports import StoreUnavailable
from tests.support.damaged_partitions import FETCH, LIST_OFFSETS, OTHER, World, a_payload, flip, lines, lost
from tests.support.data_path import TOPIC, fetch_request
from tests.support.engine import FIRST_EPOCH, NODE, HeldStore, LoopClock, durable

pytestmark = pytest.mark.looptime

WHOLE = (list(range(12)), ErrorCode.NONE, 12)


async def test_b11_a_flipped_bit_is_an_error_at_exactly_its_offset_logged_once_and_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = await World.made()
    await world.damage_batch(5)

    for _ in range(3):
        assert await world.consumed() == ([0, 1, 2, 3, 4], ErrorCode.CORRUPT_MESSAGE, 5)
    assert await world.consumed(start=6) == (list(range(6, 12)), ErrorCode.NONE, 12)
    assert await world.consumed(OTHER) == WHOLE

    (line,) = lines(caplog, "offsets cannot be read")
    assert (line.partition, line.offset, line.end, line.key) == (f"{TOPIC}-0", 5, 6, world.key_at(5))  # type: ignore[attr-defined]
    assert "automq fsck" in line.remedy  # type: ignore[attr-defined]
    assert world.metric("automq_damaged_reads_total", what="block") == 3
    assert world.metric("automq_damaged_keys") == 1
    summary = world.path.partitions.damage_summary()
    assert summary is not None
    assert world.key_at(5) in summary
    # Offsets are given above it as ever: nothing is unknown but what the batch said.
    assert await world.produced() is ErrorCode.NONE
    await world.path.close()


async def test_what_was_put_back_is_damaged_no_longer() -> None:
    world = await World.made()
    whole = await world.path.store.get(world.key_at(5))
    await world.damage_batch(5)
    assert (await world.consumed())[1] is ErrorCode.CORRUPT_MESSAGE

    await world.path.store.put(world.key_at(5), [whole])
    await asyncio.sleep(31)

    assert await world.consumed() == WHOLE
    assert (world.metric("automq_damaged_keys"), world.path.partitions.damage_summary()) == (0, None)
    await world.path.close()


BREAKAGES: dict[str, Callable[[bytearray], None]] = {
    "bit in the index": lambda data: flip(data, -FOOTER_BYTES - 20),
    "bit in the footer": lambda data: flip(data, -5),
    "cut": lambda data: data.__delitem__(slice(len(data) // 2, None)),
    "emptied": bytearray.clear,
}


@pytest.mark.parametrize("breakage", [*BREAKAGES, "removed"])
@pytest.mark.parametrize("first", [0, 4, 8])
async def test_f8_an_unusable_object_holds_up_its_offsets_and_nothing_else(
    breakage: str, first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Of a stream with much in an object only its index knows where.
    monkeypatch.setattr(block_cache, "SHARE_BYTES_MAX", 100)
    world = await World.made()
    key = world.key_at(first)
    if breakage == "removed":
        await world.path.store.delete([key])
    else:
        await world.damage(key, BREAKAGES[breakage])

    world = await world.restarted()

    assert await world.consumed() == (list(range(first)), ErrorCode.CORRUPT_MESSAGE, first)
    assert await world.consumed(start=first + 4) == (list(range(first + 4, 12)), ErrorCode.NONE, 12)
    for inside in range(first, first + 4):
        assert await world.fetched(inside) == (ErrorCode.CORRUPT_MESSAGE, [])
    newest = first == 8
    # The newest object has what belongs to the state: who wrote it is unknown, so nothing is appended.
    assert await world.produced() is (ErrorCode.KAFKA_STORAGE_ERROR if newest else ErrorCode.NONE)
    assert world.metric("automq_quarantined_partitions") == (2 if newest else 0)
    await world.path.close()


@pytest.mark.parametrize("breakage", ["bit in the index", "bit in the footer"])
@pytest.mark.parametrize("first", [0, 4, 8])
async def test_an_index_that_is_damaged_hides_no_records_whose_place_the_metadata_know(
    breakage: str, first: int
) -> None:
    world = await World.made()
    await world.damage(world.key_at(first), BREAKAGES[breakage])

    world = await world.restarted()

    assert await world.consumed() == WHOLE
    assert await world.produced() is ErrorCode.NONE
    await world.path.close()


@pytest.mark.parametrize("breakage", ["bit in the index", "removed"])
async def test_a_quarantine_ends_when_what_was_damaged_is_restored(
    breakage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(block_cache, "SHARE_BYTES_MAX", 100)
    world = await World.made()
    key = world.key_at(8)
    whole = await world.path.store.get(key)
    if breakage == "removed":
        await world.path.store.delete([key])
    else:
        await world.damage(key, BREAKAGES[breakage])
    world = await world.restarted()
    await asyncio.sleep(200)
    assert await world.produced() is ErrorCode.KAFKA_STORAGE_ERROR

    await world.path.store.put(key, [whole])
    await asyncio.sleep(100)

    assert world.partition().append(a_payload(11)).base_offset == 11, "what was read anew knows its producers"
    assert await world.produced() is ErrorCode.NONE
    assert await world.consumed(OTHER) == WHOLE
    await world.path.close()


async def test_f8_new_topics_are_served_beside_quarantined_ones() -> None:
    world = await World.made()
    await world.path.store.delete([world.key_at(8)])
    world = await world.restarted()
    world.path.create_topic("new")

    assert await world.produced("new") is ErrorCode.NONE
    assert await world.consumed("new") == ([0], ErrorCode.NONE, 1)
    with pytest.raises(StreamQuarantined):
        world.partition().append(a_payload(12))
    await world.path.close()


CAUSE = QuarantineCause(key="c/wal/1/1/5", reason="corrupt WAL slot", at_ms=7, wal=(NODE, FIRST_EPOCH))


async def test_f8_where_a_log_may_hold_more_a_reader_at_the_end_is_told_so_and_never_sent_back() -> None:
    world = await World.made()
    world.quarantine(CAUSE)

    assert await world.consumed() == (list(range(12)), ErrorCode.CORRUPT_MESSAGE, 12)
    assert await world.fetched(500) == (ErrorCode.CORRUPT_MESSAGE, [])
    assert await world.produced() is ErrorCode.KAFKA_STORAGE_ERROR
    assert await world.produced(OTHER) is ErrorCode.NONE
    assert world.path.partitions.quarantined()[TopicPartition(TOPIC, 0)].key == CAUSE.key

    world.quarantine()
    assert await world.consumed() == WHOLE
    assert await world.fetched(500) == (ErrorCode.OFFSET_OUT_OF_RANGE, [])
    assert await world.produced() is ErrorCode.NONE
    assert world.metric("automq_quarantined_partitions") == 0
    await world.path.close()


async def test_a_quarantine_whose_end_is_known_leaves_readers_waiting_there() -> None:
    world = await World.made()
    world.quarantine(replace_wal(CAUSE))

    assert await world.consumed() == WHOLE
    assert await world.produced() is ErrorCode.KAFKA_STORAGE_ERROR
    await world.path.close()


def replace_wal(cause: QuarantineCause) -> QuarantineCause:
    return QuarantineCause(key=cause.key, reason=cause.reason, at_ms=cause.at_ms)


async def test_administrators_see_quarantined_partitions() -> None:
    world = await World.made()
    world.quarantine(CAUSE)
    client = world.path.connect()

    names = [MetadataRequestTopic(name=name) for name in (TOPIC, OTHER)]
    metadata = await client.call(ApiKey.METADATA, 8, MetadataRequest(topics=names))
    assert [
        (topic.name, topic.partitions[0].leader_id, topic.partitions[0].isr_nodes) for topic in metadata.topics
    ] == [
        (TOPIC, NODE, []),
        (OTHER, NODE, [NODE]),
    ]
    folders = await client.call(ApiKey.DESCRIBE_LOG_DIRS, 1, DescribeLogDirsRequest(topics=None))
    assert [(result.error_code, [topic.name for topic in result.topics]) for result in folders.results] == [
        (ErrorCode.NONE, [OTHER]),
        (ErrorCode.KAFKA_STORAGE_ERROR, [TOPIC]),
    ]
    await world.path.close()


async def test_f8_a_lookup_by_time_in_what_is_damaged_is_the_same_error() -> None:
    world = await World.made()
    await world.path.store.delete([world.key_at(4)])

    async def found(timestamp_ms: int) -> tuple[int, int]:
        asked = ListOffsetsPartition(partition_index=0, timestamp=timestamp_ms)
        request = ListOffsetsRequest(replica_id=-1, topics=[ListOffsetsTopic(name=TOPIC, partitions=[asked])])
        answer = await world.path.connect().call(ApiKey.LIST_OFFSETS, LIST_OFFSETS, request)
        (result,) = answer.topics[0].partitions
        return result.error_code, result.offset

    assert await found(20) == (ErrorCode.NONE, 2)
    assert (await found(50))[0] == ErrorCode.CORRUPT_MESSAGE
    assert await found(90) == (ErrorCode.NONE, 9)
    assert await found(-3) == (ErrorCode.NONE, 11)
    assert await found(-1) == (ErrorCode.NONE, 12)
    await world.path.close()


async def test_retention_leaves_what_is_quarantined_alone_and_goes_on_elsewhere() -> None:
    world = await World.made()
    for name in (TOPIC, OTHER):
        world.path.set_configs(name, {"retention.bytes": "1"})
    world.quarantine(CAUSE)

    await world.path.partitions.retain()

    assert (world.partition().log_start_offset, world.partition(OTHER).log_start_offset > 0) == (0, True)
    await world.path.close()


async def test_readers_pass_over_what_was_given_up() -> None:
    world = await World.made()
    await world.path.store.delete([world.key_at(4)])
    world = await lost(world, (4, 8), end=12)

    offsets, code, end = await world.consumed()
    assert (offsets, code, end) == ([0, 1, 2, 3, 8, 9, 10, 11], ErrorCode.NONE, 12)
    assert await world.fetched(5) == (ErrorCode.NONE, [8, 9, 10, 11])
    assert world.partition().quarantine is None
    await world.path.close()


@pytest.mark.parametrize("end", [1000, 2**40])
async def test_what_was_given_up_at_the_end_is_an_empty_batch_and_no_offset_is_given_twice(end: int) -> None:
    world = await World.made()
    world = await lost(world, (12, end), end=end)

    answer = await world.path.connect().call(ApiKey.FETCH, FETCH, fetch_request(12))
    (result,) = answer.responses[0].partitions
    batch = RecordBatch(memoryview(bytes(result.records)))
    assert (batch.base_offset, batch.record_count, batch.next_offset) == (12, 0, min(end, 12 + 2**31))
    assert batch.has_valid_crc()
    assert (result.error_code, result.high_watermark) == (ErrorCode.NONE, end)
    assert await world.fetched(end) == (ErrorCode.NONE, [])
    assert world.partition().append(a_payload(777)).base_offset == end
    await world.path.close()


async def test_f8_one_partition_that_cannot_be_opened_yet_does_not_hold_up_the_start(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = await World.made()
    key = world.key_at(8)
    name_of_other = await alone_in_an_object(world)
    store: HeldStore = world.path.store

    async def before(_name: str, asked: str) -> None:
        if asked == key:
            raise StoreUnavailable("this one never answers")

    store.before = before
    world = await world.restarted()

    assert lines(caplog, "serving before every partition is open")
    assert await world.consumed(name_of_other) == ([0], ErrorCode.NONE, 1)
    assert await world.produced(name_of_other) is ErrorCode.NONE
    with pytest.raises(ApiError):
        world.partition()

    store.before = never
    await asyncio.sleep(60)
    assert await world.consumed() == WHOLE
    await world.path.close()


async def never(_name: str, _key: str) -> None:
    """Nothing happens."""


async def alone_in_an_object(world: World) -> str:
    world.path.create_topic("alone")
    partition = world.partition("alone")
    partition.append(a_payload(0))
    await durable(world.path.engine.storage, partition.last_position)
    await world.path.engine.storage.upload.flush()
    return "alone"


def test_lines_of_one_key_are_few_and_each_partition_has_one(caplog: pytest.LogCaptureFixture) -> None:
    metrics = Metrics()
    damage = DamageLog(clock=StillClock(), metrics=metrics)
    for _ in range(3):
        for index in range(LINES_MAX * 2):
            damage.report(TopicPartition("t", index), 5, DataMissing(key="k", what="object"))

    assert len(lines(caplog, "offsets cannot be read")) == LINES_MAX
    assert metrics.registry.get_sample_value("automq_damaged_reads_total", {"what": "missing"}) == LINES_MAX * 6


class StillClock(LoopClock):
    """Time does not pass."""

    def monotonic(self) -> float:
        return 5.0


@pytest.mark.parametrize(
    ("what", "kind"),
    [
        ("record batch", "block"),
        ("data block", "block"),
        ("checkpoint block", "checkpoint"),
        ("object index: no checkpoint", "checkpoint"),
        ("object index entry", "index"),
        ("object footer", "footer"),
        ("object, which is too short", "object"),
    ],
)
def test_kinds_of_damage_are_few_words(what: str, kind: str) -> None:
    assert kind_of(CorruptData(key="k", offset=0, length=1, what=what)) == kind
