"""Whoever shows something does not wait for whoever should read it."""

import threading
import time
from collections.abc import Iterator

import pytest

from automq.runtime.output import PENDING_MAX, Output


class Stopped:
    """A terminal that is stopped."""

    def __init__(self) -> None:
        self.goes_on = threading.Event()
        self.lines: list[str] = []

    def write(self, line: str) -> None:
        self.goes_on.wait(30)
        self.lines.append(line)


@pytest.fixture
def terminal() -> Iterator[Stopped]:
    made = Stopped()
    yield made
    made.goes_on.set()


def test_writes_are_done_in_order_and_nobody_waits_for_them(terminal: Stopped) -> None:
    output, began = Output(), time.monotonic()
    for number in range(10):
        output.do(lambda number=number: terminal.write(str(number)))  # type: ignore[misc]
    assert time.monotonic() - began < 25, "less than a write waits"
    assert not output.flush(0.05)

    terminal.goes_on.set()

    assert output.flush(30)
    assert terminal.lines == [str(number) for number in range(10)]


def test_what_nobody_reads_is_dropped_and_counted(terminal: Stopped) -> None:
    output = Output()
    for _ in range(PENDING_MAX + 7):
        output.do(lambda: terminal.write("x"))

    terminal.goes_on.set()

    assert output.flush(30)
    assert (len(terminal.lines), output.dropped) == (PENDING_MAX, 7)


@pytest.mark.parametrize("error", [OSError("full"), ValueError("closed")])
def test_stream_that_cannot_be_written_ends_nothing(terminal: Stopped, error: Exception) -> None:
    output = Output()

    def fail() -> None:
        raise error

    output.do(fail)
    terminal.goes_on.set()
    output.do(lambda: terminal.write("next"))

    assert output.flush(30)
    assert terminal.lines == ["next"]
