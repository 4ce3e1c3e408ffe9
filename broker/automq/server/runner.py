"""One broker as this process: event loop, signals, the last line, the exit code."""

import asyncio
import gc
import logging
import signal
from collections.abc import Callable

from automq.runtime.allocator import configure_allocator
from automq.s3stream.store.uri import load_adapter, parse_store_uri
from automq.server.broker import Broker
from automq.server.last_line import end_at_once, end_refused, write_last_line
from automq.server.lifecycle import ExitCode, Refused, State
from automq.server.platform import Platform, system_platform
from automq.server.settings import Settings

log = logging.getLogger(__name__)

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
        runner.run(_run(settings, platform or system_platform(), observe, on_stuck=stuck.append))
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
    platform: Platform,
    observe: Callable[[Broker], None] | None,
    *,
    on_stuck: Callable[[Broker], None],
) -> None:
    broker = Broker(settings, platform)
    broker.metrics.watch_process()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, broker.stop)
    broker.lifecycle.subscribe(lambda: _freeze_once_started(broker))
    if observe is not None:
        observe(broker)
    try:
        await broker.run()
    finally:
        if broker.is_stuck:
            on_stuck(broker)


def _freeze_once_started(broker: Broker) -> None:
    """Once, when serving begins: so does what the start has made."""
    if broker.lifecycle.state is State.SERVING and gc.get_threshold() != GC_THRESHOLDS:
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
