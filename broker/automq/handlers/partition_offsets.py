"""Handles questions about offsets and the removal of records: ListOffsets, OffsetForLeaderEpoch, DeleteRecords."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Final, TypeVar

from automq.handlers.context import Handler, RequestContext
from automq.handlers.deadline import before, deadline_after
from automq.handlers.errors import error_code_of
from automq.partition.partition import Partition
from automq.protocol.errors import ApiError, ErrorCode
from automq.protocol.messages.admin import (
    DeleteRecordsPartition,
    DeleteRecordsPartitionResult,
    DeleteRecordsRequest,
    DeleteRecordsResponse,
    DeleteRecordsTopicResult,
)
from automq.protocol.messages.fetch import (
    EpochEndOffset,
    ListOffsetsPartition,
    ListOffsetsPartitionResponse,
    ListOffsetsRequest,
    ListOffsetsResponse,
    ListOffsetsTopicResponse,
    OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochResponse,
    OffsetForLeaderPartition,
    OffsetForLeaderTopicResult,
)
from automq.protocol.schema import Message
from automq.replicated.machine import LogFailed, LogFenced
from automq.runtime.turns import Pace, free_in_turns
from automq.s3stream.model import StreamError
from automq.s3stream.ports import StoreError

Asked = TypeVar("Asked")
Answered = TypeVar("Answered")

# What a question or a trim may fail with, one partition of a request alone.
FAILURES: Final = (ApiError, StreamError, StoreError, LogFailed, LogFenced)

LATEST: Final = -1
EARLIEST: Final = -2
NEWEST_TIMESTAMP: Final = -3
EARLIEST_LOCAL: Final = -4
LATEST_TIERED: Final = -5
EARLIEST_PENDING_UPLOAD: Final = -6

# The first version of ListOffsets that may ask for each special offset.
SPECIAL_SINCE: Final[Mapping[int, int]] = {
    LATEST: 1,
    EARLIEST: 1,
    NEWEST_TIMESTAMP: 7,
    EARLIEST_LOCAL: 8,
    LATEST_TIERED: 9,
    EARLIEST_PENDING_UPLOAD: 11,
}

READ_COMMITTED: Final = 1

# About how long it takes to count a partition, and to find where an epoch of it ends.
COUNT_US: Final = 1
EPOCH_US: Final = 5

# Partitions of one request that are looked up in objects at the same time: each may read a block.
LOOKUPS_MAX: Final = 16

TRIM_TIMEOUT_MS_MIN: Final = 5_000
"""The client's time-out bounds the wait for replicas, of which there are none; the leader's own work is done whatever
it says. Here that work is one append to the metadata log."""

LEADER_EPOCH_SINCE = 4
"""The first version of ListOffsets whose answer can say a leader epoch."""


async def handle_list_offsets(context: RequestContext, request: ListOffsetsRequest) -> ListOffsetsResponse:
    """Offsets by time, and the special ones, each partition for itself."""
    pace = Pace()
    is_twice: dict[tuple[str, int], bool] = {}
    for topic in request.topics:
        for asked in topic.partitions:
            key = (topic.name, asked.partition_index)
            is_twice[key] = key in is_twice
            await pace.spend(COUNT_US)

    async def answer(name: str, asked: ListOffsetsPartition) -> ListOffsetsPartitionResponse:
        try:
            if is_twice[name, asked.partition_index]:
                raise ApiError(ErrorCode.INVALID_REQUEST, "the partition is named twice")
            return await _list_one(context, name, asked, request.isolation_level)
        except FAILURES as error:
            return ListOffsetsPartitionResponse(partition_index=asked.partition_index, error_code=error_code_of(error))

    response = ListOffsetsResponse()
    for topic in request.topics:
        partitions = await _some_at_once(topic.name, topic.partitions, answer)
        response.topics.append(ListOffsetsTopicResponse(name=topic.name, partitions=partitions))
    await free_in_turns(is_twice)
    return response


async def _some_at_once(
    name: str, partitions: Sequence[Asked], answer: Callable[[str, Asked], Coroutine[Any, Any, Answered]]
) -> list[Answered]:
    """The answers of a topic's partitions, `LOOKUPS_MAX` at the same time and no more tasks than these."""
    answers: list[Answered | None] = [None] * len(partitions)
    left = iter(range(len(partitions)))

    async def work() -> None:
        for place in left:
            answers[place] = await answer(name, partitions[place])
            # Not every answer waits for something.
            await asyncio.sleep(0)

    await asyncio.gather(*(work() for _ in range(min(LOOKUPS_MAX, len(partitions)))))
    return [each for each in answers if each is not None]


