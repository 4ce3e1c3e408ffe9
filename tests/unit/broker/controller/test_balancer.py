"""The balancer's plans: they even out, they end, they are not undone, and they leave alone what is well."""

import dataclasses
from collections import Counter, defaultdict
from dataclasses import dataclass

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


@dataclass(frozen=True)
class Part:
    """A partition of a test's cluster."""

    stream: StreamId
    leader: NodeId
    bytes_per_second: float = 0.0
    moved_s_ago: float | None = None
    is_movable: bool = True
    read: float = 0.0


@dataclass(frozen=True)
class Node:
    """A broker of it."""

    node: NodeId
    is_usable: bool = True
    cpu: float = 0.0
    rack: str | None = None


def brokers(count: int) -> list[Node]:
    return [Node(NodeId(node)) for node in range(count)]


def partitions(*led: int, rate: float = 0.0) -> list[Part]:
    """So many for each broker."""
    leaders = [NodeId(node) for node, count in enumerate(led) for _ in range(count)]
    return [Part(StreamId(number), leader, rate) for number, leader in enumerate(leaders)]


def seen(nodes: list[Node], found: list[Part]) -> list[BalancedBroker]:
    rates = {node.node: sum(sorted(p.bytes_per_second for p in found if p.leader == node.node)) for node in nodes}
    counts = Counter(part.leader for part in found)
    return [
        BalancedBroker(
            node=node.node,
            partitions=counts[node.node],
            bytes_per_second=rates[node.node],
            cpu=node.cpu,
            rack=node.rack,
            is_usable=node.is_usable,
        )
        for node in nodes
    ]


def planned(nodes: list[Node], found: list[Part], **limits: int) -> list[PlannedMove]:
    movable: dict[NodeId, list[BalancedPartition]] = defaultdict(list)
    for part in found:
        if part.is_movable:
            movable[part.leader].append(
                BalancedPartition(
                    stream=part.stream,
                    bytes_per_second=part.bytes_per_second,
                    read_bytes_per_second=part.read,
                    moved_s_ago=part.moved_s_ago,
                )
            )
    return plan(seen(nodes, found), movable, **limits)


def highest(nodes: list[Node], found: list[Part]) -> float:
    return max(shares(seen(nodes, found)).values())


def moved(found: list[Part], moves: list[PlannedMove]) -> list[Part]:
    """What the cluster looks like after them, long after."""
    targets = {move.stream: move.target for move in moves}
    return [dataclasses.replace(part, leader=targets.get(part.stream, part.leader), moved_s_ago=None) for part in found]


def led(found: list[Part]) -> list[int]:
    counts = Counter(part.leader for part in found)
    return [counts[NodeId(node)] for node in range(max(counts) + 1)]


def test_a_broker_that_joins_gets_its_share() -> None:
    found = partitions(30, 30, 30)
    after = moved(found, planned(brokers(4), found))
    assert max(led(after)) == 23


def test_a_balanced_cluster_is_left_alone() -> None:
    assert planned(brokers(3), partitions(30, 31, 29)) == []
    assert planned(brokers(3), partitions(1, 1, 0)) == []
    assert planned(brokers(3), []) == []
    assert planned(brokers(1), partitions(30)) == []


def test_a_cluster_near_its_balance_is_left_alone_until_it_is_not() -> None:
    assert highest(brokers(2), partitions(54, 46)) <= BEGIN
    assert planned(brokers(2), partitions(54, 46)) == []
    found = partitions(58, 42)
    assert highest(brokers(2), moved(found, planned(brokers(2), found))) <= END


def test_a_hot_partition_stays_and_the_others_leave_it() -> None:
    """One partition with most of the bytes cannot be evened out: everything else goes elsewhere."""
    hot = Part(StreamId(1_000), NodeId(0), bytes_per_second=10e6)
    found = [hot, *partitions(20, 20, 20, rate=50e3)]
    after = moved(found, planned(brokers(3), found))
    assert next(part.leader for part in after if part.stream == hot.stream) == 0
    assert led(after)[0] < 5


def test_two_hot_partitions_of_a_broker_part() -> None:
    found = [
        *(Part(StreamId(900 + n), NodeId(0), bytes_per_second=10e6) for n in range(2)),
        *partitions(10, 10, rate=10e3),
    ]
    after = moved(found, planned(brokers(2), found))
    assert {part.leader for part in after if part.stream >= 900} == {0, 1}


def test_a_busy_broker_is_given_nothing() -> None:
    """It was an attraction elsewhere: who is slow has few bytes, and got more."""
    cluster = [*brokers(2), Node(NodeId(2), cpu=BUSY + 0.01)]
    moves = planned(cluster, partitions(40, 10, 0))
    assert moves
    assert {move.target for move in moves} == {NodeId(1)}


def test_a_loop_that_is_busier_than_the_others_gives() -> None:
    """The same partitions and bytes, but small batches: what they cost is not in their bytes."""
    cluster = [Node(NodeId(0), cpu=0.8), Node(NodeId(1), cpu=0.3), Node(NodeId(2), cpu=0.3)]
    moves = planned(cluster, partitions(20, 20, 20, rate=100e3))
    assert moves
    assert {move.source for move in moves} == {NodeId(0)}
    # Loops that have nothing to do say nothing.
    idle = [Node(NodeId(0), cpu=0.08), Node(NodeId(1), cpu=0.03), Node(NodeId(2), cpu=0.03)]
    assert planned(idle, partitions(20, 20, 20, rate=100e3)) == []


