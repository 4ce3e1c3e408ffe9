"""Pure: JoinGroup of the classic protocol: who may join, as whom, and whether that takes a new generation."""

from automq.coordinators.group import rebalance
from automq.coordinators.group.classic import ClassicGroup
from automq.coordinators.group.model import (
    NO_MEMBER,
    GroupState,
    GroupStored,
    JoinCommand,
    Member,
    SessionTimer,
    Ticket,
)
from automq.coordinators.group.turn import Turn
from automq.protocol.errors import ApiError, ErrorCode


def join(turn: Turn, group: ClassicGroup, command: JoinCommand, ticket: Ticket) -> None:
    """Answer `ticket` now or when the join phase ends."""
    if not _has_room(group, command.member_id, members_max=turn.settings.members_max):
        turn.answer(ticket, rebalance.join_error(ErrorCode.GROUP_MAX_SIZE_REACHED, member_id=NO_MEMBER))
        _turn_away(turn, group, command.member_id)
    elif not group.supports(command.protocol_type, command.protocols):
        code = ErrorCode.INCONSISTENT_GROUP_PROTOCOL
        turn.answer(ticket, rebalance.join_error(code, member_id=command.member_id))
    elif command.member_id == NO_MEMBER:
        _join_newcomer(turn, group, command, ticket)
    else:
        _join_known(turn, group, command, ticket)


def _has_room(group: ClassicGroup, member_id: str, *, members_max: int) -> bool:
    """Whether the group takes this joiner; while it rebalances, first come, first served."""
    if group.state is GroupState.PREPARING_REBALANCE:
        member = group.members.get(member_id)
        return (member is not None and member.join_ticket is not None) or group.awaiting_join_count < members_max
    return member_id in group.members or len(group.members) < members_max


def _turn_away(turn: Turn, group: ClassicGroup, member_id: str) -> None:
    """Who found no room loses its place too, so that the others need not wait for it."""
    member = group.members.get(member_id)
    if member is not None:
        rebalance.drop(turn, group, member)
    elif member_id in group.pending_members:
        group.remove(member_id)
        turn.cancel_timer(SessionTimer(group.group_id, member_id))
    rebalance.complete_if_all_joined(turn, group)


def _join_newcomer(turn: Turn, group: ClassicGroup, command: JoinCommand, ticket: Ticket) -> None:
    prefix = command.client_id if command.instance_id is None else command.instance_id
    new_id = f"{prefix}-{command.member_id_suffix}"
    if command.instance_id is not None:
        old_id = group.static_members.get(command.instance_id)
        if old_id is None:
            _add(turn, group, command, ticket, member_id=new_id)
        else:
            _replace_static(turn, group, command, ticket, old_id=old_id, new_id=new_id)
    elif command.needs_known_member_id:
        # The id is given before the member counts: a client that never reads this answer blocks nobody for long.
        group.pending_members[new_id] = None
        turn.set_timer(SessionTimer(group.group_id, new_id), after_ms=command.session_timeout_ms)
        turn.answer(ticket, rebalance.join_error(ErrorCode.MEMBER_ID_REQUIRED, member_id=new_id))
    else:
        _add(turn, group, command, ticket, member_id=new_id)


def _join_known(turn: Turn, group: ClassicGroup, command: JoinCommand, ticket: Ticket) -> None:
    if command.member_id in group.pending_members and command.instance_id is None:
        _add(turn, group, command, ticket, member_id=command.member_id)
        return
    try:
        member = group.validate_member(command.member_id, command.instance_id)
    except ApiError as error:
        turn.answer(ticket, rebalance.join_error(error.code, member_id=command.member_id))
        return
    assert group.state not in (GroupState.EMPTY, GroupState.DEAD), "an empty group has no members"
    if _must_rebalance(group, member, command):
        _update(turn, group, member, command, ticket)
        rebalance.prepare_or_complete(turn, group)
    else:
        # It did not get the answer, or asks without need: the generation stands.
        rebalance.touch_session(turn, member)
        turn.answer(ticket, rebalance.join_response(group, member))


def _must_rebalance(group: ClassicGroup, member: Member, command: JoinCommand) -> bool:
    """Whether a member that joins again changes anything."""
    if group.state is GroupState.PREPARING_REBALANCE or member.protocols != command.protocols:
        return True
    # A leader that joins again wants a new assignment even if no member changed: topics may have.
    return group.state is GroupState.STABLE and group.leader == member.member_id


def _add(turn: Turn, group: ClassicGroup, command: JoinCommand, ticket: Ticket, *, member_id: str) -> None:
    member = Member(
        member_id=member_id,
        instance_id=command.instance_id,
        client_id=command.client_id,
        client_host=command.client_host,
        rebalance_timeout_ms=command.rebalance_timeout_ms,
        session_timeout_ms=command.session_timeout_ms,
        protocols=command.protocols,
        is_new=True,
    )
    if group.state is GroupState.PREPARING_REBALANCE and group.is_first_rebalance:
        group.has_joined_meanwhile = True
    group.add(member, ticket, protocol_type=command.protocol_type)
    # It does not know its id yet, so it cannot send heartbeats: only the age of its request limits it.
    member.deadline_ms = turn.now_ms + turn.settings.new_member_join_timeout_ms
    turn.set_timer(SessionTimer(group.group_id, member_id), after_ms=turn.settings.new_member_join_timeout_ms)
    rebalance.prepare_or_complete(turn, group)


def _update(turn: Turn, group: ClassicGroup, member: Member, command: JoinCommand, ticket: Ticket) -> None:
    """The member as it describes itself now; an older request of its that still waits is answered."""
    rebalance.refuse_join(turn, group, member, ErrorCode.REBALANCE_IN_PROGRESS, member_id=member.member_id)
    _describe(group, member, command)
    group.await_join(member, ticket)


def _describe(group: ClassicGroup, member: Member, command: JoinCommand) -> None:
    group.offer(member, command.protocols)
    member.session_timeout_ms = command.session_timeout_ms
    member.rebalance_timeout_ms = command.rebalance_timeout_ms
    member.client_id = command.client_id
    member.client_host = command.client_host


def _replace_static(
    turn: Turn, group: ClassicGroup, command: JoinCommand, ticket: Ticket, *, old_id: str, new_id: str
) -> None:
    """A static member restarted. If nothing that matters changed it takes its old place without a rebalance."""
    old_leader = group.leader
    old = group.members[old_id]
    rebalance.refuse_join(turn, group, old, ErrorCode.FENCED_INSTANCE_ID, member_id=old_id)
    rebalance.refuse_sync(turn, old, ErrorCode.FENCED_INSTANCE_ID)
    turn.cancel_timer(SessionTimer(group.group_id, old_id))
    member = group.replace_static(old_id, new_id)
    _describe(group, member, command)
    rebalance.arm_session(turn, group, member)
    is_unchanged = group.state is GroupState.STABLE and group.select_protocol() == group.protocol_name
    if is_unchanged and rebalance.fits_a_batch(turn, group, {}):
        turn.store([GroupStored(group.group_id, group.snapshot())])
        response = rebalance.join_response(group, member, skip_assignment=group.leader == new_id)
        if not command.can_skip_assignment:
            # Named as leader it would compute a new assignment; told of its former self it keeps still.
            response.leader = old_leader or NO_MEMBER
            response.skip_assignment = False
            response.members = []
        turn.answer(ticket, response)
        return
    group.await_join(member, ticket)
    # The leader of a generation that is just completing knows the old id: its assignment would miss the new one.
    rebalance.prepare_or_complete(turn, group)
