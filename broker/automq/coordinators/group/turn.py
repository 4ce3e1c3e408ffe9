"""Pure: one decision in progress, and what it brings about.

A decision never acts on the world. It notes records to append, parked requests to answer once those records are
durable, and timers to set or cancel; the shell carries them out.
"""

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from automq.coordinators.group.model import GroupSettings, Record, Ticket, Timer
from automq.protocol.messages.group import JoinGroupResponse, SyncGroupResponse

ParkedResponse = JoinGroupResponse | SyncGroupResponse


@dataclass(frozen=True, slots=True)
class Answer:
    """What the caller behind a ticket gets."""

    ticket: Ticket
    response: ParkedResponse


@dataclass(frozen=True, slots=True)
class TimerChange:
    """Set `timer` to fire at `at_ms`, or cancel it when that is None."""

    timer: Timer
    at_ms: int | None


class NoteEvent(enum.Enum):
    """What a person wants to know of a group; the values are the phrases of the log."""

    REBALANCE_STARTED = "group rebalances"
    STABLE = "group is stable"
    EMPTY = "group is empty"
    MEMBER_DROPPED = "member of a group is gone"


@dataclass(frozen=True, slots=True)
class GroupNote:
    """Something to log once the decision is made, with its fields."""

    event: NoteEvent
    group_id: str
    fields: Mapping[str, object]


@dataclass(slots=True, kw_only=True)
class Turn:
    """Collects the effects of one decision."""

    now_ms: int
    """Monotonic: deadlines are counted in it."""
    wall_ms: int
    """What users see: commit times and retention."""
    aging_ms: int
    """Wall time to tell how old an offset is; 0, at which nothing is old, while it is in doubt."""
    settings: GroupSettings
    records: list[Record] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    timers: list[TimerChange] = field(default_factory=list)
    notes: list[GroupNote] = field(default_factory=list)
    cause: str = "unknown"
    """Why a rebalance would begin in this turn."""

    def note(self, event: NoteEvent, group_id: str, **fields: object) -> None:
        """Log this when the decision is made."""
        self.notes.append(GroupNote(event, group_id, fields))

    def store(self, records: Sequence[Record]) -> None:
        """Append `records`; everything this turn answers waits until they are durable."""
        self.records.extend(records)

    def answer(self, ticket: Ticket | None, response: ParkedResponse) -> None:
        """Answer the request parked under `ticket`, if there is one."""
        if ticket is not None:
            self.answers.append(Answer(ticket, response))

    def set_timer(self, timer: Timer, *, after_ms: int) -> None:
        """(Re)start `timer`."""
        self.timers.append(TimerChange(timer, self.now_ms + after_ms))

    def cancel_timer(self, timer: Timer) -> None:
        """Forget `timer`."""
        self.timers.append(TimerChange(timer, None))
