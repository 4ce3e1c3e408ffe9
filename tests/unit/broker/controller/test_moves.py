"""Which partitions are to move, and to whom: reassignments, elections, draining."""

import uuid
from collections import Counter

import pytest

from automq.controller import moves
from automq.controller.model import BrokerLoad, Reassignment
from automq.ids import BrokerEpoch, NodeId, StreamId, TopicId
from automq.metadata.image import BROKER_RESOURCE, DRAINING_CONFIG, EMPTY, MetadataImage
from automq.metadata.move_records import MoveCause, MovingPartition, PartitionReplicas
from automq.metadata.records import (
    BrokerFenced,
    BrokerRegistered,
    BrokerStopping,
    ConfigChanged,
    MetadataRecord,
    MovesCancelled,
    NewPartition,
    PartitionsCreated,
    PartitionsMoving,
    ReplicasAssigned,
    StreamsQuarantined,
    TopicCreated,
)
from automq.metadata.replay import replay_all
from automq.protocol.errors import ApiError, ErrorCode
from automq.steps import at_once
from tests.support.metadata_worlds import check

A, B, C = (NodeId(1), BrokerEpoch(1)), (NodeId(2), BrokerEpoch(2)), (NodeId(3), BrokerEpoch(3))
TOPIC = TopicId(uuid.UUID(int=1))
STREAMS = [StreamId(number) for number in range(1, 7)]


def partition(index: int, leader: NodeId, *replicas: NodeId) -> NewPartition:
    return NewPartition(index=index, stream=STREAMS[index], leader=leader, replicas=replicas)


BASE = replay_all(
    EMPTY,
    [
        *(BrokerRegistered(node=node, epoch=epoch, rack=None, endpoints=()) for node, epoch in (A, B, C)),
        TopicCreated(topic_id=TOPIC, name="t", is_internal=False, replication_factor=2),
        PartitionsCreated(
            topic_id=TOPIC,
            partitions=(
                partition(0, A[0]),
                partition(1, A[0], A[0], C[0]),
                partition(2, A[0]),
                partition(3, B[0]),
                partition(4, A[0], C[0], A[0]),
            ),
        ),
    ],
)
FENCED_B = BrokerFenced(*B, *A)
DRAINING_A = ConfigChanged(BROKER_RESOURCE, "1", ((DRAINING_CONFIG, "true"),))


def after(image: MetadataImage, *records: MetadataRecord) -> MetadataImage:
    found = replay_all(image, records)
    check(found)
    return found


def asked(image: MetadataImage, index: int, *replicas: int | None, topic: str = "t") -> tuple[MetadataImage, object]:
    wanted = None if replicas == (None,) else [NodeId(node) for node in replicas if node is not None]
    decision = at_once(moves.reassign(image, [Reassignment(topic=topic, index=index, replicas=wanted)]))
    (result,) = decision.response
    return after(image, *decision.records), None if result.error is None else result.error.code


def move_of(image: MetadataImage, index: int) -> tuple[NodeId, MoveCause, tuple[NodeId, ...]] | None:
    move = image.moves.get(STREAMS[index])
    return None if move is None else (move.target[0], move.cause, move.replicas)


def test_the_first_live_member_of_the_list_leads() -> None:
    image, error = asked(BASE, 0, 2, 1)
    assert (move_of(image, 0), error) == ((B[0], MoveCause.OPERATOR, (B[0], A[0])), None)
    assert image.topic_map[TOPIC].partitions[0].replicas == ()
    image, error = asked(after(BASE, FENCED_B), 0, 2, 3)
    assert (move_of(image, 0), error) == ((C[0], MoveCause.OPERATOR, (B[0], C[0])), None)


