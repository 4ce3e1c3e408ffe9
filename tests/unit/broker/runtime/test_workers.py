"""Both adapters run functions and hand exceptions back."""

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Coroutine
from weakref import ref

import pytest

from automq.runtime.cpu import MeteredWorkers, metered
from automq.runtime.workers import InlineWorkers, ThreadWorkers, Workers
from tests.support.leftovers import no_search_for_cycles


class Broken(ValueError):
    """A class of our own can be weakly referred to."""


def fail() -> None:
    raise Broken("broken")


@pytest.mark.parametrize("make", [ThreadWorkers, InlineWorkers])
async def test_result_and_exception_come_back(make: type[ThreadWorkers] | type[InlineWorkers]) -> None:
    workers: Workers = make()
    assert await workers.run(divmod, 7, 2) == (3, 1)
    with pytest.raises(ValueError, match="broken"):
        await workers.run(fail)
    workers.close()


async def test_call_that_was_cancelled_before_it_began_never_does() -> None:
    workers = ThreadWorkers(threads=1)
    entered, go_on = threading.Event(), threading.Event()
    ran: list[str] = []

    def hold() -> None:
        entered.set()
        go_on.wait(10)

    holding = asyncio.ensure_future(workers.run(hold))
    while not entered.is_set():
        await asyncio.sleep(0.001)
    waiting = asyncio.ensure_future(workers.run(ran.append, "waiting"))
    await asyncio.sleep(0)
    waiting.cancel()
    go_on.set()
    await holding
    await workers.run(ran.append, "next")

    assert ran == ["next"]
    assert workers.close()


async def test_threads_are_bounded_and_made_when_needed() -> None:
    workers = ThreadWorkers(threads=2, name="bounded")

    def threads() -> int:
        return sum(thread.name.startswith("bounded") for thread in threading.enumerate())

    assert threads() == 0
    for _ in range(3):
        await workers.run(time.sleep, 0)
    assert threads() == 1
    await asyncio.gather(*(workers.run(time.sleep, 0.01) for _ in range(8)))
    assert threads() == 2
    assert workers.close()
    assert threads() == 0


async def test_close_does_not_wait_for_ever_and_refuses_new_calls() -> None:
    workers = ThreadWorkers(threads=1)
    entered, go_on = threading.Event(), threading.Event()

    def hold() -> bool:
        entered.set()
        return go_on.wait(60)

    holding = asyncio.ensure_future(workers.run(hold))
    while not entered.is_set():
        await asyncio.sleep(0.001)

    assert not workers.close(timeout_s=0.05)
    with pytest.raises(RuntimeError, match="closed"):
        await workers.run(print)
    go_on.set()
    assert await holding


@pytest.mark.parametrize("is_metered", [False, True])
async def test_failure_of_a_call_leaves_no_cycle(is_metered: bool) -> None:
    """It refers to the frames that it went through; none of them refers to it."""
    workers = ThreadWorkers(threads=1)
    with no_search_for_cycles():
        call = MeteredWorkers(workers).run(fail)
        left = await failed(metered(call, lambda _seconds: None) if is_metered else call)
        # The thread has let go of the call when it takes the next one.
        await workers.run(int)
        await workers.run(int)

        assert left() is None
    workers.close()


async def test_cancelled_metered_call_leaves_no_cycle() -> None:
    with no_search_for_cycles():
        left = await cancelled(metered(asyncio.sleep(3600), lambda _seconds: None))

        assert left() is None


async def failed(call: Coroutine[object, object, object]) -> "ref[BaseException]":
    try:
        await call
    except ValueError as error:
        return ref(error)
    raise AssertionError("it did not fail")


async def cancelled(work: Coroutine[object, object, object]) -> "ref[BaseException]":
    task = asyncio.create_task(outcome(work))
    await asyncio.sleep(0)
    task.cancel()
    return await task


async def outcome(work: Coroutine[object, object, object]) -> "ref[BaseException]":
    try:
        await work
    except asyncio.CancelledError as error:
        return ref(error)
    raise AssertionError("it was not cancelled")


def test_thread_that_hangs_does_not_keep_the_process() -> None:
    code = """
import asyncio, threading
from automq.runtime.workers import ThreadWorkers
async def main():
    workers = ThreadWorkers()
    hanging = asyncio.ensure_future(workers.run(threading.Event().wait))
    await asyncio.sleep(0.1)
    hanging.cancel()
asyncio.run(main())
"""
    assert subprocess.run([sys.executable, "-c", code], timeout=30, check=False).returncode == 0
