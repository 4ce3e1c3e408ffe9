"""Pure: how a classic group gets from one generation to the next.

1. `prepare` asks everybody to join again; who waits for an assignment of the old generation is sent away.
2. The join phase ends when every member has joined, or when the slowest member's rebalance timeout is over; the first
   one of an empty group lasts the initial delay instead, so that consumers that start together share one rebalance.
3. `complete_join` drops who has not come (static members stay), starts the generation and answers everybody.
4. The leader's SyncGroup brings the assignment; members that never ask for theirs are dropped by `expire_sync`.
"""

from automq.coordinators.group.classic import ClassicGroup
from automq.coordinators.group.model import (
    NO_GENERATION,
    NO_MEMBER,
    GroupEvent,
    GroupState,
    GroupStored,
    JoinTimer,
    Member,
    SessionTimer,
    SyncTimer,
)
from automq.coordinators.group.records import encode
from automq.coordinators.group.turn import NoteEvent, Turn
from automq.protocol.errors import ErrorCode
from automq.protocol.messages.group import JoinGroupResponse, SyncGroupResponse

CAN_REBALANCE = (GroupState.EMPTY, GroupState.STABLE, GroupState.COMPLETING_REBALANCE)


def prepare(turn: Turn, group: ClassicGroup) -> None:
    """Start a join phase."""
    assert group.state in CAN_REBALANCE
    if group.state is GroupState.COMPLETING_REBALANCE:
        for member in group.members.values():
            if member.sync_ticket is not None:
                # It could not send heartbeats while it waited: its session starts anew.
                touch_session(turn, member)
            refuse_sync(turn, member, ErrorCode.REBALANCE_IN_PROGRESS)
            member.assignment = b""
    turn.cancel_timer(SyncTimer(group.group_id))
    group.is_first_rebalance = group.state is GroupState.EMPTY
    group.move(GroupEvent.REBALANCE_STARTED, wall_ms=turn.wall_ms)
    group.rebalances += 1
    turn.note(
        NoteEvent.REBALANCE_STARTED,
        group.group_id,
        generation=group.generation,
        members=len(group.members),
        cause=turn.cause,
    )
    if group.is_first_rebalance:
        delay_ms = turn.settings.initial_rebalance_delay_ms
        group.has_joined_meanwhile = False
        group.initial_delay_left_ms = max(group.rebalance_timeout_ms - delay_ms, 0)
        turn.set_timer(JoinTimer(group.group_id), after_ms=delay_ms)
    else:
        complete_join_or_wait(turn, group)


def prepare_or_complete(turn: Turn, group: ClassicGroup) -> None:
    """Somebody joined, left or changed: start a join phase, or see whether the running one can end."""
    if group.state in CAN_REBALANCE:
        prepare(turn, group)
    else:
        complete_if_all_joined(turn, group)


def complete_if_all_joined(turn: Turn, group: ClassicGroup) -> None:
    """End the running join phase early if nobody is missing; the first one of a group keeps its delay."""
    if group.state is GroupState.PREPARING_REBALANCE and not group.is_first_rebalance and group.has_all_joined:
        complete_join(turn, group)


def complete_join_or_wait(turn: Turn, group: ClassicGroup) -> None:
    """End the join phase if everybody is there already; else wait as long as the slowest member asks for."""
    if group.has_all_joined:
        complete_join(turn, group)
    else:
        turn.set_timer(JoinTimer(group.group_id), after_ms=group.rebalance_timeout_ms)


def fire_join_timer(turn: Turn, group: ClassicGroup) -> None:
    """The join phase's time is up; the initial delay is extended while new members keep coming."""
    if group.state is not GroupState.PREPARING_REBALANCE:
        return
    if group.is_first_rebalance and group.has_joined_meanwhile and group.initial_delay_left_ms > 0:
        group.has_joined_meanwhile = False
        delay_ms = min(turn.settings.initial_rebalance_delay_ms, group.initial_delay_left_ms)
        group.initial_delay_left_ms = max(group.initial_delay_left_ms - delay_ms, 0)
        turn.set_timer(JoinTimer(group.group_id), after_ms=delay_ms)
    else:
        complete_join(turn, group)


