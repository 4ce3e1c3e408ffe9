"""Who is a member of the cluster, and alive: the active controller hears heartbeats, fences whose session expires, and
sees to it that somebody recovers what they leave.

Of one claim. Everything here rests on the durable image and on what brokers said since the claim: the next controller
begins anew and gives everybody a whole session. A heartbeat is answered in the turn in which it arrives; it waits for
no append.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final, Protocol

from automq.callbacks import ignore
from automq.controller.brokers import end_broker, unregister_broker, why_pinned
from automq.controller.failover import (
    Around,
    Unreached,
    fence_dead,
    is_alive,
    is_unattended,
    replace_recoverers,
    unreached,
)
from automq.controller.model import BrokerLoad, HeartbeatAnswer
from automq.controller.requests import Heartbeat
from automq.controller.sessions import HEARTBEAT_S_MAX, SILENT, Incarnation, Sessions, Verdict
from automq.ids import BrokerEpoch, NodeId
from automq.metadata.change import Aspect, MetadataChange
from automq.metadata.image import MetadataImage
from automq.metadata.publisher import MetadataPublisher
from automq.metadata.records import MetadataRecord
from automq.protocol.errors import ApiError, ErrorCode
from automq.replicated.machine import Decision, LogFailed, LogFenced
from automq.runtime.clock import Clock
from automq.runtime.tasks import Tasks, repeat
from automq.s3stream.ports import StoreError

log = logging.getLogger(__name__)

LOOK_S: Final = 0.1
"""How often sessions are looked at: a fifth of what ages nobody any more."""
UNREGISTER_S_MAX: Final = 25.0
"""How long a broker's logs may take to be recovered while somebody waits for it to be forgotten: a little less than
Kafka's clients wait for an answer."""


class Decides(Protocol):
    """What of the controller's commands membership needs."""

    async def call(self, decide: Callable[[MetadataImage], Decision[MetadataRecord, None]]) -> None:
        """Decide and make durable. Raises ApiError, LogFenced, LogFailed."""
        ...

    async def prove_unfenced(self) -> None:
        """Return once a look at the log that began now found no fence. Raises LogFenced, LogFailed, StoreError."""
        ...


