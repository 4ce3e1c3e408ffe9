"""Handles messages.group and messages.group_admin: the classic group protocol and the administration of groups."""

from collections.abc import Mapping
from typing import Final

from automq.coordinators.group.model import JoinCommand, Protocol
from automq.handlers.access import require
from automq.handlers.context import Handler, RequestContext
from automq.handlers.errors import error_code_of, error_message_of
from automq.handlers.operations import NOT_ASKED, operations_of
from automq.protocol.errors import ApiError, ErrorCode
from automq.protocol.messages.group import (
    Coordinator,
    FindCoordinatorRequest,
    FindCoordinatorResponse,
    HeartbeatRequest,
    HeartbeatResponse,
    JoinGroupRequest,
    JoinGroupResponse,
    LeaveGroupRequest,
    LeaveGroupResponse,
    MemberIdentity,
    SyncGroupRequest,
    SyncGroupResponse,
)
from automq.protocol.messages.group_admin import (
    DeletableGroupResult,
    DeleteGroupsRequest,
    DeleteGroupsResponse,
    DescribedGroup,
    DescribeGroupsRequest,
    DescribeGroupsResponse,
    ListGroupsRequest,
    ListGroupsResponse,
)
from automq.protocol.schema import Message
from automq.runtime.turns import Pace
from automq.security.authorizer import CLUSTER, Operation, ResourceType

# FindCoordinator.
_GROUP_KEY, _TRANSACTION_KEY = 0, 1
_BATCHED_SINCE: Final = 4
NO_NODE: Final = -1

# JoinGroup.
_REBALANCE_TIMEOUT_SINCE: Final = 1
_KNOWN_MEMBER_ID_SINCE: Final = 4
_NULLABLE_PROTOCOL_NAME_SINCE: Final = 7
_SKIP_ASSIGNMENT_SINCE: Final = 9

_NAMED_PROTOCOL_SINCE: Final = 5
"""SyncGroup must say which protocol it thinks was chosen."""

_BATCHED_LEAVE_SINCE: Final = 3

# About how long it takes to answer for one group, nothing waited for.
FIND_US: Final = 10
DESCRIBE_US: Final = 30
DELETE_US: Final = 20
ALLOWED_US: Final = 2
_GROUP_ID_NOT_FOUND_SINCE: Final = 6


async def handle_find_coordinator(context: RequestContext, request: FindCoordinatorRequest) -> FindCoordinatorResponse:
    """Which broker coordinates a group, at its endpoint of the listener the request came in on."""
    if context.version >= _BATCHED_SINCE:
        response, pace = FindCoordinatorResponse(), Pace()
        for key in request.coordinator_keys:
            response.coordinators.append(await _find(context, request.key_type, key))
            await pace.spend(FIND_US)
        return response
    found_one = await _find(context, request.key_type, request.key)
    return FindCoordinatorResponse(
        error_code=found_one.error_code,
        # The word that Kafka says where nothing is wrong.
        error_message=found_one.error_message if found_one.error_code else "NONE",
        node_id=found_one.node_id,
        host=found_one.host,
        port=found_one.port,
    )


async def _find(context: RequestContext, key_type: int, key: str) -> Coordinator:
    try:
        if key_type == _TRANSACTION_KEY:
            require(context, Operation.DESCRIBE, (ResourceType.TRANSACTIONAL_ID, key))
            message = (
                "Transactions are not supported yet: remove transactional.id; idempotent producers work without it"
            )
            raise ApiError(ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED, message)
        if key_type != _GROUP_KEY:
            raise ApiError(ErrorCode.INVALID_REQUEST, f"coordinators of key type {key_type} are not supported")
        # A group without a name has a coordinator, too, as in Kafka: the consumers of old committed for it.
        require(context, Operation.DESCRIBE, (ResourceType.GROUP, key))
        node = await context.services.groups.find_coordinator(key)
        broker = context.services.metadata.image.broker(node)
        endpoints = () if broker is None or broker.fenced else broker.endpoints
        endpoint = next((each for each in endpoints if each.listener_name == context.listener_name), None)
        if endpoint is None:
            raise ApiError(ErrorCode.COORDINATOR_NOT_AVAILABLE, f"the coordinator, broker {node}, is not reachable")
    except ApiError as error:
        return Coordinator(
            key=key, node_id=NO_NODE, port=NO_NODE, error_code=error.code, error_message=error_message_of(error)
        )
    return Coordinator(key=key, node_id=node, host=endpoint.host, port=endpoint.port)


