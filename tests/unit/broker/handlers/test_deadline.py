"""A request's own time-out."""

import asyncio

import pytest

from automq.handlers.deadline import within
from automq.protocol.errors import ApiError, ErrorCode


async def test_what_is_done_in_time_is_answered() -> None:
    assert await within(1000, asyncio.sleep(0, "done")) == "done"


@pytest.mark.asyncio
@pytest.mark.looptime
async def test_what_takes_longer_is_timed_out() -> None:
    with pytest.raises(ApiError) as refused:
        await within(1000, asyncio.sleep(2))
    assert refused.value.code is ErrorCode.REQUEST_TIMED_OUT


async def test_negative_time_is_none() -> None:
    with pytest.raises(ApiError):
        await within(-1, asyncio.sleep(1))
