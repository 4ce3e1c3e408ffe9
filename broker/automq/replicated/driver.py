"""The one loop of every replicated state machine: decide, append, replay, publish, reply.

`decide` runs synchronously on state that may not be durable yet, and its records are replayed at once: that is what
lets the log group many commands into one write. Nothing of that state leaves before it is durable: not a reply, not an
error, not an image to publish. When an append fails, everything that waits fails, and the driver is dead: its owner
drops the machine and loads it anew.

A command that is long is decided and applied in several turns of the event loop (`call_in_turns`). It is one command
all the same: its records are one append, and no other command is decided, and nothing captured, between its parts.

Rules that live here: `_commands`, and each in a method of its own `_speculate`, `_publish_durable`, `_answer`,
`_answer_when_durable`.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, Generic, TypeVar

from automq.replicated.machine import Decision, GradualLog, GradualMachine, LogFailed, Machine, RecordLog
from automq.runtime.turns import in_turns
from automq.steps import Steps

R = TypeVar("R")
S = TypeVar("S")
T = TypeVar("T")

REPLAY_US: Final = 50
"""A small record's; a large one yields of its own accord."""


class Driver(Generic[R, S]):
    """Runs commands on one machine through one log.

    `capture` takes the state right after a command's records were replayed; `publish` gets it once those are durable,
    in order. `on_failed` is called once, when an append failed: with LogFenced or LogFailed.
    """

    def __init__(
        self,
        machine: Machine[R],
        log: RecordLog[R],
        *,
        capture: Callable[[], S] | None = None,
        publish: Callable[[S], None] | None = None,
        on_failed: Callable[[Exception], None] | None = None,
    ) -> None:
        self._machine = machine
        self._log = log
        self._capture = capture
        self._publish = publish
        self._on_failed = on_failed
        self._commands = asyncio.Lock()
        """Rule: a command that takes several turns is one command; the next one waits, in order of arrival."""
        self._last: asyncio.Future[None] | None = None
        self._failure: Exception | None = None

    @property
    def failure(self) -> Exception | None:
        """Why the driver is dead; None while it lives."""
        return self._failure

    async def call(self, decide: Callable[[], Decision[R, T]]) -> T:
        """Run one command; return or raise only when everything it could have seen is durable.

        Raises what `decide` raises, LogFenced, LogFailed. Cancelling the caller does not undo the command.
        """
        outcome, last = await self._decided(decide)
        return await self._answer(outcome, last)

    async def begin(self, decide: Callable[[], Decision[R, T]]) -> T:
        """Run one of several commands that are one to whoever asked; nothing may be answered before
        `wait_until_durable` returns.

        Raises what `decide` raises, LogFenced, LogFailed.
        """
        outcome, _last = await self._decided(decide)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome.response

    async def _decided(
        self, decide: Callable[[], Decision[R, T]]
    ) -> tuple[Decision[R, T] | Exception, asyncio.Future[None] | None]:
        """What came of it, and the append that is the newest then."""
        outcome: Decision[R, T] | Exception
        async with self._commands:
            self._check_alive()
            try:
                outcome = decide()
            except Exception as error:  # noqa: BLE001 - raised again, once what it may tell of is durable
                outcome = error
            else:
                if outcome.records:
                    self._speculate(outcome.records)
            return outcome, self._last

    async def wait_until_durable(self) -> None:
        """Return when everything decided so far is durable. Raises LogFenced, LogFailed."""
        self._check_alive()
        await self._answer_when_durable(self._last)

    def fail(self, error: Exception) -> None:
        """The log was lost by other means than an append: the driver is dead from now on."""
        if self._failure is None:
            self._failure = error
            if self._on_failed is not None:
                self._on_failed(error)

    def _speculate(self, records: Sequence[R]) -> None:
        """Append, and replay before it is durable: later commands decide on what this one did."""
        appended = self._log.append(records)
        for record in records:
            self._machine.replay(record)
        self._follow(appended)

    def _follow(self, appended: asyncio.Future[None]) -> None:
        """What was just replayed is published when it is durable."""
        captured = self._capture() if self._capture is not None else None
        self._last = appended
        # Registered before anyone waits: what is durable is published before it is answered.
        appended.add_done_callback(lambda done: self._on_appended(done, captured))

    async def _answer(self, outcome: Decision[R, T] | Exception, last: asyncio.Future[None] | None) -> T:
        """`last` is the append that was the newest when the command had been decided."""
        if isinstance(outcome, Exception):
            # Rule: an error is an answer too. It may tell of state that could still be lost.
            await self._answer_when_durable(last)
            raise outcome
        await self._answer_when_durable(last)
        return outcome.response

    def _on_appended(self, appended: asyncio.Future[None], captured: S | None) -> None:
        if appended.cancelled():
            self.fail(LogFailed("the log was closed"))
        elif (error := appended.exception()) is not None:
            assert isinstance(error, Exception)
            self.fail(error)
        elif captured is not None:
            self._publish_durable(captured)

    def _publish_durable(self, captured: S) -> None:
        """Rule: speculation stays inside. Others see the state a command left only when its records are durable."""
        if self._publish is not None and self._failure is None:
            self._publish(captured)

    async def _answer_when_durable(self, appended: asyncio.Future[None] | None) -> None:
        """Rule: a reply waits for its own records and for everything that its command could have seen."""
        if appended is None:
            return
        if not appended.done():
            # Not awaited directly: a cancelled caller must not cancel the append of others.
            await asyncio.wait([appended])
        if appended.cancelled():
            raise LogFailed("the log was closed")
        appended.result()
        self._check_alive()

    def _check_alive(self) -> None:
        if self._failure is not None:
            raise self._failure.with_traceback(None)


class GradualDriver(Driver[R, S]):
    """A driver whose commands may take several turns each."""

    def __init__(
        self,
        machine: GradualMachine[R],
        log: GradualLog[R],
        *,
        capture: Callable[[], S] | None = None,
        publish: Callable[[S], None] | None = None,
        on_failed: Callable[[Exception], None] | None = None,
    ) -> None:
        super().__init__(machine, log, capture=capture, publish=publish, on_failed=on_failed)
        self._gradual_machine = machine
        self._gradual_log = log

    async def call_in_turns(self, decide: Callable[[], Steps[Decision[R, T]]]) -> T:
        """See `call`. Cancelled while it is being decided, nothing has happened."""
        outcome: Decision[R, T] | Exception
        async with self._commands:
            self._check_alive()
            try:
                outcome = await in_turns(decide())
            except Exception as error:  # noqa: BLE001 - as in `call`
                outcome = error
            else:
                self._check_alive()
                if outcome.records:
                    await self._speculate_in_turns(outcome.records)
            last = self._last
        return await self._answer(outcome, last)

    async def _speculate_in_turns(self, records: Sequence[R]) -> None:
        """See `_speculate`. Once they are appended the records are applied, whoever has gone meanwhile."""
        appended = await in_turns(self._gradual_log.append_in_turns(records))
        cancelled: asyncio.CancelledError | None = None
        try:
            await in_turns(self._replay(records), to_the_end=True)
        except asyncio.CancelledError as error:
            cancelled = error
        self._follow(appended)
        if cancelled is not None:
            raise cancelled
        if appended.done():
            # Durable before it was applied: published before it is answered all the same.
            await asyncio.sleep(0)

    def _replay(self, records: Sequence[R]) -> Steps[None]:
        for record in records:
            for _turn in self._gradual_machine.turns(record):
                yield None
            yield REPLAY_US
