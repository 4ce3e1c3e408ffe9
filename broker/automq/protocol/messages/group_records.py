"""Records of `__consumer_offsets`, in Kafka's own format: committed offsets and the metadata of classic groups.

Key and value each are an int16 version and the message (`codec.encode_versioned`). A key's version is what tells the
kinds of records apart: 0 and 1 an offset, 2 a group; higher ones belong to the newer group protocols. A record without
a value (a tombstone) deletes.
"""

import uuid
from dataclasses import dataclass

from automq.protocol.schema import Message, array, binary, int32, int64, string, unique_id


@dataclass(slots=True, kw_only=True)
class OffsetCommitKey(Message):
    """Which offset, versions 0 and 1 (alike)."""

    VERSIONS = range(2)

    group: str = string()
    topic: str = string()
    partition: int = int32()


@dataclass(slots=True, kw_only=True)
class OffsetCommitValue(Message):
    """A committed offset, versions 0 to 4."""

    VERSIONS = range(5)
    FLEXIBLE_SINCE = 4

    offset: int = int64()
    leader_epoch: int = int32(since=3, default=-1, ignorable=True)
    metadata: str = string()
    commit_timestamp: int = int64()
    expire_timestamp: int = int64(since=1, until=1, default=-1, ignorable=True)
    topic_id: uuid.UUID = unique_id(since=4, tag=0, ignorable=True)


@dataclass(slots=True, kw_only=True)
class GroupMetadataKey(Message):
    """Which group, version 2."""

    VERSIONS = range(2, 3)

    group: str = string()


@dataclass(slots=True, kw_only=True)
class MemberMetadata:
    member_id: str = string()
    group_instance_id: str | None = string(since=3, nullable_since=3, default=None, ignorable=True)
    client_id: str = string()
    client_host: str = string()
    rebalance_timeout: int = int32(since=1, default=-1, ignorable=True)
    session_timeout: int = int32()
    subscription: bytes = binary()
    assignment: bytes = binary()


@dataclass(slots=True, kw_only=True)
class GroupMetadataValue(Message):
    """A stable or empty generation of a classic group, versions 0 to 4."""

    VERSIONS = range(5)
    FLEXIBLE_SINCE = 4

    protocol_type: str = string()
    generation: int = int32()
    protocol: str | None = string(nullable_since=0, default=None)
    leader: str | None = string(nullable_since=0, default=None)
    current_state_timestamp: int = int64(since=2, default=-1, ignorable=True)
    members: list[MemberMetadata] = array(MemberMetadata)
