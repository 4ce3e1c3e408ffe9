"""Supervised tasks: everything that runs in the background has an owner, a name and an end.

A task that ends with an unexpected exception is a bug: it is reported to the owner's `on_crash` once, with the task's
name, and never lost in an unread future.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Final

log = logging.getLogger(__name__)

FAILED_PAUSE_S: Final = 1.0
"""After a failed step, on top of its pause: one that waits for an event would begin again at once."""


async def repeat(
    step: Callable[[], Awaitable[object]],
    *,
    name: str,
    pause: Callable[[], Awaitable[object]],
    survives: tuple[type[Exception], ...],
    ends: tuple[type[Exception], ...] = (),
) -> None:
    """Await `pause` and `step` in turn, for ever: the one loop of all periodic work.

    What the world does to a step (`survives`) is no reason to end: the step is missed, the next one does its work.
    The first failure in a row is logged, and the success that ends the row. `ends` are the exceptions that say that
    the work is somebody else's now. Everything else is a bug, and leaves.
    """
    failures = 0
    while True:
        await pause()
        try:
            await step()
        except ends as error:
            log.info("periodic work ends", extra={"work": name, "why": str(error)})
            return
        except survives as error:
            if not failures:
                why = str(error) or type(error).__name__
                log.warning("periodic work is put off", extra={"work": name, "why": why})
            failures += 1
            await asyncio.sleep(FAILED_PAUSE_S)
        else:
            if failures:
                log.info("periodic work goes on", extra={"work": name, "failures": failures})
            failures = 0


class Tasks:
    """A set of named background tasks with one owner."""

    def __init__(self, owner: str, *, on_crash: Callable[[str, BaseException], None]) -> None:
        self._owner = owner
        self._on_crash = on_crash
        # A dict keeps the order of spawning: closing in that order is repeatable in a simulation, a set is not.
        self._tasks: dict[asyncio.Task[Any], None] = {}
        self._closed = False

    def __len__(self) -> int:
        return len(self._tasks)

    def spawn(self, coroutine: Coroutine[Any, Any, Any], *, name: str) -> asyncio.Task[Any]:
        """Start `coroutine` as a task that `close` will cancel and wait for."""
        if self._closed:
            coroutine.close()
            raise RuntimeError(f"{self._owner} is closed; {name} cannot start")
        task = asyncio.get_running_loop().create_task(coroutine, name=f"{self._owner}: {name}")
        self._tasks[task] = None
        task.add_done_callback(self._on_done)
        return task

    def _on_done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.pop(task, None)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            log.error("background task crashed", extra={"task": task.get_name()}, exc_info=error)
            self._on_crash(task.get_name(), error)

    async def end(self, *, timeout_s: float) -> Sequence[str]:
        """Wait until every task has ended by itself; the names of those that still run after `timeout_s`."""
        self._closed = True
        tasks = list(self._tasks)
        if not tasks:
            return ()
        _, pending = await asyncio.wait(tasks, timeout=timeout_s)
        return [task.get_name() for task in tasks if task in pending]

    async def close(self, *, timeout_s: float | None = None) -> Sequence[str]:
        """Cancel every task and wait until each has ended; the names of those that still run after `timeout_s`.

        Idempotent. Such a task waits for something that cannot be interrupted, a call in a thread for instance.
        """
        self._closed = True
        current = asyncio.current_task()
        tasks = [task for task in self._tasks if task is not current]
        for task in tasks:
            task.cancel()
        if not tasks:
            return ()
        _, pending = await asyncio.wait(tasks, timeout=timeout_s)
        return [task.get_name() for task in tasks if task in pending]
