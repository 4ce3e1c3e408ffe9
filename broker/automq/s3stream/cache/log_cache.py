"""Recent writes, readable by stream and offset, grouped in blocks that are uploaded as one object each.

A block takes appends, is sealed, committed, and evicted, in that order and strictly oldest first. Until it is committed
it holds its arenas; after that it stays readable for as long as nobody needs the room.

Arenas are one thing that a block takes; the index of its batches and the checkpoints that wait for their upload are two
others, each with an account of its own. Committed blocks go when any of them runs out, and when they are old.

The index of a stream's batches in a block is two integers a batch in `array('q')`: a million live memoryviews would
cost the garbage collector 138 ms a round. A place is the number of the arena within the block, the position of the
batch in it and its size, in one integer: batches of 64 MiB, arenas of 64 MiB, and a thousand of these in a block.
"""

import enum
import sys
from array import array
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from automq.core import gather_batches, measure_batches
from automq.ids import Offset, StreamEpoch, StreamId
from automq.runtime.budget import ByteBudget
from automq.runtime.telemetry import Metrics
from automq.s3stream.arena import Arena, ReadResult
from automq.s3stream.model import CheckpointPiece, Segment

SIZE_BITS: Final = 27
POSITION_BITS: Final = 26
ARENA_SHIFT: Final = SIZE_BITS + POSITION_BITS
SIZE_MASK: Final = (1 << SIZE_BITS) - 1
POSITION_MASK: Final = (1 << POSITION_BITS) - 1

# Up to here a batch is copied sooner than it gets a buffer of its own. So much is copied at once: twice what a socket
# takes, and in buffers that the allocator has at hand.
SMALL_BYTES_MAX: Final = 4 << 10
GATHERED_BYTES_MAX: Final = 1 << 20
BUFFER_BYTES: Final = 96 << 10

# What a run takes beside its batches: itself, two arrays, its places in the block and in the stream's tail.
RUN_BYTES: Final = 500
# Two integers, and what a growing array keeps in reserve.
BATCH_BYTES: Final = 18
# An entry of a dictionary, its key, and the bytes' own header.
CHECKPOINT_BYTES: Final = 300


class Run:
    """One stream's consecutive batches in one block. The hot path writes its fields directly."""

    __slots__ = (
        "bases",
        "block",
        "end",
        "epoch",
        "is_captured",
        "max_timestamp_ms",
        "peaks",
        "places",
        "size",
        "start",
        "stream",
        "tail",
    )

    def __init__(self, tail: "StreamTail", block: "CacheBlock", start: Offset) -> None:
        self.tail = tail
        self.block = block
        self.stream = tail.stream
        self.epoch = tail.epoch
        self.start = start
        self.end = start
        self.size = 0
        self.max_timestamp_ms = -(1 << 63)
        self.is_captured = False
        """The stream's checkpoint was captured at the run's end, or none was due. Once the block is sealed only."""
        self.bases = array("q")
        self.places = array("q")
        self.peaks: dict[int, int] | None = None
        """Greatest timestamps of whole groups of batches, as far as somebody has looked: see `time_lookup`."""

    def size_from(self, start: Offset) -> int:
        """Bytes of the batches from the one that holds `start` on."""
        first = max(0, bisect_right(self.bases, start) - 1)
        return sum(place & SIZE_MASK for place in self.places[first:])

    def batches(self) -> Iterator[tuple[Offset, Arena, int, int]]:
        """(base offset, arena, position, size) of each batch."""
        arenas = self.block.arenas
        for base, place in zip(self.bases, self.places, strict=True):
            yield (
                Offset(base),
                arenas[place >> ARENA_SHIFT],
                (place >> SIZE_BITS) & POSITION_MASK,
                place & SIZE_MASK,
            )


class BlockState(enum.Enum):
    """The life of a block."""

    OPEN = 1
    SEALED = 2
    COMMITTED = 3
    EVICTED = 4


@dataclass(frozen=True, slots=True)
class Renewed:
    """A piece of the checkpoint of a stream that has no batches in the block."""

    stream: StreamId
    epoch: StreamEpoch
    start: Offset
    """What it describes, and where the stream ends."""
    checkpoint: CheckpointPiece

    @property
    def size(self) -> int:
        """Of batches: none."""
        return 0


