"""Builds an object from runs of batches without keeping the event loop busy."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from crc32c import crc32c

from automq.ids import ClusterId, ObjectId, Offset, StreamEpoch, StreamId
from automq.runtime.turns import Pace, in_turns
from automq.s3stream.cache.log_cache import Renewed, Run
from automq.s3stream.model import CheckpointPiece, CommitObject, CommitRange
from automq.s3stream.objects.format import IndexEntry
from automq.s3stream.objects.writer import DATA_BLOCK_BYTES, Batch, ObjectWriter
from automq.s3stream.ports import Buffer
from automq.s3stream.wal.format import RECORD_HEADER, RECORD_HEADER_BYTES

Checkpoints = Mapping[tuple[StreamId, StreamEpoch], CheckpointPiece]
"""What was captured of a block's runs: by stream and epoch."""

# Batches collected at one go: each takes a microsecond, and another one when the block is laid out.
BATCHES_A_PART: Final = 512
RUN_US: Final = 20


class ObjectBuilder:
    """Collects data blocks and checkpoints, and the commit ranges that describe them."""

    def __init__(self, cluster_id: ClusterId, object_id: ObjectId) -> None:
        self._object_id = object_id
        self._writer = ObjectWriter(cluster_id, object_id)
        self._pace = Pace()
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
        size = position = 0
        max_timestamp = -(1 << 63)
        for group in _groups(batches):
            if group is None:
                await self._pace.spend(BATCHES_A_PART)
                continue
            entry = self._writer.add_block(stream, group)
            if start < 0:
                start, position = entry.start, entry.position
            end = entry.end
            size += entry.size
            max_timestamp = max(max_timestamp, entry.max_timestamp_ms)
            await self._pace.spend(RUN_US + len(group))
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
                position=position,
            )
        )

    async def add_runs(self, runs: Iterable[Run | Renewed], checkpoints: Checkpoints) -> None:
        """Of one block, in the order of their streams, with the pieces of checkpoints that were captured of them."""
        for run in runs:
            if isinstance(run, Renewed):
                await self.add_checkpoint(run.stream, run.epoch, run.start, run.checkpoint)
                continue
            checkpoint = checkpoints.get((run.stream, run.epoch))
            if len(run.bases) > BATCHES_A_PART or run.size >= DATA_BLOCK_BYTES or is_long(checkpoint):
                await self.add_run(run.stream, run.epoch, batches_of(run), checkpoint=checkpoint)
            else:
                self._add_small(run, checkpoint)
                await self._pace.spend(RUN_US + len(run.bases))

    def _add_small(self, run: Run, checkpoint: CheckpointPiece | None) -> None:
        """One data block, as most runs are when there are ten thousand of them; no part of it takes long."""
        entry = self._writer.add_block(run.stream, batches_of(run))
        kept = 0
        if checkpoint is not None:
            kept = checkpoint.kept
            data = checkpoint.data
            self._writer.add_checkpoint(run.stream, entry.end, (data,), crc=crc32c(data))
        self.ranges.append(
            CommitRange(
                stream=run.stream,
                epoch=run.epoch,
                start=entry.start,
                end=entry.end,
                size=entry.size,
                max_timestamp_ms=entry.max_timestamp_ms,
                checkpoint=kept,
                position=entry.position,
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

    async def finish(self) -> Sequence[Buffer]:
        """The whole object."""
        return await in_turns(self._writer.finish_in_turns())


def is_long(piece: CheckpointPiece | None) -> bool:
    """Whether its bytes are not there yet."""
    return piece is not None and piece.encode is not None


async def encoded(piece: CheckpointPiece) -> Sequence[bytes]:
    """The bytes of a piece, made in turns."""
    return (piece.data,) if piece.encode is None else await in_turns(piece.encode())


def batches_of(run: Run) -> Iterator[Batch]:
    """The run's batches, each with count, timestamp and checksum from the WAL record header before it."""
    unpack = RECORD_HEADER.unpack_from
    for base, arena, position, size in run.batches():
        _, _, _, max_timestamp, count, _, crc = unpack(arena.view, position - RECORD_HEADER_BYTES)
        yield base, count, max_timestamp, crc, arena.view[position : position + size]


def _groups(batches: Iterable[Batch]) -> Iterable[list[Batch] | None]:
    """The batches of each block; None now and then, where others may run before the next block is complete."""
    group: list[Batch] = []
    size = 0
    for batch in batches:
        group.append(batch)
        size += len(batch[4])
        if size >= DATA_BLOCK_BYTES:
            yield group
            group, size = [], 0
        elif not len(group) % BATCHES_A_PART:
            yield None
    if group:
        yield group
