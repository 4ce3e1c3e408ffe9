"""Evens out what brokers carry: makes a plan now and then, records its moves, and remembers why.

Runs on the active controller. A new controller knows nothing of what was decided before it; it sees where everything
is, and that is enough.
"""

import logging
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from prometheus_client import Counter

from automq.controller import moves
from automq.controller.balancer import BalancedBroker, BalancedPartition, PlannedMove, overloaded, plan, shares
from automq.controller.commands import Call
from automq.controller.model import BrokerLoad
from automq.controller.placement import loads as led_partitions
from automq.ids import NodeId, StreamId
from automq.metadata.image import MetadataImage, PartitionImage
from automq.runtime.clock import Clock
from automq.runtime.turns import in_turns
from automq.steps import Steps

log = logging.getLogger(__name__)

KEPT_MAX: Final = 1_000
"""Moves whose reason is remembered."""
MOVED_KEPT_MAX: Final = 100_000
"""Partitions whose last move is remembered, so that they stay for a while."""

# About how long it takes to look at so many partitions.
LOOK_PARTITIONS: Final = 500
LOOK_US: Final = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class BalancerMove:
    """A move that was recorded, and why."""

    at_ms: int
    planned: PlannedMove


class Balancing:
    """Of one claim. `call` decides on the newest image; `loads` is what heartbeats told of each broker."""

    def __init__(
        self,
        *,
        image: Callable[[], MetadataImage],
        call: Call,
        loads: Callable[[], Mapping[NodeId, BrokerLoad]],
        clock: Clock,
        counter: Counter,
    ) -> None:
        self._image, self._call, self._loads = image, call, loads
        self._clock, self._counter = clock, counter
        self._moved_at: dict[StreamId, float] = {}
        self.history: deque[BalancerMove] = deque(maxlen=KEPT_MAX)
        """The newest last."""

    async def step(self) -> None:
        """Record the moves of a plan, if there are any. Raises ApiError, LogFailed: the next step finds the same."""
        wanted = await self.planned()
        if not wanted:
            return
        made = await self._call(lambda image: moves.balance(image, wanted))
        now = self._clock.monotonic()
        for move in made:
            self._remember(move, now)
        self._counter.inc(len(made))
        if made:
            log.info(
                "partitions move so that brokers carry the same",
                extra={"moves": len(made), "why": made[0].reason, "expected": made[-1].expected},
            )

    async def planned(self) -> Sequence[PlannedMove]:
        """What would be moved now; changes nothing."""
        image = self._image()
        brokers = self._brokers(image)
        giving = set(overloaded(brokers))
        if not giving:
            return ()
        rates = {broker.node: broker.bytes_per_second / (broker.partitions or 1) for broker in brokers}
        return plan(brokers, await in_turns(self._movable(image, {node: rates[node] for node in giving})))

    def shares(self) -> Mapping[NodeId, float]:
        """What each broker carries, relative to the mean."""
        return shares(self._brokers(self._image()))

    def _brokers(self, image: MetadataImage) -> list[BalancedBroker]:
        counts, loads = led_partitions(image), self._loads()
        return [
            _balanced(broker.node, counts.get(broker.node, 0), loads.get(broker.node), is_usable=broker.is_usable)
            for broker in image.brokers()
            if not broker.fenced
        ]

    def _movable(
        self, image: MetadataImage, rates: Mapping[NodeId, float]
    ) -> Steps[Mapping[NodeId, Sequence[BalancedPartition]]]:
        """What the brokers of `rates` may give, in bounded turns: there may be a hundred thousand.

        Which of a broker's partitions have its bytes is not known: `rates` says what each counts as having.
        """
        found: dict[NodeId, list[BalancedPartition]] = defaultdict(list)
        seen = 0
        for topic in image.topics():
            for part in topic.partitions:
                seen += 1
                if seen % LOOK_PARTITIONS == 0:
                    yield LOOK_US
                if part.leader in rates and self._is_movable(image, part):
                    found[part.leader].append(self._partition(part, rates[part.leader]))
        return found

    def _is_movable(self, image: MetadataImage, part: PartitionImage) -> bool:
        return part.stream not in image.moves and not image.quarantine(part.stream) and image.is_led(part)

    def _partition(self, part: PartitionImage, rate: float) -> BalancedPartition:
        moved_at = self._moved_at.get(part.stream)
        return BalancedPartition(
            stream=part.stream,
            bytes_per_second=rate,
            moved_s_ago=None if moved_at is None else self._clock.monotonic() - moved_at,
        )

    def _remember(self, move: PlannedMove, now: float) -> None:
        self._moved_at.pop(move.stream, None)
        self._moved_at[move.stream] = now
        while len(self._moved_at) > MOVED_KEPT_MAX:
            del self._moved_at[next(iter(self._moved_at))]
        self.history.append(BalancerMove(at_ms=self._clock.wall_ms(), planned=move))


def _balanced(node: NodeId, partitions: int, load: BrokerLoad | None, *, is_usable: bool) -> BalancedBroker:
    if load is None:
        return BalancedBroker(node=node, partitions=partitions, is_usable=is_usable)
    return BalancedBroker(
        node=node,
        partitions=partitions,
        bytes_per_second=load.in_bytes_per_second + load.out_bytes_per_second,
        cpu=load.request_cpu_percent / 100,
        is_usable=is_usable,
    )