class CacheBlock:
    """What is uploaded together."""

    __slots__ = (
        "arenas",
        "checkpoint_bytes",
        "checkpoints",
        "committed_at",
        "index_bytes",
        "end_sequence",
        "renewed",
        "runs",
        "since_s",
        "size",
        "slots",
        "state",
    )

    def __init__(self) -> None:
        self.state = BlockState.OPEN
        self.arenas: list[Arena] = []
        self.runs: list[Run] = []
        self.checkpoints: dict[tuple[StreamId, StreamEpoch], CheckpointPiece] = {}
        """Captured when the block was sealed: each describes its stream at exactly the end of its run."""
        self.checkpoint_bytes = 0
        self.index_bytes = 0
        """Of runs and batches, as far as they were counted."""
        self.committed_at = 0.0
        self.renewed: list[Renewed] = []
        """Checkpoints of streams without a run in this block."""
        self.size = 0
        """Bytes of closed WAL slots."""
        self.slots = 0
        """How many."""
        self.since_s = 0.0
        """When the first of them was closed, monotonic."""
        self.end_sequence = 0
        """One past the last WAL slot whose batches are in this block."""

    def add_slot(self, size: int, now: float) -> None:
        """A WAL slot with `size` bytes of this block was closed."""
        if not self.slots:
            self.since_s = now
        self.size += size
        self.slots += 1

    def place_of(self, arena: Arena) -> int:
        """The place of the arena that is being filled from now on, to which position and size are to be added."""
        if not self.arenas or self.arenas[-1] is not arena:
            arena.hold()
            self.arenas.append(arena)
        return (len(self.arenas) - 1) << ARENA_SHIFT


