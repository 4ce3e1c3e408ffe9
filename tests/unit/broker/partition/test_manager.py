"""Which partitions are open: the manager follows the image."""

import asyncio
from dataclasses import replace

import pytest

from automq.ids import NodeId, StreamEpoch, TopicId
from automq.partition.loading import PartitionState
from automq.partition.manager import PartitionSettings
from automq.partition.partition import Partition
from automq.protocol.errors import ApiError, ErrorCode
from automq.protocol.records import RecordBatch
from automq.s3stream.model import BrokerFenced
from automq.s3stream.ports import StoreUnavailable
from automq.s3stream.store.memory import MemoryStore
from tests.support.batches import build_batch
from tests.support.data_path import TOPIC, DataPath
from tests.support.engine import NODE, Engine, HeldStore, durable, keys_of

pytestmark = pytest.mark.looptime

OTHER = NodeId(9)


def refusal(path: DataPath, topic: str = TOPIC, index: int = 0) -> ErrorCode:
    with pytest.raises(ApiError) as caught:
        path.partitions.get(topic, index)
    return caught.value.code


async def put(path: DataPath, partition: Partition, count: int = 1) -> None:
    for _ in range(count):
        partition.append(memoryview(bytearray(build_batch([b"value"], timestamp_ms=0))))
    await durable(path.engine.storage, partition.last_position)


async def test_new_topic_is_open_inside_the_change_that_made_it() -> None:
    path = await DataPath().start()
    topic = path.create_topic(partitions=2)

    assert path.partitions.get(TOPIC, 1) is path.partitions.find_by_id(topic.topic_id, 1)
    assert len(path.partitions.all()) == 2
    await path.close()


async def test_unknown_topics_and_partitions_have_codes_of_their_own() -> None:
    path = await DataPath().start()
    topic = path.create_topic()

    assert refusal(path, "nobody") == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert refusal(path, TOPIC, 1) == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert refusal(path, TOPIC, -1) == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    stranger = TopicId(replace_first(topic.topic_id))
    assert path.partitions.find_by_id(stranger, 0) is None
    assert path.partitions.refusal_by_id(stranger, 0).code == ErrorCode.UNKNOWN_TOPIC_ID
    assert path.partitions.find_by_id(topic.topic_id, 5) is None
    assert path.partitions.refusal_by_id(topic.topic_id, 5).code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    await path.close()


def replace_first(topic_id: TopicId) -> TopicId:
    return TopicId(type(topic_id)(int=topic_id.int ^ 1))


async def test_partition_of_another_broker_is_not_led_here() -> None:
    path = await DataPath().start()
    path.create_topic(leader=OTHER)

    assert refusal(path) == ErrorCode.NOT_LEADER_OR_FOLLOWER
    await path.close()


async def test_deleted_topic_is_closed() -> None:
    path = await DataPath().start()
    topic = path.create_topic()
    partition = path.partitions.get(TOPIC, 0)
    image = path.metadata.image
    path.publish(
        replace(image, topic_map=image.topic_map.delete(topic.topic_id), topic_ids=image.topic_ids.delete(TOPIC))
    )

    assert refusal(path) == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert not partition.is_open
    assert path.partitions.all() == []
    await path.close()


async def test_partition_that_moves_away_is_closed() -> None:
    path = await DataPath().start()
    topic = path.create_topic()
    moved = replace(topic.partitions[0], leader=OTHER, leader_epoch=StreamEpoch(1))
    path.replace_topic(replace(topic, partitions=(moved,)))

    assert refusal(path) == ErrorCode.NOT_LEADER_OR_FOLLOWER
    await path.close()


async def test_partition_that_comes_back_is_opened_with_its_data() -> None:
    path = await DataPath().start()
    topic = path.create_topic()
    await put(path, path.partitions.get(TOPIC, 0), 3)
    await path.engine.storage.upload.flush()
    moved = replace(topic.partitions[0], leader=OTHER, leader_epoch=StreamEpoch(1))
    path.replace_topic(replace(topic, partitions=(moved,)))
    for _ in range(2):
        path.ledger.reopen(moved.stream, owner=NODE)
    path.replace_topic(replace(topic, partitions=(replace(moved, leader=NODE, leader_epoch=StreamEpoch(2)),)))
    assert refusal(path) == ErrorCode.NOT_LEADER_OR_FOLLOWER
    await asyncio.sleep(0.1)

    partition = path.partitions.get(TOPIC, 0)
    assert (partition.leader_epoch, partition.high_watermark) == (2, 3)
    await path.close()


