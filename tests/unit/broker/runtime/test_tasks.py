"""Background tasks: a crash is reported once, closing ends everything."""

import asyncio

import pytest

from automq.runtime.tasks import Tasks


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
