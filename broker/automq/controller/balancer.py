"""Pure: which partitions should move so that no broker carries much more than the others, and why.

A broker's *share* is what it carries relative to the mean: the bytes that go in and out of what it leads and how busy
its event loop is, or, in a cluster that is idle, the partitions that it leads. A broker gives only when its share
is above `BEGIN`, or above `END` while another's is below `UNDER`, and no more once all are within `END`: a cluster near
its balance is left alone. Each move brings two brokers
closer together, so that no plan undoes what the one before did as long as the load stays as it is; and what has just
moved stays for `COOL_DOWN_S`. A busy broker is no target. Where the load is even the numbers of partitions are evened
out, more loosely, by partitions that carry next to nothing: those make no broker carry more than `END`.

Of moves that help as much, the one is made whose partition is read least, as readers find nothing in memory where it
goes; and of targets that carry as little, one in the zone where it is.
"""

import bisect
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from automq.ids import NodeId, StreamId

BEGIN: Final = 1.10
"""A broker whose share is above it gives."""
END: Final = 1.03
"""Until it is as close to the mean as this, and those that take are."""
UNDER: Final = 0.85
"""While some broker's share is below it, as one's that has just joined, all above `END` give."""
OF_GAP_MAX: Final = 0.9
"""A partition that carries more of what lies between two brokers would only change their places."""
COOL_DOWN_S: Final = 60.0
"""A partition that has moved is left where it is for so long."""
LEFT_S: Final = 300.0
"""And does not go back for so long to brokers that it was moved away from: loads that come and go move nothing to and
fro."""
MOVES_MAX: Final = 100
"""Of one plan: the next one sees what these have changed."""
BUSY: Final = 0.90
"""Of a core. A broker above it is given nothing: what is slow would only be slower."""
IDLE_BYTES_S: Final = 1024 * 1024
"""Mean bytes a second and broker below which bytes say nothing: partitions alone count. What a few clients do at such
a pace comes and goes."""
IDLE_CPU: Final = 0.20
"""Of a core. Where the mean of the loops is below, they say nothing."""
BYTES_WEIGHT: Final = 3.0
"""Of bytes against busy loops, which weigh 1: which partition makes a loop busy is not measured, it is taken to go by
bytes."""
COUNT_BEGIN: Final = 1.5
COUNT_END: Final = 1.2
COUNT_UNDER: Final = 0.4
"""The same for numbers of partitions in a cluster that is not idle."""
LIGHT: Final = 0.005
"""Of the mean: what a partition carries at most that moves for their number alone."""
ALIKE: Final = 0.05
"""Of the mean: targets whose shares lie so close are as good as one another."""
ALIKE_OF_GAP: Final = 0.1
"""Of what lies between two brokers: partitions whose weights lie so close help as much as one another."""
TRIVIAL: Final = 1e-6
"""Of the mean: what carries less helps nobody by moving."""
NEIGHBOURS: Final = 16
"""Partitions of nearly the wanted weight that are compared."""
MB: Final = 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class BalancedBroker:
    """A broker that is alive, with what it leads once all that moves has arrived."""

    node: NodeId
    partitions: int
    bytes_per_second: float = 0.0
    """In and out together."""
    cpu: float = 0.0
    """Share of a core that its event loop takes."""
    rack: str | None = None
    """Its zone."""
    is_usable: bool = True
    """False for one that drains or stops: it neither gives nor takes here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BalancedPartition:
    """One that may be moved: it is led, does not move, and nothing of it is damaged."""

    stream: StreamId
    bytes_per_second: float = 0.0
    """In and out together, as far as that is known."""
    read_bytes_per_second: float = 0.0
    """Of those, out: what readers would not find in memory elsewhere."""
    moved_s_ago: float | None = None
    left: tuple[NodeId, ...] = ()
    """Brokers that it was moved away from lately."""
    rank: int = 0
    """How many other partitions of its topic its leader has before it: the highest go first, which spreads topics."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedMove:
    """One move: who wants it back moves `stream` from `target` to `source`."""

    stream: StreamId
    source: NodeId
    target: NodeId
    source_share: tuple[float, float]
    """Relative to the mean, before and after."""
    target_share: tuple[float, float]
    bytes_per_second: float = 0.0
    """That go with it."""
    carried: str = ""
    """What shares are made of, of both, before the plan."""
    is_by_count: bool = False
    """Whether it is the number of partitions that is evened out, and shares are of that."""

    @property
    def reason(self) -> str:
        """In a sentence."""
        what = "leads {:.2f} of the mean number of partitions" if self.is_by_count else "carries {:.2f} of the mean"
        return (
            f"broker {self.source} {what.format(self.source_share[0])} and broker {self.target} "
            f"{self.target_share[0]:.2f}{self.carried}"
        )

    @property
    def expected(self) -> str:
        """What the move changes."""
        return (
            f"{self.source_share[1]:.2f} and {self.target_share[1]:.2f} of the mean, "
            f"{self.bytes_per_second / MB:.2f} MB/s on broker {self.target}"
        )


