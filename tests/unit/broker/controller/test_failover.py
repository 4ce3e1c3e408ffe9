"""Who recovers the logs of the dead, and who gets their partitions."""

import uuid
from collections import Counter

import pytest

from automq.controller import damage, failover
from automq.controller.brokers import end_broker, register_broker
from automq.controller.failover import Around, fence_dead, replace_recoverers, unreached, waiting_logs
from automq.controller.model import BrokerLoad, ControllerSettings, TopicSpec
from automq.controller.streams import open_streams
from automq.controller.topics import create_topics
from automq.ids import BrokerEpoch, NodeId
from automq.metadata.image import EMPTY, MetadataImage, PartitionImage
from automq.metadata.move_records import PartitionReplicas, ReplicasAssigned
from automq.metadata.records import (
    BrokerFenced,
    BrokerStopping,
    ConfigChanged,
    StreamsOpened,
    WalDescriptor,
    WalRecovered,
)
from automq.metadata.replay import replay_all
from automq.metadata.snapshot_records import to_records
from automq.protocol.errors import ApiError
from automq.s3stream.model import BrokerFenced as Refused
from automq.s3stream.model import RecoveredLog, Unplaced
from automq.steps import at_once
from tests.support.metadata_worlds import check

Incarnation = tuple[NodeId, BrokerEpoch]

NOBODY_STOPS = Around()


def grown(image: MetadataImage, records: object) -> MetadataImage:
    after = replay_all(image, records)  # type: ignore[arg-type]
    check(after)
    return after


def stops(image: MetadataImage, node: int) -> BrokerStopping:
    """It wishes to stop: it gets nothing any more."""
    return BrokerStopping(node=NodeId(node), epoch=image.broker_map[NodeId(node)].epoch)


def registered(image: MetadataImage, *nodes: int, wal: WalDescriptor | None = None) -> MetadataImage:
    for node in nodes:
        where = WalDescriptor() if wal is None else wal
        image = grown(image, register_broker(image, NodeId(node), rack=None, endpoints=(), wal=where).records)
    return image


def cluster(*nodes: int, partitions: int = 12) -> MetadataImage:
    """So many brokers, which share the partitions of one topic, all open."""
    image = registered(EMPTY, *nodes)
    made = create_topics(
        image,
        [TopicSpec(name="t", partitions=partitions)],
        settings=ControllerSettings(),
        new_id=lambda: uuid.UUID(int=1),
        validate_only=False,
    )
    image = grown(image, at_once(made).records)
    for node in nodes:
        image = grown(image, open_streams(image, *incarnation(image, node)).records)
    return image


def incarnation(image: MetadataImage, node: int) -> Incarnation:
    return NodeId(node), image.broker_map[NodeId(node)].epoch


def died(image: MetadataImage, *nodes: int, around: Around = NOBODY_STOPS) -> MetadataImage:
    return grown(image, fence_dead(image, [incarnation(image, node) for node in nodes], around))


def recovered(
    image: MetadataImage, log: Incarnation, around: Around = NOBODY_STOPS, *, by_serving: bool = False
) -> MetadataImage:
    recoverer = image.wals[log].recoverer
    assert recoverer is not None
    done = RecoveredLog(fence=0, by_serving=by_serving)
    steps = damage.wal_recovered(image, *log, recoverer=recoverer, recovered=done, now_ms=0, around=around)
    return grown(image, at_once(steps).records)


def parts(image: MetadataImage) -> tuple[PartitionImage, ...]:
    (topic,) = image.topics()
    return topic.partitions


def leaders(image: MetadataImage) -> Counter[int]:
    return Counter(int(part.leader) for part in parts(image) if image.is_led(part))


def recoverers(image: MetadataImage) -> dict[Incarnation, Incarnation | None]:
    return {key: wal.recoverer for key, wal in sorted(image.wals.items()) if wal.recoverer is not None}


def test_the_dead_are_fenced_and_recovered_by_as_many_survivors() -> None:
    image = died(cluster(1, 2, 3, 4, 5, 6), 1, 2, 3)
    assert [broker.node for broker in image.brokers() if broker.fenced] == [1, 2, 3]
    assert sorted(by[0] for by in recoverers(image).values() if by is not None) == [4, 5, 6]
    assert leaders(image) == {4: 2, 5: 2, 6: 2}, "what was the dead ones' shows no leader"


