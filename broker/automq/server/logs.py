"""Log lines of a process: one line an event, a constant phrase with fields, to standard error."""

import logging
import sys
from typing import Final

from automq.runtime.output import OUTPUT

# What every LogRecord has; anything else came in through `extra` and is a field of the event.
_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class FieldFormatter(logging.Formatter):
    """`TIME LEVEL logger: phrase key=value ...`; a traceback follows on lines of its own."""

    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03d"

    def format(self, record: logging.LogRecord) -> str:
        fields = "".join(f" {name}={_shown(value)}" for name, value in vars(record).items() if name not in _STANDARD)
        line = f"{self.formatTime(record)} {record.levelname} {record.name}: {record.getMessage()}{fields}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


def _shown(value: object) -> str:
    text = str(value)
    return repr(text) if " " in text or "\n" in text or not text else text


class _StderrHandler(logging.Handler):
    """Writes to whatever standard error is then: a status line may stand in front of it."""

    def emit(self, record: logging.LogRecord) -> None:
        line = self.format(record) + "\n"
        OUTPUT.do(lambda: sys.stderr.write(line))


def log_to_stderr(level: int = logging.INFO) -> None:
    """Send this process's log lines to standard error; libraries speak from WARNING on."""
    handler = _StderrHandler()
    handler.setFormatter(FieldFormatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("automq").setLevel(level)
