"""The walk over records, in Python and compiled: both give the same for whatever bytes there are."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from automq import core
from automq.core.record_walk import NO_TIMESTAMP, examine_record, walk_records
from automq.protocol.records import HEADER_BYTES, Record, build_batch
from tests.fuzz.records import INT64, NOW_MS, damaged, sound, walks

WALKS = [pytest.param(walk_records, id="python")]
if core.native is not None:
    WALKS.append(pytest.param(core.native.walk_records, id="compiled"))
both = pytest.mark.parametrize("walk", WALKS)


def content_of(*records: Record) -> bytes:
    return bytes(build_batch(records)[HEADER_BYTES:])


@both
def test_whole_batch_is_walked(walk: core.WalkRecords) -> None:
    data = content_of(*(Record(value=b"v" * 100, timestamp=NOW_MS + n) for n in range(200)))
    assert walk(data, 0, 200, 0, NOW_MS, *INT64, False) == (NOW_MS + 199, 200, len(data))


@both
def test_walk_in_parts_is_the_whole_walk(walk: core.WalkRecords) -> None:
    data = content_of(*(Record(value=b"v" * n, timestamp=NOW_MS - n) for n in range(200)))
    greatest, index, position = NO_TIMESTAMP, 0, 0
    while index < 200:
        part, index, position = walk(data, index, min(index + 7, 200), position, NOW_MS, *INT64, False)
        greatest = max(greatest, part)
    assert (greatest, position) == (NOW_MS, len(data))


@both
def test_walk_stops_where_a_record_is_untimely(walk: core.WalkRecords) -> None:
    data = content_of(*(Record(value=b"v", timestamp=NOW_MS + n) for n in range(5)))
    size = len(data) // 5
    assert walk(data, 0, 5, 0, NOW_MS, NOW_MS, NOW_MS + 2, False) == (NOW_MS + 2, 3, 3 * size)
    assert walk(data, 0, 5, 0, NOW_MS, NOW_MS + 1, NOW_MS + 2, False) == (NO_TIMESTAMP, 0, 0)


@both
def test_walk_stops_where_a_key_is_missing(walk: core.WalkRecords) -> None:
    data = content_of(Record(key=b"", value=b"v"), Record(value=b"v"))
    assert walk(data, 0, 2, 0, NO_TIMESTAMP, *INT64, True)[1] == 1
    assert walk(data, 0, 2, 0, NO_TIMESTAMP, *INT64, False) == (NO_TIMESTAMP, 2, len(data))


def a_record(
    *, timestamp: str = "00", offset: str = "00", key: str = "01", value: str = "00", headers: str = "00"
) -> bytes:
    """The first record of a batch, without a key and with an empty value; the numbers as they lie in it."""
    body = bytes.fromhex("00" + timestamp + offset + key + value + headers)
    assert len(body) < 64
    return bytes([2 * len(body)]) + body


@both
@pytest.mark.parametrize(
    "numbers",
    [
        {"timestamp": "80808080808080808000"},
        {"offset": "8080808000"},
        {"key": "8180808000"},
        {"value": "8080808000"},
        {"headers": "8080808000"},
    ],
    ids=str,
)
def test_numbers_of_the_longest_form_are_taken(walk: core.WalkRecords, numbers: dict[str, str]) -> None:
    data = a_record(**numbers)
    assert walk(data, 0, 1, 0, NOW_MS, *INT64, False) == (NOW_MS, 1, len(data))
    assert examine_record(data, 0, 0, NOW_MS) == (NOW_MS, False, len(data))


@both
@pytest.mark.parametrize(
    "numbers",
    [
        {"timestamp": "8080808080808080808000"},
        {"timestamp": "80808080808080808002"},
        {"offset": "808080808000"},
        {"key": "818080808000"},
        {"value": "808080808000"},
        {"headers": "808080808000"},
    ],
    ids=str,
)
def test_numbers_longer_than_java_reads_are_refused(walk: core.WalkRecords, numbers: dict[str, str]) -> None:
    data = a_record(**numbers)
    assert walk(data, 0, 1, 0, NOW_MS, *INT64, False) == (NO_TIMESTAMP, 0, 0)
    with pytest.raises(ValueError, match="a number has more than"):
        examine_record(data, 0, 0, NOW_MS)


@both
@pytest.mark.parametrize(("base", "delta"), [(INT64[1], 1), (INT64[0], -1)])
def test_timestamp_beyond_64_bits_is_refused(walk: core.WalkRecords, base: int, delta: int) -> None:
    data = content_of(Record(value=b"v", timestamp=0), Record(value=b"v", timestamp=delta))
    assert walk(data, 0, 2, 0, base, *INT64, False)[1] == 1


@both
@pytest.mark.parametrize("name", [b"\xff", b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82"])
def test_header_name_that_is_not_utf_8_is_refused(walk: core.WalkRecords, name: bytes) -> None:
    data = content_of(Record(value=b"v", headers=[("x" * len(name), b"")])).replace(b"x" * len(name), name)
    assert walk(data, 0, 1, 0, NO_TIMESTAMP, *INT64, False)[1] == 0


@both
def test_buffers_of_every_kind_are_taken(walk: core.WalkRecords) -> None:
    data = content_of(Record(value=b"v"))
    padded = memoryview(bytearray(b"??" + data + b"?"))
    for buffer in (data, bytearray(data), memoryview(data), padded[2:-1]):
        assert walk(buffer, 0, 1, 0, NO_TIMESTAMP, *INT64, False)[1:] == (1, len(data))


@given(seed=st.integers(0, 1 << 32))
def test_record_that_stops_the_walk_is_the_one_that_is_examined(seed: int) -> None:
    """What explains a refusal finds something wrong with exactly the record at which the walk stops."""
    dice = random.Random(seed)
    whole, count = sound(dice)
    data = damaged(whole, dice)
    bounds = (NOW_MS - 10, NOW_MS + 10)
    _, index, position = walk_records(data, 0, count, 0, NOW_MS, *bounds, True)
    at = 0
    for number in range(index):
        examined = examine_record(data, number, at, NOW_MS)
        assert examined.has_key
        assert bounds[0] <= examined.timestamp_ms <= bounds[1]
        at = examined.end
    assert at == position
    if index < count:
        try:
            examined = examine_record(data, index, position, NOW_MS)
        except ValueError:
            return
        assert not (examined.has_key and bounds[0] <= examined.timestamp_ms <= bounds[1])


@pytest.mark.skipif(core.native is None, reason="nothing was compiled")
@given(seed=st.integers(0, 1 << 32))
def test_twins_agree(seed: int) -> None:
    assert core.native is not None
    for walk, _ in zip(walks(seed), range(60), strict=False):
        assert core.native.walk_records(*walk) == walk_records(*walk)
