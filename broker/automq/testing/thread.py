"""A broker in a thread of this process, its data in memory: starts faster, and cannot be killed."""

import asyncio
import dataclasses
import threading
from collections.abc import Mapping
from typing import Final

from automq.s3stream.store.memory import MemoryStore
from automq.server.broker import Broker
from automq.server.config.settings import load_settings
from automq.server.lifecycle.states import Refused, State
from automq.server.platform import system_platform
from automq.testing.errors import BrokerDidNotStart

START_S: Final = 60.0
STOP_S: Final = 30.0
FIRST: Final[Mapping[str, str]] = {
    "node.id": "1",
    "automq.storage.uri": "memory:",
    "automq.wal.interval.ms": "1",
    "offsets.topic.replication.factor": "1",
    "listeners": "PLAINTEXT://127.0.0.1:0",
    "advertised.listeners": "PLAINTEXT://127.0.0.1:0",
}


class ThreadHost:
    """One store in memory; started and ended as often as a test wants."""

    def __init__(self, settings: Mapping[str, str]) -> None:
        self._texts = {**FIRST, **settings}
        self._store = MemoryStore()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._broker: Broker | None = None
        self._is_decided = threading.Event()
        self._error: BaseException | None = None
        self._bootstrap: str | None = None

    def start(self) -> str:
        """Wait until it serves."""
        self._is_decided.clear()
        self._error = None
        self._thread = threading.Thread(target=self._run, name="automq-test-broker", daemon=True)
        self._thread.start()
        if not self._is_decided.wait(START_S):
            raise BrokerDidNotStart(f"the broker does not serve after {START_S:.0f} s")
        if self._error is not None:
            raise BrokerDidNotStart(f"the broker ended: {self._error}") from self._error
        assert self._bootstrap is not None
        # The next start is to be found where this one was.
        self._texts |= dict.fromkeys(("listeners", "advertised.listeners"), f"PLAINTEXT://{self._bootstrap}")
        return self._bootstrap

    def stop(self) -> None:
        """As SIGTERM does."""
        thread, loop, broker = self._thread, self._loop, self._broker
        if thread is None or loop is None or broker is None or not thread.is_alive():
            return
        loop.call_soon_threadsafe(broker.stop)
        thread.join(STOP_S)

    def kill(self) -> None:
        """Threads cannot be killed."""
        raise NotImplementedError("a broker in a thread cannot be killed; start it with in_process=False")

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except (Exception, SystemExit) as error:  # noqa: BLE001 - told to the thread that waits
            self._error = error
        finally:
            self._is_decided.set()

    async def _serve(self) -> None:
        flags = [f"{key}={text}" for key, text in self._texts.items()]
        settings = load_settings(flags=flags, environment={})
        platform = dataclasses.replace(system_platform(), open_store=lambda _settings, _metrics: self._store)
        self._loop = asyncio.get_running_loop()
        self._broker = broker = Broker(settings, platform)

        def on_change() -> None:
            if broker.lifecycle.state is State.SERVING and not self._is_decided.is_set():
                self._bootstrap = str(broker.bootstrap_address)
                self._is_decided.set()

        broker.lifecycle.subscribe(on_change)
        try:
            await broker.run()
        except Refused as refused:
            raise BrokerDidNotStart(refused.message) from refused
