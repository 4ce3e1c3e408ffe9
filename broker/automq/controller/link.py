"""The port through which a broker asks whoever is the controller now, in this process or in another.

Every answer, a refusal too, carries the record number that all it tells of is durable at. Who asked reads its own
writes by waiting until its image includes that record: `client` does so for all callers.
"""

from dataclasses import dataclass
from typing import Any, Protocol

from automq.controller.requests import Request
from automq.ids import ControllerEpoch, NodeId


@dataclass(frozen=True, slots=True)
class Leader:
    """Who is the controller, as far as is known here."""

    node: NodeId
    epoch: ControllerEpoch


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What became of a request: `value`, of the request's `ANSWER` type, or why not."""

    record_number: int
    """Everything that the answer tells of is durable at it, and an image that includes it shows it."""
    value: Any = None
    error: Exception | None = None
    """ApiError, StreamError, CompactionRefused or StoreError."""


class ControllerLink(Protocol):
    """One suite (`test_link_contract`) runs against every adapter."""

    @property
    def leader(self) -> Leader | None:
        """Whom `ask` asks; None while nobody is known."""
        ...

    async def ask(self, request: Request) -> Answer:
        """The controller's answer, once what it tells of is durable.

        Raises NotController when whoever was asked is not the controller any more, or takes nothing now: nothing is
        known of the outcome. A request that may be repeated (`ONCE` is False) is then asked again by whoever wants it
        done. Cancelled, it may still happen.
        """
        ...
