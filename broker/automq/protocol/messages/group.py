"""The classic group protocol: find the coordinator, join, sync, heartbeat, leave."""

from dataclasses import dataclass

from automq.protocol.schema import Message, Scalar, array, binary, boolean, int8, int16, int32, string


@dataclass(slots=True, kw_only=True)
class FindCoordinatorRequest(Message):
    """FindCoordinator (key 10) request, versions 0 to 6.

    One key up to version 3, a list of keys from 4. Key types: 0 group, 1 transaction, 2 share.
    """

    API_KEY = 10
    VERSIONS = range(7)
    FLEXIBLE_SINCE = 3

    key: str = string(until=3)
    key_type: int = int8(since=1)
    coordinator_keys: list[str] = array(Scalar.STRING, since=4)


@dataclass(slots=True, kw_only=True)
class Coordinator:
    key: str = string(since=4)
    node_id: int = int32(since=4)
    host: str = string(since=4)
    port: int = int32(since=4)
    error_code: int = int16(since=4)
    error_message: str | None = string(since=4, nullable_since=4, default=None, ignorable=True)


@dataclass(slots=True, kw_only=True)
class FindCoordinatorResponse(Message):
    """FindCoordinator (key 10) response, versions 0 to 6."""

    API_KEY = 10
    VERSIONS = range(7)
    FLEXIBLE_SINCE = 3

    throttle_time: int = int32(since=1, ignorable=True)
    error_code: int = int16(until=3)
    error_message: str | None = string(since=1, until=3, nullable_since=1, default=None, ignorable=True)
    node_id: int = int32(until=3)
    host: str = string(until=3)
    port: int = int32(until=3)
    coordinators: list[Coordinator] = array(Coordinator, since=4)


@dataclass(slots=True, kw_only=True)
class JoinGroupRequestProtocol:
    name: str = string()
    metadata: bytes = binary()


@dataclass(slots=True, kw_only=True)
class JoinGroupRequest(Message):
    """JoinGroup (key 11) request, versions 0 to 9.

    From version 4 a new member is told its id first. Static membership from 5.
    """

    API_KEY = 11
    VERSIONS = range(10)
    FLEXIBLE_SINCE = 6

    group_id: str = string()
    session_timeout: int = int32()
    rebalance_timeout: int = int32(since=1, default=-1, ignorable=True)
    member_id: str = string()
    group_instance_id: str | None = string(since=5, nullable_since=5, default=None)
    protocol_type: str = string()
    protocols: list[JoinGroupRequestProtocol] = array(JoinGroupRequestProtocol)
    reason: str | None = string(since=8, nullable_since=8, default=None, ignorable=True)


@dataclass(slots=True, kw_only=True)
class JoinGroupResponseMember:
    member_id: str = string()
    group_instance_id: str | None = string(since=5, nullable_since=5, default=None, ignorable=True)
    metadata: bytes = binary()


@dataclass(slots=True, kw_only=True)
class JoinGroupResponse(Message):
    """JoinGroup (key 11) response, versions 0 to 9."""

    API_KEY = 11
    VERSIONS = range(10)
    FLEXIBLE_SINCE = 6

    throttle_time: int = int32(since=2, ignorable=True)
    error_code: int = int16()
    generation_id: int = int32(default=-1)
    protocol_type: str | None = string(since=7, nullable_since=7, default=None, ignorable=True)
    protocol_name: str | None = string(nullable_since=7, default=None)
    leader: str = string()
    skip_assignment: bool = boolean(since=9)
    member_id: str = string()
    members: list[JoinGroupResponseMember] = array(JoinGroupResponseMember)


@dataclass(slots=True, kw_only=True)
class SyncGroupRequestAssignment:
    member_id: str = string()
    assignment: bytes = binary()


@dataclass(slots=True, kw_only=True)
class SyncGroupRequest(Message):
    """SyncGroup (key 14) request, versions 0 to 5."""

    API_KEY = 14
    VERSIONS = range(6)
    FLEXIBLE_SINCE = 4

    group_id: str = string()
    generation_id: int = int32()
    member_id: str = string()
    group_instance_id: str | None = string(since=3, nullable_since=3, default=None)
    protocol_type: str | None = string(since=5, nullable_since=5, default=None, ignorable=True)
    protocol_name: str | None = string(since=5, nullable_since=5, default=None, ignorable=True)
    assignments: list[SyncGroupRequestAssignment] = array(SyncGroupRequestAssignment)


@dataclass(slots=True, kw_only=True)
class SyncGroupResponse(Message):
    """SyncGroup (key 14) response, versions 0 to 5."""

    API_KEY = 14
    VERSIONS = range(6)
    FLEXIBLE_SINCE = 4

    throttle_time: int = int32(since=1, ignorable=True)
    error_code: int = int16()
    protocol_type: str | None = string(since=5, nullable_since=5, default=None, ignorable=True)
    protocol_name: str | None = string(since=5, nullable_since=5, default=None, ignorable=True)
    assignment: bytes = binary()


@dataclass(slots=True, kw_only=True)
class HeartbeatRequest(Message):
    """Heartbeat (key 12) request, versions 0 to 4."""

    API_KEY = 12
    VERSIONS = range(5)
    FLEXIBLE_SINCE = 4

    group_id: str = string()
    generation_id: int = int32()
    member_id: str = string()
    group_instance_id: str | None = string(since=3, nullable_since=3, default=None)


@dataclass(slots=True, kw_only=True)
class HeartbeatResponse(Message):
    """Heartbeat (key 12) response, versions 0 to 4."""

    API_KEY = 12
    VERSIONS = range(5)
    FLEXIBLE_SINCE = 4

    throttle_time: int = int32(since=1, ignorable=True)
    error_code: int = int16()


@dataclass(slots=True, kw_only=True)
class MemberIdentity:
    member_id: str = string(since=3)
    group_instance_id: str | None = string(since=3, nullable_since=3, default=None)
    reason: str | None = string(since=5, nullable_since=5, default=None, ignorable=True)


@dataclass(slots=True, kw_only=True)
class LeaveGroupRequest(Message):
    """LeaveGroup (key 13) request, versions 0 to 5.

    One member up to version 2, a list from 3.
    """

    API_KEY = 13
    VERSIONS = range(6)
    FLEXIBLE_SINCE = 4

    group_id: str = string()
    member_id: str = string(until=2)
    members: list[MemberIdentity] = array(MemberIdentity, since=3)


@dataclass(slots=True, kw_only=True)
class MemberResponse:
    member_id: str = string(since=3)
    group_instance_id: str | None = string(since=3, nullable_since=3, default=None)
    error_code: int = int16(since=3)


@dataclass(slots=True, kw_only=True)
class LeaveGroupResponse(Message):
    """LeaveGroup (key 13) response, versions 0 to 5."""

    API_KEY = 13
    VERSIONS = range(6)
    FLEXIBLE_SINCE = 4

    throttle_time: int = int32(since=1, ignorable=True)
    error_code: int = int16()
    members: list[MemberResponse] = array(MemberResponse, since=3)