def test_who_is_dead_already_or_was_replaced_is_not_fenced_again() -> None:
    image = died(cluster(1, 2), 1)
    assert fence_dead(image, [(NodeId(1), BrokerEpoch(1)), (NodeId(2), BrokerEpoch(9))], NOBODY_STOPS) == ()
    assert fence_dead(EMPTY, [(NodeId(1), BrokerEpoch(1))], NOBODY_STOPS) == ()


def test_the_least_loaded_recovers_and_who_stops_or_drains_does_not() -> None:
    image = cluster(1, 2, 3, 4, 5)
    loads = {NodeId(2): BrokerLoad(in_bytes_per_second=9), NodeId(3): BrokerLoad(in_bytes_per_second=5)}
    drains = ConfigChanged(resource_type=4, resource_name="4", changes=(("automq.broker.draining", "true"),))
    image = grown(image, [drains, stops(image, 5)])
    around = Around(loads=loads)
    assert recoverers(died(image, 1, around=around)) == {incarnation(image, 1): incarnation(image, 3)}
    # Of those that are left one drains and one stops: who drains does it, who stops never.
    assert set(recoverers(died(image, 1, 2, 3, around=around)).values()) == {incarnation(image, 4)}
    nobody = died(image, 1, 2, 3, 4, around=around)
    assert all(by == log for log, by in recoverers(nobody).items())


def test_with_the_logs_recovery_its_partitions_are_led_by_the_others_in_the_same_append() -> None:
    image = died(cluster(1, 2, 3), 1)
    log = NodeId(1), BrokerEpoch(1)
    before = {part.index: part.leader_epoch for part in parts(image) if part.leader == 1}
    recoverer = image.wals[log].recoverer
    assert recoverer is not None
    decision = at_once(
        damage.wal_recovered(image, *log, recoverer=recoverer, recovered=RecoveredLog(fence=0), now_ms=0)
    )
    assert [type(record) for record in decision.records] == [WalRecovered, StreamsOpened, StreamsOpened]
    image = grown(image, decision.records)
    assert leaders(image) == {2: 6, 3: 6}
    for index, epoch in before.items():
        part = parts(image)[index]
        assert part.leader_epoch == epoch + 1
        assert image.is_leader(part, *incarnation(image, part.leader))
        stream = image.streams[part.stream]
        assert (stream.owner, stream.owner_epoch, stream.epoch) == (*incarnation(image, part.leader), epoch + 1)
    assert replay_all(EMPTY, to_records(image)).with_record_number(image.record_number) == image


def test_a_recoverer_that_dies_is_replaced_and_its_own_log_recovered() -> None:
    image = died(cluster(1, 2, 3, 4), 1)
    first = recoverers(image)[NodeId(1), BrokerEpoch(1)]
    assert first is not None
    image = died(image, first[0])
    now = recoverers(image)
    assert set(now) == {(NodeId(1), BrokerEpoch(1)), first}
    assert {by[0] for by in now.values() if by is not None} == {2, 3, 4} - {first[0]}
    with pytest.raises(Refused):
        at_once(
            damage.wal_recovered(
                image, NodeId(1), BrokerEpoch(1), recoverer=first, recovered=RecoveredLog(fence=0), now_ms=0
            )
        )


def test_a_log_that_nobody_reached_gets_its_recoverer_when_one_comes() -> None:
    image = died(cluster(1, 2), 1, 2)
    assert [wal.node for wal in waiting_logs(image)] == [1, 2]
    assert not replace_recoverers(image, NOBODY_STOPS)
    assert [str(each) for each in unreached(image, NOBODY_STOPS)] == [
        "the log of broker 1 at epoch 1 (s3) waits for a broker",
        "the log of broker 2 at epoch 2 (s3) waits for a broker",
    ]
    image = registered(image, 3)
    image = grown(image, replace_recoverers(image, NOBODY_STOPS))
    assert set(recoverers(image).values()) == {incarnation(image, 3)}
    assert not waiting_logs(image)
    assert not unreached(image, NOBODY_STOPS)
    for log in list(recoverers(image)):
        image = recovered(image, log)
    assert leaders(image) == {3: 12}


