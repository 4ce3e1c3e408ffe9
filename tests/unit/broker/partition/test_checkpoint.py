"""The format of checkpoints."""

import pytest
from crc32c import crc32c
from hypothesis import given
from hypothesis import strategies as st

from automq.ids import Offset
from automq.partition.checkpoint import CheckpointCorrupt, CheckpointTooNew, Section, decode, encode
from tests.support import golden

SECTIONS = {"producers": Section(Offset(42), b"abc"), "leader-epochs": Section(Offset(7), b"")}


def test_format() -> None:
    golden.check_bytes("partition/checkpoint.hex", encode(SECTIONS))


@given(
    st.dictionaries(
        st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=30),
        st.builds(Section, st.integers(0, 2**62), st.binary(max_size=50)),
    )
)
def test_what_is_encoded_is_decoded(sections: dict[str, Section]) -> None:
    assert decode(encode(sections)) == sections


def test_every_flipped_bit_is_noticed() -> None:
    data = encode(SECTIONS)
    for position in range(len(data)):
        changed = bytearray(data)
        changed[position] ^= 0x10
        with pytest.raises(CheckpointCorrupt):
            decode(bytes(changed))


def test_every_cut_is_noticed() -> None:
    data = encode(SECTIONS)
    for size in range(len(data)):
        with pytest.raises(CheckpointCorrupt):
            decode(data[:size])


def test_newer_format_says_what_to_do() -> None:
    data = bytearray(encode(SECTIONS))
    data[0] = 2
    with pytest.raises(CheckpointCorrupt, match="checksum"):
        decode(bytes(data))

    data[-4:] = crc32c(data[:-4]).to_bytes(4, "big")
    with pytest.raises(CheckpointTooNew, match="upgrade"):
        decode(bytes(data))