def complete_join(turn: Turn, group: ClassicGroup) -> None:
    """End the join phase: the next generation begins, or the group is empty now."""
    turn.cancel_timer(JoinTimer(group.group_id))
    for member in [member for member in group.members.values() if member.join_ticket is None]:
        if member.instance_id is None:
            drop(turn, group, member)
            note_dropped(turn, group, member, "it did not join again in time")
    if group.members and not group.elect_joined_leader():
        # Only static members are left and none has come back: their sessions decide.
        turn.set_timer(JoinTimer(group.group_id), after_ms=group.rebalance_timeout_ms)
        return
    group.start_generation(wall_ms=turn.wall_ms)
    if not group.members:
        turn.store([GroupStored(group.group_id, group.snapshot())])
        turn.note(NoteEvent.EMPTY, group.group_id, generation=group.generation)
        return
    for member in group.members.values():
        answer_join(turn, group, member)
        member.is_new = False
        group.pending_sync[member.member_id] = None
        arm_session(turn, group, member)
    turn.set_timer(SyncTimer(group.group_id), after_ms=group.rebalance_timeout_ms)


def expire_sync(turn: Turn, group: ClassicGroup) -> None:
    """Members that have not asked for their assignment in time are gone."""
    if group.state not in (GroupState.COMPLETING_REBALANCE, GroupState.STABLE) or not group.pending_sync:
        return
    for member_id in list(group.pending_sync):
        member = group.members[member_id]
        drop(turn, group, member)
        note_dropped(turn, group, member, "it did not ask for its assignment in time")
    prepare(turn, group)


def finish_sync(turn: Turn, group: ClassicGroup, assignments: dict[str, bytes]) -> None:
    """The leader's word: everybody gets an assignment, an empty one where it named none. The group is stable."""
    for member in group.members.values():
        member.assignment = assignments.get(member.member_id, b"")
    began_ms = group.since_ms
    group.move(GroupEvent.LEADER_SYNCED, wall_ms=turn.wall_ms)
    turn.note(
        NoteEvent.STABLE,
        group.group_id,
        generation=group.generation,
        members=len(group.members),
        protocol=group.protocol_name,
        leader=group.leader,
        synced_after_ms=None if began_ms is None else turn.wall_ms - began_ms,
    )
    turn.store([GroupStored(group.group_id, group.snapshot())])
    for member in group.members.values():
        if member.sync_ticket is not None:
            answer_sync(turn, group, member)
        # The session could not end while the member was waiting; it starts anew.
        arm_session(turn, group, member)


def fits_a_batch(turn: Turn, group: ClassicGroup, assignments: dict[str, bytes]) -> bool:
    """Whether this generation with these assignments can be stored."""
    _, value = encode(GroupStored(group.group_id, group.snapshot()))
    assert value is not None
    size = len(value) + sum(len(assignment) for assignment in assignments.values())
    return size <= turn.settings.batch_bytes_max


def note_synced(turn: Turn, group: ClassicGroup, member: Member) -> None:
    """This member has asked for its assignment; the last one stops the timer."""
    group.pending_sync.pop(member.member_id, None)
    if not group.pending_sync:
        turn.cancel_timer(SyncTimer(group.group_id))


# Members that go.


def drop(turn: Turn, group: ClassicGroup, member: Member) -> None:
    """Forget `member`; who waits for an answer is told to come again as somebody new."""
    turn.cancel_timer(SessionTimer(group.group_id, member.member_id))
    refuse_join(turn, group, member, ErrorCode.UNKNOWN_MEMBER_ID, member_id=NO_MEMBER)
    refuse_sync(turn, member, ErrorCode.UNKNOWN_MEMBER_ID)
    group.remove(member.member_id)