def test_only_who_shares_its_volume_recovers_a_log_outside_the_bucket() -> None:
    one, other = WalDescriptor("block", "v1", 0), WalDescriptor("block", "v2", 0)
    image = registered(EMPTY, 1, wal=one)
    image = registered(image, 2, wal=other)
    image = registered(image, 3)
    image = died(image, 1)
    assert recoverers(image) == {incarnation(image, 1): incarnation(image, 1)}
    (waits,) = unreached(image, NOBODY_STOPS)
    assert str(waits) == "the log of broker 1 at epoch 1 (block on volume v1) waits for a broker"
    image = registered(image, 4, wal=one)
    assert replace_recoverers(image, NOBODY_STOPS) == [
        BrokerFenced(node=NodeId(1), epoch=BrokerEpoch(1), recoverer_node=NodeId(4), recoverer_epoch=BrokerEpoch(4))
    ]


def test_a_restarted_broker_does_not_open_what_another_one_recovers_for_it() -> None:
    image = died(cluster(1, 2), 1)
    image = registered(image, 1)
    us = incarnation(image, 1)
    assert open_streams(image, *us).records == ()
    ours = [part for part in parts(image) if part.leader == 1]
    assert len(ours) == 6
    assert not any(image.is_led(part) or image.is_leader(part, *us) for part in ours)
    image = recovered(image, (NodeId(1), BrokerEpoch(1)))
    assert leaders(image) == {1: 6, 2: 6}, "a candidate like any other"


def test_a_broker_that_restarts_before_it_is_fenced_keeps_what_it_had() -> None:
    image = registered(cluster(1, 2), 1)
    image = recovered(image, (NodeId(1), BrokerEpoch(1)))
    image = grown(image, open_streams(image, *incarnation(image, 1)).records)
    assert leaders(image) == {1: 6, 2: 6}


def test_what_a_serving_broker_recovers_of_its_own_former_log_is_led_in_the_same_append() -> None:
    """It has restarted while another one recovered for it, which died: it has opened long ago what it could."""
    image = died(cluster(1, 2, 3), 1)
    log = NodeId(1), BrokerEpoch(1)
    image = registered(image, 1)
    us = incarnation(image, 1)
    image = grown(image, open_streams(image, *us).records)
    recoverer = image.wals[log].recoverer
    assert recoverer is not None
    other = 5 - recoverer[0]
    image = died(grown(image, [stops(image, other)]), recoverer[0])
    assert image.wals[log].recoverer == us
    image = recovered(image, log, by_serving=True)
    assert {part.leader for part in parts(image) if not image.is_led(part)} == {recoverer[0]}, "its log is next"
    assert leaders(image)[1] + leaders(image)[other] == 8


def test_what_a_broker_recovered_for_itself_and_did_not_open_is_given_on_with_its_next_log() -> None:
    """It died between WalRecovered and opening: no log names these partitions any more."""
    image = registered(cluster(1, 2), 1)
    image = recovered(image, (NodeId(1), BrokerEpoch(1)))
    image = died(image, 1)
    image = recovered(image, incarnation(image, 1))
    assert leaders(image) == {2: 12}


def test_what_a_damaged_log_cannot_hold_anything_of_is_given_on_and_the_rest_stays() -> None:
    image = died(cluster(1, 2), 1)
    log = NodeId(1), BrokerEpoch(1)
    held = next(part for part in parts(image) if part.leader == 1)
    item = Unplaced(
        stream=held.stream,
        epoch=held.leader_epoch,
        start=image.streams[held.stream].end,
        end=image.streams[held.stream].end,
        expected=image.streams[held.stream].end,
        first_slot=0,
        end_slot=1,
    )
    pin = damage.quarantine_wal(
        image,
        *log,
        recoverer=incarnation(image, 2),
        damage=damage.Damage(key="k", reason="r"),
        unplaced=[item],
        now_ms=0,
    )
    image = grown(image, at_once(pin).records)
    assert leaders(image) == {2: 11}
    assert parts(image)[held.index] == held
    # A newer incarnation serves what is committed of it, and takes no append.
    image = registered(image, 1)
    assert open_streams(image, *incarnation(image, 1)).records == ()
    assert image.is_leader(held, *incarnation(image, 1))
    # Repaired, and recovered after all.
    image = recovered(image, log)
    assert leaders(image)[2] >= 11
    assert sum(leaders(image).values()) == 12


