"""What looks at single records: keys, compression, timestamps."""

import random

import pytest

from automq.ids import Offset
from automq.partition.record_validation import content_of
from automq.partition.records_work import (
    IN_PLACE_RECORDS_MAX,
    FoundOffset,
    first_record_at,
    in_place_us,
    newest_record,
    prepare,
)
from automq.partition.validation import AppendRules
from automq.protocol.compression import Compression
from automq.protocol.errors import ApiError, ErrorCode
from automq.protocol.records import Record, RecordBatch, build_batch, records_in
from automq.steps import at_once

NOW_MS = 1_000_000
COMPACTED = AppendRules(is_compacted=True)
KINDS = list(Compression)


def a_batch(*records: Record, compression: Compression = Compression.NONE, base_offset: int = 0) -> memoryview:
    return memoryview(build_batch(records, compression=compression, base_offset=base_offset))


def timed(*timestamps: int, base_offset: int = 0, compression: Compression = Compression.NONE) -> memoryview:
    records = [Record(value=b"v", timestamp=timestamp) for timestamp in timestamps]
    return a_batch(*records, base_offset=base_offset, compression=compression)


def first(view: memoryview, timestamp_ms: int, from_offset: int) -> FoundOffset | None:
    batch = RecordBatch(view)
    return at_once(first_record_at(content_of(batch), batch, timestamp_ms, Offset(from_offset)))


def newest(view: memoryview, from_offset: int) -> FoundOffset | None:
    batch = RecordBatch(view)
    return at_once(newest_record(content_of(batch), batch, Offset(from_offset)))


@pytest.mark.parametrize("kind", KINDS)
def test_compacted_topic_refuses_a_record_without_a_key(kind: Compression) -> None:
    batch = a_batch(Record(key=b"k", value=b"v"), Record(value=b"v"), compression=kind)

    with pytest.raises(ApiError) as caught:
        prepare(batch, COMPACTED, NOW_MS)
    assert caught.value.code == ErrorCode.INVALID_RECORD


@pytest.mark.parametrize("kind", KINDS)
def test_compacted_topic_takes_records_with_keys_as_they_are(kind: Compression) -> None:
    batch = a_batch(Record(key=b"", value=b"v"), Record(key=b"k", value=None), compression=kind)

    assert prepare(batch, COMPACTED, NOW_MS) is batch


@pytest.mark.parametrize("before", KINDS)
@pytest.mark.parametrize("after", KINDS)
def test_batch_is_stored_with_the_topics_compression(before: Compression, after: Compression) -> None:
    records = [Record(key=b"k", value=b"v" * n, timestamp=n) for n in range(50)]
    rules = AppendRules(compression=after)

    prepared = prepare(a_batch(*records, compression=before), rules, NOW_MS)

    batch = RecordBatch(prepared)
    assert batch.compression is after
    assert batch.has_valid_crc()
    assert [(r.key, r.value, r.timestamp) for r in records_in(batch, decompressed_bytes_max=1 << 20)] == [
        (r.key, r.value, r.timestamp) for r in records
    ]
    assert prepare(prepared, rules, NOW_MS) is prepared


def test_what_takes_long_is_for_a_worker() -> None:
    many = a_batch(*[Record(value=b"v")] * (IN_PLACE_RECORDS_MAX + 1))
    large = memoryview(bytes(a_batch(Record(value=b"v" * 100), compression=Compression.ZSTD)) + bytes(1 << 20))
    assert in_place_us(many, AppendRules()) is None
    assert in_place_us(large, AppendRules()) is None
    assert in_place_us(many[:61], AppendRules(validates_records=False)) == 0
    assert in_place_us(large, AppendRules(validates_records=False)) == len(large) // 800
    assert in_place_us(a_batch(Record(value=b"v" * (1 << 20))), AppendRules()) in (1310, 1311)
    assert in_place_us(memoryview(b"cut off"), AppendRules()) == 0


