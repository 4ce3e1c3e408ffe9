"""Pure: may this record batch be appended, with Kafka's code for each reason why not.

Here the header is checked. Its records are walked by `record_validation`, unless `automq.produce.validation` is
`header`: then the header is believed, that the greatest timestamp is the one it names and that the records are well
formed. What the header cannot hide is checked always: its count must agree with its offsets, and must fit the bytes of
a batch that is not compressed.
"""

from dataclasses import dataclass, field
from typing import Final

from automq.protocol.compression import Compression
from automq.protocol.errors import ApiError, ErrorCode
from automq.protocol.records import (
    COMPRESSION_MASK,
    CONTROL,
    CRC_START,
    HEADER_BYTES,
    LENGTH_END,
    LOG_APPEND_TIME,
    MAGIC,
    NO_TIMESTAMP,
    RECORD_BYTES_MIN,
    TRANSACTIONAL,
    CorruptRecords,
    RecordBatch,
)

ZSTD_SINCE_PRODUCE: Final = 7

# The attributes' lower byte, where everything is that is looked at before a header is parsed.
ATTRIBUTES_LOW: Final = CRC_START + 1

# Legacy formats have their magic at the same place; less than this cannot say what it is.
_MAGIC_POSITION: Final = 16

_NEWEST_COMPRESSION: Final = int(Compression.ZSTD)
_REFUSED_KINDS: Final = CONTROL | TRANSACTIONAL
_NOT_FROM_CLIENTS: Final = _REFUSED_KINDS | LOG_APPEND_TIME


@dataclass(frozen=True, slots=True, kw_only=True)
class AppendRules:
    """What a topic's config says about its batches."""

    batch_bytes_max: int = 1_048_588
    internal_bytes_max: int = 4_000_000
    """What one slot of the write-ahead log carries: the limit of what the broker itself appends."""
    is_log_append_time: bool = False
    before_ms_max: int = 2**63 - 1
    """How far a record's timestamp may lie in the past."""
    after_ms_max: int = 3_600_000
    """How far a record's timestamp may lie in the future."""
    compression: Compression | None = None
    """What batches are stored with; None keeps the producer's."""
    compression_level: int | None = None
    is_compacted: bool = False
    """Records need keys."""
    is_internal_only: bool = False
    """Nobody but the broker itself appends."""
    validates_records: bool = True
    """Whether the records of every batch are walked, as Kafka does; compacted topics' always are."""
    are_common: bool = field(init=False, default=False)
    """Clients append, and nothing of their batches is changed but its place in the log: `appending.append_common`."""
    reads_records: bool = field(init=False, default=False)
    """Batches of this topic need more than a look at their headers: `record_validation` and `records_work`."""

    def __post_init__(self) -> None:
        reads = self.validates_records or self.is_compacted or self.compression is not None
        object.__setattr__(self, "reads_records", reads)
        is_changed = self.is_log_append_time or self.compression is not None
        object.__setattr__(self, "are_common", not is_changed and not self.is_internal_only)


def check_batch(
    records: memoryview,
    rules: AppendRules,
    now_ms: int,
    is_internal: bool = False,
    *,
    has_checked_crc: bool = False,
) -> RecordBatch:
    """The only batch in `records`. Raises ApiError with the code Kafka gives.

    `is_internal` is the broker itself: it may write control batches and large ones. With `has_checked_crc` the
    checksum, the only thing here that takes longer for a larger batch, is somebody else's business.
    """
    batch = check_frame(records, rules, is_internal)
    if not has_checked_crc and not batch.has_valid_crc():
        raise wrong_crc()
    check_header(batch, rules, now_ms, is_internal)
    return batch


def check_frame(records: memoryview, rules: AppendRules, is_internal: bool = False) -> RecordBatch:
    """What comes before the checksum: there is one batch, and no more. Raises ApiError."""
    try:
        batch = RecordBatch(records)
    except CorruptRecords:
        raise _incomplete(records) from None
    size = len(records)
    if batch.magic != MAGIC:
        raise _wrong_magic(batch.magic)
    if batch.length + LENGTH_END != size:
        raise ApiError(ErrorCode.INVALID_RECORD, "a partition takes exactly one record batch")
    if batch.base_offset != 0:
        raise ApiError(ErrorCode.INVALID_RECORD, f"a new batch must have base offset 0, not {batch.base_offset}")
    if size > (bytes_max := rules.internal_bytes_max if is_internal else rules.batch_bytes_max):
        raise ApiError(ErrorCode.MESSAGE_TOO_LARGE, f"a batch of {size} bytes; at most {bytes_max} are taken")
    return batch


