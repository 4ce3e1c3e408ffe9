"""Pure: which WAL slots count after a crash, and what of them is still to be uploaded.

The log of a dead broker is the run of slots from T without a hole, up to the fence that its recoverer put into the
lowest missing slot. No slot above that can ever be acknowledged, so none is part of the log. But a slot may be missing
because the store lost it. Then a later slot tells: its mark says below which slot everything was durable when it was
sealed (`wal.format`). What is missing below a mark is damage: nothing is fenced, and nothing is deleted.
"""

from collections.abc import Callable, Generator, Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from typing import Final

from automq.ids import Offset, StreamEpoch, StreamId
from automq.s3stream.model import StreamRecordBatch, StreamState, Unplaced
from automq.s3stream.wal.format import Slot, SlotKind

# What `automq.wal.in.flight` may be at most.
IN_FLIGHT_MAX: Final = 64
# Planned at one go, and about how long each takes.
RECORDS_A_PART: Final = 256
RECORD_US: Final = 3


def lowest_missing(present: AbstractSet[int], first: int) -> int:
    """Rule of the log: the slot to win as a fence is the lowest missing one at or above `first`."""
    position = first
    while position in present:
        position += 1
    return position


def ends_run(slot: Slot) -> bool:
    """Rule of the log: a fence ends the run; slots beyond it are never part of it."""
    return slot.kind is SlotKind.FENCE


@dataclass(frozen=True, slots=True, kw_only=True)
class Witness:
    """A slot above one that is missing or does not decode, and what it says of that one."""

    key: str
    is_whole: bool
    """It passed its checks. Else `mark` is what the header says, unchecked: enough to be careful, not to be sure."""
    mark: int | None
    """Every slot below was durable when this one was sealed; None: an older program wrote it, and it does not say."""


def shows_durable(witness: Witness, sequence: int) -> bool:
    """Rule of the log: what lies below a mark was durable, and may have been acknowledged: missing, it is lost.

    A witness whose header is gone as well may have said anything: its own sequence stands for its mark.
    """
    return witness.mark is not None and witness.mark > sequence


def is_conclusive(witness: Witness) -> bool:
    """Whether slots between it and the missing one need not be asked: marks never fall from slot to slot."""
    return witness.is_whole and witness.mark is not None


def is_suspicious(hole: int, *, trim_to: int, unmarked_above: int) -> bool:
    """Whether a hole below slots of an older program is taken for damage: those cannot tell.

    Slots are sent in order, and only so many at once: more above the hole, or a log that begins above T, is no usual
    end. It can be one (the hole's PUT hung for long), so a person decides.
    """
    return unmarked_above > IN_FLIGHT_MAX or (unmarked_above > 0 and hole == trim_to)


