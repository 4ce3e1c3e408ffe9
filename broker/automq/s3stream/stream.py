"""Streams as their owner sees them: append, read, trim. `Storage` opens them."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from crc32c import crc32c

from automq.core import put_record_header
from automq.ids import ObjectId, Offset, StreamEpoch, StreamId
from automq.s3stream.append_path import AppendPath
from automq.s3stream.arena import Arena, ReadResult
from automq.s3stream.cache.cold_read import ColdRead
from automq.s3stream.cache.log_cache import SIZE_BITS, StreamTail
from automq.s3stream.cache.lost_ranges import before_lost, hides, pass_over
from automq.s3stream.cache.read_ahead import ReadAhead
from automq.s3stream.cache.time_lookup import TimeLookup
from automq.s3stream.model import (
    CheckpointPiece,
    CheckpointRef,
    DataMissing,
    ObjectSpan,
    OffsetOutOfRange,
    Segment,
    StoreDamaged,
    StreamClosed,
    StreamSealed,
    StreamState,
    StreamTrim,
)
from automq.s3stream.ports import ObjectNotFound
from automq.s3stream.read_path import ReadPath
from automq.s3stream.settings import MIB
from automq.s3stream.wal.format import RECORD_HEADER, RECORD_HEADER_BYTES
from automq.s3stream.wal.object_wal import OpenSlot, StagedBatch

__all__ = ["ReadResult", "StagedBatch", "Stream"]

# A cold read returns at most this much, and a sequential reader has at most this much loaded ahead: at 100 ms a GET
# that is 80 MB/s for each of them.
READ_BYTES_MAX: Final = 8 * MIB
# A first read returns no more than this: whoever asks once and takes nothing costs little. Then it follows the window.
FIRST_READ_BYTES: Final = 1 * MIB


def opening_offset(state: StreamState) -> Offset:
    """Rule: a stream opens at the larger of its end and its trim point: offsets are never given twice."""
    return max(state.end, state.start)


class Stream:
    """One open stream. Every call but those marked async is synchronous and does no I/O.

    Invariant: start_offset <= next_offset, confirmed_offset <= next_offset. Offsets in [confirmed_offset, next_offset)
    are appended and not durable yet; they are never returned by a read.
    """

    __slots__ = (
        "_append",
        "_cache",
        "_dead",
        "_read",
        "_read_ahead",
        "_read_bytes_max",
        "_refuses",
        "_wal",
        "checkpoint_source",
        "confirmed_offset",
        "epoch",
        "last_position",
        "lost",
        "next_offset",
        "on_advance",
        "on_lost",
        "start_offset",
        "stream_id",
        "tail",
    )

    def __init__(self, state: StreamState, *, append: AppendPath, read: ReadPath) -> None:
        self._append = append
        self._read = read
        self._wal = append.wal
        self._cache = append.cache
        self._dead: Exception | None = None
        """Why nothing is read or appended any more."""
        self._refuses: Exception | None = None
        """Why nothing is appended: that, or because the stream is sealed."""
        self._read_bytes_max = min(READ_BYTES_MAX, read.block_cache_bytes // 4)
        self._read_ahead = ReadAhead(self._read_bytes_max)
        self.stream_id: StreamId = state.stream
        self.epoch: StreamEpoch = state.epoch
        self.start_offset: Offset = state.start
        self.next_offset: Offset = opening_offset(state)
        self.lost = state.lost
        """Ranges that a person gave up, ascending."""
        self.confirmed_offset: Offset = self.next_offset
        self.last_position = -1
        """WAL slot of the newest append (-1 before the first): when that is durable, everything appended so far is."""
        self.on_advance: Callable[[], None] | None = None
        """Called after `confirmed_offset` moved, and when the stream is lost."""
        self.on_lost: Callable[[], None] | None = None
        """Called once when the stream is not ours any more: a commit was refused, or this incarnation is fenced."""
        self.checkpoint_source: Callable[[bool], CheckpointPiece | None] | None = None
        """Called between two turns of the loop, when everything below `next_offset` is about to be uploaded: the piece
        must describe the state at exactly `next_offset`, so state and append change in one turn. With True it was asked
        for (`renew_checkpoint`), else None says that none is due. Must not raise."""
        self.tail = StreamTail(state.stream, state.epoch)

    def append(self, payload: memoryview, *, count: int, max_timestamp_ms: int, crc: int | None = None) -> int:
        """Append one batch whose base offset is `next_offset`, already patched in; copies `payload` once.

        `crc` is that of the payload, where it is known. Returns the WAL slot it will be durable with. Raises
        BrokerFenced, StreamFenced (lost), StreamSealed, StreamClosed, StorageFull, ValueError for a batch above
        `AppendPath.append_bytes_max`.
        """
        if self._refuses is not None:
            raise self._refuses.with_traceback(None)
        size = len(payload)
        assert size > 0
        assert count > 0
        slot = self.slot_with_room(size)
        if slot is None:
            slot = self._append.roll(size)
        if crc is None:
            crc = crc32c(payload, 0, 0)
        body = slot.position + RECORD_HEADER_BYTES
        slot.view[body : body + size] = payload
        return self.append_placed(slot, size, count=count, max_timestamp_ms=max_timestamp_ms, crc=crc)

    def slot_with_room(self, size: int) -> OpenSlot | None:
        """The open slot when a batch of `size` fits it, and the stream takes one.

        Until something is appended, what is written behind `position` and RECORD_HEADER_BYTES of it means nothing.
        """
        slot = self._wal.slot
        if self._refuses is not None or slot is None or slot.position + RECORD_HEADER_BYTES + size > slot.limit:
            return None
        return slot

    def next_slot_place(self, size: int) -> tuple[memoryview, int] | None:
        """Where the record of a batch of `size` would lie if it were the first of a slot: see `open_slot`.

        None when it would not be, or that cannot be said. Until `open_slot` what is written there means nothing.
        """
        return None if self._refuses is not None else self._wal.next_place(size)

    def open_slot(self, size: int) -> OpenSlot:
        """The slot whose first record lies where `next_slot_place` has said in this turn."""
        return self._append.roll(size)

    def stage(self, size: int) -> StagedBatch:
        """Memory for a batch larger than `AppendPath.append_bytes_max`: fill it, then `append_staged` or discard it.

        Raises BrokerFenced, StreamFenced, StreamClosed, StorageFull, ValueError above `AppendPath.batch_bytes_max`.
        """
        if self._dead is not None:
            raise self._dead.with_traceback(None)
        return self._append.stage(size)

    def append_staged(self, staged: StagedBatch, *, count: int, max_timestamp_ms: int, crc: int) -> int:
        """As `append`, of what lies in its place already. `crc` is that of the payload.

        Raises BrokerFenced, StreamFenced, StreamClosed: the batch is the caller's to discard then, as it was before.
        """
        if self._refuses is not None:
            raise self._refuses.with_traceback(None)
        slot = self._append.roll_staged(staged)
        size = len(staged.payload)
        return self.append_placed(slot, size, count=count, max_timestamp_ms=max_timestamp_ms, crc=crc)

    def append_placed(self, slot: OpenSlot, size: int, *, count: int, max_timestamp_ms: int, crc: int) -> int:
        """As `append`, of what lies in `slot` already, RECORD_HEADER_BYTES behind its position: in the same turn in
        which `slot_with_room` gave it, and before anything else was appended."""
        position, base = slot.position, self.next_offset
        slot_crc = put_record_header(
            slot.view, position, self.stream_id, self.epoch, base, max_timestamp_ms, count, size, crc, slot.crc
        )
        return self.append_headed(slot, size, count=count, max_timestamp_ms=max_timestamp_ms, slot_crc=slot_crc)

    def append_headed(self, slot: OpenSlot, size: int, *, count: int, max_timestamp_ms: int, slot_crc: int) -> int:
        """As `append_placed`, where the record's header lies at the slot's position, too: what becomes of its `crc`."""
        base = self.next_offset
        body = slot.position + RECORD_HEADER_BYTES
        slot.crc = slot_crc
        slot.position = body + size
        slot.records += 1
        run = self.tail.current
        if run is None or run.block is not self._cache.open:
            self._append.checkpoints.before_append(self.tail)
            run = self._cache.begin_run(self.tail, base)
        run.bases.append(base)
        run.places.append(slot.place + (body << SIZE_BITS) + size)
        run.size += size
        if max_timestamp_ms > run.max_timestamp_ms:
            run.max_timestamp_ms = max_timestamp_ms
        end = Offset(base + count)
        run.end = self.next_offset = slot.ends[self] = end
        self.last_position = slot.sequence
        return slot.sequence

    def read_cached(self, start: Offset, end: Offset, max_bytes: int) -> ReadResult | None:
        """Batches from the one holding `start` up to `end` and `confirmed_offset`, from the log cache alone.

        At least one batch if there is any, else as many as fit `max_bytes`. Empty when start == confirmed_offset. None
        when the log cache no longer has `start`: use `read`. Raises OffsetOutOfRange outside [start_offset,
        confirmed_offset], BrokerFenced, StreamFenced, StreamClosed.
        """
        end = self._check_readable(start, end)
        if start >= end:
            return ReadResult([], start_offset=start, end_offset=start, size=0)
        return self.tail.read(start, end, max_bytes)

    def measure_cached(self, start: Offset, end: Offset, max_bytes: int) -> tuple[Offset, Offset, int] | None:
        """What `read_cached` would return, without pinning it: first base offset, end offset, bytes. Raises as it."""
        end = self._check_readable(start, end)
        return (start, start, 0) if start >= end else self.tail.measure(start, end, max_bytes)

    def _check_readable(self, start: Offset, end: Offset) -> Offset:
        """How far a read from `start` may go."""
        if self._dead is not None:
            raise self._dead.with_traceback(None)
        if not self.start_offset <= start <= self.confirmed_offset:
            raise OffsetOutOfRange(
                f"offset {start} of stream {self.stream_id} is outside [{self.start_offset}, {self.confirmed_offset}]"
            )
        return self._readable_end(end)

    async def read(self, start: Offset, end: Offset, max_bytes: int) -> ReadResult:
        """As `read_cached`, but from wherever the batches are. May return less than there is: read on at `end_offset`.

        Nothing but a higher `end_offset` comes back where `start` lies in a range that was given up. Raises also
        StoreError, FormatTooNew and StoreDamaged: what cannot be read begins at or before `start` then, and the error's
        `hidden` says where it ends.
        """
        missing: ObjectId | None = None
        while True:
            cached = self.read_cached(start, end, max_bytes)
            if cached is not None:
                return cached
            skipped = pass_over(self.lost, start, self._readable_end(end))
            if skipped is not None:
                return ReadResult([], start_offset=start, end_offset=skipped, size=0)
            self._follow_trim(start)
            readable_end = before_lost(self.lost, start, self._readable_end(end))
            spans = self._spans(start, readable_end, limit=1)
            if not spans:
                raise hides(
                    DataMissing(key=f"stream {self.stream_id}", what="object of the stream"), start, readable_end
                )
            span = spans[0]
            try:
                result = await self._read_objects(start, readable_end, max_bytes)
            except ObjectNotFound:
                # It may have been deleted between looking it up and reading it: then the image names another by now. Or
                # by somebody who has superseded us, which we may not know yet: that is no damage either.
                self._read.reader.forget(span.object_id)
                if missing == span.object_id:
                    raise hides(self._read.missing(span.object_id), span.start, span.end) from None
                missing = span.object_id
                await self._read.objects.confirm()
                continue
            except StoreDamaged as error:
                if error.hidden is None:
                    hides(error, max(start, span.start), span.end)
                raise
            if self._dead is not None:
                raise self._dead.with_traceback(None)
            self._read_ahead.advance(start, result.end_offset)
            return result

    def _follow_trim(self, start: Offset) -> None:
        """Objects go by the image. A trim may be durable there and not answered yet: that is a hole, no damage.

        Raises OffsetOutOfRange, StreamNotFound.
        """
        trimmed_to = self._read.streams.state(self.stream_id).start
        if start < trimmed_to:
            self.start_offset = max(self.start_offset, trimmed_to)
            raise OffsetOutOfRange(f"offset {start} of stream {self.stream_id} was trimmed, it begins at {trimmed_to}")

    async def find_timestamp(self, timestamp_ms: int, start: Offset | None = None) -> Offset | None:
        """Base offset of the first batch from `start` (default: the log's) on whose max timestamp is >= `timestamp_ms`.

        The batch is durable; it may begin before `start`. Raises as `read` does.
        """
        if self._dead is not None:
            raise self._dead.with_traceback(None)
        return await self._lookup().first_at(timestamp_ms, self.start_offset if start is None else start)

    async def greatest_timestamp(self, start: Offset) -> int | None:
        """The greatest max timestamp of the durable batches that begin at or after `start`; None when there are none.

        Raises as `read` does.
        """
        if self._dead is not None:
            raise self._dead.with_traceback(None)
        return await self._lookup().greatest(start)

    def has_boundary(self, offset: Offset) -> bool:
        """Whether a batch is known to begin at `offset`, from what is in memory; it may begin there all the same.

        Where the log begins a span does not say: a commit behind a trim is clipped there.
        """
        if offset > self.start_offset:
            spans = self._spans(offset, Offset(offset + 1), limit=1)
            if spans and spans[0].start == offset:
                return True
        return not offset or any(run.start == offset for run in self.tail.runs)

    def _lookup(self) -> TimeLookup:
        return TimeLookup(
            self,
            reader=self._read.reader,
            blocks=self._read.blocks,
            spans=self._spans_between,
            timestamp_of=_timestamp_of,
            confirm=self._read.objects.confirm,
        )

    def segments(self) -> Iterator[Segment]:
        """What the stream consists of, oldest first: for retention by time and size, without reading anything.

        Each is made when it is taken: whoever ends at the first one that stays pays for no other. A cached block of
        which a trim has left a part counts with that part; its greatest timestamp is a bound then.
        """
        committed = self.start_offset
        for span in self._read.objects.spans_from(self.stream_id, self.start_offset):
            yield Segment(start=span.start, end=span.end, size=span.size, max_timestamp_ms=span.max_timestamp_ms)
            committed = max(committed, span.end)
        yield from self.tail.segments(committed)

    @property
    def stored_bytes(self) -> int:
        """The sizes of all segments together: a number that is kept, but for what is cached only."""
        return self._read.objects.stored_bytes(self.stream_id) + self.uncommitted_bytes

    @property
    def uncommitted_bytes(self) -> int:
        """Bytes in the cache beyond the committed objects."""
        committed = max(self._read.streams.state(self.stream_id).end, self.start_offset)
        return sum(segment.size for segment in self.tail.segments(committed))

    def checkpoints(self) -> Sequence[CheckpointRef]:
        """The committed pieces of its checkpoints, oldest first. Raises StreamNotFound."""
        return self._read.streams.state(self.stream_id).checkpoints

    async def read_checkpoint(self, piece: CheckpointRef) -> bytes:
        """One of them. Raises StreamNotFound, BrokerFenced, StoreDamaged, StoreError."""
        return await self._read.checkpoint(self.stream_id, piece)

    @property
    def is_checkpoint_alone(self) -> bool:
        """Whether objects live for its checkpoints, and maybe others', alone. Raises StreamNotFound."""
        return any(piece.is_alone for piece in self.checkpoints())

    def renew_checkpoint(self) -> None:
        """Ask `checkpoint_source` at the next upload even if the stream has no batches in it."""
        self._append.checkpoints.renew(self.stream_id)

    async def trim(self, new_start: Offset) -> None:
        """Forget everything below `new_start` (at most `confirmed_offset`). Raises StreamFenced, StreamNotFound."""
        if self._dead is not None:
            raise self._dead.with_traceback(None)
        assert new_start <= self.confirmed_offset
        if new_start > self.start_offset:
            (refused,) = await self._read.streams.trim([StreamTrim(self.stream_id, self.epoch, new_start)])
            if refused is not None:
                raise refused
            self.start_offset = max(self.start_offset, new_start)

    def close(self) -> None:
        """Close the stream here; what was appended is uploaded in due time. Idempotent."""
        self._append.remove_stream(self.stream_id, self)
        if self._dead is None:
            self._dead = self._refuses = StreamClosed(f"stream {self.stream_id} was closed")
        # Whoever is told here refers to this stream: a cycle, which nobody would look for in a busy broker.
        self.checkpoint_source = self.on_advance = self.on_lost = None

    def seal(self) -> None:
        """Nothing is appended until `unseal`, whatever happens; everything is read as before. Between two turns."""
        if self._dead is None:
            self._refuses = StreamSealed(f"stream {self.stream_id} is changing hands")

    def unseal(self) -> None:
        """The stream stays: by a durable answer that its move is void, or a cancel that the image shows."""
        self._refuses = self._dead

    @property
    def lost_by(self) -> Exception | None:
        """Why nothing is read or appended any more."""
        return self._dead

    @property
    def is_sealed(self) -> bool:
        """Whether it is read and takes no appends."""
        return self._dead is None and self._refuses is not None

    def lose(self, error: Exception) -> None:
        """No append or read from now on; whoever waits is told."""
        if self._dead is not None:
            return
        # Damage that ends the broker is not damage of what a reader asked for.
        self._dead = self._refuses = StreamClosed(str(error)) if isinstance(error, StoreDamaged) else error
        if self.on_lost is not None:
            self.on_lost()
        if self.on_advance is not None:
            self.on_advance()

    def _readable_end(self, end: Offset) -> Offset:
        """Rule of the log: a read stays below the confirmed offset."""
        return min(end, self.confirmed_offset)

    def _spans_between(self, start: Offset, end: Offset) -> Iterator[ObjectSpan]:
        spans = self._read.objects.spans_from(self.stream_id, start)
        return itertools.takewhile(lambda span: span.start < end, spans)

    def _spans(self, start: Offset, end: Offset, *, limit: int) -> Sequence[ObjectSpan]:
        return self._read.objects.spans(self.stream_id, start, end, limit=limit)

    async def _read_objects(self, start: Offset, end: Offset, max_bytes: int) -> ReadResult:
        """From the object that has `start` on, with the read-ahead window on its way."""
        path = self._read
        window = self._read_ahead.window(start)
        read = ColdRead(
            self.stream_id,
            path.objects.spans_from(self.stream_id, start),
            start,
            end,
            max_bytes=min(max_bytes, self._read_bytes_max, max(FIRST_READ_BYTES, window)),
            window=window,
            reader=path.reader,
            blocks=path.blocks,
            clock=path.clock,
        )
        return await read.run()


def _timestamp_of(arena: Arena, position: int) -> int:
    """Max timestamp of the batch at `position`, from the WAL record header before it."""
    timestamp: int = RECORD_HEADER.unpack_from(arena.view, position - RECORD_HEADER_BYTES)[3]
    return timestamp