class _Candidate(NamedTuple):
    """A partition that may leave, by its weight."""

    weight: float
    rank: int
    stream: StreamId
    load: float
    bytes_per_second: float
    read_bytes_per_second: float
    left: tuple[NodeId, ...]


@dataclass(slots=True)
class _Carrier:
    """A broker while a plan is made."""

    broker: BalancedBroker
    share: float
    """Of what is evened out."""
    load: float
    """Its share of bytes and busy loops, whatever is evened out."""
    is_by_count: bool
    movable: list[_Candidate] = field(default_factory=list)
    """Partitions that may leave it, ascending."""


class _Load(NamedTuple):
    """What a byte a second and a core add to a share, so that the mean share is 1; nothing in an idle cluster."""

    byte: float
    cpu: float

    def of(self, broker: BalancedBroker) -> float:
        return self.byte * broker.bytes_per_second + self.cpu * broker.cpu

    def part(self, of: BalancedBroker, part: BalancedPartition) -> float:
        cpu = of.cpu * min(1.0, part.bytes_per_second / of.bytes_per_second) if of.bytes_per_second else 0.0
        return self.byte * part.bytes_per_second + self.cpu * cpu


def shares(brokers: Sequence[BalancedBroker]) -> dict[NodeId, float]:
    """What each broker carries, relative to the mean of those that may be given something."""
    load = _load(brokers)
    return {broker.node: load.of(broker) for broker in brokers} if load.byte else _counts(brokers)


class _Bounds(NamedTuple):
    """Of shares: see the constants."""

    begin: float
    end: float
    under: float

    def giving(self, found: Mapping[NodeId, float], brokers: Sequence[BalancedBroker]) -> set[NodeId]:
        """Who carries so much that something of it should move; nobody where nobody could take it."""
        able = [broker.node for broker in brokers if broker.is_usable]
        if len(able) < 2:
            return set()
        is_wanted = any(found[broker.node] < self.under for broker in brokers if _may_take(broker))
        return {node for node in able if found[node] > (self.end if is_wanted else self.begin)}


LOAD_BOUNDS: Final = _Bounds(BEGIN, END, UNDER)
COUNT_BOUNDS: Final = _Bounds(COUNT_BEGIN, COUNT_END, COUNT_UNDER)


def _may_take(broker: BalancedBroker) -> bool:
    return broker.is_usable and broker.cpu <= BUSY


def overloaded(brokers: Sequence[BalancedBroker]) -> list[NodeId]:
    """Who carries so much that something of it should move; none where nobody could take it."""
    giving = LOAD_BOUNDS.giving(shares(brokers), brokers) | COUNT_BOUNDS.giving(_counts(brokers), brokers)
    return sorted(giving)


def plan(
    brokers: Sequence[BalancedBroker],
    movable: Mapping[NodeId, Sequence[BalancedPartition]],
    *,
    moves_max: int = MOVES_MAX,
) -> list[PlannedMove]:
    """Moves, the most useful first; none where the cluster is balanced, or where no move helps.

    `movable` has what each of `overloaded` may give.
    """
    load = _load(brokers)
    giving = LOAD_BOUNDS.giving(shares(brokers), brokers)
    made = _evened(_carriers(brokers, movable, load, is_by_count=not load.byte), giving, END, moves_max)
    if made or not load.byte:
        return made
    # The numbers are looked at when what is heavy is where it should be.
    giving = COUNT_BOUNDS.giving(_counts(brokers), brokers)
    return _evened(_carriers(brokers, movable, load, is_by_count=True), giving, COUNT_END, moves_max)


def _evened(
    carriers: Mapping[NodeId, _Carrier], giving: Collection[NodeId], end: float, moves_max: int
) -> list[PlannedMove]:
    sources = [carriers[node] for node in sorted(giving)]
    targets = [carrier for carrier in carriers.values() if _may_take(carrier.broker)]
    moves: list[PlannedMove] = []
    while sources and len(moves) < moves_max:
        source = max(sources, key=lambda carrier: (carrier.share, carrier.broker.node))
        target = _target(targets, source)
        if target is None or source.share <= 1 or (source.share <= end and target.share >= 2 - end):
            break
        place = _best(source, target)
        if place is None:
            # Nothing that it has helps: the next one is looked at.
            sources.remove(source)
            continue
        moves.append(_move(source, target, place))
    return moves


