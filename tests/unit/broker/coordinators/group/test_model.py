"""The table of states, and where a group lives."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from automq.coordinators.group.model import NEXT, GroupEvent, GroupState, Member, Protocol, shard_of


def test_every_transition_that_is_not_listed_is_illegal() -> None:
    legal = {
        "Empty": {"PreparingRebalance", "Dead"},
        "PreparingRebalance": {"CompletingRebalance", "Empty"},
        "CompletingRebalance": {"Stable", "PreparingRebalance"},
        "Stable": {"PreparingRebalance"},
        "Dead": set(),
    }
    found = {
        state.value: {NEXT[state, event].value for event in GroupEvent if (state, event) in NEXT}
        for state in GroupState
    }
    assert found == legal


def test_every_event_and_every_state_occurs() -> None:
    assert {event for _, event in NEXT} == set(GroupEvent)
    assert {state for state, _ in NEXT} | set(NEXT.values()) == set(GroupState)


def test_a_dead_group_stays_dead() -> None:
    assert not [pair for pair in itertools.product([GroupState.DEAD], GroupEvent) if pair in NEXT]


@pytest.mark.parametrize(
    ("group_id", "java_hash"),
    [
        ("", 0),
        ("a", 97),
        ("my-group", -1906497762),
        ("console-consumer-12345", 158455506),
        # Its hash is Java's smallest int, which has no absolute value.
        ("polygenelubricants", -2147483648),
        ("gruppe-ä-日本-😀", -1790726578),
    ],
)
def test_a_group_lives_where_kafka_puts_it(group_id: str, java_hash: int) -> None:
    expected = 0 if java_hash == -(2**31) else abs(java_hash) % 50
    assert shard_of(group_id, 50) == expected


@given(st.text(), st.integers(1, 1000))
def test_every_group_has_a_shard(group_id: str, count: int) -> None:
    assert 0 <= shard_of(group_id, count) < count


def test_a_member_votes_for_its_first_candidate() -> None:
    member = Member(
        member_id="m",
        instance_id=None,
        client_id="c",
        client_host="/h",
        rebalance_timeout_ms=1,
        session_timeout_ms=1,
        protocols=(Protocol("a", b"1"), Protocol("b", b"2")),
    )
    assert member.vote(frozenset({"b", "a"})) == "a"
    assert member.vote(frozenset({"b"})) == "b"
    assert member.vote(frozenset({"c"})) is None
    assert member.metadata("b") == b"2"
    assert member.metadata(None) == b""