async def test_added_partitions_are_opened_and_the_others_stay() -> None:
    path = await DataPath().start()
    topic = path.create_topic()
    partition = path.partitions.get(TOPIC, 0)
    stream = path.ledger.create_stream(99)
    added = replace(topic.partitions[0], index=1, stream=stream)
    path.replace_topic(replace(topic, partitions=(*topic.partitions, added)))

    assert path.partitions.get(TOPIC, 0) is partition
    assert path.partitions.get(TOPIC, 1).is_open
    await path.close()


async def test_changed_config_changes_the_rules() -> None:
    path = await DataPath().start()
    path.create_topic()
    path.set_configs(TOPIC, {"max.message.bytes": "1234", "compression.type": "lz4"})

    rules = path.partitions.get(TOPIC, 0).rules.append
    assert (rules.batch_bytes_max, rules.reads_records) == (1234, True)
    await path.close()


async def test_lost_stream_is_not_served_any_more() -> None:
    path = await DataPath().start()
    path.create_topic()
    path.engine.storage.halt(BrokerFenced("a test"))

    assert refusal(path) == ErrorCode.NOT_LEADER_OR_FOLLOWER
    assert path.partitions.all() == []


async def test_start_opens_everything_from_checkpoints_alone() -> None:
    path = await DataPath().start()
    path.create_topic(partitions=5)
    for index in range(5):
        await put(path, path.partitions.get(TOPIC, index), index + 1)
    await path.engine.storage.upload.flush()
    again = await next_incarnation(path)

    assert [again.partitions.get(TOPIC, index).high_watermark for index in range(5)] == [1, 2, 3, 4, 5]
    await again.close()


async def next_incarnation(path: DataPath, store: HeldStore | None = None) -> DataPath:
    await path.engine.die()
    await path.tasks.close()
    engine = Engine(path.ledger, path.store if store is None else store, epoch=2)
    await engine.recover(path.engine)
    again = DataPath(engine=engine, store=path.store)
    again.metadata.replace(path.metadata.image)
    if store is not None:
        fail_reads(store, times=3)
    return await again.start()


def fail_reads(store: HeldStore, *, times: int) -> None:
    left = times

    async def before(name: str, key: str) -> None:
        nonlocal left
        if name == "get_range" and left:
            left -= 1
            raise StoreUnavailable("away")

    store.before = before


async def test_start_waits_for_a_store_that_is_away() -> None:
    path = await DataPath().start()
    path.create_topic()
    await put(path, path.partitions.get(TOPIC, 0))
    await path.engine.storage.upload.flush()
    again = await next_incarnation(path, HeldStore(path.store))

    assert again.partitions.get(TOPIC, 0).high_watermark == 1
    await again.close()


async def test_partitions_nobody_wrote_to_cost_no_request() -> None:
    store = HeldStore(MemoryStore())
    path = await DataPath(store=store).start()
    path.create_topic(partitions=200)
    await asyncio.sleep(0.1)

    assert len(path.partitions.all()) == 200
    assert store.calls == []
    await path.close()


async def test_retention_runs_by_itself() -> None:
    path = DataPath(partitions=PartitionSettings(retention_check_interval_ms=5000))
    await path.start()
    path.create_topic(configs={"retention.ms": "1000"})
    partition = path.partitions.get(TOPIC, 0)
    await put(path, partition)
    await path.engine.storage.upload.flush()
    await asyncio.sleep(11)

    assert partition.log_start_offset == 1
    await path.close()


async def test_retention_of_an_idle_partition_writes_nothing() -> None:
    path = DataPath(partitions=PartitionSettings(retention_check_interval_ms=1000))
    await path.start()
    path.create_topic()
    await put(path, path.partitions.get(TOPIC, 0))
    await path.engine.storage.upload.flush()
    before = await keys_of(path.store, "")
    await asyncio.sleep(20)

    assert await keys_of(path.store, "") == before
    await path.close()


async def test_load_that_failed_halfway_begins_anew() -> None:
    store = HeldStore(MemoryStore())
    path = await DataPath(store=store).start()
    path.create_topic()
    partition = path.partitions.get(TOPIC, 0)
    for sequence in range(3):
        batch = build_batch([b"v"], timestamp_ms=0, producer_id=7, producer_epoch=0, base_sequence=sequence)
        partition.append(memoryview(bytearray(batch)))
        await durable(path.engine.storage, partition.last_position)
    before = list(partition._producers)
    loads = 0
    original = PartitionState.remember

    def failing(self: PartitionState, batch: RecordBatch, now_ms: int) -> None:
        nonlocal loads
        loads += batch.base_offset == 0
        original(self, batch, now_ms)
        if loads == 1 and batch.base_offset == 1:
            raise StoreUnavailable("away")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PartitionState, "remember", failing)
        again = await next_incarnation(path)

    assert loads == 2
    # Only the times differ, at which the producer was last heard of.
    (entry,) = again.partitions.get(TOPIC, 0)._producers
    assert [entry._replace(last_ms=before[0].last_ms)] == before
    await again.close()
