"""Questions of the differential test about groups of several members: joins, rebalances, static members, time-outs."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tests.compat.questions import Answer, Ask, Step, Until, by, commit, committed, create, find, heartbeat, join, sync

SHORT_MS = 1_000
"""A session time-out that passes within a test."""
LONG_MS = 60_000


def describe(group: str = "$group", version: int = 6) -> Ask:
    return Ask("DESCRIBE_GROUPS", version, {"groups": [group]})


def leave(*members: Mapping[str, Any], version: int = 5) -> Ask:
    return Ask("LEAVE_GROUP", version, {"group_id": "$group", "members": list(members)})


def sync_all(member: str, generation: int, members: Sequence[str] = (), version: int = 5, **more: Any) -> Ask:
    """The leader brings each of `members` an assignment of its own."""
    body = {
        "group_id": "$group",
        "generation_id": generation,
        "member_id": member,
        "assignments": [
            {"member_id": each, "assignment": f"for-{number}"} for number, each in enumerate(members, start=1)
        ],
        "protocol_type": "consumer",
        "protocol_name": "range",
    }
    return Ask("SYNC_GROUP", version, body | more)


def named(member: str, metadata: str, *, protocols: Sequence[str] = ("range",), **more: Any) -> Ask:
    """A join whose metadata tell its member from the others."""
    offers = [{"name": name, "metadata": metadata} for name in protocols]
    asked = join(member, **{"session_timeout": LONG_MS, "rebalance_timeout": LONG_MS, **more})
    return replace(asked, body={**asked.body, "protocols": offers})


def first_member(**more: Any) -> list[Step]:
    """A member that is the whole group, and its leader, in generation 1."""
    return [
        by("a", named("", "m1", **more), remember="first"),
        by("a", named("$first", "m1", **more)),
        by("a", sync_all("$first", 1, ["$first"])),
    ]


def second_member(**more: Any) -> list[Step]:
    """Another joins: both are in generation 2, and have not asked for their assignments."""
    return [
        by("b", named("", "m2", **more), remember="second"),
        by("b", named("$second", "m2", **more), is_parked=True),
        Until(by("a", heartbeat("$first", 1)), "error_code", 27),
        by("a", named("$first", "m1", **more)),
        Answer("b"),
    ]


def both_synced(generation: int = 2) -> list[Step]:
    return [
        by("b", sync_all("$second", generation), is_parked=True),
        by("a", sync_all("$first", generation, ["$first", "$second"])),
        Answer("b"),
    ]


def pinned(member: str, instance: str, metadata: str, **more: Any) -> Ask:
    return named(member, metadata, group_instance_id=instance, **more)


def two_pinned(version: int) -> list[Step]:
    """Two static members in generation 2."""
    return [
        find(),
        create(),
        by("a", pinned("", "one", "m1", version=version), remember="first"),
        by("a", sync_all("$first", 1, ["$first"], group_instance_id="one")),
        by("b", pinned("", "two", "m2", version=version), is_parked=True, remember="second"),
        Until(by("a", heartbeat("$first", 1)), "error_code", 27),
        by("a", pinned("$first", "one", "m1", version=version)),
        Answer("b"),
        by("b", sync_all("$second", 2, group_instance_id="two"), is_parked=True),
        by("a", sync_all("$first", 2, ["$first", "$second"], group_instance_id="one")),
        Answer("b"),
        describe(),
    ]


GROUP_QUESTIONS: Mapping[str, Sequence[Step]] = {
    "two-members": [
        find(),
        create(),
        *first_member(),
        *second_member(),
        describe(),
        by("a", heartbeat("$first", 2)),
        by("b", heartbeat("$second", 2)),
        by("b", commit(1, member="$second", generation=2)),
        *both_synced(),
        describe(),
        by("a", heartbeat("$first", 1)),
        by("a", heartbeat("$first", 2)),
        by("b", commit(2, member="$second", generation=2)),
        by("b", commit(3, member="$second", generation=1)),
        by("b", commit(4, member="$second")),
        by("b", commit(5)),
        by("a", sync_all("$first", 2, ["$first"])),
        by("b", sync_all("$second", 2, protocol_name="roundrobin")),
        by("b", sync_all("$second", 2, protocol_type="connect")),
        by("b", sync_all("$second", 3)),
        Ask("LIST_GROUPS", 5, {"states_filter": ["Stable"], "types_filter": ["consumer"]}),
        Ask("DELETE_GROUPS", 2, {"groups_names": ["$group"]}),
        committed(version=8),
        by("b", leave({"member_id": "$second", "reason": "done"})),
        Until(by("a", heartbeat("$first", 2)), "error_code", 27),
        by("a", named("$first", "m1")),
        describe(),
        by("b", heartbeat("$second", 3)),
        by("a", sync_all("$first", 3, ["$first", "$second"])),
        describe(),
        by("a", leave({"member_id": "$first"})),
        describe(),
        committed(version=8),
    ],
    "members-rejoin": [
        find(),
        create(),
        *first_member(),
        *second_member(),
        *both_synced(),
        # A follower with what it had: it is answered at once. With other metadata, or as the leader: a rebalance.
        by("b", named("$second", "m2")),
        describe(),
        by("b", named("$second", "m3"), is_parked=True),
        Until(by("a", heartbeat("$first", 2)), "error_code", 27),
        describe(),
        by("a", commit(1, member="$first", generation=2)),
        by("a", sync_all("$first", 2, ["$first", "$second"])),
        by("a", named("$first", "m1")),
        Answer("b"),
        *both_synced(3),
        by("a", named("$first", "m1"), is_parked=True),
        Until(by("b", heartbeat("$second", 3)), "error_code", 27),
        by("b", named("$second", "m3")),
        Answer("a"),
        *both_synced(4),
    ],
    "leader-leaves": [
        find(),
        create(),
        *first_member(),
        *second_member(),
        *both_synced(),
        by("a", leave({"member_id": "$first"})),
        Until(by("b", heartbeat("$second", 2)), "error_code", 27),
        by("b", named("$second", "m2")),
        by("b", sync_all("$second", 3, ["$second"])),
        by("a", named("$first", "m1")),
        describe(),
    ],
    "protocols-of-two-members": [
        find(),
        *first_member(protocols=("cooperative", "range")),
        by("b", named("", "m2", protocols=("roundrobin",)), remember="second"),
        by("b", named("", "m2", protocol_type="connect")),
        by("b", named("", "m2", protocols=("range", "roundrobin")), remember="second"),
        by("b", named("$second", "m2", protocols=("range", "roundrobin")), is_parked=True),
        Until(by("a", heartbeat("$first", 1)), "error_code", 27),
        by("a", named("$first", "m1", protocols=("cooperative", "range"))),
        Answer("b"),
        by("b", sync_all("$second", 2, protocol_name="cooperative")),
        *both_synced(),
        by("b", named("$second", "m2", protocols=("sticky",))),
        describe(),
    ],
    "sync-waits-for-the-leader": [
        find(),
        *first_member(),
        *second_member(),
        by("b", sync_all("$second", 2), is_parked=True),
        describe(),
        # The leader brings nothing for the second.
        by("a", sync_all("$first", 2, ["$first"])),
        Answer("b"),
        describe(),
    ],
    "sync-ends-with-a-rebalance": [
        find(),
        *first_member(),
        *second_member(),
        by("b", sync_all("$second", 2), is_parked=True),
        by("a", leave({"member_id": "$first"})),
        Answer("b"),
        describe(),
        by("b", named("$second", "m2")),
        describe(),
    ],
    **{
        f"static-members-{version}": [
            *two_pinned(version),
            # The second comes back under no member id: what it had, without a rebalance where nothing changed.
            by("c", pinned("", "two", "m2", version=version), remember="third"),
            by("b", heartbeat("$second", 2)),
            by("b", commit(1, member="$second", generation=2)),
            by("b", sync_all("$second", 2, group_instance_id="two")),
            by("b", pinned("$second", "two", "m2", version=version)),
            by("c", sync_all("$third", 2, group_instance_id="two")),
            describe(),
            # Other metadata are no reason for a rebalance either; the leader's join is.
            by("d", pinned("", "two", "m4", version=version), remember="fourth"),
            by("a", pinned("$first", "one", "m1", version=version), is_parked=True),
            Until(by("d", heartbeat("$fourth", 2)), "error_code", 27),
            by("d", pinned("$fourth", "two", "m4", version=version)),
            Answer("a"),
            describe(),
            by("a", sync_all("$first", 3, ["$first", "$fourth"], group_instance_id="one")),
            # The leader comes back.
            by("e", pinned("", "one", "m1", version=version), remember="fifth"),
            by("a", heartbeat("$first", 3)),
            describe(),
        ]
        for version in (5, 7, 8, 9)
    },
    "leave-by-instance": [
        *two_pinned(9),
        leave({"group_instance_id": "nobody"}, {"group_instance_id": "one", "member_id": "other"}),
        leave({"group_instance_id": "two", "reason": "moved"}, {"group_instance_id": "two"}, {"member_id": ""}),
        describe(),
        by("a", heartbeat("$first", 2)),
        leave({"member_id": "$first", "group_instance_id": "one"}),
        describe(),
        leave({"group_instance_id": "one"}),
        leave(),
    ],
    "session-ends": [
        find(),
        create(),
        *first_member(session_timeout=SHORT_MS),
        by("a", commit(1, member="$first", generation=1)),
        Until(describe(), "groups.0.group_state", "Empty"),
        by("a", heartbeat("$first", 1)),
        by("a", commit(2, member="$first", generation=1)),
        by("a", named("$first", "m1")),
        by("a", sync_all("$first", 1, ["$first"])),
        committed(version=8),
    ],
    "session-of-one-of-two-ends": [
        find(),
        by("a", named("", "m1"), remember="first"),
        by("a", named("$first", "m1")),
        by("a", sync_all("$first", 1, ["$first"])),
        by("b", named("", "m2", session_timeout=SHORT_MS), remember="second"),
        by("b", named("$second", "m2", session_timeout=SHORT_MS), is_parked=True),
        Until(by("a", heartbeat("$first", 1)), "error_code", 27),
        by("a", named("$first", "m1")),
        Answer("b"),
        *both_synced(),
        Until(by("a", heartbeat("$first", 2)), "error_code", 27),
        by("b", heartbeat("$second", 2)),
        by("a", named("$first", "m1")),
        describe(),
    ],
    "rebalance-time-passes": [
        find(),
        *first_member(rebalance_timeout=SHORT_MS),
        by("b", named("", "m2", rebalance_timeout=SHORT_MS), remember="second"),
        # The first keeps its session and does not join again.
        by("b", named("$second", "m2", rebalance_timeout=SHORT_MS)),
        by("a", heartbeat("$first", 1)),
        by("a", heartbeat("$first", 2)),
        by("a", named("$first", "m1")),
        describe(),
    ],
    "sync-time-passes": [
        find(),
        *first_member(rebalance_timeout=SHORT_MS),
        *second_member(rebalance_timeout=SHORT_MS),
        # The leader brings its assignments; the second never asks for its own.
        by("a", sync_all("$first", 2, ["$first", "$second"])),
        Until(by("a", heartbeat("$first", 2)), "error_code", 27),
        by("b", heartbeat("$second", 2)),
        by("a", named("$first", "m1", rebalance_timeout=SHORT_MS)),
        describe(),
    ],
    "group-limits": [
        find(),
        *(
            by(str(number), join("", version=5, session_timeout=session, rebalance_timeout=rebalance))
            for number, (session, rebalance) in enumerate(
                ((0, 1000), (-1, 1000), (499, 1000), (1_800_001, 1000), (2**31 - 1, 1000), (10_000, -1), (10_000, 0))
            )
        ),
        join("", version=5, group_instance_id=""),
        join("", version=5, group_instance_id="x" * 250),
        join("", version=5, group_instance_id="with space"),
        join("", version=5, group_instance_id="."),
        join("x" * 300, version=5),
        join("", version=9, protocols=("",), reason="r" * 300),
        heartbeat("", 0),
        heartbeat("", -1, group=""),
        sync("", -1),
        sync("", 0, group_id=""),
        leave({"member_id": ""}),
        Ask("LEAVE_GROUP", 2, {"group_id": "", "member_id": "x"}),
        Ask("DESCRIBE_GROUPS", 6, {"groups": ["", "$other"]}),
        Ask("DESCRIBE_GROUPS", 5, {"groups": [], "include_authorized_operations": True}),
        Ask("DELETE_GROUPS", 2, {"groups_names": ["", "$other", "$other"]}),
        Ask("DELETE_GROUPS", 2, {"groups_names": []}),
        Ask("LIST_GROUPS", 5, {"states_filter": [""], "types_filter": []}),
        Ask("LIST_GROUPS", 5, {"states_filter": [], "types_filter": ["no-such-type"]}),
        Ask("FIND_COORDINATOR", 4, {"key_type": 0, "coordinator_keys": []}),
        Ask("FIND_COORDINATOR", 4, {"key_type": 7, "coordinator_keys": ["$group"]}),
        Ask("FIND_COORDINATOR", 2, {"key_type": -1, "key": "$group"}),
        Ask("FIND_COORDINATOR", 0, {"key": ""}),
    ],
}
