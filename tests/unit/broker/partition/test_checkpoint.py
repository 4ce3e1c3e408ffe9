"""The format of the pieces of checkpoints."""

from collections.abc import Iterator

import pytest
from crc32c import crc32c
from hypothesis import given
from hypothesis import strategies as st

from automq.ids import Offset
from automq.partition import checkpoint
from automq.partition.checkpoint import CheckpointCorrupt, CheckpointTooNew, Piece, Section, decode, whole_section
from automq.steps import at_once
from tests.support import golden

SECTIONS = [
    ("producers", Section(Offset(42), b"abc")),
    ("leader-epochs", Section(Offset(7), b"")),
    ("producers", Section(Offset(43), b"d")),
]


def encode(pieces: int, sections: list[tuple[str, Section]]) -> bytes:
    return b"".join(at_once(checkpoint.encode(pieces, [whole_section(*section) for section in sections])))


def test_format() -> None:
    golden.check_bytes("partition/checkpoint_piece.hex", encode(3, SECTIONS))


def test_what_earlier_programs_wrote_is_read() -> None:
    whole = bytes.fromhex((golden.GOLDEN_FOLDER / "partition/checkpoint.hex").read_text())
    assert whole[0] == 1
    assert decode(whole) == Piece(1, SECTIONS[:2])


@given(
    st.integers(1, 255),
    st.lists(
        st.tuples(
            st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=30),
            st.builds(Section, st.integers(0, 2**62), st.binary(max_size=50)),
        ),
        max_size=5,
    ),
)
def test_what_is_encoded_is_decoded(pieces: int, sections: list[tuple[str, Section]]) -> None:
    assert decode(encode(pieces, sections)) == Piece(pieces, sections)


class Many:
    """More entries than a turn takes."""

    def __len__(self) -> int:
        return 50_000

    def entries(self) -> list[bytes]:
        return [b"entry"] * len(self)

    def release(self) -> Iterator[None]:
        return iter(())


def test_what_is_large_is_joined_in_turns() -> None:
    section = checkpoint.CapturedSection("group", Offset(9), Many(), lambda count: b"%d:" % count)
    encoding = checkpoint.encode(1, [section])
    turns = 0
    while True:
        try:
            next(encoding)
        except StopIteration as done:
            body = b"".join(done.value)
            break
        turns += 1

    assert turns >= 25
    assert decode(body).sections == [("group", Section(Offset(9), b"50000:" + b"entry" * 50_000))]


def test_every_flipped_bit_is_noticed() -> None:
    data = encode(1, SECTIONS)
    for position in range(len(data)):
        changed = bytearray(data)
        changed[position] ^= 0x10
        with pytest.raises(CheckpointCorrupt):
            decode(bytes(changed))


def test_every_cut_is_noticed() -> None:
    data = encode(1, SECTIONS)
    for size in range(len(data)):
        with pytest.raises(CheckpointCorrupt):
            decode(data[:size])


def test_newer_format_says_what_to_do() -> None:
    data = bytearray(encode(1, SECTIONS))
    data[0] = 3
    with pytest.raises(CheckpointCorrupt, match="checksum"):
        decode(bytes(data))

    data[-4:] = crc32c(data[:-4]).to_bytes(4, "big")
    with pytest.raises(CheckpointTooNew, match="upgrade"):
        decode(bytes(data))
