"""The clients of a soak, in a process of their own: `python -m tests.soak.load BOOTSTRAP long|short`, until SIGTERM.

Writes `produced BYTES`, as acknowledged so far, to its standard output once a second.
"""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from tests.soak.plan import LONG, RECORD_BYTES, SHORT, Plan, Topic

TICK_S = 0.1
CHURN_PARTITIONS = 4
CHURN_RECORDS = 20
READ_RECORDS = 200
QUIET = {"log_level": 0}


class Load:
    """Everything that is done to the broker, one tick after the other."""

    def __init__(self, bootstrap: str, plan: Plan) -> None:
        self.plan = plan
        self.produced = 0
        self.failed = 0
        self._common = {"bootstrap.servers": bootstrap, **QUIET}
        self._admin = AdminClient(self._common)
        self._producer = Producer({**self._common, "enable.idempotence": True, "linger.ms": 20, "batch.size": 65_536})
        self._due = {topic.name: 0.0 for topic in plan.topics}
        self._sent = dict.fromkeys(self._due, 0)
        self._churned = 0
        self._values = [os.urandom(RECORD_BYTES) for _ in range(16)]
        self._groups = [self._consumer(f"group-{number}") for number in range(plan.groups)]
        self._reader = self._consumer("reader")

    def create(self) -> None:
        """Make the topics that stay."""
        topics = [NewTopic(topic.name, topic.partitions, 1, config=topic.configs) for topic in self.plan.topics]
        for future in self._admin.create_topics(topics).values():
            future.result(60)
        self._reader.assign([TopicPartition("long", index, OFFSET_BEGINNING) for index in range(4)])

    def run(self, is_over: Callable[[], bool]) -> None:
        """Until `is_over`."""
        began = time.monotonic()
        second = 0
        next_churn = self.plan.churn_s
        while not is_over():
            elapsed = time.monotonic() - began
            for topic in self.plan.topics:
                self._produce(topic, elapsed)
            self._producer.poll(0)
            if elapsed >= next_churn:
                next_churn += self.plan.churn_s
                self._churn()
            if elapsed >= second:
                second += 1
                self._commit()
                self._read()
                print("produced", self.produced, "failed", self.failed, flush=True)
            time.sleep(max(0.0, TICK_S - (time.monotonic() - began - elapsed)))
        self._producer.flush(30)

    def _consumer(self, group: str) -> Consumer:
        return Consumer({**self._common, "group.id": group, "enable.auto.commit": False})

    def _produce(self, topic: Topic, elapsed: float) -> None:
        """As many records as are due by now, to its partitions in turn."""
        due = int(elapsed * topic.records_per_s)
        for number in range(self._sent[topic.name], due):
            self._send(topic.name, number % topic.partitions, number)
        self._sent[topic.name] = due

    def _send(self, topic: str, partition: int, number: int) -> None:
        def report(error: object, _message: object) -> None:
            if error is None:
                self.produced += RECORD_BYTES
            else:
                self.failed += 1

        value = self._values[number % len(self._values)]
        with contextlib.suppress(BufferError):
            self._producer.produce(topic, value, key=b"%d" % (number % 100), partition=partition, on_delivery=report)

    def _churn(self) -> None:
        """A topic comes, one that came before goes."""
        self._churned += 1
        name = f"churn-{self._churned}"
        self._admin.create_topics([NewTopic(name, CHURN_PARTITIONS, 1)])[name].result(30)
        for number in range(CHURN_RECORDS):
            self._send(name, number % CHURN_PARTITIONS, number)
        before = f"churn-{self._churned - 3}"
        if self._churned > 3:
            self._admin.delete_topics([before])[before].result(30)

    def _commit(self) -> None:
        """Every group commits where it would be."""
        offset = self._sent["short"] // 8
        for group in self._groups:
            with contextlib.suppress(KafkaException):
                group.commit(offsets=[TopicPartition("short", index, offset) for index in range(8)], asynchronous=True)

    def _read(self) -> None:
        """Somebody who follows from behind, so that objects are read."""
        self._reader.consume(READ_RECORDS, 0.05)
        if self._sent["long"] % 1000 < 40:
            self._reader.assign([TopicPartition("long", index, OFFSET_BEGINNING) for index in range(4)])


def main() -> int:
    is_over = False

    def stop(*_: object) -> None:
        nonlocal is_over
        is_over = True

    signal.signal(signal.SIGTERM, stop)
    bootstrap, name = sys.argv[1:]
    load = Load(bootstrap, {"long": LONG, "short": SHORT}[name])
    load.create()
    load.run(lambda: is_over)
    return 0


if __name__ == "__main__":
    sys.exit(main())
