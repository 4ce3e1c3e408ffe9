"""Runs the controller's commands: decided on the newest state, durable or not, and answered when that is durable.

What may be large is decided and applied in several turns of the event loop, and is one change all the same.
"""

from collections.abc import Callable
from typing import TypeVar

from prometheus_client import Counter

from automq.metadata.change import MetadataChange
from automq.metadata.image import MetadataImage
from automq.metadata.log import AppendTooLarge
from automq.metadata.records import MetadataRecord
from automq.metadata.replay import MetadataMachine
from automq.protocol.errors import ApiError, ErrorCode
from automq.replicated.driver import GradualDriver
from automq.replicated.machine import Decision
from automq.steps import Steps

T = TypeVar("T")


class Commands:
    """Of one claim. Everything raises ApiError for what does not fit into one change, LogFenced, LogFailed."""

    def __init__(
        self,
        machine: MetadataMachine,
        driver: GradualDriver[MetadataRecord, MetadataChange],
        *,
        records: Counter,
    ) -> None:
        self._machine = machine
        self._driver = driver
        self._records = records

    async def call(self, decide: Callable[[MetadataImage], Decision[MetadataRecord, T]]) -> T:
        """Decide and apply in one turn."""

        def decided() -> Decision[MetadataRecord, T]:
            decision = decide(self._machine.image)
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
            self._records.inc(len(decision.records))
            return decision

        try:
            return await self._driver.call_in_turns(decided)
        except AppendTooLarge as error:
            raise _too_large(error) from error


def _too_large(error: AppendTooLarge) -> ApiError:
    return ApiError(ErrorCode.POLICY_VIOLATION, f"{error}: send several requests")
