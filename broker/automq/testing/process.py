"""A broker in a process of its own: `automq up` on a free port."""

import contextlib
import os
import pathlib
import selectors
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from typing import IO, Final

from automq.runtime.clock import SystemClock
from automq.testing.errors import BrokerDidNotStart

START_S: Final = 60.0
STOP_S: Final = 30.0
READY: Final = b"bootstrap: "
NO_BYTECODE: Final = "PYTHONDONTWRITEBYTECODE"


class ProcessHost:
    """One folder, one port; started and ended as often as a test wants."""

    def __init__(
        self, settings: Mapping[str, str], folder: pathlib.Path, *, bytecode_folder: pathlib.Path | None = None
    ) -> None:
        self._settings = settings
        self._folder = folder
        self._environment = environment_of(os.environ, bytecode_folder)
        self._port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._clock = SystemClock()

    def start(self) -> str:
        """Wait until it serves."""
        log = self._folder / "broker.log"
        sets = [word for key, text in self._settings.items() for word in ("--set", f"{key}={text}")]
        command = [sys.executable, "-m", "automq", "up", "--data-dir", str(self._folder / "data")]
        with log.open("ab") as errors:
            self._process = process = subprocess.Popen(
                [*command, "--port", str(self._port), *sets],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=self._folder,
                env=self._environment,
            )
        bootstrap = self._wait_until_ready(process)
        if bootstrap is None:
            self.kill()
            raise BrokerDidNotStart(f"the broker does not serve: {log.read_text(errors='replace')[-2000:]}")
        assert process.stdout is not None
        # Nobody else reads what comes: a full pipe would make it drop lines.
        threading.Thread(target=_drain, args=(process.stdout,), daemon=True).start()
        return bootstrap

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> str | None:
        assert process.stdout is not None
        deadline = self._clock.monotonic() + START_S
        seen = b""
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while (left := deadline - self._clock.monotonic()) > 0:
                if not selector.select(left):
                    return None
                data = os.read(process.stdout.fileno(), 4096)
                if not data:
                    return None
                seen += data
                for line in seen.splitlines(keepends=True):
                    if line.startswith(READY) and line.endswith(b"\n"):
                        return line.removeprefix(READY).decode().strip()
        return None

    def stop(self) -> None:
        """SIGTERM, and SIGKILL for who does not heed it."""
        process = self._process
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_S)
        self.kill()

    def kill(self) -> None:
        """SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()


def environment_of(parent: Mapping[str, str], bytecode_folder: pathlib.Path | None) -> dict[str, str]:
    """Pure: what a broker is started with, which keeps its compiled modules in `bytecode_folder` if one is named.

    Where nobody may write bytecode beside the sources, each start compiles five hundred modules: half of its time.
    """
    environment = dict(parent)
    if bytecode_folder is not None and environment.get(NO_BYTECODE):
        del environment[NO_BYTECODE]
        environment.setdefault("PYTHONPYCACHEPREFIX", str(bytecode_folder))
    return environment


def _drain(stream: IO[bytes]) -> None:
    with stream:
        stream.read()


def _free_port() -> int:
    """The same for every start: clients of a test come back to it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
