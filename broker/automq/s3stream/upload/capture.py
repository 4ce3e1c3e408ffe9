"""Which checkpoints a block takes along: those of its streams that are due, and those that were asked for."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Final, Protocol

from automq.ids import Offset, StreamId
from automq.runtime.tasks import Tasks
from automq.runtime.turns import WorkQueue
from automq.s3stream.cache.log_cache import BlockState, CacheBlock, LogCache, Renewed, Run, StreamTail
from automq.s3stream.model import CheckpointPiece
from automq.steps import Steps

# Checkpoints of streams without batches that one upload takes along.
RENEWALS_A_BLOCK: Final = 1_000
# About how long one takes.
CAPTURE_US: Final = 20


class CapturedStream(Protocol):
    """What is needed of an open stream."""

    next_offset: Offset
    checkpoint_source: Callable[[bool], CheckpointPiece | None] | None

    @property
    def tail(self) -> StreamTail:
        """Its batches in the log cache."""
        ...


class EngineStream(CapturedStream, Protocol):
    """What the engine needs of an open stream."""

    confirmed_offset: Offset
    on_advance: Callable[[], None] | None

    def lose(self, error: Exception) -> None:
        """No append or read from now on."""


class CheckpointCapture:
    """Captures in turns once a block is sealed, and each piece all the same at exactly the block's end of its stream.

    A stream's state stays what it was at the seal until its next append. So what is still to be captured then is
    captured first, inside that append; everything else has time, and the upload waits for it. `streams` are those that
    are open.
    """

    def __init__(self, *, cache: LogCache, streams: Mapping[StreamId, CapturedStream], tasks: Tasks) -> None:
        self._cache = cache
        self._streams = streams
        self._renewals: dict[StreamId, None] = {}
        self._renewing: dict[StreamTail, CacheBlock] = {}
        """Those without a run in a sealed block that takes their checkpoint along, as far as it is not captured."""
        self._work = WorkQueue(tasks, name="capture checkpoints")

    def renew(self, stream_id: StreamId) -> None:
        """See `Stream.renew_checkpoint`."""
        self._renewals[stream_id] = None

    def capture(self, block: CacheBlock) -> "asyncio.Future[None]":
        """The block was sealed in this turn; done when all is captured. What is little is, when this returns."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        renewing: list[StreamTail] = []
        for stream_id in list(islice(self._renewals, RENEWALS_A_BLOCK)):
            stream = self._streams.get(stream_id)
            if stream is None:
                del self._renewals[stream_id]
            elif stream.tail not in self._renewing and _uncaptured(stream.tail) is None:
                self._renewing[stream.tail] = block
                renewing.append(stream.tail)
        self._work.add(self._steps(block, renewing, done))
        return done

    def before_append(self, tail: StreamTail) -> None:
        """Rule: a checkpoint describes exactly the end of what is uploaded with it, never a batch behind that.

        Called before the first append to the open block, and before the stream is closed.
        """
        run = _uncaptured(tail)
        if run is not None:
            self._capture(tail, run.block, run)
        block = self._renewing.get(tail)
        if block is not None:
            self._capture(tail, block, None)

    def _steps(self, block: CacheBlock, renewing: Sequence[StreamTail], done: "asyncio.Future[None]") -> Steps[None]:
        for run in block.runs:
            if not run.is_captured:
                self._capture(run.tail, block, run)
                yield CAPTURE_US
        for tail in renewing:
            if self._renewing.get(tail) is block:
                self._capture(tail, block, None)
                yield CAPTURE_US
        if not done.done():
            done.set_result(None)

    def _capture(self, tail: StreamTail, block: CacheBlock, run: Run | None) -> None:
        if run is not None:
            run.is_captured = True
        else:
            del self._renewing[tail]
        is_forced = self._renewals.pop(tail.stream, self) is None
        stream = self._streams.get(tail.stream)
        if stream is None or stream.tail is not tail or stream.checkpoint_source is None:
            return
        piece = stream.checkpoint_source(is_forced)
        if piece is None:
            return
        if run is not None:
            self._cache.keep_checkpoint(run, piece)
        else:
            self._cache.keep_renewed(block, Renewed(tail.stream, tail.epoch, stream.next_offset, piece))


def _uncaptured(tail: StreamTail) -> Run | None:
    """The stream's run in a sealed block that waits for its checkpoint. Of each stream there is at most one."""
    run = tail.current
    return run if run is not None and run.block.state is BlockState.SEALED and not run.is_captured else None
