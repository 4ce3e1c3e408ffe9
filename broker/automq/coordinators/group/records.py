"""Pure: group records as `__consumer_offsets` holds them, in Kafka's own bytes.

A key's version tells the kinds apart: 0 and 1 an offset, 2 a group; other kinds belong to newer sorts of groups and are
passed over. Offsets are written as version 4 (version 1 when the client chose an expiry), groups as version 3: what
Kafka 4.3 writes. Every older version is read.
"""

import struct
import uuid
from typing import Final

from automq.coordinators.group.model import (
    CommittedOffset,
    GroupSnapshot,
    GroupStored,
    MemberSnapshot,
    OffsetStored,
    Record,
)
from automq.protocol.codec import MalformedMessage, decode_versioned, encode_versioned
from automq.protocol.messages.group_records import (
    GroupMetadataKey,
    GroupMetadataValue,
    MemberMetadata,
    OffsetCommitKey,
    OffsetCommitValue,
)
from automq.protocol.schema import ZERO_UUID

Buffer = bytes | memoryview

OFFSET_KEY_VERSIONS: Final = (0, 1)
OFFSET_KEY_VERSION: Final = 1
GROUP_KEY_VERSION: Final = 2
OFFSET_VALUE_VERSION: Final = 4
OFFSET_VALUE_WITH_EXPIRY_VERSION: Final = 1
GROUP_VALUE_VERSION: Final = 3
NO_TIME: Final = -1


# A value of version 4 without metadata, and the same with the topic's id: what nearly all of them are.
_PLAIN_VALUE: Final = struct.Struct(">hqiBqB")
_VALUE_WITH_TOPIC: Final = struct.Struct(">hqiBqBBB16s")
_PARTITION: Final = struct.Struct(">i")


class RecordMalformed(Exception):
    """Key or value is not what its version says."""


class OffsetDecoder:
    """Decodes the plainest offsets in a tenth of the time of `decode`; of many keys each group and topic once."""

    def __init__(self) -> None:
        self._names: dict[bytes, tuple[str, str] | None] = {}

    def decode(self, key: bytes, value: bytes) -> Record | None:
        """As `decode`."""
        prefix = key[:-4]
        if prefix not in self._names:
            self._names[prefix] = _names_of(key)
        names = self._names[prefix]
        committed = None if names is None else _decode_plain(value)
        if names is None or committed is None:
            return decode(key, value)
        return OffsetStored(names[0], names[1], _PARTITION.unpack_from(key, len(key) - 4)[0], committed)


class OffsetEncoder:
    """Encodes the plainest offsets in a fraction of the time of `encode`; of those of one topic its names once."""

    def __init__(self) -> None:
        self._names: tuple[str, str] | None = None
        self._prefix = b""
        self._topic_id: uuid.UUID | None = None
        self._raw_id = b""

    def encode(self, record: Record) -> tuple[bytes, bytes | None]:
        """As `encode`."""
        if not isinstance(record, OffsetStored):
            return encode(record)
        names = record.group_id, record.topic
        if names != self._names:
            key = OffsetCommitKey(group=record.group_id, topic=record.topic, partition=0)
            self._names, self._prefix = names, encode_versioned(key, OFFSET_KEY_VERSION)[: -_PARTITION.size]
        committed = record.committed
        value = None if committed is None else self._value(committed)
        return self._prefix + _PARTITION.pack(record.partition), value

    def _value(self, committed: CommittedOffset) -> bytes:
        if committed.expire_ms is not None or committed.metadata:
            return _encode_offset(committed)
        epoch, topic_id = committed.leader_epoch, committed.topic_id
        if epoch is None:
            epoch = -1
        if topic_id is not self._topic_id:
            self._topic_id = topic_id
            self._raw_id = b"" if topic_id is None or topic_id == ZERO_UUID else topic_id.bytes
        offset, time_ms = committed.offset, committed.commit_ms
        if not self._raw_id:
            return _PLAIN_VALUE.pack(OFFSET_VALUE_VERSION, offset, epoch, 1, time_ms, 0)
        return _VALUE_WITH_TOPIC.pack(OFFSET_VALUE_VERSION, offset, epoch, 1, time_ms, 1, 0, 16, self._raw_id)


def _names_of(key: bytes) -> tuple[str, str] | None:
    """Group and topic of an offset's key; None for any other key."""
    if int.from_bytes(key[:2], signed=True) not in OFFSET_KEY_VERSIONS:
        return None
    try:
        found = decode_versioned(OffsetCommitKey, key)
    except MalformedMessage:
        return None
    # The partition is the last four bytes only where nothing follows.
    is_whole = len(key) == 10 + len(found.group.encode()) + len(found.topic.encode())
    return (found.group, found.topic) if is_whole else None