def check_header(batch: RecordBatch, rules: AppendRules, now_ms: int, is_internal: bool = False) -> None:
    """What comes behind the checksum. Raises ApiError."""
    size = batch.size
    count = batch.record_count
    if count <= 0 or batch.last_offset_delta != count - 1:
        raise ApiError(
            ErrorCode.INVALID_RECORD, f"{count} records cannot have the offsets 0 to {batch.last_offset_delta}"
        )
    attributes = batch.attributes
    if attributes & COMPRESSION_MASK > _NEWEST_COMPRESSION:
        raise ApiError(
            ErrorCode.UNSUPPORTED_COMPRESSION_TYPE, f"compression {attributes & COMPRESSION_MASK} is not known"
        )
    if not attributes & COMPRESSION_MASK and count * RECORD_BYTES_MIN > size - HEADER_BYTES:
        raise ApiError(ErrorCode.INVALID_RECORD, f"{count} records do not fit {size - HEADER_BYTES} bytes")
    if batch.producer_id >= 0 and (batch.base_sequence < 0 or batch.producer_epoch < 0):
        raise ApiError(
            ErrorCode.INVALID_RECORD, f"producer {batch.producer_id} needs an epoch and a sequence of at least 0"
        )
    if not is_internal and (
        attributes & _NOT_FROM_CLIENTS
        or (
            not rules.reads_records
            and (
                batch.max_timestamp > now_ms + rules.after_ms_max or batch.base_timestamp < now_ms - rules.before_ms_max
            )
        )
    ):
        _check_client(batch, rules, now_ms)


def wrong_crc() -> ApiError:
    """The batch is not what its producer made."""
    return ApiError(ErrorCode.CORRUPT_MESSAGE, "the batch's checksum does not match its bytes")


def check_produce_version(records: memoryview, version: int) -> None:
    """Clients that speak Produce below version 7 cannot read zstd back. Raises ApiError."""
    if (
        version < ZSTD_SINCE_PRODUCE
        and len(records) >= HEADER_BYTES
        and records[ATTRIBUTES_LOW] & COMPRESSION_MASK == Compression.ZSTD
    ):
        raise ApiError(ErrorCode.UNSUPPORTED_COMPRESSION_TYPE, f"zstd needs Produce version {ZSTD_SINCE_PRODUCE}")


def _check_client(batch: RecordBatch, rules: AppendRules, now_ms: int) -> None:
    """What a client may not write; and time bounds from the header alone: the first timestamp and the greatest one."""
    if batch.attributes & _REFUSED_KINDS:
        raise _refused_kind(batch)
    if batch.attributes & LOG_APPEND_TIME:
        raise ApiError(ErrorCode.INVALID_TIMESTAMP, "only the broker may set the timestamp type LogAppendTime")
    if rules.is_log_append_time or rules.reads_records:
        return
    newest = batch.max_timestamp
    if newest != NO_TIMESTAMP and newest > now_ms + rules.after_ms_max:
        raise ApiError(
            ErrorCode.INVALID_TIMESTAMP,
            f"timestamp {newest} is more than {rules.after_ms_max} ms after the broker's time {now_ms}",
        )
    first = batch.base_timestamp
    if first != NO_TIMESTAMP and first < now_ms - rules.before_ms_max:
        raise ApiError(
            ErrorCode.INVALID_TIMESTAMP,
            f"timestamp {first} is more than {rules.before_ms_max} ms before the broker's time {now_ms}",
        )


def _refused_kind(batch: RecordBatch) -> ApiError:
    if batch.is_control:
        return ApiError(ErrorCode.INVALID_RECORD, "clients may not write control batches")
    return ApiError(ErrorCode.INVALID_TXN_STATE, "this broker does not serve transactions yet")


def _incomplete(records: memoryview) -> ApiError:
    """Why these bytes hold no batch, in Kafka's words: what is cut off is not there, what is too small is corrupt."""
    size = len(records)
    if size <= _MAGIC_POSITION:
        return ApiError(ErrorCode.INVALID_RECORD, "a partition needs a record batch")
    if records[_MAGIC_POSITION] != MAGIC:
        return _wrong_magic(records[_MAGIC_POSITION])
    batch_bytes = int.from_bytes(records[8:LENGTH_END], "big", signed=True) + LENGTH_END
    if batch_bytes < HEADER_BYTES:
        return ApiError(ErrorCode.CORRUPT_MESSAGE, f"a batch of {batch_bytes} bytes is less than its header")
    return ApiError(ErrorCode.INVALID_RECORD, f"a batch of {batch_bytes} bytes is cut off at {size}")


def _wrong_magic(magic: int) -> ApiError:
    if magic in (0, 1):
        return ApiError(ErrorCode.INVALID_RECORD, f"message format {magic} is not supported any more: use version 2")
    return ApiError(ErrorCode.CORRUPT_MESSAGE, f"magic {magic} is not known")
