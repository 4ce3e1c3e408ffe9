"""Pure: which partitions should move so that no broker carries much more than the others, and why.

A broker's *share* is what it carries relative to the mean: partitions that it leads, and the bytes that go in and out
of them. A plan begins only where a share is above `BEGIN` and ends below `END`, so that a cluster near its balance is
left alone. Each move brings two brokers closer together, so that no plan undoes what the one before did as long as the
load stays as it is; and what has just moved stays for `COOL_DOWN_S`. A busy broker is no target.
"""

import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from automq.ids import NodeId, StreamId

BEGIN: Final = 1.10
"""A plan is made when some broker's share is above it."""
END: Final = 1.03
"""And goes on until none is."""
OF_GAP_MAX: Final = 0.9
"""A partition that carries more of what lies between two brokers would only change their places."""
COOL_DOWN_S: Final = 60.0
"""A partition that has moved is left where it is for so long."""
MOVES_MAX: Final = 100
"""Of one plan: the next one sees what these have changed."""
BUSY: Final = 0.90
"""Of a core. A broker above it is given nothing: what is slow would only be slower."""
IDLE_BYTES_S: Final = 16 * 1024
"""Mean bytes a second and broker below which bytes say nothing: partitions alone count."""
BYTES_WEIGHT: Final = 2.0
"""Of bytes against the number of partitions, which weighs 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BalancedBroker:
    """A broker that is alive, with what it leads once all that moves has arrived."""

    node: NodeId
    partitions: int
    bytes_per_second: float = 0.0
    """In and out together."""
    cpu: float = 0.0
    """Share of a core that its process takes."""
    is_usable: bool = True
    """False for one that drains or stops: it neither gives nor takes here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BalancedPartition:
    """One that may be moved: it is led, does not move, and nothing of it is damaged."""

    stream: StreamId
    bytes_per_second: float = 0.0
    """In and out together, as far as that is known."""
    moved_s_ago: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedMove:
    """One move: who wants it back moves `stream` from `target` to `source`."""

    stream: StreamId
    source: NodeId
    target: NodeId
    source_share: tuple[float, float]
    """Relative to the mean, before and after."""
    target_share: tuple[float, float]

    @property
    def reason(self) -> str:
        """In a sentence."""
        return (
            f"broker {self.source} carries {self.source_share[0]:.2f} of the mean and broker {self.target} "
            f"{self.target_share[0]:.2f}"
        )

    @property
    def expected(self) -> str:
        """What the move changes."""
        return f"{self.source_share[1]:.2f} and {self.target_share[1]:.2f}"


@dataclass(slots=True)
class _Carrier:
    """A broker while a plan is made."""

    broker: BalancedBroker
    share: float = 0.0
    movable: list[tuple[float, StreamId]] = field(default_factory=list)
    """Weights of partitions that may leave it, ascending."""


def shares(brokers: Sequence[BalancedBroker]) -> dict[NodeId, float]:
    """What each broker carries, relative to the mean of those that may be given something."""
    partition_weight, byte_weight = _weights(brokers)
    return {
        broker.node: partition_weight * broker.partitions + byte_weight * broker.bytes_per_second for broker in brokers
    }


def overloaded(brokers: Sequence[BalancedBroker]) -> list[NodeId]:
    """Who carries so much that something of it should move; none where nobody could take it."""
    able = [broker.node for broker in brokers if broker.is_usable]
    found = shares(brokers)
    if len(able) < 2 or not any(found[node] > BEGIN for node in able):
        return []
    # With one above the threshold the others give as well, so that all end near the mean.
    return [node for node in able if found[node] > END]


def plan(
    brokers: Sequence[BalancedBroker],
    movable: Mapping[NodeId, Sequence[BalancedPartition]],
    *,
    moves_max: int = MOVES_MAX,
) -> list[PlannedMove]:
    """Moves, the most useful first; none where the cluster is balanced, or where no move helps.

    `movable` has what each of `overloaded` may give.
    """
    giving = overloaded(brokers)
    if not giving:
        return []
    carriers = _carriers(brokers, movable)
    sources = [carriers[node] for node in giving]
    targets = [carrier for carrier in carriers.values() if carrier.broker.is_usable and carrier.broker.cpu <= BUSY]
    moves: list[PlannedMove] = []
    while sources and targets and len(moves) < moves_max:
        source = max(sources, key=lambda carrier: (carrier.share, carrier.broker.node))
        if source.share <= END:
            break
        target = min(targets, key=lambda carrier: (carrier.share, carrier.broker.node))
        place = _best(source, target)
        if place is None:
            # Nothing that it has helps: the next one is looked at.
            sources.remove(source)
            continue
        moves.append(_move(source, target, place))
    return moves


def _carriers(
    brokers: Sequence[BalancedBroker], movable: Mapping[NodeId, Sequence[BalancedPartition]]
) -> dict[NodeId, _Carrier]:
    partition_weight, byte_weight = _weights(brokers)
    found = shares(brokers)
    return {
        broker.node: _Carrier(
            broker,
            share=found[broker.node],
            movable=sorted(
                (partition_weight + byte_weight * part.bytes_per_second, part.stream)
                for part in movable.get(broker.node, ())
                if part.moved_s_ago is None or part.moved_s_ago >= COOL_DOWN_S
            ),
        )
        for broker in brokers
    }


def _weights(brokers: Sequence[BalancedBroker]) -> tuple[float, float]:
    """What a partition, and a byte a second, add to a share: so that the mean share is 1."""
    count = sum(1 for broker in brokers if broker.is_usable) or 1
    # Sorted, so that the sum is the same in whatever order they come.
    partition_mean = sum(broker.partitions for broker in brokers) / count
    byte_mean = sum(sorted(broker.bytes_per_second for broker in brokers)) / count
    if not partition_mean:
        return 0.0, 0.0
    if byte_mean < IDLE_BYTES_S:
        return 1 / partition_mean, 0.0
    whole = 1 + BYTES_WEIGHT
    return 1 / whole / partition_mean, BYTES_WEIGHT / whole / byte_mean


def _best(source: _Carrier, target: _Carrier) -> int | None:
    """Which of the source's partitions brings the two closest together; None where none lowers the source enough
    without making the target the next one to give.
    """
    gap = source.share - target.share
    # A partition of half the gap makes both equal; one of the whole gap swaps them.
    place = bisect.bisect_left(source.movable, (gap / 2, StreamId(0)))
    candidates = [index for index in (place - 1, place) if 0 <= index < len(source.movable)]
    helpful = [index for index in candidates if 0 < source.movable[index][0] <= gap * OF_GAP_MAX]
    return min(helpful, key=lambda index: abs(source.movable[index][0] - gap / 2), default=None)


def _move(source: _Carrier, target: _Carrier, place: int) -> PlannedMove:
    weight, stream = source.movable.pop(place)
    before = source.share, target.share
    source.share -= weight
    target.share += weight
    return PlannedMove(
        stream=stream,
        source=source.broker.node,
        target=target.broker.node,
        source_share=(before[0], source.share),
        target_share=(before[1], target.share),
    )
