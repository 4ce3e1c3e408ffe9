"""Builds an object from runs of batches without keeping the event loop busy."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final

from crc32c import crc32c

from automq.ids import ClusterId, ObjectId, Offset, StreamEpoch, StreamId
from automq.s3stream.model import CheckpointPiece, CommitObject, CommitRange
from automq.s3stream.objects.format import IndexEntry
from automq.s3stream.objects.writer import DATA_BLOCK_BYTES, Batch, ObjectWriter
from automq.s3stream.ports import Buffer

# Batches handled in one turn of the loop: about a millisecond.
_TURN_BATCHES: Final = 256


class ObjectBuilder:
    """Collects data blocks and checkpoints, and the commit ranges that describe them."""

    def __init__(self, cluster_id: ClusterId, object_id: ObjectId) -> None:
        self._object_id = object_id
        self._writer = ObjectWriter(cluster_id, object_id)
        self._in_turn = 0
        self.ranges: list[CommitRange] = []

    @property
    def committed(self) -> CommitObject:
        """What is to be committed of it once it is finished."""
        return CommitObject(object_id=self._object_id, size=self._writer.size, ranges=self.ranges)

    async def add_run(
        self,
        stream: StreamId,
        epoch: StreamEpoch,
        batches: Iterable[Batch],
        *,
        checkpoint: CheckpointPiece | None = None,
    ) -> None:
        """Consecutive batches of one stream, at least one; streams in ascending order."""
        start = end = -1
        size = 0
        max_timestamp = -(1 << 63)
        for group in _groups(batches):
            entry = self._writer.add_block(stream, group)
            start = entry.start if start < 0 else start
            end = entry.end
            size += entry.size
            max_timestamp = max(max_timestamp, entry.max_timestamp_ms)
            self._in_turn += len(group)
            if self._in_turn >= _TURN_BATCHES:
                self._in_turn = 0
                await asyncio.sleep(0)
        if checkpoint is not None:
            await self._add_piece(stream, Offset(end), checkpoint)
        self.ranges.append(
            CommitRange(
                stream=stream,
                epoch=epoch,
                start=Offset(start),
                end=Offset(end),
                size=size,
                max_timestamp_ms=max_timestamp,
                checkpoint=0 if checkpoint is None else checkpoint.kept,
            )
        )

    async def add_checkpoint(
        self, stream: StreamId, epoch: StreamEpoch, offset: Offset, checkpoint: CheckpointPiece
    ) -> None:
        """A piece of the checkpoint of a stream without batches here: an empty range at its end."""
        await self._add_piece(stream, offset, checkpoint)
        self.ranges.append(
            CommitRange(
                stream=stream,
                epoch=epoch,
                start=offset,
                end=offset,
                size=0,
                max_timestamp_ms=-1,
                checkpoint=checkpoint.kept,
            )
        )

    async def _add_piece(self, stream: StreamId, offset: Offset, checkpoint: CheckpointPiece) -> None:
        buffers = await encoded(checkpoint)
        crc = 0
        for buffer in buffers:
            crc = crc32c(buffer, crc)
        self._writer.add_checkpoint(stream, offset, buffers, crc=crc)

    @property
    def checkpoints(self) -> Sequence[IndexEntry]:
        """The pieces in the finished object, one behind the other."""
        return self._writer.checkpoints

    def finish(self) -> Sequence[Buffer]:
        """The whole object."""
        return self._writer.finish()


async def encoded(piece: CheckpointPiece) -> list[bytes]:
    """The bytes of a piece, made in turns."""
    encoding = piece.encode()
    while True:
        try:
            next(encoding)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]
        await asyncio.sleep(0)


def _groups(batches: Iterable[Batch]) -> Iterable[list[Batch]]:
    group: list[Batch] = []
    size = 0
    for batch in batches:
        group.append(batch)
        size += len(batch[4])
        if size >= DATA_BLOCK_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group