class Membership:
    """`proved_at` is when the controller was last seen to lead, by the clock's `boottime`; None before the first."""

    def __init__(
        self,
        *,
        node: NodeId,
        session_s: float,
        publisher: MetadataPublisher,
        commands: Decides,
        proved_at: Callable[[], float | None],
        clock: Clock,
        tasks: Tasks,
    ) -> None:
        self._node = node
        self._session_s = session_s
        self._publisher = publisher
        self._commands = commands
        self._proved_at = proved_at
        self._clock = clock
        self._tasks = tasks
        self._sessions = Sessions(session_s=session_s, own=node, now=clock.monotonic())
        self._loads: dict[NodeId, BrokerLoad] = {}
        self._unreached: Sequence[Unreached] = ()
        self._looking: asyncio.Task[None] | None = None
        self._acting: asyncio.Task[None] | None = None
        self._unsubscribe: Callable[[], None] = ignore
        self._is_closed = False

    def start(self) -> None:
        """Everybody who is registered has a whole session from now on."""
        self._unsubscribe = self._publisher.subscribe(self._on_change, to=(Aspect.BROKERS, Aspect.WALS))
        self._follow(self._publisher.image)

    def stop(self) -> None:
        """Fence nobody any more. Idempotent."""
        self._is_closed = True
        self._unsubscribe()
        for task in (self._looking, self._acting):
            if task is not None:
                task.cancel()

    @property
    def around(self) -> Around:
        """What heartbeats told, for decisions about who gets what."""
        return Around(loads=self._loads)

    def waiting_summary(self) -> str | None:
        """Logs that nobody can reach, for people; None when there are none."""
        return "; ".join(map(str, self._unreached)) or None

    # Heartbeats.

    def heartbeat(self, request: Heartbeat) -> HeartbeatAnswer:
        """In this very turn, whatever the log does."""
        key = (request.node, request.epoch)
        image = self._publisher.image
        is_fenced = not is_alive(image, key)
        if not is_fenced:
            self._sessions.hear(key, self._clock.monotonic())
            self._loads[request.node] = _carried_over(request.load, self._loads.get(request.node))
        proved_at = self._proved_at()
        return HeartbeatAnswer(
            record_number=image.record_number,
            proof_age_s=None if proved_at is None else self._clock.boottime() - proved_at,
            is_fenced=is_fenced,
            session_s=self._session_s,
        )

    # Sessions.

    def _on_change(self, change: MetadataChange) -> None:
        self._follow(change.new)

    def _follow(self, image: MetadataImage) -> None:
        alive = {broker.node: broker.epoch for broker in image.brokers() if not broker.fenced}
        self._sessions.follow(alive.items(), self._clock.monotonic())
        self._loads = {node: load for node, load in self._loads.items() if node in alive}
        # Where a broker is alone nobody has to be watched: nothing wakes up for that.
        if self._looking is None and not self._is_closed and (self._sessions.count or _has_waiting(image)):
            self._sessions.tick(self._clock.monotonic())
            work = repeat(self._check_sessions, name="sessions", pause=_pause, survives=())
            self._looking = self._tasks.spawn(work, name="sessions")

    async def _check_sessions(self) -> None:
        self._sessions.tick(self._clock.monotonic())
        # What has arrived is read before anybody is judged.
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        verdict = self._sessions.verdict()
        is_needed = verdict is not SILENT or self._unreached or _has_waiting(self._publisher.image)
        # What is appended may take long: sessions are looked at all the while.
        if is_needed and (self._acting is None or self._acting.done()):
            self._acting = self._tasks.spawn(self._act(verdict), name="fence and recover")

    async def _act(self, verdict: Verdict) -> None:
        """What is missed here is found again by the next look."""
        try:
            if verdict.is_proof_needed:
                log.warning("most brokers are silent: proving that this controller leads before anybody is fenced")
                await self._commands.prove_unfenced()
                self._sessions.proved(self._clock.monotonic())
            elif verdict.expired:
                await self._fence(verdict.expired)
            await self._replace_recoverers()
        except (StoreError, ApiError, LogFailed, LogFenced) as error:
            log.warning("nobody was fenced", extra={"why": str(error)})

    async def _fence(self, expired: Sequence[Incarnation]) -> None:
        for node, epoch in expired:
            log.warning(
                "broker fenced: no heartbeat", extra={"node": node, "broker_epoch": epoch, "session_s": self._session_s}
            )
        await self._commands.call(lambda image: Decision(fence_dead(image, expired, self.around), None))

    async def _replace_recoverers(self) -> None:
        """A log whose recoverer is dead, or which nobody reached, gets another one as soon as there is one."""
        image = self._publisher.image
        if replace_recoverers(image, self.around):
            await self._commands.call(lambda now: Decision(replace_recoverers(now, self.around), None))
        now_unreached = unreached(self._publisher.image, self.around)
        if now_unreached != self._unreached:
            self._unreached = now_unreached
            for each in now_unreached:
                log.error("write-ahead log out of reach", extra={"what": str(each)})

    # Ends in order, and forgetting.

    async def end(self, node: NodeId, epoch: BrokerEpoch) -> None:
        """See `brokers.end_broker`."""
        await self._commands.call(lambda image: end_broker(image, node, epoch, around=self.around))
        log.info("broker ended in order", extra={"node": node, "broker_epoch": epoch})

    async def unregister(self, node: NodeId, epoch: BrokerEpoch | None) -> None:
        """Forget a node. Without `epoch` it must be fenced and empty; with it, it is ended first unless it lives.

        May be repeated, and goes on where it was. Raises ApiError: BROKER_ID_NOT_REGISTERED, STALE_BROKER_EPOCH,
        INVALID_REQUEST for one that lives, and for one whose log is damaged and waits for `automq repair`;
        REQUEST_TIMED_OUT while its logs are not recovered.
        """
        if epoch is not None:
            await self._end(node, epoch)
        await self._commands.call(lambda image: unregister_broker(image, node))

    async def _end(self, node: NodeId, epoch: BrokerEpoch) -> None:
        broker = self._publisher.image.broker(node)
        if broker is None:
            raise ApiError(ErrorCode.BROKER_ID_NOT_REGISTERED, f"broker {node} is not registered")
        if broker.epoch != epoch:
            raise ApiError(ErrorCode.STALE_BROKER_EPOCH, f"broker {node} is at epoch {broker.epoch}, not {epoch}")
        if not broker.fenced:
            since = self._clock.monotonic()
            await asyncio.sleep(HEARTBEAT_S_MAX + LOOK_S)
            await self._fence_silent((node, epoch), since)
        await self._wait_until_empty(node)

    def _check_no_pin(self, node: NodeId) -> None:
        """Rule: what only a person can repair is told at once, and not waited for. Raises ApiError."""
        why = why_pinned(self._publisher.image, node)
        if why is not None:
            raise ApiError(ErrorCode.INVALID_REQUEST, why)

    async def _fence_silent(self, key: Incarnation, since: float) -> None:
        """Rule: no heartbeat that arrives before the very moment of the decision is passed over."""

        def decide(image: MetadataImage) -> Decision[MetadataRecord, None]:
            if key[0] == self._node or self._sessions.is_alive_since(key, since):
                raise ApiError(ErrorCode.INVALID_REQUEST, f"broker {key[0]} is alive: stop it first")
            return Decision(fence_dead(image, [key], self.around), None)

        await self._commands.call(decide)
        log.warning("broker fenced: it is to be forgotten", extra={"node": key[0], "broker_epoch": key[1]})

    async def _wait_until_empty(self, node: NodeId) -> None:
        emptied = asyncio.Event()

        def check(_change: MetadataChange | None = None) -> None:
            image = self._publisher.image
            if _is_forgettable(image, node) or why_pinned(image, node) is not None:
                emptied.set()

        unsubscribe = self._publisher.subscribe(check, to=(Aspect.BROKERS, Aspect.WALS, Aspect.TOPICS))
        check()
        try:
            async with asyncio.timeout(UNREGISTER_S_MAX):
                await emptied.wait()
        except TimeoutError:
            out_of_reach = [str(each) for each in self._unreached if each.node == node]
            what = "; ".join(out_of_reach) or f"broker {node} is fenced, and what it had is still being recovered"
            raise ApiError(ErrorCode.REQUEST_TIMED_OUT, f"{what}: ask again") from None
        finally:
            unsubscribe()
        self._check_no_pin(node)


def _carried_over(load: BrokerLoad, before: BrokerLoad | None) -> BrokerLoad:
    """What a heartbeat says nothing of is as the one before said."""
    if load.heaviest is not None or before is None:
        return load
    return replace(load, heaviest=before.heaviest)


async def _pause() -> None:
    await asyncio.sleep(LOOK_S)


def _has_waiting(image: MetadataImage) -> bool:
    return any(is_unattended(image, wal) for wal in image.wals.values())


def _is_forgettable(image: MetadataImage, node: NodeId) -> bool:
    return not image.leader_counts.get(node) and not any(key[0] == node for key in image.wals)
