"""Fetch of very many partitions: what `handlers.fetch` does in one turn of the event loop, some partitions a turn.

The first Fetch of a consumer of ten thousand partitions names them all, and each of its answers may be about all of
them. What is said of a partition is true at the turn in which it is looked at; an answer never said more than that of
two partitions. One that waits is told of a partition's data from the very turn on in which they were counted.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

from automq.handlers.delayed_fetch import Collected, DelayedFetch, WaitingFetch
from automq.handlers.fetch import FetchHandler
from automq.handlers.fetch_answers import add_by_topic, endpoints
from automq.handlers.record_range import RecordRange
from automq.partition.fetch_session import FetchTarget
from automq.protocol.apis import ApiKey
from automq.protocol.codec import MalformedMessage, decode_in_parts
from automq.protocol.connection import RequestHead, ResponseSlot
from automq.protocol.fetch_codec import FetchTopicResult, encode_fetch_in_turns
from automq.protocol.messages.fetch import FetchRequest
from automq.runtime.turns import Pace, free_in_turns, in_turns
from automq.security.authorizer import Operation, ResourceType
from automq.security.session import Session
from automq.steps import slices

WIDE_BYTES: Final = 8 << 10
"""Larger requests, of some 250 partitions, are read in turns."""
WIDE_TARGETS: Final = 250
"""More partitions are looked at in turns, whether this request names them or its session has them."""
SLICE: Final = 64
# About how long a partition takes: to be measured, found again, parked; to be answered.
BEGUN_US: Final = 6
COLLECTED_US: Final = 12


class ArrivingFetch:
    """A request that is still being read."""

    __slots__ = ("fetch", "is_done", "is_hastened", "work")

    def __init__(self) -> None:
        self.fetch: DelayedFetch | None = None
        """Once it is read."""
        self.work: asyncio.Task[None] | None = None
        self.is_hastened = False
        self.is_done = False

    def hasten(self) -> None:
        """As `DelayedFetch.hasten`."""
        self.is_hastened = True
        if self.fetch is not None:
            self.fetch.hasten()

    def cancel(self) -> None:
        """As `DelayedFetch.cancel`."""
        self.is_done = True
        if self.work is not None:
            self.work.cancel()
        if self.fetch is not None:
            self.fetch.cancel()


class WideFetchHandler(FetchHandler):
    """Fetch of one broker, of any number of partitions."""

    def start(
        self,
        head: RequestHead,
        frame: memoryview,
        slot: ResponseSlot,
        *,
        session: Session,
        end: Callable[[MalformedMessage], None],
    ) -> WaitingFetch | None:
        if len(frame) <= WIDE_BYTES:
            return super().start(head, frame, slot, session=session, end=end)
        arriving = ArrivingFetch()
        # The frame's memory is used again.
        work = self._arrive(arriving, head, bytes(frame), slot, session, end)
        arriving.work = self._tasks.spawn(work, name="wide fetch")
        return arriving

    async def _arrive(
        self,
        arriving: ArrivingFetch,
        head: RequestHead,
        frame: bytes,
        slot: ResponseSlot,
        session: Session,
        end: Callable[[MalformedMessage], None],
    ) -> None:
        try:
            request, _ = await in_turns(decode_in_parts(FetchRequest, head.version, frame, head.body_offset))
        except MalformedMessage as error:
            slot.discard()
            end(error)
            return
        plan = await in_turns(
            self._sessions.begin_in_turns(request, head.version, now_ms=self._now_ms(), draw_id=self._draw_id)
        )
        fetch = self._planned(head, slot, request, plan, session)
        # The plan has taken over what it needs of it.
        await free_in_turns(*(topic.partitions for topic in request.topics), request.topics)
        if fetch is not None:
            fetch.is_hastened = arriving.is_hastened
            arriving.fetch = fetch
            await self._begin_in_turns(fetch)

    def _begin(self, fetch: DelayedFetch) -> bool:
        if len(fetch.plan.targets) <= WIDE_TARGETS:
            return super()._begin(fetch)
        fetch.work = self._tasks.spawn(self._begin_in_turns(fetch), name="wide fetch")
        return True

    async def _begin_in_turns(self, fetch: DelayedFetch) -> None:
        """Answer, or let it wait."""
        session, targets = fetch.session, fetch.plan.targets
        if session.has_rules and not session.allows_every(Operation.READ, ResourceType.TOPIC):
            pace, refused = Pace(), set[FetchTarget]()
            for some in slices(targets, SLICE):
                refused |= {target for target in some if not self._may_read(fetch, target)}
                await pace.spend(len(some) * BEGUN_US)
            fetch.refused = frozenset(refused)
        wait_s = fetch.request.max_wait / 1000
        may_wait = wait_s > 0 and fetch.missing_bytes > 0 and not fetch.is_from_replica and not fetch.is_hastened
        if may_wait and targets and not fetch.refused and await self._park_in_turns(fetch, wait_s):
            return
        await self._answer_in_turns(fetch)

    async def _park_in_turns(self, fetch: DelayedFetch, wait_s: float) -> bool:
        """Whether it waits, or was ended by somebody else; if not it is to be answered."""
        purgatory, pace = self._purgatory, Pace()
        purgatory.park_gradually(fetch, wait_s)
        for some in slices(fetch.plan.targets, SLICE):
            if fetch.tick is None:
                return True
            rooms = self._rooms_of(fetch, some)
            if rooms is None or fetch.missing_bytes <= 0:
                return not purgatory.forget(fetch)
            # In the same turn: what comes from now on is counted.
            if not purgatory.watch(fetch, rooms):
                return True
            await pace.spend(len(some) * BEGUN_US)
        return purgatory.watch_no_more(fetch) or not purgatory.forget(fetch)

    def answer(self, fetch: DelayedFetch) -> None:
        if len(fetch.plan.targets) <= WIDE_TARGETS:
            super().answer(fetch)
        else:
            fetch.work = self._tasks.spawn(self._answer_in_turns(fetch), name="wide fetch")

    async def _answer_in_turns(self, fetch: DelayedFetch) -> None:
        pace = Pace()
        for some in slices(fetch.plan.targets, SLICE):
            if not self._is_quiet(fetch, some):
                break
            await pace.spend(len(some) * BEGUN_US)
        else:
            self._complete_quiet(fetch)
            return
        found = await self._collect_in_turns(fetch, {})
        if found.cold:
            found = await self._collect_in_turns(fetch, await self._come_cold(fetch, found))
        await self._complete_in_turns(fetch, found)

    async def _collect_in_turns(
        self, fetch: DelayedFetch, cold: Mapping[FetchTarget, RecordRange | Exception]
    ) -> Collected:
        found, pace = Collected(), Pace()
        for some in slices(fetch.plan.targets, SLICE):
            self._collect_of(fetch, some, cold, found)
            await pace.spend(len(some) * COLLECTED_US)
        return found

    async def _complete_in_turns(self, fetch: DelayedFetch, found: Collected) -> None:
        topics: list[FetchTopicResult] = []
        pace = Pace()
        for some in slices(found.results, SLICE):
            self._count(some)
            add_by_topic(topics, fetch.plan.to_send(some))
            await pace.spend(len(some) * BEGUN_US)
        if fetch.zone:
            self._zones.count_out(fetch.zone, found.size)
        parts = await in_turns(
            encode_fetch_in_turns(
                version=fetch.version,
                correlation_id=fetch.correlation_id,
                topics=topics,
                session_id=fetch.plan.session_id,
                throttle_time=fetch.session.throttle(ApiKey.FETCH, found.size),
                node_endpoints=endpoints(found.leaders),
            )
        )
        fetch.is_done = True
        fetch.slot.complete(parts)
