"""The simulation's loop: virtual time, repeatable and varied order, processes that pause and die."""

import asyncio
import time

import pytest

from tests.support.sim_loop import Deadlock, Process, SimLoop, Standstill, never, run_world


def run(seed, main):
    loop = SimLoop(seed)
    try:
        return run_world(loop, main(loop))
    finally:
        loop.end()


def order_of(seed):
    trace = []

    async def worker(loop, name):
        for i in range(3):
            await asyncio.sleep(3600 if i else 0)
            trace.append((loop.time(), name, i))

    async def main(loop):
        await asyncio.gather(*(worker(loop, name) for name in "abcd"))

    run(seed, main)
    return trace


def test_same_seed_same_trace():
    assert order_of(7) == order_of(7)


def test_seeds_differ():
    assert len({tuple(order_of(seed)) for seed in range(20)}) > 5


def test_time_is_virtual():
    began = time.perf_counter()
    assert order_of(1)[-1][0] >= 7200
    assert time.perf_counter() - began < 2


def test_plain_callbacks_keep_their_order():
    async def main(loop):
        seen = []
        for i in range(50):
            loop.call_soon(seen.append, i)
        await asyncio.sleep(1)
        return seen

    assert run(3, main) == list(range(50))


def test_cancelled_timers_cost_no_time():
    async def main(loop):
        for _ in range(2000):
            async with asyncio.timeout(30):
                await asyncio.sleep(10)
        return loop.time()

    assert run(3, main) == 20000


def test_cancelled_timers_are_skipped_when_time_jumps():
    async def main(loop):
        loop.call_later(5, lambda: None).cancel()
        loop.call_later(9, lambda: None)
        await asyncio.sleep(7)
        return loop.time()

    assert run(3, main) == 7


def test_deadlock_is_an_error():
    async def main(loop):
        await never()

    with pytest.raises(Deadlock):
        run(3, main)


def test_spinning_without_time_is_an_error(monkeypatch):
    monkeypatch.setattr("tests.support.sim_loop.STANDSTILL_TURNS_MAX", 1000)

    async def main(loop):
        while loop.time() < 1:
            await asyncio.sleep(0)

    with pytest.raises(Standstill):
        run(3, main)


def test_threads_are_refused():
    async def main(loop):
        loop.call_soon_threadsafe(lambda: None)

    with pytest.raises(RuntimeError, match="thread"):
        run(3, main)


async def ticking(seen, loop, name="tick"):
    try:
        while True:
            await asyncio.sleep(1)
            seen.append((round(loop.time(), 3), name))
    finally:
        seen.append((round(loop.time(), 3), "finally"))


def test_paused_process_runs_nothing_and_catches_up():
    async def main(loop):
        seen = []
        process = Process(loop, "a")
        process.spawn(ticking(seen, loop))
        process.call_later(2.5, lambda: seen.append((loop.time(), "callback")))
        await asyncio.sleep(1.5)
        process.pause()
        await asyncio.sleep(10)
        assert seen == [(1.0, "tick")]
        process.resume()
        await asyncio.sleep(1.2)
        process.kill()
        return list(seen)

    # A task's timer only wakes it: its step comes a turn later than the callback.
    assert run(3, main) == [(1.0, "tick"), (11.5, "callback"), (11.5, "tick"), (12.5, "tick")]


def test_world_goes_on_while_a_process_is_paused():
    async def main(loop):
        seen = []
        first, second = Process(loop, "a"), Process(loop, "b")
        first.spawn(ticking(seen, loop, "a"))
        second.spawn(ticking(seen, loop, "b"))
        first.pause()
        await asyncio.sleep(2.5)
        first.kill()
        second.kill()
        return list(seen)

    assert run(3, main) == [(1.0, "b"), (2.0, "b")]


def test_killed_process_runs_no_finally():
    async def main(loop):
        seen = []
        process = Process(loop, "a")
        process.spawn(ticking(seen, loop))
        await asyncio.sleep(1.5)
        process.kill()
        await asyncio.sleep(10)
        return list(seen)

    assert run(3, main) == [(1.0, "tick")]


def test_kill_within_a_turn_drops_what_is_ready_in_that_turn():
    async def main(loop):
        seen = []
        process = Process(loop, "a")
        loop.call_soon(process.kill)
        process.call_soon(seen.append, "ran")
        await asyncio.sleep(1)
        return seen

    assert run(3, main) == []


def test_tasks_and_timers_of_tasks_belong_to_their_process():
    async def main(loop):
        seen = []
        process = Process(loop, "a")

        async def child():
            asyncio.get_running_loop().call_later(1, seen.append, "timer")
            future = loop.create_future()
            future.add_done_callback(lambda _: seen.append("done"))
            world.append(future)
            await asyncio.sleep(0.5)
            seen.append("step")

        async def parent():
            await asyncio.gather(*[loop.create_task(child())])

        world = []
        process.spawn(parent())
        await asyncio.sleep(0.1)
        process.pause()
        world[0].set_result(None)
        await asyncio.sleep(5)
        assert seen == []
        process.resume()
        await asyncio.sleep(0.01)
        return sorted(seen)

    assert run(3, main) == ["done", "step", "timer"]


def test_peers_are_told_of_a_kill():
    async def main(loop):
        seen = []
        process = Process(loop, "a")
        process.at_kill(lambda: seen.append("peer"))
        process.kill()
        process.kill()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return seen

    assert run(3, main) == ["peer"]


def test_failing_callbacks_are_kept():
    async def main(loop):
        loop.call_soon(lambda: 1 / 0)
        await asyncio.sleep(1)
        return loop.failures

    assert "ZeroDivisionError" in run(3, main)[0]
