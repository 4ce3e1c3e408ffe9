"""One suite for every way to the controller: in this process, with an image that comes late, and over the wire."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Protocol

import pytest

from automq.controller import requests
from automq.controller.broker_ports import BrokerObjects, BrokerStreams
from automq.controller.client import ControllerClient
from automq.controller.damage import Damage
from automq.controller.link import Answer, ControllerLink
from automq.controller.link_server import LinkServer
from automq.controller.model import ConfigAlteration, ConfigChange, PartitionsSpec, Registration, TopicSpec
from automq.controller.remote import RemoteLink
from automq.controller.requests import CreateTopics, PrepareObjects, Request
from automq.controller.service import Controller
from automq.controller.serving import LocalLink
from automq.ids import BrokerEpoch, NodeId, Offset, StreamEpoch, StreamId
from automq.metadata.change import MetadataChange
from automq.metadata.image import TOPIC_RESOURCE
from automq.metadata.publisher import MetadataPublisher
from automq.metadata.records import FORMAT_LEVEL, Endpoint
from automq.protocol.errors import ApiError, ErrorCode
from automq.runtime.entropy import SeededEntropy
from automq.s3stream.model import (
    BrokerFenced,
    CommitObject,
    CommitRange,
    CommitRequest,
    FencedBy,
    ObjectRefused,
    RangeVerdict,
    RecoveredLog,
    StreamFenced,
    StreamNotFound,
    StreamTrim,
    Unplaced,
)
from automq.s3stream.ports import NotController
from tests.support.link_wire import LinkWire
from tests.support.metadata_worlds import CLUSTER, NODE, FlakyStore, LoopClock, World

pytestmark = pytest.mark.looptime

OTHER = NodeId(2)
HERE = Endpoint("PLAINTEXT", "here", 9092)
LAG_S = 0.7


class Way(Protocol):
    """How a broker's requests reach the controller, and its changes the broker."""

    def __call__(
        self, controller: Controller, published: MetadataPublisher
    ) -> tuple[ControllerLink, MetadataPublisher]:
        """The broker's link and image."""
        ...


def in_this_process(
    _world: World, controller: Controller, published: MetadataPublisher
) -> tuple[ControllerLink, MetadataPublisher]:
    return LocalLink(controller), published


def with_a_late_image(
    _world: World, controller: Controller, published: MetadataPublisher
) -> tuple[ControllerLink, MetadataPublisher]:
    late = MetadataPublisher(published.image)
    changes: list[MetadataChange] = []

    def on_change(change: MetadataChange) -> None:
        changes.append(change)
        asyncio.get_running_loop().call_later(LAG_S, lambda: late.publish(changes.pop(0)))

    published.subscribe(on_change)
    return LocalLink(controller), late


def over_the_wire(
    world: World, controller: Controller, published: MetadataPublisher
) -> tuple[ControllerLink, MetadataPublisher]:
    server = LinkServer(controller=controller, cluster_id=CLUSTER, clock=LoopClock(), tasks=world.tasks)
    link = RemoteLink(
        dial=LinkWire(server).dial, cluster_id=CLUSTER, node=NODE, entropy=SeededEntropy("link"), tasks=world.tasks
    )
    return link, with_a_late_image(world, controller, published)[1]


WAYS: dict[str, Way] = {
    "in this process": in_this_process,
    "with a late image": with_a_late_image,
    "over the wire": over_the_wire,
}


@dataclass
class Side:
    """A broker's side of a link, and the controller at its other end."""

    world: World
    controller: Controller
    link: ControllerLink
    image: MetadataPublisher
    client: ControllerClient
    registration: Registration

    @property
    def us(self) -> tuple[NodeId, BrokerEpoch]:
        return NODE, self.registration.epoch

    @property
    def objects(self) -> BrokerObjects:
        return BrokerObjects(controller=self.client, metadata=self.image, node=NODE, epoch=self.registration.epoch)

    @property
    def streams(self) -> BrokerStreams:
        return BrokerStreams(controller=self.client, metadata=self.image, node=NODE, epoch=self.registration.epoch)


