"""Pure: SyncGroup, Heartbeat and LeaveGroup of the classic protocol."""

from automq.coordinators.group import rebalance
from automq.coordinators.group.classic import ClassicGroup
from automq.coordinators.group.model import NO_MEMBER, GroupState, SessionTimer, Ticket
from automq.coordinators.group.turn import Turn
from automq.protocol.errors import ApiError, ErrorCode
from automq.protocol.messages.group import (
    HeartbeatRequest,
    LeaveGroupRequest,
    MemberIdentity,
    MemberResponse,
    SyncGroupRequest,
    SyncGroupResponse,
)


def sync(turn: Turn, group: ClassicGroup, request: SyncGroupRequest, ticket: Ticket) -> None:
    """Answer `ticket` with the member's assignment, now or when the leader has brought it."""
    error = _sync_error(group, request)
    if error is not None:
        turn.answer(ticket, SyncGroupResponse(error_code=error))
        return
    member = group.members[request.member_id]
    match group.state:
        case GroupState.PREPARING_REBALANCE:
            turn.answer(ticket, SyncGroupResponse(error_code=ErrorCode.REBALANCE_IN_PROGRESS))
        case GroupState.COMPLETING_REBALANCE:
            rebalance.refuse_sync(turn, member, ErrorCode.REBALANCE_IN_PROGRESS)
            if group.leader == member.member_id:
                assignments = {given.member_id: given.assignment for given in request.assignments}
                if not rebalance.fits_a_batch(turn, group, assignments):
                    turn.answer(ticket, SyncGroupResponse(error_code=ErrorCode.UNKNOWN_SERVER_ERROR))
                    return
                member.sync_ticket = ticket
                rebalance.note_synced(turn, group, member)
                rebalance.finish_sync(turn, group, assignments)
            else:
                member.sync_ticket = ticket
                rebalance.note_synced(turn, group, member)
        case GroupState.STABLE:
            rebalance.note_synced(turn, group, member)
            rebalance.touch_session(turn, member)
            turn.answer(ticket, rebalance.sync_response(group, member))
        case GroupState.EMPTY | GroupState.DEAD:
            raise AssertionError("an empty group has no members")


def _sync_error(group: ClassicGroup, request: SyncGroupRequest) -> ErrorCode | None:
    try:
        group.validate_member(request.member_id, request.group_instance_id)
    except ApiError as error:
        return error.code
    if request.generation_id != group.generation:
        return ErrorCode.ILLEGAL_GENERATION
    # Versions below 5 do not name the protocol.
    if request.protocol_type not in (None, group.protocol_type):
        return ErrorCode.INCONSISTENT_GROUP_PROTOCOL
    if request.protocol_name not in (None, group.protocol_name):
        return ErrorCode.INCONSISTENT_GROUP_PROTOCOL
    return None


def heartbeat(turn: Turn, group: ClassicGroup, request: HeartbeatRequest) -> ErrorCode:
    """Keep the session alive; costs one number and writes nothing."""
    member = group.validate_member(request.member_id, request.group_instance_id)
    if request.generation_id != group.generation:
        return ErrorCode.ILLEGAL_GENERATION
    rebalance.touch_session(turn, member)
    if group.state is GroupState.PREPARING_REBALANCE:
        return ErrorCode.REBALANCE_IN_PROGRESS
    return ErrorCode.NONE


def leave(turn: Turn, group: ClassicGroup, request: LeaveGroupRequest) -> list[MemberResponse]:
    """Take out those who can be; the rest of the group rebalances once."""
    size_before = len(group.members)
    responses = [
        MemberResponse(
            member_id=leaver.member_id,
            group_instance_id=leaver.group_instance_id,
            error_code=_leave_one(turn, group, leaver),
        )
        for leaver in request.members
    ]
    if len(group.members) < size_before:
        rebalance.prepare_or_complete(turn, group)
    else:
        # Somebody who was only given an id need not be waited for any more.
        rebalance.complete_if_all_joined(turn, group)
    return responses


def _leave_one(turn: Turn, group: ClassicGroup, leaver: MemberIdentity) -> ErrorCode:
    member_id = leaver.member_id
    if member_id == NO_MEMBER:
        # An administrator names only the instance.
        member_id = group.static_members.get(leaver.group_instance_id or "", NO_MEMBER)
    elif member_id in group.pending_members:
        group.remove(member_id)
        turn.cancel_timer(SessionTimer(group.group_id, member_id))
        return ErrorCode.NONE
    try:
        member = group.validate_member(member_id, leaver.group_instance_id)
    except ApiError as error:
        return error.code
    rebalance.drop(turn, group, member)
    return ErrorCode.NONE
