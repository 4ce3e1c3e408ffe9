"""Pure: a group of the classic protocol: its state, its members, and what they have in common.

Invariants (`check`): the leader is a member; static members are members; every parked request belongs to a state in
which it may wait; an empty group has no members. How many members wait and how many offer each protocol are counters,
so that a join costs the same in a group of ten thousand.
"""

from collections import Counter

from automq.coordinators.group.model import (
    NEXT,
    GroupEvent,
    GroupSnapshot,
    GroupState,
    Member,
    MemberSnapshot,
    Protocol,
    Ticket,
)
from automq.coordinators.group.subscription import CONSUMER_PROTOCOL_TYPE, subscribed_topics
from automq.protocol.errors import ApiError, ErrorCode
from automq.protocol.messages.group import JoinGroupResponseMember


class ClassicGroup:
    """Live state of one group. Decisions change it; `snapshot` is what they store of it."""

    def __init__(self, group_id: str) -> None:
        self.group_id = group_id
        self.state = GroupState.EMPTY
        self.generation = 0
        self.rebalances = 0
        """Join phases that began since this broker coordinates the group."""
        self.protocol_type: str | None = None
        self.protocol_name: str | None = None
        self.leader: str | None = None
        self.since_ms: int | None = None
        self.members: dict[str, Member] = {}
        """By member id, in order of joining."""
        self.static_members: dict[str, str] = {}
        """Instance id to member id."""
        self.pending_members: dict[str, None] = {}
        """Member ids handed out to clients that have not joined with them yet."""
        self.pending_sync: dict[str, None] = {}
        """Members of this generation that have not asked for their assignment yet."""
        self.topics: frozenset[str] | None = None
        """What the members subscribe to; None when that cannot be known."""
        self.is_first_rebalance = False
        """The join phase began with an empty group: it lasts the initial delay, whoever has joined."""
        self.initial_delay_left_ms = 0
        self.has_joined_meanwhile = False
        """Somebody joined during the initial delay, which is then extended."""
        self.awaiting_join_count = 0
        """How many members wait for the join phase to end."""
        self._offers: Counter[str] = Counter()
        """How many members offer each protocol."""

    @classmethod
    def restore(cls, group_id: str, snapshot: GroupSnapshot) -> "ClassicGroup":
        """The live group of a stored generation: stable if it had members."""
        group = cls(group_id)
        group.generation = snapshot.generation
        group.protocol_type = snapshot.protocol_type or None
        group.protocol_name = snapshot.protocol_name
        group.leader = snapshot.leader
        group.since_ms = snapshot.since_ms
        for stored in snapshot.members:
            protocols = (Protocol(snapshot.protocol_name or "", stored.subscription),)
            member = Member(
                member_id=stored.member_id,
                instance_id=stored.instance_id,
                client_id=stored.client_id,
                client_host=stored.client_host,
                rebalance_timeout_ms=stored.rebalance_timeout_ms,
                session_timeout_ms=stored.session_timeout_ms,
                protocols=protocols,
                assignment=stored.assignment,
            )
            group.members[member.member_id] = member
            group._count_offers(member, 1)
            if member.instance_id is not None:
                group.static_members[member.instance_id] = member.member_id
        if group.members:
            group.state = GroupState.STABLE
        if group.leader not in group.members:
            group.leader = next(iter(group.members), None)
        group.topics = group._subscribed_topics()
        group.check()
        return group

    def snapshot(self) -> GroupSnapshot:
        """What is stored of this generation."""
        return GroupSnapshot(
            protocol_type=self.protocol_type or "",
            generation=self.generation,
            protocol_name=self.protocol_name,
            leader=self.leader,
            since_ms=self.since_ms,
            members=tuple(
                MemberSnapshot(
                    member_id=member.member_id,
                    instance_id=member.instance_id,
                    client_id=member.client_id,
                    client_host=member.client_host,
                    rebalance_timeout_ms=member.rebalance_timeout_ms,
                    session_timeout_ms=member.session_timeout_ms,
                    subscription=member.metadata(self.protocol_name),
                    assignment=member.assignment,
                )
                for member in self.members.values()
            ),
        )

    def move(self, event: GroupEvent, *, wall_ms: int) -> None:
        """The only place where the state changes."""
        self.state = NEXT[self.state, event]
        self.since_ms = wall_ms

    def start_generation(self, *, wall_ms: int) -> None:
        """The join phase is over: whoever is a member now belongs to the next generation."""
        self.generation += 1
        self.pending_sync.clear()
        self.is_first_rebalance = False
        if self.members:
            self.protocol_name = self.select_protocol()
            self.move(GroupEvent.ALL_JOINED, wall_ms=wall_ms)
        else:
            self.protocol_name = None
            self.move(GroupEvent.ALL_LEFT, wall_ms=wall_ms)
        self.topics = self._subscribed_topics()

    # Members.

    def add(self, member: Member, ticket: Ticket, *, protocol_type: str) -> None:
        """A new member that waits for the join phase to end. Its protocols were checked with `supports`."""
        assert member.member_id not in self.members
        if not self.members:
            self.protocol_type = protocol_type
        assert self.protocol_type == protocol_type
        if member.instance_id is not None:
            assert member.instance_id not in self.static_members
            self.static_members[member.instance_id] = member.member_id
        self.leader = self.leader or member.member_id
        self.members[member.member_id] = member
        self._count_offers(member, 1)
        self.await_join(member, ticket)
        self.pending_members.pop(member.member_id, None)

    def remove(self, member_id: str) -> Member | None:
        """Forget a member, or somebody who was only given an id. The next in line inherits the lead."""
        member = self.members.pop(member_id, None)
        if member is not None:
            self.end_join(member)
            self._count_offers(member, -1)
            if member.instance_id is not None:
                self.static_members.pop(member.instance_id, None)
        if self.leader == member_id:
            self.leader = next(iter(self.members), None)
        self.pending_members.pop(member_id, None)
        self.pending_sync.pop(member_id, None)
        return member

    def replace_static(self, old_id: str, new_id: str) -> Member:
        """The instance of `old_id` came back without its id: it keeps place, lead and assignment under `new_id`."""
        member = self.members.pop(old_id)
        assert member.instance_id is not None
        member.member_id = new_id
        self.end_join(member)
        member.sync_ticket = None
        self.members[new_id] = member
        self.static_members[member.instance_id] = new_id
        if self.leader == old_id:
            self.leader = new_id
        if old_id in self.pending_sync:
            del self.pending_sync[old_id]
            self.pending_sync[new_id] = None
        return member

    def validate_member(self, member_id: str, instance_id: str | None) -> Member:
        """The member a request speaks for. Raises UNKNOWN_MEMBER_ID, or FENCED_INSTANCE_ID for a replaced instance."""
        if instance_id is not None:
            current = self.static_members.get(instance_id)
            if current is None:
                raise ApiError(ErrorCode.UNKNOWN_MEMBER_ID, f"group {self.group_id} has no instance {instance_id}")
            if current != member_id:
                raise ApiError(
                    ErrorCode.FENCED_INSTANCE_ID, f"instance {instance_id} has been replaced by another client"
                )
        member = self.members.get(member_id)
        if member is None:
            raise ApiError(ErrorCode.UNKNOWN_MEMBER_ID, f"group {self.group_id} has no member {member_id}")
        return member

    def await_join(self, member: Member, ticket: Ticket) -> None:
        """`member` waits for the join phase to end; a request of its that waited already was answered."""
        assert member.join_ticket is None
        member.join_ticket = ticket
        self.awaiting_join_count += 1

    def end_join(self, member: Member) -> None:
        """`member` waits no longer: it was answered, or is gone."""
        if member.join_ticket is not None:
            member.join_ticket = None
            self.awaiting_join_count -= 1

    def offer(self, member: Member, protocols: tuple[Protocol, ...]) -> None:
        """`member` offers these protocols from now on."""
        self._count_offers(member, -1)
        member.protocols = protocols
        self._count_offers(member, 1)

    def _count_offers(self, member: Member, change: int) -> None:
        for name in {protocol.name for protocol in member.protocols}:
            self._offers[name] += change
            if not self._offers[name]:
                del self._offers[name]

    @property
    def has_all_joined(self) -> bool:
        """Every member waits, and nobody was given an id without having joined."""
        return not self.pending_members and self.awaiting_join_count == len(self.members)

    @property
    def rebalance_timeout_ms(self) -> int:
        """The longest that any member asks to be waited for."""
        return max((member.rebalance_timeout_ms for member in self.members.values()), default=0)

    @property
    def is_idle(self) -> bool:
        """Nobody is in the group or on the way into it."""
        return self.state in (GroupState.EMPTY, GroupState.DEAD) and not self.members and not self.pending_members

    def elect_joined_leader(self) -> bool:
        """Make sure that the leader has joined; False when members are left but none of them has."""
        if self.leader is None:
            return False
        if self.members[self.leader].join_ticket is not None:
            return True
        for member in self.members.values():
            if member.join_ticket is not None:
                self.leader = member.member_id
                return True
        return False

    # Protocols.

    def supports(self, protocol_type: str, protocols: tuple[Protocol, ...]) -> bool:
        """Whether somebody with these protocols fits in: one of them is offered by every member."""
        if not self.members:
            return bool(protocol_type) and bool(protocols)
        if protocol_type != self.protocol_type:
            return False
        everybody = len(self.members)
        return any(self._offers[protocol.name] == everybody for protocol in protocols)

    def candidate_protocols(self) -> frozenset[str]:
        """Protocols that every member offers."""
        return frozenset(name for name, count in self._offers.items() if count == len(self.members))

    def select_protocol(self) -> str:
        """The candidate with the most votes; of equals the one that was voted for first."""
        assert self.members
        candidates = self.candidate_protocols()
        votes = Counter(vote for member in self.members.values() if (vote := member.vote(candidates)) is not None)
        assert votes, f"the members of {self.group_id} have no protocol in common"
        return votes.most_common(1)[0][0]

    def described_members(self) -> list[JoinGroupResponseMember]:
        """What the leader needs to compute an assignment."""
        return [
            JoinGroupResponseMember(
                member_id=member.member_id,
                group_instance_id=member.instance_id,
                metadata=member.metadata(self.protocol_name),
            )
            for member in self.members.values()
        ]

    def is_subscribed_to(self, topic: str) -> bool:
        """Whether members read `topic`; assumed of consumers whose subscription cannot be read."""
        if self.topics is None:
            return self.protocol_type == CONSUMER_PROTOCOL_TYPE
        return topic in self.topics

    def _subscribed_topics(self) -> frozenset[str] | None:
        if self.protocol_type != CONSUMER_PROTOCOL_TYPE:
            return None
        topics: set[str] = set()
        for member in self.members.values():
            subscription = subscribed_topics(member.metadata(self.protocol_name))
            if subscription is None:
                return None
            topics |= subscription
        return frozenset(topics)

    def check(self) -> None:
        """Assert the invariants; tests call it after every step."""
        assert (self.leader in self.members) if self.members else self.leader is None
        assert all(
            self.members[member_id].instance_id == instance for instance, member_id in self.static_members.items()
        )
        assert all(member_id == member.member_id for member_id, member in self.members.items())
        assert not any(member_id in self.members for member_id in self.pending_members)
        assert all(member_id in self.members for member_id in self.pending_sync)
        if self.state in (GroupState.EMPTY, GroupState.DEAD):
            assert not self.members
        assert self.awaiting_join_count == sum(member.join_ticket is not None for member in self.members.values())
        offered = [{protocol.name for protocol in member.protocols} for member in self.members.values()]
        assert self._offers == Counter(name for names in offered for name in names)
        for member in self.members.values():
            assert member.join_ticket is None or self.state is GroupState.PREPARING_REBALANCE
            assert member.sync_ticket is None or self.state is GroupState.COMPLETING_REBALANCE
