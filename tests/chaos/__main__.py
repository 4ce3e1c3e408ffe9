"""`python -m tests.chaos [--kills N] [--store URI] [--busy]`: kill -9 a broker under real clients, then judge the log.

Busy is with compressed batches, and beside commits of a thousand partitions, topics that come and go, and consumers
that take nothing.
"""

import argparse
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time

from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from tests.chaos import beside
from tests.chaos.clients import LIBRARIES, text_of
from tests.chaos.verify import Journals, problems
from tests.support.process import Broker

TOPIC, PARTITIONS = "chaos", 4
SETTLE_S = 60


class Run:
    """One run: a broker, six clients, and their journals."""

    def __init__(
        self, folder: pathlib.Path, *, store: str | None, seed: int, rate: float, record_bytes: int, is_busy: bool
    ) -> None:
        settings: dict[str, object] = {"automq__upload__interval__ms": 1500}
        if store is not None:
            settings["automq__storage__uri"] = store
        self.folder, self.random = folder, random.Random(seed)
        self.rate, self.record_bytes, self.is_busy = rate, record_bytes, is_busy
        self.broker = Broker(folder / "broker", **settings)
        self.clients: list[subprocess.Popen[bytes]] = []
        self.others: list[subprocess.Popen[bytes]] = []
        """What goes on beside them."""

    def journal(self, role: str, library: str) -> pathlib.Path:
        return self.folder / f"{role}-{library}.journal"

    def start_clients(self, role: str) -> None:
        for library in LIBRARIES:
            command = [sys.executable, "-m", "tests.chaos.clients", role, library]
            command += ["--bootstrap", self.broker.address, "--topic", TOPIC, "--partitions", str(PARTITIONS)]
            command += [
                "--name",
                library,
                "--rate",
                str(self.rate),
                "--record-bytes",
                str(self.record_bytes),
                "--journal",
                str(self.journal(role, library)),
            ]
            if self.is_busy:
                command.append("--compressed")
            log = (self.folder / f"{role}-{library}.log").open("ab")
            self.clients.append(subprocess.Popen(command, stdout=log, stderr=log))
            log.close()

    def start_others(self) -> None:
        for what in beside.WHAT:
            command = [sys.executable, "-m", "tests.chaos.beside", what, "--bootstrap", self.broker.address]
            command += [
                "--topic",
                TOPIC,
                "--partitions",
                str(PARTITIONS),
                "--journal",
                str(self.journal("beside", what)),
            ]
            with (self.folder / f"beside-{what}.log").open("ab") as log:
                self.others.append(subprocess.Popen(command, stdout=log, stderr=log))

    def problems_beside(self) -> list[str]:
        """Of those, when they have ended."""
        lines = {what: self.journal("beside", what).read_text().splitlines() for what in beside.WHAT}
        done = {what: sum(1 for line in lines[what] if not line.startswith("failed")) for what in beside.WHAT}
        print(f"beside: {done}")
        idle = [f"{what} did nothing: the run shows nothing" for what in ("commits", "topics") if done[what] < 3]
        return idle + beside.problems(self.broker.address, lines["commits"], lines["topics"])

    def kill_and_start(self) -> float:
        """Let it serve for a random while, kill it, start it: the seconds until it serves again."""
        time.sleep(self.random.uniform(0.2, 2.5))
        self.broker.kill()
        return self.broker.start()

    def stop_clients(self, clients: list[subprocess.Popen[bytes]]) -> None:
        for client in clients:
            client.send_signal(signal.SIGTERM)
        for client in clients:
            if client.wait(200) != 0:
                raise RuntimeError(
                    f"a client ended with {client.returncode}: {client.args}; its log is in {self.folder}"
                )

    def acked(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for library in LIBRARIES:
            lines = self.journal("produce", library).read_text().splitlines()
            found[library] = [int(line.split()[1]) for line in lines if line.startswith("acked ")]
        return found

    def consumed(self) -> list[tuple[int, int, str]]:
        found = []
        for library in LIBRARIES:
            for line in self.journal("consume", library).read_text().splitlines():
                partition, offset, value = line.split(" ", 2)
                found.append((int(partition), int(offset), value))
        return found

    def read_log(self) -> dict[int, list[tuple[int, str]]]:
        """Every partition from its beginning to its end."""
        consumer = Consumer(
            {"bootstrap.servers": self.broker.address, "group.id": "judge", "enable.auto.commit": False}
        )
        partitions = [TopicPartition(TOPIC, index) for index in range(PARTITIONS)]
        ends = {p.partition: consumer.get_watermark_offsets(p, timeout=30)[1] for p in partitions}
        consumer.assign([TopicPartition(TOPIC, index, OFFSET_BEGINNING) for index in range(PARTITIONS)])
        log: dict[int, list[tuple[int, str]]] = {index: [] for index in range(PARTITIONS)}
        deadline = time.monotonic() + 120
        while any(len(log[index]) < end for index, end in ends.items()) and time.monotonic() < deadline:
            for message in consumer.consume(5000, 0.5):
                if message.error() is None:
                    log[message.partition()].append((message.offset(), text_of(message.value())))
        consumer.close()
        return log

    def wait_until_consumed(self) -> None:
        """Give the group time to read what the producers wrote last."""
        acked = sum(map(len, self.acked().values()))
        deadline = time.monotonic() + SETTLE_S
        while len({(p, o) for p, o, _ in self.consumed()}) < acked and time.monotonic() < deadline:
            time.sleep(0.5)


def run(
    folder: pathlib.Path,
    *,
    kills: int,
    store: str | None,
    seed: int,
    rate: float,
    record_bytes: int = 0,
    is_busy: bool = False,
) -> list[str]:
    """The broken promises, in words."""
    chaos = Run(folder, store=store, seed=seed, rate=rate, record_bytes=record_bytes, is_busy=is_busy)
    try:
        print(f"first start: {chaos.broker.start():.2f} s", flush=True)
        admin = AdminClient({"bootstrap.servers": chaos.broker.address})
        admin.create_topics([NewTopic(TOPIC, PARTITIONS, 1)])[TOPIC].result(30)
        chaos.start_clients("produce")
        chaos.start_clients("consume")
        if is_busy:
            beside.prepare(chaos.broker.address)
            chaos.start_others()
        times = []
        for number in range(kills):
            times.append(chaos.kill_and_start())
            acked = sum(map(len, chaos.acked().values())) if number else 0
            print(
                f"kill {number + 1:3}/{kills}: serving again after {times[-1]:.2f} s, {acked} acknowledged", flush=True
            )
        time.sleep(2)
        chaos.stop_clients(chaos.others)
        chaos.stop_clients(chaos.clients[: len(LIBRARIES)])
        chaos.wait_until_consumed()
        chaos.stop_clients(chaos.clients[len(LIBRARIES) :])
        log = chaos.read_log()
        acked_by = chaos.acked()
        found = problems(log, Journals(acked=acked_by, consumed=chaos.consumed()))
        if is_busy:
            found += chaos.problems_beside()
        idle = [name for name, sequences in acked_by.items() if len(sequences) < 20]
        found += [f"{name} had only {len(acked_by[name])} records acknowledged: the run shows nothing" for name in idle]
        print({name: len(sequences) for name, sequences in acked_by.items()}, f"longest restart {max(times):.2f} s")
        return found
    finally:
        for client in chaos.clients + chaos.others:
            client.kill()
            client.wait()
        chaos.broker.stop()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--store", help="a store URI with an empty prefix; default: a folder")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    parser.add_argument("--rate", type=float, default=200.0, help="records a second and producer")
    parser.add_argument("--record-bytes", type=int, default=0, help="9000 with a high rate makes batches of a megabyte")
    parser.add_argument("--busy", action="store_true", help="compressed, and beside much else")
    options = parser.parse_args()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="automq-chaos-"))
    print(f"seed {options.seed}, journals in {folder}", flush=True)
    found = run(
        folder,
        kills=options.kills,
        store=options.store,
        seed=options.seed,
        rate=options.rate,
        record_bytes=options.record_bytes,
        is_busy=options.busy,
    )
    for problem in found[:50]:
        print("BROKEN:", problem)
    print(f"chaos: {options.kills} kills, {len(found)} broken promises")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