def expire_session(turn: Turn, group: ClassicGroup, member_id: str) -> None:
    """A session timer fired: the member is gone, unless it was heard of since or waits for us."""
    if member_id in group.pending_members:
        group.remove(member_id)
        complete_if_all_joined(turn, group)
        return
    member = group.members.get(member_id)
    if member is None:
        return
    if member.deadline_ms > turn.now_ms:
        turn.set_timer(SessionTimer(group.group_id, member_id), after_ms=member.deadline_ms - turn.now_ms)
    elif not member.is_new and (member.join_ticket is not None or member.sync_ticket is not None):
        arm_session(turn, group, member)
    else:
        drop(turn, group, member)
        note_dropped(turn, group, member, "its session expired")
        prepare_or_complete(turn, group)


def note_dropped(turn: Turn, group: ClassicGroup, member: Member, why: str) -> None:
    """A member was dropped that did not leave by itself; so is what follows from it explained."""
    turn.cause = f"a member is gone: {why}"
    turn.note(
        NoteEvent.MEMBER_DROPPED,
        group.group_id,
        member=member.member_id,
        client=member.client_id,
        host=member.client_host,
        why=why,
    )


def arm_session(turn: Turn, group: ClassicGroup, member: Member) -> None:
    """A full session from now, with a timer behind it."""
    member.deadline_ms = turn.now_ms + member.session_timeout_ms
    turn.set_timer(SessionTimer(group.group_id, member.member_id), after_ms=member.session_timeout_ms)


def touch_session(turn: Turn, member: Member) -> None:
    """The member was heard of. Its timer stays as it is: when it fires it finds the new deadline."""
    member.deadline_ms = turn.now_ms + member.session_timeout_ms


# Answers.


def join_response(group: ClassicGroup, member: Member, *, skip_assignment: bool = False) -> JoinGroupResponse:
    """The current generation as `member` sees it; the leader also sees the members."""
    return JoinGroupResponse(
        generation_id=group.generation,
        protocol_type=group.protocol_type,
        protocol_name=group.protocol_name,
        leader=group.leader or NO_MEMBER,
        skip_assignment=skip_assignment,
        member_id=member.member_id,
        members=group.described_members() if group.leader == member.member_id else [],
    )


def join_error(code: ErrorCode, *, member_id: str) -> JoinGroupResponse:
    """No generation, for a reason."""
    return JoinGroupResponse(
        error_code=code,
        generation_id=NO_GENERATION,
        protocol_type=None,
        protocol_name=None,
        leader=NO_MEMBER,
        member_id=member_id,
    )


def answer_join(turn: Turn, group: ClassicGroup, member: Member) -> None:
    """Tell a waiting member its generation."""
    turn.answer(member.join_ticket, join_response(group, member))
    group.end_join(member)


def refuse_join(turn: Turn, group: ClassicGroup, member: Member, code: ErrorCode, *, member_id: str) -> None:
    """Tell a member that waits for the join phase to end why it waits in vain."""
    turn.answer(member.join_ticket, join_error(code, member_id=member_id))
    group.end_join(member)


def answer_sync(turn: Turn, group: ClassicGroup, member: Member) -> None:
    """Tell a waiting member its assignment."""
    turn.answer(member.sync_ticket, sync_response(group, member))
    member.sync_ticket = None


def sync_response(group: ClassicGroup, member: Member) -> SyncGroupResponse:
    """The member's assignment in the current generation."""
    return SyncGroupResponse(
        protocol_type=group.protocol_type,
        protocol_name=group.protocol_name,
        assignment=member.assignment,
    )


def refuse_sync(turn: Turn, member: Member, code: ErrorCode) -> None:
    """Tell a member that waits for its assignment why it waits in vain."""
    turn.answer(member.sync_ticket, SyncGroupResponse(error_code=code))
    member.sync_ticket = None
