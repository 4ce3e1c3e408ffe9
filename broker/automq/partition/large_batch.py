"""Checking and appending what takes longer than a turn of the event loop: large batches, and many records.

A batch beyond a shared slot of the write-ahead log is copied to memory of its own, piece by piece, before anything is
decided; producer sequence and offset are taken when it is appended, after copy and checks, in one turn. So others may
append to the partition while a batch is being prepared, and nothing of a refused batch is ever seen.
"""

from typing import Final

from automq.binary import crc32c
from automq.partition.content_worker import ContentWorker
from automq.partition.record_validation import validation_steps
from automq.partition.records_work import correct_max_timestamp, needs_compression
from automq.partition.validation import AppendRules, check_frame, check_header, wrong_crc
from automq.protocol.records import HEADER_BYTES, RecordBatch
from automq.runtime.turns import Pace, in_turns
from automq.s3stream.stream import StagedBatch, Stream

PIECE_BYTES: Final = 512 * 1024
"""Copied, or summed up, in one part."""
PIECE_US: Final = 500
"""About how long a part takes: fresh memory costs several times the copy that fills it."""


class LargeBatch:
    """A checked batch in memory of its own. Appended once, or discarded."""

    __slots__ = ("records_crc", "staged")

    def __init__(self, staged: StagedBatch, records_crc: int) -> None:
        self.staged: StagedBatch | None = staged
        """None once it is appended."""
        self.records_crc = records_crc
        """CRC-32C of what lies behind the header."""

    def append_to(self, stream: Stream, batch: RecordBatch, newest_ms: int) -> int:
        """The WAL slot it will be durable with; `batch` is its header. Raises as `Stream.append_staged`."""
        staged = self.staged
        assert staged is not None, "a large batch is appended once"
        crc = batch.whole_crc(self.records_crc)
        position = stream.append_staged(staged, count=batch.record_count, max_timestamp_ms=newest_ms, crc=crc)
        self.staged = None
        return position

    def discard(self) -> None:
        """It will not be appended. Idempotent, and without effect on what is."""
        staged, self.staged = self.staged, None
        if staged is not None:
            staged.discard()


async def prepare_in_turns(records: memoryview, rules: AppendRules, now_ms: int, contents: ContentWorker) -> memoryview:
    """As `records_work.prepare`, in turns; decompressing and compressing are a worker's. Raises ApiError."""
    batch = check_frame(records, rules)
    records_crc = await crc_in_turns(records[HEADER_BYTES:])
    if batch.crc_with(records_crc) != batch.crc:
        raise wrong_crc()
    check_header(batch, rules, now_ms)
    if not rules.reads_records:
        return records
    async with contents.content_of(batch) as content:
        greatest = await in_turns(validation_steps(content, batch, rules, now_ms))
        correct_max_timestamp(batch, greatest, records_crc=records_crc)
        return await contents.compress(batch, content, rules) if needs_compression(batch, rules) else records


async def fill_in_turns(staged: StagedBatch, records: memoryview) -> LargeBatch:
    """Copy checked `records` into `staged`; discarded when this does not return."""
    pace = Pace()
    payload, crc = staged.payload, 0
    try:
        payload[:HEADER_BYTES] = records[:HEADER_BYTES]
        for start in range(HEADER_BYTES, len(records), PIECE_BYTES):
            piece = records[start : start + PIECE_BYTES]
            payload[start : start + len(piece)] = piece
            crc = crc32c(piece, crc)
            await pace.spend(PIECE_US)
    except BaseException:
        staged.discard()
        raise
    return LargeBatch(staged, crc)


async def crc_in_turns(data: memoryview) -> int:
    """CRC-32C of `data`."""
    pace, crc = Pace(), 0
    for start in range(0, len(data), PIECE_BYTES):
        crc = crc32c(data[start : start + PIECE_BYTES], crc)
        await pace.spend(PIECE_US // 4)
    return crc
