"""The producers and the consumers of a run, a process each, and what they wrote down."""

import pathlib
import signal
import subprocess
import sys
import time

from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from tests.chaos.clients import LIBRARIES, text_of

ROLES = ("produce", "consume")
SETTLE_S = 180
"""A member that rejoins after an outage has it, on a machine that has much else to do."""
END_S = 200
ACKED_MIN = 20
"""Of a producer that had less a run shows nothing."""


class ClientProcesses:
    """Three producers and a group of three consumers of one topic."""

    def __init__(
        self,
        folder: pathlib.Path,
        address: str,
        *,
        topic: str,
        partitions: int,
        rate: float,
        record_bytes: int = 0,
        is_compressed: bool = False,
    ) -> None:
        self.folder, self.address, self.topic, self.partitions = folder, address, topic, partitions
        self.rate, self.record_bytes, self.is_compressed = rate, record_bytes, is_compressed
        self._processes: dict[str, list[subprocess.Popen[bytes]]] = {role: [] for role in ROLES}

    def start(self) -> None:
        for role in ROLES:
            for library in LIBRARIES:
                self._processes[role].append(self._start(role, library))

    def _start(self, role: str, library: str) -> subprocess.Popen[bytes]:
        words: dict[str, object] = {
            "bootstrap": self.address,
            "topic": self.topic,
            "partitions": self.partitions,
            "name": library,
            "rate": self.rate,
            "record-bytes": self.record_bytes,
            "journal": self.journal(role, library),
        }
        command = [sys.executable, "-m", "tests.chaos.clients", role, library]
        for name, value in words.items():
            command += [f"--{name}", str(value)]
        if self.is_compressed:
            command.append("--compressed")
        with (self.folder / f"{role}-{library}.log").open("ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=log)

    def journal(self, role: str, library: str) -> pathlib.Path:
        return self.folder / f"{role}-{library}.journal"

    def stop(self, role: str) -> None:
        """They end what they have begun."""
        end(self._processes[role], self.folder)

    def kill(self) -> None:
        for process in sum(self._processes.values(), []):
            process.kill()
            process.wait()

    def acked(self) -> dict[str, list[int]]:
        """Producer -> sequences."""
        return {
            library: [int(line.split()[1]) for line in self._lines("produce", library) if line.startswith("acked ")]
            for library in LIBRARIES
        }

    def acked_count(self) -> int:
        return sum(map(len, self.acked().values()))

    def failed(self) -> dict[str, list[str]]:
        """Producer -> what it was told of records that it gave up."""
        return {
            library: [line for line in self._lines("produce", library) if line.startswith("failed ")]
            for library in LIBRARIES
        }

    def consumed(self) -> list[tuple[int, int, str]]:
        """(partition, offset, value) as any consumer saw it."""
        found = []
        for library in LIBRARIES:
            for line in self._lines("consume", library):
                partition, offset, value = line.split(" ", 2)
                found.append((int(partition), int(offset), value))
        return found

    def _lines(self, role: str, library: str) -> list[str]:
        """Whole lines only: a client may be writing the next one."""
        path = self.journal(role, library)
        text = path.read_text() if path.exists() else ""
        return text[: text.rfind("\n") + 1].splitlines()

    def wait_until_consumed(self) -> None:
        """Give the group time to read what the producers wrote last."""
        acked = self.acked_count()
        deadline = time.monotonic() + SETTLE_S
        while len({(p, o) for p, o, _ in self.consumed()}) < acked and time.monotonic() < deadline:
            time.sleep(0.5)

    def read_log(self) -> dict[int, list[tuple[int, str]]]:
        """Every partition from its beginning to its end."""
        consumer = Consumer({"bootstrap.servers": self.address, "group.id": "judge", "enable.auto.commit": False})
        indexes = range(self.partitions)
        ends = {
            index: consumer.get_watermark_offsets(TopicPartition(self.topic, index), timeout=30)[1] for index in indexes
        }
        consumer.assign([TopicPartition(self.topic, index, OFFSET_BEGINNING) for index in indexes])
        log: dict[int, list[tuple[int, str]]] = {index: [] for index in indexes}
        deadline = time.monotonic() + 120
        while any(len(log[index]) < end for index, end in ends.items()) and time.monotonic() < deadline:
            for message in consumer.consume(5000, 0.5):
                if message.error() is None:
                    log[message.partition()].append((message.offset(), text_of(message.value())))
        consumer.close()
        return log

    def idle(self) -> list[str]:
        """Producers that had too few records acknowledged."""
        return [
            f"{name} had only {len(sequences)} records acknowledged: the run shows nothing"
            for name, sequences in self.acked().items()
            if len(sequences) < ACKED_MIN
        ]


def end(processes: list[subprocess.Popen[bytes]], folder: pathlib.Path) -> None:
    """Tell them to, and wait. Raises RuntimeError for one that fails."""
    for process in processes:
        process.send_signal(signal.SIGTERM)
    for process in processes:
        if process.wait(END_S) != 0:
            raise RuntimeError(f"a client ended with {process.returncode}: {process.args!r}; its log is in {folder}")
