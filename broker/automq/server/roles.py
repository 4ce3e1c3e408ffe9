"""The roles of a process in its cluster: it is the controller, or follows whoever is, and may become it.

Everything of a broker asks through `link` and reads `metadata`, and nothing of it knows whether the controller is in
this process. `controller.election` decides what to try; here it is tried.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Final

from automq.callbacks import ignore
from automq.controller import election
from automq.controller.election import Event, Step
from automq.controller.internal_listener import InternalListener
from automq.controller.link import Answer, ControllerLink, Leader
from automq.controller.link_server import LinkServer
from automq.controller.pre_vote import ask_others, other_listeners
from automq.controller.remote import Contact, LinkSettings, RemoteLink, Unreached
from automq.controller.requests import Follow, Followed
from automq.controller.service import Controller
from automq.controller.serving import NearestLink
from automq.ids import ControllerEpoch, NodeId
from automq.metadata.claim import NO_EPOCH, ClaimantAddress, highest_claim, read_claim
from automq.metadata.cluster import OpenedCluster
from automq.metadata.follower import LogFollower, NotAnswered, SlotBytes
from automq.metadata.image import MetadataImage
from automq.metadata.lease import LeaseWatch
from automq.metadata.loader import Loaded, LogLoader
from automq.metadata.log_format import LogPosition
from automq.metadata.patience import Patience
from automq.metadata.publisher import MetadataPublisher
from automq.metadata.refusal import older_controller
from automq.replicated.machine import LogFenced
from automq.s3stream.ports import NotController, StoreError
from automq.server.surroundings import Surroundings

log = logging.getLogger(__name__)

FOLLOW_WAIT_MS: Final = 1_000
RESIGN_S: Final = 1.5
"""A named successor has claimed by then, and this process has seen it; or it is not waited for."""


class Roles:
    """One of a process. `is_direct`: what this process is the controller for asks it without a connection."""

    def __init__(self, around: Surroundings, *, is_direct: bool = True) -> None:
        self._around = around
        self._is_direct = is_direct
        self.metadata = MetadataPublisher()
        """What this broker knows: it may be behind what was answered."""
        self.controller: Controller | None = None
        """While this process holds the claim, as far as it knows."""
        self.newest_epoch = NO_EPOCH
        """The newest claim that this process knows of."""
        self.held_epoch = around.held_epoch or NO_EPOCH
        """The newest claim that was this process's own, in whichever of its incarnations."""
        self.address: ClaimantAddress | None = None
        """Our own internal listener, as others reach it."""
        self._claiming: Controller | None = None
        self._server: LinkServer | None = None
        self._target: ClaimantAddress | None = None
        self._remote = self._make_link(on_lost=lambda: self._end_following(Event.LOST))
        self.link = self._nearest(self._remote)
        self._heartbeats = self._make_link()
        self.heartbeat_link = self._nearest(self._heartbeats)
        """The same over a connection of its own, so that nothing delays a heartbeat."""
        self.listener = InternalListener(
            cluster_id=around.cluster_id, server=lambda: self._server, recent_epoch=self._recent_epoch
        )
        # The store itself tells of its outcomes.
        self._patience = Patience(entropy=around.entropy, on_store=lambda _error: None)
        self._loader = LogLoader(
            store=around.store,
            cluster_id=around.cluster_id,
            entropy=around.entropy,
            patience=self._patience,
            tasks=around.tasks,
        )
        self._follower: LogFollower | None = None
        self._following: asyncio.Task[None] | None = None
        self._known: Loaded | None = None
        """What was read of the log, while nobody follows it."""
        self._recorded_owner: str | None = None
        self._contact_at = float("-inf")
        self._moved: asyncio.Future[Event] | None = None
        """What ends the step FOLLOW or LEAD."""
        self._lost = asyncio.Event()
        """A claim of this process was lost."""
        self._is_stopping = False
        self._standing_by: asyncio.Task[None] | None = None

    def _make_link(self, on_lost: Callable[[], None] = ignore) -> RemoteLink:
        """Another connection to whoever is the controller."""
        around = self._around
        return RemoteLink(
            dial=self._dial,
            cluster_id=around.cluster_id,
            node=around.node,
            entropy=around.entropy,
            tasks=around.tasks,
            settings=LinkSettings(connect_timeout_s=election.SILENCE_S),
            on_lost=on_lost,
        )

    # What others see.

    @property
    def leader(self) -> Leader | None:
        """Who is the controller, as far as is known here."""
        return self.link.leader

    @property
    def known(self) -> Loaded | None:
        """What was read of the log last; None where this process wrote it."""
        return self._known if self._follower is None else self._follower.known

    def notify(self) -> None:
        """An answer told of more than `metadata` shows."""
        if self._follower is not None:
            self._follower.notify()

    def _recent_epoch(self) -> ControllerEpoch | None:
        """The controller that was heard lately; this process itself, where it is the one."""
        if self.controller is not None and self.controller.is_active:
            return self.controller.epoch
        leader = self._remote.leader
        is_recent = self._around.clock.monotonic() - self._contact_at <= election.SILENCE_S
        return leader.epoch if leader is not None and is_recent else None

    def _nearest(self, remote: RemoteLink) -> ControllerLink:
        return NearestLink(lambda: self.controller, remote) if self._is_direct else remote

    def renew_heartbeats(self) -> None:
        """Whoever was told does not answer: the next heartbeat goes to whom is known by then."""
        self._heartbeats.disconnect()

    # Life.

    async def start(self, opened: OpenedCluster) -> None:
        """Find the controller, or become it; then follow what becomes of it. `metadata` shows the log then.

        Raises what `Controller.start` raises, and ClusterInUse where the controller is a program that forms no
        cluster.
        """
        self._known = opened.loaded
        self._recorded_owner = opened.recorded_owner
        self.newest_epoch = opened.newest_epoch
        step = Step.READ
        while step not in (Step.FOLLOW, Step.LEAD):
            step = await self._take(step, is_start=True)
        if self.controller is not None:
            await self.metadata.wait(self.controller.record_number)
        self._standing_by = self._around.tasks.spawn(self._stand_by(step), name="role in the cluster")

    async def _stand_by(self, step: Step) -> None:
        while True:
            step = await self._take(step, is_start=False)

    async def resign(self) -> None:
        """This process stops: whoever follows it goes on as the controller, and has claimed when this returns.

        Where nobody follows, or it takes too long, the others find out by themselves.
        """
        self._is_stopping = True
        controller = self.controller
        if controller is None or not controller.is_active:
            return
        await controller.drained()
        alive = [node for node in controller.followers.live() if _may_succeed(self.metadata.image, node)]
        if not alive:
            return
        log.info("the controller stops and names its successor", extra={"successor": alive[0]})
        controller.followers.name_successor(alive[0])
        with suppress(TimeoutError):
            async with asyncio.timeout(RESIGN_S):
                await self._lost.wait()

    async def close(self) -> None:
        """Ask nobody, follow nothing and be nothing any more. Idempotent."""
        self._is_stopping = True
        for task in (self._standing_by, self._following):
            if task is not None:
                task.cancel()
        self._remote.close()
        self._heartbeats.close()
        self.listener.close()
        controllers = [controller for controller in (self.controller, self._claiming) if controller is not None]
        self.controller = self._claiming = None
        self._drop_server()
        for controller in controllers:
            await controller.close()

    # Steps.

    async def _take(self, step: Step, *, is_start: bool) -> Step:
        """One step, and which comes next."""
        match step:
            case Step.READ:
                event = await self._read(is_start=is_start)
            case Step.CONNECT:
                event = await self._connect()
            case Step.CONFIRM:
                await asyncio.sleep(election.CONFIRM_S)
                event = await self._connect()
            case Step.WATCH:
                event = await self._watch(is_start=is_start)
            case Step.CLAIM:
                event = await self._claim()
            case Step.REST:
                event = await self._rest(is_start=is_start)
            case Step.FOLLOW:
                event = await self._follow()
            case _:
                event = await self._lead()
        following = election.NEXT[step, event]
        if following is not step and step not in (Step.READ, Step.REST):
            extra = {"step": step.value, "came": event.name, "next": following.value, "epoch": self.newest_epoch}
            log.info("role in the cluster", extra=extra)
        return following

    async def _read(self, *, is_start: bool) -> Event:
        around = self._around
        newest = max(await highest_claim(around.store, around.cluster_id, self._patience), self.newest_epoch)
        self.newest_epoch = newest
        claim = await read_claim(around.store, around.cluster_id, newest, self._patience)
        if newest == NO_EPOCH:
            return Event.NOBODY
        target = None if claim is None else claim.where
        if target != self._target:
            self._target = target
            self._remote.disconnect()
            self._heartbeats.disconnect()
        if claim is not None and claim.node == around.node:
            if newest <= self.held_epoch or is_start and around.held_epoch is None:
                return Event.OURS
            if not is_start:
                newer = f"a newer process of broker {around.node}"
                around.on_superseded(f"controller epoch {newest} was claimed by {newer}")
                await asyncio.Event().wait()
            # Rule: who begins anew takes no claim from a process that was started since: that one is asked.
        return Event.NO_ADDRESS if self._target is None else Event.ADDRESS

    async def _connect(self) -> Event:
        self._follow_bucket()
        deadline = self._around.clock.monotonic() + election.SILENCE_S
        while True:
            try:
                leader = await self._remote.connect()
                if leader.epoch < self.newest_epoch:
                    self._remote.disconnect()
                    raise Unreached(f"it is controller {leader.epoch} no more", Contact.DENIED)
            except Unreached as error:
                event = EVENTS[error.contact]
                if event is not Event.DENIED or self._around.clock.monotonic() >= deadline:
                    return event if not await self._is_outdated() else Event.NEWER
                # Whoever has just claimed takes a moment to read the log.
                if await self._is_outdated():
                    return Event.NEWER
                await asyncio.sleep(election.CONFIRM_S)
            except NotController:
                return Event.SILENT
            else:
                return self._hear(leader)

    def _hear(self, leader: Leader) -> Event:
        self.newest_epoch = max(self.newest_epoch, leader.epoch)
        self._contact_at = self._around.clock.monotonic()
        return Event.HEARD

    async def _is_outdated(self) -> bool:
        """Whether somebody has claimed since the claims were read."""
        return await highest_claim(self._around.store, self._around.cluster_id, self._patience) > self.newest_epoch

    async def _ask_others(self) -> Event:
        """Rule: a candidate that hears nothing asks the others first."""
        around = self._around
        others = list(other_listeners(self.metadata.image, around.node).values())
        answers = await ask_others(others, cluster_id=around.cluster_id, connect=around.connect, tasks=around.tasks)
        hearing = sum(epoch is not None and epoch >= self.newest_epoch for epoch in answers)
        return election.verdict(len(answers), hearing)

    async def _watch(self, *, is_start: bool) -> Event:
        """Rule: where nobody is left to ask, the lease decides: unchanged for one interval, or not.

        It is read first, so that the interval passes while others are asked, again and again.
        """
        self._follow_bucket()
        around = self._around
        watch = LeaseWatch(store=around.store, cluster_id=around.cluster_id, clock=around.clock)
        while (left_s := election.LEASE_INTERVAL_S - watch.unchanged_s) > 0:
            looked_at = around.clock.monotonic()
            with suppress(StoreError):
                await watch.poll()
            if watch.changes:
                if is_start and self._target is None:
                    raise older_controller(None if watch.content is None else watch.content.node)
                return Event.RENEWED
            if await self._is_outdated():
                return Event.NEWER
            # A claimant that names no listener is an older program, which nobody of the others can hear.
            event = Event.NOBODY if self._target is None else await self._ask_others()
            if event is not Event.NOBODY:
                return event
            asked_s = around.clock.monotonic() - looked_at
            await asyncio.sleep(max(0.0, min(left_s, election.WATCH_S) - asked_s))
        return Event.STILL

    async def _rest(self, *, is_start: bool) -> Event:
        """A random share of a session without a claim; whoever has claimed meanwhile is heard as soon as it answers."""
        is_known = False
        with suppress(TimeoutError):
            async with asyncio.timeout(election.REST_S * self._around.entropy.fraction()):
                while True:
                    await asyncio.sleep(election.CONFIRM_S)
                    if not is_known and await self._is_outdated():
                        is_known = await self._read(is_start=is_start) is Event.ADDRESS
                    if is_known:
                        with suppress(NotController):
                            leader = await self._remote.connect()
                            if leader.epoch >= self.newest_epoch:
                                return self._hear(leader)
        return Event.RESTED

    async def _claim(self) -> Event:
        if self._is_stopping:
            return Event.BEATEN
        if await self._is_outdated():
            # Rule: a candidate has just read the claims. Whoever has claimed meanwhile is the controller, no rival.
            return Event.NEWER
        known = await self._stop_following()
        published = self._controllers_publisher()
        controller = self._around.make_controller(published, lambda why: self._on_lost(controller, why))
        self._claiming = controller
        claimed_above = self.newest_epoch
        try:
            await controller.start(
                owner=self._around.owner,
                recorded_owner=self._recorded_owner,
                known=known,
                above=claimed_above,
                is_contest=True,
            )
        except LogFenced as error:
            log.info("another broker became the controller first", extra={"why": str(error)})
            self._claiming = None
            await controller.close()
            self.held_epoch = max(self.held_epoch, controller.epoch)
            self.newest_epoch = max(claimed_above, controller.epoch)
            self._known = None if published is self.metadata else known
            return Event.BEATEN
        self._recorded_owner = self._around.owner
        self.newest_epoch = self.held_epoch = controller.epoch
        self.controller, self._claiming, self._known = controller, None, None
        self._server = LinkServer(
            controller=controller,
            cluster_id=self._around.cluster_id,
            clock=self._around.clock,
            tasks=self._around.tasks,
        )
        if not controller.is_active:
            self._on_lost(controller, "it was taken over while it started")
        for link in (self._remote, self._heartbeats):
            if self._is_direct:
                link.abandon()
            else:
                link.disconnect()
        if not self._is_direct:
            self._known = known
            self._target = self.address
            self._follow_bucket()
        return Event.WON

    def _controllers_publisher(self) -> MetadataPublisher:
        """Where a controller of this process publishes."""
        return self.metadata if self._is_direct else MetadataPublisher(self.metadata.image)

    def _on_lost(self, controller: Controller, why: str) -> None:
        """Synchronous: in this very moment this process is not the controller any more."""
        if self.controller is not controller:
            return
        self.controller = None
        self._lost.set()
        self._drop_server()
        _ = self._around.tasks.spawn(controller.close(), name="close the lost controller")
        if not any(broker.node != self._around.node and not broker.fenced for broker in self.metadata.image.brokers()):
            # Rule: nobody else is in this cluster, so it is a newer process of this node, which fences this one.
            self._around.on_superseded(why)
        self._end_step(Event.LOST)

    def _drop_server(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _lead(self) -> Event:
        """Until the claim is lost."""
        if self.controller is None:
            return Event.LOST
        return await self._until_moved()

    async def _follow(self) -> Event:
        """Until the controller is not heard any more."""
        self._follow_bucket()
        self.notify()
        return await self._until_moved()

    async def _until_moved(self) -> Event:
        self._moved = asyncio.get_running_loop().create_future()
        try:
            return await self._moved
        finally:
            self._moved = None

    def _end_step(self, event: Event) -> None:
        if self._moved is not None and not self._moved.done():
            self._moved.set_result(event)

    def _end_following(self, event: Event) -> None:
        if self.controller is None:
            self._end_step(event)

    # Following.

    def _follow_bucket(self) -> None:
        """Begin to follow the log, unless that goes on already."""
        if self._following is None or self._following.done():
            self._following = self._around.tasks.spawn(self._run_follower(), name="follow the metadata log")

    async def _run_follower(self) -> None:
        known, self._known = self._known, None
        while known is None or known.image.record_number < self.metadata.image.record_number:
            # What this process appended as the controller is in the log, too.
            known = await self._loader.read()
            await asyncio.sleep(0)
        self._follower = LogFollower(
            loader=self._loader,
            publisher=self.metadata,
            clock=self._around.clock,
            ask=self._ask_for_slots,
            on_read=self._around.on_log_read,
        )
        await self._follower.run(known)

    async def _stop_following(self) -> Loaded | None:
        """What was read of the log so far."""
        if not self._is_direct and self._follower is not None:
            return self._follower.known
        task, self._following = self._following, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        follower, self._follower = self._follower, None
        if follower is not None:
            # Nothing of it is published twice.
            self._known = replace(follower.known, change=None)
        return self._known

    async def _ask_for_slots(self, record_number: int) -> Sequence[SlotBytes]:
        """See `AskForSlots`."""
        if self._moved is None or self.controller is not None and self._is_direct:
            raise NotAnswered
        request = Follow(self._around.node, record_number, FOLLOW_WAIT_MS)
        try:
            async with asyncio.timeout(FOLLOW_WAIT_MS / 1000 + election.SILENCE_S):
                answer: Answer = await self._remote.ask(request)
        except TimeoutError:
            self._remote.disconnect()
            self._end_following(Event.SILENT)
            raise NotAnswered from None
        except NotController as error:
            self._end_following(Event.LOST)
            raise NotAnswered from error
        self._contact_at = self._around.clock.monotonic()
        followed: Followed = answer.value
        if followed.successor == self._around.node and not self._is_stopping:
            self._end_following(Event.NAMED)
        if followed.is_behind or followed.successor is not None:
            raise NotAnswered
        return [(LogPosition(slot.epoch, slot.sequence), slot.body) for slot in followed.slots]

    async def _dial(self, factory: Callable[[], asyncio.BaseProtocol]) -> None:
        if self._target is None:
            raise NotController("nobody is known to be the controller")
        await self._around.connect(self._target, factory)


EVENTS: Final = {
    Contact.REFUSED: Event.REFUSED,
    Contact.SILENT: Event.SILENT,
    Contact.DENIED: Event.DENIED,
}


def _may_succeed(image: MetadataImage, node: NodeId) -> bool:
    broker = image.broker(node)
    return broker is not None and not (broker.fenced or broker.stopping)
