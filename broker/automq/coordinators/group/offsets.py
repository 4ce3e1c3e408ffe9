"""Pure: committed offsets: who may commit, what is stored, what a group may read, and when an offset expires.

`OffsetTable` is stored state: only `replay` changes it. An offset is never moved by anything but a newer commit, and
never taken back: deleting and expiring are records of their own.
"""

import dataclasses
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from automq.coordinators.group import rebalance
from automq.coordinators.group.classic import ClassicGroup
from automq.coordinators.group.model import (
    NO_LEADER_EPOCH,
    NO_MEMBER,
    CommittedOffset,
    GroupSettings,
    GroupState,
    OffsetStored,
    Record,
)
from automq.coordinators.group.turn import Turn
from automq.protocol.errors import ApiError, ErrorCode
from automq.protocol.messages.offset import (
    OffsetCommitRequest,
    OffsetCommitResponse,
    OffsetCommitResponsePartition,
    OffsetCommitResponseTopic,
    OffsetDeleteRequest,
    OffsetDeleteResponse,
    OffsetDeleteResponsePartition,
    OffsetDeleteResponseTopic,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopics,
    OffsetFetchResponseGroup,
    OffsetFetchResponsePartitions,
    OffsetFetchResponseTopics,
)
from automq.protocol.schema import ZERO_UUID
from automq.steps import Steps

NO_OFFSET: Final = -1
TIME_MS_MAX: Final = 2**63 - 1
# Key and value without their strings, and the record around them.
RECORD_OVERHEAD_BYTES: Final = 96
# One commit of 100,000 partitions of long names. It is decided in parts and becomes several batches; all of them are
# durable before it is answered. Memory is what bounds it.
COMMIT_BYTES_MAX: Final = 64 << 20
# Offsets that are committed or deleted by one decision, which with its records takes about 15 us each.
COMMITTED_A_PART: Final = 250
# Offsets fetched in one step, and about how long one takes.
FETCHED_A_STEP: Final = 250
FETCHED_US: Final = 4

TopicExists = Callable[[str, uuid.UUID | None], bool]
"""Whether a topic of that name still exists, and is the one of that id where an id is known."""


class OffsetTable:
    """Committed offsets by group, topic and partition."""

    def __init__(self) -> None:
        self._groups: dict[str, dict[str, dict[int, CommittedOffset]]] = {}
        self._counts: dict[str, int] = {}

    def replay(self, record: OffsetStored) -> None:
        """Set or delete one offset."""
        if record.committed is not None:
            topics = self._groups.setdefault(record.group_id, {})
            partitions = topics.setdefault(record.topic, {})
            before = len(partitions)
            partitions[record.partition] = record.committed
            if len(partitions) > before:
                self._counts[record.group_id] = self._counts.get(record.group_id, 0) + 1
            return
        topics = self._groups.get(record.group_id, {})
        partitions = topics.get(record.topic, {})
        if partitions.pop(record.partition, None) is not None:
            self._counts[record.group_id] -= 1
        if not partitions:
            topics.pop(record.topic, None)
        if not topics:
            self._groups.pop(record.group_id, None)
            self._counts.pop(record.group_id, None)

    def groups(self) -> list[str]:
        """Every group that has an offset."""
        return list(self._groups)

    def has_any(self, group_id: str) -> bool:
        """Whether the group has an offset."""
        return group_id in self._groups

    def count(self, group_id: str) -> int:
        """How many the group has."""
        return self._counts.get(group_id, 0)

    def keys(self, group_id: str) -> Iterator[tuple[str, int]]:
        """Topic and partition of each offset of the group, while offsets come and go; one that came may be left out."""
        for topic in list(self._groups.get(group_id, ())):
            for partition in list(self._groups.get(group_id, {}).get(topic, ())):
                yield topic, partition

    def get(self, group_id: str, topic: str, partition: int) -> CommittedOffset | None:
        """One offset."""
        return self._groups.get(group_id, {}).get(topic, {}).get(partition)

    def topics(self, group_id: str) -> dict[str, dict[int, CommittedOffset]]:
        """All offsets of a group; not to be changed."""
        return self._groups.get(group_id, {})

    def entries(self, group_id: str) -> Iterator[tuple[str, int, CommittedOffset]]:
        """All offsets of a group: topic, partition, offset."""
        for topic, partitions in self.topics(group_id).items():
            for partition, committed in partitions.items():
                yield topic, partition, committed


# Commit.


