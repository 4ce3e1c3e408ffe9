"""WAL slots as bytes: golden, round trip, and every damage noticed."""

from dataclasses import replace

import pytest
from crc32c import crc32c
from hypothesis import given
from hypothesis import strategies as st

from automq.ids import BrokerEpoch, ClusterId, NodeId, Offset, StreamEpoch, StreamId
from automq.s3stream.model import CorruptData, FormatTooNew, StreamRecordBatch
from automq.s3stream.wal.format import (
    RECORD_HEADER,
    RECORD_HEADER_BYTES,
    SLOT_HEADER_BYTES,
    SlotHeader,
    SlotId,
    SlotKind,
    decode_slot,
    encode_fence,
    parse_slot_key,
    peek_header,
    seal_slot,
)
from tests.support import golden

SLOT = SlotId(cluster_id=ClusterId("ODgzMTQ5OTI3NjE0NTU2Mg"), node=NodeId(3), epoch=BrokerEpoch(7), sequence=42)
NONCE = bytes(range(16))
BATCHES = [
    StreamRecordBatch(
        stream=StreamId(5),
        epoch=StreamEpoch(2),
        base_offset=Offset(100),
        count=3,
        max_timestamp_ms=1_700_000_000_123,
        crc=crc32c(b"first batch"),
        payload=memoryview(b"first batch"),
    ),
    StreamRecordBatch(
        stream=StreamId(6),
        epoch=StreamEpoch(1),
        base_offset=Offset(2**40),
        count=1,
        max_timestamp_ms=-1,
        crc=crc32c(b"second"),
        payload=memoryview(b"second"),
    ),
]


def encode(batches: list[StreamRecordBatch], *, padding: int = 0, durable_below: int = 39) -> bytearray:
    data = bytearray(SLOT_HEADER_BYTES)
    crc = 0
    for batch in batches:
        header = RECORD_HEADER.pack(
            batch.stream,
            batch.epoch,
            batch.base_offset,
            batch.max_timestamp_ms,
            batch.count,
            len(batch.payload),
            batch.crc,
        )
        crc = crc32c(header, crc)
        data += header + batch.payload
    end = len(data)
    data += bytes(padding)
    seal_slot(
        memoryview(data),
        start=0,
        end=end,
        slot=SLOT,
        kind=SlotKind.DATA,
        nonce=NONCE,
        records=len(batches),
        crc=crc,
        durable_below=durable_below,
    )
    return data


def golden_slot(name: str) -> bytes:
    return bytes.fromhex((golden.GOLDEN_FOLDER / "s3stream" / name).read_text().replace("\n", ""))


def test_data_slot_is_golden() -> None:
    golden.check_bytes("s3stream/wal_slot_v2.hex", bytes(encode(BATCHES)))


def test_fence_slot_is_golden() -> None:
    fence = encode_fence(SLOT, nonce=NONCE, recoverer=(NodeId(9), BrokerEpoch(11)))
    golden.check_bytes("s3stream/wal_fence_v2.hex", fence)


def test_slot_keys_are_golden() -> None:
    assert SLOT.key == "ODgzMTQ5OTI3NjE0NTU2Mg/wal/0000000003/0000000007/00000000000000000042"
    assert parse_slot_key(SLOT.key) == SLOT


def test_fence_names_its_recoverer() -> None:
    slot = decode_slot(SLOT, memoryview(encode_fence(SLOT, nonce=NONCE, recoverer=(NodeId(9), BrokerEpoch(11)))))

    assert (slot.kind, slot.recoverer, slot.records) == (SlotKind.FENCE, (9, 11), [])


def test_slots_of_the_first_version_are_read_and_have_no_mark() -> None:
    slot = decode_slot(SLOT, memoryview(golden_slot("wal_slot_v1.hex")))

    assert (slot.kind, slot.nonce, slot.records, slot.mark) == (SlotKind.DATA, NONCE, BATCHES, None)
    fence = decode_slot(SLOT, memoryview(golden_slot("wal_fence_v1.hex")))
    assert (fence.kind, fence.recoverer, fence.mark) == (SlotKind.FENCE, (9, 11), 42)


@pytest.mark.parametrize(("durable_below", "mark"), [(42, 42), (39, 39), (0, 0)])
def test_slot_says_below_which_everything_was_durable(durable_below: int, mark: int) -> None:
    assert decode_slot(SLOT, memoryview(encode(BATCHES, durable_below=durable_below))).mark == mark


@pytest.mark.parametrize(("lag", "mark"), [(65_534, 100_000 - 65_534), (65_535, 0), (90_000, 0)])
def test_mark_that_is_too_far_back_says_nothing_and_never_too_much(lag: int, mark: int) -> None:
    slot = replace(SLOT, sequence=100_000)
    data = bytearray(SLOT_HEADER_BYTES)
    seal_slot(
        memoryview(data),
        start=0,
        end=len(data),
        slot=slot,
        kind=SlotKind.DATA,
        nonce=NONCE,
        records=0,
        crc=0,
        durable_below=slot.sequence - lag,
    )
    assert decode_slot(slot, memoryview(data)).mark == mark


