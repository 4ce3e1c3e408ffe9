"""A partition at its owner: a Kafka log over one stream.

Appending is synchronous: a batch is checked, gets its offsets and is in the write-ahead log's open slot when `append`
returns; it is acknowledged when that slot is durable. Producer state and stream change in one turn of the event loop,
because a checkpoint may be captured between any two. What is read is below the high watermark, which is the stream's
confirmed offset. Opening costs the checkpoint and the records written since, however long the log is.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from typing import Final

from automq.callbacks import ignore
from automq.core.record_walk import Data
from automq.ids import Offset, StreamEpoch, StreamId, TopicId, TopicPartition
from automq.metadata.image import QuarantineCause
from automq.partition.appended import Appended
from automq.partition.appending import append_checked, append_common, append_received
from automq.partition.barred import BarredPartition
from automq.partition.checkpoint import Section
from automq.partition.checkpointing import Checkpointing, LoadedPieces
from automq.partition.content_worker import ContentWorker
from automq.partition.damage import DamageLog
from automq.partition.large_batch import LargeBatch
from automq.partition.leader_epochs import EpochEnd, LeaderEpochs, check_leader_epoch
from automq.partition.loading import SCAN_BYTES, load_sections, load_state
from automq.partition.producer_state import AppendedBatch, ProducerEntry
from automq.partition.record_validation import validate_records
from automq.partition.records_work import CONTENT_IN_PLACE_BYTES_MAX, FoundOffset, correct_max_timestamp
from automq.partition.retention import trim_point
from automq.partition.rules import PartitionRules
from automq.partition.time_lookup import SearchedLog, find_newest, find_timestamp
from automq.partition.traffic import UNCOUNTED
from automq.partition.validation import check_batch
from automq.protocol.errors import ApiError, ErrorCode
from automq.protocol.records import EMPTY_BATCH_OFFSETS_MAX, build_empty_batch
from automq.replicated.sharded_entries import ShardedEntries
from automq.runtime.clock import Clock
from automq.s3stream.model import CheckpointPiece, DataMissing, StoreDamaged
from automq.s3stream.stream import ReadResult, StagedBatch, Stream


class Partition(BarredPartition):
    """One open partition. Its identity, `rules` and `log_start_offset` are for everyone to read."""

    is_replica: Final = False
    """It is read at its leader."""

    __slots__ = (
        "__weakref__",
        "_checkpointing",
        "_contents",
        "_damage",
        "_epochs",
        "_met",
        "is_open",
        "leader_epoch",
        "on_advance",
        "on_lost",
        "rules",
        "topic_id",
        "traffic",
    )

    def __init__(
        self,
        *,
        name: TopicPartition,
        topic_id: TopicId,
        stream: Stream,
        rules: PartitionRules,
        clock: Clock,
        contents: ContentWorker,
        damage: DamageLog,
    ) -> None:
        super().__init__(name=name, stream=stream, clock=clock)
        self.topic_id, self.rules = topic_id, rules
        self.leader_epoch: StreamEpoch = stream.epoch
        self.is_open = True
        self.on_advance: Callable[[Partition], None] = ignore
        """Called when the high watermark moved, and when the partition is closed or lost."""
        self.on_lost: Callable[[Partition], None] = ignore
        """Called once when the stream is not ours any more."""
        self._contents, self._damage = contents, damage
        self._met: dict[str, int] = {}
        """Damaged keys that reads met, each with the first offset that it hid."""
        self._epochs = LeaderEpochs()
        self._checkpointing = Checkpointing(self._producers, self._epochs, LoadedPieces())
        self.traffic = UNCOUNTED

    # Opening and closing.

    @property
    def is_new(self) -> bool:
        """Nothing was ever written: there is nothing to load."""
        return self._stream.next_offset == 0

    async def load(self) -> None:
        """Read the checkpoint and the records written since. Raises StreamError, StoreError, CheckpointTooNew.

        Records that are damaged leave the partition readable and without appends. May be repeated after a failure: it
        begins anew.
        """
        state = await load_state(self.name, self._stream, self._damage, now_ms=self._clock.wall_ms())
        self._producers, self._epochs = state.producers, state.epochs
        self._checkpointing = Checkpointing(state.producers, state.epochs, state.loaded)
        self._checkpointing.tail_bytes = state.tail_bytes
        self._damaged = state.damaged
        self._quarantine()

    @property
    def has_tail(self) -> bool:
        """Whether there are records behind the newest checkpoint."""
        return self._checkpointing.tail_bytes > 0

    @property
    def stream(self) -> Stream:
        """For what concerns many streams at once."""
        return self._stream

    @property
    def stream_id(self) -> StreamId:
        """The stream that holds the records."""
        return self._stream.stream_id

    async def is_restored(self) -> bool:
        """Whether what could not be read when this was opened can be read by now. Raises StreamError, StoreError."""
        if self._damaged is None or self._damaged.hidden is None:
            return False
        start, end = self._damaged.hidden
        try:
            (await self._stream.read(max(start, self.log_start_offset), end, 1)).release()
        except StoreDamaged:
            return False
        return True

    def check_end(self, offset: int) -> None:
        """Rule: where acknowledged records may lie behind the end, a reader is told so, and not to wait or go back.

        Raises DataMissing.
        """
        quarantine = self.quarantine
        if quarantine is not None and quarantine.is_end_unknown and offset >= self.high_watermark:
            error = DataMissing(key=quarantine.key, what=f"what follows offset {self.high_watermark} of {self.name}")
            self._report(self.high_watermark, error)
            raise error

    def _report(self, offset: int, error: StoreDamaged) -> None:
        self._met[error.key] = error.hidden[0] if error.hidden is not None else offset
        self._damage.report(self.name, offset, error)

    def _forget_restored(self, result: ReadResult) -> None:
        """Somebody has put back what was damaged."""
        for key, offset in list(self._met.items()):
            if result.start_offset <= offset < result.end_offset:
                del self._met[key]
                self._damage.restored(self.name, key)

    def begin(self) -> None:
        """The state is complete: take appends, and describe it in checkpoints from now on."""
        stream = self._stream
        self._epochs.assign(self.leader_epoch, stream.next_offset)
        stream.checkpoint_source = self.capture
        stream.on_advance = self._on_stream_advance
        stream.on_lost = self._on_stream_lost

    def set_causes(self, causes: Sequence[QuarantineCause]) -> None:
        super().set_causes(causes)
        # Readers at the end are told, and nobody rests on what was so before.
        self.on_advance(self)

    def close(self) -> None:
        """Not ours any more, or the broker stops: whoever waits is told. Idempotent."""
        self.is_open = False
        self._stream.close()
        if self.parking is not None:
            self.parking.refuse()
        self.on_advance(self)

    def _on_stream_advance(self) -> None:
        self.on_advance(self)

    def _on_stream_lost(self) -> None:
        self.is_open = False
        self.on_lost(self)

    # Checkpoints.

    def capture(self, is_forced: bool) -> CheckpointPiece | None:
        """A piece at exactly the stream's next offset, if one is due: called between two turns of the loop."""
        return self._checkpointing.capture(self._stream, is_forced=is_forced)

    def attach_checkpoint(self, section: str, entries: ShardedEntries, head: Callable[[int], bytes]) -> None:
        """From now on checkpoints have these entries, in place of what was loaded: `head` of their number before them.

        They must be the state after every record appended so far, durable or not, and earn what those take.
        """
        self._checkpointing.attach(section, entries, head)

    async def checkpoint_section(self, section: str) -> Sequence[tuple[int | None, Section]]:
        """What the newest checkpoint says, to be read in order; the last one has the offset that it describes.

        Each comes with the number of its piece for `Entries`; with None, everything is to be written anew. No piece is
        written from now on until `attach_checkpoint`. Raises StreamError, StoreError, CheckpointTooNew.
        """
        found = self._checkpointing.sections(section)
        if found is not None:
            return found
        return [(None, read) for read in await load_sections(self.name, self._stream, self._damage, section)]

    async def renew_checkpoint(self) -> None:
        """Where objects live for checkpoints alone, write ours anew with the next upload."""
        if self._stream.is_checkpoint_alone:
            for _ in self._checkpointing.carry_all():
                await asyncio.sleep(0)
            self._stream.renew_checkpoint()

    # Appending.

    def append(
        self,
        records: memoryview,
        *,
        internal: bool = False,
        is_prepared: bool = False,
        large: LargeBatch | None = None,
    ) -> Appended:
        """Append the only batch in `records`, which must be writable: offsets and leader epoch are patched in.

        `internal` is the broker itself, which is trusted with control batches and size. The records of a batch that
        `records_work.prepare` or `prepare_in_turns` has seen are not walked again. A batch above the engine's
        `append_bytes_max` is prepared and `large`, and `records` are those; it is the caller's to discard.

        Answer only when `position` is durable; that holds for what the producer state decided (a duplicate, a refused
        sequence) as well, for which `last_position` is the position. Raises ApiError, StorageFull, BrokerFenced,
        StreamFenced, StreamClosed, StreamQuarantined; nothing having changed, StreamSealed, and DecompressedTooLarge
        when the batch is to be prepared in turns.
        """
        stream = self._stream
        if self._is_barred:
            raise self._bar()
        rules = self.rules.append
        if rules.is_internal_only and not internal:
            raise ApiError(ErrorCode.INVALID_TOPIC_EXCEPTION, f"{self.name.topic} is written by the broker alone")
        now_ms = self._clock.wall_ms()
        epoch = self.leader_epoch
        outcome: Appended | AppendedBatch | None = None
        if rules.are_common and not internal and not is_prepared:
            outcome = append_common(stream, self._producers, records, rules, leader_epoch=epoch, now_ms=now_ms)
        if outcome is None:
            batch = check_batch(records, rules, now_ms, internal, has_checked_crc=is_prepared)
            if rules.reads_records and not internal and not is_prepared:
                newest_ms = validate_records(batch, rules, now_ms, bytes_max=CONTENT_IN_PLACE_BYTES_MAX)
                correct_max_timestamp(batch, newest_ms)
            outcome = append_checked(
                stream, self._producers, batch, rules, leader_epoch=epoch, now_ms=now_ms, large=large
            )
        if isinstance(outcome, AppendedBatch):
            return Appended(outcome.first_offset, self.duplicate_position(), outcome.append_time_ms, 0)
        self.traffic.appended(len(records), outcome.record_count)
        self._checkpointing.tail_bytes += len(records)
        return outcome

    def append_received(self, data: Data, start: int, stop: int, now_ms: int) -> bool:
        """Append the batch of a client that lies in data[start:stop] if that is done in one go, as it mostly is.

        Its base offset was `next_offset`. False: nothing has changed, and `append` it or says why not.
        """
        rules = self.rules.append
        if self._is_barred or not rules.are_common:
            return False
        count = append_received(self._stream, self._producers, data, start, stop, rules, now_ms=now_ms)
        if not count:
            return False
        size = stop - start
        self.traffic.appended(size, count)
        self._checkpointing.tail_bytes += size
        return True

    def stage(self, size: int) -> StagedBatch:
        """Memory for a large batch. Raises as `Stream.stage`."""
        return self._stream.stage(size)

    def duplicate_position(self) -> int:
        """Rule of both logs, an error is an answer too: a duplicate is answered when what it repeats is durable."""
        return self._stream.last_position

    @property
    def next_offset(self) -> Offset:
        """One past the newest offset, durable or not."""
        return self._stream.next_offset

    @property
    def last_position(self) -> int:
        """WAL slot of the newest append: when it is durable, all that was decided here so far is."""
        return self._stream.last_position

    # Reading.

    @property
    def log_start_offset(self) -> Offset:
        return self._stream.start_offset

    @property
    def high_watermark(self) -> Offset:
        """Everything below is durable and may be read."""
        return self._stream.confirmed_offset

    @property
    def last_stable_offset(self) -> Offset:
        """Everything below belongs to no open transaction; there are none yet."""
        return self._stream.confirmed_offset

    def is_readable(self, offset: int) -> bool:
        """Whether a reader may stand at `offset`. An offset that is assigned but not durable yet is only early."""
        return self._stream.start_offset <= offset <= self._stream.next_offset

    def read_cached(self, start: Offset, max_bytes: int) -> ReadResult | None:
        """Batches from `start` on that are in memory; None when they are not. Raises as `Stream.read_cached`."""
        stream = self._stream
        return stream.read_cached(start, stream.confirmed_offset, max_bytes)

    def measure_cached(self, start: Offset, max_bytes: int) -> tuple[Offset, Offset, int] | None:
        """What `read_cached` would return, without pinning it: first base offset, end offset, bytes. Raises as it."""
        stream = self._stream
        return stream.measure_cached(start, stream.confirmed_offset, max_bytes)

    def cached_buffers(
        self, start: Offset, end: Offset, max_bytes: int, *, buffers_max: int
    ) -> Sequence[memoryview | bytes] | None:
        """Batches of [start, end) that were readable once, small ones many to a buffer; None: they are not in memory.

        At least one, then as many as fit. Good for this turn of the loop: nothing is pinned.
        """
        return self._stream.tail.gathered(start, end, max_bytes, buffers_max=buffers_max)

    def bytes_available(self, start: int, *, bytes_max: int, end: int | None = None) -> int | None:
        """Bytes that may be read from `start` up to the high watermark, or to `end`; None when they are not in memory.

        Kafka's `positionDiff`. Counting ends at `bytes_max`.
        """
        stream = self._stream
        limit = stream.confirmed_offset if end is None else Offset(end)
        return stream.tail.bytes_between(Offset(start), limit, bytes_max=bytes_max)

    async def read(self, start: Offset, max_bytes: int) -> ReadResult:
        """Batches from `start` on, wherever they are. Raises as `Stream.read`.

        Ranges that were given up are passed over; one that the log ends with is an empty batch.
        """
        first = start
        try:
            while True:
                result = await self._stream.read(start, self.high_watermark, max_bytes)
                if result.batches or result.end_offset <= start:
                    break
                if result.end_offset >= self.high_watermark:
                    return self._empty_batch(first, result.end_offset)
                start = result.end_offset
        except StoreDamaged as error:
            self._report(start, error)
            raise
        if self._met:
            self._forget_restored(result)
        return result

    def _empty_batch(self, start: Offset, end: Offset) -> ReadResult:
        end = Offset(min(end, start + EMPTY_BATCH_OFFSETS_MAX))
        batch = build_empty_batch(base_offset=start, last_offset=end - 1, leader_epoch=self.leader_epoch)
        return ReadResult([memoryview(batch)], start_offset=start, end_offset=end, size=len(batch))

    async def read_batches(self, start: Offset, end: Offset) -> AsyncGenerator[memoryview, None]:
        """Every batch that holds offsets of [start, end), in order. A view is valid until the next one is asked for.

        The first batch may begin before `start`. `end` is at most the high watermark. Raises as `Stream.read`.
        """
        while start < end:
            try:
                result = await self._stream.read(start, end, SCAN_BYTES)
            except StoreDamaged as error:
                self._report(start, error)
                raise
            try:
                assert result.end_offset > start, f"{self.name}: no batch at offset {start}"
                for batch in result.batches:
                    yield batch
            finally:
                result.release()
            start = result.end_offset

    # Offsets by time and epoch.

    async def find_timestamp(self, timestamp_ms: int) -> FoundOffset | None:
        """The first record whose timestamp is at least `timestamp_ms`. Raises ApiError, StreamError, StoreError."""
        return await find_timestamp(self._searched(), timestamp_ms)

    async def find_newest(self) -> FoundOffset | None:
        """The first record with the greatest timestamp of all, if there is any. Raises as `find_timestamp`."""
        return await find_newest(self._searched())

    def _searched(self) -> SearchedLog:
        return SearchedLog(
            stream=self._stream,
            read_batches=self.read_batches,
            contents=self._contents,
            report=lambda error: self._report(self.log_start_offset, error),
        )

    def epoch_of(self, offset: int) -> int:
        """The leader epoch that wrote `offset`; -1 when unknown."""
        return self._epochs.epoch_of(offset)

    def epoch_end(self, epoch: int) -> EpochEnd:
        """Where `epoch` ended, as far as it is durable."""
        return self._epochs.end_of(epoch, self.high_watermark)

    def check_leader_epoch(self, epoch: int) -> None:
        """A client's idea of the current leader epoch; -1 when it has none. Raises ApiError."""
        check_leader_epoch(self.name, theirs=epoch, ours=self.leader_epoch)

    def check_offset(self, offset: int) -> None:
        """Raises ApiError where no reader can stand."""
        if not self.is_readable(offset):
            raise ApiError(
                ErrorCode.OFFSET_OUT_OF_RANGE,
                f"{self.name} has no offset {offset} but up to {self.high_watermark} so far",
            )

    # Forgetting.

    async def delete_records(self, before: int) -> Offset:
        """Forget the records below `before` (-1: the high watermark); the log's start after that. Raises ApiError."""
        target = self.high_watermark if before == -1 else Offset(before)
        if self.rules.is_compact_only:
            raise ApiError(ErrorCode.POLICY_VIOLATION, f"records of {self.name} are only removed by compaction")
        if not 0 <= target <= self.high_watermark:
            raise ApiError(
                ErrorCode.OFFSET_OUT_OF_RANGE, f"offset {before} is not in [0, {self.high_watermark}] of {self.name}"
            )
        await self._trim(target)
        return self.log_start_offset

    def retained_from(self, now_ms: int) -> Offset:
        """What retention allows to forget lies below; the log's start when that is nothing. Raises StreamNotFound."""
        start, rules, stream = self.log_start_offset, self.rules.retention, self._stream
        # Nothing goes while somebody may have to look at it.
        if self.quarantine is not None or (rules.age_ms_max, rules.size_bytes_max) == (None, None):
            return start
        size, end = 0 if rules.size_bytes_max is None else stream.stored_bytes, self.high_watermark
        return trim_point(stream.segments(), rules, stored_bytes=size, start=start, confirmed=end, now_ms=now_ms)

    async def _trim(self, target: Offset) -> None:
        if target > self.log_start_offset:
            await self._stream.trim(target)
            self.trimmed()

    def trimmed(self) -> None:
        """The stream's start has moved."""
        self._epochs.trim(self.log_start_offset)

    @property
    def uncommitted_bytes(self) -> int:
        """Bytes of batches that lie in no object yet."""
        return self._stream.uncommitted_bytes

    def producers(self) -> Iterator[ProducerEntry]:
        """The producers that are remembered, while they come and go: DescribeProducers asks."""
        return iter(self._producers)

    async def expire_producers(self, now_ms: int, expiration_ms: int) -> None:
        """Forget producers that have been silent for long."""
        for _ in self._producers.expire(now_ms, expiration_ms):
            await asyncio.sleep(0)