def parts_of_commit(request: OffsetCommitRequest) -> Steps[list[OffsetCommitRequest]]:
    """The commit as several, in order, each decided in a turn. Raises ApiError for one that is too large as a whole."""
    parts: list[OffsetCommitRequest] = []
    size = room = 0
    for topic in request.topics:
        for first in range(0, len(topic.partitions), COMMITTED_A_PART):
            some = topic.partitions[first : first + COMMITTED_A_PART]
            if room < len(some):
                parts.append(dataclasses.replace(request, topics=[]))
                room = COMMITTED_A_PART
            room -= len(some)
            parts[-1].topics.append(dataclasses.replace(topic, partitions=some))
            names = _bytes_of(request.group_id) + _bytes_of(topic.name) + RECORD_OVERHEAD_BYTES
            size += names * len(some)
            size += sum([_bytes_of(text) for partition in some if (text := partition.committed_metadata)])
            yield len(some)
    _check_size(size)
    return parts


def parts_of_deletion(request: OffsetDeleteRequest) -> Steps[list[OffsetDeleteRequest]]:
    """The deletion as several, in order, each decided in a turn."""
    parts: list[OffsetDeleteRequest] = []
    room = 0
    for topic in request.topics:
        for first in range(0, max(1, len(topic.partitions)), COMMITTED_A_PART):
            some = topic.partitions[first : first + COMMITTED_A_PART]
            if room < len(some) or not parts:
                parts.append(dataclasses.replace(request, topics=[]))
                room = COMMITTED_A_PART
            room -= len(some)
            parts[-1].topics.append(dataclasses.replace(topic, partitions=some))
            yield len(some)
    return parts or [request]


def commit(turn: Turn, group: ClassicGroup, request: OffsetCommitRequest) -> OffsetCommitResponse:
    """Store the offsets; a partition whose metadata is too long is refused alone. Raises ApiError for all of them.

    Every topic of the request has its name; its id too where the topic is known.
    """
    _validate_commit(turn, group, request)
    expire_ms = None if request.retention_time < 0 else min(turn.wall_ms + request.retention_time, TIME_MS_MAX)
    records: list[Record] = []
    size = 0
    response = OffsetCommitResponse()
    for topic in request.topics:
        answer = OffsetCommitResponseTopic(name=topic.name, topic_id=topic.topic_id)
        response.topics.append(answer)
        topic_id = None if topic.topic_id == ZERO_UUID else topic.topic_id
        overhead = RECORD_OVERHEAD_BYTES + _bytes_of(request.group_id) + _bytes_of(topic.name)
        for partition in topic.partitions:
            metadata = partition.committed_metadata or ""
            code = ErrorCode.NONE
            if len(metadata) > turn.settings.offset_metadata_length_max:
                code = ErrorCode.OFFSET_METADATA_TOO_LARGE
            else:
                epoch = partition.committed_leader_epoch
                committed = CommittedOffset(
                    offset=partition.committed_offset,
                    leader_epoch=None if epoch < 0 else epoch,
                    metadata=metadata,
                    commit_ms=turn.wall_ms,
                    expire_ms=expire_ms,
                    topic_id=topic_id,
                )
                size += overhead + _bytes_of(metadata) if metadata else overhead
                records.append(OffsetStored(request.group_id, topic.name, partition.partition_index, committed))
            answer.partitions.append(
                OffsetCommitResponsePartition(partition_index=partition.partition_index, error_code=code)
            )
    _check_size(size)
    turn.store(records)
    return response


def _validate_commit(turn: Turn, group: ClassicGroup, request: OffsetCommitRequest) -> None:
    """Members commit for their own generation; whoever has no generation, only while the group is empty."""
    generation = request.generation_id_or_member_epoch
    if generation < 0 and group.state is GroupState.EMPTY:
        return
    if generation < 0 and request.member_id == NO_MEMBER and request.group_instance_id is None:
        raise ApiError(ErrorCode.UNKNOWN_MEMBER_ID, f"group {group.group_id} has members: only they may commit")
    member = group.validate_member(request.member_id, request.group_instance_id)
    if generation != group.generation:
        raise ApiError(ErrorCode.ILLEGAL_GENERATION, f"group {group.group_id} is at generation {group.generation}")
    if group.state is GroupState.COMPLETING_REBALANCE:
        raise ApiError(ErrorCode.REBALANCE_IN_PROGRESS, f"group {group.group_id} waits for its new assignment")
    rebalance.touch_session(turn, member)


