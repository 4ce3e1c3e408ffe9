"""The controller as a whole: elections, group commit, fencing, snapshots, sweeping, silence."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Sequence

import pytest

from automq.controller import commit_check
from automq.controller.broker_ports import BrokerObjects, BrokerStreams
from automq.controller.client import ControllerClient
from automq.controller.model import ControllerSettings, TopicSpec
from automq.controller.service import Controller
from automq.controller.serving import LocalLink
from automq.ids import BrokerEpoch, ObjectId, Offset, StreamEpoch, StreamId
from automq.metadata import log as log_module
from automq.metadata import object_replay
from automq.metadata.lease import lease_key
from automq.metadata.log_format import log_folder, snapshot_folder
from automq.metadata.publisher import MetadataPublisher
from automq.metadata.refusal import StoreOwnedByAnother
from automq.protocol.errors import ApiError, ErrorCode
from automq.replicated.machine import LogFailed, LogFenced
from automq.s3stream.model import (
    DELETED_BY_SIZE,
    KEPT,
    BrokerFenced,
    CommitObject,
    CommitRange,
    CommitRequest,
    CommitResult,
    ObjectRefused,
    RangeVerdict,
    RetentionClass,
    StreamNotFound,
    StreamTrim,
    deleted_class,
)
from automq.s3stream.objects.format import object_key
from automq.s3stream.ports import Buffer
from tests.support.metadata_worlds import CLUSTER, NODE, FlakyStore, World, check

pytestmark = pytest.mark.looptime
T = TopicSpec(name="t", partitions=2)


class ServiceWorld(World):
    def __init__(self) -> None:
        super().__init__()
        assert isinstance(self.store, FlakyStore)
        self.flaky = self.store


@pytest.fixture
async def world() -> AsyncIterator[ServiceWorld]:
    made = ServiceWorld()
    yield made
    await made.close()


def a_commit(
    object_id: int, start: int, end: int, *, epoch: int = 1, trim_to: int = 1, streams: Sequence[int] = (1,)
) -> CommitRequest:
    ranges = [
        CommitRange(
            stream=StreamId(stream),
            epoch=StreamEpoch(epoch),
            start=Offset(start),
            end=Offset(end),
            size=1,
            max_timestamp_ms=1,
        )
        for stream in streams
    ]
    return CommitRequest(
        objects=[CommitObject(object_id=ObjectId(object_id), size=9, ranges=ranges)],
        node=NODE,
        epoch=BrokerEpoch(1),
        trim_to=trim_to,
    )


async def with_a_topic(world: ServiceWorld) -> tuple[Controller, MetadataPublisher]:
    controller, publisher = await world.started("a")
    await world.serving(controller)
    await controller.create_topics([T])
    await controller.open_streams(NODE, BrokerEpoch(1))
    return controller, publisher


async def test_a_successor_sees_everything_that_was_answered(world: ServiceWorld) -> None:
    first, publisher = await with_a_topic(world)
    await first.close()
    second, successor = await world.started("b")

    assert successor.image == publisher.image
    assert (first.epoch, second.epoch) == (1, 2)
    check(successor.image)


async def test_what_is_not_durable_is_not_seen(world: ServiceWorld) -> None:
    controller, publisher = await world.started("a")
    await world.serving(controller)
    world.flaky.is_down = True
    creating = asyncio.ensure_future(controller.create_topics([T]))
    again = asyncio.ensure_future(controller.create_topics([T]))
    await asyncio.sleep(30)
    assert publisher.image.topic("t") is None
    assert not creating.done()
    assert not again.done()

    world.flaky.is_down = False
    assert (await creating)[0].error is None
    assert (await again)[0].error is not None
    assert publisher.image.topic("t") is not None


async def test_an_active_controller_learns_of_its_successor_within_seconds_without_writing(world: ServiceWorld) -> None:
    first, _ = await with_a_topic(world)
    second, _ = await world.started("b")
    await asyncio.sleep(3)

    assert [name for name, _ in world.fenced] == ["a"]
    assert (first.is_active, second.is_active) == (False, True)
    for call in (first.create_topics([T]), first.prepare_objects(NODE, BrokerEpoch(1), 1)):
        with pytest.raises(LogFenced):
            await call


async def test_a_command_of_a_deposed_controller_fails_and_tells_once(world: ServiceWorld) -> None:
    first, publisher = await with_a_topic(world)
    before = publisher.image
    await world.started("b")
    results = await asyncio.gather(
        first.delete_topics(["t"]), first.delete_topics(["x"]), first.close(), return_exceptions=True
    )

    assert isinstance(results[0], LogFenced | LogFailed)
    assert isinstance(results[1], LogFenced | LogFailed)
    assert publisher.image is before


async def test_a_deposed_controller_renews_no_lease_and_deletes_nothing(world: ServiceWorld) -> None:
    await with_a_topic(world)
    second, _ = await world.started("b")
    await asyncio.sleep(10)
    await second.close()
    world.flaky.writes.clear()
    await asyncio.sleep(600)
    assert world.flaky.writes == []


async def test_an_idle_cluster_writes_its_lease_and_nothing_else(world: ServiceWorld) -> None:
    await with_a_topic(world)
    await asyncio.sleep(1)
    world.flaky.writes.clear()
    await asyncio.sleep(600)

    assert set(world.flaky.writes) == {lease_key(CLUSTER)}
    assert len(world.flaky.writes) <= 121


async def test_a_former_incarnation_is_refused_by_every_command(world: ServiceWorld) -> None:
    controller, _ = await with_a_topic(world)
    (object_id,) = await controller.prepare_objects(NODE, BrokerEpoch(1), 1)
    await controller.register_broker(NODE, rack=None, endpoints=())

    for call in (
        controller.prepare_objects(NODE, BrokerEpoch(1), 1),
        controller.commit_objects(a_commit(object_id, 0, 5)),
        controller.trim_streams(NODE, BrokerEpoch(1), [StreamTrim(StreamId(1), StreamEpoch(1), Offset(1))]),
        controller.open_streams(NODE, BrokerEpoch(1)),
        controller.allocate_producer_ids(NODE, BrokerEpoch(1)),
    ):
        with pytest.raises(BrokerFenced):
            await call


async def test_a_brokers_restart_goes_register_recover_open(world: ServiceWorld) -> None:
    controller, publisher = await with_a_topic(world)
    (object_id,) = await controller.prepare_objects(NODE, BrokerEpoch(1), 1)
    await controller.close()
    controller, publisher = await world.started("b")
    registration = await controller.register_broker(NODE, rack=None, endpoints=())
    us = (NODE, registration.epoch)
    assert [(wal.epoch, wal.trim_to) for wal in registration.wals] == [(1, 0)]

    with pytest.raises(ApiError):
        await controller.open_streams(*us)
    recovery = dataclasses.replace(a_commit(object_id, 0, 5, trim_to=4), recoverer=us)
    assert (await controller.commit_objects(recovery)).trimmed_to == 4
    await controller.wal_recovered(NODE, BrokerEpoch(1), recoverer=us)
    await controller.open_streams(*us)
    topic = publisher.image.topic("t")
    assert topic is not None
    assert [part.leader_epoch for part in topic.partitions] == [2, 2]


async def test_objects_and_streams_answer_from_the_durable_image(world: ServiceWorld) -> None:
    controller, publisher = await with_a_topic(world)
    objects = BrokerObjects(
        controller=ControllerClient(LocalLink(controller), publisher),
        metadata=publisher,
        node=NODE,
        epoch=BrokerEpoch(1),
    )
    streams = BrokerStreams(
        controller=ControllerClient(LocalLink(controller), publisher),
        metadata=publisher,
        node=NODE,
        epoch=BrokerEpoch(1),
    )
    (object_id,) = await objects.prepare(1)
    await objects.commit(a_commit(object_id, 0, 5))
    assert await streams.trim([StreamTrim(StreamId(1), StreamEpoch(1), Offset(2))]) == [None]

    state = streams.state(StreamId(1))
    assert (state.start, state.end, state.owner, state.epoch) == (2, 5, NODE, 1)
    assert [span.object_id for span in objects.spans(StreamId(1), Offset(0), Offset(9), limit=5)] == [object_id]
    assert (streams.epoch(StreamId(1)), streams.epoch(StreamId(99))) == (1, None)
    with pytest.raises(StreamNotFound):
        streams.state(StreamId(99))


@pytest.mark.parametrize(
    ("configs", "defaults", "expected"),
    [
        ({}, {}, deleted_class(604_800_000)),
        ({"cleanup.policy": "compact"}, {}, KEPT),
        ({"cleanup.policy": "compact,delete"}, {}, deleted_class(604_800_000)),
        ({"cleanup.policy": ""}, {}, KEPT),
        ({"retention.ms": "-1"}, {}, KEPT),
        ({"retention.ms": "3600000"}, {}, deleted_class(3_600_000)),
        ({"retention.ms": "0"}, {}, deleted_class(0)),
        ({"retention.ms": "9223372036854775807"}, {}, deleted_class(2**63 - 1)),
        ({"retention.ms": "-1", "retention.bytes": "5"}, {}, DELETED_BY_SIZE),
        ({}, {"log.cleanup.policy": "compact"}, KEPT),
        ({"cleanup.policy": "delete"}, {"log.cleanup.policy": "compact"}, deleted_class(604_800_000)),
    ],
)
async def test_f5_retention_class_follows_from_what_holds_for_the_topic(
    world: ServiceWorld, configs: dict[str, str], defaults: dict[str, str], expected: RetentionClass
) -> None:
    controller, publisher = await with_a_topic(world)
    (made,) = await controller.create_topics([TopicSpec(name="other", partitions=1, configs=configs)])
    assert made.error is None
    topic = publisher.image.topic("other")
    assert topic is not None
    streams = BrokerStreams(
        controller=ControllerClient(LocalLink(controller), publisher),
        metadata=publisher,
        node=NODE,
        epoch=BrokerEpoch(1),
        topic_defaults=defaults,
    )
    assert streams.retention_class(topic.partitions[0].stream) == expected
    assert streams.retention_class(StreamId(99)) == deleted_class(0)


async def test_the_bytes_of_a_superfluous_object_go_after_the_grace_period(world: ServiceWorld) -> None:
    controller, publisher = await with_a_topic(world)
    (object_id,) = await controller.prepare_objects(NODE, BrokerEpoch(1), 1)
    key = f"{CLUSTER}/data/{object_id:020d}"
    await world.flaky.inner.put(key, [b"x"])
    await controller.commit_objects(a_commit(object_id, 0, 5))
    await controller.trim_streams(NODE, BrokerEpoch(1), [StreamTrim(StreamId(1), StreamEpoch(1), Offset(5))])
    await asyncio.sleep(15)
    assert object_id in publisher.image.destroyed
    assert await world.store.get(key) == b"x"

    await asyncio.sleep(75)
    assert object_id not in publisher.image.destroyed
    assert [info.key for info in await world.store.list(f"{CLUSTER}/data/")] == []


async def test_sweeping_waits_out_an_outage(world: ServiceWorld) -> None:
    settings = ControllerSettings(object_expiry_ms=60_000, poll_interval_s=5.0)
    controller, publisher = await world.started("a", settings=settings)
    await world.serving(controller)
    await controller.prepare_objects(NODE, BrokerEpoch(1), 3)
    world.flaky.is_down = True
    await asyncio.sleep(300)
    world.flaky.is_down = False
    await asyncio.sleep(120)
    assert not publisher.image.prepared
    assert not publisher.image.destroyed


async def test_snapshots_bound_what_a_start_reads(world: ServiceWorld) -> None:
    settings = ControllerSettings(snapshot_records=20)
    controller, publisher = await world.started("a", settings=settings)
    await world.serving(controller)
    for _ in range(100):
        await controller.allocate_producer_ids(NODE, BrokerEpoch(1))
    await asyncio.sleep(1)

    assert len(await world.store.list(snapshot_folder(CLUSTER))) == 2
    assert len(await world.store.list(log_folder(CLUSTER))) <= 60
    _, successor = await world.started("b")
    assert successor.image == publisher.image


async def test_b1_snapshots_bound_the_ranges_that_a_start_replays(world: ServiceWorld) -> None:
    """One record may have ten thousand of them, whatever it is in bytes: what was replayed at a start counts, too."""
    settings = ControllerSettings(snapshot_ranges=5)
    controller, _publisher = await with_a_topic(world)
    for number in range(3):
        (object_id,) = await controller.prepare_objects(NODE, BrokerEpoch(1), 1)
        await controller.commit_objects(a_commit(object_id, number, number + 1))
    await asyncio.sleep(1)
    await controller.close()
    controller, publisher = await world.started("b", settings=settings)
    await asyncio.sleep(1)
    assert not await world.store.list(snapshot_folder(CLUSTER))

    for number in range(3, 5):
        (object_id,) = await controller.prepare_objects(NODE, BrokerEpoch(1), 1)
        await controller.commit_objects(a_commit(object_id, number, number + 1))
    await asyncio.sleep(1)

    assert len(await world.store.list(snapshot_folder(CLUSTER))) == 1
    _, successor = await world.started("c")
    assert successor.image.streams == publisher.image.streams
    assert len(successor.image.spans_of(StreamId(1))) == 5


async def test_a_commit_in_several_turns_is_one_command(world: ServiceWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """A trim, a deletion and another commit come while it is judged and applied: each sees all of it or nothing."""
    monkeypatch.setattr(commit_check, "RANGES_A_TURN", 1)
    monkeypatch.setattr(object_replay, "RANGES_A_TURN", 1)
    controller, publisher = await with_a_topic(world)
    us = (NODE, BrokerEpoch(1))
    first, second = await controller.prepare_objects(*us, 2)

    results = await asyncio.gather(
        controller.commit_objects(a_commit(first, 0, 10, streams=(1, 2))),
        controller.trim_streams(*us, [StreamTrim(StreamId(2), StreamEpoch(1), Offset(7))]),
        controller.commit_objects(a_commit(second, 10, 20, streams=(1, 2), trim_to=2)),
        controller.delete_topics(["t"]),
        controller.commit_objects(a_commit(first, 0, 10, streams=(1, 2))),
        return_exceptions=True,
    )

    accepted = CommitResult(verdicts=[RangeVerdict.ACCEPTED] * 2, trimmed_to=1)
    assert results[0] == accepted
    assert results[2] == dataclasses.replace(accepted, trimmed_to=2)
    assert isinstance(results[4], ObjectRefused)
    check(publisher.image)
    assert set(publisher.image.unreferenced) == {first, second}


async def test_many_short_lives_end_in_a_snapshot_too(world: ServiceWorld) -> None:
    for number in range(25):
        controller, _ = await world.started(f"life {number}")
        await world.serving(controller)
        await asyncio.sleep(1)
        await controller.close()
    assert await world.store.list(snapshot_folder(CLUSTER))


async def test_an_owner_is_recorded_and_a_race_for_the_ownership_is_lost_by_one(world: ServiceWorld) -> None:
    first, publisher = await world.started("a", owner="uid")
    assert publisher.image.prefix_owner == "uid"
    await first.close()
    late, _ = world.controller("b")
    with pytest.raises(StoreOwnedByAnother):
        await late.start(owner="other", recorded_owner=None)
    again, _ = await world.started("c", owner="uid")
    assert again.is_active


async def test_one_change_too_large_for_a_slot_is_refused(world: ServiceWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    controller, publisher = await world.started("a")
    await world.serving(controller)
    monkeypatch.setattr(log_module, "APPEND_BYTES_MAX", 100)
    with pytest.raises(ApiError) as caught:
        await controller.create_topics([TopicSpec(name="t", partitions=500)])
    assert caught.value.code == ErrorCode.POLICY_VIOLATION
    assert publisher.image.topic("t") is None


async def test_before_the_start_and_after_the_end_nothing_is_answered(world: ServiceWorld) -> None:
    controller, _ = world.controller("a")
    with pytest.raises(LogFailed):
        await controller.create_topics([T])
    await controller.start(owner=None)
    await controller.close()
    with pytest.raises(LogFailed):
        await controller.create_topics([T])
    assert world.fenced == []


async def test_f2_the_active_controller_tells_of_an_object_that_no_record_prepared(world: ServiceWorld) -> None:
    settings = dataclasses.replace(ControllerSettings(), orphan_sweep_interval_s=600.0)
    controller, _ = await world.started("a", settings=settings)
    await world.serving(controller)
    key = object_key(CLUSTER, ObjectId(77))
    await world.flaky.inner.put(key, [b"x"])
    assert controller.damage_summary() is None
    await asyncio.sleep(700)
    summary = controller.damage_summary()
    assert summary is not None
    assert key in summary
    assert [info.key for info in await world.flaky.inner.list(key)] == [key]

    await world.flaky.inner.delete([key])
    await asyncio.sleep(700)
    assert controller.damage_summary() is None


async def test_b12_a_damaged_snapshot_is_replaced_at_once(world: ServiceWorld) -> None:
    settings = dataclasses.replace(ControllerSettings(), snapshot_slots=3)
    first, _ = await world.started("a", settings=settings)
    await world.serving(first)
    for number in range(8):
        await first.create_topics([TopicSpec(name=f"t{number}", partitions=1)])
        await asyncio.sleep(1)
    await first.close()
    newest = (await world.flaky.inner.list(snapshot_folder(CLUSTER)))[-1].key
    await world.flaky.inner.put(newest, [b"AQMS\x01 damaged"])

    second, publisher = await world.started("b", settings=dataclasses.replace(settings, snapshot_slots=1000))
    assert len(publisher.image.topics()) == 8
    summary = second.damage_summary()
    assert summary is not None
    assert newest in summary
    await world.serving(second)
    await asyncio.sleep(2)
    assert (await world.flaky.inner.list(snapshot_folder(CLUSTER)))[-1].key > newest


async def test_a_written_slot_takes_the_place_of_a_poll(world: ServiceWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """It proves the same. Nobody goes longer than the interval without a proof."""
    controller, _publisher = await world.started("a", settings=ControllerSettings(poll_interval_s=1.0))
    await world.serving(controller)
    polls: list[str] = []
    get_range = world.flaky.get_range

    async def counted(key: str, start: int, end: int) -> Buffer:
        if key.startswith(log_folder(CLUSTER)):
            polls.append(key)
        return await get_range(key, start, end)

    monkeypatch.setattr(world.flaky, "get_range", counted)
    await asyncio.sleep(20.0)
    assert 18 <= len(polls) <= 20
    polls.clear()
    for _ in range(40):
        await controller.allocate_producer_ids(NODE, BrokerEpoch(1))
        await asyncio.sleep(0.5)
    assert len(polls) <= 1
    await asyncio.sleep(2.0)
    assert len(polls) >= 1
