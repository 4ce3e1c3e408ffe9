"""When a broker last knew that nothing has fenced it."""

import asyncio
import dataclasses
import logging
from dataclasses import dataclass

import pytest

from automq.controller.contact import ALWAYS, PROOFS_MAX, WAKES_PER_TURN, Contact
from automq.metadata.publisher import MetadataPublisher
from automq.runtime.clock import SystemClock
from automq.runtime.telemetry import Metrics

SESSION_S = 3.0


@dataclass
class Boottime(SystemClock):
    """Whose boottime goes on by hand, while `monotonic` stands still: the machine sleeps."""

    now: float = 100.0

    def boottime(self) -> float:  # type: ignore[override]
        return self.now


class World:
    def __init__(self) -> None:
        self.clock = Boottime()
        self.metadata = MetadataPublisher()
        self.contact = Contact(session_s=SESSION_S, metadata=self.metadata, clock=self.clock)
        self.woken: list[float] = []

    @property
    def is_fresh(self) -> bool:
        """As whoever answers compares."""
        return self.clock.boottime() < self.contact.fresh_until

    def show(self, record_number: int) -> None:
        self.metadata.replace(dataclasses.replace(self.metadata.image, record_number=record_number))

    def wait(self) -> None:
        self.contact.when_fresh(lambda: self.woken.append(self.clock.now))


async def turn() -> None:
    """Waiting ones are called in a turn of their own."""
    await asyncio.sleep(0)


def test_nothing_is_answered_before_the_first_proof_nor_a_session_after_the_last_began() -> None:
    world = World()
    assert not world.is_fresh
    world.contact.prove(99.0)
    assert world.is_fresh
    world.clock.now = 101.9
    assert world.is_fresh
    world.clock.now = 102.0
    assert not world.is_fresh


async def test_a_proof_counts_only_once_the_image_shows_what_the_controller_knew() -> None:
    world = World()
    world.contact.prove(100.0, record_number=5)
    world.wait()
    world.show(4)
    assert not world.is_fresh
    assert world.woken == []
    world.show(5)
    assert world.is_fresh
    await turn()
    assert world.woken == [100.0]


def test_a_younger_proof_that_is_shown_outweighs_older_ones_that_are_not() -> None:
    world = World()
    world.contact.prove(100.0, record_number=50)
    world.contact.prove(100.5, record_number=0)
    assert world.contact.fresh_until == 103.5
    world.show(50)
    assert world.contact.fresh_until == 103.5, "it never goes back"
    world.contact.prove(90.0)
    assert world.contact.fresh_until == 103.5


def test_proofs_that_the_image_never_reaches_are_bounded() -> None:
    world = World()
    for index in range(10 * PROOFS_MAX):
        world.contact.prove(100.0 + index, record_number=1000 + index)
    assert len(world.contact._pending) == PROOFS_MAX
    world.show(5000)
    assert world.contact._pending == []
    assert world.contact.fresh_until == 100.0 + 10 * PROOFS_MAX - 1 + SESSION_S


async def test_a_proof_that_is_too_old_when_it_comes_wakes_nobody() -> None:
    world = World()
    world.wait()
    world.contact.prove(97.0)
    await turn()
    assert world.woken == []
    world.contact.prove(99.0)
    await turn()
    assert world.woken == [100.0]
    world.contact.prove(100.0)
    await turn()
    assert world.woken == [100.0], "once"


async def test_waiting_is_said_and_counted_once_and_so_is_its_end(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    world, metrics = World(), Metrics()
    world.contact._watch(metrics)
    world.contact.prove(99.0)
    assert metrics.registry.get_sample_value("automq_contact_age_seconds") == 1.0
    world.clock.now = 110.0
    world.wait()
    world.wait()
    world.clock.now = 112.0
    world.contact.prove(112.0)
    await turn()
    assert [record.getMessage().split(":")[0] for record in caplog.records] == ["answers wait", "answers go on"]
    assert caplog.records[1].waited_s == 2.0  # type: ignore[attr-defined]
    assert metrics.registry.get_sample_value("automq_contact_losses_total") == 1
    assert world.woken == [112.0, 112.0]


async def test_nobody_is_woken_after_the_end() -> None:
    world = World()
    world.wait()
    world.contact.prove(100.0, record_number=5)
    world.contact.close()
    world.show(5)
    await turn()
    assert world.woken == []
    world.wait()
    world.contact.prove(101.0)
    world.contact.close()
    await turn()
    assert world.woken == [], "nor one whose turn was about to come"


async def test_one_that_fails_holds_up_neither_the_others_nor_whoever_proves() -> None:
    world, failures = World(), []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context.get("exception")))

    def fail() -> None:
        raise ZeroDivisionError

    world.wait()
    world.contact.when_fresh(fail)
    world.wait()
    world.contact.prove(100.0)
    await turn()
    await turn()
    assert world.woken == [100.0, 100.0]
    assert [type(each) for each in failures] == [ZeroDivisionError]
    world.wait()
    world.contact.prove(101.0)
    await turn()
    assert len(world.woken) == 3, "the next proof wakes as ever"


async def test_a_thousand_that_wait_are_woken_in_many_turns_in_order() -> None:
    world, woken = World(), []
    for index in range(1000):
        world.contact.when_fresh(lambda index=index: woken.append(index))  # type: ignore[misc]
    world.contact.prove(100.0)
    turns = 0
    while len(woken) < 1000:
        before = len(woken)
        await turn()
        turns += 1
        assert len(woken) - before <= WAKES_PER_TURN
        # Neither a proof nor a new one that waits hastens or doubles it.
        world.contact.prove(100.0 + turns / 100)
    assert woken == list(range(1000))


async def test_whoever_waits_anew_while_it_is_woken_waits_for_the_next_proof() -> None:
    world = World()

    def again() -> None:
        world.woken.append(world.clock.now)
        world.contact.when_fresh(again)

    world.contact.when_fresh(again)
    world.contact.prove(100.0)
    for _ in range(5):
        await turn()
    assert world.woken == [100.0]
    world.contact.prove(101.0)
    await turn()
    assert world.woken == [100.0, 100.0]


def test_where_nobody_can_take_over_nothing_waits() -> None:
    assert ALWAYS.fresh_until > 1e300


def test_a_proof_holds_no_longer_than_the_controllers_session() -> None:
    world = World()
    world.contact.prove(100.0)
    world.contact.follow_session(2.0)
    assert world.contact.fresh_until == 102.0
    world.contact.prove(101.0)
    assert world.contact.fresh_until == 103.0
    # The next controller waits longer than this broker's own setting says, which holds again with the next proof.
    world.contact.follow_session(60.0)
    assert world.contact.fresh_until == 103.0
    world.contact.prove(102.0)
    assert world.contact.fresh_until == 102.0 + SESSION_S
