"""What the store's outcomes mean for the state."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from automq.s3stream.ports import BucketNotFound, StoreCredentialsRejected, StoreUnavailable
from automq.server.lifecycle import Event, Lifecycle, Reason, State
from automq.server.store_health import StoreHealth


class LoopClock:
    def wall_ms(self) -> int:
        return 0

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()


@pytest.fixture
async def health() -> AsyncIterator[StoreHealth]:
    made = StoreHealth(lifecycle=Lifecycle(), clock=LoopClock(), store="file:///x")
    yield made
    made.close()


def serve(lifecycle: Lifecycle) -> None:
    lifecycle.move(Event.REGISTERED, "recovering")
    lifecycle.move(Event.RECOVERED, "serving")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (StoreUnavailable("timed out"), Reason.STORE_UNREACHABLE),
        (StoreCredentialsRejected("who?"), Reason.STORE_CREDENTIALS_REJECTED),
        (BucketNotFound("none"), Reason.BUCKET_NOT_FOUND),
    ],
)
async def test_failure_while_starting_is_waited_out(health: StoreHealth, error: Exception, reason: Reason) -> None:
    lifecycle = health.lifecycle
    assert isinstance(error, StoreUnavailable | StoreCredentialsRejected | BucketNotFound)

    health.on_outcome(error)
    assert (lifecycle.state, lifecycle.reason) == (State.WAITING, reason)
    assert "file:///x" in lifecycle.message
    health.on_outcome(None)

    assert (lifecycle.state, lifecycle.reason) == (State.STARTING, None)


async def test_failure_while_recovering_leads_back_to_recovering(health: StoreHealth) -> None:
    health.lifecycle.move(Event.REGISTERED, "recovering")

    health.on_outcome(StoreUnavailable("timed out"))
    health.on_outcome(StoreUnavailable("timed out"))
    health.on_outcome(None)

    assert health.lifecycle.state is State.RECOVERING


@pytest.mark.asyncio
@pytest.mark.looptime
async def test_serving_broker_tells_only_of_failures_that_last() -> None:
    lifecycle = Lifecycle()
    health = StoreHealth(lifecycle=lifecycle, clock=LoopClock(), store="file:///x")
    serve(lifecycle)

    health.on_outcome(StoreUnavailable("timed out"))
    await asyncio.sleep(9.9)
    assert lifecycle.reason is None
    await asyncio.sleep(0.2)

    assert (lifecycle.state, lifecycle.reason) == (State.SERVING, Reason.STORE_UNREACHABLE)
    health.on_outcome(None)
    assert (lifecycle.state, lifecycle.reason, lifecycle.message) == (State.SERVING, None, "serving")
    health.close()


@pytest.mark.asyncio
@pytest.mark.looptime
async def test_success_in_between_starts_anew() -> None:
    lifecycle = Lifecycle()
    health = StoreHealth(lifecycle=lifecycle, clock=LoopClock(), store="file:///x")
    serve(lifecycle)

    for _ in range(3):
        health.on_outcome(StoreUnavailable("timed out"))
        await asyncio.sleep(6)
        health.on_outcome(None)

    assert lifecycle.reason is None
    health.close()
