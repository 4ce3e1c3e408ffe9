"""The walk over a produced batch's records: what a consumer could not read is refused, what the header claims is not
believed."""

import gzip
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from automq.partition.record_validation import RecordsRefused, content_of, validate_records
from automq.partition.validation import AppendRules, check_batch
from automq.protocol.compression import Compression
from automq.protocol.errors import ApiError, ErrorCode
from automq.protocol.records import (
    HEADER_BYTES,
    LENGTH_END,
    NO_TIMESTAMP,
    CorruptRecords,
    Record,
    RecordBatch,
    build_batch,
    records_in,
)

NOW_MS = 1_700_000_000_000
RULES = AppendRules()


def batch_of(*records: Record, compression: Compression = Compression.NONE) -> RecordBatch:
    return RecordBatch(memoryview(build_batch(records, compression=compression)))


def with_content(records: list[Record], content: bytes, kind: Compression, *, count: int | None = None) -> RecordBatch:
    """The header of `records`, valid CRC included, before `content`."""
    batch = bytearray(build_batch(records))[:HEADER_BYTES] + content
    batch[8:LENGTH_END] = (len(batch) - LENGTH_END).to_bytes(4, "big")
    batch[22] |= kind
    if count is not None:
        batch[23:27] = (count - 1).to_bytes(4, "big")
        batch[57:61] = count.to_bytes(4, "big")
    made = RecordBatch(memoryview(batch))
    made.stamp(max_timestamp=made.max_timestamp, is_log_append_time=False)
    return RecordBatch(memoryview(batch))


def refusal(batch: RecordBatch, rules: AppendRules = RULES) -> ApiError:
    with pytest.raises(ApiError) as caught:
        validate_records(batch, rules, NOW_MS)
    return caught.value


RECORDS = st.lists(
    st.builds(
        Record,
        key=st.none() | st.binary(max_size=200),
        value=st.none() | st.binary(max_size=300),
        timestamp=st.integers(0, NOW_MS),
        headers=st.lists(st.tuples(st.text(max_size=5), st.none() | st.binary(max_size=5)), max_size=3),
    ),
    min_size=1,
    max_size=90,
)


@given(records=RECORDS, kind=st.sampled_from(list(Compression)))
def test_k1_greatest_timestamp_is_that_of_the_records(records: list[Record], kind: Compression) -> None:
    batch = batch_of(*records, compression=kind)
    assert validate_records(batch, RULES, NOW_MS) == max(record.timestamp for record in records)


@given(records=RECORDS, seed=st.integers(0, 2**32))
def test_k2_what_is_accepted_can_be_read(records: list[Record], seed: int) -> None:
    """The reader of whole records is the oracle: bytes are flipped, cut and repeated at random."""
    dice = random.Random(seed)
    content = bytearray(build_batch(records)[HEADER_BYTES:])
    for _ in range(dice.randint(1, 3)):
        at = dice.randrange(len(content))
        match dice.randrange(3):
            case 0:
                content[at] ^= 1 << dice.randrange(8)
            case 1:
                del content[at : at + dice.randint(1, 4)]
            case _:
                content[at:at] = dice.randbytes(dice.randint(1, 3))
        if not content:
            return
    batch = with_content(records, bytes(content), Compression.NONE)
    try:
        validate_records(batch, AppendRules(before_ms_max=1 << 70, after_ms_max=1 << 70), NOW_MS)
    except ApiError:
        return
    read = list(records_in(batch, decompressed_bytes_max=1 << 20))
    assert [record.offset for record in read] == list(range(len(records)))


def test_records_without_time_have_none() -> None:
    assert validate_records(batch_of(Record(value=b"v", timestamp=-1)), RULES, NOW_MS) == NO_TIMESTAMP


PLAIN = [Record(value=b"some value %d" % n, timestamp=NOW_MS) for n in range(5)]
CONTENT = bytes(build_batch(PLAIN)[HEADER_BYTES:])