@pytest.mark.parametrize("by_serving", [False, True])
def test_what_a_damaged_former_log_cannot_hold_is_given_on_by_a_node_that_serves(by_serving: bool) -> None:
    """A node that starts opens the rest itself, once; one that serves would leave it to its next start."""
    image = registered(died(cluster(1, 2, 3), 1), 1)
    log = NodeId(1), BrokerEpoch(1)
    us = incarnation(image, 1)
    first = image.wals[log].recoverer
    assert first is not None
    image = died(grown(image, [stops(image, 5 - first[0])]), first[0])
    assert image.wals[log].recoverer == us
    held = [part for part in parts(image) if part.leader == 1]
    end = image.streams[held[0].stream].end
    item = Unplaced(
        stream=held[0].stream,
        epoch=held[0].leader_epoch,
        start=end,
        end=end,
        expected=end,
        first_slot=0,
        end_slot=1,
    )
    pin = damage.quarantine_wal(
        image,
        *log,
        recoverer=us,
        damage=damage.Damage(key="c/wal/1/1/0", reason="r"),
        unplaced=[item],
        now_ms=0,
        by_serving=by_serving,
    )
    image = grown(image, at_once(pin).records)
    rest = [parts(image)[part.index] for part in held[1:]]
    assert [image.is_led(part) for part in rest] == [by_serving] * len(rest)
    assert parts(image)[held[0].index] == held[0]
    # A node that does not serve yet opens them itself.
    image = grown(image, open_streams(image, *us).records)
    assert all(image.is_led(parts(image)[part.index]) for part in held[1:])


def test_who_ends_in_order_is_fenced_and_nobody_recovers_its_log() -> None:
    image = registered(died(cluster(1, 2, 3), 1), 4)
    log, us = (NodeId(1), BrokerEpoch(1)), incarnation(image, 4)
    image = grown(image, [BrokerFenced(node=log[0], epoch=log[1], recoverer_node=us[0], recoverer_epoch=us[1])])
    image = grown(image, end_broker(image, *us).records)
    assert image.broker_map[us[0]].fenced
    assert us not in image.wals
    # What it was to recover itself is somebody else's now.
    recoverer = image.wals[log].recoverer
    assert recoverer is not None
    assert recoverer[0] in (2, 3)
    with pytest.raises(Refused):
        end_broker(image, *us)
    # A restart of the node finds nothing to recover.
    again = register_broker(image, us[0], rack=None, endpoints=())
    assert [type(record).__name__ for record in again.records] == ["BrokerRegistered"]


def test_who_leads_something_does_not_end_its_log() -> None:
    image = cluster(1, 2)
    with pytest.raises(ApiError, match="still leads"):
        end_broker(image, *incarnation(image, 1))


def test_the_last_survivor_gets_everything_even_while_it_drains() -> None:
    image = cluster(1, 2)
    drains = ConfigChanged(resource_type=4, resource_name="2", changes=(("automq.broker.draining", "true"),))
    image = died(grown(image, [drains]), 1)
    image = recovered(image, (NodeId(1), BrokerEpoch(1)))
    assert leaders(image) == {2: 12}


@pytest.mark.parametrize("asked_for", [(1, 9, 3), (1, 1, 9, 9, 3, 3), (3, 1, 3)])
def test_what_was_asked_for_leads_where_it_lives(asked_for: tuple[int, ...]) -> None:
    image = cluster(1, 2, 3)
    first = parts(image)[0]
    assert first.leader == 1
    asked = ReplicasAssigned(
        topic_id=image.topics()[0].topic_id,
        partitions=(PartitionReplicas(index=0, replicas=tuple(map(NodeId, asked_for))),),
    )
    image = died(grown(image, [asked]), 1)
    image = recovered(image, (NodeId(1), BrokerEpoch(1)))
    assert parts(image)[0].leader == 3
    assert leaders(image) == {2: 6, 3: 6}


def test_giving_on_many_partitions_takes_many_turns() -> None:
    image = died(cluster(1, 2, partitions=4_000), 1)
    log = NodeId(1), BrokerEpoch(1)
    steps = failover.reassign_leaders(image, log, recoverer=incarnation(image, 2))
    assert sum(1 for _ in steps) >= 2_000
