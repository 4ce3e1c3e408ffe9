"""Groups seen from outside: describe, list, delete."""

from dataclasses import dataclass

from automq.protocol.schema import Message, Scalar, array, binary, boolean, int16, int32, string


@dataclass(slots=True, kw_only=True)
class DescribeGroupsRequest(Message):
    """DescribeGroups (key 15) request, versions 0 to 6."""

    API_KEY = 15
    VERSIONS = range(7)
    FLEXIBLE_SINCE = 5

    groups: list[str] = array(Scalar.STRING)
    include_authorized_operations: bool = boolean(since=3)


@dataclass(slots=True, kw_only=True)
class DescribedGroupMember:
    member_id: str = string()
    group_instance_id: str | None = string(since=4, nullable_since=4, default=None, ignorable=True)
    client_id: str = string()
    client_host: str = string()
    member_metadata: bytes = binary()
    member_assignment: bytes = binary()


@dataclass(slots=True, kw_only=True)
class DescribedGroup:
    error_code: int = int16()
    error_message: str | None = string(since=6, nullable_since=6, default=None)
    group_id: str = string()
    group_state: str = string()
    protocol_type: str = string()
    protocol_data: str = string()
    members: list[DescribedGroupMember] = array(DescribedGroupMember)
    authorized_operations: int = int32(since=3, default=-2147483648)


@dataclass(slots=True, kw_only=True)
class DescribeGroupsResponse(Message):
    """DescribeGroups (key 15) response, versions 0 to 6."""

    API_KEY = 15
    VERSIONS = range(7)
    FLEXIBLE_SINCE = 5

    throttle_time: int = int32(since=1, ignorable=True)
    groups: list[DescribedGroup] = array(DescribedGroup)


@dataclass(slots=True, kw_only=True)
class ListGroupsRequest(Message):
    """ListGroups (key 16) request, versions 0 to 5."""

    API_KEY = 16
    VERSIONS = range(6)
    FLEXIBLE_SINCE = 3

    states_filter: list[str] = array(Scalar.STRING, since=4)
    types_filter: list[str] = array(Scalar.STRING, since=5)


@dataclass(slots=True, kw_only=True)
class ListedGroup:
    group_id: str = string()
    protocol_type: str = string()
    group_state: str = string(since=4, ignorable=True)
    group_type: str = string(since=5, ignorable=True)


@dataclass(slots=True, kw_only=True)
class ListGroupsResponse(Message):
    """ListGroups (key 16) response, versions 0 to 5."""

    API_KEY = 16
    VERSIONS = range(6)
    FLEXIBLE_SINCE = 3

    throttle_time: int = int32(since=1, ignorable=True)
    error_code: int = int16()
    groups: list[ListedGroup] = array(ListedGroup)


@dataclass(slots=True, kw_only=True)
class DeleteGroupsRequest(Message):
    """DeleteGroups (key 42) request, versions 0 to 2."""

    API_KEY = 42
    VERSIONS = range(3)
    FLEXIBLE_SINCE = 2

    groups_names: list[str] = array(Scalar.STRING)


@dataclass(slots=True, kw_only=True)
class DeletableGroupResult:
    group_id: str = string()
    error_code: int = int16()


@dataclass(slots=True, kw_only=True)
class DeleteGroupsResponse(Message):
    """DeleteGroups (key 42) response, versions 0 to 2."""

    API_KEY = 42
    VERSIONS = range(3)
    FLEXIBLE_SINCE = 2

    throttle_time: int = int32()
    results: list[DeletableGroupResult] = array(DeletableGroupResult)
