"""The account of what clients keep in memory by not taking their answers."""

import asyncio

import pytest

from automq.handlers.reader_pins import ReaderPins
from automq.runtime.budget import ByteBudget


class Pin:
    def __init__(self, size: int) -> None:
        self.pinned_bytes = size

    def unpin(self) -> None:
        self.pinned_bytes = 0


class Holder:
    def __init__(self) -> None:
        self.was_given_up = False

    def evict(self) -> None:
        self.was_given_up = True


async def read(pins: ReaderPins, client: str, size: int, log: list[str], seconds: float = 1) -> None:
    async with pins.reading(client, size):
        log.append(client)
        await asyncio.sleep(seconds)


pytestmark = pytest.mark.looptime


async def test_reads_hold_the_budget_while_they_last() -> None:
    pins = ReaderPins(ByteBudget(100))
    log: list[str] = []
    tasks = [asyncio.ensure_future(read(pins, f"client {n}", 50, log)) for n in range(3)]
    await asyncio.sleep(0.5)
    # Two would leave less than a quarter for what cannot be read again.
    assert (log, pins.budget.used) == (["client 0"], 50)
    await asyncio.gather(*tasks)

    assert (log, pins.budget.used) == (["client 0", "client 1", "client 2"], 0)


async def test_a3_clients_have_their_turns_however_many_reads_one_of_them_asks_for() -> None:
    pins = ReaderPins(ByteBudget(100))
    log: list[str] = []
    tasks = [asyncio.ensure_future(read(pins, "many", 70, log)) for _ in range(50)]
    await asyncio.sleep(0.5)
    tasks.append(asyncio.ensure_future(read(pins, "one", 70, log)))
    await asyncio.sleep(2.1)

    assert "one" in log
    await asyncio.gather(*tasks)
    assert pins.budget.used == 0


async def test_read_that_is_larger_than_the_budget_is_let_in_alone() -> None:
    pins = ReaderPins(ByteBudget(100))
    log: list[str] = []
    await asyncio.gather(read(pins, "a", 1000, log), read(pins, "b", 1000, log))

    assert (log, pins.budget.used) == (["a", "b"], 0)


async def test_read_that_is_given_up_leaves_the_line() -> None:
    pins = ReaderPins(ByteBudget(100))
    log: list[str] = []
    first = asyncio.ensure_future(read(pins, "a", 70, log, 10))
    second = asyncio.ensure_future(read(pins, "b", 70, log))
    third = asyncio.ensure_future(read(pins, "c", 70, log))
    await asyncio.sleep(0.1)
    second.cancel()
    first.cancel()
    await third

    assert (log, pins.budget.used) == (["a", "c"], 0)
    # Cancelled in the turn in which it is let in.
    first = asyncio.ensure_future(read(pins, "a", 70, log, 1))
    second = asyncio.ensure_future(read(pins, "b", 70, log))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.gather(first, second, return_exceptions=True)
    assert pins.budget.used == 0


async def test_a3_what_is_read_and_not_sent_gives_way_to_reads_the_oldest_first() -> None:
    pins = ReaderPins(ByteBudget(100))
    old, new = Pin(40), Pin(40)
    pins.keep(old)
    pins.keep(new)
    log: list[str] = []
    await read(pins, "a", 50, log)

    assert (old.pinned_bytes, new.pinned_bytes, pins.budget.used) == (0, 40, 40)
    pins.forget(new)
    pins.forget(old)
    assert pins.budget.used == 0


async def test_pin_that_has_no_room_is_let_go_of() -> None:
    pins = ReaderPins(ByteBudget(100))
    holder, pin = Holder(), Pin(40)
    pins.hold(holder, 80)
    pins.keep(pin)

    assert (pin.pinned_bytes, holder.was_given_up, pins.budget.used) == (0, False, 80)


async def test_pins_give_way_to_what_exists_nowhere_else() -> None:
    pins = ReaderPins(ByteBudget(100))
    holder, pin = Holder(), Pin(80)
    pins.keep(pin)
    pins.hold(holder, 50)

    assert (pin.pinned_bytes, holder.was_given_up, pins.budget.used) == (0, False, 50)


async def test_holder_without_progress_for_longest_is_given_up() -> None:
    pins = ReaderPins(ByteBudget(100))
    first, second, third = Holder(), Holder(), Holder()
    pins.hold(first, 40)
    pins.hold(second, 40)
    pins.hold(first, 30)
    pins.hold(third, 60)

    assert [one.was_given_up for one in (first, second, third)] == [False, True, False]
    assert pins.budget.used == 90
    pins.hold(first, 0)
    pins.hold(third, 0)
    assert pins.budget.used == 0


async def test_holder_of_more_than_there_is_is_let_in_alone() -> None:
    pins = ReaderPins(ByteBudget(100))
    log: list[str] = []
    reading = asyncio.ensure_future(read(pins, "a", 90, log))
    await asyncio.sleep(0.1)
    holder, other = Holder(), Holder()
    pins.hold(other, 5)
    pins.hold(holder, 1000)

    assert (other.was_given_up, holder.was_given_up) == (True, False)
    pins.hold(holder, 0)
    await reading
    assert pins.budget.used == 0
