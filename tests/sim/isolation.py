"""Runs functions in children of this process: nothing is left behind, a hang or a crash costs one result.

Every seed gets a fresh child, forked after the imports. Killed brokers leave half-run coroutines behind that nobody may
finish: the child ends without looking at them.
"""

import os
import pickle
import resource
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

WALL_S_MAX = 600.0
_CHUNK_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Finished:
    """One call's result, or why there is none."""

    argument: Any
    result: Any
    error: str | None
    cpu_s: float


@dataclass(slots=True)
class _Child:
    pid: int
    reader: int
    argument: Any
    deadline: float
    data: bytearray


def run_all(
    function: Callable[[Any], Any], arguments: Iterable[Any], *, jobs: int, wall_s_max: float = WALL_S_MAX
) -> Iterator[Finished]:
    """`function(argument)` for each argument, `jobs` at a time, in the order in which they finish."""
    waiting = iter(arguments)
    children: dict[int, _Child] = {}
    try:
        while True:
            while len(children) < jobs:
                argument = next(waiting, None)
                if argument is None:
                    break
                child = _start(function, argument, wall_s_max)
                children[child.reader] = child
            if not children:
                return
            yield from _collect(children)
    finally:
        for child in children.values():
            os.kill(child.pid, signal.SIGKILL)
            _reap(child)


def _start(function: Callable[[Any], Any], argument: Any, wall_s_max: float) -> _Child:
    sys.stdout.flush()
    sys.stderr.flush()
    reader, writer = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writer)
        return _Child(pid, reader, argument, time.monotonic() + wall_s_max, bytearray())
    status = 1
    try:
        os.close(reader)
        before = _cpu_s()
        try:
            answer: tuple[Any, str | None] = (function(argument), None)
        except BaseException:  # noqa: BLE001 - whatever it is, the parent wants to know
            answer = (None, traceback.format_exc())
        view = memoryview(pickle.dumps((*answer, _cpu_s() - before)))
        while view:
            view = view[os.write(writer, view) :]
        status = 0
    finally:
        os._exit(status)


def _collect(children: dict[int, _Child]) -> Iterator[Finished]:
    ready, _, _ = select.select(list(children), [], [], 1.0)
    for reader in ready:
        child = children[reader]
        data = os.read(reader, _CHUNK_BYTES)
        if data:
            child.data += data
            continue
        del children[reader]
        status = _reap(child)
        if status == 0:
            result, error, cpu_s = pickle.loads(child.data)
            yield Finished(child.argument, result, error, cpu_s)
        else:
            yield Finished(child.argument, None, f"the child ended with status {status}", 0.0)
    now = time.monotonic()
    for child in list(children.values()):
        if now > child.deadline:
            os.kill(child.pid, signal.SIGKILL)
            del children[child.reader]
            _reap(child)
            yield Finished(child.argument, None, "no result in time: it hangs", 0.0)


def _reap(child: _Child) -> int:
    os.close(child.reader)
    return os.waitstatus_to_exitcode(os.waitpid(child.pid, 0)[1])


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
