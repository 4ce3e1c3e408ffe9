"""Following the metadata costs what changed, and much of it is done in bounded turns."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest
from immutables import Map

from automq.ids import BrokerEpoch, StreamEpoch, StreamId, TopicId
from automq.metadata.change import MetadataChange
from automq.metadata.image import BROKER_RESOURCE, MetadataImage, PartitionImage, TopicImage
from automq.metadata.records import ObjectsPrepared
from automq.metadata.replay import MetadataMachine
from automq.partition import manager
from automq.partition.manager import PartitionManager
from automq.protocol.errors import ApiError, ErrorCode
from tests.support.data_path import TOPIC, DataPath
from tests.support.engine import NODE
from tests.support.turns import check_turns

pytestmark = pytest.mark.looptime


def with_topics(path: DataPath, count: int, *, partitions: int = 1) -> MetadataImage:
    """The next image: `count` topics more."""
    image = path.metadata.image
    topics, names = image.topic_map.mutate(), image.topic_ids.mutate()
    stream = image.next_stream
    for number in range(count):
        topic_id = TopicId(uuid.UUID(int=stream))
        parts = []
        for index in range(partitions):
            path.ledger.create_stream(StreamId(stream), owner=NODE)
            parts.append(PartitionImage(index=index, stream=StreamId(stream), leader=NODE, leader_epoch=StreamEpoch(0)))
            stream = StreamId(stream + 1)
        name = f"many-{number}"
        topics[topic_id] = TopicImage(
            topic_id=topic_id, name=name, is_internal=False, replication_factor=1, partitions=tuple(parts)
        )
        names[name] = topic_id
    return replace(image, topic_map=topics.finish(), topic_ids=names.finish(), next_stream=stream)


async def opened(path: DataPath, count: int) -> None:
    while len(path.partitions.all()) != count:
        await asyncio.sleep(0)


async def test_b5_an_unrelated_record_causes_no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    path = await DataPath().start()
    path.publish(with_topics(path, 100))
    await opened(path, 100)
    calls: list[str] = []
    for name in ("_on_change", "_rules", "_open_if_ours", "_set_causes"):
        original = getattr(PartitionManager, name)

        def counted(self: PartitionManager, *args: object, name: str = name, original: object = original) -> object:
            calls.append(name)
            return original(self, *args)  # type: ignore[operator]

        monkeypatch.setattr(PartitionManager, name, counted)
    path.partitions._unsubscribe()
    path.partitions._unsubscribe = path.metadata.subscribe(path.partitions._on_change, to=manager.FOLLOWED)

    machine = MetadataMachine(path.metadata.image, remembers=True)
    machine.replay(ObjectsPrepared(first=1, count=1, node=NODE, epoch=BrokerEpoch(1), expires_ms=0))
    path.metadata.publish(machine.take_change())
    assert calls == []

    path.set_configs(TOPIC, {"retention.ms": "1"})
    assert calls == ["_on_change"]
    path.set_configs("many-7", {"retention.ms": "1"})
    assert calls == ["_on_change", "_on_change", "_rules"]
    await path.close()


async def test_many_new_topics_open_in_bounded_turns() -> None:
    async def prepare() -> Callable[[], Awaitable[object]]:
        path = await DataPath().start()
        image = with_topics(path, 2_000)
        change = MetadataChange.between(path.metadata.image, replace(image, record_number=1))

        async def work() -> None:
            path.metadata.publish(change)
            assert 0 < len(path.partitions.all()) < 100
            await opened(path, 2_000)

        return work

    await check_turns(prepare)


async def test_partitions_of_one_large_topic_open_and_close_in_bounded_turns() -> None:
    async def prepare() -> Callable[[], Awaitable[object]]:
        path = await DataPath().start()
        before = path.metadata.image
        image = replace(with_topics(path, 1, partitions=2_000), record_number=1)
        gone = replace(image, topic_map=before.topic_map, topic_ids=before.topic_ids, record_number=2)
        changes = MetadataChange.between(before, image), MetadataChange.between(image, gone)

        async def work() -> None:
            for change, count in zip(changes, (2_000, 0), strict=True):
                path.metadata.publish(change)
                await opened(path, count)

        return work

    await check_turns(prepare)


async def test_what_is_deleted_before_its_turn_is_never_opened() -> None:
    path = await DataPath().start()
    before = path.metadata.image
    path.publish(with_topics(path, 500))
    held = path.partitions.find("many-0", 0)
    assert held is not None
    assert path.partitions.find("many-499", 0) is None
    with pytest.raises(ApiError) as caught:
        path.partitions.get("many-499", 0)
    assert caught.value.code == ErrorCode.NOT_LEADER_OR_FOLLOWER
    path.publish(replace(path.metadata.image, topic_map=before.topic_map, topic_ids=before.topic_ids))
    for _ in range(100):
        await asyncio.sleep(0)

    assert path.partitions.all() == []
    assert path.partitions._wanted == {}
    assert not held.is_open
    await path.close()


async def test_defaults_of_the_broker_change_every_topic_in_turns() -> None:
    path = await DataPath().start()
    path.publish(with_topics(path, 300))
    await opened(path, 300)
    key = (BROKER_RESOURCE, "")
    configs = path.metadata.image.configs.set(key, Map({"message.max.bytes": "12345"}))
    path.publish(replace(path.metadata.image, configs=configs))
    for _ in range(100):
        await asyncio.sleep(0)

    assert {partition.rules.append.batch_bytes_max for partition in path.partitions.all()} == {12345}
    await path.close()


async def test_closing_ends_what_is_still_to_be_opened() -> None:
    path = await DataPath().start()
    path.publish(with_topics(path, 500))
    await path.close()
    for _ in range(100):
        await asyncio.sleep(0)
    assert path.partitions.all() == []
