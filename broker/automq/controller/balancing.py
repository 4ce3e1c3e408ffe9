"""Evens out what brokers carry: makes a plan now and then, records its moves, and remembers why.

Runs on the active controller. Why what was moved is recorded with the moves, so that a new controller knows it, and
leaves what has just moved where it is.
"""

import heapq
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from automq.controller import moves
from automq.controller.balancer import (
    COOL_DOWN_S,
    LEFT_S,
    MOVES_MAX,
    BalancedBroker,
    BalancedPartition,
    PlannedMove,
    overloaded,
    plan,
    shares,
)
from automq.controller.commands import Call
from automq.controller.controller_metrics import BalancerMetrics
from automq.controller.known_loads import KnownLoads, Rate, Sent, balanced_brokers, known_loads
from automq.controller.model import BrokerLoad
from automq.ids import NodeId, StreamId
from automq.metadata.image import BALANCER_PAUSED_CONFIG, MetadataImage, PartitionImage
from automq.metadata.move_records import MoveCause
from automq.runtime.clock import Clock
from automq.runtime.turns import in_turns
from automq.steps import Steps

log = logging.getLogger(__name__)

SENT_KEPT_MAX: Final = 100_000
"""Partitions that moved lately, so that they stay for a while."""

# About how long it takes to look at so many partitions.
LOOK_PARTITIONS: Final = 500
LOOK_US: Final = 300
ALIKE_KEPT_MAX: Final = 1_000
"""Of a broker's partitions that count the same, before those are chosen that a plan can use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What the balancer sees at one moment."""

    brokers: Sequence[BalancedBroker]
    loads: Mapping[NodeId, BrokerLoad]
    known: KnownLoads
    moves: Sequence[PlannedMove]
    """What it would move."""
    under_way: int
    """Moves of the balancer that have not arrived."""


