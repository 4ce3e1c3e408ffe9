"""Slots, fences and snapshots keep their bytes, and say what is wrong with others."""

import pytest
from crc32c import crc32c
from hypothesis import given
from hypothesis import strategies as st

from automq.ids import ClusterId, ControllerEpoch
from automq.metadata.log_format import (
    HEADER_BYTES,
    Kind,
    LogPosition,
    claim_key,
    decode_slot,
    encode_fence,
    encode_slot,
    parse_claim_key,
    parse_slot_key,
    parse_snapshot_key,
    slot_key,
    snapshot_key,
)
from automq.metadata.records import PrefixOwnerSet, encode_record
from automq.s3stream.model import CorruptData, FormatTooNew
from tests.support import golden
from tests.support.metadata_worlds import CLUSTER

HERE = LogPosition(ControllerEpoch(3), 12)
NONCE = bytes(range(16))
RECORD = encode_record(PrefixOwnerSet(owner="uid"))


def a_slot() -> bytes:
    return b"".join(encode_slot(CLUSTER, HERE, first_record=40, encoded=[RECORD, RECORD], nonce=NONCE))


def test_slot_keeps_its_bytes() -> None:
    golden.check_bytes("metadata/slot.hex", a_slot())


def test_fence_keeps_its_bytes() -> None:
    fence = b"".join(encode_fence(CLUSTER, HERE, first_record=40, fencer=ControllerEpoch(5), nonce=NONCE))
    golden.check_bytes("metadata/fence.hex", fence)
    assert len(fence) == HEADER_BYTES


def test_keys_are_of_fixed_width() -> None:
    assert slot_key(CLUSTER, HERE) == f"{CLUSTER}/meta/log/00000000000000000003/00000000000000000012"
    assert snapshot_key(CLUSTER, HERE) == f"{CLUSTER}/meta/snapshots/00000000000000000003-00000000000000000012"
    assert claim_key(CLUSTER, ControllerEpoch(3)) == f"{CLUSTER}/meta/claims/00000000000000000003"


@given(st.integers(1, 2**63), st.integers(0, 2**63))
def test_keys_say_what_they_are_for(epoch: int, sequence: int) -> None:
    position = LogPosition(ControllerEpoch(epoch), sequence)
    assert parse_slot_key(slot_key(CLUSTER, position)) == position
    assert parse_snapshot_key(snapshot_key(CLUSTER, position)) == position
    assert parse_claim_key(claim_key(CLUSTER, ControllerEpoch(epoch))) == epoch


def test_slot_comes_back_as_it_went() -> None:
    slot = decode_slot(CLUSTER, HERE, a_slot())
    assert (slot.kind, slot.first_record, len(slot.records), slot.nonce) == (Kind.RECORDS, 40, 2, NONCE)
    assert list(slot.records) == [PrefixOwnerSet(owner="uid")] * 2


def test_fence_says_whom_it_is_for() -> None:
    fence = b"".join(encode_fence(CLUSTER, HERE, first_record=40, fencer=ControllerEpoch(5), nonce=NONCE))
    slot = decode_slot(CLUSTER, HERE, fence)
    assert (slot.kind, slot.fencer, slot.first_record, slot.records) == (Kind.FENCE, 5, 40, [])


@pytest.mark.parametrize("place", [0, 5, 20, 40, 60, 100, 108, HEADER_BYTES, HEADER_BYTES + 9])
def test_a_flipped_bit_is_corruption_that_names_the_key(place: int) -> None:
    data = bytearray(a_slot())
    data[place] ^= 1
    with pytest.raises(CorruptData) as caught:
        decode_slot(CLUSTER, HERE, data)
    assert caught.value.key == slot_key(CLUSTER, HERE)


@given(st.integers(0, 200))
def test_a_torn_slot_is_corruption(length: int) -> None:
    data = a_slot()
    with pytest.raises(CorruptData):
        decode_slot(CLUSTER, HERE, data[: min(length, len(data) - 1)])


@pytest.mark.parametrize(
    ("cluster", "position"),
    [
        (ClusterId("another"), HERE),
        (CLUSTER, LogPosition(ControllerEpoch(3), 13)),
        (CLUSTER, LogPosition(ControllerEpoch(4), 12)),
    ],
)
def test_what_lies_under_the_wrong_key_is_corruption(cluster: ClusterId, position: LogPosition) -> None:
    with pytest.raises(CorruptData, match="identity"):
        decode_slot(cluster, position, a_slot())


def test_a_record_of_a_newer_program_is_a_newer_format() -> None:
    data = b"".join(encode_slot(CLUSTER, HERE, first_record=0, encoded=[b"\x92\x7a\x01"], nonce=NONCE))
    with pytest.raises(FormatTooNew):
        decode_slot(CLUSTER, HERE, data)


def test_a_payload_that_is_no_record_is_corruption() -> None:
    data = b"".join(encode_slot(CLUSTER, HERE, first_record=0, encoded=[b"\x92\x04\x01"], nonce=NONCE))
    with pytest.raises(CorruptData, match="metadata records"):
        decode_slot(CLUSTER, HERE, data)


@pytest.mark.parametrize("bit", range(8))
def test_a_flipped_bit_of_the_version_is_no_newer_format(bit: int) -> None:
    data = bytearray(a_slot())
    data[4] ^= 1 << bit
    with pytest.raises(CorruptData, match="header"):
        decode_slot(CLUSTER, HERE, data)


def test_a_newer_format_is_refused_by_name() -> None:
    with pytest.raises(FormatTooNew):
        decode_slot(CLUSTER, HERE, b"AQML\x02")
    newer = bytearray(a_slot())
    newer[4] = 2
    newer[108:112] = crc32c(bytes(newer[:108])).to_bytes(4, "big")
    with pytest.raises(FormatTooNew):
        decode_slot(CLUSTER, HERE, newer)
