"""Pure: which WAL slots count after a crash, and what of them is still to be uploaded.

The log of a dead broker is the run of slots from T without a hole, up to the fence that its recoverer put into the
lowest missing slot. No slot above that can ever be acknowledged, so none is part of the log.
"""

from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from automq.ids import Offset, StreamEpoch, StreamId
from automq.s3stream.model import StreamRecordBatch, StreamState
from automq.s3stream.wal.format import Slot, SlotKind


def first_of_run(trim_to: int) -> int:
    """Rule of the log: recovery starts at T and never looks below it. What is missing there was trimmed."""
    return trim_to


def lowest_missing(present: AbstractSet[int], first: int) -> int:
    """Rule of the log: the slot to win as a fence is the lowest missing one at or above `first`."""
    position = first
    while position in present:
        position += 1
    return position


def ends_run(slot: Slot) -> bool:
    """Rule of the log: a fence ends the run; slots beyond it are never part of it."""
    return slot.kind is SlotKind.FENCE


@dataclass(slots=True, kw_only=True)
class RecoveredRun:
    """Consecutive batches of one stream at one epoch, which no object holds yet."""

    stream: StreamId
    epoch: StreamEpoch
    start: Offset
    end: Offset
    batches: list[StreamRecordBatch] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """The log goes on at `found` where the stream ends at `expected`: a bug, whatever else it is."""

    stream: StreamId
    epoch: StreamEpoch
    expected: Offset
    found: Offset


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadPlan:
    """What to upload, ordered by stream and offset, and what cannot be."""

    runs: list[RecoveredRun]
    gaps: list[Gap]


def plan_upload(records: Iterable[StreamRecordBatch], state_of: Callable[[StreamId], StreamState | None]) -> UploadPlan:
    """Sort records, in WAL order, into what is committed already, what is to be uploaded, and what does not fit.

    `state_of` gives None for a deleted stream. After a gap nothing more of that stream and epoch is taken: better the
    end missing than a hole that nobody sees.
    """
    states: dict[StreamId, StreamState | None] = {}
    runs: dict[StreamId, list[RecoveredRun]] = {}
    gaps: dict[tuple[StreamId, StreamEpoch], Gap] = {}
    for record in records:
        stream = record.stream
        if stream not in states:
            states[stream] = state_of(stream)
            runs[stream] = []
        state = states[stream]
        if state is None or (stream, record.epoch) in gaps:
            continue
        of_stream = runs[stream]
        if of_stream and record.epoch > of_stream[-1].epoch:
            _cut(of_stream, record.base_offset)
        expected = of_stream[-1].end if of_stream else state.end
        if is_committed(record, expected):
            continue
        if not _continues(record, expected, trim_point=state.start):
            gaps[(stream, record.epoch)] = Gap(
                stream=stream, epoch=record.epoch, expected=expected, found=record.base_offset
            )
            continue
        if not of_stream or of_stream[-1].epoch != record.epoch:
            start = record.base_offset
            of_stream.append(RecoveredRun(stream=stream, epoch=record.epoch, start=start, end=start))
        of_stream[-1].batches.append(record)
        of_stream[-1].end = record.end_offset
    ordered = [run for stream in sorted(runs) for run in runs[stream] if run.batches]
    return UploadPlan(runs=ordered, gaps=list(gaps.values()))


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
        run.end = run.batches[-1].end_offset if run.batches else run.start
    runs[:] = [run for run in runs if run.batches]
