"""How a process ends: its last line, where that goes, and the end before anything has begun."""

import contextlib
import logging
import os
import pathlib
import sys
from types import FrameType
from typing import Final, NoReturn

from automq.runtime.output import OUTPUT
from automq.server.lifecycle.states import ExitCode, Reason, Refused, termination_message

log = logging.getLogger(__name__)

FLUSH_S: Final = 2.0
UNWRITABLE: Final = contextlib.suppress(OSError, ValueError)
"""A full disk, a closed pipe, a terminal that is gone: nobody reads us, and that is no reason to end."""


def stop_early(_signal: int, _frame: FrameType | None) -> None:
    """SIGTERM before the loop runs: nothing is open, so nothing needs an end."""
    raise SystemExit(int(ExitCode.STOPPED))


def abandon_unwritable_output(code: int) -> None:
    """What still waits in a stream that cannot be written is dropped: the interpreter would end with 120 for it."""
    if not OUTPUT.flush(FLUSH_S):
        # Whoever should read has stopped: the interpreter's own end would wait for it.
        os._exit(int(code))
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            with UNWRITABLE:
                nothing = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nothing, stream.fileno())
                os.close(nothing)


def end_refused(refused: Refused, *, path: str | None, people: bool = False) -> ExitCode:
    """Say why the process ends, and give its exit code."""
    write_last_line(refused.reason, refused.message, path=path, people=people)
    return refused.exit_code


def for_people(message: str) -> str:
    """An error as a person reads it."""
    return f"error: {' '.join(message.split())}"


def write_line(line: str) -> None:
    """To standard error, behind everything that was shown before."""
    OUTPUT.do(sys.stdout.flush)
    OUTPUT.do(lambda: _write_last(line))
    # Behind every log line; where nobody reads, nobody waits.
    OUTPUT.flush(FLUSH_S)


def _write_last(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def end_at_once(code: ExitCode) -> NoReturn:
    """End the process now, whatever of it still waits in the kernel."""
    abandon_unwritable_output(code)
    os._exit(int(code))


def write_last_line(reason: Reason | None, message: str, *, path: str | None, people: bool = False) -> None:
    """The last line of a failing process, to standard error and to the termination message's file.

    To standard error as a sentence where `people` read it. Where one of the two cannot be written, a full disk for
    instance, the other is, and the exit code stays.
    """
    line = termination_message(reason, message)
    write_line(for_people(message) if people else line)
    if path is None:
        return
    try:
        pathlib.Path(path).write_text(line + "\n")
    except OSError as error:
        log.warning("termination message not written", extra={"path": path, "why": error.strerror})