def test_corrupt_compression_is_an_invalid_record_which_producers_do_not_repeat() -> None:
    batch = build_batch([Record(value=b"v" * 100)], compression=Compression.ZSTD)
    batch[61:] = bytes(len(batch) - 61)
    RecordBatch(memoryview(batch)).stamp(max_timestamp=0, is_log_append_time=False)

    with pytest.raises(ApiError) as caught:
        prepare(memoryview(batch), COMPACTED, NOW_MS)
    assert caught.value.code == ErrorCode.INVALID_RECORD


def test_records_that_do_not_fit_their_header_are_refused() -> None:
    batch = build_batch([Record(key=b"k", value=b"v" * 100)])
    batch[61] = 0x7E
    RecordBatch(memoryview(batch)).stamp(max_timestamp=0, is_log_append_time=False)

    with pytest.raises(ApiError) as caught:
        prepare(memoryview(batch), COMPACTED, NOW_MS)
    assert caught.value.code == ErrorCode.INVALID_RECORD


@pytest.mark.parametrize("kind", KINDS)
def test_first_record_at_a_time_is_the_first_that_is_not_earlier(kind: Compression) -> None:
    batch = timed(10, 30, 20, 40, base_offset=100, compression=kind)

    assert first(batch, 15, 0) == (30, 101)
    assert first(batch, 40, 0) == (40, 103)
    assert first(batch, 41, 0) is None


def test_records_below_the_log_start_are_not_found() -> None:
    batch = timed(10, 30, 20, base_offset=100)

    assert first(batch, 5, 102) == (20, 102)
    assert newest(batch, 102) == (20, 102)


def test_newest_record_is_the_first_with_the_greatest_timestamp() -> None:
    assert newest(timed(10, 30, 20, 30, base_offset=5), 0) == (30, 6)


def test_with_append_time_every_record_has_the_batchs_time() -> None:
    batch = timed(10, 30)
    RecordBatch(batch).stamp(max_timestamp=99, is_log_append_time=True)

    assert first(batch, 50, 0) == (99, 0)
    assert first(batch, 50, 1) == (99, 1)


def test_records_without_timestamps_are_not_found_by_time() -> None:
    assert first(timed(-1, -1), 0, 0) is None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(4))
def test_questions_about_time_agree_with_a_list_of_the_records(kind: Compression, seed: int) -> None:
    draw = random.Random(seed)
    times = [draw.choice((-1, *range(50))) for _ in range(draw.choice((1, 40, 2500)))]
    if times[0] == -1:
        times[0] = 7
    view = timed(*times, base_offset=1000, compression=kind)
    for _ in range(20):
        floor, asked = draw.randrange(990, 1003 + len(times)), draw.randrange(52)
        known = [FoundOffset(time, Offset(1000 + n)) for n, time in enumerate(times) if 1000 + n >= floor]
        assert first(view, asked, floor) == next((each for each in known if each.timestamp_ms >= asked), None)
        greatest = max((each.timestamp_ms for each in known), default=None)
        assert newest(view, floor) == next((each for each in known if each.timestamp_ms == greatest), None)


def test_questions_about_time_are_asked_in_parts() -> None:
    batch = RecordBatch(timed(*[5] * (2 * IN_PLACE_RECORDS_MAX), 9))
    content = content_of(batch)
    for question in (first_record_at(content, batch, 8, Offset(0)), newest_record(content, batch, Offset(0))):
        parts = list(question)
        assert len(parts) >= 3
        assert max(part or 0 for part in parts) <= 1001


@pytest.mark.parametrize("damage", [3, 40])
def test_record_that_is_not_well_formed_is_an_error_of_a_question_about_time(damage: int) -> None:
    view = timed(*range(20))
    view[61 + damage] ^= 0x7F
    for question in (lambda: first(view, 30, 0), lambda: newest(view, 0)):
        with pytest.raises(ApiError) as caught:
            question()
        assert caught.value.code == ErrorCode.INVALID_RECORD
