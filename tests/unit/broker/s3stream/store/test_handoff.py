"""Handing calls to workers: results and errors come back, a cancelled caller waits for what has begun."""

import asyncio
import threading

import pytest

from automq.runtime.workers import InlineWorkers, ThreadWorkers
from automq.s3stream.store.handoff import run_to_end


async def test_result_and_error_come_back() -> None:
    workers = InlineWorkers()

    assert await run_to_end(workers, divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await run_to_end(workers, divmod, 7, 0)


async def test_cancelled_caller_waits_for_a_call_that_runs_however_often_it_is_cancelled() -> None:
    workers = ThreadWorkers(threads=1)
    entered, go_on, over = threading.Event(), threading.Event(), threading.Event()

    def call() -> None:
        entered.set()
        go_on.wait(10)
        over.set()

    task = asyncio.get_running_loop().create_task(run_to_end(workers, call))
    while not entered.is_set():
        await asyncio.sleep(0.001)
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0.002)
    assert not task.done()

    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert over.is_set()
    workers.close()


async def test_call_that_has_not_begun_never_does() -> None:
    workers = ThreadWorkers(threads=1)
    go_on, called = threading.Event(), threading.Event()
    blocker = asyncio.get_running_loop().create_task(run_to_end(workers, go_on.wait, 10))
    queued = asyncio.get_running_loop().create_task(run_to_end(workers, called.set))
    await asyncio.sleep(0.01)

    queued.cancel()
    with pytest.raises(asyncio.CancelledError):
        await queued
    go_on.set()
    await blocker
    workers.close()

    assert not called.is_set()
