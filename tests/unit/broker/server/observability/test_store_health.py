"""What the store's outcomes mean for the broker: state, reason, readiness, log lines, metrics."""

import asyncio
import logging
from collections.abc import Iterator

import pytest

from automq.runtime.telemetry import Metrics
from automq.s3stream.ports import (
    BucketNotFound,
    StoreAccessDenied,
    StoreConflict,
    StoreCredentialsRejected,
    StoreError,
    StoreRefused,
    StoreSettingsInvalid,
    StoreUnavailable,
)
from automq.server.lifecycle.states import Event, Lifecycle, Reason, Refused, State
from automq.server.observability.abilities import Ability
from automq.server.observability.store_health import StoreHealth
from tests.support.quiet_platform import LoopClock

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]


class World:
    """A store's health on virtual time."""

    def __init__(self) -> None:
        self.lifecycle = Lifecycle()
        self.metrics = Metrics()
        self.hopeless: list[Refused] = []
        self.health = StoreHealth(
            lifecycle=self.lifecycle,
            clock=LoopClock(),
            store="file:///x",
            metrics=self.metrics,
            on_hopeless=self.hopeless.append,
        )
        self.seen: list[tuple[State, Reason | None]] = []
        self.lifecycle.subscribe(self._on_change)

    def _on_change(self) -> None:
        now = (self.lifecycle.state, self.lifecycle.reason)
        if not self.seen or self.seen[-1] != now:
            self.seen.append(now)

    def serve(self) -> None:
        self.lifecycle.move(Event.REGISTERED, "recovering")
        self.lifecycle.move(Event.RECOVERED, "serving")
        self.seen.clear()

    def works(self, *abilities: Ability) -> None:
        for ability in abilities:
            self.health.succeeded(self.health.began(ability))

    def fails(self, ability: Ability, error: StoreError | None = None) -> None:
        self.health.failed(self.health.began(ability), error or StoreUnavailable("timed out"))

    async def spend(self, seconds: float, *, fails: Ability, works: Ability = Ability.GET) -> None:
        """One failure and one success a second."""
        for _ in range(int(seconds)):
            self.fails(fails)
            self.works(works)
            await asyncio.sleep(1)

    def metric(self, name: str, ability: Ability) -> float | None:
        return self.metrics.registry.get_sample_value(name, {"ability": ability.value})


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.health.close()


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (StoreUnavailable("timed out"), Reason.STORE_UNREACHABLE),
        (StoreCredentialsRejected("who?"), Reason.STORE_CREDENTIALS_REJECTED),
        (StoreAccessDenied("no"), Reason.STORE_ACCESS_DENIED),
        (BucketNotFound("none"), Reason.BUCKET_NOT_FOUND),
    ],
)
async def test_failure_while_starting_is_waited_out(world: World, error: StoreError, reason: Reason) -> None:
    lifecycle = world.lifecycle

    world.fails(Ability.GET, error)
    assert (lifecycle.state, lifecycle.reason) == (State.WAITING, reason)
    assert "file:///x" in lifecycle.message
    world.works(Ability.GET)

    assert (lifecycle.state, lifecycle.reason) == (State.STARTING, None)
    assert world.hopeless == []


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (StoreSettingsInvalid("400 InvalidBucketName"), Reason.INVALID_SETTINGS),
        (StoreRefused("400 MissingContentMD5"), Reason.STORE_UNSUITABLE),
    ],
)
async def test_k6_what_cannot_heal_is_never_unreachable_and_is_not_waited_for(
    world: World, error: StoreError, reason: Reason
) -> None:
    world.fails(Ability.LIST, error)

    assert world.lifecycle.reason is reason
    assert [refused.reason for refused in world.hopeless] == [reason]


async def test_failure_while_recovering_leads_back_to_recovering(world: World) -> None:
    world.lifecycle.move(Event.REGISTERED, "recovering")

    world.fails(Ability.GET)
    world.fails(Ability.GET)
    world.works(Ability.GET)

    assert world.lifecycle.state is State.RECOVERING


async def test_f3_start_on_a_full_disk_says_what_is_wrong(world: World) -> None:
    for _ in range(30):
        world.works(Ability.GET, Ability.LIST)
        world.fails(Ability.CREATE, StoreUnavailable("the disk of file:///x is full"))
        await asyncio.sleep(1)

    assert world.seen == [(State.WAITING, Reason.STORE_UNREACHABLE)]
    assert "create fails: the disk of file:///x is full" in world.lifecycle.message


async def test_serving_broker_tells_only_of_failures_that_last(world: World) -> None:
    world.serve()

    await world.spend(9, fails=Ability.GET, works=Ability.PUT)
    assert world.lifecycle.reason is None
    await world.spend(2, fails=Ability.GET, works=Ability.PUT)

    assert (world.lifecycle.state, world.lifecycle.reason) == (State.SERVING, Reason.STORE_UNREACHABLE)
    world.works(Ability.GET)
    assert (world.lifecycle.state, world.lifecycle.reason, world.lifecycle.message) == (State.SERVING, None, "serving")


async def test_success_in_between_starts_anew(world: World) -> None:
    world.serve()

    for _ in range(3):
        world.fails(Ability.GET)
        await asyncio.sleep(6)
        world.works(Ability.GET)

    assert world.lifecycle.reason is None


