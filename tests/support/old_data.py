"""Data folders as earlier commits of this program left them, kept in `tests/golden/upgrade`.

    python -m tests.support.old_data COMMIT

runs the broker of that commit on a new folder: topics of several kinds, idempotent producers, a group that commits, a
deleted topic, deleted records, uploads; a SIGKILL between two incarnations and one at the end. The folder and what
clients were promised of it are packed into `COMMIT.tar.xz`.
"""

import dataclasses
import hashlib
import io
import json
import os
import pathlib
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Consumer, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec

from tests.support.process import ROOT, Broker

FOLDER = ROOT / "tests/golden/upgrade"
FACTS = "facts.json"
GROUP = "readers"
SETTINGS = {
    "automq__upload__interval__ms": 1500,
    "automq__wal__interval__ms": 50,
    # A producer that still knows the deleted topic would make it anew.
    "auto__create__topics__enable": "false",
}
TOPICS: Mapping[str, dict[str, Any]] = {
    "plain": {"num_partitions": 3},
    "squeezed": {"num_partitions": 1, "replication_factor": 3, "config": {"retention.ms": "-1"}},
    "trimmed": {"num_partitions": 1},
    "keyed": {"num_partitions": 2, "config": {"cleanup.policy": "compact"}},
    "gone": {"num_partitions": 1},
}
TRIMMED_TO = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Promised:
    """What clients were told, and what must hold of a copy of the folder."""

    records: Mapping[str, Mapping[int, Mapping[int, str]]]
    """Topic to partition to offset to the hash of the value: every acknowledged record."""
    starts: Mapping[str, int]
    """Where partition 0 of topics begins that had records deleted."""
    committed: Mapping[str, int]
    """`topic/partition` to the group's committed offset."""
    cluster_id: str


def value_hash(value: bytes) -> str:
    """What is kept of a value."""
    return hashlib.sha256(value).hexdigest()[:16]


class Recorder:
    """Produces, and keeps what was acknowledged."""

    def __init__(self, bootstrap: str, **settings: object) -> None:
        self.producer = Producer(
            {"bootstrap.servers": bootstrap, "enable.idempotence": True, "linger.ms": 20, "log_level": 2, **settings}
        )
        self.acknowledged: list[tuple[str, int, int, str]] = []

    def send(self, topic: str, partition: int, number: int) -> None:
        value = f"{topic}-{partition}-{number} ".encode() * (1 + number % 40)
        self.producer.produce(
            topic, value, key=b"k%d" % (number % 7), partition=partition, on_delivery=self._on_delivery
        )
        self.producer.poll(0)

    def _on_delivery(self, error: object, message: Message) -> None:
        if error is None:
            value, topic, partition, offset = message.value(), message.topic(), message.partition(), message.offset()
            assert value is not None
            assert topic is not None
            assert partition is not None
            assert offset is not None
            self.acknowledged.append((topic, partition, offset, value_hash(value)))


def _first_life(broker: Broker, recorders: list[Recorder]) -> None:
    admin = AdminClient({"bootstrap.servers": broker.address})
    for future in admin.create_topics([NewTopic(name, **options) for name, options in TOPICS.items()]).values():
        future.result(20)
    plain, squeezed = recorders
    for number in range(60):
        for topic in ("plain", "trimmed", "keyed", "gone"):
            plain.send(topic, number % TOPICS[topic]["num_partitions"], number)
        squeezed.send("squeezed", 0, number)
        if number % 20 == 19:
            time.sleep(1.7)
    plain.producer.flush(20)
    squeezed.producer.flush(20)
    admin.delete_topics(["gone"])["gone"].result(20)
    for future in admin.delete_records([TopicPartition("trimmed", 0, TRIMMED_TO)]).values():
        future.result(20)