@pytest.fixture(params=WAYS)
async def side(request: pytest.FixtureRequest) -> AsyncIterator[Side]:
    world = World()
    controller, published = world.controller("first")
    await controller.start(owner=None)
    link, image = WAYS[request.param](world, controller, published)
    client = ControllerClient(link, image)
    registration = await client.register_broker(NODE, rack="a", endpoints=[HERE])
    yield Side(world, controller, link, image, client, registration)
    await world.close()
    assert world.crashes == []


async def a_topic(side: Side, name: str = "t", partitions: int = 1) -> StreamId:
    (made,) = await side.client.create_topics([TopicSpec(name=name, partitions=partitions)])
    assert made.error is None
    found = side.image.image.topic(name)
    assert found is not None, "a topic that was made is seen at once"
    return found.partitions[0].stream


def a_commit(side: Side, object_id: int, stream: StreamId, start: int, end: int, *, trim_to: int = 0) -> CommitRequest:
    item = CommitRange(
        stream=stream, epoch=StreamEpoch(0), start=Offset(start), end=Offset(end), size=10, max_timestamp_ms=5
    )
    return CommitRequest(
        objects=[CommitObject(object_id=object_id, size=100, ranges=[item])],  # type: ignore[arg-type]
        node=NODE,
        epoch=side.registration.epoch,
        trim_to=trim_to,
    )


async def test_a1_what_a_broker_changed_it_sees_when_the_call_returns(side: Side) -> None:
    assert side.image.image.broker(NODE) is not None
    stream = await a_topic(side)
    (object_id,) = await side.objects.prepare(1)
    assert object_id in side.image.image.prepared

    result = await side.objects.commit(a_commit(side, object_id, stream, 0, 5, trim_to=3))

    assert (list(result.verdicts), result.trimmed_to) == ([RangeVerdict.ACCEPTED], 3)
    assert side.streams.state(stream).end == 5
    assert [span.end for span in side.objects.spans(stream, Offset(0), Offset(9), limit=5)] == [5]
    assert side.image.image.wals[side.us].trim_to == 3
    assert await side.streams.trim([StreamTrim(stream, StreamEpoch(0), Offset(2))]) == [None]
    assert side.streams.state(stream).start == 2
    await side.client.open_streams(*side.us)
    assert side.streams.state(stream).epoch == 1


async def test_a1_what_an_administrator_changed_is_seen_when_the_call_returns(side: Side) -> None:
    await a_topic(side)
    (grown,) = await side.client.create_partitions([PartitionsSpec(name="t", count=3)])
    assert grown.error is None
    topic = side.image.image.topic("t")
    assert topic is not None
    assert len(topic.partitions) == 3
    change = ConfigChange(name="retention.ms", operation=0, value="1000")
    (altered,) = await side.client.alter_configs(
        [ConfigAlteration(resource_type=TOPIC_RESOURCE, resource_name="t", changes=[change])]
    )
    assert altered.error is None
    assert dict(side.image.image.configs[TOPIC_RESOURCE, "t"]) == {"retention.ms": "1000"}
    by_id, unknown = await side.client.delete_topics([topic.topic_id, "nothing"])
    assert (by_id.name, by_id.error) == ("t", None)
    assert unknown.error is not None
    assert unknown.error.code is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert side.image.image.topic("t") is None


async def test_a1_why_a_change_was_refused_is_seen_when_the_call_returns(side: Side) -> None:
    # Made by somebody else: this broker has heard nothing of it.
    await side.controller.create_topics([TopicSpec(name="t", partitions=1)])

    (refused,) = await side.client.create_topics([TopicSpec(name="t", partitions=1)])

    assert refused.error is not None
    assert refused.error.code is ErrorCode.TOPIC_ALREADY_EXISTS
    assert side.image.image.topic("t") is not None