@pytest.mark.parametrize("ability", list(Ability))
async def test_f3_outage_of_one_ability_is_told_though_all_others_work(world: World, ability: Ability) -> None:
    world.serve()
    other = Ability.PUT if ability is Ability.GET else Ability.GET

    await world.spend(30, fails=ability, works=other)

    assert world.seen == [(State.SERVING, Reason.STORE_UNREACHABLE)]
    assert world.lifecycle.message.startswith(f"{ability.value} fails: ")
    assert world.lifecycle.is_ready == (ability not in (Ability.CREATE, Ability.GET))
    assert world.metric("automq_store_failing_seconds", ability) == pytest.approx(30, abs=1)
    assert world.metric("automq_store_failing_seconds", other) == 0
    assert world.metric("automq_store_outages_total", ability) == 1
    world.works(ability)
    assert world.seen[-1] == (State.SERVING, None)
    assert world.lifecycle.is_ready


async def test_b10_full_disk_has_a_reason_after_ten_seconds(world: World) -> None:
    """The poll reads once a second, successfully; nothing is acknowledged for 35 s."""
    world.serve()
    told_after = None
    for second in range(35):
        world.fails(Ability.CREATE, StoreUnavailable("the disk of file:///x is full"))
        world.works(Ability.GET)
        await asyncio.sleep(1)
        if world.lifecycle.reason is not None and told_after is None:
            told_after = second + 1

    assert told_after is not None
    assert 10 <= told_after <= 11
    assert len(world.seen) == 1


async def test_worst_ability_is_told_first(world: World) -> None:
    world.serve()
    for _ in range(12):
        world.fails(Ability.DELETE, StoreAccessDenied("no"))
        world.fails(Ability.CREATE)
        await asyncio.sleep(1)
    assert world.lifecycle.reason is Reason.STORE_UNREACHABLE

    world.works(Ability.CREATE)

    assert world.lifecycle.reason is Reason.STORE_ACCESS_DENIED
    assert "read, write and delete in that folder" in world.lifecycle.message
    assert "GetObject" not in world.lifecycle.message


async def test_k6_two_clients_with_two_words_for_one_failure_do_not_flap(world: World) -> None:
    """One client knows that the credentials are refused, the other only that there is no answer."""
    world.serve()
    for number in range(40):
        world.fails(Ability.GET, StoreUnavailable("?") if number % 2 else StoreCredentialsRejected("403"))
        await asyncio.sleep(1)

    assert world.seen == [(State.SERVING, Reason.STORE_CREDENTIALS_REJECTED)]


async def test_reason_follows_a_failure_that_becomes_another(world: World) -> None:
    world.serve()
    for error in [StoreCredentialsRejected("403")] * 15 + [StoreUnavailable("?")] * 25:
        world.fails(Ability.GET, error)
        await asyncio.sleep(1)

    assert [reason for _, reason in world.seen] == [Reason.STORE_CREDENTIALS_REJECTED, Reason.STORE_UNREACHABLE]


async def test_request_without_an_answer_is_a_failure(world: World) -> None:
    """A file system that hangs answers nothing, not even an error."""
    world.serve()
    hanging = world.health.began(Ability.CREATE)
    for _ in range(12):
        world.works(Ability.GET)
        await asyncio.sleep(1)

    assert world.lifecycle.reason is Reason.STORE_UNREACHABLE
    assert "no answer" in world.lifecycle.message
    world.health.succeeded(hanging)
    assert world.lifecycle.reason is None


async def test_one_slow_request_among_quick_ones_is_no_outage(world: World) -> None:
    world.serve()
    _ = world.health.began(Ability.GET)
    for _ in range(60):
        world.works(Ability.GET)
        await asyncio.sleep(1)

    assert world.seen == []


async def test_failure_that_nobody_repeats_is_forgotten_after_a_minute(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.serve()
    world.fails(Ability.DELETE)
    await asyncio.sleep(11)
    world.works(Ability.GET)
    assert world.lifecycle.reason is Reason.STORE_UNREACHABLE

    await asyncio.sleep(52)

    assert world.lifecycle.reason is None
    assert "its failure is forgotten" in caplog.text


async def test_conflict_that_does_not_end_is_told(world: World) -> None:
    world.fails(Ability.CREATE, StoreConflict("409"))
    assert world.lifecycle.state is State.STARTING
    world.works(Ability.CREATE)
    world.serve()

    for _ in range(12):
        world.fails(Ability.CREATE, StoreConflict("409"))
        await asyncio.sleep(1)

    assert world.lifecycle.reason is Reason.STORE_UNREACHABLE


async def test_outage_has_one_line_at_its_start_and_one_with_its_length(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    world.serve()
    await world.spend(30, fails=Ability.CREATE)
    world.works(Ability.CREATE)

    starts, ends = caplog.records
    assert (starts.message, vars(starts)["operation"], vars(starts)["why"]) == (
        "the store fails",
        "create",
        "timed out",
    )
    assert vars(starts)["store"] == "file:///x"
    assert (ends.message, vars(ends)["operation"]) == ("the store works again", "create")
    assert vars(ends)["failed_s"] == pytest.approx(30, abs=1)


async def test_failure_that_a_retry_mends_at_once_has_no_line(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.serve()
    for _ in range(5):
        world.fails(Ability.GET)
        await asyncio.sleep(0.2)
        world.works(Ability.GET)
        await asyncio.sleep(3)

    assert caplog.records == []


async def test_what_was_refused_on_purpose_is_forgotten(world: World) -> None:
    world.fails(Ability.DELETE, StoreAccessDenied("no"))
    world.health.forget()

    assert world.lifecycle.state is State.STARTING
