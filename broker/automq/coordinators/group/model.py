"""Pure: the nouns of group coordination, and the table of a classic group's states.

Two kinds of state live side by side. *Stored* state (`GroupSnapshot`, `CommittedOffset`) is what the log holds; only
`replay` changes it. *Live* state (members, parked requests, deadlines) is changed by decisions and lost with the
process: a new coordinator builds it anew from what is stored.
"""

import enum
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NewType

import msgspec

Ticket = NewType("Ticket", int)
"""A parked request: the shell keeps its caller waiting until a decision answers the ticket."""

NO_GENERATION: Final = -1
NO_MEMBER: Final = ""
NO_LEADER_EPOCH: Final = -1


class GroupState(enum.Enum):
    """The value is the name that clients see."""

    EMPTY = "Empty"
    PREPARING_REBALANCE = "PreparingRebalance"
    COMPLETING_REBALANCE = "CompletingRebalance"
    STABLE = "Stable"
    DEAD = "Dead"


class GroupEvent(enum.Enum):
    """What can happen to a group as a whole."""

    REBALANCE_STARTED = enum.auto()
    ALL_JOINED = enum.auto()
    ALL_LEFT = enum.auto()
    LEADER_SYNCED = enum.auto()
    DELETED = enum.auto()


NEXT: Final[Mapping[tuple[GroupState, GroupEvent], GroupState]] = {
    (GroupState.EMPTY, GroupEvent.REBALANCE_STARTED): GroupState.PREPARING_REBALANCE,
    (GroupState.STABLE, GroupEvent.REBALANCE_STARTED): GroupState.PREPARING_REBALANCE,
    (GroupState.COMPLETING_REBALANCE, GroupEvent.REBALANCE_STARTED): GroupState.PREPARING_REBALANCE,
    (GroupState.PREPARING_REBALANCE, GroupEvent.ALL_JOINED): GroupState.COMPLETING_REBALANCE,
    (GroupState.PREPARING_REBALANCE, GroupEvent.ALL_LEFT): GroupState.EMPTY,
    (GroupState.COMPLETING_REBALANCE, GroupEvent.LEADER_SYNCED): GroupState.STABLE,
    (GroupState.EMPTY, GroupEvent.DELETED): GroupState.DEAD,
}
"""Absent means illegal."""


# What the log holds.


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberSnapshot:
    """One member as stored: its subscription in the chosen protocol, and its assignment."""

    member_id: str
    instance_id: str | None
    client_id: str
    client_host: str
    rebalance_timeout_ms: int
    session_timeout_ms: int
    subscription: bytes
    assignment: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupSnapshot:
    """One generation of a group as stored: written when the leader has synced, and when the group became empty."""

    protocol_type: str
    generation: int
    protocol_name: str | None
    leader: str | None
    since_ms: int | None
    """Wall time of the last change of state: offsets of an empty group expire counted from here."""
    members: tuple[MemberSnapshot, ...] = ()


