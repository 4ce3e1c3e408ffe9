"""What goes on beside producers and consumers of a run: `python -m tests.chaos.beside WHAT ...`, in a process each.

    commits     one group commits a thousand partitions at a time, ever further; the journal has what was acknowledged
    topics      a topic is created, written to and deleted, again and again
    slow        consumers that ask for everything and take nothing, or a byte at a time

None of it may disturb the promises of the run; what was acknowledged to `commits` must be there at its end, and what
`topics` was told is deleted must be gone.
"""

import argparse
import contextlib
import pathlib
import sys
import time
from collections.abc import Callable

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from tests.chaos.clients import Journal, Stop
from tests.support.raw_client import RawClient, stalled

WIDE_TOPIC, WIDE_PARTITIONS, WIDE_GROUP = "wide", 1_000, "wide"
SLOW_CLIENTS = 20
WAIT_S = 10
COMMON = {"socket.connection.setup.timeout.ms": 3000, "reconnect.backoff.max.ms": 500, "log_level": 2}


def commits(options: argparse.Namespace, journal: Journal, stop: Stop) -> None:
    """`trying N` before an offset is committed for all partitions, `acked N` after."""
    consumer = Consumer(
        {"bootstrap.servers": options.bootstrap, "group.id": WIDE_GROUP, "enable.auto.commit": False, **COMMON}
    )
    offset = 0
    while not stop.asked:
        offset += 1
        journal.line("trying", offset)
        wanted = [TopicPartition(WIDE_TOPIC, index, offset) for index in range(WIDE_PARTITIONS)]
        try:
            answered = consumer.commit(offsets=wanted, asynchronous=False)
        except KafkaException as error:
            journal.line("failed", offset, error)
            time.sleep(0.2)
            continue
        if all(each.error is None for each in answered):
            journal.line("acked", offset)
        time.sleep(0.3)
    consumer.close()


def topics(options: argparse.Namespace, journal: Journal, stop: Stop) -> None:
    """`created NAME`, `deleted NAME`: what was acknowledged; a name is used again once it is deleted."""
    admin = AdminClient({"bootstrap.servers": options.bootstrap, **COMMON})
    number = 0
    while not stop.asked:
        name = f"passing-{number % 3}"
        number += 1
        try:
            with contextlib.suppress(KafkaException):
                admin.delete_topics([name], request_timeout=WAIT_S)[name].result(WAIT_S)
            admin.create_topics([NewTopic(name, 3)], request_timeout=WAIT_S)[name].result(WAIT_S)
            journal.line("created", name)
            producer = Producer({"bootstrap.servers": options.bootstrap, "compression.type": "zstd", **COMMON})
            for each in range(200):
                producer.produce(name, f"{each}".encode() * 100, partition=each % 3)
            producer.flush(WAIT_S)
            producer.purge()
            admin.delete_topics([name], request_timeout=WAIT_S)[name].result(WAIT_S)
            journal.line("deleted", name)
        except (KafkaException, TimeoutError) as error:
            journal.line("failed", name, repr(error))
            time.sleep(0.2)


def slow(options: argparse.Namespace, journal: Journal, stop: Stop) -> None:
    """Twenty at a time; every other one takes a few bytes now and then."""
    consumers: list[RawClient] = []
    while not stop.asked:
        try:
            while len(consumers) < SLOW_CLIENTS:
                at = dict.fromkeys(range(options.partitions), 0)
                consumers.append(stalled(options.bootstrap, options.topic, at))
            for consumer in consumers[::2]:
                consumer.socket.settimeout(0.05)
                with contextlib.suppress(TimeoutError):
                    if not consumer.socket.recv(10):
                        raise ConnectionError
        except OSError:
            journal.line("lost", len(consumers))
            for consumer in consumers:
                consumer.close()
            consumers.clear()
        time.sleep(0.2)
    for consumer in consumers:
        consumer.close()


WHAT: dict[str, Callable[[argparse.Namespace, Journal, Stop], None]] = {
    "commits": commits,
    "topics": topics,
    "slow": slow,
}


def prepare(bootstrap: str) -> None:
    """What `commits` commits for."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(WIDE_TOPIC, WIDE_PARTITIONS)])[WIDE_TOPIC].result(60)


def problems(bootstrap: str, commit_lines: list[str], topic_lines: list[str]) -> list[str]:
    """The promises to `commits` and `topics` that were broken, in words. The broker serves."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": WIDE_GROUP, "enable.auto.commit": False})
    try:
        asked = [TopicPartition(WIDE_TOPIC, index) for index in range(WIDE_PARTITIONS)]
        found = [each.offset for each in consumer.committed(asked, 60)]
        names = set(consumer.list_topics(timeout=60).topics)
    finally:
        consumer.close()
    return [*broken_commits(found, commit_lines), *broken_topics(names, topic_lines)]


def broken_commits(found: list[int], lines: list[str]) -> list[str]:
    """Pure: every partition has what was acknowledged last, or what was tried after that."""
    words = [line.split() for line in lines]
    acked = max((int(word[1]) for word in words if word[0] == "acked"), default=-1)
    tried = max((int(word[1]) for word in words if word[0] == "trying"), default=-1)
    wrong = [(index, offset) for index, offset in enumerate(found) if not acked <= offset <= tried]
    if not wrong:
        return []
    return [f"{len(wrong)} committed offsets are not in [{acked}, {tried}], the first is {wrong[0]}"]


def broken_topics(names: set[str], lines: list[str]) -> list[str]:
    """Pure: what was said last of a topic, before a try that failed, is so."""
    last: dict[str, str] = {}
    for line in lines:
        what, name = line.split()[:2]
        last[name] = what
    return [
        *(f"{name} was deleted and is there" for name, what in last.items() if what == "deleted" and name in names),
        *(f"{name} was created and is gone" for name, what in last.items() if what == "created" and name not in names),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=list(WHAT))
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--partitions", type=int, required=True)
    parser.add_argument("--journal", type=pathlib.Path, required=True)
    options = parser.parse_args()
    WHAT[options.what](options, Journal(options.journal), Stop())


if __name__ == "__main__":
    sys.exit(main())
