"""Blocking or CPU-heavy calls leave the event loop through this port; simulations run them in place."""

import asyncio
import queue
import threading
import time
from collections.abc import Callable
from typing import Any, ParamSpec, Protocol, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Workers(Protocol):
    """Runs plain functions elsewhere and awaits their result."""

    async def run(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """`function(*args, **kwargs)`, off the loop. Exceptions come back as they are."""
        ...

    def close(self, *, timeout_s: float = 10.0) -> bool:
        """Refuse new calls and wait for those that run; False when some still do after `timeout_s`."""
        ...


class ThreadWorkers:
    """A bounded pool of threads, made when they are needed.

    Daemon threads: one that hangs in the kernel, on a file system that is frozen for instance, can neither be ended nor
    waited for, and must not keep the process from ending.
    """

    def __init__(self, *, threads: int = 4, name: str = "automq-worker") -> None:
        self._threads_max = threads
        self._name = name
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._under_way = 0
        """Calls that were handed over and whose end the loop has not seen."""
        self._closed = False

    async def run(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        if self._closed:
            raise RuntimeError(f"the workers {self._name} are closed")
        loop = asyncio.get_running_loop()
        call = _Call(loop, lambda: function(*args, **kwargs))
        self._under_way += 1
        if self._under_way > len(self._threads) < self._threads_max:
            self._start_thread()
        self._calls.put(call)
        try:
            result: T = await call.future
            return result
        finally:
            self._under_way -= 1
            # A failure refers to this frame, and would be referred to by it.
            del call

    def close(self, *, timeout_s: float = 10.0) -> bool:
        self._closed = True
        for _ in self._threads:
            self._calls.put(None)
        until = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _start_thread(self) -> None:
        thread = threading.Thread(
            target=_work, args=(self._calls,), name=f"{self._name}-{len(self._threads)}", daemon=True
        )
        self._threads.append(thread)
        thread.start()


class _Call:
    """One call on its way to a thread and back."""

    __slots__ = ("_function", "_loop", "future")

    def __init__(self, loop: asyncio.AbstractEventLoop, function: Callable[[], Any]) -> None:
        self._loop = loop
        self._function = function
        self.future: asyncio.Future[Any] = loop.create_future()

    def run(self) -> None:
        """In a thread; what nobody waits for any more, and has not begun, never does."""
        if self.future.cancelled():
            return
        result: Any = None
        failure: BaseException | None = None
        try:
            result = self._function()
        except BaseException as error:  # noqa: BLE001 - whatever it is belongs to whoever awaits it
            failure = error
        try:
            self._loop.call_soon_threadsafe(self._finish, result, failure)
        except RuntimeError:
            # The loop is closed: nobody waits.
            pass
        finally:
            # It refers to this frame.
            del failure

    def _finish(self, result: Any, failure: BaseException | None) -> None:
        future = self.future
        # A failure refers to whoever met it, and so to this: it is not to be referred to from here.
        del self.future
        if future.done():
            return
        if failure is None:
            future.set_result(result)
        else:
            future.set_exception(failure)


def _work(calls: "queue.SimpleQueue[_Call | None]") -> None:
    while (call := calls.get()) is not None:
        call.run()
        # Whatever it refers to is not kept until the next one comes.
        del call


class InlineWorkers:
    """Runs calls in place: for tests and the simulation, where threads would break repeatability."""

    async def run(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        return function(*args, **kwargs)

    def close(self, *, timeout_s: float = 10.0) -> bool:
        return True
