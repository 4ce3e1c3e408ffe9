"""What looks at single records: keys, compression, timestamps."""

import pytest

from automq.ids import Offset
from automq.partition.records_work import (
    IN_PLACE_RECORDS_MAX,
    first_record_at,
    is_small,
    newest_record,
    prepare,
)
from automq.partition.validation import AppendRules
from automq.protocol.compression import Compression
from automq.protocol.errors import ApiError, ErrorCode
from automq.protocol.records import Record, RecordBatch, build_batch, records_in

NOW_MS = 1_000_000
COMPACTED = AppendRules(is_compacted=True)
KINDS = list(Compression)


def a_batch(*records: Record, compression: Compression = Compression.NONE, base_offset: int = 0) -> memoryview:
    return memoryview(build_batch(records, compression=compression, base_offset=base_offset))


def timed(*timestamps: int, base_offset: int = 0, compression: Compression = Compression.NONE) -> memoryview:
    records = [Record(value=b"v", timestamp=timestamp) for timestamp in timestamps]
    return a_batch(*records, base_offset=base_offset, compression=compression)


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
    assert not is_small(many, AppendRules())
    assert not is_small(large, AppendRules())
    assert is_small(many[:61], AppendRules(validates_records=False))
    assert is_small(large, AppendRules(validates_records=False))
    assert is_small(a_batch(Record(value=b"v" * (1 << 20))), AppendRules())
    assert is_small(memoryview(b"cut off"), AppendRules())


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

    assert first_record_at(batch, 15, from_offset=Offset(0)) == (30, 101)
    assert first_record_at(batch, 40, from_offset=Offset(0)) == (40, 103)
    assert first_record_at(batch, 41, from_offset=Offset(0)) is None


def test_records_below_the_log_start_are_not_found() -> None:
    batch = timed(10, 30, 20, base_offset=100)

    assert first_record_at(batch, 5, from_offset=Offset(102)) == (20, 102)
    assert newest_record(batch, from_offset=Offset(102)) == (20, 102)


def test_newest_record_is_the_first_with_the_greatest_timestamp() -> None:
    assert newest_record(timed(10, 30, 20, 30, base_offset=5), from_offset=Offset(0)) == (30, 6)


def test_with_append_time_every_record_has_the_batchs_time() -> None:
    batch = timed(10, 30)
    RecordBatch(batch).stamp(max_timestamp=99, is_log_append_time=True)

    assert first_record_at(batch, 50, from_offset=Offset(0)) == (99, 0)
    assert first_record_at(batch, 50, from_offset=Offset(1)) == (99, 1)


def test_records_without_timestamps_are_not_found_by_time() -> None:
    assert first_record_at(timed(-1, -1), 0, from_offset=Offset(0)) is None
