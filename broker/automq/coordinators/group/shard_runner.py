"""One loaded shard: carries out what `GroupShard` decides.

Every decision runs through the driver, so that an answer, errors included, leaves only when everything it may have
seen is durable. Requests that a decision leaves waiting are parked under a ticket. After `close` nothing is answered
but the error it was closed with.
"""

import asyncio
import enum
import logging
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from automq.coordinators.group.model import GroupSettings, Record, Ticket, Timer
from automq.coordinators.group.offsets import TopicExists
from automq.coordinators.group.record_log import PartitionRecordLog
from automq.coordinators.group.shard import GroupShard
from automq.coordinators.group.timers import TimerHeap
from automq.coordinators.group.turn import Answer, ParkedResponse, Turn
from automq.ids import StreamEpoch
from automq.protocol.errors import ApiError, ErrorCode
from automq.replicated.driver import Driver
from automq.replicated.machine import Decision, LogFailed, LogFenced
from automq.runtime.clock import Clock
from automq.runtime.tasks import Tasks
from automq.runtime.turns import in_turns
from automq.runtime.wall_time import WallTimeGuard
from automq.steps import Steps

T = TypeVar("T")

# A timer that the clock says is not quite due yet is looked at again after this long.
WAKEUP_DELAY_S_MIN = 0.001
# Records of a loaded log that are replayed in one turn of the loop.
REPLAYED_A_TURN: Final = 2_000

log = logging.getLogger(__name__)


class RunnerState(enum.Enum):
    """How far a shard has come."""

    LOADING = 1
    ACTIVE = 2
    CLOSED = 3


