"""What a partition must know before it takes appends: from the newest checkpoint that is whole, and the records since.

A checkpoint is derived from records, so damage of one of its pieces costs time and not state: an older one does, which
needs none of the damaged pieces, and more records are read, from the start of the log if there is no other. What can be
made from neither, because it was trimmed, is logged; its producers count as unknown then. Records that are damaged are
passed over, and told of: what they would have changed is not known.
"""

import asyncio
import logging
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from automq.ids import Offset, TopicPartition
from automq.partition import checkpoint
from automq.partition.checkpoint import CheckpointCorrupt, CheckpointTooNew, Piece, Section
from automq.partition.checkpointing import LoadedPieces
from automq.partition.damage import DamageLog
from automq.partition.leader_epochs import LeaderEpochs
from automq.partition.producer_state import ProducerState
from automq.protocol.records import NO_TIMESTAMP, RecordBatch
from automq.s3stream.model import CheckpointRef, CorruptData, StoreDamaged
from automq.s3stream.stream import Stream

log = logging.getLogger(__name__)

# One read of a scan: large enough to amortise a GET, small enough for many partitions to be opened at once.
SCAN_BYTES: Final = 1 << 20
# Pieces of one checkpoint that are read at once.
PIECES_AT_ONCE: Final = 8


@dataclass(slots=True)
class PartitionState:
    """Everything that a checkpoint carries, at one offset."""

    producers: ProducerState = field(default_factory=ProducerState)
    epochs: LeaderEpochs = field(default_factory=LeaderEpochs)
    loaded: LoadedPieces = field(default_factory=LoadedPieces)
    """What the checkpoint was read from, and its sections that others attach."""
    tail_bytes: int = 0
    """Of the records behind the checkpoint."""
    damaged: StoreDamaged | None = None
    """Records that belong to the state and could not be read."""

    def remember(self, batch: RecordBatch, now_ms: int) -> None:
        """A batch found in the log: who wrote it, and under which epoch."""
        base = Offset(batch.base_offset)
        self.tail_bytes += batch.size
        self.epochs.assign(batch.leader_epoch, base)
        if batch.producer_id >= 0 and batch.base_sequence >= 0:
            self.producers.record(
                batch.producer_id,
                batch.producer_epoch,
                batch.base_sequence,
                batch.record_count,
                first_offset=base,
                append_time_ms=batch.max_timestamp if batch.is_log_append_time else NO_TIMESTAMP,
                now_ms=now_ms,
                batch_bytes=batch.size,
            )


async def load_state(name: TopicPartition, stream: Stream, damage: DamageLog, *, now_ms: int) -> PartitionState:
    """The state at the stream's confirmed end. Raises StreamError, StoreError, CheckpointTooNew."""
    state = await _restore(name, stream, damage)
    start, end = max(state.loaded.offset, stream.start_offset), stream.confirmed_offset
    while start < end:
        try:
            result = await stream.read(start, end, SCAN_BYTES)
        except StoreDamaged as error:
            damage.report(name, start, error)
            state.damaged = state.damaged or error
            start = error.hidden[1] if error.hidden is not None and error.hidden[1] > start else end
            continue
        try:
            for batch in result.batches:
                state.remember(RecordBatch(batch), now_ms)
        finally:
            result.release()
        start = result.end_offset
    if stream.lost:
        state.producers.forget_sequences(stream.lost[-1][0])
    return state


async def load_sections(name: TopicPartition, stream: Stream, damage: DamageLog, wanted: str) -> Sequence[Section]:
    """One section of the newest checkpoint that is whole, in order. Raises as `load_state`."""
    _, pieces = await _newest_whole(name, stream, stream.checkpoints(), damage)
    return [section for piece in pieces for found, section in piece.sections if found == wanted]