def test_numbers_of_partitions_are_evened_out_by_those_that_carry_nothing() -> None:
    busy = [Part(StreamId(900 + node), NodeId(node), bytes_per_second=10e6) for node in range(3)]
    found = [*busy, *partitions(60, 4, 4, rate=1e3)]
    moves = planned(brokers(3), found)
    assert all(move.is_by_count and move.stream < 900 for move in moves)
    assert led(moved(found, moves))[0] <= 30
    # Not by what carries something.
    assert planned(brokers(3), [*busy, *partitions(12, 1, 1, rate=200e3)]) != []
    heavy = [
        Part(StreamId(number), NodeId(0 if number < 12 else 1), 1e6 if number < 12 else 12e6) for number in range(13)
    ]
    assert planned(brokers(2), heavy) == []


def test_of_partitions_that_help_as_much_the_one_that_is_read_least_goes() -> None:
    found = [
        Part(StreamId(number), NodeId(0), bytes_per_second=1e6, read=0.0 if number == 7 else 0.5e6)
        for number in range(10)
    ]
    first, *_rest = planned(brokers(2), found)
    assert first.stream == 7


def test_of_targets_that_carry_as_little_one_in_the_same_zone_is_chosen() -> None:
    cluster = [Node(NodeId(0), rack="a"), Node(NodeId(1), rack="b"), Node(NodeId(2), rack="a")]
    assert planned(cluster, partitions(41, 20, 20))[0].target == 2
    # The zone weighs less than the load.
    assert planned(cluster, partitions(41, 10, 20))[0].target == 1


def test_who_drains_neither_gives_nor_takes() -> None:
    """Draining is somebody else's: it has its own moves."""
    cluster = [*brokers(2), Node(NodeId(2), is_usable=False)]
    moves = planned(cluster, partitions(60, 10, 20))
    assert {(move.source, move.target) for move in moves} == {(NodeId(0), NodeId(1))}


def test_what_has_just_moved_or_cannot_move_stays() -> None:
    found = [Part(StreamId(number), NodeId(0), moved_s_ago=COOL_DOWN_S - 1) for number in range(9)]
    assert planned(brokers(2), found) == []
    found = [Part(StreamId(number), NodeId(0), is_movable=False) for number in range(9)]
    assert planned(brokers(2), found) == []


def test_a_plan_is_bounded() -> None:
    assert len(planned(brokers(2), partitions(1_000, 0))) == MOVES_MAX
    assert len(planned(brokers(2), partitions(1_000, 0), moves_max=7)) == 7


def test_a_move_says_why_and_what_it_changes() -> None:
    (move, *_rest) = planned(brokers(2), partitions(10, 0))
    assert move.reason == (
        "broker 0 leads 2.00 of the mean number of partitions and broker 1 0.00: 10 and 0 partitions, "
        "0.00 and 0.00 MB/s, loops 0% and 0% busy"
    )
    assert move.expected == "1.80 and 0.20 of the mean, 0.00 MB/s on broker 1"
    assert (move.source, move.target) == (0, 1)


RATES = st.lists(st.tuples(st.integers(0, 4), st.floats(0, 5e7)), max_size=80)


def cluster_of(drawn: list[tuple[int, float]]) -> list[Part]:
    return [Part(StreamId(number), NodeId(node), bytes_per_second=rate) for number, (node, rate) in enumerate(drawn)]


@given(RATES)
def test_every_move_helps_and_none_is_undone(drawn: list[tuple[int, float]]) -> None:
    """Under a load that stays as it is, plans come to an end, and the highest share never rises."""
    found = cluster_of(drawn)
    before = highest(brokers(5), found)
    plans = 0
    while moves := planned(brokers(5), found):
        for move in moves:
            assert max(move.source_share[1], move.target_share[1]) < move.source_share[0]
        assert len({move.stream for move in moves}) == len(moves)
        found = moved(found, moves)
        now = highest(brokers(5), found)
        assert now <= before + 1e-9
        before = now
        plans += 1
        assert plans < 20


@given(RATES, st.lists(st.floats(0, 1), min_size=5, max_size=5))
def test_busy_loops_and_zones_change_nothing_of_that(drawn: list[tuple[int, float]], cpus: list[float]) -> None:
    cluster = [Node(NodeId(node), cpu=cpu, rack=f"zone-{node % 2}") for node, cpu in enumerate(cpus)]
    found = cluster_of(drawn)
    for move in planned(cluster, found):
        assert max(move.source_share[1], move.target_share[1]) < move.source_share[0]
        assert cpus[move.target] <= BUSY


@given(RATES)
def test_plans_depend_on_nothing_but_what_they_are_given(drawn: list[tuple[int, float]]) -> None:
    found = cluster_of(drawn)
    assert planned(brokers(5), found) == planned(list(reversed(brokers(5))), list(reversed(found)))