def test_where_the_leader_stays_the_list_alone_changes() -> None:
    decision = at_once(moves.reassign(BASE, [Reassignment(topic="t", index=0, replicas=[A[0], C[0]])]))
    assert decision.records == [ReplicasAssigned(TOPIC, (PartitionReplicas(0, (A[0], C[0])),))]
    assert decision.response[0].error is None
    again = at_once(
        moves.reassign(after(BASE, *decision.records), [Reassignment(topic="t", index=0, replicas=[A[0], C[0]])])
    )
    assert again.records == []


def test_for_a_partition_whose_owner_is_fenced_only_the_wish_is_noted() -> None:
    image, error = asked(after(BASE, FENCED_B), 3, 3, 1)
    assert (move_of(image, 3), error) == (None, None)
    assert image.topic_map[TOPIC].partitions[3].replicas == (C[0], A[0])


def test_a_second_wish_takes_the_place_of_the_first_in_the_same_append() -> None:
    image, _ = asked(BASE, 0, 2)
    first = image.moves[STREAMS[0]].move
    decision = at_once(moves.reassign(image, [Reassignment(topic="t", index=0, replicas=[C[0]])]))
    assert decision.records == [
        MovesCancelled((STREAMS[0],), "asked for"),
        PartitionsMoving(*A, *C, MoveCause.OPERATOR, (MovingPartition(STREAMS[0], (C[0],)),)),
    ]
    image = after(image, *decision.records)
    assert image.moves[STREAMS[0]].move > first
    # The same wish once more changes nothing; back to where it is, it is cancelled.
    assert at_once(moves.reassign(image, [Reassignment(topic="t", index=0, replicas=[C[0]])])).records == []
    image, _ = asked(image, 0, 1)
    assert not image.moves


def test_a_move_is_cancelled_by_hand_and_leaves_the_replicas() -> None:
    image, _ = asked(BASE, 1, 2, 3)
    image, error = asked(image, 1, None)
    assert (move_of(image, 1), error) == (None, None)
    assert image.topic_map[TOPIC].partitions[1].replicas == (A[0], C[0])
    assert asked(image, 1, None)[1] is ErrorCode.NO_REASSIGNMENT_IN_PROGRESS


