"""Handing a blocking call to a worker, such that the caller's buffers are let alone when the caller is told.

A thread cannot be interrupted. A cancelled caller therefore waits until the call that it has begun is over (one that
has not begun never will): only then may the buffers change and the descriptors be used again.
"""

import asyncio
import enum
import threading
from collections.abc import Callable
from typing import Generic, ParamSpec, TypeVar

from automq.callbacks import ignore
from automq.runtime.workers import Workers

P = ParamSpec("P")
T = TypeVar("T")


class _State(enum.Enum):
    QUEUED = 1
    RUNNING = 2
    OVER = 3
    ABANDONED = 4


class _Job(Generic[P, T]):
    def __init__(self, function: Callable[P, T]) -> None:
        self._function = function
        self._lock = threading.Lock()
        self._state = _State.QUEUED
        self._on_over: Callable[[], object] = ignore

    def run(self, *args: P.args, **kwargs: P.kwargs) -> T:
        """In the worker."""
        with self._lock:
            if self._state is _State.ABANDONED:
                raise asyncio.CancelledError
            self._state = _State.RUNNING
        try:
            return self._function(*args, **kwargs)
        finally:
            with self._lock:
                self._state = _State.OVER
                on_over = self._on_over
            on_over()

    async def abandon(self) -> None:
        """Prevent the call, or wait for its end."""
        with self._lock:
            if self._state is _State.QUEUED:
                self._state = _State.ABANDONED
            if self._state is not _State.RUNNING:
                return
            over = asyncio.Event()
            loop = asyncio.get_running_loop()
            self._on_over = lambda: loop.call_soon_threadsafe(over.set)
        while not over.is_set():
            try:
                await over.wait()
            except asyncio.CancelledError:
                # We are being cancelled already.
                pass


async def run_to_end(workers: Workers, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """`function(*args, **kwargs)` in a worker; returns, raises or is cancelled only when it is not running any more."""
    job: _Job[P, T] = _Job(function)
    try:
        return await workers.run(job.run, *args, **kwargs)
    except asyncio.CancelledError:
        await job.abandon()
        raise


async def run_interruptibly(
    workers: Workers, interrupt: Callable[[], None], function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
) -> T:
    """As `run_to_end`; a cancelled caller calls `interrupt` first, which makes a call under way end soon."""
    job: _Job[P, T] = _Job(function)
    try:
        return await workers.run(job.run, *args, **kwargs)
    except asyncio.CancelledError:
        interrupt()
        await job.abandon()
        raise
