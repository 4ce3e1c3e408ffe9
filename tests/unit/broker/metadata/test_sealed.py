"""JSON with a checksum: comes back, notices every flipped bit, and says when nothing vouches for it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from automq.metadata.sealed import CHECKSUM_FIELD, NotSealed, seal, unseal

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.dictionaries(st.text().filter(lambda name: name != CHECKSUM_FIELD), VALUES, max_size=5), st.none() | st.just(1)
)
def test_fields_come_back(fields: dict[str, object], indent: int | None) -> None:
    assert unseal(seal(fields, indent=indent)) == (fields, True)


def test_no_flipped_bit_gives_other_fields() -> None:
    fields = {"node": 1, "recordNumber": 123456, "owner": "uid"}
    data = seal(fields)
    for position in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[position // 8] ^= 1 << position % 8
        try:
            found, is_sealed = unseal(bytes(flipped))
        except NotSealed:
            continue
        assert found == fields or not is_sealed


def test_what_has_no_checksum_is_said_to_have_none() -> None:
    assert unseal(json.dumps({"node": 1}).encode()) == ({"node": 1}, False)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"7", b"\xff", b'{"a": 1, "crc32c": "00000000"}', b'{"crc32c": 5}'])
def test_what_is_no_sealed_object_is_refused(data: bytes) -> None:
    with pytest.raises(NotSealed):
        unseal(data)