@pytest.mark.parametrize(
    ("index", "replicas", "code"),
    [
        (9, [1], ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        (0, [], ErrorCode.INVALID_REPLICA_ASSIGNMENT),
        (0, [2, 9, 2], ErrorCode.INVALID_REPLICA_ASSIGNMENT),
        (0, [9], ErrorCode.INVALID_REPLICA_ASSIGNMENT),
        (0, list(range(1, 18)), ErrorCode.INVALID_REPLICA_ASSIGNMENT),
    ],
)
def test_what_cannot_be_is_refused(index: int, replicas: list[int], code: ErrorCode) -> None:
    image, error = asked(BASE, index, *replicas)
    assert (error, image) == (code, BASE)


# Lists with repeats are shown where the factor is above the number of brokers: what was shown can be asked for again.


def test_a_list_with_repeats_where_the_leader_stays_is_nominal() -> None:
    image, error = asked(BASE, 0, 1, 1, 1)
    assert (move_of(image, 0), error) == (None, None)
    assert image.topic_map[TOPIC].partitions[0].replicas == (A[0], A[0], A[0])
    # Once more, and back to one.
    again = at_once(moves.reassign(image, [Reassignment(topic="t", index=0, replicas=[A[0]] * 3)]))
    assert (again.records, again.response[0].error) == ([], None)
    image, error = asked(image, 0, 1)
    assert (image.topic_map[TOPIC].partitions[0].replicas, error) == ((A[0],), None)


def test_a_list_with_repeats_moves_to_its_first_live_member() -> None:
    image, error = asked(BASE, 0, 2, 1, 2)
    assert (move_of(image, 0), error) == ((B[0], MoveCause.OPERATOR, (B[0], A[0], B[0])), None)
    image, error = asked(after(BASE, FENCED_B), 0, 2, 2, 3, 3)
    assert (move_of(image, 0), error) == ((C[0], MoveCause.OPERATOR, (B[0], B[0], C[0], C[0])), None)
    assert asked(after(BASE, FENCED_B), 0, 2, 2)[1] is ErrorCode.INVALID_REPLICA_ASSIGNMENT


@pytest.mark.parametrize(("replicas", "is_right"), [((1, 1), True), ((2, 2), True), ((1, 1, 1), False), ((1,), False)])
def test_repeats_count_where_the_factor_is_to_stay(replicas: tuple[int, ...], is_right: bool) -> None:
    wanted = [Reassignment(topic="t", index=0, replicas=[NodeId(node) for node in replicas])]
    (result,) = at_once(moves.reassign(BASE, wanted, allows_factor_change=False)).response
    assert (result.error is None) is is_right


def test_repeats_change_neither_who_is_elected_nor_where_draining_moves() -> None:
    image = after(
        BASE,
        ReplicasAssigned(TOPIC, (PartitionReplicas(1, (A[0], A[0])), PartitionReplicas(4, (C[0], C[0], A[0], A[0])))),
    )
    elected = after(image, *at_once(moves.elect(image, [("t", 1), ("t", 4)])).records)
    assert (move_of(elected, 1), move_of(elected, 4)) == (None, (C[0], MoveCause.OPERATOR, ()))
    draining = after(image, DRAINING_A)
    drained = after(draining, *at_once(moves.drain(draining)).records)
    assert sorted(drained.moves) == [STREAMS[index] for index in (0, 1, 2, 4)]
    assert {move.target for move in drained.moves.values()} == {B, C}
    assert move_of(drained, 4) == (C[0], MoveCause.DRAIN, ())


def test_a_list_of_dead_brokers_is_refused_and_so_is_a_quarantined_partition() -> None:
    assert asked(after(BASE, FENCED_B), 0, 2)[1] is ErrorCode.INVALID_REPLICA_ASSIGNMENT
    damaged = after(BASE, StreamsQuarantined((STREAMS[0],), "a key", "a test", 0))
    assert asked(damaged, 0, 2)[1] is ErrorCode.KAFKA_STORAGE_ERROR


def test_the_replication_factor_changes_only_where_that_is_allowed() -> None:
    wanted = [Reassignment(topic="t", index=0, replicas=[A[0]])]
    (refused,) = at_once(moves.reassign(BASE, wanted, allows_factor_change=False)).response
    assert refused.error is not None
    assert refused.error.code is ErrorCode.INVALID_REPLICATION_FACTOR
    assert at_once(moves.reassign(BASE, wanted)).response[0].error is None


def test_a_partition_that_comes_twice_is_refused_the_second_time() -> None:
    wanted = [Reassignment(topic="t", index=0, replicas=[node]) for node in (B[0], C[0])]
    first, second = at_once(moves.reassign(BASE, wanted)).response
    assert first.error is None
    assert second.error is not None


def test_the_preferred_leader_is_elected() -> None:
    decision = at_once(moves.elect(BASE, [("t", 0), ("t", 1), ("t", 4), ("t", 9)]))
    codes = [None if result.error is None else result.error.code for result in decision.response]
    assert codes == [
        ErrorCode.ELECTION_NOT_NEEDED,
        ErrorCode.ELECTION_NOT_NEEDED,
        None,
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
    ]
    image = after(BASE, *decision.records)
    assert (list(image.moves), move_of(image, 4)) == ([STREAMS[4]], (C[0], MoveCause.OPERATOR, ()))
    everything = at_once(moves.elect(BASE, None))
    assert [(result.index, result.error) for result in everything.response] == [(4, None)]
    gone = at_once(moves.elect(after(BASE, BrokerFenced(*C, *A)), [("t", 4)]))
    assert gone.response[0].error is not None
    assert gone.response[0].error.code is ErrorCode.PREFERRED_LEADER_NOT_AVAILABLE


def test_everything_moves_away_from_a_draining_broker_in_one_batch() -> None:
    draining = after(BASE, DRAINING_A)
    decision = at_once(moves.drain(draining))
    image = after(draining, *decision.records)
    assert decision.response == 4
    assert sorted(image.moves) == [STREAMS[0], STREAMS[1], STREAMS[2], STREAMS[4]]
    # Members of a partition's own list come first, then whoever has the fewest.
    assert move_of(image, 1) == move_of(image, 4) == (C[0], MoveCause.DRAIN, ())
    assert [image.moves[STREAMS[index]].target for index in (0, 2)] == [C, B]


def with_wide_topic(count: int, *leaders: NodeId) -> MetadataImage:
    """`count` partitions more, in turn on each of `leaders`, while A drains."""
    parts = tuple(
        NewPartition(index=n, stream=StreamId(1000 + n), leader=leaders[n % len(leaders)]) for n in range(count)
    )
    other = TopicId(uuid.UUID(int=77))
    created = TopicCreated(topic_id=other, name="wide", is_internal=False, replication_factor=1)
    return replay_all(BASE, [created, PartitionsCreated(topic_id=other, partitions=parts), DRAINING_A])


def test_a_drain_looks_at_a_hundred_thousand_partitions_in_bounded_turns() -> None:
    count = 100_000
    assert sum(1 for _part in moves.drain(with_wide_topic(count, B[0]))) >= count // moves.LOOK_PARTITIONS


def test_what_a_drain_moves_goes_where_load_is_least() -> None:
    image = with_wide_topic(30, A[0], B[0], C[0])
    loads = {B[0]: BrokerLoad(in_bytes_per_second=50_000_000), C[0]: BrokerLoad()}
    drained = after(image, *at_once(moves.drain(image, loads)).records)
    targets = Counter(move.target for move in drained.moves.values())
    assert sum(targets.values()) == 14
    assert targets[C] >= 10 > targets[B]


def test_draining_waits_until_somebody_can_take_over() -> None:
    alone = after(BASE, FENCED_B, BrokerFenced(*C, *A), DRAINING_A)
    assert at_once(moves.drain(alone)).records == []


def test_the_wish_of_a_person_comes_before_draining() -> None:
    image, _ = asked(BASE, 3, 1)
    draining = after(image, DRAINING_A)
    decision = at_once(moves.drain(draining))
    assert STREAMS[3] not in {
        part.stream for record in decision.records if isinstance(record, PartitionsMoving) for part in record.partitions
    }
    weaker = after(draining, *decision.records)
    assert asked(weaker, 0, 3)[1] is None


def test_what_is_weaker_is_refused_beside_a_wish_that_is_stronger() -> None:
    image, _ = asked(BASE, 0, 2)
    plan = moves._Plan(image, MoveCause.BALANCER, "load")
    with pytest.raises(ApiError) as refused:
        plan.move(image.topic_map[TOPIC].partitions[0], C[0])
    assert refused.value.code is ErrorCode.REASSIGNMENT_IN_PROGRESS


def test_a_broker_stops_once_and_only_where_there_is_another() -> None:
    decision = moves.stop_broker(BASE, *A)
    assert decision == type(decision)((BrokerStopping(*A),), True)
    stopping = after(BASE, *decision.records)
    assert moves.stop_broker(stopping, *A) == type(decision)((), True)
    assert at_once(moves.drain(stopping)).response == 4
    alone = after(BASE, FENCED_B, BrokerFenced(*C, *A))
    assert moves.stop_broker(alone, *A) == type(decision)((), False)
    with pytest.raises(ApiError):
        moves.stop_broker(BASE, A[0], BrokerEpoch(9))
    assert (
        after(stopping, BrokerRegistered(A[0], BrokerEpoch(9), None, ()), BrokerFenced(*A, A[0], BrokerEpoch(9)))
        .broker_map[A[0]]
        .is_usable
    )
