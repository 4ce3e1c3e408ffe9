"""Offsets by time, as readers of a partition see it: records from the log's start to the high watermark.

The stream finds the batch, by what headers say; the record is found in the batch. A trim may have cut into the first
batch: of its records some count, and its header speaks of all.
"""

from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from automq.core.record_walk import Data
from automq.ids import Offset
from automq.partition.content_worker import ContentWorker
from automq.partition.records_work import FoundOffset, first_record_at, newest_record
from automq.protocol.records import NO_TIMESTAMP, RecordBatch
from automq.runtime.turns import in_turns
from automq.s3stream.model import StoreDamaged
from automq.s3stream.stream import Stream
from automq.steps import Steps

T = TypeVar("T")

Question = Callable[[Data, RecordBatch], Steps[FoundOffset | None]]
"""Asked of the records of one batch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchedLog:
    """What is searched, and who hears of damage that the search meets."""

    stream: Stream
    read_batches: Callable[[Offset, Offset], AsyncGenerator[memoryview, None]]
    """As `Partition.read_batches`."""
    contents: ContentWorker
    report: Callable[[StoreDamaged], None]


async def find_timestamp(log: SearchedLog, timestamp_ms: int) -> FoundOffset | None:
    """The first record whose timestamp is at least `timestamp_ms`. Raises ApiError, StreamError, StoreError."""
    floor = start = log.stream.start_offset
    question = partial(first_record_at, timestamp_ms=timestamp_ms, from_offset=floor)
    while (base := await _reported(log, log.stream.find_timestamp(timestamp_ms, start))) is not None:
        found, start = await _ask(log, question, max(base, floor))
        if found is not None:
            return found
    return None


async def find_newest(log: SearchedLog) -> FoundOffset | None:
    """The first record with the greatest timestamp of all: the first one when none has any. None without records.

    Raises ApiError, StreamError, StoreError.
    """
    stream = log.stream
    floor = start = stream.start_offset
    question = partial(newest_record, from_offset=floor)
    newest: FoundOffset | None = None
    if floor < stream.confirmed_offset and not stream.has_boundary(floor):
        newest, start = await _ask(log, question, floor)
    timestamp_ms = await _reported(log, stream.greatest_timestamp(start))
    if timestamp_ms is not None and timestamp_ms > (NO_TIMESTAMP if newest is None else newest.timestamp_ms):
        base = await _reported(log, stream.find_timestamp(timestamp_ms, start))
        if base is not None:
            newest, _ = await _ask(log, question, max(base, floor))
    if newest is not None and newest.timestamp_ms != NO_TIMESTAMP:
        return newest
    return FoundOffset(NO_TIMESTAMP, floor) if floor < stream.confirmed_offset else None


async def _reported(log: SearchedLog, lookup: Coroutine[Any, Any, T]) -> T:
    try:
        return await lookup
    except StoreDamaged as error:
        log.report(error)
        raise


async def _ask(log: SearchedLog, question: Question, start: Offset) -> tuple[FoundOffset | None, Offset]:
    """What the batch with `start` answers, and where the next one begins."""
    end = log.stream.confirmed_offset
    async with aclosing(log.read_batches(start, end)) as batches:
        async for view in batches:
            batch = RecordBatch(view)
            async with log.contents.content_of(batch) as content:
                found = await in_turns(question(content, batch))
            return found, Offset(batch.next_offset)
    return None, end
