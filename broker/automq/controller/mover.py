"""Has partitions change hands: on demand, away from brokers that drain or want to end, and to even out what they carry.

What is demanded is decided like any other command. Draining follows from the metadata: as long as a broker on its way
out leads something that somebody else can take, a batch of moves is decided for it, whoever changed what. So a move
that ended because its target died is decided anew, and a new controller goes on where the former one was.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from automq.callbacks import ignore
from automq.controller import moves
from automq.controller.balancer_views import view_of
from automq.controller.balancing import Balancing, is_paused
from automq.controller.commands import Call, CallInTurns
from automq.controller.controller_metrics import ControllerMetrics
from automq.controller.model import BalancerView, BrokerLoad, ControllerSettings, MoveResult, Reassignment
from automq.controller.placement import eligible
from automq.ids import BrokerEpoch, NodeId
from automq.metadata.change import Aspect, MetadataChange
from automq.metadata.publisher import MetadataPublisher
from automq.protocol.errors import ApiError
from automq.replicated.machine import LogFailed, LogFenced
from automq.runtime.clock import Clock
from automq.runtime.tasks import Tasks

log = logging.getLogger(__name__)

FOLLOWED: Final = (Aspect.BROKERS, Aspect.MOVES, Aspect.TOPICS, Aspect.QUARANTINES)


class Mover:
    """Of one claim. `start` follows the metadata from then on."""

    def __init__(self, *, call: Call, call_in_turns: CallInTurns, publisher: MetadataPublisher, tasks: Tasks) -> None:
        self._call, self._call_in_turns, self._publisher, self._tasks = call, call_in_turns, publisher, tasks
        self._unsubscribe: Callable[[], None] = ignore
        self._draining: asyncio.Task[Any] | None = None
        self._balancing: asyncio.Task[Any] | None = None
        self._balance: Balancing | None = None
        self._balance_interval_s = 0.0
        self._balances = False
        self._loads: Callable[[], Mapping[NodeId, BrokerLoad]] = dict
        self._is_due = False

    def balance(
        self,
        settings: ControllerSettings,
        loads: Callable[[], Mapping[NodeId, BrokerLoad]],
        clock: Clock,
        metrics: ControllerMetrics,
    ) -> None:
        """From `start` on even out what brokers carry, if that is wanted; `loads` is what their heartbeats told."""
        self._loads = loads
        self._balances, self._balance_interval_s = settings.balances, settings.balance_interval_s
        self._balance = Balancing(
            image=lambda: self._publisher.image,
            call=self._call,
            loads=loads,
            clock=clock,
            metrics=metrics.balancer,
        )

    async def describe_balancer(self, moves_max: int) -> BalancerView:
        """What the balancer sees, would do and did. Raises LogFailed before `balance`."""
        if self._balance is None:
            raise LogFailed("the controller has not started")
        return await view_of(self._balance, self._publisher.image, enabled=self._balances, moves_max=moves_max)

    def start(self) -> None:
        """What a former controller has begun to drain is gone on with."""
        self._unsubscribe = self._publisher.subscribe(self._on_change, to=FOLLOWED)
        self._start_due_work()

    def stop(self) -> None:
        """Another one follows, or nobody."""
        self._unsubscribe()
        for task in (self._draining, self._balancing):
            if task is not None:
                task.cancel()
        if self._balance is not None:
            self._balance.metrics.forget()

    # On demand.

    async def reassign(self, wanted: Sequence[Reassignment], *, allows_factor_change: bool = True) -> list[MoveResult]:
        """See `moves.reassign`."""
        return await self._call_in_turns(
            lambda image: moves.reassign(image, wanted, allows_factor_change=allows_factor_change)
        )

    async def elect(self, wanted: Sequence[tuple[str, int]] | None) -> list[MoveResult]:
        """See `moves.elect`."""
        return await self._call_in_turns(lambda image: moves.elect(image, wanted))

    async def stop_broker(self, node: NodeId, epoch: BrokerEpoch) -> bool:
        """See `moves.stop_broker`."""
        return await self._call(lambda image: moves.stop_broker(image, node, epoch))

    # Draining.

    def _on_change(self, change: MetadataChange) -> None:
        self._start_due_work()

    def _start_due_work(self) -> None:
        """Costs nothing while nobody is on the way out."""
        if any(broker.is_leaving for broker in self._publisher.image.brokers()):
            self._is_due = True
            if self._draining is None or self._draining.done():
                self._draining = self._tasks.spawn(self._drain(), name="drain brokers")
        if (
            self._balances
            and self._balance is not None
            and self._balancing is None
            and len(eligible(self._publisher.image)) > 1
        ):
            self._balancing = self._tasks.spawn(self._balance_on(self._balance), name="balance brokers")

    async def _drain(self) -> None:
        # What comes in one turn is one batch.
        await asyncio.sleep(0)
        while self._is_due:
            self._is_due = False
            try:
                count = await self._call_in_turns(partial(moves.drain, reported=self._loads()))
            except (LogFenced, LogFailed):
                return
            except ApiError as error:
                log.error("draining is put off", extra={"why": str(error)})
                return
            if count:
                log.info("partitions move away from brokers that are drained", extra={"partitions": count})

    # Balancing.

    async def _balance_on(self, balance: Balancing) -> None:
        """As long as there are several brokers: one alone wakes nobody up."""
        while len(eligible(self._publisher.image)) > 1:
            await asyncio.sleep(self._balance_interval_s)
            try:
                await balance.step(is_paused=is_paused(self._publisher.image))
            except (LogFenced, LogFailed):
                return
            except ApiError as error:
                log.warning("balancing is put off", extra={"why": str(error)})
        self._balancing = None