@dataclass(slots=True, kw_only=True)
class RecoveredRun:
    """Consecutive batches of one stream at one epoch, which no object holds yet."""

    stream: StreamId
    epoch: StreamEpoch
    start: Offset
    end: Offset
    batches: list[StreamRecordBatch] = field(default_factory=list)
    slots: tuple[int, int] = (0, 0)
    """They lie in slots [first, end)."""
    size: int = 0
    """Bytes of the batches."""

    def unplaced(self, expected: Offset) -> Unplaced:
        """What is left of the run when the commit check refused it."""
        first, end = self.slots
        return Unplaced(
            stream=self.stream,
            epoch=self.epoch,
            start=self.start,
            end=self.end,
            expected=expected,
            first_slot=first,
            end_slot=end,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadPlan:
    """What to upload, ordered by stream and offset, and what cannot be: the log goes on where no stream ends."""

    runs: list[RecoveredRun]
    gaps: list[Unplaced]


def plan_upload(
    records: Iterable[tuple[int, StreamRecordBatch]], state_of: Callable[[StreamId], StreamState | None]
) -> Generator[int, None, UploadPlan]:
    """Sort records, in WAL order, into what is committed already, what is to be uploaded, and what does not fit.

    In parts: a log has any number of records.

    Each record comes with its slot's sequence. `state_of` gives None for a deleted stream. After a gap, or a batch that
    is damaged, nothing more of that stream and epoch is taken: better the end missing than a hole that nobody sees.
    """
    states: dict[StreamId, StreamState | None] = {}
    runs: dict[StreamId, list[RecoveredRun]] = {}
    gaps: dict[tuple[StreamId, StreamEpoch], Unplaced] = {}
    for number, (sequence, record) in enumerate(records, start=1):
        if not number % RECORDS_A_PART:
            yield RECORDS_A_PART * RECORD_US
        stream = record.stream
        if stream not in states:
            states[stream] = state_of(stream)
            runs[stream] = []
        state = states[stream]
        if state is None or is_of_former_opening(record, state):
            continue
        gap = gaps.get((stream, record.epoch))
        if gap is not None:
            gaps[stream, record.epoch] = extended(gap, sequence, record)
            continue
        of_stream = runs[stream]
        if of_stream and record.epoch > of_stream[-1].epoch:
            _cut(of_stream, record.base_offset)
        expected = of_stream[-1].end if of_stream else state.end
        if is_committed(record, expected):
            continue
        if record.is_damaged or not _continues(record, expected, trim_point=state.start):
            gaps[stream, record.epoch] = Unplaced(
                stream=stream,
                epoch=record.epoch,
                start=record.base_offset,
                end=record.end_offset,
                expected=expected,
                first_slot=sequence,
                end_slot=sequence + 1,
            )
            continue
        if not of_stream or of_stream[-1].epoch != record.epoch:
            start = record.base_offset
            slots = (sequence, sequence + 1)
            of_stream.append(RecoveredRun(stream=stream, epoch=record.epoch, start=start, end=start, slots=slots))
        run = of_stream[-1]
        run.batches.append(record)
        run.size += len(record.payload)
        run.end, run.slots = record.end_offset, (run.slots[0], sequence + 1)
    ordered = [run for stream in sorted(runs) for run in runs[stream] if run.batches]
    return UploadPlan(runs=ordered, gaps=list(gaps.values()))


def extended(gap: Unplaced, sequence: int, record: StreamRecordBatch) -> Unplaced:
    """The gap with one record more behind it."""
    return replace(
        gap,
        start=min(gap.start, record.base_offset),
        end=max(gap.end, record.end_offset),
        first_slot=min(gap.first_slot, sequence),
        end_slot=max(gap.end_slot, sequence + 1),
    )


def merged(one: Unplaced, other: Unplaced) -> Unplaced:
    """Two of one stream and epoch as one."""
    return replace(
        one,
        start=min(one.start, other.start),
        end=max(one.end, other.end),
        expected=min(one.expected, other.expected),
        first_slot=min(one.first_slot, other.first_slot),
        end_slot=max(one.end_slot, other.end_slot),
    )


def is_of_former_opening(record: StreamRecordBatch, state: StreamState) -> bool:
    """Rule: records of a lower epoch are passed over in silence: they are neither gap nor refusal.

    Epochs rise only when everything acknowledged at the lower one is committed, by a release or by recovery.
    """
    return record.epoch < state.epoch


def is_committed(record: StreamRecordBatch, stream_end: Offset) -> bool:
    """Records below the stream's end lie in objects already: uploading them again would give offsets twice."""
    return record.end_offset <= stream_end


def _continues(record: StreamRecordBatch, expected: Offset, *, trim_point: Offset) -> bool:
    """A stream opens at the larger of its end and its trim point, so a hole below the trim point is none."""
    return record.base_offset == expected or expected < record.base_offset <= trim_point


def _cut(runs: list[RecoveredRun], offset: Offset) -> None:
    """A later opening of the stream began at `offset`: what an earlier one wrote from there on was refused."""
    for run in runs:
        run.batches = [batch for batch in run.batches if batch.end_offset <= offset]
        run.size = sum(len(batch.payload) for batch in run.batches)
        run.end = run.batches[-1].end_offset if run.batches else run.start
    runs[:] = [run for run in runs if run.batches]