async def handle_join_group(context: RequestContext, request: JoinGroupRequest) -> JoinGroupResponse:
    """Waits until the join phase ends."""
    command = JoinCommand(
        group_id=request.group_id,
        member_id=request.member_id,
        instance_id=request.group_instance_id,
        client_id=context.client_id or "",
        client_host=f"/{context.client_host}",
        session_timeout_ms=request.session_timeout,
        # The oldest version had one timeout for both.
        rebalance_timeout_ms=(
            request.rebalance_timeout if context.version >= _REBALANCE_TIMEOUT_SINCE else request.session_timeout
        ),
        protocol_type=request.protocol_type,
        protocols=tuple(Protocol(offer.name, bytes(offer.metadata)) for offer in request.protocols),
        needs_known_member_id=context.version >= _KNOWN_MEMBER_ID_SINCE,
        can_skip_assignment=context.version >= _SKIP_ASSIGNMENT_SINCE,
        member_id_suffix=str(context.services.entropy.uuid()),
    )
    try:
        response = await context.services.groups.join_group(command)
    except ApiError as error:
        response = JoinGroupResponse(error_code=error.code, member_id=request.member_id)
    if context.version < _NULLABLE_PROTOCOL_NAME_SINCE and response.protocol_name is None:
        response.protocol_name = ""
    return response


async def handle_sync_group(context: RequestContext, request: SyncGroupRequest) -> SyncGroupResponse:
    """Waits until the leader has brought the assignment."""
    if context.version >= _NAMED_PROTOCOL_SINCE and None in (request.protocol_type, request.protocol_name):
        return SyncGroupResponse(error_code=ErrorCode.INCONSISTENT_GROUP_PROTOCOL)
    try:
        return await context.services.groups.sync_group(request)
    except ApiError as error:
        return SyncGroupResponse(error_code=error.code)


async def handle_heartbeat(context: RequestContext, request: HeartbeatRequest) -> HeartbeatResponse:
    """Keeps a session alive."""
    try:
        return await context.services.groups.heartbeat(request)
    except ApiError as error:
        return HeartbeatResponse(error_code=error.code)


async def handle_leave_group(context: RequestContext, request: LeaveGroupRequest) -> LeaveGroupResponse:
    """One member, or from version 3 on several."""
    if context.version < _BATCHED_LEAVE_SINCE:
        request.members = [MemberIdentity(member_id=request.member_id)]
    try:
        response = await context.services.groups.leave_group(request)
    except ApiError as error:
        return LeaveGroupResponse(error_code=error.code)
    if context.version < _BATCHED_LEAVE_SINCE:
        return LeaveGroupResponse(error_code=response.members[0].error_code)
    return response


async def handle_describe_groups(context: RequestContext, request: DescribeGroupsRequest) -> DescribeGroupsResponse:
    """State and members of each group."""
    with_operations = request.include_authorized_operations
    response, pace = DescribeGroupsResponse(), Pace()
    for group in request.groups:
        operations = operations_of(context, (ResourceType.GROUP, group)) if with_operations else NOT_ASKED
        response.groups.append(await _describe(context, group, operations))
        await pace.spend(DESCRIBE_US)
    return response


async def _describe(context: RequestContext, group_id: str, operations: int) -> DescribedGroup:
    try:
        group = await context.services.groups.describe_group(group_id)
    except ApiError as error:
        group = DescribedGroup(error_code=error.code, error_message=error_message_of(error), group_id=group_id)
    else:
        group.authorized_operations = operations
    if context.version < _GROUP_ID_NOT_FOUND_SINCE:
        group.error_message = None
        if group.error_code == ErrorCode.GROUP_ID_NOT_FOUND:
            # Older clients know a group that does not exist by its state alone.
            group.error_code = ErrorCode.NONE
    return group


async def handle_list_groups(context: RequestContext, request: ListGroupsRequest) -> ListGroupsResponse:
    """Groups that this broker coordinates; filters do not mind case."""
    groups = await context.services.groups.list_groups(
        states=frozenset(state.lower() for state in request.states_filter),
        types=frozenset(kind.lower() for kind in request.types_filter),
    )
    if not context.allows(Operation.DESCRIBE, CLUSTER):
        allowed, pace = [], Pace()
        for group in groups:
            if context.allows(Operation.DESCRIBE, (ResourceType.GROUP, group.group_id)):
                allowed.append(group)
            await pace.spend(ALLOWED_US)
        groups = allowed
    return ListGroupsResponse(groups=groups)


async def handle_delete_groups(context: RequestContext, request: DeleteGroupsRequest) -> DeleteGroupsResponse:
    """Only empty groups can be deleted."""
    response, pace = DeleteGroupsResponse(), Pace()
    for group_id in dict.fromkeys(request.groups_names):
        try:
            code = await context.services.groups.delete_group(group_id)
        except ApiError as error:
            code = error_code_of(error)
        response.results.append(DeletableGroupResult(group_id=group_id, error_code=code))
        await pace.spend(DELETE_US)
    return response


HANDLERS: Final[Mapping[type[Message], Handler]] = {
    FindCoordinatorRequest: handle_find_coordinator,
    JoinGroupRequest: handle_join_group,
    SyncGroupRequest: handle_sync_group,
    HeartbeatRequest: handle_heartbeat,
    LeaveGroupRequest: handle_leave_group,
    DescribeGroupsRequest: handle_describe_groups,
    ListGroupsRequest: handle_list_groups,
    DeleteGroupsRequest: handle_delete_groups,
}