def _bytes_of(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def _check_size(size: int) -> None:
    if size > COMMIT_BYTES_MAX:
        raise ApiError(ErrorCode.INVALID_COMMIT_OFFSET_SIZE, "the commit is too large: commit fewer partitions at once")


# Fetch.


def fetch(table: OffsetTable, request: OffsetFetchRequestGroup) -> Steps[OffsetFetchResponseGroup]:
    """The offsets asked for, or all; a partition without one answers -1 and no error. Some offsets a step."""
    response = OffsetFetchResponseGroup(group_id=request.group_id)
    wanted = _all_of(table, request.group_id) if request.topics is None else _named(request.topics)
    looked_at = 0
    for name, topic_id, partitions in wanted:
        topic = OffsetFetchResponseTopics(name=name, topic_id=topic_id)
        response.topics.append(topic)
        looked_at += 1
        for partition in partitions:
            committed = table.get(request.group_id, name, partition)
            if committed is not None or request.topics is not None:
                topic.partitions.append(_fetched(partition, committed))
            looked_at += 1
            if looked_at >= FETCHED_A_STEP:
                looked_at = 0
                yield FETCHED_US * FETCHED_A_STEP
    return response


def _all_of(table: OffsetTable, group_id: str) -> Iterator[tuple[str, uuid.UUID, Sequence[int]]]:
    for name in list(table.topics(group_id)):
        partitions = table.topics(group_id).get(name)
        if partitions is not None:
            yield name, ZERO_UUID, list(partitions)


def _named(topics: Iterable[OffsetFetchRequestTopics]) -> Iterator[tuple[str, uuid.UUID, Sequence[int]]]:
    for topic in topics:
        yield topic.name, topic.topic_id, topic.partition_indexes


def _fetched(partition: int, committed: CommittedOffset | None) -> OffsetFetchResponsePartitions:
    if committed is None:
        return OffsetFetchResponsePartitions(
            partition_index=partition, committed_offset=NO_OFFSET, committed_leader_epoch=NO_LEADER_EPOCH, metadata=""
        )
    return OffsetFetchResponsePartitions(
        partition_index=partition,
        committed_offset=committed.offset,
        committed_leader_epoch=NO_LEADER_EPOCH if committed.leader_epoch is None else committed.leader_epoch,
        metadata=committed.metadata,
    )


# Delete and expire.


def delete(turn: Turn, group: ClassicGroup, table: OffsetTable, request: OffsetDeleteRequest) -> OffsetDeleteResponse:
    """Delete offsets of topics that no member reads. Raises NON_EMPTY_GROUP for members that are no consumers."""
    if group.state is not GroupState.EMPTY and group.protocol_type != "consumer":
        raise ApiError(ErrorCode.NON_EMPTY_GROUP, f"group {group.group_id} has members")
    response = OffsetDeleteResponse()
    for topic in request.topics:
        is_read = group.is_subscribed_to(topic.name) and group.state is not GroupState.EMPTY
        code = ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC if is_read else ErrorCode.NONE
        answer = OffsetDeleteResponseTopic(name=topic.name)
        response.topics.append(answer)
        for wanted in topic.partitions:
            index = wanted.partition_index
            if not is_read and table.get(request.group_id, topic.name, index) is not None:
                turn.store([OffsetStored(request.group_id, topic.name, index, None)])
            answer.partitions.append(OffsetDeleteResponsePartition(partition_index=index, error_code=code))
    return response


def is_over(
    group: ClassicGroup,
    topic: str,
    committed: CommittedOffset,
    *,
    wall_ms: int,
    settings: GroupSettings,
    topic_exists: TopicExists,
) -> bool:
    """Whether an offset is past its retention, or its topic is gone."""
    return not topic_exists(topic, committed.topic_id) or (
        _may_expire(group, topic) and _is_expired(group, committed, wall_ms=wall_ms, settings=settings)
    )


def _may_expire(group: ClassicGroup, topic: str) -> bool:
    """A group with members keeps what they read; other groups than consumers' keep all while they have members."""
    if group.state is GroupState.EMPTY:
        return True
    return group.state is GroupState.STABLE and group.topics is not None and topic not in group.topics


def _is_expired(group: ClassicGroup, committed: CommittedOffset, *, wall_ms: int, settings: GroupSettings) -> bool:
    if committed.expire_ms is not None:
        return wall_ms >= committed.expire_ms
    since_ms = committed.commit_ms
    if group.state is GroupState.EMPTY and group.protocol_type is not None and group.since_ms is not None:
        # A group that had members: its offsets live on for the whole retention after the last one left.
        since_ms = group.since_ms
    return wall_ms - since_ms >= settings.offsets_retention_ms