class StreamTail:
    """The runs of one opening of a stream that are still in memory: consecutive, oldest first."""

    __slots__ = ("current", "epoch", "runs", "stream")

    def __init__(self, stream: StreamId, epoch: StreamEpoch) -> None:
        self.stream = stream
        self.epoch = epoch
        self.runs: deque[Run] = deque()
        self.current: Run | None = None
        """The newest run in memory. It takes appends as long as its block is the open one: nobody who seals a block
        looks for its runs, which may be those of every stream."""

    @property
    def start(self) -> Offset | None:
        """The oldest offset in memory."""
        return self.runs[0].start if self.runs else None

    def read(self, start: Offset, end: Offset, max_bytes: int) -> ReadResult | None:
        """Batches from the one that holds `start` to the last that begins below `end`, pinned; None when it is gone.

        At least one, then as many as fit `max_bytes`. `start < end` and `end` is at most the tail's end.
        """
        measured = self.measure(start, end, max_bytes)
        if measured is None:
            return None
        first, stop, size = measured
        pinned: list[Arena] = []
        batches = self.views(first, stop, size, pinned=pinned)
        assert batches is not None
        return ReadResult(batches, start_offset=first, end_offset=stop, size=size, arenas=pinned)

    def measure(self, start: Offset, end: Offset, max_bytes: int) -> tuple[Offset, Offset, int] | None:
        """What `read` would return, without it: base offset of the first batch, end of the last one, bytes of all."""
        place = self._place_of(start)
        if place is None:
            return None
        number, begin = place
        runs = self.runs
        run = runs[number]
        first = run.bases[begin]
        total = 0
        while True:
            count = len(run.bases) if run.end <= end else bisect_left(run.bases, end)
            stop, total = measure_batches(run.places, begin, count, max_bytes, total)
            if stop < count:
                return Offset(first), Offset(run.bases[stop]), total
            if count < len(run.bases):
                return Offset(first), Offset(run.bases[count]), total
            number += 1
            if number == len(runs) or run.end >= end:
                return Offset(first), run.end, total
            run, begin = runs[number], 0

    def views(
        self,
        start: Offset,
        end: Offset,
        max_bytes: int,
        *,
        batches_max: int = sys.maxsize,
        pinned: list[Arena] | None = None,
    ) -> list[memoryview] | None:
        """The batches from the one that holds `start` to the last that begins below `end`; None when `start` is gone.

        At least one, then as many as fit. The views are good for this turn of the loop, or for as long as somebody
        holds their arenas, which are added to `pinned`.
        """
        place = self._place_of(start)
        if place is None:
            return None
        number, begin = place
        runs = self.runs
        batches: list[memoryview] = []
        left = max_bytes
        while number < len(runs):
            run = runs[number]
            arenas = run.block.arenas
            view = memoryview(b"")
            count = len(run.bases) if run.end <= end else bisect_left(run.bases, end)
            arena_number = -1
            for found in islice(run.places, begin, min(count, begin + batches_max - len(batches))):
                size = found & SIZE_MASK
                if size > left and batches:
                    return batches
                left -= size
                if found >> ARENA_SHIFT != arena_number:
                    arena_number = found >> ARENA_SHIFT
                    arena = arenas[arena_number]
                    if pinned is not None:
                        pinned.append(arena)
                    view = arena.view
                position = (found >> SIZE_BITS) & POSITION_MASK
                batches.append(view[position : position + size])
            if count < len(run.bases) or len(batches) >= batches_max:
                break
            number, begin = number + 1, 0
        return batches

    def gathered(
        self, start: Offset, end: Offset, max_bytes: int, *, buffers_max: int
    ) -> Sequence[memoryview | bytes] | None:
        """As `views`, in at most so many buffers: small batches are copied, several to a buffer, of which none is cut.

        No more than GATHERED_BYTES_MAX are copied: fewer batches may come than would fit.
        """
        place = self._place_of(start)
        if place is None:
            return None
        number, begin = place
        runs = self.runs
        buffers: list[memoryview | bytes] = []
        left, to_copy = max_bytes, GATHERED_BYTES_MAX
        while number < len(runs):
            run = runs[number]
            count = len(run.bases) if run.end <= end else bisect_left(run.bases, end)
            arenas = [arena.view for arena in run.block.arenas]
            while begin < count and len(buffers) < buffers_max:
                stop, size = measure_batches(run.places, begin, count, min(left, BUFFER_BYTES), 0)
                if buffers and (size > left or to_copy <= 0):
                    return buffers
                if stop == begin + 1 and size > SMALL_BYTES_MAX:
                    found = run.places[begin]
                    position = (found >> SIZE_BITS) & POSITION_MASK
                    buffers.append(arenas[found >> ARENA_SHIFT][position : position + size])
                else:
                    buffers.append(gather_batches(run.places, begin, stop, arenas, size))
                    to_copy -= size
                left -= size
                begin = stop
            if count < len(run.bases) or len(buffers) >= buffers_max:
                break
            number, begin = number + 1, 0
        return buffers

    def _place_of(self, start: Offset) -> tuple[int, int] | None:
        """The run and the batch that hold `start`; None when they are not in memory."""
        runs = self.runs
        if not runs or start < runs[0].start:
            return None
        number = len(runs) - 1
        while runs[number].start > start:
            number -= 1
        return number, bisect_right(runs[number].bases, start) - 1

    def bytes_between(self, start: Offset, end: Offset, *, bytes_max: int) -> int | None:
        """Bytes of the batches from the one that holds `start` to the last that begins below `end`.

        Counting ends at `bytes_max`: what is returned may be less than there is then. None when `start` is gone.
        """
        if start >= end:
            return 0
        place = self._place_of(start)
        if place is None:
            return None
        number, index = place
        runs = self.runs
        total = 0
        while number < len(runs):
            bases, places = runs[number].bases, runs[number].places
            while index < len(bases):
                if bases[index] >= end or total >= bytes_max:
                    return total
                total += places[index] & SIZE_MASK
                index += 1
            number, index = number + 1, 0
        return total

    def segments(self, start: Offset) -> Iterator[Segment]:
        """The runs that end above `start`, the first one clipped to the batches from the one with `start` on."""
        for run in self.runs:
            if run.end > start:
                yield Segment(
                    start=max(run.start, start),
                    end=run.end,
                    size=run.size if run.start >= start else run.size_from(start),
                    max_timestamp_ms=run.max_timestamp_ms,
                )


