"""The bytes of a shard's checkpoint."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from automq.coordinators.group.checkpoint import CheckpointUnreadable, CompactedLog
from tests.support import golden

changes = st.lists(st.tuples(st.binary(max_size=4), st.none() | st.binary(max_size=20)), max_size=30)


def test_bytes_are_as_recorded() -> None:
    compacted = CompactedLog()
    compacted.apply(b"key", b"value")
    compacted.apply(b"other", b"")
    golden.check_bytes("group_records/checkpoint.hex", compacted.capture())


@given(changes)
def test_the_newest_value_of_every_key_survives(changes: list[tuple[bytes, bytes | None]]) -> None:
    compacted = CompactedLog()
    expected: dict[bytes, bytes] = {}
    for key, value in changes:
        compacted.apply(key, value)
        if value is None:
            expected.pop(key, None)
        else:
            expected[key] = value
    assert dict(CompactedLog.restore(compacted.capture()).items()) == expected
    assert len(compacted) == len(expected)


def test_a_checkpoint_of_a_newer_program_is_not_guessed_at() -> None:
    with pytest.raises(CheckpointUnreadable, match="format 2"):
        CompactedLog.restore(b"\x02\x00\x00\x00\x00")


@given(st.data())
def test_a_damaged_checkpoint_is_noticed_or_cut_at_an_entry(data: st.DataObject) -> None:
    compacted = CompactedLog()
    compacted.apply(b"key", b"value")
    whole = compacted.capture()
    cut = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(CheckpointUnreadable):
        CompactedLog.restore(whole[:cut])
    with pytest.raises(CheckpointUnreadable):
        CompactedLog.restore(whole + b"x")
