"""A produced batch on its way into a slot, in Python and compiled."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from automq import core
from automq.binary import crc32c
from automq.core import produced_batch
from automq.ids import Offset
from automq.partition.producer_state import ProducerState
from automq.protocol.compression import Compression
from automq.protocol.records import CONTROL, CRC_START, LOG_APPEND_TIME, TRANSACTIONAL, Record, RecordBatch, build_batch
from automq.s3stream.wal.format import RECORD_HEADER
from tests.fuzz.__main__ import placed, taken
from tests.fuzz.records import INT64, NOW_MS, places, takes

HAS_SUMS = core.native is not None and core.native.HAS_CHECKSUM
KINDS = ["python"] + (["compiled"] if HAS_SUMS else [])
both = pytest.mark.parametrize("kind", KINDS)


def function(kind: str, name: str):
    return getattr(core.native if kind == "compiled" else produced_batch, name)


def a_batch(*records: Record, **fields: int) -> bytearray:
    return build_batch(records or [Record(value=b"v", timestamp=NOW_MS)], **fields)


def take(kind: str, batch: bytearray | memoryview, out: memoryview | None, position: int = 0, **changed: object):
    rules = {"bytes_max": 1 << 30, "earliest_ms": INT64[0], "latest_ms": INT64[1], "needs_keys": False, "walks": True}
    rules |= changed
    return function(kind, "take_batch")(batch, out, position, 1234, 7, *rules.values())


@both
@pytest.mark.parametrize("size", [1, 100, 4000, 4096, 8192, 11_259, 11_260, 100_000, 1_000_003])
@pytest.mark.parametrize("position", [0, 1, 16, 4091])
def test_batch_is_copied_with_its_place_in_the_log(kind: str, size: int, position: int) -> None:
    batch = a_batch(Record(value=random.Random(size).randbytes(size), timestamp=NOW_MS))
    before = bytes(batch)
    out = memoryview(bytearray(position + len(batch) + 9))

    found = take(kind, batch, out, position)

    placed = out[position : position + len(batch)]
    assert found == (1, NOW_MS, -1, -1, -1, crc32c(placed))
    assert bytes(batch) == before
    header = RecordBatch(placed)
    assert (header.base_offset, header.leader_epoch) == (1234, 7)
    assert header.has_valid_crc()
    assert bytes(placed[CRC_START:]) == before[CRC_START:]
    assert not any(out[:position])
    assert not any(out[position + len(batch) :])


@both
def test_batch_is_checked_alone_where_there_is_no_room(kind: str) -> None:
    batch = a_batch(producer_id=5, producer_epoch=2, base_sequence=9)
    placed = memoryview(bytearray(len(batch)))
    assert take(kind, batch, None) == take(kind, batch, placed)
    assert take(kind, batch, placed[:-1]) is None
    assert take(kind, batch, placed, 1) is None
    assert take(kind, batch, placed, -1) is None


def changed(at: int, byte: int) -> bytearray:
    """A batch with one byte changed and the checksum made anew."""
    batch = a_batch()
    batch[at] = byte
    batch[17:CRC_START] = crc32c(memoryview(batch)[CRC_START:]).to_bytes(4, "big")
    return batch


UNCOMMON = {
    "a base offset": changed(7, 1),
    "another magic": changed(16, 1),
    "a length that is too small": changed(11, 50),
    "a length that is too large": changed(11, 250),
    "log append time": a_batch(attributes=LOG_APPEND_TIME),
    "of a transaction": a_batch(attributes=TRANSACTIONAL),
    "a control batch": a_batch(attributes=CONTROL),
    "an unknown compression": changed(22, 5),
    "a delete horizon": changed(22, 0x40),
    "negative attributes": changed(21, 0x80),
    "no records": changed(60, 0),
    "a count above its offsets": changed(60, 2),
    "an offset above its count": changed(26, 1),
    "a producer without a sequence": a_batch(producer_id=1, producer_epoch=0),
    "a producer without an epoch": a_batch(producer_id=1, base_sequence=0),
    "another greatest timestamp": changed(42, 1),
    "compressed": a_batch(compression=Compression.GZIP),
    "cut off": a_batch()[:-1],
    "only a header's first part": a_batch()[:60],
    "nothing": bytearray(),
    "two of them": a_batch() + a_batch(),
}


@both
@pytest.mark.parametrize("batch", UNCOMMON.values(), ids=UNCOMMON.keys())
def test_what_is_not_common_is_left_to_others(kind: str, batch: bytearray) -> None:
    out = memoryview(bytearray(1000))
    assert take(kind, batch, out) is None
    assert take(kind, batch, None) is None


@both
@pytest.mark.parametrize("size", [1, 5000, 50_000])
def test_wrong_checksum_is_found(kind: str, size: int) -> None:
    dice = random.Random(size)
    batch = a_batch(Record(value=dice.randbytes(size), timestamp=NOW_MS))
    out = memoryview(bytearray(len(batch)))
    for _ in range(50):
        at = dice.randrange(17, len(batch))
        batch[at] ^= 1 << dice.randrange(8)
        assert take(kind, batch, out, walks=False) is None
        assert take(kind, batch, None, walks=False) is None
        batch = a_batch(Record(value=dice.randbytes(size), timestamp=NOW_MS))


@both
def test_rules_of_the_topic_hold(kind: str) -> None:
    batch = a_batch(Record(value=b"v", timestamp=NOW_MS), Record(value=b"v", timestamp=NOW_MS + 5))
    out = memoryview(bytearray(len(batch)))
    assert take(kind, batch, out, bytes_max=len(batch)) is not None
    assert take(kind, batch, out, bytes_max=len(batch) - 1) is None
    assert take(kind, batch, out, latest_ms=NOW_MS + 4) is None
    assert take(kind, batch, out, earliest_ms=NOW_MS + 1) is None
    assert take(kind, batch, out, needs_keys=True) is None


@both
def test_header_alone_is_believed_without_a_walk(kind: str) -> None:
    plain, packed = a_batch(), a_batch(compression=Compression.ZSTD)
    for batch in (plain, packed, changed(-1, 9)):
        assert take(kind, batch, memoryview(bytearray(len(batch))), walks=False) is not None
    assert take(kind, plain, None, walks=False, latest_ms=NOW_MS - 1) is None
    assert take(kind, plain, None, walks=False, earliest_ms=NOW_MS + 1) is None
    many = changed(60, 100)
    many[23:27] = (99).to_bytes(4, "big")
    many[17:CRC_START] = crc32c(memoryview(many)[CRC_START:]).to_bytes(4, "big")
    assert take(kind, many, None, walks=False) is None


@both
def test_record_header_is_the_logs(kind: str) -> None:
    out = memoryview(bytearray(100))
    fields = (1 << 60, 3, 1 << 40, -5, 17, 4000, 0xDEADBEEF)

    crc = function(kind, "put_record_header")(out, 30, *fields, 99)

    expected = RECORD_HEADER.pack(*fields)
    assert bytes(out) == bytes(30) + expected + bytes(100 - 30 - len(expected))
    assert crc == crc32c(expected, 99)


@both
def test_received_batch_is_placed_behind_its_records_header(kind: str) -> None:
    batch = a_batch(producer_id=5, producer_epoch=2, base_sequence=9)
    data, size = b"abc" + batch + b"de", len(batch)
    out, expected = memoryview(bytearray(20 + 44 + size)), memoryview(bytearray(20 + 44 + size))
    rules = (1 << 20, 1, *INT64, False, True)

    found = function(kind, "place_received")(data, 3, 3 + size, out, 20, 8, 7, 1234, *rules, -99, 17)

    *what, crc = take(kind, batch, expected, 64)
    slot_crc = function(kind, "put_record_header")(expected, 20, 8, 7, 1234, NOW_MS, 1, size, crc, 17)
    assert found == (*what, slot_crc)
    assert bytes(out) == bytes(expected)


@both
def test_received_batch_without_timestamps_is_marked_in_its_records_header(kind: str) -> None:
    batch = a_batch(Record(value=b"v", timestamp=-1))
    out = memoryview(bytearray(44 + len(batch)))
    found = function(kind, "place_received")(
        batch, 0, len(batch), out, 0, 8, 7, 1234, 1 << 20, 1, *INT64, False, True, -99, 0
    )
    assert found[1] == RECORD_HEADER.unpack_from(out)[3] == -99


@both
@pytest.mark.parametrize(
    "changed",
    [
        {"start": 2},
        {"stop": 300},
        {"start": -1},
        {"position": 1},
        {"position": -44},
        {"bytes_max": 60},
        {"records_max": 0},
        {"latest_ms": 0},
        {"needs_keys": True},
    ],
    ids=str,
)
def test_received_batch_is_left_to_others(kind: str, changed: dict[str, int]) -> None:
    batch = a_batch()
    out = memoryview(bytearray(44 + len(batch)))
    fields = {"data": batch, "start": 0, "stop": len(batch), "out": out, "position": 0, "stream": 8, "epoch": 7}
    fields |= {"base_offset": 1, "bytes_max": 1 << 20, "records_max": 1, "earliest_ms": 0, "latest_ms": NOW_MS}
    fields |= {"needs_keys": False, "walks": True, "mark_ms": -99, "slot_crc": 0}
    assert function(kind, "place_received")(*fields.values()) is not None
    assert function(kind, "place_received")(*(fields | changed).values()) is None


SEQUENCES = st.integers(0, 0x7FFF_FFFF)


@both
@given(data=st.data())
def test_producers_next_entry_is_that_of_its_state(kind: str, data: st.DataObject) -> None:
    """Held against check and record: it continues exactly where these would, and gives the same bytes."""
    state = ProducerState()
    now_ms, sequence = NOW_MS, data.draw(SEQUENCES)
    epoch = data.draw(st.integers(0, 0x7FFF))
    for number in range(data.draw(st.integers(1, 8))):
        count = data.draw(st.integers(1, 1000) | SEQUENCES.filter(bool))
        entry = state.entries.get(9)
        if entry is not None:
            made = function(kind, "next_producer_entry")(entry, epoch, sequence, count, number, -1, now_ms + number)
            for wrong in ((epoch ^ 1, sequence), (epoch, sequence ^ 1)):
                assert function(kind, "next_producer_entry")(entry, *wrong, count, number, -1, now_ms) is None
        state.record(9, epoch, sequence, count, first_offset=Offset(number), append_time_ms=-1, now_ms=now_ms + number)
        if entry is not None:
            assert made == state.entries.get(9)
        sequence = (sequence + count) & 0x7FFF_FFFF


@both
def test_entry_that_is_none_is_left_alone(kind: str) -> None:
    step = function(kind, "next_producer_entry")
    for entry in (b"", bytes(19), bytes(42), bytes(18) + b"\x06" + bytes(6 * 24), bytes(18) + b"\xff", bytes(43)):
        assert step(entry, 0, 1, 1, 0, -1, 0) is None


@pytest.mark.skipif(not HAS_SUMS, reason="nothing was compiled")
@given(seed=st.integers(0, 1 << 32))
def test_twins_agree(seed: int) -> None:
    for each, _ in zip(takes(seed), range(40), strict=False):
        assert taken(function("compiled", "take_batch"), each) == taken(produced_batch.take_batch, each)


@pytest.mark.skipif(not HAS_SUMS, reason="nothing was compiled")
@given(seed=st.integers(0, 1 << 32))
def test_twins_place_alike(seed: int) -> None:
    for each, _ in zip(places(seed), range(40), strict=False):
        assert placed(function("compiled", "place_received"), each) == placed(produced_batch.place_received, each)
