"""Background tasks: a crash is reported once, closing ends everything."""

import asyncio
import logging
from functools import partial
from itertools import pairwise

import pytest

from automq.runtime.tasks import Tasks, repeat


async def test_crash_reaches_the_owner_with_the_task_name(caplog: pytest.LogCaptureFixture) -> None:
    crashes: list[tuple[str, BaseException]] = []
    tasks = Tasks("engine", on_crash=lambda name, error: crashes.append((name, error)))

    async def fail() -> None:
        raise ValueError("broken")

    tasks.spawn(fail(), name="upload")
    await asyncio.sleep(0.01)

    assert [(name, str(error)) for name, error in crashes] == [("engine: upload", "broken")]
    assert "background task crashed" in caplog.text


async def test_close_cancels_and_waits() -> None:
    ended: list[str] = []
    tasks = Tasks("engine", on_crash=lambda name, error: pytest.fail(name))

    async def run(name: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(name)

    tasks.spawn(run("first"), name="first")
    tasks.spawn(run("second"), name="second")
    await asyncio.sleep(0)
    await tasks.close()

    assert ended == ["first", "second"]
    assert len(tasks) == 0


async def test_nothing_starts_after_close() -> None:
    tasks = Tasks("engine", on_crash=lambda name, error: pytest.fail(name))
    await tasks.close()

    async def run() -> None:
        pytest.fail("ran")

    with pytest.raises(RuntimeError, match="engine is closed"):
        tasks.spawn(run(), name="late")


class Expected(Exception):
    """What the world does."""


class Over(Exception):
    """The work is somebody else's now."""


@pytest.mark.looptime
async def test_repeated_step_survives_what_it_should_and_logs_a_row_of_failures_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    outcomes: list[Exception | None] = [
        None,
        Expected("full"),
        Expected("full"),
        Expected("full"),
        None,
        None,
        Over("x"),
    ]
    steps: list[float] = []

    async def step() -> None:
        steps.append(asyncio.get_running_loop().time())
        outcome = outcomes[len(steps) - 1]
        if outcome is not None:
            raise outcome

    pause = partial(asyncio.sleep, 5)
    await repeat(step, name="sweep", pause=pause, survives=(Expected,), ends=(Over,))

    assert [after - before for before, after in pairwise(steps)] == [5, 6, 6, 6, 5, 5]
    assert [record.message for record in caplog.records] == [
        "periodic work is put off",
        "periodic work goes on",
        "periodic work ends",
    ]


@pytest.mark.looptime
async def test_step_that_waits_for_an_event_does_not_spin_when_it_fails() -> None:
    due, steps = asyncio.Event(), 0
    due.set()

    async def step() -> None:
        nonlocal steps
        steps += 1
        raise Expected

    repeating = asyncio.ensure_future(repeat(step, name="snapshots", pause=due.wait, survives=(Expected,)))
    await asyncio.sleep(10)
    repeating.cancel()

    assert steps <= 11


async def test_bug_in_a_repeated_step_leaves_it() -> None:
    async def step() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await repeat(step, name="x", pause=partial(asyncio.sleep, 0), survives=(Expected,))
