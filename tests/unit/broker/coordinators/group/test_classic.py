"""What the members of a group have in common, who leads, and what is stored of it."""

from typing import Any

import pytest

from automq.coordinators.group.classic import ClassicGroup
from automq.coordinators.group.model import GroupEvent, GroupSnapshot, GroupState, Member, Protocol, Ticket
from automq.protocol.errors import ApiError, ErrorCode


def a_member(name: str, *protocols: str, instance: str | None = None) -> Member:
    return Member(
        member_id=name,
        instance_id=instance,
        client_id="c",
        client_host="/h",
        rebalance_timeout_ms=60_000,
        session_timeout_ms=10_000,
        protocols=tuple(Protocol(protocol, protocol.encode()) for protocol in protocols or ("range",)),
    )


def a_group(*members: Member) -> ClassicGroup:
    group = ClassicGroup("g")
    for number, member in enumerate(members):
        group.add(member, Ticket(number), protocol_type="consumer")
    return group


def test_the_first_member_leads_and_the_next_inherits() -> None:
    group = a_group(a_member("a"), a_member("b"))
    assert group.leader == "a"
    group.remove("a")
    assert group.leader == "b"
    group.remove("b")
    assert group.leader is None


def test_a_leader_that_has_not_joined_is_replaced_by_one_who_has() -> None:
    group = a_group(a_member("a"), a_member("b"))
    group.end_join(group.members["a"])
    assert group.elect_joined_leader()
    assert group.leader == "b"
    group.end_join(group.members["b"])
    assert not group.elect_joined_leader()


def test_the_protocol_with_most_votes_is_chosen_among_those_all_offer() -> None:
    group = a_group(a_member("a", "x", "y"), a_member("b", "y", "x"), a_member("c", "z", "y", "x"))
    assert group.candidate_protocols() == {"x", "y"}
    assert group.select_protocol() == "y"


def test_of_equal_protocols_the_first_voted_for_is_chosen() -> None:
    assert a_group(a_member("a", "x", "y"), a_member("b", "y", "x")).select_protocol() == "x"


def test_who_shares_no_protocol_does_not_fit() -> None:
    group = a_group(a_member("a", "x", "y"))
    assert group.supports("consumer", (Protocol("y", b""),))
    assert not group.supports("consumer", (Protocol("z", b""),))
    assert not group.supports("connect", (Protocol("y", b""),))
    assert not ClassicGroup("empty").supports("", (Protocol("y", b""),))
    assert not ClassicGroup("empty").supports("consumer", ())


def test_an_illegal_event_is_an_error() -> None:
    with pytest.raises(KeyError):
        ClassicGroup("g").move(GroupEvent.LEADER_SYNCED, wall_ms=0)


def test_a_stored_generation_is_restored_as_it_was() -> None:
    group = a_group(a_member("a", "x"), a_member("b", "x", instance="i"))
    group.move(GroupEvent.REBALANCE_STARTED, wall_ms=1)
    group.start_generation(wall_ms=2)
    group.members["a"].assignment = b"1"
    restored = ClassicGroup.restore("g", group.snapshot())
    assert restored.snapshot() == group.snapshot()
    assert restored.state is GroupState.STABLE
    assert restored.static_members == {"i": "b"}


def test_a_group_stored_without_members_is_restored_empty() -> None:
    snapshot = GroupSnapshot(protocol_type="consumer", generation=7, protocol_name=None, leader=None, since_ms=3)
    restored = ClassicGroup.restore("g", snapshot)
    assert (restored.state, restored.generation, restored.topics) == (GroupState.EMPTY, 7, frozenset())


def test_a_member_must_be_who_it_says() -> None:
    group = a_group(a_member("a", instance="i"))
    assert group.validate_member("a", "i").member_id == "a"
    for member_id, instance, code in [
        ("b", None, ErrorCode.UNKNOWN_MEMBER_ID),
        ("a", "other", ErrorCode.UNKNOWN_MEMBER_ID),
        ("b", "i", ErrorCode.FENCED_INSTANCE_ID),
    ]:
        with pytest.raises(ApiError) as caught:
            group.validate_member(member_id, instance)
        assert caught.value.code is code


def test_a_subscription_that_cannot_be_read_counts_as_every_topic() -> None:
    group = a_group(a_member("a", "x"))
    group.move(GroupEvent.REBALANCE_STARTED, wall_ms=1)
    group.start_generation(wall_ms=2)
    assert group.topics is None
    assert group.is_subscribed_to("anything")


class CountingMembers(dict[str, Member]):
    """Counts how often all members are walked."""

    walks = 0

    def values(self) -> Any:
        self.walks += 1
        return super().values()


def test_b5_join_of_one_member_walks_no_others() -> None:
    group = a_group(*(a_member(f"m{number}") for number in range(100)))
    members = group.members = CountingMembers(group.members)
    for number in range(100, 200):
        joiner = a_member(f"m{number}")
        assert group.supports("consumer", joiner.protocols)
        group.add(joiner, Ticket(number), protocol_type="consumer")
        assert group.awaiting_join_count == number + 1
        assert group.has_all_joined
    for name in ("m7", "m150"):
        group.end_join(group.members[name])
        group.offer(group.members[name], (Protocol("other", b""),))
    assert (group.awaiting_join_count, group.has_all_joined) == (198, False)
    assert not group.supports("consumer", (Protocol("range", b""),))
    assert members.walks == 0
    for name in ("m7", "m150"):
        group.remove(name)
    assert group.supports("consumer", (Protocol("range", b""),))
