"""A shard's log: group records as batches in one partition of `__consumer_offsets`.

Loading reads the newest checkpoint and the batches behind it, never the partition from its start unless there is no
checkpoint. What is compacted here is at every moment the state at the partition's tail, so a checkpoint captured
between two turns of the loop describes exactly the offset it is uploaded with.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence
from typing import Final

from automq.coordinators.group.checkpoint import CheckpointUnreadable, CompactedLog, payload_head
from automq.coordinators.group.model import GroupStored, Record
from automq.coordinators.group.ports import OffsetsPartition, WhenDurable
from automq.coordinators.group.records import OffsetDecoder, OffsetEncoder, RecordMalformed
from automq.ids import Offset
from automq.protocol.errors import ApiError
from automq.protocol.records import RecordBatch, build_own_batch, records_in
from automq.replicated.machine import LogFailed, LogFenced
from automq.runtime.clock import Clock
from automq.s3stream.model import BrokerFenced, StreamClosed, StreamError, StreamFenced

CHECKPOINT_SECTION: Final = "group"
# Decoding so many records takes about a millisecond: then others get their turn.
LOAD_RECORDS_PER_TURN: Final = 500
SETTLE_POLL_S: Final = 0.05
SETTLE_POLLS_MAX: Final = 200
# Our own batches are not compressed; a tool may have written one that is.
DECOMPRESSED_BYTES_MAX: Final = 64 * 1024 * 1024

log = logging.getLogger(__name__)


class PartitionRecordLog:
    """Implements RecordLog for one leadership of one partition."""

    def __init__(
        self, *, partition: OffsetsPartition, when_durable: WhenDurable, clock: Clock, batch_bytes_max: int
    ) -> None:
        self._partition = partition
        self._when_durable = when_durable
        self._clock = clock
        self._batch_bytes_max = batch_bytes_max
        self._compacted = CompactedLog()
        self._failure: Exception | None = None
        self._not_durable: Counter[str] = Counter()
        self.under_way_bytes = 0
        """Bytes of records that are appended and not durable yet."""

    def is_durable(self, group_id: str) -> bool:
        """Whether everything stored of the group's membership is durable; its offsets do not count."""
        return group_id not in self._not_durable

    async def load(self) -> list[Record]:
        """Every record that is in force, from checkpoint and tail. From then on checkpoints are captured here.

        Raises LogFailed, StreamError, StoreError, CorruptRecords: nothing is attached then; load with a new object.
        """
        start = await self._restore_checkpoint()
        end = await self._durable_end()
        async for data in self._partition.read_batches(start, end):
            for record in records_in(RecordBatch(data), decompressed_bytes_max=DECOMPRESSED_BYTES_MAX):
                if record.key is not None:
                    self._compacted.apply(record.key, record.value)
            self._compacted.entries.earn(len(data))
        records = await self._decode_all()
        assert end == self._partition.next_offset, "only the coordinator appends to its partition"
        self._partition.attach_checkpoint(CHECKPOINT_SECTION, self._compacted.entries, payload_head)
        return records

    async def _durable_end(self) -> Offset:
        """The partition's end once all of it is durable: a predecessor here may have left appends under way."""
        for _ in range(SETTLE_POLLS_MAX):
            if self._partition.high_watermark == self._partition.next_offset:
                return self._partition.next_offset
            await asyncio.sleep(SETTLE_POLL_S)
        raise LogFailed("appends of this partition's former coordinator here are not durable yet")

    async def _restore_checkpoint(self) -> Offset:
        """What the newest checkpoint says, some entries a turn; from where on records are to be read."""
        log_start = self._partition.log_start_offset
        offset = log_start
        try:
            for number, section in await self._partition.checkpoint_section(CHECKPOINT_SECTION):
                for _ in self._compacted.restore(section.payload, number=number):
                    await asyncio.sleep(0)
                offset = max(section.offset, log_start)
        except CheckpointUnreadable as error:
            # Records are never trimmed from a compacted topic, so the whole state can be read from the start.
            log.error("group checkpoint unreadable, reading the partition from its start", exc_info=error)
            self._compacted = CompactedLog()
            return log_start
        return offset

    async def _decode_all(self) -> list[Record]:
        records: list[Record] = []
        decoder = OffsetDecoder()
        # Nothing changes meanwhile: only the coordinator appends, and no checkpoint is captured before it is attached.
        for number, (key, value) in enumerate(self._compacted.items()):
            if number % LOAD_RECORDS_PER_TURN == 0:
                await asyncio.sleep(0)
            try:
                record = decoder.decode(key, value)
            except RecordMalformed as error:
                log.error("group record unreadable, left alone", extra={"key": key.hex()}, exc_info=error)
                continue
            if record is not None:
                records.append(record)
        return records

    def append(self, records: Sequence[Record]) -> "asyncio.Future[None]":
        """See RecordLog. What does not fit in one batch becomes several: all of them durable, or the log has failed."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self._failure is None:
            encode = OffsetEncoder().encode
            pairs = [encode(record) for record in records]
            size = sum([len(key) + len(value or b"") for key, value in pairs])
            groups = [record.group_id for record in records if isinstance(record, GroupStored)]
            try:
                position = self._append_batches(pairs)
            except (BrokerFenced, StreamFenced, StreamClosed) as error:
                self._failure = LogFenced(str(error))
            except (ApiError, StreamError) as error:
                self._failure = LogFailed(f"the partition takes no records: {error}")
            else:
                self.under_way_bytes += size
                self._not_durable.update(groups)
                self._when_durable(position, lambda error: self._complete(future, size, groups, error))
                return future
        future.set_exception(self._failure.with_traceback(None))
        return future

    def _append_batches(self, pairs: list[tuple[bytes, bytes | None]]) -> int:
        """Append and compact in one go: between two turns the compacted state is that of the tail."""
        position = -1
        while pairs:
            size = count = 0
            for key, value in pairs:
                size += len(key) + len(value or b"") + 32
                if count and size > self._batch_bytes_max:
                    break
                count += 1
            batch, pairs = pairs[:count], pairs[count:]
            now_ms = self._clock.wall_ms()
            data = build_own_batch(batch, timestamp=now_ms)
            position = self._partition.append(memoryview(data), internal=True).position
            for key, value in batch:
                self._compacted.apply(key, value)
            self._compacted.entries.earn(len(data))
        return position

    def _complete(
        self, future: "asyncio.Future[None]", size: int, groups: Sequence[str], error: Exception | None
    ) -> None:
        self.under_way_bytes -= size
        self._not_durable -= Counter(groups)
        if self._failure is None and error is not None:
            is_fence = isinstance(error, BrokerFenced | StreamFenced | StreamClosed)
            self._failure = LogFenced(str(error)) if is_fence else LogFailed(str(error))
        if future.done():
            return
        if self._failure is None:
            future.set_result(None)
        else:
            future.set_exception(self._failure.with_traceback(None))