class ShardRunner:
    """One leadership of one shard."""

    def __init__(
        self,
        *,
        index: int,
        leader_epoch: StreamEpoch,
        settings: GroupSettings,
        clock: Clock,
        aging: WallTimeGuard,
        tasks: Tasks,
        topic_exists: TopicExists,
        on_failed: Callable[["ShardRunner"], None],
    ) -> None:
        self.index = index
        self.leader_epoch = leader_epoch
        self.state = RunnerState.LOADING
        self.is_damaged = False
        """Loading waits for a repair: the log cannot be read, or takes no records."""
        self.shard = GroupShard()
        self._settings = settings
        self._clock = clock
        self._aging = aging
        self._tasks = tasks
        self._topic_exists = topic_exists
        self._on_failed = on_failed
        self._driver: Driver[Record, None] | None = None
        self._record_log: PartitionRecordLog | None = None
        self._timers = TimerHeap()
        self._wakeup: asyncio.TimerHandle | None = None
        self._wakeup_ms: int | None = None
        self._parked: dict[Ticket, asyncio.Future[ParkedResponse]] = {}
        self._next_ticket = 1

    async def load(self, record_log: PartitionRecordLog) -> None:
        """Read the log and begin to serve. Closed meanwhile, it stays closed."""
        shard = GroupShard()
        records = await record_log.load()
        records.reverse()
        while records:
            # Taken off one by one: to free a million of them at once is a long turn, too.
            for _ in range(min(len(records), REPLAYED_A_TURN)):
                shard.replay(records.pop())
            await asyncio.sleep(0)
        if self.state is RunnerState.CLOSED:
            return
        self.shard = shard
        self._record_log = record_log
        self._driver = Driver(shard, record_log, on_failed=self.fail)
        self.state = RunnerState.ACTIVE
        turn = self._turn()
        shard.start(turn)
        assert not turn.records
        self._timers.apply(turn.timers)
        self._schedule_wakeup()
        log.debug("group shard loaded", extra={"shard": self.index, "groups": len(shard.groups)})

    def close(self) -> None:
        """Serve nothing more: whoever waits looks for the new coordinator. Idempotent."""
        self.state = RunnerState.CLOSED
        if self._wakeup is not None:
            self._wakeup.cancel()
            self._wakeup = None
        parked, self._parked = self._parked, {}
        for future in parked.values():
            if not future.done():
                future.set_exception(self._gone())

    async def answer(self, decision: Callable[[GroupShard, Turn], T]) -> T:
        """Run one decision for a client that waits: no longer than the commit timeout for what it saw to be durable.

        What was decided stands all the same. Raises ApiError, COORDINATOR_NOT_AVAILABLE if it takes too long or if too
        much is under way to the store already.
        """
        self._require_room()
        try:
            async with asyncio.timeout(self._settings.commit_timeout_ms / 1000):
                return await self.decide(decision)
        except TimeoutError as error:
            raise self._busy() from error

    async def answer_parts(self, decisions: Sequence[Callable[[GroupShard, Turn], T]]) -> list[T]:
        """As `answer`, of one request that takes several decisions, each in a turn of its own.

        Others decide in between. Raises what the first one that fails raises; those before it stand.
        """
        self._require_room()
        driver = self._require_active()
        assert self._record_log is not None
        answers: list[T] = []
        try:
            for decision in decisions:
                answers.append(await self._begin(decision))
                if self._record_log.under_way_bytes > self._settings.under_way_bytes_max:
                    await self._wait_until_durable(driver)
                await asyncio.sleep(0)
        except (LogFenced, LogFailed) as error:
            raise self._gone() from error
        finally:
            # Rule: an error is an answer too.
            await self._wait_until_durable(driver)
        return answers

    async def read(self, steps: Callable[[GroupShard], Steps[T]]) -> T:
        """Answer a client from what is known, in turns: it may be very much. Others decide in between.

        As with `answer`, everything it saw is durable, or it raises ApiError.
        """
        self._require_room()
        driver = self._require_active()
        response = await in_turns(steps(self.shard))
        await self._wait_until_durable(driver)
        return response

    async def _wait_until_durable(self, driver: Driver[Record, None]) -> None:
        """Everything decided so far is durable, within the commit timeout. Raises ApiError."""
        try:
            async with asyncio.timeout(self._settings.commit_timeout_ms / 1000):
                await driver.wait_until_durable()
        except TimeoutError as error:
            raise self._busy() from error
        except (LogFenced, LogFailed) as error:
            raise self._gone() from error
        if self.state is RunnerState.CLOSED:
            raise self._gone()

    @property
    def is_loading(self) -> bool:
        """It is this broker's, and will answer soon."""
        return self.state is RunnerState.LOADING and not self.is_damaged

    async def read_membership(self, group_id: str, decision: Callable[[GroupShard, Turn], T]) -> T:
        """Run one decision that writes nothing and sees only the membership of one group: heartbeats.

        Answered at once while that membership is durable, however slow the store is with others' commits.
        """
        self._require_active()
        assert self._record_log is not None
        if not self._record_log.is_durable(group_id):
            return await self.answer(decision)
        turn = self._turn()
        response = decision(self.shard, turn)
        assert not turn.records
        assert not turn.answers
        assert not turn.timers
        return response

    async def decide(self, decision: Callable[[GroupShard, Turn], T]) -> T:
        """Run one decision; its answer once everything it saw is durable. Raises ApiError."""
        driver = self._require_active()
        turns: list[Turn] = []

        def run() -> Decision[Record, T]:
            turn = self._turn()
            turns.append(turn)
            response = decision(self.shard, turn)
            self._timers.apply(turn.timers)
            self._schedule_wakeup()
            return Decision(turn.records, response)

        try:
            response = await driver.call(run)
        except (LogFenced, LogFailed) as error:
            raise self._gone() from error
        except asyncio.CancelledError:
            # The client went away: those who wait for what it brought about are answered all the same.
            if turns and turns[0].answers and self.state is RunnerState.ACTIVE:
                _ = self._tasks.spawn(
                    self._answer_later(turns[0].answers), name=f"answer members of shard {self.index}"
                )
            raise
        if self.state is RunnerState.CLOSED:
            raise self._gone()
        self._answer(turns[0].answers)
        for note in turns[0].notes:
            log.info(note.event.value, extra={"group": note.group_id, **note.fields})
        return response

    async def decide_parked(self, decision: Callable[[GroupShard, Turn, Ticket], None]) -> ParkedResponse:
        """Run one decision that answers the given ticket now or later; the answer."""
        self._require_room()
        ticket = Ticket(self._next_ticket)
        self._next_ticket += 1
        future: asyncio.Future[ParkedResponse] = asyncio.get_running_loop().create_future()
        self._parked[ticket] = future
        try:
            await self.decide(lambda shard, turn: decision(shard, turn, ticket))
            return await future
        finally:
            self._parked.pop(ticket, None)
            if future.done() and not future.cancelled():
                future.exception()  # Seen here even if the caller has gone.

    async def delete_group(self, group_id: str) -> ErrorCode:
        """DeleteGroups of one group, in as many decisions as its offsets take. Raises ApiError.

        Once begun it is brought to its end, whether anybody waits for it or not.
        """
        self._require_room()
        deletion = self._tasks.spawn(self._delete(group_id), name=f"delete a group of shard {self.index}")
        outcome: ErrorCode | ApiError = await asyncio.shield(deletion)
        if isinstance(outcome, ApiError):
            raise outcome
        return outcome

    async def _delete(self, group_id: str) -> ErrorCode | ApiError:
        try:
            while True:
                code = await self._begin(lambda shard, turn: shard.delete(turn, group_id))
                driver = self._require_active()
                if code is not None:
                    await self._wait_until_durable(driver)
                    return code
                assert self._record_log is not None
                if self._record_log.under_way_bytes > self._settings.under_way_bytes_max:
                    await driver.wait_until_durable()
                await asyncio.sleep(0)
        except ApiError as error:
            return error
        except (LogFenced, LogFailed):
            return self._gone()

    async def _begin(self, decision: Callable[[GroupShard, Turn], T]) -> T:
        """Run one decision of several: durable once all that the driver took is. It answers and notes nothing."""

        def run() -> Decision[Record, T]:
            turn = self._turn()
            response = decision(self.shard, turn)
            self._timers.apply(turn.timers)
            assert not turn.answers
            return Decision(turn.records, response)

        return await self._require_active().begin(run)

    def sweep_soon(self) -> None:
        """Topics were deleted: look for offsets that are left of them."""
        if self.state is RunnerState.ACTIVE:
            _ = self._tasks.spawn(self._sweep(), name=f"sweep shard {self.index}")

    async def _sweep(self) -> None:
        try:
            await self.decide(lambda shard, turn: shard.sweep(turn, self._topic_exists))
        except ApiError:
            return  # The next coordinator sweeps when it has loaded.

    def _turn(self) -> Turn:
        now_ms = int(self._clock.monotonic() * 1000)
        aging_ms = self._aging.aging_ms()
        return Turn(now_ms=now_ms, wall_ms=self._clock.wall_ms(), aging_ms=aging_ms, settings=self._settings)

    def _require_active(self) -> Driver[Record, None]:
        if self.state is RunnerState.LOADING and self.is_damaged:
            raise ApiError(ErrorCode.COORDINATOR_NOT_AVAILABLE, f"the log of shard {self.index} is damaged: repair it")
        if self.state is RunnerState.LOADING:
            raise ApiError(ErrorCode.COORDINATOR_LOAD_IN_PROGRESS, f"shard {self.index} is being loaded: try again")
        if self.state is RunnerState.CLOSED:
            raise self._gone()
        assert self._driver is not None
        return self._driver

    def _require_room(self) -> None:
        """Rule of every queue: it has a limit. In an outage of the store clients are told to come again."""
        self._require_active()
        assert self._record_log is not None
        if self._record_log.under_way_bytes > self._settings.under_way_bytes_max:
            raise self._busy()

    def _busy(self) -> ApiError:
        return ApiError(ErrorCode.COORDINATOR_NOT_AVAILABLE, "the store is slow to take group records: try again")

    def _gone(self) -> ApiError:
        return ApiError(ErrorCode.NOT_COORDINATOR, "another broker coordinates this group: look it up again")

    def fail(self, error: Exception) -> None:
        """The log is lost, and with it what was decided on top of it. The owner is told, once."""
        if self.state is RunnerState.CLOSED:
            return
        log.warning("group shard lost its log", extra={"shard": self.index, "reason": str(error)})
        self.close()
        self._on_failed(self)

    def _answer(self, answers: list[Answer]) -> None:
        for answer in answers:
            future = self._parked.pop(answer.ticket, None)
            if future is not None and not future.done():
                future.set_result(answer.response)

    async def _answer_later(self, answers: list[Answer]) -> None:
        """Answer once everything decided so far is durable."""
        try:
            await self._require_active().wait_until_durable()
        except (ApiError, LogFenced, LogFailed):
            return  # Closed: everybody who waited has been told.
        self._answer(answers)

    # Timers.

    def _schedule_wakeup(self) -> None:
        next_ms = self._timers.next_ms()
        if next_ms is None or self.state is not RunnerState.ACTIVE:
            return
        if self._wakeup is not None:
            assert self._wakeup_ms is not None
            if self._wakeup_ms <= next_ms:
                return
            self._wakeup.cancel()
        delay_s = max(next_ms / 1000 - self._clock.monotonic(), WAKEUP_DELAY_S_MIN)
        self._wakeup_ms = next_ms
        self._wakeup = asyncio.get_running_loop().call_later(delay_s, self._wake)

    def _wake(self) -> None:
        self._wakeup = None
        now_ms = int(self._clock.monotonic() * 1000)
        while (timer := self._timers.pop_due(now_ms)) is not None:
            _ = self._tasks.spawn(self._fire(timer), name=f"timer of shard {self.index}")
        self._schedule_wakeup()

    async def _fire(self, timer: Timer) -> None:
        try:
            await self.decide(lambda shard, turn: shard.fire(turn, timer, topic_exists=self._topic_exists))
        except ApiError:
            return  # Closed meanwhile; the next coordinator sets timers of its own.
