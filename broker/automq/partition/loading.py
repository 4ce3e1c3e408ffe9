"""What a partition must know before it takes appends: from the newest checkpoint that is whole, and the records since.

A checkpoint is derived from records, so a damaged one costs time and not state: an older one does, and more records
are read, from the start of the log if there is no other. What can be made from neither, because it was trimmed, is
logged; its producers count as unknown then. Records that are damaged are passed over, and told of: what they would
have changed is not known.
"""

import logging
import struct
from dataclasses import dataclass, field
from typing import Final

from automq.ids import Offset, TopicPartition
from automq.partition import checkpoint
from automq.partition.checkpoint import CheckpointCorrupt, CheckpointTooNew, Section
from automq.partition.damage import DamageLog
from automq.partition.leader_epochs import LeaderEpochs
from automq.partition.producer_state import ProducerState
from automq.protocol.records import NO_TIMESTAMP, RecordBatch
from automq.s3stream.model import CorruptData, StoreDamaged
from automq.s3stream.stream import Stream

log = logging.getLogger(__name__)

# One read of a scan: large enough to amortise a GET, small enough for many partitions to be opened at once.
SCAN_BYTES: Final = 1 << 20


@dataclass(slots=True)
class PartitionState:
    """Everything that a checkpoint carries, at one offset."""

    producers: ProducerState = field(default_factory=ProducerState)
    epochs: LeaderEpochs = field(default_factory=LeaderEpochs)
    sections: dict[str, Section] = field(default_factory=dict)
    """Of the checkpoint alone: what others attach."""
    damaged: StoreDamaged | None = None
    """Records that belong to the state and could not be read."""

    def remember(self, batch: RecordBatch, now_ms: int) -> None:
        """A batch found in the log: who wrote it, and under which epoch."""
        base = Offset(batch.base_offset)
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
            )


async def load_state(name: TopicPartition, stream: Stream, damage: DamageLog, *, now_ms: int) -> PartitionState:
    """The state at the stream's confirmed end. Raises StreamError, StoreError, CheckpointTooNew."""
    state, offset = await _restore(name, stream, damage)
    start, end = max(offset, stream.start_offset), stream.confirmed_offset
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


async def _restore(name: TopicPartition, stream: Stream, damage: DamageLog) -> tuple[PartitionState, Offset]:
    """From the newest checkpoint that is whole, and the offset it describes; 0 without one."""
    try:
        found = await stream.read_checkpoint()
        return (PartitionState(), Offset(0)) if found is None else _decode(name, *found)
    except StoreDamaged as error:
        damage.report(name, stream.confirmed_offset, error)
    state, offset = PartitionState(), Offset(0)
    async for found in stream.older_checkpoints():
        try:
            state, offset = _decode(name, *found)
            break
        except CorruptData:
            continue
    log_start = stream.start_offset
    log.warning(
        "checkpoint damaged: the partition's state is made from an older one and from records",
        extra={
            "partition": str(name),
            "from_offset": max(offset, log_start),
            "producers_unknown_below": log_start if offset < log_start else "no offset",
        },
    )
    return state, offset


def _decode(name: TopicPartition, offset: Offset, data: bytes) -> tuple[PartitionState, Offset]:
    """All of it or nothing. Raises CorruptData, CheckpointTooNew."""
    try:
        sections = checkpoint.decode(data)
        producers = sections.pop(checkpoint.PRODUCERS, None)
        epochs = sections.pop(checkpoint.LEADER_EPOCHS, None)
        state = PartitionState(
            ProducerState() if producers is None else ProducerState.decode(producers.payload),
            LeaderEpochs() if epochs is None else LeaderEpochs.decode(epochs.payload),
            sections,
        )
    except (CheckpointCorrupt, struct.error) as error:
        key = f"checkpoint of {name} at offset {offset}"
        raise CorruptData(key=key, offset=0, length=len(data), what="checkpoint") from error
    except ValueError as error:
        raise CheckpointTooNew(str(error)) from error
    return state, offset
