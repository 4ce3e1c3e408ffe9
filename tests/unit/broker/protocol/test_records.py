"""Record batches: header, in-place changes, records, and what does not fit."""

import random
import struct
import zlib

import aiokafka.record.default_records as oracle
import pytest
from hypothesis import given
from hypothesis import strategies as st

from automq.binary import crc32c
from automq.protocol.compression import Compression
from automq.protocol.records import (
    CONTROL,
    HEADER_BYTES,
    LOG_APPEND_TIME,
    TRANSACTIONAL,
    CorruptRecords,
    Record,
    RecordBatch,
    batches_in,
    build_batch,
    records_in,
)
from tests.support import golden

MIB = 1024 * 1024
RECORDS = [
    Record(key=b"k1", value=b"v1", timestamp=1_700_000_000_000, headers=[("h", b"1"), ("ü", None)]),
    Record(key=None, value=b"v2" * 40, timestamp=1_700_000_000_005),
    Record(key=b"", value=None, timestamp=1_699_999_999_990),
]

a_record = st.builds(
    Record,
    key=st.none() | st.binary(max_size=20),
    value=st.none() | st.binary(max_size=300),
    timestamp=st.integers(0, 2**50),
    headers=st.lists(st.tuples(st.text(max_size=5), st.none() | st.binary(max_size=5)), max_size=3),
)


def a_batch(records: list[Record] | None = None, **changes: object) -> RecordBatch:
    return RecordBatch(memoryview(build_batch(records or RECORDS, **changes)))  # type: ignore[arg-type]


def read(batch: RecordBatch, decompressed_bytes_max: int = MIB) -> list[Record]:
    return list(records_in(batch, decompressed_bytes_max=decompressed_bytes_max))


@pytest.mark.parametrize("compression", Compression)
@given(records=st.lists(a_record, min_size=1, max_size=10), base_offset=st.integers(0, 2**62))
def test_records_round_trip(compression: Compression, records: list[Record], base_offset: int) -> None:
    batch = a_batch(records, base_offset=base_offset, compression=compression)

    found = read(batch)

    assert [record.offset for record in found] == [base_offset + index for index in range(len(records))]
    for record, original in zip(found, records, strict=True):
        assert (record.key, record.value, record.timestamp) == (original.key, original.value, original.timestamp)
        assert list(record.headers) == list(original.headers)
    assert batch.has_valid_crc()
    assert batch.record_count == len(records)
    assert batch.next_offset == base_offset + len(records)
    assert batch.max_timestamp == max(record.timestamp for record in records)


@given(records=st.lists(a_record, min_size=1, max_size=10))
def test_bytes_are_those_another_client_writes(records: list[Record]) -> None:
    builder = oracle._DefaultRecordBatchBuilderPy(2, 0, 0, -1, -1, -1, 1_000_000)
    for index, record in enumerate(records):
        builder.append(index, record.timestamp, record.key, record.value, headers=list(record.headers))

    assert bytes(build_batch(records, leader_epoch=-1)) == with_leader_epoch(bytes(builder.build()), -1)


def with_leader_epoch(batch: bytes, leader_epoch: int) -> bytes:
    return batch[:12] + struct.pack(">i", leader_epoch) + batch[16:]


@pytest.mark.parametrize("compression", Compression)
def test_another_client_reads_our_batches(compression: Compression) -> None:
    reader = oracle._DefaultRecordBatchPy(bytes(build_batch(RECORDS, base_offset=7, compression=compression)))

    assert reader.validate_crc()
    found = [(record.offset, record.key, record.value, record.timestamp) for record in reader]
    assert found == [(7 + index, r.key, r.value, r.timestamp) for index, r in enumerate(RECORDS)]


def test_batch_is_placed_in_its_own_bytes() -> None:
    data = build_batch(RECORDS)
    batch = RecordBatch(memoryview(data))

    batch.place(base_offset=12345, leader_epoch=6)

    again = RecordBatch(memoryview(data))
    assert (again.base_offset, again.leader_epoch, batch.base_offset) == (12345, 6, 12345)
    assert again.has_valid_crc(), "the CRC does not cover the place"
    assert [record.offset for record in read(again)] == [12345, 12346, 12347]


