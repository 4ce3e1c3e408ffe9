"""How a batch gets into the stream: checked and copied by the core where it can be, else step by step.

`append_common` takes nearly everything that clients send, in one pass over the bytes. What it does not take,
`append_checked` does, whose checks say why a batch is refused. Both judge a producer's sequence before anything is
appended, and in the same turn.
"""

from automq.core import RECORDS_PER_MS, place_received, take_batch
from automq.core.record_walk import Data
from automq.ids import Offset, StreamEpoch
from automq.partition.appended import Appended
from automq.partition.large_batch import LargeBatch
from automq.partition.producer_state import AppendedBatch, ProducerState
from automq.partition.record_validation import bounds_of
from automq.partition.retention import append_time_mark
from automq.partition.validation import AppendRules
from automq.protocol.records import NO_TIMESTAMP, RecordBatch, place_batch
from automq.s3stream.model import StorageFull
from automq.s3stream.stream import Stream
from automq.s3stream.wal.format import RECORD_HEADER_BYTES


def append_received(
    stream: Stream,
    producers: ProducerState,
    data: Data,
    start: int,
    stop: int,
    rules: AppendRules,
    *,
    now_ms: int,
) -> int:
    """Append the batch of a client that lies in data[start:stop], where it is one that `append_common` takes.

    0 when it is not, or is a repetition, or fits neither the open slot nor a new one in the same arena, and nothing has
    changed; else its records. What is not taken here goes through `append_common`, which says why it is wrong.
    """
    size = stop - start
    slot = stream.slot_with_room(size)
    # The first of a slot is put where it will lie, and its slot is opened once it is known to be good.
    place = (slot.view, slot.position) if slot is not None else stream.next_slot_place(size)
    if place is None:
        return 0
    base_offset = stream.next_offset
    earliest_ms, latest_ms = bounds_of(rules, now_ms)
    placed = place_received(
        data,
        start,
        stop,
        *place,
        stream.stream_id,
        stream.epoch,
        base_offset,
        rules.batch_bytes_max,
        RECORDS_PER_MS if rules.reads_records else size,
        earliest_ms,
        latest_ms,
        rules.is_compacted,
        rules.reads_records,
        append_time_mark(now_ms),
        0 if slot is None else slot.crc,
    )
    if placed is None:
        return 0
    count, newest_ms, producer_id, producer_epoch, first_sequence, slot_crc = placed
    entry = None
    if producer_id >= 0:
        entry = producers.continued(
            producer_id, producer_epoch, first_sequence, count, first_offset=base_offset, now_ms=now_ms
        )
        if entry is None:
            return 0
    if slot is None:
        slot = stream.open_slot(size)
        assert slot.view is place[0]
        assert slot.position == place[1]
    if entry is not None:
        producers.put(producer_id, entry, batch_bytes=size)
    stream.append_headed(slot, size, count=count, max_timestamp_ms=newest_ms, slot_crc=slot_crc)
    return count


def append_common(
    stream: Stream,
    producers: ProducerState,
    records: memoryview,
    rules: AppendRules,
    *,
    leader_epoch: StreamEpoch,
    now_ms: int,
) -> Appended | AppendedBatch | None:
    """Append the batch of a client; what it repeats, when it is there already; None when it is not of the common shape.

    Nothing has changed then. `rules` are such that nothing of a batch is changed but its place (`are_common`). Raises
    as `append_checked`.
    """
    size = len(records)
    base_offset = stream.next_offset
    earliest_ms, latest_ms = bounds_of(rules, now_ms)
    slot = stream.slot_with_room(size)
    out, position = (None, 0) if slot is None else (slot.view, slot.position + RECORD_HEADER_BYTES)
    taken = take_batch(
        records,
        out,
        position,
        base_offset,
        leader_epoch,
        rules.batch_bytes_max,
        earliest_ms,
        latest_ms,
        rules.is_compacted,
        rules.reads_records,
    )
    if taken is None:
        return None
    count, newest_ms, producer_id, producer_epoch, first_sequence, crc = taken
    if newest_ms < 0:
        newest_ms = append_time_mark(now_ms)
    entry = None
    if producer_id >= 0:
        entry = producers.continued(
            producer_id, producer_epoch, first_sequence, count, first_offset=base_offset, now_ms=now_ms
        )
        if entry is None:
            duplicate = producers.check(producer_id, producer_epoch, first_sequence, count)
            if duplicate is not None:
                return duplicate
    if slot is not None:
        position = stream.append_placed(slot, size, count=count, max_timestamp_ms=newest_ms, crc=crc)
    else:
        place_batch(records, base_offset=base_offset, leader_epoch=leader_epoch)
        try:
            position = stream.append(records, count=count, max_timestamp_ms=newest_ms, crc=crc)
        except StorageFull:
            if producer_id >= 0:
                producers.expect(producer_id, producer_epoch, first_sequence, now_ms)
            raise
    if entry is not None:
        producers.put(producer_id, entry, batch_bytes=size)
    elif producer_id >= 0:
        producers.record(
            producer_id,
            producer_epoch,
            first_sequence,
            count,
            first_offset=base_offset,
            append_time_ms=NO_TIMESTAMP,
            now_ms=now_ms,
            batch_bytes=size,
        )
    return Appended(base_offset, position, NO_TIMESTAMP, count)


def append_checked(
    stream: Stream,
    producers: ProducerState,
    batch: RecordBatch,
    rules: AppendRules,
    *,
    leader_epoch: StreamEpoch,
    now_ms: int,
    large: LargeBatch | None,
) -> Appended | AppendedBatch:
    """Append a batch that was checked; what it repeats, when it is there already.

    Raises ApiError for its sequence, StorageFull, BrokerFenced, StreamFenced, StreamClosed.
    """
    producer_id, count = batch.producer_id, batch.record_count
    if producer_id >= 0:
        duplicate = producers.check(producer_id, batch.producer_epoch, batch.base_sequence, count)
        if duplicate is not None:
            return duplicate
    append_time_ms = NO_TIMESTAMP
    if rules.is_log_append_time:
        append_time_ms = now_ms
        records_crc = None if large is None else large.records_crc
        batch.stamp(max_timestamp=now_ms, is_log_append_time=True, records_crc=records_crc)
    newest_ms = batch.max_timestamp if batch.max_timestamp >= 0 else append_time_mark(now_ms)
    base_offset: Offset = stream.next_offset
    batch.place(base_offset=base_offset, leader_epoch=leader_epoch)
    try:
        if large is None:
            position = stream.append(batch.view, count=count, max_timestamp_ms=newest_ms)
        else:
            position = large.append_to(stream, batch, newest_ms)
    except StorageFull:
        if producer_id >= 0:
            producers.expect(producer_id, batch.producer_epoch, batch.base_sequence, now_ms)
        raise
    if producer_id >= 0:
        producers.record(
            producer_id,
            batch.producer_epoch,
            batch.base_sequence,
            count,
            first_offset=base_offset,
            append_time_ms=append_time_ms,
            now_ms=now_ms,
            batch_bytes=batch.size,
        )
    return Appended(base_offset, position, append_time_ms, count)
