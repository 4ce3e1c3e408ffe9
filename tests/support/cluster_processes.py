"""Several broker processes on one store, each at addresses that it keeps, and what they say about themselves."""

import contextlib
import json
import pathlib
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence

from automq.cli.client import KafkaClient, RequestFailed
from automq.protocol.messages.discovery import DescribeClusterRequest, DescribeClusterResponse, MetadataResponse
from automq.server.config.setting import Address
from tests.support.process import cpu_s, free_port, rss_mb

FENCED_CODE = 5
READY_S = 300.0


class Member:
    """One broker of a cluster: a process, or none at the moment."""

    def __init__(
        self,
        folder: pathlib.Path,
        node: int,
        store: str,
        command: Sequence[str] = ("automq", "broker", "--config"),
        **settings: object,
    ) -> None:
        """`command`: the module that is run, and what stands before the file of settings."""
        self.folder, self.node, self.command = folder, node, command
        self.port, self.http_port, self.internal_port = free_port(), free_port(), free_port()
        self.settings: dict[str, object] = {
            "node.id": node,
            "listeners": f"PLAINTEXT://127.0.0.1:{self.port}",
            "automq.storage.uri": store,
            "automq.http.address": f"127.0.0.1:{self.http_port}",
            "automq.internal.listener": f"127.0.0.1:{self.internal_port}",
            "group.initial.rebalance.delay.ms": 0,
            **{name.replace("__", "."): value for name, value in settings.items()},
        }
        self.process: subprocess.Popen[bytes] | None = None
        self.is_paused = False

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def log(self) -> pathlib.Path:
        """What it has said, over all its lives."""
        return self.folder / f"broker-{self.node}.log"

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Without waiting until it serves."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.is_paused = False
        config = self.folder / f"broker-{self.node}.properties"
        config.write_text("".join(f"{name}={value}\n" for name, value in self.settings.items()))
        with self.log.open("ab") as log:
            self.process = subprocess.Popen([sys.executable, "-m", *self.command, str(config)], stdout=log, stderr=log)

    def signal(self, number: signal.Signals) -> None:
        """Nothing when it has ended by itself."""
        assert self.process is not None
        self.process.send_signal(number)
        self.is_paused = number is signal.SIGSTOP or (self.is_paused and number is not signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL: nothing is flushed."""
        self.signal(signal.SIGKILL)
        assert self.process is not None
        self.process.wait()

    def stop(self, timeout_s: float = 60) -> int:
        """SIGTERM; its exit code. Killed when it does not end."""
        self.signal(signal.SIGTERM)
        assert self.process is not None
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def readyz(self, timeout_s: float = 2) -> dict[str, object]:
        """The body of /readyz; empty while nobody answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}/readyz", timeout=timeout_s) as answer:
                return dict(json.load(answer))
        except urllib.error.HTTPError as error:
            with error:
                return dict(json.load(error))
        except OSError:
            return {}

    def is_serving(self) -> bool:
        return self.is_running and not self.is_paused and self.readyz().get("state") == "Serving"

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that carry these labels."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        total = 0.0
        for match in re.finditer(rf"^{re.escape(name)}(?:\{{(.*)\}})? (\S+)$", text, re.MULTILINE):
            have = dict(re.findall(r'(\w+)="([^"]*)"', match[1] or ""))
            if all(have.get(key) == value for key, value in labels.items()):
                total += float(match[2])
        return total

    def cpu_s(self) -> float:
        return cpu_s(self.pid)

    def rss_mb(self) -> float:
        return rss_mb(self.pid)

    def client(self) -> KafkaClient:
        """A client that asks this broker, and nobody else."""
        return KafkaClient(Address(host="127.0.0.1", port=self.port))

    def metadata(self, *topics: str) -> MetadataResponse:
        """Its own; of all topics where none is named. Raises RequestFailed."""
        with self.client() as client:
            return client.metadata(topics or None)

    def led_by(self, *topics: str) -> dict[tuple[str, int], int]:
        """(topic, partition) -> leader, as this broker says; -1 where there is none. Raises RequestFailed."""
        return {
            (topic.name or "", partition.partition_index): partition.leader_id
            for topic in self.metadata(*topics).topics
            for partition in topic.partitions
        }

    def described(self) -> DescribeClusterResponse:
        """With fenced brokers. Raises RequestFailed."""
        with self.client() as client:
            return client.call(DescribeClusterRequest(include_fenced_brokers=True), DescribeClusterResponse)


class Members:
    """A cluster's brokers by node id."""

    def __init__(self, *members: Member) -> None:
        self.by_node = {member.node: member for member in members}

    @property
    def all(self) -> list[Member]:
        return list(self.by_node.values())

    @property
    def running(self) -> list[Member]:
        return [member for member in self.all if member.is_running and not member.is_paused]

    @property
    def bootstrap(self) -> str:
        return ",".join(member.address for member in self.all)

    def start(self) -> None:
        """The first alone, so that it makes the cluster; then the others, all at once. Raises RuntimeError."""
        for number, member in enumerate(self.all):
            member.start()
            if number == 0:
                until(lambda: self._has_begun([member]), READY_S, what=f"broker {member.node} serves")  # noqa: B023
        until(lambda: self._has_begun(self.all), READY_S, what="all brokers serve")

    @staticmethod
    def _has_begun(members: Sequence[Member]) -> bool:
        for member in members:
            if not member.is_running:
                raise RuntimeError(f"broker {member.node} has ended: {member.log.read_text()[-2000:]}")
        return all(member.is_serving() for member in members)

    def are_serving(self) -> bool:
        return all(member.is_serving() for member in self.all)

    def controller(self) -> int:
        """As all that run say; -1 while they do not agree, or nobody knows one."""
        said = set()
        for member in self.running:
            try:
                said.add(member.metadata("-").controller_id)
            except RequestFailed:
                said.add(-1)
        return said.pop() if len(said) == 1 else -1

    def end(self) -> None:
        """Kill what still runs, paused or not."""
        for member in self.all:
            if member.is_running:
                member.kill()


def until(is_so: Callable[[], bool], timeout_s: float, *, what: str) -> float:
    """Ask again until it is so; the seconds that took. What cannot be asked is not so yet. Raises TimeoutError."""
    began = time.monotonic()
    while True:
        with contextlib.suppress(RequestFailed, OSError):
            if is_so():
                return time.monotonic() - began
        if time.monotonic() - began > timeout_s:
            raise TimeoutError(f"not within {timeout_s:g} s: {what}")
        time.sleep(0.05)