async def _list_one(
    context: RequestContext, name: str, asked: ListOffsetsPartition, isolation_level: int
) -> ListOffsetsPartitionResponse:
    timestamp = asked.timestamp
    if timestamp < 0 and context.version < SPECIAL_SINCE.get(timestamp, context.version + 1):
        raise ApiError(ErrorCode.UNSUPPORTED_VERSION, f"timestamp {timestamp} means nothing in this version")
    partition = context.services.partitions.get(name, asked.partition_index)
    partition.check_leader_epoch(asked.current_leader_epoch)
    response = ListOffsetsPartitionResponse(partition_index=asked.partition_index)
    if timestamp == LATEST:
        is_committed = isolation_level == READ_COMMITTED
        response.offset = partition.last_stable_offset if is_committed else partition.high_watermark
        response.leader_epoch = partition.leader_epoch
    elif timestamp in (EARLIEST, EARLIEST_LOCAL):
        # Everything is local: there is one store.
        response.offset = partition.log_start_offset
        response.leader_epoch = partition.epoch_of(response.offset)
    elif timestamp >= 0 or timestamp == NEWEST_TIMESTAMP:
        await _find_by_timestamp(partition, timestamp, response)
    # Nothing is tiered: those offsets do not exist, which is -1.
    if context.version < LEADER_EPOCH_SINCE:
        response.leader_epoch = -1
    return response


async def _find_by_timestamp(partition: Partition, timestamp: int, response: ListOffsetsPartitionResponse) -> None:
    found = await (partition.find_timestamp(timestamp) if timestamp >= 0 else partition.find_newest())
    if found is not None:
        response.timestamp, response.offset = found
        response.leader_epoch = partition.epoch_of(found.offset)


async def handle_offset_for_leader_epoch(
    context: RequestContext, request: OffsetForLeaderEpochRequest
) -> OffsetForLeaderEpochResponse:
    """Where leader epochs ended, for consumers that check whether what they read is still there."""
    response, pace = OffsetForLeaderEpochResponse(), Pace()
    for topic in request.topics:
        answer = OffsetForLeaderTopicResult(topic=topic.topic)
        response.topics.append(answer)
        for asked in topic.partitions:
            answer.partitions.append(_epoch_end(context, topic.topic, asked))
            await pace.spend(EPOCH_US)
    return response


def _epoch_end(context: RequestContext, name: str, asked: OffsetForLeaderPartition) -> EpochEndOffset:
    try:
        partition = context.services.partitions.get(name, asked.partition)
        partition.check_leader_epoch(asked.current_leader_epoch)
    except ApiError as error:
        return EpochEndOffset(partition=asked.partition, error_code=error.code)
    end = partition.epoch_end(asked.leader_epoch)
    return EpochEndOffset(partition=asked.partition, leader_epoch=end.epoch, end_offset=end.end_offset)


async def handle_delete_records(context: RequestContext, request: DeleteRecordsRequest) -> DeleteRecordsResponse:
    """Forget the records below an offset, each partition for itself."""
    deadline = deadline_after(max(request.timeout, TRIM_TIMEOUT_MS_MIN))

    async def answer(name: str, asked: DeleteRecordsPartition) -> DeleteRecordsPartitionResult:
        result = DeleteRecordsPartitionResult(partition_index=asked.partition_index, low_watermark=-1)
        try:
            result.low_watermark = await before(deadline, _delete_one(context, name, asked))
        except FAILURES as error:
            result.error_code = error_code_of(error)
        return result

    return DeleteRecordsResponse(
        topics=[
            DeleteRecordsTopicResult(
                name=topic.name, partitions=await _some_at_once(topic.name, topic.partitions, answer)
            )
            for topic in request.topics
        ]
    )


async def _delete_one(context: RequestContext, name: str, asked: DeleteRecordsPartition) -> int:
    topic = context.services.metadata.image.topic(name)
    if topic is not None and topic.is_internal:
        raise ApiError(ErrorCode.INVALID_TOPIC_EXCEPTION, f"records of the internal topic {name} cannot be deleted")
    partition = context.services.partitions.get(name, asked.partition_index)
    return await partition.delete_records(asked.offset)


HANDLERS: Final[Mapping[type[Message], Handler]] = {
    ListOffsetsRequest: handle_list_offsets,
    OffsetForLeaderEpochRequest: handle_offset_for_leader_epoch,
    DeleteRecordsRequest: handle_delete_records,
}
