"""Groups of real clients outlive the move and the death of their coordinator: each record once, nobody's place lost.

The offsets topic has one partition here, so that every group moves with it.
"""

import pathlib
import threading
from collections import Counter
from collections.abc import Iterator

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from tests.support.cluster_admin import reassign
from tests.support.cluster_processes import Member, Members, until

WAIT_S = 240
PARTITIONS = 4
OFFSETS = "__consumer_offsets"
pytestmark = pytest.mark.timeout(900)


@pytest.fixture
def members(tmp_path: pathlib.Path) -> Iterator[Members]:
    made = Members(
        *[
            Member(
                tmp_path,
                node,
                f"file://{tmp_path}/store",
                automq__memory__bytes=128 * 1024 * 1024,
                automq__balancer__enable="false",
                offsets__topic__num__partitions=1,
            )
            for node in (1, 2, 3)
        ]
    )
    try:
        made.start()
        yield made
    finally:
        made.end()


class StaticMember:
    """A consumer with a name of its own, in a thread: what it was given, and how often its assignment changed."""

    def __init__(self, members: Members, name: str) -> None:
        self.name = name
        self.seen: list[tuple[int, int, str]] = []
        self.assigned: list[list[int]] = []
        self.revoked = 0
        self.errors: list[object] = []
        self._is_over = threading.Event()
        self._consumer = Consumer(
            {
                "bootstrap.servers": members.bootstrap,
                "group.id": "movers",
                "group.instance.id": name,
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                # Longer than whatever happens here takes on a machine that has much else to do.
                "session.timeout.ms": WAIT_S * 1000,
                "max.poll.interval.ms": 2 * WAIT_S * 1000,
                "reconnect.backoff.max.ms": 500,
                "log_level": 0,
            }
        )
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        def assigned(_: Consumer, partitions: list[TopicPartition]) -> None:
            self.assigned.append(sorted(each.partition for each in partitions))

        def revoked(_: Consumer, partitions: list[TopicPartition]) -> None:
            self.revoked += len(partitions)

        self._consumer.subscribe(["orders"], on_assign=assigned, on_revoke=revoked)
        while not self._is_over.is_set():
            message = self._consumer.poll(0.1)
            if message is None:
                self._commit_again()
                continue
            if (error := message.error()) is not None:
                if not error.retriable():
                    self.errors.append(error)
                continue
            partition, offset, value = message.partition(), message.offset(), message.value()
            assert partition is not None
            assert offset is not None
            assert value is not None
            self.seen.append((partition, offset, value.decode()))
            self._consumer.commit(message, asynchronous=True)

    def _commit_again(self) -> None:
        """All that was seen: librdkafka tries refused commits again by and by, and an older one may come last."""
        seen: dict[int, int] = {}
        for partition, offset, _ in self.seen:
            seen[partition] = max(offset + 1, seen.get(partition, 0))
        if seen:
            self._consumer.commit(offsets=[TopicPartition("orders", *each) for each in seen.items()], asynchronous=True)

    def stop(self) -> None:
        self._is_over.set()
        self._thread.join()
        self._consumer.close()


def test_static_members_keep_their_partitions_when_the_coordinator_moves_and_dies(members: Members) -> None:
    admin = AdminClient({"bootstrap.servers": members.bootstrap, "log_level": 0})
    # Led by the controller, which nothing happens to.
    wanted = NewTopic("orders", num_partitions=PARTITIONS, replica_assignment=[[1]] * PARTITIONS)
    admin.create_topics([wanted])["orders"].result(60)
    producer = Producer({"bootstrap.servers": members.by_node[1].address, "enable.idempotence": True})
    sent: list[str] = []

    def send() -> None:
        for index in range(PARTITIONS):
            sent.append(f"r{len(sent)}")
            producer.produce("orders", sent[-1], partition=index)
        assert producer.flush(WAIT_S) == 0

    send()
    consumers = [StaticMember(members, name) for name in ("a", "b")]
    try:

        def all_seen() -> bool:
            return sum(len(set(each.seen)) for each in consumers) >= len(sent)

        def is_shared() -> bool:
            return all(each.assigned and len(each.assigned[-1]) == PARTITIONS // 2 for each in consumers)

        until(lambda: is_shared() and all_seen(), WAIT_S, what="the group shares the topic")
        before = [(list(each.assigned), each.revoked) for each in consumers]

        # It moves to broker 3, by hand; then broker 3 dies.
        reassign(members.by_node[1], OFFSETS, {0: [3]})
        until(lambda: members.by_node[3].led_by(OFFSETS)[OFFSETS, 0] == 3, WAIT_S, what="the coordinator moves")
        send()
        until(all_seen, WAIT_S, what="everything is read after the move")
        members.by_node[3].kill()
        until(lambda: members.by_node[1].led_by(OFFSETS)[OFFSETS, 0] in (1, 2), WAIT_S, what="another coordinates")
        send()
        until(all_seen, WAIT_S, what="everything is read after the death")
        until(lambda: committed(members) == len(sent), WAIT_S, what="everything is committed with the new one")
        after = [(list(each.assigned), each.revoked) for each in consumers]
    finally:
        for each in consumers:
            each.stop()

    assert [each.errors for each in consumers] == [[], []]
    assert after == before
    found = Counter(value for each in consumers for _, _, value in each.seen)
    assert found == Counter(sent)


def committed(members: Members) -> int:
    """Records that the group has committed."""
    reader = Consumer({"bootstrap.servers": members.by_node[1].address, "group.id": "movers", "log_level": 0})
    try:
        asked = [TopicPartition("orders", index) for index in range(PARTITIONS)]
        return sum(max(each.offset, 0) for each in reader.committed(asked, timeout=20))
    finally:
        reader.close()