def _read_and_commit(broker: Broker) -> dict[str, int]:
    consumer = Consumer(
        {
            "bootstrap.servers": broker.address,
            "group.id": GROUP,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    consumer.subscribe(["plain", "squeezed"])
    seen = 0
    until = time.monotonic() + 30
    while seen < 80 and time.monotonic() < until:
        message = consumer.poll(1)
        seen += message is not None and message.error() is None
    committed = consumer.commit(asynchronous=False)
    assert committed
    consumer.close()
    return {f"{entry.topic}/{entry.partition}": entry.offset for entry in committed if entry.offset >= 0}


def _live(broker: Broker) -> Promised:
    broker.start()
    recorders = [Recorder(broker.address), Recorder(broker.address, **{"compression.type": "zstd"})]
    _first_life(broker, recorders)
    _read_and_commit(broker)
    broker.kill()
    broker.start()
    committed = _read_and_commit(broker)
    for number in range(60, 90):
        recorders[0].send("plain", number % 3, number)
        recorders[1].send("squeezed", 0, number)
    for recorder in recorders:
        recorder.producer.flush(20)
    admin = AdminClient({"bootstrap.servers": broker.address})
    (start,) = admin.list_offsets({TopicPartition("trimmed", 0): OffsetSpec.earliest()}).values()
    starts = {"trimmed": start.result(20).offset}
    cluster_id = admin.list_topics(timeout=20).cluster_id
    # The last records are in the write-ahead log alone.
    for number in range(90, 100):
        recorders[0].send("plain", number % 3, number)
    recorders[0].producer.flush(20)
    broker.kill()
    records: dict[str, dict[int, dict[int, str]]] = {}
    for recorder in recorders:
        for topic, partition, offset, digest in recorder.acknowledged:
            records.setdefault(topic, {}).setdefault(partition, {})[offset] = digest
    records.pop("gone")
    return Promised(records=records, starts=starts, committed=committed, cluster_id=cluster_id)


def check_out(commit: str, folder: pathlib.Path) -> None:
    """Lay the broker of that commit out below `folder`."""
    source = subprocess.run(["git", "archive", commit, "broker"], cwd=ROOT, check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(source)) as archive:
        archive.extractall(folder, filter="data")


def run_old(commit: str, config: pathlib.Path, folder: pathlib.Path) -> subprocess.CompletedProcess[str]:
    """Run that commit's broker, laid out below `folder`, until it ends by itself."""
    check_out(commit, folder)
    return subprocess.run(
        [sys.executable, "-m", "automq", "broker", "--config", str(config)],
        env={**os.environ, "PYTHONPATH": str(folder / "broker")},
        capture_output=True,
        text=True,
        timeout=60,
    )


def make(commit: str) -> pathlib.Path:
    """Run that commit's broker and pack what it left."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        check_out(commit, folder / "source")
        os.environ["PYTHONPATH"] = str(folder / "source/broker")
        broker = Broker(folder / "data", **SETTINGS)
        try:
            promised = _live(broker)
            target = FOLDER / f"{commit}.tar.xz"
            target.parent.mkdir(parents=True, exist_ok=True)
            facts = dataclasses.asdict(promised)
            (folder / "data/store" / FACTS).write_text(json.dumps(facts, indent=1, sort_keys=True))
            with tarfile.open(target, "w:xz", preset=9) as packed:
                packed.add(folder / "data/store", arcname=".")
        finally:
            broker.stop()
    return target


def unpack(commit: str, folder: pathlib.Path) -> Promised:
    """Lay a copy of that commit's folder out; what was promised of it."""
    with tarfile.open(FOLDER / f"{commit}.tar.xz") as packed:
        packed.extractall(folder, filter="data")
    facts = json.loads((folder / FACTS).read_text())
    (folder / FACTS).unlink()
    records = {
        topic: {int(index): {int(offset): digest for offset, digest in kept.items()} for index, kept in parts.items()}
        for topic, parts in facts["records"].items()
    }
    return Promised(
        records=records, starts=facts["starts"], committed=facts["committed"], cluster_id=facts["cluster_id"]
    )


if __name__ == "__main__":
    try:
        print(make(sys.argv[1]))
    except KafkaException as error:
        raise SystemExit(f"the old broker refused: {error}") from error
