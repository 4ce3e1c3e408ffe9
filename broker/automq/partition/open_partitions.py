"""The open partitions of a broker, by everything that names them.

Beside name and id that is the bytes by which a Produce request names one, for requests that come again and again: those
of `core.scan_produce`, topic and index as they lie in the request.
"""

import uuid
from collections.abc import Iterator
from typing import Final, TypeVar

from automq.ids import TopicId
from automq.partition.partition import Partition

_ID_BYTES: Final = 16
_INDEX_BYTES: Final = 4


class OpenPartitions:
    """What requests are served from."""

    __slots__ = ("_by_id", "_by_id_key", "_by_name", "_by_name_key")

    def __init__(self) -> None:
        self._by_name: dict[str, dict[int, Partition]] = {}
        self._by_id: dict[TopicId, dict[int, Partition]] = {}
        # What was found once, until any partition is opened or closed.
        self._by_name_key: dict[bytes, Partition] = {}
        self._by_id_key: dict[bytes, Partition] = {}

    def __iter__(self) -> Iterator[Partition]:
        for partitions in self._by_name.values():
            yield from partitions.values()

    def topics(self) -> list[str]:
        """Names of those that have any."""
        return list(self._by_name)

    def of_topic(self, topic: str) -> dict[int, Partition]:
        """By index."""
        return self._by_name.get(topic, {})

    def find(self, topic: str, index: int) -> Partition | None:
        """None when there is no such one."""
        partitions = self._by_name.get(topic)
        return None if partitions is None else partitions.get(index)

    def find_by_id(self, topic_id: TopicId, index: int) -> Partition | None:
        """None when there is no such one."""
        partitions = self._by_id.get(topic_id)
        return None if partitions is None else partitions.get(index)

    def find_by_key(self, key: bytes, *, has_id: bool) -> Partition | None:
        """None when there is no such one, or no topic can be named so."""
        found = (self._by_id_key if has_id else self._by_name_key).get(key)
        return self._find(key, has_id=has_id) if found is None else found

    def _find(self, key: bytes, *, has_id: bool) -> Partition | None:
        index = int.from_bytes(key[-_INDEX_BYTES:], "big", signed=True)
        if has_id:
            found = self.find_by_id(TopicId(uuid.UUID(bytes=key[:_ID_BYTES])), index)
        else:
            try:
                found = self.find(key[1 : key[0]].decode(), index)
            except UnicodeDecodeError:
                return None
        if found is not None:
            (self._by_id_key if has_id else self._by_name_key)[key] = found
        return found

    def add(self, partition: Partition) -> None:
        """In place of another one of the same name, which may not be known yet to be gone."""
        self._forget_keys()
        self._by_name.setdefault(partition.name.topic, {})[partition.name.partition] = partition
        self._by_id.setdefault(partition.topic_id, {})[partition.name.partition] = partition

    def remove(self, partition: Partition) -> None:
        """That one, whatever has its name by now."""
        self._forget_keys()
        _remove(self._by_name, partition.name.topic, partition)
        _remove(self._by_id, partition.topic_id, partition)

    def _forget_keys(self) -> None:
        self._by_name_key.clear()
        self._by_id_key.clear()


Name = TypeVar("Name", str, TopicId)


def _remove(table: dict[Name, dict[int, Partition]], topic: Name, partition: Partition) -> None:
    partitions = table.get(topic)
    if partitions is not None and partitions.get(partition.name.partition) is partition:
        del partitions[partition.name.partition]
        if not partitions:
            del table[topic]
