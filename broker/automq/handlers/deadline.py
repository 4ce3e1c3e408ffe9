"""A request's own time-out: what is not decided by then is answered REQUEST_TIMED_OUT, and may still happen."""

import asyncio
from collections.abc import Awaitable
from typing import Final, TypeVar

from automq.protocol.errors import ApiError, ErrorCode
from automq.replicated.machine import LogFailed, LogFenced
from automq.s3stream.model import StreamError
from automq.s3stream.ports import NotController

T = TypeVar("T")

FAILURES: Final = (ApiError, NotController, LogFenced, LogFailed, StreamError)
"""What a change of metadata raises when it fails as a whole."""


def deadline_after(timeout_ms: int) -> float:
    """When `timeout_ms` from now is over, by the loop's clock: one deadline for all parts of a request."""
    return asyncio.get_running_loop().time() + max(timeout_ms, 0) / 1000


async def within(timeout_ms: int, waiting: Awaitable[T]) -> T:
    """The result of `waiting`. Raises ApiError REQUEST_TIMED_OUT after `timeout_ms`."""
    return await before(deadline_after(timeout_ms), waiting)


async def before(deadline: float, waiting: Awaitable[T]) -> T:
    """The result of `waiting`. Raises ApiError REQUEST_TIMED_OUT when the loop's clock passes `deadline`."""
    try:
        async with asyncio.timeout_at(deadline):
            return await waiting
    except TimeoutError:
        raise ApiError(
            ErrorCode.REQUEST_TIMED_OUT, "The change is not durable yet: the object store does not answer in time."
        ) from None
