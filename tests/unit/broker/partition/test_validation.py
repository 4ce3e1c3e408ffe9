"""Which batches are taken, and with which of Kafka's codes the others are refused."""

import struct

import pytest
from crc32c import crc32c

from automq.partition.validation import AppendRules, check_batch, check_produce_version
from automq.protocol.compression import Compression
from automq.protocol.errors import ApiError, ErrorCode
from automq.protocol.records import CONTROL, LOG_APPEND_TIME, TRANSACTIONAL, Record, build_batch

NOW_MS = 1_000_000_000_000
RULES = AppendRules()


def a_batch(count: int = 1, *, timestamp: int = NOW_MS, attributes: int = 0, **fields: int) -> bytearray:
    records = [Record(key=b"k", value=b"v" * 10, timestamp=timestamp) for _ in range(count)]
    return build_batch(records, attributes=attributes, **fields)  # type: ignore[arg-type]


def patched(batch: bytearray, position: int, layout: str, value: int, *, is_signed_off: bool = True) -> bytearray:
    """`batch` with other bytes somewhere in its header, and a checksum that fits again."""
    struct.pack_into(layout, batch, position, value)
    if is_signed_off:
        struct.pack_into(">I", batch, 17, crc32c(memoryview(batch)[21:]))
    return batch


def refusal(batch: bytes | bytearray, rules: AppendRules = RULES, *, is_internal: bool = False) -> ErrorCode:
    with pytest.raises(ApiError) as caught:
        check_batch(memoryview(batch), rules, NOW_MS, is_internal)
    assert caught.value.message
    return caught.value.code


def test_good_batch_is_taken() -> None:
    batch = check_batch(memoryview(a_batch(3)), RULES, NOW_MS)

    assert (batch.record_count, batch.max_timestamp) == (3, NOW_MS)


def test_no_bytes_are_no_batch() -> None:
    assert refusal(b"") == ErrorCode.INVALID_RECORD


def test_cut_off_batch_is_not_there() -> None:
    assert refusal(a_batch()[:-1]) == ErrorCode.INVALID_RECORD


def test_header_cut_off_behind_the_magic_is_not_there() -> None:
    assert refusal(a_batch()[:40]) == ErrorCode.INVALID_RECORD


def test_length_below_the_header_is_corrupt() -> None:
    assert refusal(patched(a_batch(), 8, ">i", 20)) == ErrorCode.CORRUPT_MESSAGE


def test_second_batch_is_refused() -> None:
    assert refusal(a_batch() + a_batch()) == ErrorCode.INVALID_RECORD


@pytest.mark.parametrize("magic", [0, 1])
def test_old_message_formats_are_refused(magic: int) -> None:
    assert refusal(patched(a_batch(), 16, ">b", magic)) == ErrorCode.INVALID_RECORD


def test_old_message_format_is_known_by_its_magic_even_when_it_is_short() -> None:
    assert refusal(bytes(16) + b"\x01" + bytes(10)) == ErrorCode.INVALID_RECORD


def test_unknown_magic_is_corrupt() -> None:
    assert refusal(patched(a_batch(), 16, ">b", 3)) == ErrorCode.CORRUPT_MESSAGE


def test_base_offset_must_be_zero() -> None:
    assert refusal(a_batch(base_offset=7)) == ErrorCode.INVALID_RECORD


def test_batch_above_the_topics_limit_is_too_large() -> None:
    batch = a_batch()

    assert refusal(batch, AppendRules(batch_bytes_max=len(batch) - 1)) == ErrorCode.MESSAGE_TOO_LARGE
    check_batch(memoryview(batch), AppendRules(batch_bytes_max=len(batch)), NOW_MS)


def test_broker_itself_may_write_larger_batches_up_to_its_own_limit() -> None:
    batch = a_batch()
    rules = AppendRules(batch_bytes_max=1, internal_bytes_max=len(batch))

    check_batch(memoryview(batch), rules, NOW_MS, True)
    small = AppendRules(internal_bytes_max=len(batch) - 1)
    assert refusal(batch, small, is_internal=True) == ErrorCode.MESSAGE_TOO_LARGE


