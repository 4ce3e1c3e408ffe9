"""A shard under any sequence of requests, time and changes of coordinator; and what only whole shards show."""

import contextlib

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from automq.coordinators.group import shard
from automq.coordinators.group.model import GroupSettings, GroupState, OffsetStored, Protocol, Ticket
from automq.coordinators.group.shard import SWEEP_RECORDS_MAX, GroupShard
from automq.protocol.errors import ApiError, ErrorCode
from automq.protocol.messages.group import (
    HeartbeatRequest,
    JoinGroupResponse,
    LeaveGroupRequest,
    MemberIdentity,
    SyncGroupRequest,
    SyncGroupRequestAssignment,
    SyncGroupResponse,
)
from automq.protocol.messages.offset import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from automq.steps import at_once
from tests.support.group_world import GroupWorld, a_subscription

RANGE = Protocol("range", a_subscription("t"))
STICKY = Protocol("sticky", a_subscription("t"))
OFFERS = [(RANGE,), (RANGE, STICKY), (STICKY, RANGE), (Protocol("range", a_subscription("u")),)]


class GroupMachine(RuleBasedStateMachine):
    """Clients that join, sync, commit, fall silent and come back, against one group."""

    members = Bundle("members")

    def __init__(self) -> None:
        super().__init__()
        self.world = GroupWorld(GroupSettings(members_max=4, initial_rebalance_delay_ms=500))
        self.incarnation = 0
        self.instances: dict[str, str | None] = {}
        """Member id to instance id."""
        self.leaders: dict[tuple[int, int], str] = {}
        self.assignments: dict[tuple[int, int], dict[str, bytes]] = {}
        self.committed: dict[int, int] = {}
        self.waiting: dict[Ticket, str | None] = {}
        self.seen: set[Ticket] = set()

    def identity(self, member_id: str) -> str:
        """A static member stays the same person under a new member id."""
        return self.instances.get(member_id) or member_id

    @initialize()
    def begin(self) -> None:
        self.world.topics = None

    @rule(
        target=members,
        instance=st.sampled_from([None, None, "i1", "i2"]),
        offer=st.sampled_from(OFFERS),
        knows=st.booleans(),
        skips=st.booleans(),
    )
    def join_as_somebody_new(
        self, instance: str | None, offer: tuple[Protocol, ...], *, knows: bool, skips: bool
    ) -> object:
        ticket = self.world.join(
            instance_id=instance, protocols=offer, needs_known_member_id=knows, can_skip_assignment=skips
        )
        self.waiting[ticket] = instance
        member_id = f"{instance or 'c'}-{self.world.joins}"
        self.instances[member_id] = instance
        return member_id

    @rule(member_id=members, offer=st.sampled_from(OFFERS))
    def join_again(self, member_id: str, offer: tuple[Protocol, ...]) -> None:
        ticket = self.world.join(member_id=member_id, instance_id=self.instances[member_id], protocols=offer)
        self.waiting[ticket] = self.instances[member_id]

    @rule(target=members)
    def everybody_who_is_told_to_joins(self) -> object:
        """What well-behaved clients do; without it groups rarely become stable."""
        group = self.world.shard.groups.get("g")
        if group is None or group.state is not GroupState.PREPARING_REBALANCE:
            return multiple()
        for member in list(group.members.values()):
            if member.join_ticket is None:
                ticket = self.world.join(
                    member_id=member.member_id, instance_id=member.instance_id, protocols=member.protocols
                )
                self.waiting[ticket] = member.instance_id
        return multiple()

    @rule(target=members)
    def everybody_syncs(self) -> object:
        group = self.world.shard.groups.get("g")
        if group is None or group.state is not GroupState.COMPLETING_REBALANCE:
            return multiple()
        leader = group.leader
        for member_id in sorted(group.members, key=lambda member_id: member_id == leader):
            self.sync(member_id, 0)
        return multiple()

    @rule(target=members)
    def the_group_settles(self) -> object:
        self.everybody_who_is_told_to_joins()
        self.world.advance(500)
        self.everybody_who_is_told_to_joins()
        return self.everybody_syncs()

    @rule(member_id=members, lag=st.integers(0, 1))
    def sync(self, member_id: str, lag: int) -> None:
        group = self.world.shard.groups.get("g")
        generation = (group.generation if group else 0) - lag
        given = []
        if group is not None and group.leader == member_id:
            given = [
                SyncGroupRequestAssignment(member_id=other, assignment=f"{self.identity(other)}@{generation}".encode())
                for other in group.members
            ]
        request = SyncGroupRequest(
            group_id="g",
            member_id=member_id,
            group_instance_id=self.instances.get(member_id),
            generation_id=generation,
            assignments=given,
        )
        self.waiting[self.world.sync(request)] = member_id

    @rule(member_id=members)
    def heartbeat(self, member_id: str) -> None:
        group = self.world.shard.groups.get("g")
        turn = self.world.turn()
        request = HeartbeatRequest(group_id="g", member_id=member_id, generation_id=group.generation if group else 0)
        is_member = group is not None and member_id in group.members
        with contextlib.nullcontext() if is_member else pytest.raises(ApiError):
            self.world.shard.heartbeat(turn, request)
        assert not turn.records
        assert not turn.timers
        assert not turn.answers

    @rule(member_id=consumes(members))
    def leave(self, member_id: str) -> None:
        turn = self.world.turn()
        self.world.shard.leave(turn, LeaveGroupRequest(group_id="g", members=[MemberIdentity(member_id=member_id)]))
        self.world.carry_out(turn)

    @rule(member_id=members, partition=st.integers(0, 2), offset=st.integers(0, 99), is_simple=st.booleans())
    def commit(self, member_id: str, partition: int, offset: int, *, is_simple: bool) -> None:
        group = self.world.shard.groups.get("g")
        request = OffsetCommitRequest(
            group_id="g",
            member_id="" if is_simple else member_id,
            generation_id_or_member_epoch=-1 if is_simple else (group.generation if group else 0),
            topics=[
                OffsetCommitRequestTopic(
                    name="t",
                    partitions=[OffsetCommitRequestPartition(partition_index=partition, committed_offset=offset)],
                )
            ],
        )
        turn = self.world.turn()
        try:
            self.world.shard.commit(turn, request, knows_group_errors=True)
        except ApiError:
            assert not turn.records
        else:
            self.committed[partition] = offset
        self.world.carry_out(turn)

    @rule(ms=st.sampled_from([100, 500, 4_000, 11_000, 61_000]))
    def time_passes(self, ms: int) -> None:
        self.world.advance(ms)

    @rule()
    def another_coordinator_takes_over(self) -> None:
        self.incarnation += 1
        self.waiting.clear()
        self.world.reload()

    @invariant()
    def answers_agree(self) -> None:
        """One leader a generation; every member one assignment, the one its leader gave it."""
        for ticket, response in self.world.answered.items():
            if ticket in self.seen:
                continue
            self.seen.add(ticket)
            asker = self.waiting.pop(ticket, None)
            if response.error_code:
                continue
            if isinstance(response, JoinGroupResponse):
                key = (self.incarnation, response.generation_id)
                self.instances.setdefault(response.member_id, asker)
                leader = self.identity(response.leader)
                assert self.leaders.setdefault(key, leader) == leader
                assert not response.members or self.identity(response.member_id) == leader
            else:
                assert isinstance(response, SyncGroupResponse)
                assert asker is not None
                generation = int(response.assignment.rpartition(b"@")[2])
                assert response.assignment == f"{self.identity(asker)}@{generation}".encode()

    @invariant()
    def replaying_the_log_gives_what_is_stored(self) -> None:
        copy = GroupShard()
        for record in self.world.log:
            copy.replay(record)
        shard = self.world.shard
        assert copy.stored == shard.stored
        assert copy.offsets.topics("g") == shard.offsets.topics("g")
        found = {partition: committed.offset for _, partition, committed in shard.offsets.entries("g")}
        assert found == self.committed

    @invariant()
    def a_settled_group_is_as_stored(self) -> None:
        shard = self.world.shard
        group = shard.groups.get("g")
        if group is not None and group.state is GroupState.STABLE:
            assert group.snapshot() == shard.stored["g"]
        if group is not None and group.state is GroupState.EMPTY and "g" in shard.stored:
            assert group.snapshot() == shard.stored["g"]

    def teardown(self) -> None:
        """Nobody waits for ever."""
        self.world.advance(700_000)
        self.answers_agree()
        assert not self.waiting
        group = self.world.shard.groups.get("g")
        assert group is None or group.state is GroupState.EMPTY


