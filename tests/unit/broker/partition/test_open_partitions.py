"""Open partitions by name, by id, and by the bytes that a Produce request names them with."""

import uuid
from typing import Any, cast

import pytest

from automq.ids import TopicId, TopicPartition
from automq.partition.open_partitions import OpenPartitions
from automq.partition.partition import Partition

FIRST, SECOND = TopicId(uuid.UUID(int=1)), TopicId(uuid.UUID(int=2))


class Named:
    """All that is asked of a partition here."""

    def __init__(self, topic: str, index: int, topic_id: TopicId) -> None:
        self.name, self.topic_id = TopicPartition(topic, index), topic_id


def a_partition(topic: str = "orders", index: int = 0, topic_id: TopicId = FIRST) -> Partition:
    return cast(Partition, cast(Any, Named(topic, index, topic_id)))


def key_of(topic: str | TopicId, index: int) -> bytes:
    """As they lie in a request: a compact array of one stands between."""
    name = topic.bytes if isinstance(topic, uuid.UUID) else bytes([len(topic.encode()) + 1]) + topic.encode()
    return name + b"\x02" + index.to_bytes(4, "big", signed=True)


@pytest.mark.parametrize("topic", ["orders", "größe"])
def test_partition_is_found_by_all_its_names_until_it_is_removed(topic: str) -> None:
    opened = OpenPartitions()
    partition = a_partition(topic, 3)
    assert opened.find_by_key(key_of(topic, 3), has_id=False) is None
    opened.add(partition)
    for _ in range(2):
        assert opened.find(topic, 3) is opened.find_by_id(FIRST, 3) is partition
        assert opened.find_by_key(key_of(topic, 3), has_id=False) is partition
        assert opened.find_by_key(key_of(FIRST, 3), has_id=True) is partition
    assert list(opened) == [partition]
    assert (opened.topics(), opened.of_topic(topic)) == ([topic], {3: partition})
    opened.remove(partition)

    assert opened.find(topic, 3) is opened.find_by_id(FIRST, 3) is None
    assert opened.find_by_key(key_of(topic, 3), has_id=False) is None
    assert opened.find_by_key(key_of(FIRST, 3), has_id=True) is None
    assert (list(opened), opened.topics(), opened.of_topic(topic)) == ([], [], {})


def test_newer_one_of_a_name_stays_when_the_older_one_goes() -> None:
    opened = OpenPartitions()
    old, new = a_partition(), a_partition(topic_id=SECOND)
    opened.add(old)
    assert opened.find_by_key(key_of("orders", 0), has_id=False) is old
    opened.add(new)
    assert opened.find_by_key(key_of("orders", 0), has_id=False) is new
    assert opened.find_by_key(key_of(FIRST, 0), has_id=True) is old
    opened.remove(old)
    assert opened.find_by_key(key_of("orders", 0), has_id=False) is opened.find_by_id(SECOND, 0) is new
    assert opened.find_by_key(key_of(FIRST, 0), has_id=True) is None


def test_key_that_is_no_text_or_no_index_names_nothing() -> None:
    opened = OpenPartitions()
    opened.add(a_partition())
    assert opened.find_by_key(b"\x02\xff\x02" + bytes(4), has_id=False) is None
    assert opened.find_by_key(key_of("orders", -1), has_id=False) is None
