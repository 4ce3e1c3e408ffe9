"""Pure: one shard, which is all groups of one partition of `__consumer_offsets`: a machine of the replicated driver.

Loading replays every record, then `start` builds the live groups. After that each method is one decision: it changes
live state, collects effects in its `Turn`, and raises or returns the answer. `replay` alone changes what is stored.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final

from automq.coordinators.group import join, membership, offsets, rebalance
from automq.coordinators.group.classic import ClassicGroup
from automq.coordinators.group.model import (
    NO_MEMBER,
    ExpiryTimer,
    GroupEvent,
    GroupSnapshot,
    GroupState,
    GroupStored,
    JoinCommand,
    JoinTimer,
    OffsetStored,
    Record,
    SessionTimer,
    SyncTimer,
    Ticket,
    Timer,
)
from automq.coordinators.group.turn import Turn
from automq.protocol.errors import ApiError, ErrorCode
from automq.protocol.messages.group import (
    HeartbeatRequest,
    LeaveGroupRequest,
    LeaveGroupResponse,
    MemberResponse,
    SyncGroupRequest,
    SyncGroupResponse,
)
from automq.protocol.messages.group_admin import DescribedGroup, DescribedGroupMember, ListedGroup
from automq.protocol.messages.offset import (
    OffsetCommitRequest,
    OffsetCommitResponse,
    OffsetDeleteRequest,
    OffsetDeleteResponse,
    OffsetFetchRequestGroup,
    OffsetFetchResponseGroup,
)
from automq.steps import Steps

CLASSIC_TYPE: Final = "classic"
# One sweep writes at most this many records, so that it fits in a batch and in a moment; the rest follows at once.
SWEEP_RECORDS_MAX: Final = 1_000
# And looks at so many offsets; a group counts as one more.
SWEEP_OFFSETS_A_TURN: Final = 2_000
# About how long it takes to show a member, or a group in a list.
SHOWN_US: Final = 4
# Offsets of a group that one decision deletes with it.
DELETED_A_TURN: Final = 500


@dataclass(slots=True)
class _Sweep:
    """How far expiry has come with one group."""

    left: Iterator[tuple[str, int]]
    kept: int = 0
    """Offsets that stay."""


class GroupShard:
    """All groups of one partition."""

    def __init__(self) -> None:
        self.groups: dict[str, ClassicGroup] = {}
        self.stored: dict[str, GroupSnapshot] = {}
        self.offsets = offsets.OffsetTable()
        self._to_sweep: list[str] = []
        """Groups that this round of expiry has not looked at yet, the next one last."""
        self._sweeping: _Sweep | None = None
        """How far it has come with that one."""
        self._deleting: dict[str, Iterator[tuple[str, int]]] = {}
        """Groups that are being deleted, and the offsets they still have."""

    def replay(self, record: Record) -> None:
        """Apply one record to stored state."""
        match record:
            case OffsetStored():
                self.offsets.replay(record)
            case GroupStored():
                if record.snapshot is None:
                    self.stored.pop(record.group_id, None)
                else:
                    self.stored[record.group_id] = record.snapshot

    def start(self, turn: Turn) -> None:
        """Everything is replayed: build the live groups. Each member gets a full session to be heard of."""
        assert not self.groups
        for group_id, snapshot in self.stored.items():
            group = self.groups[group_id] = ClassicGroup.restore(group_id, snapshot)
            for member in group.members.values():
                rebalance.arm_session(turn, group, member)
        for group_id in self.offsets.groups():
            self._group_or_new(group_id)
        turn.set_timer(ExpiryTimer(), after_ms=turn.settings.offsets_retention_check_interval_ms)

    # Membership.

    def join(self, turn: Turn, command: JoinCommand, ticket: Ticket) -> None:
        """JoinGroup; answers `ticket` now or later."""
        group = self.groups.get(command.group_id)
        if group is None and command.member_id != NO_MEMBER:
            response = rebalance.join_error(ErrorCode.UNKNOWN_MEMBER_ID, member_id=command.member_id)
            turn.answer(ticket, response)
            return
        group = self._group_or_new(command.group_id)
        if command.group_id in self._deleting:
            response = rebalance.join_error(ErrorCode.COORDINATOR_LOAD_IN_PROGRESS, member_id=command.member_id)
            turn.answer(ticket, response)
            return
        turn.cause = "a member joined again" if command.member_id in group.members else "a member joined"
        join.join(turn, group, command, ticket)
        self._forget_if_void(turn, group)

    def sync(self, turn: Turn, request: SyncGroupRequest, ticket: Ticket) -> None:
        """SyncGroup; answers `ticket` now or later."""
        group = self.groups.get(request.group_id)
        if group is None:
            turn.answer(ticket, SyncGroupResponse(error_code=ErrorCode.UNKNOWN_MEMBER_ID))
        else:
            membership.sync(turn, group, request, ticket)

    def heartbeat(self, turn: Turn, request: HeartbeatRequest) -> ErrorCode:
        """Heartbeat. Raises ApiError for who is not a member."""
        group = self.groups.get(request.group_id)
        if group is None:
            raise ApiError(ErrorCode.UNKNOWN_MEMBER_ID, f"there is no group {request.group_id}")
        return membership.heartbeat(turn, group, request)

    def leave(self, turn: Turn, request: LeaveGroupRequest) -> LeaveGroupResponse:
        """LeaveGroup, one answer for each member named."""
        group = self.groups.get(request.group_id)
        if group is not None:
            turn.cause = "a member left"
            response = LeaveGroupResponse(members=membership.leave(turn, group, request))
            self._forget_if_void(turn, group)
            return response
        unknown = [
            MemberResponse(
                member_id=leaver.member_id,
                group_instance_id=leaver.group_instance_id,
                error_code=ErrorCode.UNKNOWN_MEMBER_ID,
            )
            for leaver in request.members
        ]
        return LeaveGroupResponse(members=unknown)

    def fire(self, turn: Turn, timer: Timer, *, topic_exists: offsets.TopicExists) -> None:
        """A timer is due."""
        if isinstance(timer, ExpiryTimer):
            self._sweep_on(turn, topic_exists)
            return
        group = self.groups.get(timer.group_id)
        if group is None:
            return
        match timer:
            case SessionTimer():
                rebalance.expire_session(turn, group, timer.member_id)
            case JoinTimer():
                rebalance.fire_join_timer(turn, group)
            case SyncTimer():
                rebalance.expire_sync(turn, group)
        self._forget_if_void(turn, group)

    # Offsets.

    def commit(self, turn: Turn, request: OffsetCommitRequest, *, knows_group_errors: bool) -> OffsetCommitResponse:
        """OffsetCommit. Who names no generation may commit for a group that does not exist: it begins with that.

        `knows_group_errors`: version 9 and up, which may be told GROUP_ID_NOT_FOUND.
        """
        if request.generation_id_or_member_epoch >= 0 and request.group_id not in self.groups:
            code = ErrorCode.GROUP_ID_NOT_FOUND if knows_group_errors else ErrorCode.ILLEGAL_GENERATION
            raise ApiError(code, f"there is no group {request.group_id}")
        self._check_not_deleting(request.group_id)
        group = self._group_or_new(request.group_id)
        try:
            return offsets.commit(turn, group, request)
        finally:
            self._forget_if_void(turn, group)

    def fetch(self, request: OffsetFetchRequestGroup) -> Steps[OffsetFetchResponseGroup]:
        """OffsetFetch of one group. No offset is ever pending, so every one of them is stable."""
        self._check_not_deleting(request.group_id)
        return (yield from offsets.fetch(self.offsets, request))

    def delete_offsets(self, turn: Turn, request: OffsetDeleteRequest) -> OffsetDeleteResponse:
        """OffsetDelete."""
        return offsets.delete(turn, self._existing(request.group_id), self.offsets, request)

    def sweep(self, turn: Turn, topic_exists: offsets.TopicExists) -> None:
        """Delete offsets past their retention or without a topic, and empty groups that are left without offsets.

        Some offsets at a time: what is left of a round follows at once, and others get their turn in between.
        """
        self._to_sweep.clear()
        self._sweeping = None
        self._sweep_on(turn, topic_exists)

    def _sweep_on(self, turn: Turn, topic_exists: offsets.TopicExists) -> None:
        left = self._to_sweep
        if not left:
            left.extend(reversed(self.groups))
        room = SWEEP_OFFSETS_A_TURN
        while left:
            group = self.groups.get(left[-1])
            if group is not None and group.group_id not in self._deleting:
                room = self._sweep_group(turn, group, room, topic_exists)
            if room <= 0:
                turn.set_timer(ExpiryTimer(), after_ms=0)
                return
            room -= 1
            left.pop()
        turn.set_timer(ExpiryTimer(), after_ms=turn.settings.offsets_retention_check_interval_ms)

    def _sweep_group(self, turn: Turn, group: ClassicGroup, room: int, topic_exists: offsets.TopicExists) -> int:
        """Look at so many of its offsets; the room that is left, or none when the group is not done with."""
        group_id, over = group.group_id, 0
        sweep = self._sweeping = self._sweeping or _Sweep(self.offsets.keys(group_id))
        for topic, partition in sweep.left:
            committed = self.offsets.get(group_id, topic, partition)
            if committed is not None:
                if offsets.is_over(
                    group,
                    topic,
                    committed,
                    wall_ms=turn.aging_ms,
                    settings=turn.settings,
                    topic_exists=topic_exists,
                ):
                    turn.store([OffsetStored(group_id, topic, partition, None)])
                    over += 1
                else:
                    sweep.kept += 1
            room -= 1
            if room <= 0 or len(turn.records) >= SWEEP_RECORDS_MAX:
                return 0
        self._sweeping = None
        if group.is_idle and not sweep.kept and self.offsets.count(group_id) == over:
            self._delete(turn, group)
        return room

    # Administration.

    def describe(self, group_id: str) -> Steps[DescribedGroup]:
        """DescribeGroups of one group, some members a step; what members say is shown while they agree."""
        group = self.groups.get(group_id)
        if group is None:
            return DescribedGroup(
                error_code=ErrorCode.GROUP_ID_NOT_FOUND,
                error_message=f"Group {group_id} not found.",
                group_id=group_id,
                group_state=GroupState.DEAD.value,
            )
        protocol = group.protocol_name if group.state is GroupState.STABLE else None
        described = DescribedGroup(
            group_id=group_id,
            group_state=group.state.value,
            protocol_type=group.protocol_type or "",
            protocol_data=protocol or "",
        )
        for member in list(group.members.values()):
            described.members.append(
                DescribedGroupMember(
                    member_id=member.member_id,
                    group_instance_id=member.instance_id,
                    client_id=member.client_id,
                    client_host=member.client_host,
                    member_metadata=b"" if protocol is None else member.metadata(protocol),
                    member_assignment=member.assignment,
                )
            )
            yield SHOWN_US
        return described

    def list(self, *, states: frozenset[str], types: frozenset[str]) -> Steps["list[ListedGroup]"]:
        """ListGroups: groups in one of `states` and of one of `types`, in lower case; an empty filter passes all."""
        listed: list[ListedGroup] = []
        if types and CLASSIC_TYPE not in types:
            return listed
        for group in tuple(self.groups.values()):
            if not states or group.state.value.lower() in states:
                listed.append(
                    ListedGroup(
                        group_id=group.group_id,
                        protocol_type=group.protocol_type or "",
                        group_state=group.state.value,
                        group_type=CLASSIC_TYPE,
                    )
                )
            yield SHOWN_US
        return listed

    def delete(self, turn: Turn, group_id: str) -> ErrorCode | None:
        """DeleteGroups of one group: only an empty one. None: some of its offsets are gone, decide again.

        Until that is done nobody joins the group, commits to it or reads of it: they are told to come again.
        """
        group, left = self.groups.get(group_id), self._deleting.get(group_id)
        if group is None:
            return ErrorCode.GROUP_ID_NOT_FOUND
        if left is None:
            if group.state is not GroupState.EMPTY:
                return ErrorCode.NON_EMPTY_GROUP
            left = self._deleting[group_id] = self.offsets.keys(group_id)
        some = [OffsetStored(group_id, topic, partition, None) for topic, partition in islice(left, DELETED_A_TURN)]
        turn.store(some)
        if len(some) == DELETED_A_TURN:
            return None
        del self._deleting[group_id]
        self._delete(turn, group)
        return ErrorCode.NONE

    def _check_not_deleting(self, group_id: str) -> None:
        if group_id in self._deleting:
            raise ApiError(ErrorCode.COORDINATOR_LOAD_IN_PROGRESS, f"group {group_id} is being deleted: try again")

    def check(self) -> None:
        """Assert the invariants of every group; tests call it after every step."""
        for group_id, group in self.groups.items():
            assert group.group_id == group_id
            assert group.state is not GroupState.DEAD
            group.check()

    def _existing(self, group_id: str) -> ClassicGroup:
        group = self.groups.get(group_id)
        if group is None:
            raise ApiError(ErrorCode.GROUP_ID_NOT_FOUND, f"there is no group {group_id}")
        return group

    def _group_or_new(self, group_id: str) -> ClassicGroup:
        return self.groups.setdefault(group_id, ClassicGroup(group_id))

    def _delete(self, turn: Turn, group: ClassicGroup) -> None:
        for member_id in group.pending_members:
            turn.cancel_timer(SessionTimer(group.group_id, member_id))
        group.move(GroupEvent.DELETED, wall_ms=turn.wall_ms)
        if group.group_id in self.stored:
            turn.store([GroupStored(group.group_id, None)])
        del self.groups[group.group_id]

    def _forget_if_void(self, turn: Turn, group: ClassicGroup) -> None:
        """A group that nothing is known of any more takes no memory: any name can be asked to be joined."""
        if group.group_id in self._deleting:
            return
        is_stored = group.group_id in self.stored or self.offsets.has_any(group.group_id)
        if group.is_idle and not is_stored and not turn.records:
            self.groups.pop(group.group_id, None)