TestGroupMachine = GroupMachine.TestCase
TestGroupMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_a_sweep_writes_no_more_than_fits_and_goes_on_at_once() -> None:
    world = GroupWorld(GroupSettings(offsets_retention_ms=1_000))
    partitions = [
        OffsetCommitRequestPartition(partition_index=index, committed_offset=1)
        for index in range(SWEEP_RECORDS_MAX + 500)
    ]
    turn = world.turn()
    request = OffsetCommitRequest(group_id="g", topics=[OffsetCommitRequestTopic(name="t", partitions=partitions)])
    world.shard.commit(turn, request, knows_group_errors=True)
    world.carry_out(turn)
    world.now_ms = 2_000
    turn = world.turn()
    world.shard.sweep(turn, lambda _name, _id: True)
    assert len(turn.records) == SWEEP_RECORDS_MAX
    world.carry_out(turn)
    world.advance(0)
    assert world.shard.groups == {}
    assert world.shard.offsets.groups() == []


def test_a6_a_sweep_looks_at_some_offsets_a_turn_and_goes_on_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard, "SWEEP_OFFSETS_A_TURN", 25)
    world = GroupWorld(GroupSettings(offsets_retention_ms=1_000))
    partitions = [OffsetCommitRequestPartition(partition_index=index, committed_offset=1) for index in range(10)]
    for number in range(7):
        turn = world.turn()
        topic = OffsetCommitRequestTopic(name="t", partitions=partitions)
        request = OffsetCommitRequest(group_id=f"g{number}", topics=[topic])
        world.shard.commit(turn, request, knows_group_errors=True)
        world.carry_out(turn)
    world.now_ms = 2_000
    turn = world.turn()

    world.shard.sweep(turn, lambda _name, _id: True)

    assert len([record for record in turn.records if isinstance(record, OffsetStored)]) == 23
    world.carry_out(turn)
    world.advance(0)
    assert world.shard.groups == {}
    assert world.shard.offsets.groups() == []


def test_an_unknown_group_is_dead() -> None:
    described = at_once(GroupWorld().shard.describe("none"))
    assert described.group_state == "Dead"
    assert described.error_code == ErrorCode.GROUP_ID_NOT_FOUND
