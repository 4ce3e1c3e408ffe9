"""The bytes of a shard's checkpoint."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from automq.coordinators.group.checkpoint import CheckpointUnreadable, CompactedLog, payload_head
from tests.support import golden

changes = st.lists(st.tuples(st.binary(max_size=4), st.none() | st.binary(max_size=20)), max_size=30)


def payload_of(compacted: CompactedLog, number: int = 1) -> bytes:
    captured = compacted.entries.capture(number)
    return payload_head(len(captured)) + b"".join(captured.entries())


def restored(*payloads: bytes) -> CompactedLog:
    compacted = CompactedLog()
    for number, payload in enumerate(payloads, start=1):
        for _ in compacted.restore(payload, number=number):
            pass
    return compacted


def test_bytes_are_as_recorded() -> None:
    compacted = CompactedLog()
    compacted.apply(b"key", b"value")
    compacted.apply(b"other", b"")
    golden.check_bytes("group_records/checkpoint_piece.hex", payload_of(compacted))
    compacted.apply(b"key", None)
    golden.check_bytes("group_records/checkpoint_next_piece.hex", payload_of(compacted, 2))


def test_what_earlier_programs_wrote_is_read() -> None:
    whole = bytes.fromhex((golden.GOLDEN_FOLDER / "group_records/checkpoint.hex").read_text())
    assert whole[0] == 1
    assert dict(restored(whole).items()) == {b"key": b"value", b"other": b""}


@given(changes, st.integers(1, 5))
def test_the_newest_value_of_every_key_survives(changes: list[tuple[bytes, bytes | None]], turn: int) -> None:
    compacted = CompactedLog()
    expected: dict[bytes, bytes] = {}
    pieces: list[bytes] = []
    for number, (key, value) in enumerate(changes):
        compacted.apply(key, value)
        if value is None:
            expected.pop(key, None)
        else:
            expected[key] = value
        if not number % turn:
            pieces.append(payload_of(compacted, len(pieces) + 1))
    pieces.append(payload_of(compacted, len(pieces) + 1))
    assert dict(restored(*pieces).items()) == expected
    assert len(compacted) == len(expected)


def test_a_checkpoint_of_a_newer_program_is_not_guessed_at() -> None:
    with pytest.raises(CheckpointUnreadable, match="format 3"):
        restored(b"\x03\x00\x00\x00\x00")


@given(st.data())
def test_a_damaged_checkpoint_is_noticed(data: st.DataObject) -> None:
    compacted = CompactedLog()
    compacted.apply(b"key", b"value")
    whole = payload_of(compacted)
    cut = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(CheckpointUnreadable):
        restored(whole[:cut])
    with pytest.raises(CheckpointUnreadable):
        restored(whole + b"x")
