"""How a broker's process ends."""

import gc
import json
import pathlib
from collections.abc import Iterator

import pytest

from automq.runtime.clock import SystemClock
from automq.runtime.entropy import SystemEntropy
from automq.runtime.workers import InlineWorkers
from automq.s3stream.store.memory import MemoryStore
from automq.server.broker import Broker
from automq.server.lifecycle import State
from automq.server.platform import Platform
from automq.server.runner import run_process
from tests.support.quiet_platform import QuietNetwork, quiet_settings


@pytest.fixture(autouse=True)
def collector() -> Iterator[None]:
    """A process tunes its collector when it serves; this one goes on."""
    thresholds = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*thresholds)


def platform(store: MemoryStore) -> Platform:
    return Platform(
        clock=SystemClock(),
        entropy=SystemEntropy(),
        workers=InlineWorkers(),
        network=QuietNetwork(),
        open_store=lambda _settings, _metrics: store,
    )


def stop_when_serving(broker: Broker) -> None:
    broker.lifecycle.subscribe(lambda: broker.stop() if broker.lifecycle.state is State.SERVING else None)


def crash_when_serving(broker: Broker) -> None:
    def crash() -> None:
        if broker.lifecycle.state is State.SERVING:
            raise ZeroDivisionError("a bug")

    broker.every(0.01, crash)


def test_stopped_process_ends_with_0_and_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_process(quiet_settings(), observe=stop_when_serving, platform=platform(MemoryStore())) == 0
    assert capsys.readouterr().err == ""


def test_bug_ends_with_1_and_a_last_line(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "termination-message"
    settings = quiet_settings(automq__termination__message__path=str(path))

    assert run_process(settings, observe=crash_when_serving, platform=platform(MemoryStore())) == 1

    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert json.loads(last) == {"reason": None, "message": "a bug ended the broker: ZeroDivisionError: a bug"}
    assert path.read_text() == last + "\n"


def test_refusal_ends_with_its_code_and_reason(capsys: pytest.CaptureFixture[str]) -> None:
    settings = quiet_settings(automq__cluster__id="A" * 22)

    assert run_process(settings, platform=platform(MemoryStore())) == 3

    last = json.loads(capsys.readouterr().err.strip().splitlines()[-1])
    assert last["reason"] == "StoreClusterMissing"


def test_termination_message_that_cannot_be_written_changes_nothing(tmp_path: pathlib.Path) -> None:
    settings = quiet_settings(
        automq__cluster__id="A" * 22, automq__termination__message__path=str(tmp_path / "none/message")
    )

    assert run_process(settings, platform=platform(MemoryStore())) == 3
