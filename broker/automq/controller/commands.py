"""Runs the controller's commands: decided on the newest state, durable or not, and answered when that is durable.

What may be large is decided and applied in several turns of the event loop, and is one change all the same.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Protocol, TypeVar

from prometheus_client import Counter

from automq.controller.format_levels import check_writable
from automq.metadata.change import MetadataChange
from automq.metadata.image import MetadataImage
from automq.metadata.log import AppendTooLarge, MetadataLog
from automq.metadata.records import MetadataRecord
from automq.metadata.replay import MetadataMachine
from automq.protocol.errors import ApiError, ErrorCode
from automq.replicated.driver import GradualDriver
from automq.replicated.machine import Decision
from automq.steps import Steps

T = TypeVar("T")

# The first slot that is written after we began to ask may have been on its way before; the second was not, and proves
# that nobody had fenced us by then.
PROVING_SLOTS: Final = 2


class Call(Protocol):
    """Decides and applies one command."""

    def __call__(self, decide: Callable[[MetadataImage], Decision[MetadataRecord, T]]) -> Awaitable[T]:
        """Raises ApiError, LogFenced, LogFailed."""
        ...


class CallInTurns(Protocol):
    """Decides and applies one command that may be large, in turns."""

    def __call__(self, decide: Callable[[MetadataImage], Steps[Decision[MetadataRecord, T]]]) -> Awaitable[T]:
        """Raises ApiError, LogFenced, LogFailed."""
        ...


class Commands:
    """Of one claim. Everything raises ApiError for what does not fit into one change, LogFenced, LogFailed."""

    def __init__(
        self,
        machine: MetadataMachine,
        driver: GradualDriver[MetadataRecord, MetadataChange],
        metadata_log: MetadataLog,
        *,
        records: Counter,
    ) -> None:
        self._machine = machine
        self._driver = driver
        self._log = metadata_log
        self._records = records

    async def call(self, decide: Callable[[MetadataImage], Decision[MetadataRecord, T]]) -> T:
        """Decide and apply in one turn."""

        def decided() -> Decision[MetadataRecord, T]:
            decision = decide(self._machine.image)
            check_writable(self._machine.format_level, decision.records)
            self._records.inc(len(decision.records))
            return decision

        try:
            return await self._driver.call(decided)
        except AppendTooLarge as error:
            raise _too_large(error) from error

    async def call_in_turns(self, decide: Callable[[MetadataImage], Steps[Decision[MetadataRecord, T]]]) -> T:
        """Decide and apply in as many turns as it takes; no other command is decided meanwhile."""

        def decided() -> Steps[Decision[MetadataRecord, T]]:
            decision = yield from decide(self._machine.image)
            check_writable(self._machine.format_level, decision.records)
            self._records.inc(len(decision.records))
            return decision

        try:
            return await self._driver.call_in_turns(decided)
        except AppendTooLarge as error:
            raise _too_large(error) from error

    async def prove_unfenced(self) -> None:
        """Return once a look at the log that began now has found no fence. Raises LogFenced, LogFailed, StoreError."""
        before = self._log.slots_written
        while self._log.slots_written < before + PROVING_SLOTS:
            await self._driver.wait_until_durable()
            if await self._log.poll_fence():
                break
            # The writer is between two slots: it goes on in a turn of its own.
            await asyncio.sleep(0)
        await self._driver.wait_until_durable()


def _too_large(error: AppendTooLarge) -> ApiError:
    return ApiError(ErrorCode.POLICY_VIOLATION, f"{error}: send several requests")