def test_wrong_checksum_is_corrupt() -> None:
    batch = a_batch()
    batch[-1] ^= 1

    assert refusal(batch) == ErrorCode.CORRUPT_MESSAGE


def test_count_must_agree_with_the_offsets() -> None:
    assert refusal(patched(a_batch(2), 57, ">i", 3)) == ErrorCode.INVALID_RECORD


def test_batch_without_records_is_refused() -> None:
    batch = patched(patched(a_batch(), 57, ">i", 0), 23, ">i", -1)

    assert refusal(batch) == ErrorCode.INVALID_RECORD


def test_more_records_than_bytes_is_refused() -> None:
    batch = patched(patched(a_batch(), 57, ">i", 1000), 23, ">i", 999)

    assert refusal(batch) == ErrorCode.INVALID_RECORD


def test_unknown_compression_is_refused() -> None:
    assert refusal(patched(a_batch(), 21, ">h", 5)) == ErrorCode.UNSUPPORTED_COMPRESSION_TYPE


def test_clients_may_not_write_control_batches() -> None:
    assert refusal(a_batch(attributes=CONTROL)) == ErrorCode.INVALID_RECORD


def test_transactional_batches_are_refused_with_a_fatal_code() -> None:
    batch = a_batch(attributes=TRANSACTIONAL, producer_id=1, producer_epoch=0, base_sequence=0)

    assert refusal(batch) == ErrorCode.INVALID_TXN_STATE


def test_broker_itself_may_write_control_batches() -> None:
    batch = a_batch(attributes=CONTROL | TRANSACTIONAL, producer_id=1, producer_epoch=0, base_sequence=0)

    assert check_batch(memoryview(batch), RULES, NOW_MS, True).is_control


@pytest.mark.parametrize(("epoch", "sequence"), [(-1, 0), (0, -1)])
def test_producer_needs_epoch_and_sequence(epoch: int, sequence: int) -> None:
    batch = a_batch(producer_id=5, producer_epoch=epoch, base_sequence=sequence)

    assert refusal(batch) == ErrorCode.INVALID_RECORD


def test_timestamp_too_far_ahead_is_refused() -> None:
    rules = AppendRules(after_ms_max=1000, validates_records=False)

    check_batch(memoryview(a_batch(timestamp=NOW_MS + 1000)), rules, NOW_MS)
    assert refusal(a_batch(timestamp=NOW_MS + 1001), rules) == ErrorCode.INVALID_TIMESTAMP


def test_timestamp_too_far_behind_is_refused() -> None:
    rules = AppendRules(before_ms_max=1000, validates_records=False)

    check_batch(memoryview(a_batch(timestamp=NOW_MS - 1000)), rules, NOW_MS)
    assert refusal(a_batch(timestamp=NOW_MS - 1001), rules) == ErrorCode.INVALID_TIMESTAMP


def test_record_without_a_timestamp_has_no_bounds() -> None:
    check_batch(
        memoryview(a_batch(timestamp=-1)), AppendRules(before_ms_max=0, after_ms_max=0, validates_records=False), NOW_MS
    )


def test_bounds_do_not_matter_when_the_broker_sets_the_time() -> None:
    check_batch(memoryview(a_batch(timestamp=5)), AppendRules(before_ms_max=0, is_log_append_time=True), NOW_MS)


def test_clients_may_not_claim_append_time() -> None:
    assert refusal(a_batch(attributes=LOG_APPEND_TIME)) == ErrorCode.INVALID_TIMESTAMP


def test_zstd_needs_version_7_of_produce() -> None:
    records = memoryview(build_batch([Record(value=b"v")], compression=Compression.ZSTD))

    check_produce_version(records, 7)
    with pytest.raises(ApiError) as caught:
        check_produce_version(records, 6)
    assert caught.value.code == ErrorCode.UNSUPPORTED_COMPRESSION_TYPE
