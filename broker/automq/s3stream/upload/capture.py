"""Which checkpoints a block takes along: those of its streams that are due, and those that were asked for."""

from collections.abc import Callable, Mapping
from itertools import islice
from typing import Final, Protocol

from automq.ids import Offset, StreamId
from automq.s3stream.cache.log_cache import LogCache, Renewed, StreamTail
from automq.s3stream.model import CheckpointPiece

# Checkpoints of streams without batches that one upload takes along.
RENEWALS_A_BLOCK: Final = 1_000


class CapturedStream(Protocol):
    """What is needed of an open stream."""

    next_offset: Offset
    checkpoint_source: Callable[[bool], CheckpointPiece | None] | None

    @property
    def tail(self) -> StreamTail:
        """Its batches in the log cache."""
        ...


class CheckpointCapture:
    """Captures at the moment a block is sealed: every piece describes its stream at exactly the block's end."""

    def __init__(self) -> None:
        self._renewals: dict[StreamId, None] = {}

    def renew(self, stream_id: StreamId) -> None:
        """See `Stream.renew_checkpoint`."""
        self._renewals[stream_id] = None

    def capture(self, cache: LogCache, streams: Mapping[StreamId, CapturedStream]) -> None:
        """Into the open block; `streams` are those that are open."""
        for run in cache.open.runs:
            stream = streams.get(run.stream)
            if stream is not None and stream.tail is run.tail and stream.checkpoint_source is not None:
                piece = stream.checkpoint_source(run.stream in self._renewals)
                if piece is not None:
                    cache.keep_checkpoint(run, piece)
            self._renewals.pop(run.stream, None)
        for stream_id in list(islice(self._renewals, RENEWALS_A_BLOCK)):
            del self._renewals[stream_id]
            stream = streams.get(stream_id)
            if stream is None or stream.checkpoint_source is None:
                continue
            piece = stream.checkpoint_source(True)
            if piece is not None:
                cache.keep_renewed(Renewed(stream_id, stream.tail.epoch, stream.next_offset, piece))