async def test_every_answer_tells_the_record_number_that_it_is_durable_at(side: Side) -> None:
    stored = side.world.store
    answers: list[Answer] = []
    asked: list[Request] = [
        CreateTopics([TopicSpec(name="t", partitions=1)], False),
        PrepareObjects(*side.us, 1),
        PrepareObjects(*side.us, 0),
        CreateTopics([TopicSpec(name="t", partitions=1)], False),
    ]
    for request in asked:
        answers.append(await side.link.ask(request))
    numbers = [answer.record_number for answer in answers]
    assert numbers == sorted(numbers)
    assert numbers[0] < numbers[1] == numbers[2] == numbers[3]
    assert isinstance(answers[2].error, ApiError)

    # Durable: who begins anew finds as many.
    assert isinstance(stored, FlakyStore)
    successor, published = side.world.controller("second")
    await successor.start(owner=None)
    assert published.image.record_number >= numbers[-1]
    assert published.image.topic("t") is not None


async def test_refusals_keep_their_type_and_what_they_tell(side: Side) -> None:
    stream = await a_topic(side)
    with pytest.raises(ObjectRefused):
        await side.objects.commit(a_commit(side, 999, stream, 0, 5))
    with pytest.raises(ApiError) as refused:
        await side.objects.prepare(0)
    assert refused.value.code is ErrorCode.INVALID_REQUEST
    fenced, missing = await side.streams.trim(
        [StreamTrim(stream, StreamEpoch(7), Offset(1)), StreamTrim(StreamId(99), StreamEpoch(0), Offset(1))]
    )
    assert isinstance(fenced, StreamFenced)
    assert (fenced.stream, fenced.ours, fenced.current) == (stream, 7, 0)
    assert isinstance(missing, StreamNotFound)


async def test_a3_a_fenced_broker_is_told_so_and_a_lost_controller_is_no_fence(side: Side) -> None:
    successor = await side.controller.register_broker(NODE, rack=None, endpoints=[HERE])
    with pytest.raises(BrokerFenced):
        await side.objects.prepare(1)
    with pytest.raises(BrokerFenced):
        await side.objects.confirm()
    await side.client.wal_recovered(*side.us, recoverer=(NODE, successor.epoch), recovered=RecoveredLog(fence=0))
    assert side.us not in side.image.image.wals

    second, _ = side.world.controller("second")
    await second.start(owner=None)
    with pytest.raises(NotController):
        await side.client.prepare_objects(NODE, successor.epoch, 1)
    with pytest.raises(NotController):
        await side.client.create_topics([TopicSpec(name="u", partitions=1)])
    assert side.link.leader is None


async def test_who_begins_anew_is_refused_once_its_node_has_another_process(side: Side) -> None:
    former = side.registration.epoch
    anew = await side.client.register_broker(NODE, rack=None, endpoints=[HERE], incarnation=b"anew", after=former)
    broker = side.image.image.broker(NODE)
    assert broker is not None
    assert broker.epoch == anew.epoch > former
    newer = await side.client.register_broker(NODE, rack=None, endpoints=[HERE], incarnation=b"newer")

    # At once, so that both arrive before either is durable: one of them is the next.
    asked = [
        side.client.register_broker(NODE, rack=None, endpoints=[HERE], incarnation=drawn, after=newer.epoch)
        for drawn in (b"one", b"other")
    ]
    found = await asyncio.gather(*asked, return_exceptions=True)

    (won,) = [each for each in found if isinstance(each, Registration)]
    (lost,) = [each for each in found if isinstance(each, BrokerFenced)]
    assert lost.by is FencedBy.REGISTRATION
    assert side.image.image.broker_map[NODE].epoch == won.epoch
    with pytest.raises(BrokerFenced):
        await side.client.register_broker(NODE, rack=None, endpoints=[HERE], after=former)
    assert side.image.image.broker_map[NODE].epoch == won.epoch


async def test_an_incarnation_is_told_apart_by_its_epoch(side: Side) -> None:
    blocks = [await side.client.allocate_producer_ids(*side.us, 10) for _ in range(2)]
    assert blocks[0].first + 10 == blocks[1].first
    with pytest.raises(BrokerFenced):
        await side.client.allocate_producer_ids(NODE, BrokerEpoch(99), 10)
    with pytest.raises(ApiError) as refused:
        await side.client.unregister_broker(NODE)
    assert refused.value.code is ErrorCode.INVALID_REQUEST