def _decode_plain(value: bytes) -> CommittedOffset | None:
    """None when it is not so plain."""
    topic_id = None
    if len(value) == _PLAIN_VALUE.size:
        version, offset, epoch, text, commit_ms, tags = _PLAIN_VALUE.unpack(value)
        if tags:
            return None
    elif len(value) == _VALUE_WITH_TOPIC.size:
        version, offset, epoch, text, commit_ms, tags, tag, size, raw = _VALUE_WITH_TOPIC.unpack(value)
        if (tags, tag, size) != (1, 0, 16):
            return None
        topic_id = uuid.UUID(bytes=raw)
    else:
        return None
    if version != OFFSET_VALUE_VERSION or text != 1:
        return None
    return CommittedOffset(
        offset=offset,
        leader_epoch=None if epoch < 0 else epoch,
        metadata="",
        commit_ms=commit_ms,
        topic_id=None if topic_id == ZERO_UUID else topic_id,
    )


def encode(record: Record) -> tuple[bytes, bytes | None]:
    """Key and value of `record`; no value deletes."""
    match record:
        case OffsetStored():
            offset_key = OffsetCommitKey(group=record.group_id, topic=record.topic, partition=record.partition)
            key = encode_versioned(offset_key, OFFSET_KEY_VERSION)
            return key, None if record.committed is None else _encode_offset(record.committed)
        case GroupStored():
            key = encode_versioned(GroupMetadataKey(group=record.group_id), GROUP_KEY_VERSION)
            return key, None if record.snapshot is None else _encode_group(record.snapshot)


def decode(key: Buffer, value: Buffer | None) -> Record | None:
    """The record of `key` and `value`; None for kinds that are not ours. Raises RecordMalformed."""
    try:
        version = int.from_bytes(key[:2], signed=True)
        if version in OFFSET_KEY_VERSIONS:
            offset_key = decode_versioned(OffsetCommitKey, key)
            committed = None if value is None else _decode_offset(value)
            return OffsetStored(offset_key.group, offset_key.topic, offset_key.partition, committed)
        if version == GROUP_KEY_VERSION:
            group_key = decode_versioned(GroupMetadataKey, key)
            return GroupStored(group_key.group, None if value is None else _decode_group(value))
    except MalformedMessage as error:
        raise RecordMalformed(f"a record of __consumer_offsets cannot be read: {error}") from error
    return None


def _encode_offset(committed: CommittedOffset) -> bytes:
    value = OffsetCommitValue(
        offset=committed.offset,
        leader_epoch=-1 if committed.leader_epoch is None else committed.leader_epoch,
        metadata=committed.metadata,
        commit_timestamp=committed.commit_ms,
        expire_timestamp=NO_TIME if committed.expire_ms is None else committed.expire_ms,
        topic_id=committed.topic_id or ZERO_UUID,
    )
    version = OFFSET_VALUE_VERSION if committed.expire_ms is None else OFFSET_VALUE_WITH_EXPIRY_VERSION
    return encode_versioned(value, version)


def _decode_offset(data: Buffer) -> CommittedOffset:
    value = decode_versioned(OffsetCommitValue, data)
    return CommittedOffset(
        offset=value.offset,
        leader_epoch=None if value.leader_epoch < 0 else value.leader_epoch,
        metadata=value.metadata,
        commit_ms=value.commit_timestamp,
        expire_ms=None if value.expire_timestamp == NO_TIME else value.expire_timestamp,
        topic_id=None if value.topic_id == ZERO_UUID else value.topic_id,
    )


def _encode_group(group: GroupSnapshot) -> bytes:
    value = GroupMetadataValue(
        protocol_type=group.protocol_type,
        generation=group.generation,
        protocol=group.protocol_name,
        leader=group.leader,
        current_state_timestamp=NO_TIME if group.since_ms is None else group.since_ms,
        members=[
            MemberMetadata(
                member_id=member.member_id,
                group_instance_id=member.instance_id,
                client_id=member.client_id,
                client_host=member.client_host,
                rebalance_timeout=member.rebalance_timeout_ms,
                session_timeout=member.session_timeout_ms,
                subscription=member.subscription,
                assignment=member.assignment,
            )
            for member in group.members
        ],
    )
    return encode_versioned(value, GROUP_VALUE_VERSION)


def _decode_group(data: Buffer) -> GroupSnapshot:
    value = decode_versioned(GroupMetadataValue, data)
    return GroupSnapshot(
        protocol_type=value.protocol_type,
        generation=value.generation,
        protocol_name=value.protocol,
        leader=value.leader,
        since_ms=None if value.current_state_timestamp == NO_TIME else value.current_state_timestamp,
        members=tuple(
            MemberSnapshot(
                member_id=member.member_id,
                instance_id=member.group_instance_id,
                client_id=member.client_id,
                client_host=member.client_host,
                # The oldest version had one timeout for both.
                rebalance_timeout_ms=(
                    member.session_timeout if member.rebalance_timeout < 0 else member.rebalance_timeout
                ),
                session_timeout_ms=member.session_timeout,
                subscription=member.subscription,
                assignment=member.assignment,
            )
            for member in value.members
        ),
    )
