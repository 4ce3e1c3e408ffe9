"""Broker processes that a test starts, watches through their probes, and ends."""

import contextlib
import json
import os
import pathlib
import subprocess
import sys
import time
import urllib.error
import urllib.request
from typing import Any

from tests.support.process import free_port

# Machines that test are busy; a broker alone serves in a second.
SERVE_S = 90.0


class Process:
    """One command of ours, with its output in a file."""

    def __init__(self, folder: pathlib.Path, *arguments: str, environment: dict[str, str] | None = None) -> None:
        self.output = folder / f"output-{free_port()}"
        with self.output.open("wb") as out:
            self.popen = subprocess.Popen(
                [sys.executable, "-m", "automq", *arguments],
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env={**os.environ, **(environment or {})},
            )

    @property
    def text(self) -> str:
        """What it has said so far."""
        return self.output.read_text()

    @property
    def last_line(self) -> dict[str, Any]:
        """Of a process that failed."""
        found: dict[str, Any] = json.loads(self.text.strip().splitlines()[-1])
        return found

    def wait(self, timeout_s: float = SERVE_S) -> int:
        """Its exit code."""
        return self.popen.wait(timeout_s)

    def wait_for(self, text: str, timeout_s: float = SERVE_S) -> None:
        """Until it has said `text`."""
        deadline = time.monotonic() + timeout_s
        while text not in self.text:
            # What it says as its last is there when it has ended, but perhaps not when it was looked for.
            assert self.popen.poll() is None or text in self.text, self.text
            assert time.monotonic() < deadline, self.text
            time.sleep(0.02)

    def end(self) -> None:
        """Kill it if it still runs."""
        if self.popen.poll() is None:
            self.popen.kill()
            self.popen.wait()


class Place:
    """A folder, and the processes that a test starts in it."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.processes: list[Process] = []

    def broker(self, *, http_port: int, environment: dict[str, str] | None = None, **settings: object) -> Process:
        """`automq broker` with a file store; `__` in a keyword stands for a dot, None leaves a setting out."""
        values = {
            "node.id": 1,
            "listeners": f"PLAINTEXT://127.0.0.1:{free_port()}",
            "automq.storage.uri": f"file://{self.folder}/store",
            "automq.http.address": f"127.0.0.1:{http_port}",
            **{name.replace("__", "."): value for name, value in settings.items()},
        }
        config = self.folder / f"broker-{http_port}.properties"
        config.write_text("".join(f"{name}={value}\n" for name, value in values.items() if value is not None))
        return self.run("broker", "--config", str(config), environment=environment)

    def run(self, *arguments: str, environment: dict[str, str] | None = None) -> Process:
        """`automq` with `arguments`."""
        process = Process(self.folder, *arguments, environment=environment)
        self.processes.append(process)
        return process

    def until_ready(self, http_port: int, state: str = "Serving", timeout_s: float = SERVE_S) -> dict[str, Any]:
        """The body of /readyz once it says `state`."""
        return self.until(http_port, timeout_s=timeout_s, state=state)

    def until(self, http_port: int, *, timeout_s: float = SERVE_S, **wanted: object) -> dict[str, Any]:
        """The body of /readyz once it has these values."""
        deadline = time.monotonic() + timeout_s
        body: dict[str, Any] = {}
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                body = readyz(http_port)[1]
                if all(body[name] == value for name, value in wanted.items()):
                    return body
            time.sleep(0.02)
        raise AssertionError(f"not {wanted} but {body}: {self.processes[-1].text}")

    def end(self) -> None:
        """Kill what still runs."""
        for process in self.processes:
            process.end()


def readyz(http_port: int) -> tuple[int, dict[str, Any]]:
    """Status and body of /readyz."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{http_port}/readyz", timeout=5) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)