async def _restore(name: TopicPartition, stream: Stream, damage: DamageLog) -> PartitionState:
    """From the newest checkpoint that is whole."""
    refs = stream.checkpoints()
    last, pieces = await _newest_whole(name, stream, refs, damage)
    state = PartitionState(loaded=LoadedPieces(number=len(refs)))
    if last:
        await _fill(name, state, pieces, last, is_newest=last == len(refs))
        state.loaded.offset = refs[last - 1].offset
    if last < len(refs):
        log_start = stream.start_offset
        log.warning(
            "checkpoint damaged: the partition's state is made from an older one and from records",
            extra={
                "partition": str(name),
                "from_offset": max(state.loaded.offset, log_start),
                "producers_unknown_below": log_start if state.loaded.offset < log_start else "no offset",
            },
        )
    return state


async def _newest_whole(
    name: TopicPartition, stream: Stream, refs: Sequence[CheckpointRef], damage: DamageLog
) -> tuple[int, Sequence[Piece]]:
    """The number of the newest piece, counted from 1, at which the checkpoint is whole, and its pieces; else 0."""
    last = len(refs)
    while last:
        damaged, pieces = await _read_whole(name, stream, refs[:last], damage)
        if damaged is None:
            return last, pieces
        last = damaged - 1
    return 0, []


async def _read_whole(
    name: TopicPartition, stream: Stream, refs: Sequence[CheckpointRef], damage: DamageLog
) -> tuple[int | None, Sequence[Piece]]:
    """The pieces of the checkpoint at the newest of `refs`; or the number of one of them that is damaged."""
    numbers, pieces = [len(refs)], list[Piece]()
    while numbers:
        reads = [_read_piece(name, stream, refs[number - 1]) for number in numbers]
        for number, found in zip(numbers, await asyncio.gather(*reads, return_exceptions=True), strict=True):
            if isinstance(found, StoreDamaged):
                damage.report(name, stream.confirmed_offset, found)
                return number, []
            if isinstance(found, BaseException):
                raise found
            pieces.append(found)
        # The newest came first, then the others from the newest to the oldest.
        following = len(refs) - len(pieces)
        left = pieces[0].pieces - len(pieces)
        if left > following:
            damage.report(name, stream.confirmed_offset, _corrupt(name, refs[-1].offset, 0))
            return len(refs), []
        numbers = [following - place for place in range(min(left, PIECES_AT_ONCE))]
    return None, pieces[::-1]


async def _read_piece(name: TopicPartition, stream: Stream, ref: CheckpointRef) -> Piece:
    """Raises CorruptData, CheckpointTooNew, and as `Stream.read_checkpoint`."""
    data = await stream.read_checkpoint(ref)
    try:
        return checkpoint.decode(data)
    except (CheckpointCorrupt, struct.error, IndexError, UnicodeDecodeError) as error:
        raise _corrupt(name, ref.offset, len(data)) from error


async def _fill(
    name: TopicPartition, state: PartitionState, pieces: Sequence[Piece], last: int, *, is_newest: bool
) -> None:
    """Behind a damaged piece everything is written anew: its number would be counted with those that are needed."""
    loaded = state.loaded
    for number, piece in enumerate(pieces, start=last - len(pieces) + 1):
        loaded.pieces[number] = piece.pieces
        known = number if is_newest else None
        for section_name, section in piece.sections:
            try:
                if section_name == checkpoint.PRODUCERS:
                    for _ in state.producers.restore(section.payload, number=known):
                        await asyncio.sleep(0)
                elif section_name == checkpoint.LEADER_EPOCHS:
                    state.epochs = LeaderEpochs.decode(section.payload)
                else:
                    loaded.sections.append((known, section_name, section))
            except struct.error as error:
                raise _corrupt(name, section.offset, len(section.payload)) from error
            except ValueError as error:
                raise CheckpointTooNew(str(error)) from error


def _corrupt(name: TopicPartition, offset: Offset, size: int) -> CorruptData:
    return CorruptData(key=f"checkpoint of {name} at offset {offset}", offset=0, length=size, what="checkpoint")