def test_log_append_time_replaces_every_timestamp() -> None:
    data = build_batch(RECORDS)

    RecordBatch(memoryview(data)).stamp(max_timestamp=99, is_log_append_time=True)

    again = RecordBatch(memoryview(data))
    assert again.is_log_append_time
    assert again.has_valid_crc()
    assert [record.timestamp for record in read(again)] == [99, 99, 99]


def test_changed_byte_breaks_the_crc() -> None:
    for position in range(21, len(build_batch(RECORDS)), 7):
        data = build_batch(RECORDS)
        data[position] ^= 1
        assert not RecordBatch(memoryview(data)).has_valid_crc()


def test_attributes_are_named() -> None:
    batch = a_batch(attributes=CONTROL | TRANSACTIONAL | LOG_APPEND_TIME, compression=Compression.ZSTD)

    assert (batch.is_control, batch.is_transactional, batch.is_log_append_time) == (True, True, True)
    assert batch.compression is Compression.ZSTD
    assert not a_batch().is_control


def test_sequence_wraps_around() -> None:
    assert a_batch(base_sequence=2**31 - 2).last_sequence == 0
    assert a_batch(base_sequence=5).last_sequence == 7


def test_batches_follow_each_other() -> None:
    data = memoryview(build_batch(RECORDS) + build_batch(RECORDS, base_offset=3))

    batches = batches_in(data)

    assert [batch.base_offset for batch in batches] == [0, 3]
    assert sum(batch.size for batch in batches) == len(data)


def test_batches_cut_anywhere_are_corrupt() -> None:
    data = memoryview(build_batch(RECORDS))
    for cut in range(1, len(data)):
        with pytest.raises(CorruptRecords):
            batches_in(data[:cut])


@pytest.mark.parametrize("length", [-1, 0, 48, 2**31 - 1, -(2**31)])
def test_impossible_length_is_corrupt(length: int) -> None:
    data = build_batch(RECORDS)
    struct.pack_into(">i", data, 8, length)

    with pytest.raises(CorruptRecords):
        batches_in(memoryview(data))


@pytest.mark.parametrize("count", [-1, 2, 4, 2**31 - 1])
def test_wrong_record_count_is_corrupt(count: int) -> None:
    data = build_batch(RECORDS)
    struct.pack_into(">i", data, 57, count)

    with pytest.raises(CorruptRecords):
        read(RecordBatch(memoryview(data)))


def test_unknown_compression_and_magic_are_corrupt() -> None:
    data = build_batch(RECORDS)
    data[22] |= 5
    with pytest.raises(CorruptRecords, match="compression 5 is not known"):
        read(RecordBatch(memoryview(data)))

    data = build_batch(RECORDS)
    data[16] = 1
    with pytest.raises(CorruptRecords, match="magic 1 is not 2"):
        read(RecordBatch(memoryview(data)))


def test_decompressed_size_is_bounded() -> None:
    batch = a_batch([Record(value=bytes(100_000))], compression=Compression.GZIP)

    with pytest.raises(CorruptRecords, match="more than 50000 bytes"):
        read(batch, decompressed_bytes_max=50_000)


def test_one_wrong_byte_in_the_records_is_harmless() -> None:
    source = random.Random(zlib.crc32(b"records"))
    for _ in range(3000):
        data = build_batch(RECORDS)
        position = source.randrange(HEADER_BYTES, len(data))
        data[position] = source.choice([0, 1, 0x7F, 0x80, 0xFF, source.randrange(256)])
        try:
            read(RecordBatch(memoryview(data)))
        except CorruptRecords:
            pass


@pytest.mark.parametrize("compression", [Compression.NONE, Compression.SNAPPY])
def test_batch_is_that_of_the_golden_file(compression: Compression) -> None:
    data = build_batch(
        RECORDS,
        base_offset=100,
        leader_epoch=4,
        producer_id=9000,
        producer_epoch=2,
        base_sequence=17,
        compression=compression,
        attributes=TRANSACTIONAL,
    )

    golden.check_bytes(f"protocol/records/{compression.name.lower()}.hex", data)


def test_crc_is_castagnoli() -> None:
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(b"6789", crc32c(b"12345")) == 0xE3069283
