"""The balancer's plans: they even out, they end, they are not undone, and they leave alone what is well."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from automq.controller.balancer import (
    BEGIN,
    BUSY,
    COOL_DOWN_S,
    END,
    MOVES_MAX,
    BalancedBroker,
    BalancedPartition,
    PlannedMove,
    plan,
    shares,
)
from automq.ids import NodeId, StreamId


def brokers(count: int) -> list[BalancedBroker]:
    return [BalancedBroker(node=NodeId(node)) for node in range(count)]


def partitions(*led: int, rate: float = 0.0) -> list[BalancedPartition]:
    """So many for each broker."""
    leaders = [NodeId(node) for node, count in enumerate(led) for _ in range(count)]
    return [
        BalancedPartition(stream=StreamId(number), leader=leader, bytes_per_second=rate)
        for number, leader in enumerate(leaders)
    ]


def moved(found: list[BalancedPartition], moves: list[PlannedMove]) -> list[BalancedPartition]:
    """What the cluster looks like after them, long after."""
    targets = {move.stream: move.target for move in moves}
    return [
        BalancedPartition(
            stream=part.stream,
            leader=targets.get(part.stream, part.leader),
            bytes_per_second=part.bytes_per_second,
            is_movable=part.is_movable,
        )
        for part in found
    ]


def led(found: list[BalancedPartition]) -> list[int]:
    counts = Counter(part.leader for part in found)
    return [counts[NodeId(node)] for node in range(max(counts) + 1)]


def test_a_broker_that_joins_gets_its_share() -> None:
    found = partitions(30, 30, 30)
    after = moved(found, plan(brokers(4), found))
    assert max(led(after)) == 23


def test_a_balanced_cluster_is_left_alone() -> None:
    assert plan(brokers(3), partitions(30, 31, 29)) == []
    assert plan(brokers(3), partitions(1, 1, 0)) == []
    assert plan(brokers(3), []) == []
    assert plan(brokers(1), partitions(30)) == []


def test_a_cluster_near_its_balance_is_left_alone_until_it_is_not() -> None:
    assert max(shares(brokers(2), partitions(54, 46)).values()) <= BEGIN
    assert plan(brokers(2), partitions(54, 46)) == []
    found = partitions(58, 42)
    assert max(shares(brokers(2), moved(found, plan(brokers(2), found))).values()) <= END


def test_a_hot_partition_stays_and_the_others_leave_it() -> None:
    """One partition with most of the bytes cannot be evened out: everything else goes elsewhere."""
    hot = BalancedPartition(stream=StreamId(1_000), leader=NodeId(0), bytes_per_second=10e6)
    found = [hot, *partitions(20, 20, 20, rate=50e3)]
    after = moved(found, plan(brokers(3), found))
    assert next(part.leader for part in after if part.stream == hot.stream) == 0
    assert led(after)[0] < 5


def test_two_hot_partitions_of_a_broker_part() -> None:
    found = [
        *(BalancedPartition(stream=StreamId(900 + n), leader=NodeId(0), bytes_per_second=10e6) for n in range(2)),
        *partitions(10, 10, rate=10e3),
    ]
    after = moved(found, plan(brokers(2), found))
    assert {part.leader for part in after if part.stream >= 900} == {0, 1}


def test_a_busy_broker_is_given_nothing() -> None:
    """It was an attraction elsewhere: who is slow has few bytes, and got more."""
    cluster = [*brokers(2), BalancedBroker(node=NodeId(2), cpu=BUSY + 0.01)]
    moves = plan(cluster, partitions(40, 10, 0))
    assert moves
    assert {move.target for move in moves} == {NodeId(1)}


def test_who_drains_neither_gives_nor_takes() -> None:
    """Draining is somebody else's: it has its own moves."""
    cluster = [*brokers(2), BalancedBroker(node=NodeId(2), takes_more=False)]
    moves = plan(cluster, partitions(60, 10, 20))
    assert {(move.source, move.target) for move in moves} == {(NodeId(0), NodeId(1))}


def test_what_has_just_moved_or_cannot_move_stays() -> None:
    found = [
        BalancedPartition(stream=StreamId(number), leader=NodeId(0), moved_s_ago=COOL_DOWN_S - 1) for number in range(9)
    ]
    assert plan(brokers(2), found) == []
    found = [BalancedPartition(stream=StreamId(number), leader=NodeId(0), is_movable=False) for number in range(9)]
    assert plan(brokers(2), found) == []


def test_a_plan_is_bounded() -> None:
    assert len(plan(brokers(2), partitions(1_000, 0))) == MOVES_MAX
    assert len(plan(brokers(2), partitions(1_000, 0), moves_max=7)) == 7


def test_a_move_says_why_and_what_it_changes() -> None:
    (move, *_rest) = plan(brokers(2), partitions(10, 0))
    assert move.reason == "broker 0 carries 2.00 of the mean and broker 1 0.00"
    assert move.expected == "1.80 and 0.20"
    assert (move.source, move.target) == (0, 1)


RATES = st.lists(st.tuples(st.integers(0, 4), st.floats(0, 5e7)), max_size=80)


def cluster_of(drawn: list[tuple[int, float]]) -> list[BalancedPartition]:
    return [
        BalancedPartition(stream=StreamId(number), leader=NodeId(node), bytes_per_second=rate)
        for number, (node, rate) in enumerate(drawn)
    ]


@given(RATES)
def test_every_move_helps_and_none_is_undone(drawn: list[tuple[int, float]]) -> None:
    """Under a load that stays as it is, plans come to an end, and the highest share never rises."""
    found = cluster_of(drawn)
    highest = max(shares(brokers(5), found).values())
    seen = 0
    while moves := plan(brokers(5), found):
        for move in moves:
            assert max(move.source_share[1], move.target_share[1]) < move.source_share[0]
        assert len({move.stream for move in moves}) == len(moves)
        found = moved(found, moves)
        now = max(shares(brokers(5), found).values())
        assert now <= highest + 1e-9
        highest = now
        seen += 1
        assert seen < 20


@given(RATES)
def test_plans_depend_on_nothing_but_what_they_are_given(drawn: list[tuple[int, float]]) -> None:
    found = cluster_of(drawn)
    assert plan(brokers(5), found) == plan(list(reversed(brokers(5))), list(reversed(found)))
