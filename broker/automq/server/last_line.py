"""How a process ends: its last line, where that goes, and the end before anything has begun."""

import logging
import pathlib
import sys
from types import FrameType

from automq.server.lifecycle import ExitCode, Reason, Refused, termination_message

log = logging.getLogger(__name__)


def stop_early(_signal: int, _frame: FrameType | None) -> None:
    """SIGTERM before the loop runs: nothing is open, so nothing needs an end."""
    raise SystemExit(int(ExitCode.STOPPED))


def end_refused(refused: Refused, *, path: str | None) -> ExitCode:
    """Say why the process ends, and give its exit code."""
    say_last_line(refused.reason, refused.message, path=path)
    return refused.exit_code


def say_last_line(reason: Reason | None, message: str, *, path: str | None) -> None:
    """The last line of a failing process, to standard error and to the termination message's file."""
    line = termination_message(reason, message)
    sys.stdout.flush()
    sys.stderr.write(line + "\n")
    sys.stderr.flush()
    if path is None:
        return
    try:
        pathlib.Path(path).write_text(line + "\n")
    except OSError as error:
        log.warning("termination message not written", extra={"path": path, "why": error.strerror})
