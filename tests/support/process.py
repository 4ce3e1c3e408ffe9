"""Real processes for tests and benchmarks: our broker, and Apache Kafka of the testbed where it is built."""

import json
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).parents[2]
TESTBED = pathlib.Path(os.environ.get("TESTBED", ROOT.parent / "shared/testbed"))
TESTBED_HOME = pathlib.Path(os.environ.get("TESTBED_HOME", pathlib.Path.home() / ".cache/testbed"))
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


# Below those that the kernel gives to outgoing connections: one of them may be taken between the look and the bind.
PORTS = range(20_000, 32_000)
_dice = random.SystemRandom()
_claims: list[socket.socket] = []


def free_port(*offsets: int) -> int:
    """A port of 127.0.0.1 that nobody listens on, and nobody else who asks here gets before this process ends.

    The same goes for the ports that lie `offsets` above it.
    """
    for _ in range(1000):
        port = _dice.choice(PORTS)
        if all(_claim(port + offset) for offset in (0, *offsets)):
            return port
    raise RuntimeError(f"no free port in {PORTS}")


def _claim(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    if sys.platform != "linux":
        return True
    # An abstract name is free again when its process ends, however it ends.
    claim = socket.socket(socket.AF_UNIX)
    try:
        claim.bind(f"\0automq-tests-port-{port}")
    except OSError:
        claim.close()
        return False
    _claims.append(claim)
    return True


def cpu_s(pid: int) -> float:
    """User and system seconds of a process so far."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def rss_mb(pid: int) -> float:
    """Resident memory in MB (10^6)."""
    return int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_BYTES / 1e6


READY_S, READY_BUSY_S, READY_CPU_S = 120, 600, 10
"""A start takes two seconds of CPU. Where that takes minutes the machine is busy with something else."""


def is_stuck(pid: int, waited_s: float) -> bool:
    """Whether a broker that is not ready yet never will be."""
    return waited_s > READY_BUSY_S or (waited_s > READY_S and cpu_s(pid) > READY_CPU_S)


class Broker:
    """One `automq broker` process on a file store of its own."""

    def __init__(self, folder: pathlib.Path, **settings: object) -> None:
        self.folder = folder
        self.port, self.http_port = free_port(), free_port()
        self.settings = {
            "node.id": 1,
            "listeners": f"PLAINTEXT://127.0.0.1:{self.port}",
            "automq.storage.uri": f"file://{folder}/store",
            "automq.http.address": f"127.0.0.1:{self.http_port}",
            "group.initial.rebalance.delay.ms": 0,
            **{name.replace("__", "."): value for name, value in settings.items()},
        }
        self.process: subprocess.Popen[bytes] | None = None
        self.name = "automq"
        self.descriptors: int | None = None
        """As many files and sockets may be open, and not more."""
        self.entrance: pathlib.Path | None = None
        """Of the control group that it is to run in."""

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def pids(self) -> list[int]:
        assert self.process is not None
        return [self.process.pid]

    def start(self) -> float:
        """Start and wait until it serves; the seconds that took."""
        self.folder.mkdir(parents=True, exist_ok=True)
        config = self.folder / "broker.properties"
        config.write_text("".join(f"{name}={value}\n" for name, value in self.settings.items()))
        began = time.monotonic()
        log = (self.folder / "broker.log").open("ab")
        command = [sys.executable, "-m", "automq", "broker", "--config", str(config)]
        if self.descriptors is not None:
            command = ["sh", "-c", f'ulimit -n {self.descriptors} && exec "$@"', "sh", *command]
        if self.entrance is not None:
            command = ["sh", "-c", f'echo $$ > {self.entrance} && exec "$@"', "sh", *command]
        self.process = subprocess.Popen(command, stdout=log, stderr=log)
        log.close()
        while not self.ready():
            if self.process.poll() is not None:
                tail = (self.folder / "broker.log").read_text()[-2000:]
                raise RuntimeError(f"the broker ended with {self.process.returncode}:\n{tail}")
            if is_stuck(self.process.pid, time.monotonic() - began):
                tail = (self.folder / "broker.log").read_text()[-2000:]
                raise RuntimeError(f"the broker does not get ready in {time.monotonic() - began:.0f} s:\n{tail}")
            time.sleep(0.01)
        return time.monotonic() - began

    def ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}/readyz", timeout=2) as answer:
                return bool(json.load(answer)["state"] == "Serving")
        except (urllib.error.URLError, OSError):
            return False

    def page(self, path: str) -> str:
        """What the HTTP address answers."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}{path}", timeout=10) as answer:
            return str(answer.read().decode())

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that carry these labels."""
        text = self.page("/metrics")
        total = 0.0
        for match in re.finditer(rf"^{re.escape(name)}(?:\{{(.*)\}})? (\S+)$", text, re.MULTILINE):
            have = dict(re.findall(r'(\w+)="([^"]*)"', match[1] or ""))
            if all(have.get(key) == value for key, value in labels.items()):
                total += float(match[2])
        return total

    def cpu_s(self) -> float:
        return sum(map(cpu_s, self.pids))

    def rss_mb(self) -> float:
        return sum(map(rss_mb, self.pids))

    def kill(self) -> None:
        """SIGKILL: nothing is flushed."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def restart(self, is_killed: bool) -> None:
        """End it, by SIGKILL if so, and start it where it was."""
        assert self.process is not None
        if not is_killed:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(40)
        else:
            self.kill()
        self.start()

    def stop(self) -> None:
        """SIGTERM, then remove the data."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(40)
            except subprocess.TimeoutExpired:
                self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


class Kafka:
    """Nodes of Apache Kafka from the testbed."""

    def __init__(self, folder: pathlib.Path, *, nodes: int = 1, **settings: object) -> None:
        # Each node has the next port, and listens for controllers a hundred above.
        self.port = free_port(*range(1, nodes), *range(100, 100 + nodes))
        self.nodes = nodes
        self.name = "kafka"
        self.run = folder
        self.environment = {
            **os.environ,
            "KAFKA_NAME": "bench",
            "KAFKA_PORT": str(self.port),
            "TESTBED_RUN": str(folder),
            "KAFKA_PROPS": " ".join(f"{name}={value}" for name, value in settings.items()),
        }

    @staticmethod
    def built() -> bool:
        tools = TESTBED / "kafka/bin/kafka-storage"
        return (TESTBED_HOME / "kafka/lib").is_dir() and os.access(tools, os.X_OK)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def pids(self) -> list[int]:
        return [int(path.read_text()) for path in sorted((self.run / "kafka/bench").glob("node-*/pid"))]

    def start(self) -> float:
        began = time.monotonic()
        command = [TESTBED / "kafka/up", str(self.nodes)]
        subprocess.run(command, env=self.environment, check=True, stdout=subprocess.DEVNULL)
        return time.monotonic() - began

    def restart(self, is_killed: bool) -> None:
        """End it, by SIGKILL if so, and start it where it was."""
        down = [TESTBED / "kafka/down", *(["--kill"] if is_killed else [])]
        subprocess.run(down, env=self.environment, check=True, stdout=subprocess.DEVNULL)
        self.start()

    def tool(self, name: str, *arguments: str) -> None:
        """Run one of Kafka's command-line tools on it."""
        command = [TESTBED / "kafka/bin" / name, "--bootstrap-server", self.address, *arguments]
        subprocess.run(command, env=self.environment, check=True, stdout=subprocess.DEVNULL)

    def cpu_s(self) -> float:
        return sum(map(cpu_s, self.pids))

    def rss_mb(self) -> float:
        return sum(map(rss_mb, self.pids))

    def stop(self) -> None:
        subprocess.run([TESTBED / "kafka/down", "--wipe"], env=self.environment, check=False, stdout=subprocess.DEVNULL)
