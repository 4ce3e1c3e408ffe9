"""An asyncio event loop for simulations: virtual time, seeded task order, and several processes in one loop.

What a seed decides: the order in which task steps that are ready together run. Everything else (callbacks of
transports, futures and `call_soon`) keeps the order asyncio promises. Time stands still while anything is ready, then
jumps to the next timer; when nothing is ready and no timer is set, that is a deadlock and an error.

A `Process` stands for an operating-system process. A handle belongs to the process whose context it was made in, so:

- a paused process (SIGSTOP) runs neither task steps nor callbacks; what became due meanwhile runs in order at `resume`;
- a killed process (SIGKILL) runs nothing ever again: no `finally`, no `except`, no timer.

Handles made outside any process belong to the world: the store, the network, the director of the run.

The loop replaces `_run_once` of asyncio's base class and reads `_ready`, `_scheduled` and the handles' `_context`;
tests/sim/test_sim_loop.py holds these to what CPython does.
"""

import asyncio
import contextlib
import contextvars
import gc
import heapq
import random
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

OWNER: contextvars.ContextVar["Process | None"] = contextvars.ContextVar("OWNER", default=None)

WORLD = contextvars.Context()
"""The context of what belongs to no process: `call_later(..., context=WORLD)`."""

# Turns without time moving on: far more than any real work needs, little enough to fail in a second or two.
STANDSTILL_TURNS_MAX = 200_000
CANCELLED_TIMERS_MAX = 500


class Deadlock(RuntimeError):
    """Nothing is ready and no timer is set: whoever waits would wait for ever."""


class Standstill(RuntimeError):
    """Something turns the loop for ever without letting time pass."""


class SimTask(asyncio.Task):
    """A task that knows its process."""

    __slots__ = ("owner",)


def is_task_step(handle: asyncio.Handle) -> bool:
    """Whether `handle` is the next step of a task; everything else keeps its order."""
    return isinstance(getattr(handle._callback, "__self__", None), asyncio.Task)


