"""A group of ten thousand members: what one of them does costs the same as in a group of ten."""

import collections
from collections.abc import Iterator
from typing import Any

import pytest

from automq.coordinators.group.classic import Member
from automq.coordinators.group.model import GroupSettings, Protocol
from automq.protocol.errors import ErrorCode
from tests.support.group_world import GroupWorld

MEMBERS = 10_000
CHANGED = (Protocol("range", b"changed"),)


class CountedMembers(dict[str, Member]):
    """Counts the members that are looked at by walking."""

    looked_at = 0

    def _walk(self, found: Any) -> Iterator[Any]:
        for each in found:
            CountedMembers.looked_at += 1
            yield each

    def values(self) -> Any:
        return self._walk(super().values())

    def items(self) -> Any:
        return self._walk(super().items())

    def __iter__(self) -> Iterator[str]:
        return self._walk(super().__iter__())


def in_bulk(world: GroupWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without what the world itself checks and prints, which walks everything."""
    monkeypatch.setattr(world.shard, "check", lambda: None)
    monkeypatch.setattr("tests.support.group_world.show_response", lambda response: "")


def test_b5_ten_thousand_members_rejoin_with_a_few_walks(monkeypatch: pytest.MonkeyPatch) -> None:
    world = GroupWorld(GroupSettings(initial_rebalance_delay_ms=1_000))
    in_bulk(world, monkeypatch)
    for _ in range(MEMBERS):
        world.join()
    group = world.shard.groups["g"]
    for _ in range(5):
        world.advance(1_000)
    assert (len(group.members), group.generation) == (MEMBERS, 1)
    names = list(group.members)
    group.members = CountedMembers(group.members)
    CountedMembers.looked_at = 0

    tickets = [world.join(member_id=name, protocols=CHANGED) for name in names]

    assert group.generation == 2
    assert collections.Counter(world.answered[ticket].error_code for ticket in tickets) == {ErrorCode.NONE: MEMBERS}
    # All are walked when a rebalance begins and when it ends, and not once for each of them.
    assert 0 < CountedMembers.looked_at <= 20 * MEMBERS
