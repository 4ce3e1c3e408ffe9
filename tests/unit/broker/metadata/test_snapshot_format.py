"""Snapshots as bytes: of this version, block by block, and of the one before."""

import pytest
from crc32c import crc32c
from hypothesis import given
from hypothesis import strategies as st

from automq.ids import ClusterId, ControllerEpoch
from automq.metadata import snapshot_format as module
from automq.metadata.log_format import HEADER_BYTES, Kind, LogPosition, decode_slot, encode_header, snapshot_key
from automq.metadata.records import FeatureLevelSet, MetadataRecord, PrefixOwnerSet, encode_record, join_records
from automq.metadata.snapshot_format import check_snapshot, decode_snapshot, encode_snapshot
from automq.s3stream.model import CorruptData, FormatTooNew
from automq.steps import at_once
from tests.support import golden

CLUSTER = ClusterId("abcdefghijklmnopqrstuv")
HERE = LogPosition(ControllerEpoch(3), 12)
NONCE = bytes(range(16))
RECORDS: list[MetadataRecord] = [PrefixOwnerSet(owner="uid")]


def encoded(records: list[MetadataRecord]) -> bytes:
    return b"".join(at_once(encode_snapshot(CLUSTER, HERE, record_number=40, records=records, nonce=NONCE)))


def of_version_1(records: list[MetadataRecord]) -> bytes:
    payload = b"".join(join_records([encode_record(record) for record in records]))
    return _with_header(payload, version=1, count=len(records))


def _with_header(payload: bytes, *, version: int, count: int) -> bytes:
    header = encode_header(
        module.MAGIC,
        Kind.SNAPSHOT,
        CLUSTER,
        HERE,
        version=version,
        number=40,
        count=count,
        size=len(payload),
        crc=crc32c(payload),
        nonce=NONCE,
        fencer=ControllerEpoch(0),
    )
    return header + payload


def test_snapshot_keeps_its_bytes() -> None:
    golden.check_bytes("metadata/snapshot_2.hex", encoded(RECORDS))


def test_a_snapshot_of_version_1_is_still_read() -> None:
    golden.check_bytes("metadata/snapshot.hex", of_version_1(RECORDS))
    slot = decode_snapshot(CLUSTER, HERE, of_version_1(RECORDS))
    assert (slot.records, slot.first_record) == (RECORDS, 40)


@given(count=st.integers(0, 50), block_bytes=st.sampled_from((1, 40, 10_000)))
def test_records_come_back_in_whatever_blocks(count: int, block_bytes: int) -> None:
    records: list[MetadataRecord] = [FeatureLevelSet(name=f"f{number}", level=number) for number in range(count)]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(module, "BLOCK_BYTES", block_bytes)
        slot = decode_snapshot(CLUSTER, HERE, encoded(records))

    assert slot.records == records
    assert (slot.kind, slot.first_record, slot.nonce) == (Kind.SNAPSHOT, 40, NONCE)


def test_a_large_snapshot_is_written_and_read_in_turns() -> None:
    records: list[MetadataRecord] = [FeatureLevelSet(name="n" * 1000, level=number) for number in range(1000)]

    turns = sum(1 for _ in encode_snapshot(CLUSTER, HERE, record_number=40, records=records, nonce=NONCE))
    blocks = list(at_once(check_snapshot(CLUSTER, HERE, encoded(records))).blocks())

    assert turns >= 1_000_000 // module.BLOCK_BYTES
    assert max(map(len, blocks)) <= module.BLOCK_BYTES // 1000 + 1
    assert [record for block in blocks for record in block] == records


def test_a_snapshot_is_no_slot() -> None:
    with pytest.raises(CorruptData):
        decode_slot(CLUSTER, HERE, encoded(RECORDS))


@pytest.mark.parametrize("place", [0, 4, 5, 20, 40, 60, 100, 108, HEADER_BYTES, HEADER_BYTES + 9])
@pytest.mark.parametrize("make", [encoded, of_version_1])
def test_a_flipped_bit_is_corruption_that_names_the_key(place: int, make: object) -> None:
    assert callable(make)
    data = bytearray(make(RECORDS))
    data[place] ^= 4
    with pytest.raises(CorruptData) as caught:
        decode_snapshot(CLUSTER, HERE, data)
    assert caught.value.key == snapshot_key(CLUSTER, HERE)


@given(st.integers(0, 200))
def test_a_torn_snapshot_is_corruption(length: int) -> None:
    data = encoded(RECORDS)
    with pytest.raises(CorruptData):
        decode_snapshot(CLUSTER, HERE, data[: min(length, len(data) - 1)])


def test_a_snapshot_of_a_newer_version_is_told_from_a_damaged_one() -> None:
    with pytest.raises(FormatTooNew):
        decode_snapshot(CLUSTER, HERE, _with_header(b"", version=module.VERSION + 1, count=0))


@pytest.mark.parametrize(
    ("payload", "count", "what"),
    [
        (b"\0\0\0\x09\xdd\0\0\0\0", 0, "size of a block"),
        (b"\0\0\0\x05\xdd\0\0\0\0", 1, "number of metadata records"),
        (b"\0\0\0\x01\xc1", 0, "metadata records"),
    ],
)
def test_blocks_that_do_not_fit_together_are_corruption(payload: bytes, count: int, what: str) -> None:
    with pytest.raises(CorruptData, match=what):
        decode_snapshot(CLUSTER, HERE, _with_header(payload, version=2, count=count))
