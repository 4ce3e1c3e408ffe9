"""What Kafka may answer to a Fetch: batches, the last one cut off."""

import pytest

from automq.cli.receiving import whole_batches
from automq.protocol.records import Record, batches_in, build_batch

ONE = bytes(build_batch([Record(value=b"one")]))
TWO = bytes(build_batch([Record(value=b"two"), Record(value=b"three")], base_offset=1))


@pytest.mark.parametrize("cut", [1, 11, 12, 60, 61, len(TWO) - 1])
def test_batch_that_is_cut_off_is_left_for_the_next_fetch(cut: int) -> None:
    assert bytes(whole_batches(memoryview(ONE + TWO[:cut]))) == ONE


def test_whole_batches_are_all_read() -> None:
    assert [batch.next_offset for batch in batches_in(whole_batches(memoryview(ONE + TWO)))] == [1, 3]


def test_answer_that_is_no_batch_at_all_is_not_taken_for_an_empty_one() -> None:
    assert bytes(whole_batches(memoryview(b"garbage" * 20))) == b"garbage" * 20
