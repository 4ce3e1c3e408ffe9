"""How a broker's process ends."""

import asyncio
import dataclasses
import gc
import json
import os
import pathlib
import signal
from collections.abc import Iterator

import pytest

from automq.runtime.clock import SystemClock
from automq.runtime.entropy import SystemEntropy
from automq.runtime.workers import InlineWorkers
from automq.s3stream.store.memory import MemoryStore
from automq.server import runner
from automq.server.after_fence import Former, MayRejoin
from automq.server.broker import Broker
from automq.server.lifecycle.states import ExitCode, State
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


@dataclasses.dataclass
class Life:
    """Brokers that are fenced when they serve, so many of them; the next one is stopped when it serves."""

    fences: int
    brokers: list[Broker] = dataclasses.field(default_factory=list)

    def watch(self, broker: Broker) -> None:
        self.brokers.append(broker)
        broker.lifecycle.subscribe(lambda: self._on_state(broker, len(self.brokers)))

    def _on_state(self, broker: Broker, number: int) -> None:
        if broker.lifecycle.state is not State.SERVING:
            return
        if number > self.fences:
            broker.stop()
        else:
            parts = broker._components
            assert parts is not None
            assert parts.epoch is not None
            former = Former(epoch=parts.epoch, held_epoch=parts.roles.held_epoch)
            broker._end(MayRejoin("it was silent for too long", former))


def test_fenced_incarnation_is_followed_by_another_one_in_the_same_process(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(runner, "REJOIN_FIRST_S", 0.01)
    life = Life(fences=2)
    assert run_process(quiet_settings(), observe=life.watch, platform=platform(MemoryStore())) == 0
    assert len(life.brokers) == 3
    epochs = [broker._components.epoch for broker in life.brokers if broker._components is not None]
    assert epochs == sorted(set(epochs))
    assert len(epochs) == 3
    assert capsys.readouterr().err == ""


def test_fenced_process_that_is_told_to_stop_begins_nothing_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    # It would wait for an hour otherwise.
    monkeypatch.setattr(runner, "REJOIN_FIRST_S", 3600.0)
    monkeypatch.setattr(runner, "REJOIN_MAX_S", 3600.0)
    life = Life(fences=1)

    def watch(broker: Broker) -> None:
        life.watch(broker)
        end = broker._end

        def end_and_be_told(ending: object) -> None:
            end(ending)  # type: ignore[arg-type]
            asyncio.get_running_loop().call_later(0.2, os.kill, os.getpid(), signal.SIGTERM)

        broker._end = end_and_be_told  # type: ignore[method-assign]

    assert run_process(quiet_settings(), observe=watch, platform=platform(MemoryStore())) == 0
    assert len(life.brokers) == 1


def test_broker_whose_store_hangs_at_its_fence_begins_nothing_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[int] = []
    monkeypatch.setattr(runner, "end_at_once", ended.append)
    life = Life(fences=1)

    def watch(broker: Broker) -> None:
        life.watch(broker)
        broker.is_stuck = True

    assert run_process(quiet_settings(), observe=watch, platform=platform(MemoryStore())) == ExitCode.FENCED
    assert len(life.brokers) == 1
    assert ended == [ExitCode.FENCED]
