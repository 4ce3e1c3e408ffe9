"""JoinGroup, where the scenarios do not reach."""

from automq.coordinators.group.model import GroupSettings, Protocol
from automq.protocol.errors import ErrorCode
from tests.support.group_world import GroupWorld


def test_a_known_id_in_a_group_that_does_not_exist_is_unknown_and_makes_no_group() -> None:
    world = GroupWorld()
    ticket = world.join(member_id="nobody")
    assert world.answered[ticket].error_code == ErrorCode.UNKNOWN_MEMBER_ID
    assert world.shard.groups == {}


def test_a_refused_first_member_leaves_no_group_behind() -> None:
    world = GroupWorld()
    ticket = world.join(protocols=())
    assert world.answered[ticket].error_code == ErrorCode.INCONSISTENT_GROUP_PROTOCOL
    assert world.shard.groups == {}


def test_members_beyond_the_limit_lose_their_place_when_they_rejoin_last() -> None:
    world = GroupWorld(GroupSettings(initial_rebalance_delay_ms=0))
    for _ in range(3):
        world.join()
    world.advance(0)
    group = world.shard.groups["g"]
    world.settings = GroupSettings(members_max=2)
    second = world.join(member_id="c-2", protocols=(Protocol("range", b"changed"),))
    first = world.join(member_id="c-1")
    third = world.join(member_id="c-3")
    assert world.answered[third].error_code == ErrorCode.GROUP_MAX_SIZE_REACHED
    assert {world.answered[ticket].error_code for ticket in (first, second)} == {ErrorCode.NONE}
    assert list(group.members) == ["c-1", "c-2"]
    assert group.generation == 2


def test_an_instance_id_with_a_pending_member_id_is_no_member() -> None:
    world = GroupWorld()
    world.join(needs_known_member_id=True)
    ticket = world.join(member_id="c-1", instance_id="i")
    assert world.answered[ticket].error_code == ErrorCode.UNKNOWN_MEMBER_ID


def test_an_empty_instance_id_is_the_beginning_of_the_member_id() -> None:
    """As in Kafka: an instance id that is there is the prefix, and not the client's id."""
    world = GroupWorld()
    world.join(instance_id="")
    (member_id,) = world.shard.groups["g"].members
    assert member_id.startswith("-")
