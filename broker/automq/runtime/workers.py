"""Blocking or CPU-heavy calls leave the event loop through this port; simulations run them in place."""

import asyncio
import concurrent.futures
from collections.abc import Callable
from typing import ParamSpec, Protocol, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Workers(Protocol):
    """Runs plain functions elsewhere and awaits their result."""

    async def run(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """`function(*args, **kwargs)`, off the loop. Exceptions come back as they are."""
        ...

    def close(self) -> None:
        """Refuse new calls and wait for those that run."""
        ...


class ThreadWorkers:
    """A bounded pool of threads."""

    def __init__(self, *, threads: int = 4) -> None:
        self._executor = concurrent.futures.ThreadPoolExecutor(threads, "automq-worker")

    async def run(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, lambda: function(*args, **kwargs))

    def close(self) -> None:
        self._executor.shutdown(wait=True)


class InlineWorkers:
    """Runs calls in place: for tests and the simulation, where threads would break repeatability."""

    async def run(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        return function(*args, **kwargs)

    def close(self) -> None:
        """Nothing to wait for."""
