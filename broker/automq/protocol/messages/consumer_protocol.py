"""What consumers of the classic protocol put into JoinGroup and SyncGroup for each other.

The bytes are an int16 version and the message (`codec.decode_versioned`). A reader meets newer versions than it knows
and reads them in its newest one: later versions only add fields at the end.
"""

from dataclasses import dataclass

from automq.protocol.schema import Message, Scalar, array, binary, int32, string


@dataclass(slots=True, kw_only=True)
class TopicPartition:
    topic: str = string()
    partitions: list[int] = array(Scalar.INT32)


@dataclass(slots=True, kw_only=True)
class ConsumerProtocolSubscription(Message):
    """A member's subscription, versions 0 to 3."""

    VERSIONS = range(4)

    topics: list[str] = array(Scalar.STRING)
    user_data: bytes | None = binary(nullable_since=0, default=None)
    owned_partitions: list[TopicPartition] = array(TopicPartition, since=1, ignorable=True)
    generation_id: int = int32(since=2, default=-1, ignorable=True)
    rack_id: str | None = string(since=3, nullable_since=3, default=None, ignorable=True)


@dataclass(slots=True, kw_only=True)
class ConsumerProtocolAssignment(Message):
    """What the group's leader assigned to a member, versions 0 to 3 (all alike)."""

    VERSIONS = range(4)

    assigned_partitions: list[TopicPartition] = array(TopicPartition)
    user_data: bytes | None = binary(nullable_since=0, default=None)
