"""For how long a client is not listened to."""

import asyncio

import pytest

from automq.server.network.muting import Muting

pytestmark = pytest.mark.looptime


async def test_longest_decision_counts_and_its_end_is_told_once() -> None:
    loop = asyncio.get_running_loop()
    ends: list[float] = []
    muting = Muting(lambda: ends.append(loop.time()))
    began = loop.time()
    assert not muting.is_on
    for throttle_ms in (500, 2000, 1000):
        muting.begin(throttle_ms)
    assert muting.is_on
    await asyncio.sleep(5)

    assert [end - began for end in ends] == [pytest.approx(2.0)]
    assert not muting.is_on


async def test_connection_that_is_gone_is_not_called() -> None:
    ends: list[None] = []
    muting = Muting(lambda: ends.append(None))
    muting.begin(100)
    muting.close()
    await asyncio.sleep(1)
    assert not ends