def test_header_alone_says_what_a_slot_is() -> None:
    fence = encode_fence(SLOT, nonce=NONCE, recoverer=(NodeId(9), BrokerEpoch(11)))

    assert peek_header(SLOT, encode(BATCHES)[:SLOT_HEADER_BYTES]) == SlotHeader(kind=SlotKind.DATA, mark=39)
    assert peek_header(SLOT, fence[:SLOT_HEADER_BYTES]) == SlotHeader(kind=SlotKind.FENCE, mark=42)
    assert peek_header(SLOT, golden_slot("wal_slot_v1.hex")) == SlotHeader(kind=SlotKind.DATA, mark=None)


@pytest.mark.parametrize("data", [b"", bytes(4096), b"AQWS", bytes(encode(BATCHES))[:79]])
def test_header_that_is_none_says_nothing(data: bytes) -> None:
    assert peek_header(SLOT, data) is None
    assert peek_header(replace(SLOT, sequence=43), encode(BATCHES)) is None


def test_padding_is_tolerated() -> None:
    assert decode_slot(SLOT, memoryview(encode(BATCHES, padding=999))).records == BATCHES


@given(
    st.lists(
        st.builds(
            StreamRecordBatch,
            stream=st.integers(0, 2**63 - 1),
            epoch=st.integers(0, 2**31),
            base_offset=st.integers(0, 2**62),
            count=st.integers(1, 2**31),
            max_timestamp_ms=st.integers(-(2**63), 2**63 - 1),
            crc=st.just(0),
            payload=st.binary(min_size=1, max_size=50).map(memoryview),
        ).map(lambda batch: replace(batch, crc=crc32c(batch.payload))),
        max_size=8,
    )
)
def test_what_is_encoded_is_decoded(batches: list[StreamRecordBatch]) -> None:
    assert decode_slot(SLOT, memoryview(encode(batches))).records == batches


@given(st.integers(0, 8 * len(encode(BATCHES)) - 1))
def test_every_flipped_bit_is_noticed(bit: int) -> None:
    data = encode(BATCHES)
    data[bit // 8] ^= 1 << bit % 8

    with pytest.raises((CorruptData, FormatTooNew)):
        decode_slot(SLOT, memoryview(data))


@given(st.integers(0, len(encode(BATCHES)) - 1))
def test_every_truncation_is_noticed(length: int) -> None:
    with pytest.raises(CorruptData):
        decode_slot(SLOT, memoryview(encode(BATCHES))[:length])


def test_slot_of_another_key_is_refused() -> None:
    other = SlotId(cluster_id=SLOT.cluster_id, node=SLOT.node, epoch=SLOT.epoch, sequence=43)

    with pytest.raises(CorruptData, match="identity"):
        decode_slot(other, memoryview(encode(BATCHES)))


def test_newer_format_is_refused_by_name() -> None:
    data = encode(BATCHES)
    data[4] = 3

    with pytest.raises(FormatTooNew, match="format version 3"):
        decode_slot(SLOT, memoryview(data))
    with pytest.raises(FormatTooNew):
        peek_header(SLOT, data)


def test_record_that_overruns_its_slot_is_refused_with_its_place() -> None:
    data = encode(BATCHES)
    RECORD_HEADER.pack_into(data, SLOT_HEADER_BYTES, 5, 2, 100, 0, 3, 10_000, 0)

    with pytest.raises(CorruptData) as caught:
        decode_slot(SLOT, memoryview(data))
    assert (caught.value.key, caught.value.offset) == (SLOT.key, SLOT_HEADER_BYTES)
    assert RECORD_HEADER_BYTES == 44


def test_f8_damaged_batches_are_told_by_whose_they_are_as_long_as_the_headers_are_whole() -> None:
    whole = encode(BATCHES)
    body_of_first = SLOT_HEADER_BYTES + RECORD_HEADER_BYTES
    for bit in range(len(whole) * 8):
        data = bytearray(whole)
        data[bit // 8] ^= 1 << bit % 8
        place = bit // 8
        in_first = body_of_first <= place < body_of_first + 11
        in_second = place >= len(whole) - 6
        if not (in_first or in_second):
            with pytest.raises((CorruptData, FormatTooNew)):
                decode_slot(SLOT, memoryview(data), takes_damaged_batches=True)
            continue
        records = decode_slot(SLOT, memoryview(data), takes_damaged_batches=True).records
        assert [record.is_damaged for record in records] == [in_first, in_second]
        assert [(record.stream, record.base_offset, record.count) for record in records] == [
            (batch.stream, batch.base_offset, batch.count) for batch in BATCHES
        ]
