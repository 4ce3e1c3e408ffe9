"""Log lines of a process: one line an event, a constant phrase with fields, to standard error, as text or as JSON."""

import enum
import json
import logging
import sys
import time
from typing import Final

from automq.runtime.output import OUTPUT

# What every LogRecord has; anything else came in through `extra` and is a field of the event.
_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class LogFormat(enum.Enum):
    """The values of `automq.log.format`."""

    TEXT = "text"
    JSON = "json"


class FieldFormatter(logging.Formatter):
    """`TIME LEVEL logger: phrase key=value ...`; a traceback follows on lines of its own. Times are UTC."""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        return f"{moment}.{int(record.msecs):03}Z"

    def format(self, record: logging.LogRecord) -> str:
        fields = "".join(f" {name}={_text(value)}" for name, value in _fields(record).items())
        line = f"{self.formatTime(record)} {record.levelname} {record.name}: {record.getMessage()}{fields}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


class JsonFormatter(FieldFormatter):
    """One object a line: time, level, logger, message, then the fields of the event; a traceback is a field."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, object] = {
            "time": self.formatTime(record),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        for name, value in _fields(record).items():
            # A field never hides what every line has.
            entry[f"{name}_" if name in entry else name] = value
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)


FORMATTERS: Final = {LogFormat.TEXT: FieldFormatter, LogFormat.JSON: JsonFormatter}


def level_of(name: str) -> int:
    """The level that `automq.log.level` names."""
    return logging.getLevelNamesMapping()[name.upper()]


def _fields(record: logging.LogRecord) -> dict[str, object]:
    return {name: value for name, value in vars(record).items() if name not in _STANDARD}


def _text(value: object) -> str:
    """A value that a reader can tell from the next field; what a client chose cannot begin a line of its own."""
    text = str(value)
    return text if text and text.isprintable() and not set(text) & {" ", '"', "'", "="} else repr(text)


class _StderrHandler(logging.Handler):
    """Writes to whatever standard error is then: a status line may stand in front of it."""

    def emit(self, record: logging.LogRecord) -> None:
        line = self.format(record) + "\n"
        OUTPUT.do(lambda: sys.stderr.write(line))


def log_to_stderr(level: int = logging.INFO, log_format: LogFormat = LogFormat.TEXT) -> None:
    """Send this process's log lines to standard error; libraries are heard from WARNING on."""
    handler = _StderrHandler()
    handler.setFormatter(FORMATTERS[log_format]())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("automq").setLevel(level)