@pytest.mark.parametrize(
    ("content", "kind", "count"),
    [
        (b"not compressed at all" * 5, Compression.GZIP, None),
        (gzip.compress(CONTENT, mtime=0)[:-20], Compression.GZIP, None),
        (gzip.compress(CONTENT, mtime=0), Compression.GZIP, 6),
        (gzip.compress(CONTENT, mtime=0), Compression.GZIP, 4),
        (CONTENT, Compression.NONE, 6),
        (CONTENT, Compression.NONE, 4),
        (bytes(range(256)) * 2, Compression.NONE, None),
        (b"\x82SNAPPY\x00", Compression.SNAPPY, None),
        (b"", Compression.NONE, None),
    ],
    ids=lambda value: None if isinstance(value, bytes) else str(value),
)
def test_b7_batch_that_nobody_could_read_is_refused(content: bytes, kind: Compression, count: int | None) -> None:
    batch = with_content(PLAIN, content, kind, count=count)
    assert refusal(batch).code == ErrorCode.INVALID_RECORD


def lz4_frame(flags: int, *, blocks: bytes = b"\x00\x00\x00\x00") -> bytes:
    """A frame by hand; only what the check looks at is right."""
    return b"\x04\x22\x4d\x18" + bytes([flags, 0x40, 0]) + blocks


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(lz4_frame(0x40), id="linked blocks"),
        pytest.param(lz4_frame(0x20), id="another version"),
        pytest.param(lz4_frame(0x60)[:-1], id="cut in the end mark"),
        pytest.param(lz4_frame(0x60, blocks=b"\x09\x00\x00\x80abc"), id="cut in a block"),
        pytest.param(lz4_frame(0x60) * 2, id="two frames"),
        pytest.param(b"\x04\x22", id="cut in the header"),
        pytest.param(b"\x05" + lz4_frame(0x60)[1:], id="another magic"),
    ],
)
def test_k2_lz4_that_java_cannot_read_is_refused(frame: bytes) -> None:
    assert "lz4" in str(refusal(with_content(PLAIN, frame, Compression.LZ4)))


def test_lz4_of_this_program_and_of_clients_is_taken() -> None:
    large = [Record(value=bytes([n]) * 60_000, timestamp=NOW_MS) for n in range(5)]
    batch = batch_of(*large, compression=Compression.LZ4)
    assert validate_records(batch, RULES, NOW_MS) == NOW_MS
    assert len(content_of(batch)) > 300_000


def test_b9_every_record_is_held_against_the_bounds_and_named() -> None:
    rules = AppendRules(before_ms_max=1000, after_ms_max=2000)
    times = (NOW_MS, NOW_MS - 5000, NOW_MS + 1, NOW_MS + 9000)
    refused = refusal(batch_of(*(Record(value=b"v", timestamp=time) for time in times)), rules)
    assert isinstance(refused, RecordsRefused)
    assert refused.code == ErrorCode.INVALID_TIMESTAMP
    assert [error.batch_index for error in refused.record_errors] == [1, 3]
    assert "out of range" in (refused.record_errors[0].batch_index_error_message or "")


def test_record_errors_name_the_records_without_a_key() -> None:
    records = [Record(key=None if n % 2 else b"k", value=b"v", timestamp=NOW_MS) for n in range(6)]
    refused = refusal(batch_of(*records), AppendRules(is_compacted=True))
    assert isinstance(refused, RecordsRefused)
    assert refused.code == ErrorCode.INVALID_RECORD
    assert [error.batch_index for error in refused.record_errors] == [1, 3, 5]


def test_with_append_time_the_producers_times_do_not_matter() -> None:
    rules = AppendRules(is_log_append_time=True, before_ms_max=0, after_ms_max=0)
    assert validate_records(batch_of(Record(value=b"v", timestamp=5)), rules, NOW_MS) == 5


def test_header_that_claims_another_time_is_no_reason_to_refuse() -> None:
    batch = batch_of(Record(value=b"v", timestamp=NOW_MS))
    batch.stamp(max_timestamp=NOW_MS + 86_400_000, is_log_append_time=False)
    assert check_batch(batch.view, RULES, NOW_MS).max_timestamp == NOW_MS + 86_400_000
    with pytest.raises(ApiError):
        check_batch(batch.view, AppendRules(validates_records=False), NOW_MS)


@given(st.binary(min_size=1, max_size=60))
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    batch = with_content(PLAIN, content, Compression.NONE)
    try:
        validate_records(batch, RULES, NOW_MS)
    except ApiError:
        return
    try:
        assert len(list(records_in(batch, decompressed_bytes_max=1 << 20))) == 5
    except CorruptRecords as error:
        raise AssertionError("accepted and unreadable") from error
