"""A file system that hangs, as one that is frozen or a file server that is away: nobody else waits."""

import asyncio
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from automq.controller.model import TopicSpec
from automq.runtime.clock import SystemClock
from automq.runtime.entropy import SystemEntropy
from automq.runtime.workers import ThreadWorkers
from automq.s3stream.store import folder
from automq.s3stream.store.file import FileStore
from automq.s3stream.store.os_calls import OsCalls
from automq.server import broker as broker_module
from automq.server.broker import Broker
from automq.server.lifecycle.states import State
from automq.server.platform import Platform
from tests.support.batches import build_batch
from tests.support.process import free_port
from tests.support.quiet_platform import QuietNetwork, quiet_settings

TURNS = 100


class FreezableOs(OsCalls):
    """Every call waits in its thread while the file system is frozen."""

    def __init__(self) -> None:
        self.thawed = threading.Event()
        self.thawed.set()
        self.hanging: set[int] = set()
        """Threads that came while it was frozen."""

    def _wait(self) -> None:
        if not self.thawed.is_set():
            self.hanging.add(threading.get_ident())
        self.thawed.wait(60)

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name.startswith("_") or not callable(found):
            return found

        def call(*arguments: Any, **options: Any) -> Any:
            self._wait()
            return found(*arguments, **options)

        return call


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> FreezableOs:
    calls = FreezableOs()
    read = folder._read_if_unchanged

    def frozen_read(path: str, start: int, end: int | None) -> bytes | None:
        calls._wait()
        return read(path, start, end)

    monkeypatch.setattr(folder, "_read_if_unchanged", frozen_read)
    return calls


@pytest.fixture
async def serving(tmp_path: pathlib.Path, calls: FreezableOs) -> AsyncIterator[Broker]:
    store_workers = ThreadWorkers(name="store")
    store = FileStore(f"{tmp_path}/store", workers=store_workers, entropy=SystemEntropy(), calls=calls)
    platform = Platform(
        clock=SystemClock(),
        entropy=SystemEntropy(),
        workers=ThreadWorkers(),
        store_workers=store_workers,
        network=QuietNetwork(),
        open_store=lambda _settings, _metrics: store,
    )
    broker = Broker(quiet_settings(automq__shutdown__timeout__ms="200"), platform)
    running = asyncio.ensure_future(broker.run())
    while broker.lifecycle.state is not State.SERVING:
        await asyncio.sleep(0.01)
    yield broker
    broker.stop()
    calls.thawed.set()
    await asyncio.wait({running})


async def test_event_loop_goes_on_while_the_disk_is_frozen(serving: Broker, calls: FreezableOs) -> None:
    parts = serving._components
    assert parts is not None
    assert parts.storage is not None
    assert parts.partitions is not None
    await parts.controller.create_topics([TopicSpec(name="t", partitions=1)])
    partition = parts.partitions.get("t", 0)
    durable: list[Exception | None] = []
    calls.thawed.clear()

    for _ in range(20):
        batch = memoryview(bytearray(build_batch([b"v"], timestamp_ms=0)))
        parts.storage.append.when_durable(partition.append(batch).position, durable.append)
    while not calls.hanging:
        await asyncio.sleep(0.005)
    for _ in range(TURNS):
        await asyncio.sleep(0.005)

    assert threading.get_ident() not in calls.hanging
    assert durable == []
    # What asks no disk is done meanwhile, by other threads too.
    assert await asyncio.wait_for(serving._platform.workers.run(sum, [1, 2]), 30) == 3
    calls.thawed.set()
    async with asyncio.timeout(60):
        while len(durable) < 20:
            await asyncio.sleep(0.01)
    assert durable == [None] * 20


async def test_broker_ends_though_the_disk_is_frozen(
    serving: Broker, calls: FreezableOs, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(broker_module, "CLOSE_S", 0.3)
    parts = serving._components
    assert parts is not None
    assert parts.partitions is not None
    await parts.controller.create_topics([TopicSpec(name="t", partitions=1)])
    calls.thawed.clear()
    parts.partitions.get("t", 0).append(memoryview(bytearray(build_batch([b"v"], timestamp_ms=0))))
    while not calls.hanging:
        await asyncio.sleep(0.005)

    serving.stop()
    async with asyncio.timeout(60):
        while not serving.is_stuck:
            await asyncio.sleep(0.01)

    assert "the store hangs" in caplog.text


def test_process_ends_with_its_code_though_a_read_hangs_in_the_kernel(tmp_path: pathlib.Path) -> None:
    """The next slot of the metadata log, which is polled, is a FIFO that nobody writes to: opening it never returns."""
    process = subprocess.Popen(
        [sys.executable, "-m", "automq", "up", "--data-dir", str(tmp_path / "data"), "--port", "0"]
        + ["--set", f"automq.http.address=127.0.0.1:{free_port()}", "--set", "automq.shutdown.timeout.ms=500"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert any(line.startswith("bootstrap:") for line in process.stdout)
        (slots,) = (tmp_path / "data/store").glob("*/meta/log/*/")
        newest = max(path.name for path in slots.iterdir())
        os.mkfifo(slots / f"{int(newest) + 1:0{len(newest)}d}")
        time.sleep(3)

        process.send_signal(signal.SIGTERM)

        assert process.wait(90) == 0
    finally:
        process.kill()
        process.communicate()
