"""End markers of transactions."""

import pytest

from automq.protocol.control_records import ControlType, EndMarker, build_end_marker, read_end_marker
from automq.protocol.records import CONTROL, CorruptRecords, Record, RecordBatch, build_batch
from tests.support import golden


@pytest.mark.parametrize("is_commit", [True, False])
def test_end_marker_round_trips(is_commit: bool) -> None:
    marker = EndMarker(is_commit=is_commit, coordinator_epoch=7)

    batch = RecordBatch(memoryview(build_end_marker(marker, producer_id=4, producer_epoch=5, timestamp=6)))

    assert read_end_marker(batch) == marker
    assert (batch.is_control, batch.is_transactional, batch.record_count) == (True, True, 1)
    assert (batch.producer_id, batch.producer_epoch, batch.base_sequence, batch.max_timestamp) == (4, 5, -1, 6)
    assert batch.has_valid_crc()


def test_end_marker_is_that_of_the_golden_file() -> None:
    marker = EndMarker(is_commit=True, coordinator_epoch=3)

    data = build_end_marker(marker, producer_id=1000, producer_epoch=1, timestamp=1_700_000_000_000)

    golden.check_bytes("protocol/records/commit.hex", data)


def a_control_batch(record: Record) -> RecordBatch:
    return RecordBatch(memoryview(build_batch([record], attributes=CONTROL)))


def test_other_control_records_are_no_end_markers() -> None:
    key = bytes([0, 0, 0, ControlType.LEADER_CHANGE])

    assert read_end_marker(a_control_batch(Record(key=key, value=b""))) is None


@pytest.mark.parametrize(
    "record", [Record(), Record(key=b"\x00"), Record(key=bytes(4)), Record(key=bytes(4), value=b"\x00\x00\x01")]
)
def test_marker_that_is_cut_off_is_corrupt(record: Record) -> None:
    with pytest.raises(CorruptRecords):
        read_end_marker(a_control_batch(record))