class Balancing:
    """Of one claim. `call` decides on the newest image; `loads` is what heartbeats told of each broker."""

    def __init__(
        self,
        *,
        image: Callable[[], MetadataImage],
        call: Call,
        loads: Callable[[], Mapping[NodeId, BrokerLoad]],
        clock: Clock,
        metrics: BalancerMetrics,
    ) -> None:
        self._image, self._call, self._loads = image, call, loads
        self._clock, self.metrics = clock, metrics
        self._sent: dict[StreamId, Sent] = {}
        """Partitions that moved lately, the longest ago first."""
        self._is_begun = False
        self.since_ms = clock.wall_ms()
        self.decided = 0

    async def step(self, *, is_paused: bool = False) -> None:
        """Record the moves of a plan, if there are any. Raises ApiError, LogFailed: the next step finds the same."""
        found = await self.survey()
        self.metrics.show(
            shares=shares(found.brokers), planned=len(found.moves), under_way=found.under_way, paused=is_paused
        )
        if is_paused or not found.moves:
            return
        at_ms = self._clock.wall_ms()
        made = await self._call(lambda image: moves.balance(image, found.moves, brokers=found.brokers, at_ms=at_ms))
        now = self._clock.monotonic()
        for move in made:
            self._remember(move.stream, move.source, found.known.rate(move.stream, move.source), now)
        self.decided += len(made)
        self.metrics.moves.inc(len(made))
        if made:
            log.info(
                "partitions move so that brokers carry the same",
                extra={"moves": len(made), "why": made[0].reason, "expected": made[-1].expected},
            )

    async def survey(self) -> Survey:
        """What brokers carry, and what would be moved now; changes nothing."""
        image, loads = self._image(), self._loads()
        self._begin(image)
        known = await in_turns(known_loads(image, loads, self._sent, now_s=self._clock.monotonic()))
        brokers = balanced_brokers(image, loads, known)
        under_way = sum(1 for move in image.moves.values() if move.cause is MoveCause.BALANCER)
        room = MOVES_MAX - under_way
        giving = set(overloaded(brokers)) if room > 0 else set()
        planned: Sequence[PlannedMove] = ()
        if giving:
            movable = await in_turns(self._movable(image, known, giving))
            planned = plan(brokers, movable, moves_max=room)
        return Survey(brokers=brokers, loads=loads, known=known, moves=planned, under_way=under_way)

    def _movable(
        self, image: MetadataImage, known: KnownLoads, giving: Collection[NodeId]
    ) -> Steps[Mapping[NodeId, Sequence[BalancedPartition]]]:
        """What the brokers of `giving` may give, in bounded turns: there may be a hundred thousand.

        All of which the load is known, and of the others, which count the same, as many as a plan can use, of topics
        that the broker has most of: so that the plan itself is made in one turn.
        """
        found: dict[NodeId, list[BalancedPartition]] = {node: [] for node in giving}
        alike: dict[NodeId, list[tuple[int, StreamId]]] = {node: [] for node in giving}
        now, seen = self._clock.monotonic(), 0
        for topic in image.topics():
            ranks = dict.fromkeys(giving, 0)
            for part in topic.partitions:
                seen += 1
                if seen % LOOK_PARTITIONS == 0:
                    yield LOOK_US
                node = part.leader
                if node not in found or not _is_movable(image, part):
                    continue
                ranks[node] += 1
                sent = self._sent.get(part.stream)
                if sent is not None and now - sent.at_s < COOL_DOWN_S:
                    continue
                if part.stream in known.reported:
                    found[node].append(self._candidate(known, node, part.stream, ranks[node]))
                    continue
                alike[node].append((ranks[node], part.stream))
                if len(alike[node]) >= ALIKE_KEPT_MAX:
                    alike[node] = heapq.nlargest(MOVES_MAX, alike[node])
        for node, others in alike.items():
            chosen = heapq.nlargest(MOVES_MAX, others)
            found[node] += [self._candidate(known, node, stream, rank) for rank, stream in chosen]
            yield LOOK_US
        return found

    def _candidate(self, known: KnownLoads, node: NodeId, stream: StreamId, rank: int) -> BalancedPartition:
        rate, sent = known.rate(stream, node), self._sent.get(stream)
        return BalancedPartition(
            stream=stream,
            bytes_per_second=rate.both,
            read_bytes_per_second=rate.out_bytes,
            left=() if sent is None or self._clock.monotonic() - sent.at_s >= LEFT_S else sent.left,
            rank=rank,
        )

    def _begin(self, image: MetadataImage) -> None:
        """What a former controller has moved lately stays, too."""
        if self._is_begun:
            return
        self._is_begun = True
        now, now_ms = self._clock.monotonic(), self._clock.wall_ms()
        for decided in image.decisions:
            age_s = max(0, now_ms - decided.at_ms) / 1000
            if age_s < LEFT_S:
                for move in decided.moves:
                    rate = Rate(float(move.bytes_per_second), 0.0)
                    self._remember(move.stream, move.source, rate, now - age_s)

    def _remember(self, stream: StreamId, source: NodeId, rate: Rate, at_s: float) -> None:
        before = self._sent.pop(stream, None)
        left = () if before is None else before.left
        self._sent[stream] = Sent(at_s, rate, (*left, source))
        # In order of time: what is old enough to go anywhere is at the front.
        while len(self._sent) > SENT_KEPT_MAX or at_s - next(iter(self._sent.values())).at_s > LEFT_S:
            del self._sent[next(iter(self._sent))]


def is_paused(image: MetadataImage) -> bool:
    """Whether somebody has told the balancer to move nothing, whoever is the controller."""
    return image.broker_config(None).get(BALANCER_PAUSED_CONFIG, "false") == "true"


def _is_movable(image: MetadataImage, part: PartitionImage) -> bool:
    return part.stream not in image.moves and not image.quarantine(part.stream) and image.is_led(part)
