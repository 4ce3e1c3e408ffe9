"""The join phase and its timers, where the scenarios do not reach."""

from automq.coordinators.group.model import GroupSettings, GroupState, Ticket
from automq.protocol.messages.group import HeartbeatRequest, JoinGroupResponse, SyncGroupRequest
from tests.support.group_world import GroupWorld


def generation_of(world: GroupWorld, ticket: Ticket) -> int | None:
    response = world.answered.get(ticket)
    return response.generation_id if isinstance(response, JoinGroupResponse) else None


def test_the_initial_delay_is_extended_up_to_the_rebalance_timeout() -> None:
    world = GroupWorld(GroupSettings(initial_rebalance_delay_ms=3_000))
    first = world.join(rebalance_timeout_ms=7_000)
    for _ in range(6):
        world.advance(1_000)
        world.join(rebalance_timeout_ms=7_000)
    assert generation_of(world, first) is None
    world.advance(999)
    assert generation_of(world, first) is None
    world.advance(1)
    assert generation_of(world, first) == 1


def test_the_initial_delay_is_not_extended_when_nobody_comes() -> None:
    world = GroupWorld(GroupSettings(initial_rebalance_delay_ms=3_000))
    first = world.join()
    world.advance(3_000)
    assert generation_of(world, first) == 1


def test_everybody_who_joins_at_once_shares_a_generation() -> None:
    world = GroupWorld(GroupSettings(initial_rebalance_delay_ms=0))
    tickets = [world.join() for _ in range(5)]
    world.advance(0)
    assert {generation_of(world, ticket) for ticket in tickets} == {1}


def test_somebody_given_an_id_is_waited_for_until_the_session_ends() -> None:
    world = GroupWorld(GroupSettings(initial_rebalance_delay_ms=0))
    world.join()
    world.advance(0)
    world.sync(SyncGroupRequest(group_id="g", member_id="c-1", generation_id=1))
    world.join(needs_known_member_id=True, session_timeout_ms=8_000)
    ticket = world.join(member_id="c-1")
    assert generation_of(world, ticket) is None
    world.advance(7_999)
    assert generation_of(world, ticket) is None
    world.advance(1)
    assert generation_of(world, ticket) == 2


def test_static_members_that_do_not_come_back_stay_until_their_sessions_end() -> None:
    world = GroupWorld(GroupSettings(initial_rebalance_delay_ms=0))
    world.join(instance_id="i", session_timeout_ms=90_000)
    world.advance(0)
    world.join(instance_id="j", session_timeout_ms=90_000, rebalance_timeout_ms=20_000)
    group = world.shard.groups["g"]
    assert group.state is GroupState.PREPARING_REBALANCE
    world.advance(60_000)
    assert group.state is GroupState.COMPLETING_REBALANCE
    assert list(group.members) == ["i-1", "j-2"]
    assert group.leader == "j-2"


def test_every_rebalance_is_told_with_its_cause_and_its_outcome() -> None:
    world = GroupWorld(GroupSettings(initial_rebalance_delay_ms=0))
    world.join(session_timeout_ms=8_000, rebalance_timeout_ms=60_000)
    world.advance(0)
    world.sync(SyncGroupRequest(group_id="g", member_id="c-1", generation_id=1))
    assert [note.partition(":")[0] for note in world.notes] == ["group rebalances", "group is stable"]
    assert "'cause': 'a member joined'" in world.notes[0]
    assert "'members': 1" in world.notes[1]
    world.notes.clear()

    world.advance(8_000)

    gone, rebalances, empty = world.notes
    assert gone.startswith("member of a group is gone: g")
    assert "its session expired" in gone
    assert "its session expired" in rebalances
    assert empty.startswith("group is empty: g")
    assert world.shard.groups["g"].rebalances == 2


def test_heartbeats_and_commits_leave_nothing_to_tell() -> None:
    world = GroupWorld(GroupSettings(initial_rebalance_delay_ms=0))
    world.join()
    world.advance(0)
    world.sync(SyncGroupRequest(group_id="g", member_id="c-1", generation_id=1))
    world.notes.clear()

    for _ in range(10):
        turn = world.turn()
        world.shard.heartbeat(turn, HeartbeatRequest(group_id="g", member_id="c-1", generation_id=1))
        world.carry_out(turn)

    assert world.notes == []