def _carriers(
    brokers: Sequence[BalancedBroker],
    movable: Mapping[NodeId, Sequence[BalancedPartition]],
    load: _Load,
    *,
    is_by_count: bool,
) -> dict[NodeId, _Carrier]:
    counts = _counts(brokers)
    each = 1 / max(_partition_mean(brokers), 1e-9)
    found: dict[NodeId, _Carrier] = {}
    for broker in brokers:
        candidates: list[_Candidate] = []
        for part in movable.get(broker.node, ()):
            carried = load.part(broker, part)
            is_durable = part.moved_s_ago is None or part.moved_s_ago >= COOL_DOWN_S
            if is_durable and (not is_by_count or carried <= LIGHT):
                weight = each if is_by_count else carried
                candidates.append(
                    _Candidate(
                        weight,
                        part.rank,
                        part.stream,
                        carried,
                        part.bytes_per_second,
                        part.read_bytes_per_second,
                        part.left,
                    )
                )
        carried = load.of(broker)
        share = counts[broker.node] if is_by_count else carried
        found[broker.node] = _Carrier(broker, share, carried, is_by_count, sorted(candidates))
    return found


def _counts(brokers: Sequence[BalancedBroker]) -> dict[NodeId, float]:
    mean = _partition_mean(brokers)
    return {broker.node: broker.partitions / mean if mean else 0.0 for broker in brokers}


def _partition_mean(brokers: Sequence[BalancedBroker]) -> float:
    return sum(broker.partitions for broker in brokers) / _usable(brokers)


def _usable(brokers: Sequence[BalancedBroker]) -> int:
    return sum(1 for broker in brokers if broker.is_usable) or 1


def _load(brokers: Sequence[BalancedBroker]) -> _Load:
    # Sorted, so that the sum is the same in whatever order they come.
    byte_mean = sum(sorted(broker.bytes_per_second for broker in brokers)) / _usable(brokers)
    cpu_mean = sum(sorted(broker.cpu for broker in brokers)) / _usable(brokers)
    if byte_mean < IDLE_BYTES_S:
        # Without bytes it is no load of partitions that makes loops busy.
        return _Load(0.0, 0.0)
    if cpu_mean < IDLE_CPU:
        return _Load(1 / byte_mean, 0.0)
    return _Load(BYTES_WEIGHT / (BYTES_WEIGHT + 1) / byte_mean, 1 / (BYTES_WEIGHT + 1) / cpu_mean)


def _target(targets: Sequence[_Carrier], source: _Carrier) -> _Carrier | None:
    """Who but the source carries least; of those that carry nearly as little, one in the zone of the source."""
    others = [target for target in targets if target is not source and target.load < END]
    if not others:
        return None
    least = min(target.share for target in others)
    alike = [target for target in others if target.share <= least + ALIKE]
    zone = source.broker.rack
    return min(alike, key=lambda carrier: (carrier.broker.rack != zone, carrier.share, carrier.broker.node))


def _best(source: _Carrier, target: _Carrier) -> int | None:
    """Which of the source's partitions brings the two closest together; None where none lowers the source enough
    without making the target the next one to give.
    """
    gap = source.share - target.share
    # A partition of half the gap makes both equal; one of the whole gap swaps them.
    place = bisect.bisect_left(source.movable, gap / 2, key=lambda candidate: candidate.weight)
    around = range(max(0, place - NEIGHBOURS), min(len(source.movable), place + NEIGHBOURS))
    helpful = [
        index
        for index in around
        if TRIVIAL < (moved := source.movable[index]).weight <= gap * OF_GAP_MAX and _takes(source, target, moved)
    ]
    if not helpful:
        return None

    def missed(index: int) -> float:
        return abs(source.movable[index].weight - gap / 2)

    nearest = min(map(missed, helpful))
    alike = [index for index in helpful if missed(index) <= nearest + gap * ALIKE_OF_GAP]

    def order(index: int) -> tuple[float, float, float, int]:
        candidate = source.movable[index]
        return candidate.read_bytes_per_second, -candidate.rank, missed(index), index

    return min(alike, key=order)


def _takes(source: _Carrier, target: _Carrier, moved: _Candidate) -> bool:
    """Rule: nothing goes back to where it came from, nor makes its target carry more than the source did or all may."""
    return target.broker.node not in moved.left and target.load + moved.load <= max(
        END, source.load - moved.load, target.load
    )


def _move(source: _Carrier, target: _Carrier, place: int) -> PlannedMove:
    moved = source.movable.pop(place)
    before = source.share, target.share
    source.share, target.share = source.share - moved.weight, target.share + moved.weight
    source.load, target.load = source.load - moved.load, target.load + moved.load
    return PlannedMove(
        stream=moved.stream,
        source=source.broker.node,
        target=target.broker.node,
        source_share=(before[0], source.share),
        target_share=(before[1], target.share),
        bytes_per_second=moved.bytes_per_second,
        carried=carried_by(source.broker, target.broker),
        is_by_count=source.is_by_count,
    )


def carried_by(source: BalancedBroker, target: BalancedBroker) -> str:
    """What shares are made of, for a reason."""
    return (
        f": {source.partitions} and {target.partitions} partitions, {source.bytes_per_second / MB:.2f} and "
        f"{target.bytes_per_second / MB:.2f} MB/s, loops {source.cpu:.0%} and {target.cpu:.0%} busy"
    )
