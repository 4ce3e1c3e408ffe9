"""Builds an object from runs of batches without keeping the event loop busy."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final

from automq.ids import ClusterId, ObjectId, Offset, StreamEpoch, StreamId
from automq.s3stream.model import CheckpointKind, CommitObject, CommitRange
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
        self, stream: StreamId, epoch: StreamEpoch, batches: Iterable[Batch], *, checkpoint: bytes | None = None
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
            self._writer.add_checkpoint(stream, Offset(end), checkpoint)
        self.ranges.append(
            CommitRange(
                stream=stream,
                epoch=epoch,
                start=Offset(start),
                end=Offset(end),
                size=size,
                max_timestamp_ms=max_timestamp,
                checkpoint=CheckpointKind.NONE if checkpoint is None else CheckpointKind.BASE,
            )
        )

    def finish(self) -> Sequence[Buffer]:
        """The whole object."""
        return self._writer.finish()


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
