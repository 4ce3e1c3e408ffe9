"""Records that the broker writes itself, in Python and compiled."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from automq import core
from automq.core import written_records
from automq.protocol.records import Record, RecordBatch, build_batch, build_own_batch, records_in

KINDS = ["python"] + (["compiled"] if core.native is not None else [])
both = pytest.mark.parametrize("kind", KINDS)
SIZES = (0, 1, 62, 63, 64, 65, 8190, 8191, 8192, 8193, 1_048_575, 1_048_576)


def write(kind: str, pairs: list[written_records.Pair]) -> bytes:
    twin = written_records if kind == "python" else core.native
    assert twin is not None
    return twin.write_records(pairs)


def by_codec(pairs: list[written_records.Pair]) -> bytes:
    return bytes(build_batch([Record(key=key, value=value, timestamp=7) for key, value in pairs])[61:])


@both
@pytest.mark.parametrize("size", SIZES)
def test_records_of_all_sizes_are_those_of_the_codec(kind: str, size: int) -> None:
    pairs: list[written_records.Pair] = [(bytes(size), b"v"), (b"k", bytes(size)), (bytes(size), None)]
    assert write(kind, pairs) == by_codec(pairs)


@both
def test_many_records_are_numbered(kind: str) -> None:
    pairs: list[written_records.Pair] = [(b"k%d" % number, b"v") for number in range(10_000)]
    assert write(kind, pairs) == by_codec(pairs)
    assert write(kind, []) == b""


@given(st.lists(st.tuples(st.binary(max_size=150), st.none() | st.binary(max_size=150)), max_size=80))
def test_twins_agree(pairs: list[written_records.Pair]) -> None:
    expected = written_records.write_records(pairs)
    assert core.write_records(pairs) == expected
    if pairs:
        assert expected == by_codec(pairs)


def test_own_batch_is_read_as_any_other() -> None:
    data = build_own_batch([(b"k", b"v"), (b"gone", None)], timestamp=7)
    assert data == build_batch(
        [Record(key=b"k", value=b"v", timestamp=7), Record(key=b"gone", value=None, timestamp=7)]
    )
    batch = RecordBatch(memoryview(data))
    assert batch.has_valid_crc()
    assert [(record.key, record.value) for record in records_in(batch, decompressed_bytes_max=100)] == [
        (b"k", b"v"),
        (b"gone", None),
    ]


@pytest.mark.skipif(core.native is None, reason="nothing is compiled")
@pytest.mark.parametrize("wrong", [[(b"k",)], [(None, b"v")], [("k", b"v")], [(b"k", bytearray())], [[b"k", b"v"]]])
def test_what_are_no_records_is_an_error(wrong: list[object]) -> None:
    assert core.native is not None
    with pytest.raises((TypeError, ValueError)):
        core.native.write_records(wrong)  # type: ignore[arg-type]
