"""Which slots count after a crash, and what of them is to be uploaded: rule by rule, then against a model."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from automq.ids import BrokerEpoch, NodeId, Offset, StreamEpoch, StreamId
from automq.s3stream.model import StreamRecordBatch, StreamState
from automq.s3stream.recovery import (
    IN_FLIGHT_MAX,
    UploadPlan,
    Witness,
    ends_run,
    is_committed,
    is_conclusive,
    is_suspicious,
    lowest_missing,
    merged,
    plan_upload,
    shows_durable,
)
from automq.s3stream.wal.format import Slot, SlotId, SlotKind
from automq.steps import at_once
from tests.support.engine import CLUSTER

STREAM = StreamId(1)


def a_record(base: int, count: int = 1, *, stream: int = 1, epoch: int = 0) -> StreamRecordBatch:
    return StreamRecordBatch(
        stream=StreamId(stream),
        epoch=StreamEpoch(epoch),
        base_offset=Offset(base),
        count=count,
        max_timestamp_ms=0,
        crc=0,
        payload=memoryview(b"x"),
    )


def plan_of(records: Sequence[StreamRecordBatch], state_of: Callable[[StreamId], StreamState | None]) -> UploadPlan:
    """Of records that lie in a slot each, from slot 10 on."""
    return at_once(plan_upload(enumerate(records, 10), state_of))


def a_state(end: int = 0, *, start: int = 0, stream: int = 1) -> StreamState:
    return StreamState(
        stream=StreamId(stream), epoch=StreamEpoch(0), owner=NodeId(1), start=Offset(start), end=Offset(end)
    )


def test_fence_goes_into_the_lowest_missing_slot() -> None:
    assert lowest_missing({3, 4, 6, 7}, 3) == 5
    assert lowest_missing({4}, 3) == 3
    assert lowest_missing(set(), 9) == 9


def test_only_a_fence_ends_the_run() -> None:
    slot = Slot(
        slot=SlotId(cluster_id=CLUSTER, node=NodeId(1), epoch=BrokerEpoch(1), sequence=0),
        kind=SlotKind.DATA,
        nonce=bytes(16),
        records=[],
        mark=0,
        recoverer=None,
    )

    assert not ends_run(slot)
    assert ends_run(replace(slot, kind=SlotKind.FENCE))


def test_what_objects_hold_already_is_skipped() -> None:
    plan = plan_of([a_record(0, 2), a_record(2, 3), a_record(5)], lambda stream: a_state(5))

    assert [(run.start, run.end) for run in plan.runs] == [(5, 6)]
    assert is_committed(a_record(3, 2), Offset(5))
    assert not is_committed(a_record(3, 3), Offset(5))


def test_gap_is_reported_and_nothing_after_it_is_taken() -> None:
    plan = plan_of([a_record(0), a_record(2), a_record(3)], lambda stream: a_state())

    assert [(run.start, run.end) for run in plan.runs] == [(0, 1)]
    (gap,) = plan.gaps
    assert (gap.stream, gap.expected, gap.start, gap.end) == (1, 1, 2, 4)
    assert (gap.first_slot, gap.end_slot) == (11, 13)


def test_run_that_is_refused_names_its_slots() -> None:
    plan = plan_of([a_record(0), a_record(0, stream=2), a_record(1, 4)], lambda stream: a_state(stream=stream))

    unplaced = plan.runs[0].unplaced(Offset(7))
    assert (unplaced.start, unplaced.end, unplaced.expected) == (0, 5, 7)
    assert (unplaced.first_slot, unplaced.end_slot) == (10, 13)
    later = replace(unplaced, start=Offset(9), end=Offset(12), first_slot=20, end_slot=22)
    assert merged(unplaced, later) == replace(unplaced, end=Offset(12), end_slot=22)


@pytest.mark.parametrize(("mark", "durable"), [(6, True), (5, False), (0, False), (None, False)])
def test_f2_a_mark_shows_that_what_lies_below_was_durable(mark: int | None, durable: bool) -> None:
    witness = Witness(key="k", is_whole=True, mark=mark)

    assert shows_durable(witness, 5) is durable
    assert is_conclusive(witness) is (mark is not None)
    assert not is_conclusive(replace(witness, is_whole=False))


@pytest.mark.parametrize(
    ("hole", "above", "suspicious"),
    [(5, 0, False), (5, 1, True), (6, 1, False), (6, IN_FLIGHT_MAX, False), (6, IN_FLIGHT_MAX + 1, True)],
)
def test_f2_slots_without_marks_are_judged_by_number_and_place(hole: int, above: int, suspicious: bool) -> None:
    assert is_suspicious(hole, trim_to=5, unmarked_above=above) is suspicious


def test_stream_that_opened_at_its_trim_point_has_no_gap() -> None:
    plan = plan_of([a_record(15, 5)], lambda stream: a_state(10, start=15))

    assert [(run.start, run.end) for run in plan.runs] == [(15, 20)]
    assert plan.gaps == []


def test_deleted_stream_is_dropped() -> None:
    plan = plan_of([a_record(0)], lambda stream: None)

    assert (plan.runs, plan.gaps) == ([], [])


def test_later_opening_overrules_what_an_earlier_one_wrote_from_there_on() -> None:
    records = [a_record(0, 5), a_record(5, 5), a_record(5, 2, epoch=2), a_record(7, 1, epoch=2)]

    plan = plan_of(records, lambda stream: a_state())

    assert [(run.epoch, run.start, run.end) for run in plan.runs] == [(0, 0, 5), (2, 5, 8)]


def test_runs_are_ordered_by_stream() -> None:
    plan = plan_of([a_record(0, stream=9), a_record(0, stream=2)], lambda stream: a_state(stream=stream))

    assert [run.stream for run in plan.runs] == [2, 9]


@given(
    counts=st.lists(st.integers(1, 4), min_size=1, max_size=20),
    streams=st.data(),
    committed=st.integers(0, 20),
)
def test_plan_is_exactly_the_uncommitted_rest(counts: list[int], streams: st.DataObject, committed: int) -> None:
    ends: dict[int, int] = {}
    records: list[StreamRecordBatch] = []
    for count in counts:
        stream = streams.draw(st.integers(1, 3))
        records.append(a_record(ends.get(stream, 0), count, stream=stream))
        ends[stream] = ends.get(stream, 0) + count
    # Commits end where batches end.
    done = dict.fromkeys(ends, 0)
    for record in records[:committed]:
        done[record.stream] = record.end_offset

    plan = plan_of(records, lambda stream: a_state(done[stream], stream=stream))

    assert plan.gaps == []
    assert [batch for run in plan.runs for batch in run.batches] == [
        record for stream in sorted(ends) for record in records[committed:] if record.stream == stream
    ]
    assert {run.stream: run.end for run in plan.runs} == {s: end for s, end in ends.items() if end > done[s]}


def test_f8_a_damaged_batch_holds_up_its_stream_from_there() -> None:
    records = [a_record(0), replace(a_record(1), is_damaged=True), a_record(2), a_record(0, stream=2)]

    plan = plan_of(records, lambda stream: a_state(stream=stream))

    assert [(run.stream, run.start, run.end) for run in plan.runs] == [(1, 0, 1), (2, 0, 1)]
    (gap,) = plan.gaps
    assert (gap.stream, gap.expected, gap.start, gap.end, gap.first_slot, gap.end_slot) == (1, 1, 1, 3, 11, 13)


def test_a_damaged_batch_that_an_object_holds_or_a_person_gave_up_is_passed_over() -> None:
    records = [replace(a_record(1), is_damaged=True), a_record(2)]

    plan = plan_of(records, lambda stream: a_state(2))

    assert ([(run.start, run.end) for run in plan.runs], plan.gaps) == ([(2, 3)], [])