class CommittedOffset(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How far a group has read one partition. There are millions: made in a fifth of the time of a dataclass."""

    offset: int
    leader_epoch: int | None
    metadata: str
    commit_ms: int
    expire_ms: int | None = None
    """Only from clients of the oldest protocol versions, which chose a retention themselves."""
    topic_id: uuid.UUID | None = None


@dataclass(frozen=True, slots=True)
class GroupStored:
    """Record: the group's newest generation; None deletes it."""

    group_id: str
    snapshot: GroupSnapshot | None


class OffsetStored(msgspec.Struct, frozen=True, gc=False):
    """Record: a committed offset; None deletes it."""

    group_id: str
    topic: str
    partition: int
    committed: CommittedOffset | None


Record = GroupStored | OffsetStored


# Timers, as data.


@dataclass(frozen=True, slots=True)
class SessionTimer:
    """A member, or somebody who was given a member id, has not been heard of."""

    group_id: str
    member_id: str


@dataclass(frozen=True, slots=True)
class JoinTimer:
    """The join phase has lasted long enough."""

    group_id: str


@dataclass(frozen=True, slots=True)
class SyncTimer:
    """Members of the new generation have not asked for their assignment."""

    group_id: str


@dataclass(frozen=True, slots=True)
class ExpiryTimer:
    """Time to look for offsets past their retention."""


Timer = SessionTimer | JoinTimer | SyncTimer | ExpiryTimer


# Members and their requests.


@dataclass(frozen=True, slots=True)
class Protocol:
    """One assignment strategy that a member offers, with what the strategy needs to know of it."""

    name: str
    metadata: bytes


@dataclass(slots=True, kw_only=True)
class Member:
    """One live member of a classic group."""

    member_id: str
    instance_id: str | None
    client_id: str
    client_host: str
    rebalance_timeout_ms: int
    session_timeout_ms: int
    protocols: tuple[Protocol, ...]
    assignment: bytes = b""
    is_new: bool = False
    """Has never been answered: it does not know its id, so it cannot send heartbeats."""
    join_ticket: Ticket | None = None
    sync_ticket: Ticket | None = None
    deadline_ms: int = 0
    """When the session ends unless the member is heard of; heartbeats move only this number."""

    def metadata(self, protocol_name: str | None) -> bytes:
        """What this member says under the chosen protocol; empty when it does not offer it."""
        return next((protocol.metadata for protocol in self.protocols if protocol.name == protocol_name), b"")

    def vote(self, candidates: frozenset[str]) -> str | None:
        """The first of its protocols that is a candidate."""
        return next((protocol.name for protocol in self.protocols if protocol.name in candidates), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinCommand:
    """A JoinGroup request together with what only its connection knows."""

    group_id: str
    member_id: str
    instance_id: str | None
    client_id: str
    client_host: str
    session_timeout_ms: int
    rebalance_timeout_ms: int
    protocol_type: str
    protocols: tuple[Protocol, ...]
    needs_known_member_id: bool
    """Version 4 and up: who has no id is given one and must ask again with it."""
    can_skip_assignment: bool
    """Version 9 and up: a leader can be told to keep the assignment."""
    member_id_suffix: str = field(repr=False)
    """Randomness for a fresh member id, drawn by the shell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupSettings:
    """Limits and times of group coordination; names and defaults are Kafka's."""

    offsets_topic_partitions: int = 50
    offsets_topic_replication_factor: int = 3
    initial_rebalance_delay_ms: int = 3_000
    session_timeout_ms_min: int = 6_000
    session_timeout_ms_max: int = 1_800_000
    members_max: int = 2**31 - 1
    metric_groups_max: int = 200
    # A member that never learned its id cannot send heartbeats: it is dropped when its JoinGroup is this old.
    new_member_join_timeout_ms: int = 300_000
    offset_metadata_length_max: int = 4096
    offsets_retention_ms: int = 7 * 24 * 3600 * 1000
    offsets_retention_check_interval_ms: int = 600_000
    # Longest that an answer waits for the store: a client that hears nothing for longer gives up on the connection.
    commit_timeout_ms: int = 5_000
    # Per shard; fifty shards stay well within what the engine keeps for internal appends.
    under_way_bytes_max: int = 256 * 1024
    # One decision is one record batch, which must fit into `max.message.bytes` of the internal topic.
    batch_bytes_max: int = 1_000_000


def shard_of(group_id: str, count: int) -> int:
    """The partition of `__consumer_offsets` that a group lives in: Java's String.hashCode, absolute, modulo `count`."""
    code = 0
    units = group_id.encode("utf-16-be", "surrogatepass")
    for high, low in zip(units[::2], units[1::2], strict=True):
        code = (31 * code + (high << 8 | low)) & 0xFFFF_FFFF
    magnitude = 2**32 - code if code > 2**31 else code
    # Java's smallest int has no absolute value; Kafka takes 0 for it.
    return 0 if magnitude == 2**31 else magnitude % count
