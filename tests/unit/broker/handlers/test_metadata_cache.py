"""What is kept of Metadata answers is what would be made anew, whatever changes, and in whatever turn it changes."""

import asyncio
import random
from dataclasses import replace
from typing import Any, cast

import pytest

from automq.handlers import discovery
from automq.handlers.context import RequestContext
from automq.handlers.discovery import handle_metadata
from automq.handlers.metadata_cache import Kind, MetadataCache
from automq.ids import BrokerEpoch, StreamEpoch, StreamId
from automq.metadata.image import MetadataImage, TopicImage
from automq.metadata.records import (
    BrokerFenced,
    BrokerRegistered,
    Endpoint,
    NewPartition,
    PartitionsCreated,
    TopicCreated,
    TopicDeleted,
)
from automq.metadata.replay import replay
from automq.protocol.messages.discovery import MetadataRequest, MetadataRequestTopic
from tests.support.handler_world import NODE, WholePartitions, a_session, context_of, image_of, topic_id

KIND = Kind(12, "PLAINTEXT", 0)


class Partitions(WholePartitions):
    """Some are quarantined."""

    def __init__(self) -> None:
        self.quarantined: set[tuple[str, int]] = set()
        self.quarantine_changes = 0

    def is_quarantined(self, topic: str, index: int) -> bool:
        return (topic, index) in self.quarantined

    def flip(self, topic: str, index: int) -> None:
        self.quarantined ^= {(topic, index)}
        self.quarantine_changes += 1


class World:
    """One cache, and images that follow one another."""

    def __init__(self, image: MetadataImage) -> None:
        self.partitions = Partitions()
        self.context = context_of(image, version=12, partitions=self.partitions)

    @property
    def image(self) -> MetadataImage:
        return self.context.services.metadata.image

    def publish(self, image: MetadataImage) -> None:
        self.context.services.metadata.replace(image)

    def asked(self, version: int = 12, listener: str = "PLAINTEXT") -> RequestContext:
        return replace(self.context, version=version, session=a_session(listener))

    async def answer(self, request: MetadataRequest, context: RequestContext | None = None) -> bytes:
        context = context or self.context
        return (await handle_metadata(context, request)).encode(context.version, 1)

    async def made_anew(self, request: MetadataRequest, context: RequestContext) -> bytes:
        services = replace(context.services, metadata_cache=MetadataCache())
        return await self.answer(request, replace(context, services=services))


def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The topics that are made into answers from now on."""
    made: list[str] = []
    original = discovery._topic

    def note(context: RequestContext, image: MetadataImage, topic: TopicImage, operations: int) -> Any:
        made.append(topic.name)
        return original(context, image, topic, operations)

    monkeypatch.setattr(discovery, "_topic", note)
    return made


async def test_b6_topics_that_did_not_change_are_not_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(image_of({f"t{number:04}": 10 for number in range(1000)}))
    made = counted(monkeypatch)
    everything = MetadataRequest(topics=None)

    first = await world.answer(everything)
    assert len(made) == 1000
    assert await world.answer(everything) == first
    await world.answer(MetadataRequest(topics=[MetadataRequestTopic(name="t0007"), MetadataRequestTopic(name="a/b")]))
    assert len(made) == 1000

    more = NewPartition(10, StreamId(99_999), NODE, StreamEpoch(3))
    world.publish(replay(world.image, PartitionsCreated(topic_id("t0500"), (more,))))
    assert await world.answer(everything) != first
    assert made[1000:] == ["t0500"]


@pytest.mark.parametrize("seed", range(30))
async def test_b6_kept_answers_are_those_made_anew(seed: int) -> None:
    draw = random.Random(seed)
    world = World(image_of({"a": 1, "b": 3, "c": 2}))
    stream, epoch, names = 100, 2, ["a", "b", "c"]
    for _ in range(60):
        image = world.image
        name = draw.choice(names)
        match draw.randint(0, 9):
            case 0:
                names.append(f"t{stream}")
                image = replay(image, TopicCreated(topic_id(names[-1]), names[-1], False, draw.choice([1, 3])))
                made = NewPartition(0, StreamId(stream), NODE, StreamEpoch(3))
                image = replay(image, PartitionsCreated(topic_id(names[-1]), (made,)))
                stream += 1
            case 1 if len(names) > 1:
                image = replay(image, TopicDeleted(topic_id(name)))
                names.remove(name)
            case 2:
                image = replay(image, BrokerFenced(NODE, image.broker_map[NODE].epoch, NODE, BrokerEpoch(epoch)))
            case 3:
                ends = (Endpoint("PLAINTEXT", draw.choice(["here", "there"]), 9092), Endpoint("OUTSIDE", "far", 1))
                image = replay(image, BrokerRegistered(NODE, BrokerEpoch(epoch), None, ends[: draw.randint(1, 2)]))
                epoch += 1
            case 4:
                world.partitions.flip(name, 0)
            case _:
                pass
        world.publish(image)
        context = world.asked(draw.choice([0, 1, 8, 9, 12, 13]), draw.choice(["PLAINTEXT", "OUTSIDE"]))
        some = [MetadataRequestTopic(name=draw.choice([*names, "none", "a/b"])) for _ in range(draw.randint(1, 4))]
        request = MetadataRequest(
            topics=draw.choice([None, some]),
            allow_auto_topic_creation=False,
            include_topic_authorized_operations=context.version >= 8 and draw.random() < 0.3,
        )
        assert await world.answer(request, context) == await world.made_anew(request, context)


@pytest.mark.parametrize("change", ["quarantine", "brokers", "topics"])
async def test_b6_a_change_between_two_turns_of_one_answer_is_in_the_next(
    change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(discovery, "PARTITIONS_PER_TURN", 1)
    world = World(image_of({"a": 1, "b": 1, "c": 1, "d": 1}))
    everything = MetadataRequest(topics=None)
    answering = asyncio.ensure_future(world.answer(everything))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not answering.done()
    match change:
        case "quarantine":
            world.partitions.flip("a", 0)
        case "brokers":
            world.publish(replay(world.image, BrokerFenced(NODE, BrokerEpoch(1), NODE, BrokerEpoch(2))))
        case _:
            world.publish(replay(world.image, TopicDeleted(topic_id("a"))))
    # Somebody else asks meanwhile.
    await world.answer(MetadataRequest(topics=[MetadataRequestTopic(name="b")], allow_auto_topic_creation=False))
    await answering

    assert await world.answer(everything) == await world.made_anew(everything, world.context)


def a_topic(name: str) -> TopicImage:
    return cast(TopicImage, image_of({name: 1}).topic(name))


def test_memory_is_bounded_and_the_kind_asked_longest_ago_goes_first() -> None:
    cache = MetadataCache(bytes_max=100)
    topic = a_topic("a")
    first, second = KIND, KIND._replace(version=9)
    cache.keep_topic(first, topic, b"x" * 60, topics=[1])
    cache.keep_topic(second, topic, b"y" * 60, topics=[1])
    assert (cache.topic(first, topic), cache.topic(second, topic)) == (None, b"y" * 60)
    assert cache.size == 60

    cache.keep_all(second, topic, b"z" * 200)
    assert cache.size == 0
    assert cache.all(second, topic) is None


def test_deleted_topics_do_not_stay() -> None:
    cache = MetadataCache()
    for number in range(1000):
        cache.keep_topic(KIND, a_topic(f"t{number}"), b"x" * 10, topics=[1, 2, 3])

    assert cache.size <= 40
