"""Clients that are not ours: from a pod through the bootstrap Service, and from here through the NodePort."""

import threading
import time

from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from tests.e2e.environment import StepFailed, kubectl, run

POD_PROGRAM = """
import sys
from confluent_kafka import Consumer, Producer
bootstrap, topic, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True})
for number in range(count):
    producer.produce(topic, f"pod:{number}")
assert producer.flush(30) == 0
consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "pod", "auto.offset.reset": "earliest"})
consumer.subscribe([topic])
seen = 0
while seen < count:
    message = consumer.poll(30)
    assert message is not None, seen
    assert message.error() is None, message.error()
    seen += message.value().startswith(b"pod:")
consumer.close()
print("pod client:", seen)
"""


def from_a_pod(namespace: str, image: str, bootstrap: str, topic: str, count: int) -> None:
    """Produce and consume from inside the Kubernetes cluster."""
    name = f"client-{topic}"
    kubectl("-n", namespace, "delete", "pod", name, "--ignore-not-found", "--wait=true")
    options = [f"--image={image}", "--image-pull-policy=IfNotPresent", "--restart=Never", "--rm", "--attach", "--quiet"]
    program = ["python", "-c", POD_PROGRAM, bootstrap, topic, str(count)]
    out = run("kubectl", "-n", namespace, "run", name, *options, "--command", "--", *program)
    if f"pod client: {count}" not in out:
        raise StepFailed(f"the client in a pod said: {out[-500:]}")


def create_topic(bootstrap: str, topic: str, partitions: int = 3) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(topic, partitions, 1)])[topic].result(30)


class SteadyProducer:
    """An idempotent producer that goes on through everything, and knows what was acknowledged and when."""

    def __init__(self, bootstrap: str, topic: str, *, rate: float = 100.0, linger_ms: int = 5) -> None:
        self.acked: dict[str, float] = {}
        self.failed: list[str] = []
        self.last_acked: dict[int, float] = {}
        """By partition."""
        self._silences: list[tuple[float, float]] = []
        self._topic, self._rate = topic, rate
        self._stop = threading.Event()
        self._producer = Producer({
            "bootstrap.servers": bootstrap, "enable.idempotence": True, "linger.ms": linger_ms, "retry.backoff.ms": 50,
            "delivery.timeout.ms": 180_000, "request.timeout.ms": 5000, "reconnect.backoff.max.ms": 500, "log_level": 0,
            "socket.connection.setup.timeout.ms": 3000,
        })  # fmt: skip
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "SteadyProducer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(200)

    def _run(self) -> None:
        number = 0
        while not self._stop.is_set():
            try:
                self._producer.produce(self._topic, f"steady:{number}", on_delivery=self._on_delivery)
            except BufferError:  # the queue is full: the same record again once there is room
                self._producer.poll(0.1)
                continue
            number += 1
            self._producer.poll(1 / self._rate)
        self._producer.flush(180)

    def _on_delivery(self, error: KafkaError | None, message: Message) -> None:
        value = message.value().decode()
        if error is None:
            now, partition = time.monotonic(), message.partition()
            self.acked[value] = now
            self._silences.append((now, now - self.last_acked.get(partition, now)))
            self.last_acked[partition] = now
        else:
            self.failed.append(value)

    def longest_silence_s(self, since: float) -> float:
        """The longest time without an acknowledgement after `since`."""
        times = [since, *sorted(moment for moment in self.acked.values() if moment > since)]
        return max((later - earlier for earlier, later in zip(times, times[1:], strict=False)), default=0.0)

    def longest_silence_of_a_partition_s(self, since: float) -> float:
        """The longest time that one partition went without an acknowledgement, of those that ended after `since`."""
        return max((silence for ended, silence in list(self._silences) if ended > since), default=0.0)


def read_all(bootstrap: str, topic: str) -> list[str]:
    """Every value of a topic, by partition and offset."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "judge", "enable.auto.commit": False})
    partitions = consumer.list_topics(topic, timeout=30).topics[topic].partitions
    ends = {p: consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=30)[1] for p in partitions}
    consumer.assign([TopicPartition(topic, p, 0) for p in partitions])
    found: dict[tuple[int, int], str] = {}  # a consumer mixes its partitions as their answers come
    deadline = time.monotonic() + 60
    while len(found) < sum(ends.values()) and time.monotonic() < deadline:
        for message in consumer.consume(5000, 0.5):
            if message.error() is None:
                found[message.partition(), message.offset()] = message.value().decode()
    consumer.close()
    if len(found) < sum(ends.values()):
        raise StepFailed(
            f"{len(found)} of {sum(ends.values())} records of {topic} were read in 60 s, to be read: {ends}"
        )
    return [found[place] for place in sorted(found)]


def check_exactly_once(bootstrap: str, topic: str, producer: SteadyProducer) -> int:
    """Every acknowledged record is there once; how many there are."""
    values = read_all(bootstrap, topic)
    counts: dict[str, int] = {}
    for value in values:
        counts[value] = counts.get(value, 0) + 1
    lost = [value for value in producer.acked if value not in counts]
    double = [value for value, count in counts.items() if count > 1]
    if lost or double or producer.failed:
        raise StepFailed(
            f"lost {lost[:3]} ({len(lost)}), double {double[:3]} ({len(double)}), failed {producer.failed[:3]}"
        )
    return len(producer.acked)
