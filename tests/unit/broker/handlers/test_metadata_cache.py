"""What is kept of Metadata answers is what would be made anew, whatever changes, and in whatever turn it changes."""

import asyncio
import itertools
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import pytest

from automq.handlers import metadata_answers, metadata_cache
from automq.handlers.context import RequestContext
from automq.handlers.metadata_answers import handle_metadata
from automq.handlers.metadata_cache import KeptList, Kind, MetadataCache
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
    original = metadata_answers._topic_head

    def note(topic: TopicImage, operations: int) -> Any:
        made.append(topic.name)
        return original(topic, operations)

    monkeypatch.setattr(metadata_answers, "_topic_head", note)
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
async def test_b6_kept_answers_are_those_made_anew(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata_cache, "LIST_MIN", 1)
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
        if draw.random() < 0.3:
            # As a client that asks for the same again and again.
            some = [MetadataRequestTopic(name=name) for name in ("a", "b", "c")]
        elif context.version >= 12 and draw.random() < 0.5:
            some = [MetadataRequestTopic(topic_id=topic_id(name), name=None) for name in ("a", "b", "c")]
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
    monkeypatch.setattr(metadata_answers, "PARTITIONS_PER_TURN", 1)
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


@pytest.mark.parametrize("what", ["a topic of 10,000 partitions", "kept topics", "topics that there are not"])
async def test_b6_first_answer_after_a_change_is_bounded_turns(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each turn, what is encoded, found or refused in it is counted."""
    done = [0.0]
    turns = [0.0]

    def note(original: Callable[..., Any], weight: Callable[..., float]) -> Callable[..., Any]:
        def counting(*arguments: Any) -> Any:
            done[0] += weight(*arguments)
            return original(*arguments)

        return counting

    async def next_turn(encoder: Any, original: Any = metadata_answers._TopicEncoder._next_turn) -> None:
        turns.append(done[0])
        await original(encoder)

    encode_partitions = note(metadata_answers.encode_metadata_partitions, lambda some, _: len(some))
    monkeypatch.setattr(metadata_answers, "encode_metadata_partitions", encode_partitions)
    monkeypatch.setattr(
        metadata_answers, "encode_metadata_topic", note(metadata_answers.encode_metadata_topic, lambda *_: 1)
    )
    monkeypatch.setattr(metadata_answers._TopicEncoder, "_next_turn", next_turn)
    request = MetadataRequest(topics=None, allow_auto_topic_creation=False)
    match what:
        case "a topic of 10,000 partitions":
            world = World(image_of({"wide": 10_000}))
            expected_turns = 39
        case "kept topics":
            world = World(image_of({f"t{number:05}": 1 for number in range(10_000)}))
            await world.answer(request)
            world.publish(replay(world.image, TopicDeleted(topic_id("t00500"))))
            turns[:], done[0] = [0.0], 0.0
            expected_turns = 3
        case _:
            world = World(image_of({}))
            names = [MetadataRequestTopic(name=f"none-{number}") for number in range(5_000)]
            request = MetadataRequest(topics=names, allow_auto_topic_creation=False)
            expected_turns = 19
    answer = await world.answer(request)

    assert len(turns) - 1 >= expected_turns
    assert max(after - before for before, after in itertools.pairwise([*turns, done[0]])) <= 251
    assert answer == await world.made_anew(request, world.context)


async def test_b6_list_that_is_named_again_is_known_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(image_of({f"t{number:04}": 10 for number in range(1000)}))
    by_name = MetadataRequest(
        topics=[MetadataRequestTopic(name=f"t{number:04}") for number in range(1000)],
        allow_auto_topic_creation=False,
    )
    by_id = MetadataRequest(
        topics=[MetadataRequestTopic(topic_id=topic_id(f"t{number:04}"), name=None) for number in range(1000)],
        allow_auto_topic_creation=False,
    )
    first, same = await world.answer(by_name), await world.answer(by_id)
    looked_up: list[str] = []
    original = MetadataImage.topic
    monkeypatch.setattr(MetadataImage, "topic", lambda image, name: looked_up.append(name) or original(image, name))

    assert (await world.answer(by_name), await world.answer(by_id)) == (first, same)
    assert looked_up == []
    world.publish(replay(world.image, TopicDeleted(topic_id("t0500"))))
    assert await world.answer(by_name) == await world.made_anew(by_name, world.context)
    # What is not there is looked for each time: it may be made by then.
    looked_up.clear()
    await world.answer(by_name)
    assert len(looked_up) >= 1000


@pytest.mark.parametrize("is_by_id", [False, True])
async def test_b6_of_a_list_that_is_asked_for_again_only_what_changed_is_made(
    is_by_id: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(image_of({f"t{number:04}": 2 for number in range(1000)}))
    names = [f"t{number:04}" for number in range(0, 1000, 2)]
    request = MetadataRequest(
        topics=[
            MetadataRequestTopic(topic_id=topic_id(name), name=None) if is_by_id else MetadataRequestTopic(name=name)
            for name in names
        ],
        allow_auto_topic_creation=False,
    )
    await world.answer(request)
    looked_up: list[object] = []
    for look in ("topic", "topic_by_id"):
        original = getattr(MetadataImage, look)
        monkeypatch.setattr(
            MetadataImage, look, lambda image, key, original=original: looked_up.append(key) or original(image, key)
        )
    made = counted(monkeypatch)
    for name in ("t0007", "t0500", "t0998"):
        more = NewPartition(2, StreamId(99_000 + int(name[1:])), NODE, StreamEpoch(3))
        world.publish(replay(world.image, PartitionsCreated(topic_id(name), (more,))))
        answer = await world.answer(request)
        assert made == ([] if name == "t0007" else [name])
        assert looked_up == []
        assert answer == await world.made_anew(request, world.context)
        made.clear()
        looked_up.clear()


async def test_b6_a_topic_made_again_under_its_name_is_another() -> None:
    world = World(image_of({f"t{number}": 1 for number in range(40)}))
    request = MetadataRequest(topics=[MetadataRequestTopic(name=f"t{number}") for number in range(40)])
    await world.answer(request)
    world.publish(replay(world.image, TopicDeleted(topic_id("t7"))))
    again = topic_id("another")
    image = replay(world.image, TopicCreated(again, "t7", False, 1))
    world.publish(replay(image, PartitionsCreated(again, (NewPartition(0, StreamId(900), NODE, StreamEpoch(3)),))))

    answer = await world.answer(request)
    assert again.bytes in answer
    assert answer == await world.made_anew(request, world.context)


def a_list(size: int, topics: int = 20) -> KeptList:
    return KeptList(object(), [a_topic("a")] * topics, [b""] * topics, bytes(size))


def test_lists_take_a_part_of_the_cache() -> None:
    cache = MetadataCache(bytes_max=100_000)
    answered = a_list(2000)
    for number in range(100):
        cache.keep_list(KIND, tuple(f"t{number}-{index}" for index in range(20)), answered)

    assert 0 < cache.size <= 25_000
    assert cache.listed(KIND, tuple(f"t99-{index}" for index in range(20))) is answered
    assert cache.listed(KIND, tuple(f"t0-{index}" for index in range(20))) is None
    cache.keep_list(KIND, ("short",), a_list(1, 1))
    assert cache.listed(KIND, ("short",)) is None
    cache.renew([], 7)
    assert cache.size == 0


def test_an_answer_to_a_list_takes_the_place_of_the_one_before() -> None:
    cache = MetadataCache()
    asked = tuple(f"n-{index}" for index in range(20))
    for size in (2000, 5):
        cache.keep_list(KIND, asked, a_list(size))
        # Pieces that nothing else keeps are counted, too.
        assert cache.size == 2 * size + 20 * metadata_cache.NAME_BYTES
    assert cache.listed(KIND, asked) is not None


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
