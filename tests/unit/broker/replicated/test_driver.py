"""What the driver lets out, and when."""

import asyncio
from collections.abc import Sequence

import pytest

from automq.replicated.driver import Driver
from automq.replicated.machine import Decision, LogFailed, LogFenced


class Sum:
    """A machine that adds."""

    def __init__(self) -> None:
        self.total = 0

    def replay(self, record: int) -> None:
        self.total += record


class ManualLog:
    """Appends become durable, or fail, when the test says so."""

    def __init__(self) -> None:
        self.appends: list[tuple[Sequence[int], asyncio.Future[None]]] = []

    def append(self, records: Sequence[int]) -> asyncio.Future[None]:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.appends.append((records, future))
        return future

    def confirm(self, number: int) -> None:
        self.appends[number][1].set_result(None)

    def fail(self, number: int, error: Exception) -> None:
        self.appends[number][1].set_exception(error)


class Fixture:
    def __init__(self) -> None:
        self.machine = Sum()
        self.log = ManualLog()
        self.published: list[int] = []
        self.failures: list[Exception] = []
        self.driver: Driver[int, int] = Driver(
            self.machine,
            self.log,
            capture=lambda: self.machine.total,
            publish=self.published.append,
            on_failed=self.failures.append,
        )

    def add(self, number: int) -> "asyncio.Task[int]":
        return asyncio.get_running_loop().create_task(self.driver.call(lambda: self._add(number)))

    def _add(self, number: int) -> Decision[int, int]:
        return Decision((number,), self.machine.total + number)

    def look(self) -> "asyncio.Task[int]":
        return asyncio.get_running_loop().create_task(self.driver.call(lambda: Decision((), self.machine.total)))

    def refuse(self) -> "asyncio.Task[int]":
        def decide() -> Decision[int, int]:
            raise KeyError(self.machine.total)

        return asyncio.get_running_loop().create_task(self.driver.call(decide))


async def wait_until_durable() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.fixture
async def fixture() -> Fixture:
    return Fixture()


async def test_a_command_without_records_on_a_durable_state_answers_at_once(fixture: Fixture) -> None:
    assert await fixture.look() == 0


async def test_commands_decide_on_what_is_not_durable_yet(fixture: Fixture) -> None:
    first, second = fixture.add(1), fixture.add(2)
    await wait_until_durable()
    fixture.log.confirm(0)
    fixture.log.confirm(1)

    assert (await first, await second) == (1, 3)


async def test_a_reply_waits_for_its_records(fixture: Fixture) -> None:
    reply = fixture.add(1)
    await wait_until_durable()
    assert not reply.done()

    fixture.log.confirm(0)
    assert await reply == 1


async def test_a_reply_without_records_waits_for_what_it_saw(fixture: Fixture) -> None:
    fixture.add(1)
    await wait_until_durable()
    look = fixture.look()
    await wait_until_durable()
    assert not look.done()

    fixture.log.confirm(0)
    assert await look == 1


async def test_an_error_waits_for_what_it_saw(fixture: Fixture) -> None:
    fixture.add(1)
    await wait_until_durable()
    refused = fixture.refuse()
    await wait_until_durable()
    assert not refused.done()

    fixture.log.confirm(0)
    with pytest.raises(KeyError):
        await refused


async def test_an_error_about_state_that_is_lost_becomes_the_loss(fixture: Fixture) -> None:
    added = fixture.add(1)
    await wait_until_durable()
    refused = fixture.refuse()
    await wait_until_durable()

    fixture.log.fail(0, LogFenced("newer"))
    with pytest.raises(LogFenced):
        await refused
    with pytest.raises(LogFenced):
        await added


async def test_state_is_published_in_order_once_durable_and_before_the_reply(fixture: Fixture) -> None:
    seen: list[list[int]] = []
    replies = [fixture.add(1), fixture.add(2)]
    for reply in replies:
        reply.add_done_callback(lambda _: seen.append(list(fixture.published)))
    await wait_until_durable()
    assert fixture.published == []

    fixture.log.confirm(0)
    await wait_until_durable()
    assert fixture.published == [1]

    fixture.log.confirm(1)
    await wait_until_durable()
    assert fixture.published == [1, 3]
    assert seen == [[1], [1, 3]]


async def test_after_a_failure_the_driver_is_dead(fixture: Fixture) -> None:
    replies = [fixture.add(1), fixture.add(2)]
    await wait_until_durable()
    fixture.log.fail(0, LogFenced("newer"))
    fixture.log.fail(1, LogFenced("newer"))
    await wait_until_durable()

    for reply in (*replies, fixture.look(), fixture.add(3)):
        with pytest.raises(LogFenced):
            await reply
    assert len(fixture.log.appends) == 2
    assert fixture.published == []
    assert [str(error) for error in fixture.failures] == ["newer"]


async def test_a_cancelled_caller_cancels_nobody_else(fixture: Fixture) -> None:
    first, second = fixture.add(1), fixture.look()
    await wait_until_durable()
    first.cancel()
    await wait_until_durable()
    fixture.log.confirm(0)

    assert await second == 1
    assert fixture.published == [1]


async def test_a_driver_that_was_failed_from_outside_answers_nobody(fixture: Fixture) -> None:
    reply = fixture.add(1)
    await wait_until_durable()
    fixture.driver.fail(LogFailed("closed"))
    fixture.log.confirm(0)

    with pytest.raises(LogFailed):
        await reply
    assert fixture.published == []


async def test_settle_returns_when_everything_is_durable(fixture: Fixture) -> None:
    fixture.add(1)
    await wait_until_durable()
    settled = asyncio.get_running_loop().create_task(fixture.driver.wait_until_durable())
    await wait_until_durable()
    assert not settled.done()

    fixture.log.confirm(0)
    await settled
