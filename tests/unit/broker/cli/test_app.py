"""The command line as a whole."""

import json
import pathlib
import sys

import pytest

import automq
from automq import core
from automq.cli.app import run


def ended(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["automq", *arguments])
    with pytest.raises(SystemExit) as exit_:
        run()
    code = exit_.value.code
    assert isinstance(code, int)
    return code


def test_help_lists_every_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(monkeypatch, "--help") == 0

    shown = capsys.readouterr().out
    for command in ("up", "broker", "doctor", "erase", "dump", "topics", "groups", "balance", "produce", "consume"):
        assert command in shown


def test_version_is_shown(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(monkeypatch, "--version") == 0
    assert capsys.readouterr().out.strip() == f"{automq.__version__} ({core.description})"


@pytest.mark.parametrize(
    "arguments",
    [["nonsense"], ["broker"], ["doctor"], ["erase", "file:///x"], ["up", "--port", "many"], ["doctor", "ftp://x"]],
)
def test_wrong_usage_ends_with_2_and_a_last_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert ended(monkeypatch, *arguments) == 2

    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert json.loads(last)["reason"] == "InvalidSettings"


def test_view_of_a_broker_that_is_not_there_ends_with_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended(monkeypatch, "topics", "-b", "127.0.0.1:1") == 1
    assert "is a broker running there?" in capsys.readouterr().err


def test_balance_does_one_thing_at_a_time(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(monkeypatch, "balance", "-b", "127.0.0.1:1", "--pause", "--resume") == 1
    assert "exclude one another" in capsys.readouterr().err


def test_dump_of_a_foreign_file_ends_with_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended(monkeypatch, "dump", __file__) == 1
    assert "no object, log slot or snapshot" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    ["up", "broker", "doctor", "erase", "dump", "topics", "groups", "produce", "consume", "fsck", "repair"],
)
def test_every_command_explains_itself(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended(monkeypatch, command, "--help") == 0
    assert "Usage" in capsys.readouterr().out


def test_dump_of_a_store_lists_its_keys_and_shows_each(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path
) -> None:
    monkeypatch.setattr("automq.server.tools.commands.PAGE_KEYS", 2)
    folder = tmp_path / "store"
    keys = ["cluster", *(f"c/meta/claims/{number:020d}" for number in range(5)), "c/notes.txt~"]
    for key in keys:
        path = folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b'{"node": 1}')

    assert ended(monkeypatch, "dump", f"file://{folder}") == 0
    shown = capsys.readouterr().out.splitlines()
    assert [line.split()[-1] for line in shown] == sorted(keys)
    assert [line.split()[1] for line in shown] == ["claim"] * 5 + ["stranger", "cluster"]
    assert all(line.split()[0] == "11" for line in shown)

    assert ended(monkeypatch, "dump", f"file://{folder}", "cluster") == 0
    assert "checksum" in capsys.readouterr().out
