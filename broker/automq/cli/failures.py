"""How a command fails: in a sentence for whoever sits at a terminal, in one line of JSON for everything else."""

import sys
from typing import Final

from automq.server.lifecycle.last_line import for_people, write_line
from automq.server.lifecycle.states import ExitCode, error_line

FAILED: Final = "CommandFailed"
"""The reason of what is none of a broker's: a name that does not exist, a Kafka that cannot be asked."""


class CommandFailed(Exception):
    """What was asked for cannot be done; the message names it and the remedy."""

    def __init__(self, message: str, *, code: ExitCode = ExitCode.BUG) -> None:
        super().__init__(message)
        self.code = code


def is_for_people(arguments: list[str]) -> bool:
    """Whether a person reads the error. `automq broker` is run by supervisors, who read JSON wherever they look."""
    return sys.stderr.isatty() and arguments[:1] != ["broker"]


def show_failure(reason: str, message: str, *, people: bool) -> None:
    """The last line of a command that failed."""
    write_line(for_people(message) if people else error_line(reason, message))
