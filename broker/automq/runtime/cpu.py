"""CPU seconds by purpose: of awaited work, step by step on the event loop, and of calls that workers run for it.

The purpose of the running work is a context variable, so that a worker's call is counted for whoever awaits it.
"""

import contextvars
import time
import types
from collections.abc import Callable, Coroutine, Generator
from typing import Any, ParamSpec, TypeVar

from automq.runtime.workers import Workers

P = ParamSpec("P")
T = TypeVar("T")

AddCpu = Callable[[float], None]

_adding: contextvars.ContextVar[AddCpu | None] = contextvars.ContextVar("automq_cpu", default=None)


def process_cpu_s() -> float:
    """Of all threads of this process, so far."""
    return time.process_time()


def thread_cpu_s() -> float:
    """Of the calling thread, so far."""
    return time.thread_time()


async def metered(work: Coroutine[Any, Any, T], add: AddCpu) -> T:
    """The result of `work`; the CPU time of all its steps, workers' calls included, goes to `add`."""
    token = _adding.set(add)
    try:
        return await _stepped(work, add)
    finally:
        _adding.reset(token)


@types.coroutine
def _stepped(work: Coroutine[Any, Any, T], add: AddCpu) -> Generator[Any, Any, T]:
    sent: Any = None
    thrown: BaseException | None = None
    while True:
        began = time.thread_time()
        try:
            yielded = work.send(sent) if thrown is None else work.throw(thrown)
        except StopIteration as stop:
            result: T = stop.value
            return result
        finally:
            add(time.thread_time() - began)
            # It refers to this frame.
            thrown = None
        sent = None
        try:
            sent = yield yielded
        except BaseException as error:  # noqa: BLE001 - a cancellation above all: the inner work must see it
            thrown = error
        finally:
            # A future that failed: it refers to the failure, which refers to this frame.
            del yielded


class MeteredWorkers:
    """Workers whose calls count for whoever awaits them through `metered`."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers

    async def run(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        add = _adding.get()
        if add is None:
            return await self._workers.run(function, *args, **kwargs)
        result, seconds = await self._workers.run(_timed, function, args, kwargs)
        add(seconds)
        return result

    def close(self, *, timeout_s: float = 10.0) -> bool:
        return self._workers.close(timeout_s=timeout_s)


def _timed(function: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[T, float]:
    began = time.thread_time()
    result = function(*args, **kwargs)
    return result, time.thread_time() - began