class SimLoop(asyncio.BaseEventLoop):
    """Virtual time and seeded task order; no wall clock, no descriptors, no threads."""

    def __init__(self, seed: int | str) -> None:
        super().__init__()
        self._now = 0.0
        self._random = random.Random(f"loop {seed}")
        self._turns_at_now = 0
        self.turns = 0
        self.handles_run = 0
        self.failures: list[str] = []
        """What reached the exception handler: callbacks that raised, tasks nobody asked for their exception."""
        self.tombs: list[Any] = []
        """Tasks of killed processes, kept so that the collector does not run their `finally` blocks."""
        self.set_task_factory(self._make_task)
        self.set_exception_handler(self._on_exception)

    def time(self) -> float:
        return self._now

    @staticmethod
    def _make_task(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any], **options: Any) -> SimTask:
        task = SimTask(coroutine, loop=loop, **options)
        context = options.get("context")
        task.owner = OWNER.get() if context is None else context.get(OWNER)
        return task

    def _on_exception(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        what = f"{type(error).__name__}: {error}" if error is not None else ""
        self.failures.append(f"{context['message']} {what}".strip())

    def _asyncgen_finalizer_hook(self, agen: Any) -> None:
        """Nobody goes on with `agen`: close it in its owner's time. Asyncio's own hook expects other threads here."""
        self._asyncgens.discard(agen)
        if not self.is_closed():
            self.call_soon(self.create_task, agen.aclose())

    def _write_to_self(self) -> None:
        raise RuntimeError("a thread calls into the simulation: nothing in it may start one")

    def _process_events(self, event_list: Any) -> None:
        """There are no descriptors to have events."""

    def _run_once(self) -> None:
        self._drop_cancelled_timers()
        scheduled = self._scheduled
        if not self._ready and not self._stopping:
            if not scheduled:
                raise Deadlock("deadlock: nothing is ready and no timer is set")
            self._now = max(self._now, scheduled[0]._when)
            self._turns_at_now = 0
        self._turns_at_now += 1
        if self._turns_at_now > STANDSTILL_TURNS_MAX:
            raise Standstill(f"time stands still at {self._now:.3f} s after {STANDSTILL_TURNS_MAX} turns")
        while scheduled and scheduled[0]._when <= self._now:
            timer = heapq.heappop(scheduled)
            timer._scheduled = False
            if timer._cancelled:
                self._timer_cancelled_count -= 1
            else:
                self._ready.append(timer)
        ready = self._take_ready()
        self.turns += 1
        for handle in ready:
            # Asked again for each: an earlier one of this turn may have paused or killed the owner.
            if handle._cancelled:
                continue
            owner = handle._context.get(OWNER)
            if owner is None or owner.admits(handle):
                self.handles_run += 1
                handle._run()

    def _drop_cancelled_timers(self) -> None:
        scheduled = self._scheduled
        if self._timer_cancelled_count > CANCELLED_TIMERS_MAX:
            live = []
            for timer in scheduled:
                if timer._cancelled:
                    timer._scheduled = False
                else:
                    live.append(timer)
            heapq.heapify(live)
            self._scheduled = live
            self._timer_cancelled_count = 0
            return
        while scheduled and scheduled[0]._cancelled:
            timer = heapq.heappop(scheduled)
            timer._scheduled = False
            self._timer_cancelled_count -= 1

    def _take_ready(self) -> list[asyncio.Handle]:
        ready = list(self._ready)
        self._ready.clear()
        if len(ready) > 1:
            places = [place for place, handle in enumerate(ready) if is_task_step(handle)]
            if len(places) > 1:
                steps = [ready[place] for place in places]
                self._random.shuffle(steps)
                for place, step in zip(places, steps, strict=True):
                    ready[place] = step
        return ready

    def end(self) -> None:
        """Cancel what is left, of killed processes too, and close: for tests that live on in this process."""
        for _ in range(3):
            tasks = [task for task in asyncio.all_tasks(self) if not task.done()]
            for task in tasks:
                if task.owner is not None:
                    task.owner.alive, task.owner.paused = True, False
                task.cancel()
            self._turns_at_now = 0
            self.call_later(60, lambda: None)
            self.run_until_complete(asyncio.sleep(30))
        for task in asyncio.all_tasks(self):
            # A kill took the step that would have woken it.
            task._log_destroy_pending = False
            with contextlib.suppress(RuntimeError):
                task.get_coro().close()
        self.tombs.clear()
        self.close()


class Process:
    """What one simulated operating-system process runs; see the module."""

    def __init__(self, loop: SimLoop, name: str) -> None:
        self.loop = loop
        self.name = name
        self.alive = True
        self.paused = False
        self._held: deque[asyncio.Handle] = deque()
        self._at_kill: list[Callable[[], None]] = []
        self.context = contextvars.copy_context()
        self.context.run(OWNER.set, self)

    def __repr__(self) -> str:
        return f"<Process {self.name}>"

    def admits(self, handle: asyncio.Handle) -> bool:
        """Whether `handle` may run now. One of a paused process is kept, one of a dead process is lost."""
        if not self.alive:
            return False
        if self.paused:
            self._held.append(handle)
            return False
        return True

    def spawn(self, coroutine: Coroutine[Any, Any, Any], *, name: str = "main") -> asyncio.Task[Any]:
        """Start `coroutine` as a task of this process."""
        return self.loop.create_task(coroutine, name=f"{self.name}: {name}", context=self.context.copy())

    def call_soon(self, callback: Callable[..., object], *args: Any) -> None:
        """Run `callback` in this process at the next turn that it is given."""
        self.loop.call_soon(callback, *args, context=self.context)

    def call_later(self, delay_s: float, callback: Callable[..., object], *args: Any) -> asyncio.TimerHandle:
        """Run `callback` in this process after `delay_s`."""
        return self.loop.call_later(delay_s, callback, *args, context=self.context)

    def at_kill(self, callback: Callable[[], None]) -> None:
        """Call `callback`, in the world, when the process is killed: peers see their connections end."""
        self._at_kill.append(callback)

    def pause(self) -> None:
        """SIGSTOP."""
        self.paused = True

    def resume(self) -> None:
        """SIGCONT: what was held runs in its order, before anything newer."""
        if not self.paused:
            return
        self.paused = False
        if self.alive:
            self.loop._ready.extendleft(reversed(self._held))
        self._held.clear()

    def kill(self) -> None:
        """SIGKILL: nothing of this process runs again, whatever it was in the middle of."""
        if not self.alive:
            return
        self.alive = False
        # Before the held handles go: some of these tasks are referred to by nothing else.
        self.loop.tombs.extend(task for task in asyncio.all_tasks(self.loop) if task.owner is self)
        self._held.clear()
        for callback in self._at_kill:
            self.loop.call_soon(callback, context=WORLD)


async def never() -> None:
    """Wait without end and without a timer: what a call of a dead process does."""
    await asyncio.get_running_loop().create_future()


def run_world(loop: SimLoop, main: Coroutine[Any, Any, Any]) -> Any:
    """Run `main` on `loop` to its end, without the cyclic collector: when it runs is not the seed's choice."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        return loop.run_until_complete(main)
    finally:
        if collecting:
            gc.enable()
