"""One broker as this process: event loop, signals, the last line, the exit code."""

import asyncio
import gc
import logging
import signal
from collections.abc import Callable
from typing import Final

from automq.runtime.allocator import configure_allocator
from automq.runtime.backoff import Backoff
from automq.s3stream.store.uri import load_adapter, parse_store_uri
from automq.server.after_fence import Former, MayRejoin
from automq.server.broker import Broker
from automq.server.config.settings import Settings
from automq.server.lifecycle.last_line import end_at_once, end_refused, write_last_line
from automq.server.lifecycle.states import ExitCode, Reason, Refused, State
from automq.server.platform import Platform, system_platform

log = logging.getLogger(__name__)

# Between the fence of one incarnation and the start of the next; one that served for so long begins anew.
REJOIN_FIRST_S: Final = 1.0
REJOIN_MAX_S: Final = 30.0
SERVED_WELL_S: Final = 60.0

# After start nearly everything alive is there to stay; a full collection of it would stop the loop for tens of
# milliseconds, and records are never part of cycles.
GC_THRESHOLDS = (50_000, 20, 100)


def run_process(
    settings: Settings,
    *,
    observe: Callable[[Broker], None] | None = None,
    platform: Platform | None = None,
    people: bool = False,
) -> ExitCode:
    """Run a broker until it is told to stop, or must end; says why on the last line. `observe` sees it first.

    With `people` the last line is a sentence, not JSON.
    """
    for warning in settings.warnings:
        log.warning("setting ignored", extra={"why": warning})
    path = settings.server.termination_message_path
    if platform is None:
        load_adapter(parse_store_uri(settings.cluster.storage_uri))
    configure_allocator()
    # Most of what is ever alive is what was imported: looked at once, while no client waits.
    _freeze_heap()
    runner = asyncio.Runner(loop_factory=_loop_factory())
    code = ExitCode.STOPPED
    stuck: list[Broker] = []
    try:
        make = system_platform if platform is None else lambda: platform
        runner.run(_run(settings, make, observe, on_stuck=stuck.append))
    except Refused as refused:
        code = end_refused(refused, path=path, people=people)
    except SystemExit:
        raise
    except BaseException as error:
        log.critical("the broker ends because of a bug", exc_info=error)
        what = f"a bug ended the broker: {type(error).__name__}: {error}"
        write_last_line(None, what, path=path, people=people)
        code = ExitCode.BUG
    if stuck:
        # Closing the loop would wait for what cannot be interrupted.
        end_at_once(code)
    runner.close()
    return code


async def _run(
    settings: Settings,
    make_platform: Callable[[], Platform],
    observe: Callable[[Broker], None] | None,
    *,
    on_stuck: Callable[[Broker], None],
) -> None:
    """One broker after the other: each drops everything at its fence, and the next one is another incarnation."""
    turns = _Turns()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, turns.stop)
    backoff: Backoff | None = None
    former: Former | None = None
    while True:
        platform = make_platform()
        backoff = backoff or Backoff(entropy=platform.entropy, first_s=REJOIN_FIRST_S, max_s=REJOIN_MAX_S)
        began = platform.clock.monotonic()
        rejoin = await _run_one(turns, settings, platform, observe, former, on_stuck=on_stuck)
        if rejoin is None:
            return
        former = rejoin.former
        if platform.clock.monotonic() - began > SERVED_WELL_S:
            backoff.reset()
        pause_s = backoff.next_s()
        log.warning("the broker begins anew", extra={"why": str(rejoin), "pause_s": round(pause_s, 3)})
        # What is alive by now was never looked at by the collector.
        gc.unfreeze()
        if await turns.is_stopped_within(pause_s):
            return
        _freeze_heap()


async def _run_one(
    turns: "_Turns",
    settings: Settings,
    platform: Platform,
    observe: Callable[[Broker], None] | None,
    former: Former | None,
    *,
    on_stuck: Callable[[Broker], None],
) -> MayRejoin | None:
    """One broker, to its end; that another one may follow, or None. Raises what `Broker.run` raises."""
    broker = turns.broker = Broker(settings, platform, former)
    broker.metrics.watch_process()
    broker.lifecycle.subscribe(_FreezeOnce(broker))
    if observe is not None:
        observe(broker)
    if turns.stop_asked.is_set():
        broker.stop()
    try:
        await broker.run()
    except MayRejoin as rejoin:
        if broker.is_stuck:
            # What hangs may still write: only the end of the process is the end of that.
            raise Refused(Reason.FENCED, f"{rejoin}; the store hangs, restart this one if it is to go on") from rejoin
        return rejoin
    finally:
        turns.broker = None
        if broker.is_stuck:
            on_stuck(broker)
    return None


class _Turns:
    """Whose turn it is in this process, and whether there are to be more."""

    def __init__(self) -> None:
        self.broker: Broker | None = None
        self.stop_asked = asyncio.Event()

    def stop(self) -> None:
        """The process was told to stop."""
        self.stop_asked.set()
        if self.broker is not None:
            self.broker.stop()

    async def is_stopped_within(self, pause_s: float) -> bool:
        """Wait so long, or until the process is told to stop."""
        try:
            async with asyncio.timeout(pause_s):
                await self.stop_asked.wait()
        except TimeoutError:
            return False
        return True


class _FreezeOnce:
    """When serving begins, what the start has made is there to stay; once for each broker."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._is_done = False

    def __call__(self) -> None:
        if self._broker.lifecycle.state is State.SERVING and not self._is_done:
            self._is_done = True
            _freeze_heap()
            gc.set_threshold(*GC_THRESHOLDS)


def _freeze_heap() -> None:
    """What is alive now is no longer looked at by the collector."""
    gc.collect()
    gc.freeze()


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """uvloop where it is installed: it writes gathered buffers without joining them."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop
