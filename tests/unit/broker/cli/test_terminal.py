"""What a person sees at a terminal, and a program elsewhere: with a real pseudo-terminal."""

import contextlib
import json
import os
import pathlib
import pty
import re
import select
import signal
import subprocess
import sys
import time

import pytest

WAIT_S = 60.0


class Terminal:
    """`automq` with all three streams on a pseudo-terminal."""

    def __init__(self, folder: pathlib.Path, *arguments: str) -> None:
        self._master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "automq", *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=folder,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "120", "LINES": "40"},
            start_new_session=True,
        )
        os.close(slave)
        self.raw = b""

    def read(self, until: str | None = None) -> str:
        """Everything shown until `until`, or until the process has ended."""
        deadline = time.monotonic() + WAIT_S
        while until is None or until not in self.text:
            assert time.monotonic() < deadline, self.text
            if not select.select([self._master], [], [], 0.2)[0]:
                if self.process.poll() is not None:
                    break
                continue
            try:
                data = os.read(self._master, 65536)
            except OSError:
                break
            if not data:
                break
            self.raw += data
        return self.text

    @property
    def text(self) -> str:
        """Without colours."""
        return re.sub(r"\x1b\[[0-9;?]*m", "", self.raw.decode(errors="replace"))

    @property
    def screen(self) -> list[str]:
        """What stands on the screen, scrolled lines included: enough of a terminal for what rich draws."""
        rows: list[list[str]] = [[]]
        row = column = 0
        for number, move, plain in re.findall(
            r"\x1b\[([0-9;?]*)([A-Za-z])|([^\x1b])", self.raw.decode(errors="replace")
        ):
            if plain == "\n":
                row += 1
                rows += [[] for _ in range(row + 1 - len(rows))]
            elif plain == "\r":
                column = 0
            elif plain:
                rows[row] += [" "] * (column + 1 - len(rows[row]))
                rows[row][column] = plain
                column += 1
            elif move == "A":
                row = max(0, row - int(number or 1))
            elif move == "K":
                rows[row] = [] if number == "2" else rows[row][:column]
        return [line for line in ("".join(cells).rstrip() for cells in rows) if line]

    def end(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.read()
                self.process.wait(WAIT_S)
            self.process.kill()
        code = self.process.wait()
        os.close(self._master)
        return code


def test_up_shows_each_state_once_on_a_line_of_its_own(tmp_path: pathlib.Path) -> None:
    terminal = Terminal(tmp_path, "up", "--port", "0", "--data-dir", str(tmp_path / "data"))
    terminal.read("bootstrap:")
    # The live line has been drawn at least once.
    terminal.read("PUTs")
    code = terminal.end()
    lines = terminal.screen

    assert code == 0
    assert sum("examining" in line for line in lines) == 1, lines
    starting = [line for line in lines if line.startswith("Starting:")]
    assert len(starting) == len(set(starting)), lines
    assert not [line for line in lines if line.count("Starting:") + line.count("Recovering:") > 1], lines
    assert sum(line.startswith("bootstrap: ") for line in lines) == 1
    assert sum(line.startswith("Draining:") for line in lines) == 1, lines
    assert not [line for line in lines if "PUTs" in line], "the live line is gone at the end"


def test_person_reads_a_sentence_and_not_json(tmp_path: pathlib.Path) -> None:
    for arguments in (
        ["up", "--set", "no.such=1"],
        ["dump", "absent"],
        ["doctor", "ftp://x"],
        ["topics", "-b", "127.0.0.1:1"],
        ["up", "--bind", "192.0.2.1", "--port", "9092", "--data-dir", str(tmp_path / "d")],
    ):
        terminal = Terminal(tmp_path, *arguments)
        shown = terminal.read()
        assert terminal.end() != 0
        assert "error: " in shown, shown
        assert '{"reason"' not in shown, shown


def test_usage_error_is_shown_once_with_the_usage(tmp_path: pathlib.Path) -> None:
    terminal = Terminal(tmp_path, "up", "--port", "many")
    shown = terminal.read()

    assert terminal.end() == 2
    assert shown.count("valid integer") == 1, shown
    assert "Usage:" in shown
    assert "{" not in shown


def test_broker_ends_with_json_on_a_terminal_too(tmp_path: pathlib.Path) -> None:
    terminal = Terminal(tmp_path, "broker", "--config", str(tmp_path / "absent"))
    last = terminal.read().strip().splitlines()[-1]

    assert terminal.end() == 2
    assert json.loads(last)["reason"] == "InvalidSettings"


def automq(folder: pathlib.Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "automq", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("arguments", [["nonsense"], ["up", "--port", "many"], ["doctor"], ["topics", "create"]])
def test_program_reads_one_line_of_json(tmp_path: pathlib.Path, arguments: list[str]) -> None:
    ended = automq(tmp_path, *arguments)

    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert json.loads(line)["reason"] == "InvalidSettings"
    assert "Usage" not in json.loads(line)["message"]


def test_alone_it_shows_its_help_once(tmp_path: pathlib.Path) -> None:
    ended = automq(tmp_path)

    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.count("Usage:") == 1
    assert "..." not in ended.stdout.split("Commands:")[1], "no text is cut"


def test_address_that_cannot_be_bound_is_named_with_what_it_is_for(tmp_path: pathlib.Path) -> None:
    """Of documentation's own network: no machine has it."""
    ended = automq(tmp_path, "up", "--bind", "192.0.2.1", "--port", "41109", "--data-dir", str(tmp_path / "data"))

    message = json.loads(ended.stderr.splitlines()[-1])["message"]
    assert "192.0.2.1:41109" in message
    assert message.startswith("listener PLAINTEXT: ")
    assert ":0" not in message