async def test_damage_is_recorded_and_seen(side: Side) -> None:
    stream = await a_topic(side)
    found = Damage(key="data/1", reason="half of it")
    await side.client.quarantine_streams(*side.us, streams=[stream], found=found)
    assert side.image.image.quarantine(stream)
    successor = await side.client.register_broker(NODE, rack=None, endpoints=[HERE])
    assert [(wal.epoch, list(wal.lost)) for wal in successor.wals] == [(side.registration.epoch, [])]
    unplaced = Unplaced(
        stream=stream,
        epoch=StreamEpoch(0),
        start=Offset(5),
        end=Offset(6),
        expected=Offset(0),
        first_slot=1,
        end_slot=2,
    )
    us = (NODE, successor.epoch)
    await side.client.quarantine_wal(*side.us, recoverer=us, found=found, unplaced=[unplaced])
    assert side.image.image.wals[side.us].damage is not None
    with pytest.raises(BrokerFenced):
        await side.client.lose_before(*side.us, recoverer=side.us, stream=stream, end=Offset(5))


async def test_the_link_knows_whom_it_asks(side: Side) -> None:
    leader = side.link.leader
    assert leader is not None
    assert (leader.node, leader.epoch) == (NODE, side.controller.epoch)


async def test_a_caller_that_goes_away_leaves_nobody_waiting(side: Side) -> None:
    asking = asyncio.ensure_future(side.client.create_topics([TopicSpec(name="t", partitions=1)]))
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await asyncio.sleep(5)

    # It may have happened; whoever comes next sees what is true.
    (again,) = await side.client.create_topics([TopicSpec(name="t", partitions=1)])
    assert again.error is None or again.error.code is ErrorCode.TOPIC_ALREADY_EXISTS
    assert side.image.image.topic("t") is not None


async def test_every_call_that_changes_something_tells_where_it_is_durable_and_is_read_from_there_on(
    side: Side,
) -> None:
    """In the order of a cluster's life: each request appends records, and reads after it see them."""
    us, found = side.us, Damage(key="data/1", reason="half of it")
    wrote: list[str] = []

    async def change(request: Request) -> Any:
        before = side.controller.record_number
        answer = await side.link.ask(request)
        assert answer.error is None, request
        name = type(request).__name__
        assert answer.record_number == side.controller.record_number > before, name
        await side.client._reached(answer.record_number)
        assert side.image.image.record_number >= answer.record_number, name
        wrote.append(name)
        return answer.value

    await change(requests.CreateTopics([TopicSpec(name="t", partitions=1), TopicSpec(name="u", partitions=1)], False))
    topic = side.image.image.topic("t")
    assert topic is not None
    stream = topic.partitions[0].stream
    await change(requests.CreatePartitions([PartitionsSpec(name="t", count=2)], False))
    altered = ConfigChange(name="retention.ms", operation=0, value="1000")
    await change(
        requests.AlterConfigs(
            [ConfigAlteration(resource_type=TOPIC_RESOURCE, resource_name="t", changes=[altered])], False
        )
    )
    await change(requests.AllocateProducerIds(*us, 10))
    (object_id,) = await change(requests.PrepareObjects(*us, 1))
    await change(requests.CommitObjects(a_commit(side, object_id, stream, 0, 5, trim_to=3)))
    await change(requests.TrimStreams(*us, [StreamTrim(stream, StreamEpoch(0), Offset(2))]))
    await change(requests.OpenStreams(*us))
    await change(requests.QuarantineStreams(*us, [stream], found))
    await change(requests.DeleteTopics([("u", None)]))
    other = await change(requests.RegisterBroker(OTHER, None, [HERE], FORMAT_LEVEL))
    them = OTHER, other.epoch
    assert side.image.image.broker_map[OTHER].epoch == other.epoch
    await change(requests.StopBroker(*them))
    await change(requests.EndBroker(*them))
    assert them not in side.image.image.wals
    again = await change(requests.RegisterBroker(OTHER, None, [HERE], FORMAT_LEVEL, after=other.epoch))
    await change(requests.FenceBroker(OTHER, again.epoch, us))
    await change(requests.WalRecovered(OTHER, again.epoch, us, RecoveredLog(fence=0)))
    await change(requests.UnregisterBroker(OTHER))
    assert side.image.image.broker(OTHER) is None
    assert len(wrote) == 17
