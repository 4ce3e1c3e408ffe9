"""Which checkpoints a block takes along: those of its streams that are due, and those that were asked for."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Final, Protocol

from automq.ids import Offset, StreamId
from automq.runtime.tasks import Tasks
from automq.runtime.turns import WorkQueue
from automq.s3stream.cache.log_cache import CacheBlock, LogCache, Renewed, Run, StreamTail
from automq.s3stream.model import CheckpointPiece
from automq.steps import Steps

# Checkpoints of streams without batches that one upload takes along.
RENEWALS_A_BLOCK: Final = 1_000
# About how long one takes.
CAPTURE_US: Final = 40


class CapturedStream(Protocol):
    """What is needed of an open stream."""

    next_offset: Offset
    checkpoint_source: Callable[[bool], CheckpointPiece | None] | None

    @property
    def tail(self) -> StreamTail:
        """Its batches in the log cache."""
        ...


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
        self._pending: dict[StreamTail, tuple[CacheBlock, Run | None]] = {}
        """Of each stream at most one block: `before_append` comes before there can be another."""
        self._work = WorkQueue(tasks, name="capture checkpoints")

    def renew(self, stream_id: StreamId) -> None:
        """See `Stream.renew_checkpoint`."""
        self._renewals[stream_id] = None

    def capture(self, block: CacheBlock) -> "asyncio.Future[None]":
        """The block was sealed in this turn; done when all is captured. What is little is, when this returns."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        tails: list[StreamTail] = []
        for run in block.runs:
            self._expect(run.tail, block, run)
            tails.append(run.tail)
        for stream_id in list(islice(self._renewals, RENEWALS_A_BLOCK)):
            stream = self._streams.get(stream_id)
            if stream is None:
                del self._renewals[stream_id]
            elif stream.tail not in self._pending:
                self._expect(stream.tail, block, None)
                tails.append(stream.tail)
        self._work.add(self._steps(block, tails, done))
        return done

    def before_append(self, tail: StreamTail) -> None:
        """Rule: a checkpoint describes exactly the end of what is uploaded with it, never a batch behind that."""
        pending = self._pending.pop(tail, None)
        if pending is not None:
            self._capture(tail, *pending)

    def _expect(self, tail: StreamTail, block: CacheBlock, run: Run | None) -> None:
        self.before_append(tail)
        self._pending[tail] = block, run

    def _steps(self, block: CacheBlock, tails: Sequence[StreamTail], done: "asyncio.Future[None]") -> Steps[None]:
        for tail in tails:
            pending = self._pending.get(tail)
            if pending is not None and pending[0] is block:
                self.before_append(tail)
                yield CAPTURE_US
        if not done.done():
            done.set_result(None)

    def _capture(self, tail: StreamTail, block: CacheBlock, run: Run | None) -> None:
        is_forced = tail.stream in self._renewals
        self._renewals.pop(tail.stream, None)
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