class LogCache:
    """All blocks that are in memory, oldest first; the newest takes appends."""

    def __init__(self, *, index: ByteBudget, checkpoints: ByteBudget) -> None:
        """The accounts of what blocks take beside arenas."""
        self._index, self._checkpoints = index, checkpoints
        self.open = CacheBlock()
        self._blocks: deque[CacheBlock] = deque()
        """Sealed and committed ones."""
        self.uncommitted_index_bytes = 0
        """Of the open block and of sealed ones."""

    @property
    def uncommitted(self) -> int:
        """Sealed blocks that hold their arenas."""
        return sum(1 for block in self._blocks if block.state is BlockState.SEALED)

    def watch(self, metrics: Metrics, now: Callable[[], float]) -> None:
        """Measure what a restart would have to recover."""

        def age_s() -> float:
            waiting = self.waiting()
            return now() - waiting[0].since_s if waiting else 0.0

        size = metrics.gauge("automq_not_uploaded_bytes", "Bytes of the write-ahead log that are in no object yet")
        size.set_function(lambda: self.not_uploaded_bytes)
        age = metrics.gauge("automq_not_uploaded_age_seconds", "Age of the oldest of them; 0 when there are none")
        age.set_function(age_s)

    @property
    def not_uploaded_bytes(self) -> int:
        """Of the blocks that wait, as they lie in the write-ahead log."""
        return sum(block.size for block in self.waiting())

    def waiting(self) -> list[CacheBlock]:
        """Blocks whose records are not in objects yet, oldest first."""
        sealed = [block for block in self._blocks if block.state is BlockState.SEALED]
        return [*sealed, self.open] if self.open.slots else sealed

    def begin_run(self, tail: StreamTail, start: Offset) -> Run:
        """The first append of a stream to the open block."""
        assert tail.current is None or tail.current.block is not self.open
        run = Run(tail, self.open, start)
        self.open.runs.append(run)
        tail.runs.append(run)
        tail.current = run
        self._count_index(RUN_BYTES)
        return run

    def count_batches(self, count: int) -> None:
        """So many batches were added to runs of the open block."""
        self._count_index(count * BATCH_BYTES)

    def _count_index(self, size: int) -> None:
        self.open.index_bytes += size
        self.uncommitted_index_bytes += size
        self._index.charge(size)

    def keep_checkpoint(self, run: Run, piece: CheckpointPiece) -> None:
        """What is to be uploaded with the run's block, which waits for it."""
        run.block.checkpoints[(run.stream, run.epoch)] = piece
        self._charge_checkpoint(run.block, piece)

    def keep_renewed(self, block: CacheBlock, renewed: Renewed) -> None:
        """The same for a stream without a run in the block."""
        block.renewed.append(renewed)
        self._charge_checkpoint(block, renewed.checkpoint)

    def _charge_checkpoint(self, block: CacheBlock, piece: CheckpointPiece) -> None:
        size = piece.size + CHECKPOINT_BYTES
        block.checkpoint_bytes += size
        self._checkpoints.charge(size)

    def seal(self) -> CacheBlock:
        """The open block takes no more appends; a new one does. It may be empty where streams are handed over."""
        block, self.open = self.open, CacheBlock()
        block.state = BlockState.SEALED
        self._blocks.append(block)
        return block

    def committed(self, block: CacheBlock, now: float) -> None:
        """The block is in an object now (or will never be): it may be evicted. What only the upload needed goes."""
        assert block.state is BlockState.SEALED
        block.state = BlockState.COMMITTED
        block.committed_at = now
        block.checkpoints.clear()
        self._checkpoints.release(block.checkpoint_bytes)
        block.checkpoint_bytes = 0
        self.uncommitted_index_bytes -= block.index_bytes
        block.renewed.clear()
        for arena in block.arenas:
            arena.cache()
            arena.release()

    def evict(self) -> bool:
        """Drop the oldest block if it is committed."""
        if not self._blocks or self._blocks[0].state is not BlockState.COMMITTED:
            return False
        block = self._blocks.popleft()
        block.state = BlockState.EVICTED
        for run in block.runs:
            tail = run.tail
            evicted = tail.runs.popleft()
            assert evicted is run
            if tail.current is run:
                tail.current = None
        # Runs refer to their block: what is evicted here must be gone, and not wait for a search for cycles.
        block.runs.clear()
        self._index.release(block.index_bytes)
        for arena in block.arenas:
            arena.forget()
        return True

    def shrink(self, *, committed_before: float) -> None:
        """Evict what is committed while the index has no room, and what was committed before that time."""
        blocks = self._blocks
        while blocks and (self._index.is_full or blocks[0].committed_at < committed_before):
            if not self.evict():
                return
