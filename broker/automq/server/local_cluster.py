"""Several brokers on a laptop: one process each, one folder, one store; this process starts them and waits."""

import asyncio
import contextlib
import os
import pathlib
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from automq.runtime.tasks import Tasks
from automq.server.lifecycle.states import ExitCode
from automq.server.local import LocalOptions, bracketed

BROKER_MEMORY_BYTES: Final = 256 * 1024 * 1024
"""Of each, unless somebody says otherwise: they share the laptop."""
BOOTSTRAP: Final = "bootstrap: "


def broker_arguments(options: LocalOptions, brokers: int) -> Sequence[Sequence[str]]:
    """What each broker's `automq up` is told; ports follow one another."""
    store = options.store or f"file://{options.data_folder.absolute()}/store"
    given = {flag.partition("=")[0].strip() for flag in options.flags}
    found: list[Sequence[str]] = []
    for number in range(brokers):
        flags = [*options.flags, f"node.id={number + 1}"]
        if "automq.memory.bytes" not in given:
            flags.append(f"automq.memory.bytes={BROKER_MEMORY_BYTES}")
        if "automq.http.address" not in given and (number or not options.port):
            # They begin at once: only one of them would get the usual port.
            flags.append(f"automq.http.address={bracketed(options.bind)}:0")
        arguments = ["up", "--store", store, "--bind", options.bind, "--wal", options.wal]
        arguments += ["--port", str(options.port + number if options.port else 0)]
        if options.advertised is not None:
            arguments += ["--advertised", options.advertised]
        found.append([*arguments, *(part for flag in flags for part in ("--set", flag))])
    return found


@dataclass(slots=True)
class _Broker:
    """One of the processes."""

    number: int
    process: Process
    log: pathlib.Path
    address: str | None = None


async def run_local_cluster(
    arguments: Sequence[Sequence[str]], *, folder: pathlib.Path, write: Callable[[str], None]
) -> int:
    """Run them until told to stop, or until all have ended; the first exit code that is not 0.

    `write` is given a line with all addresses once every broker serves, and one for each broker that ends by itself.
    """
    crashes: list[BaseException] = []
    tasks = Tasks("local cluster", on_crash=lambda _name, error: crashes.append(error))
    stop_requested = asyncio.Event()
    loop = asyncio.get_running_loop()
    for ending in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(ending, stop_requested.set)
    brokers: list[_Broker] = []
    try:
        for number, command in enumerate(arguments, start=1):
            brokers.append(await _start(number, command, folder))
        watching = [
            tasks.spawn(_watch(broker, brokers, stop_requested, write), name=f"broker {broker.number}")
            for broker in brokers
        ]
        stopping = tasks.spawn(stop_requested.wait(), name="wait to be stopped")
        all_ended = tasks.spawn(_all_of(watching), name="wait for all")
        await asyncio.wait({stopping, all_ended}, return_when=asyncio.FIRST_COMPLETED)
        stop_requested.set()
        _send(brokers, signal.SIGTERM)
        await all_ended
    finally:
        _send(brokers, signal.SIGKILL)
        await tasks.close()
    if crashes:
        raise crashes[0]
    codes = [broker.process.returncode or 0 for broker in brokers]
    return next((code if code > 0 else int(ExitCode.BUG) for code in codes if code), int(ExitCode.STOPPED))


async def _start(number: int, command: Sequence[str], folder: pathlib.Path) -> _Broker:
    log = folder / f"broker-{number}.log"
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    try:
        # A session of its own: Ctrl-C at the terminal is for this process, which stops them in order.
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "automq", *command),
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=descriptor,
            start_new_session=True,
        )
    finally:
        os.close(descriptor)
    return _Broker(number, process, log)


async def _watch(
    broker: _Broker, brokers: Sequence[_Broker], stop_requested: asyncio.Event, write: Callable[[str], None]
) -> None:
    """Until it has ended."""
    assert broker.process.stdout is not None
    async for line in broker.process.stdout:
        text = line.decode(errors="replace").strip()
        if text.startswith(BOOTSTRAP):
            broker.address = text.removeprefix(BOOTSTRAP)
            addresses = [other.address for other in brokers if other.address is not None]
            if len(addresses) == len(brokers):
                write(f"{BOOTSTRAP}{','.join(addresses)}")
    code = await broker.process.wait()
    if not stop_requested.is_set():
        write(f"broker {broker.number} ended with {code}; its log is {broker.log}")


async def _all_of(watching: Sequence["asyncio.Task[None]"]) -> None:
    await asyncio.wait(watching)


def _send(brokers: Sequence[_Broker], number: signal.Signals) -> None:
    for broker in brokers:
        if broker.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                broker.process.send_signal(number)
