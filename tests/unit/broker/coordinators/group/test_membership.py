"""SyncGroup, Heartbeat and LeaveGroup, where the scenarios do not reach."""

from automq.coordinators.group.model import GroupSettings, GroupState
from automq.protocol.errors import ErrorCode
from automq.protocol.messages.group import (
    HeartbeatRequest,
    LeaveGroupRequest,
    MemberIdentity,
    SyncGroupRequest,
    SyncGroupRequestAssignment,
)
from tests.support.group_world import GroupWorld


def a_world() -> GroupWorld:
    """One member, c-1, that has joined generation 1."""
    world = GroupWorld(GroupSettings(initial_rebalance_delay_ms=0))
    world.join()
    world.advance(0)
    return world


def test_an_assignment_that_fits_no_record_is_refused_and_the_group_keeps_waiting() -> None:
    world = a_world()
    given = SyncGroupRequestAssignment(member_id="c-1", assignment=bytes(2_000_000))
    ticket = world.sync(SyncGroupRequest(group_id="g", member_id="c-1", generation_id=1, assignments=[given]))
    assert world.answered[ticket].error_code == ErrorCode.UNKNOWN_SERVER_ERROR
    assert world.log == []
    assert world.shard.groups["g"].state is GroupState.COMPLETING_REBALANCE


def test_assignments_of_strangers_are_left_out() -> None:
    world = a_world()
    given = [SyncGroupRequestAssignment(member_id=name, assignment=name.encode()) for name in ("c-1", "stranger")]
    world.sync(SyncGroupRequest(group_id="g", member_id="c-1", generation_id=1, assignments=given))
    assert [member.assignment for member in world.shard.stored["g"].members] == [b"c-1"]


def test_a_heartbeat_moves_only_the_deadline() -> None:
    world = a_world()
    world.now_ms += 5_000
    turn = world.turn()
    request = HeartbeatRequest(group_id="g", member_id="c-1", generation_id=1)
    assert world.shard.heartbeat(turn, request) is ErrorCode.NONE
    assert world.shard.groups["g"].members["c-1"].deadline_ms == 15_000
    assert (turn.records, turn.timers, turn.answers) == ([], [], [])


def test_several_leave_with_one_rebalance() -> None:
    world = GroupWorld(GroupSettings(initial_rebalance_delay_ms=0))
    for _ in range(3):
        world.join()
    world.advance(0)
    turn = world.turn()
    leavers = [MemberIdentity(member_id="c-1"), MemberIdentity(member_id="c-2"), MemberIdentity()]
    response = world.shard.leave(turn, LeaveGroupRequest(group_id="g", members=leavers))
    world.carry_out(turn)
    assert [left.error_code for left in response.members] == [0, 0, ErrorCode.UNKNOWN_MEMBER_ID]
    group = world.shard.groups["g"]
    assert (group.state, list(group.members)) == (GroupState.PREPARING_REBALANCE, ["c-3"])


def test_who_was_only_given_an_id_leaves_without_a_rebalance() -> None:
    world = a_world()
    world.sync(SyncGroupRequest(group_id="g", member_id="c-1", generation_id=1))
    world.join(needs_known_member_id=True)
    turn = world.turn()
    leaver = MemberIdentity(member_id="c-2")
    response = world.shard.leave(turn, LeaveGroupRequest(group_id="g", members=[leaver]))
    world.carry_out(turn)
    assert response.members[0].error_code == ErrorCode.NONE
    assert world.shard.groups["g"].state is GroupState.STABLE
