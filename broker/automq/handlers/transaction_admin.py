"""Handles messages.transaction_admin: producers of a partition; of transactions, that there are none."""

from collections.abc import Mapping
from typing import Final

from automq.handlers.context import Handler, RequestContext
from automq.handlers.errors import error_code_of, error_message_of
from automq.partition.producer_state import ProducerEntry
from automq.protocol.errors import ApiError, ErrorCode
from automq.protocol.messages.transaction_admin import (
    DescribeProducersRequest,
    DescribeProducersResponse,
    DescribeTransactionsRequest,
    DescribeTransactionsResponse,
    ListTransactionsRequest,
    ListTransactionsResponse,
    PartitionResponse,
    ProducerState,
    TopicResponse,
    TransactionState,
)
from automq.protocol.schema import Message
from automq.runtime.turns import Pace, map_in_turns

# About how long a part of an answer takes, and a partition.
PART_US: Final = 2
PARTITION_US: Final = 10

STATES: Final = frozenset(
    {
        "Empty",
        "Ongoing",
        "PrepareCommit",
        "PrepareAbort",
        "CompleteCommit",
        "CompleteAbort",
        "Dead",
        "PrepareEpochFence",
    }
)


async def handle_list_transactions(
    _context: RequestContext, request: ListTransactionsRequest
) -> ListTransactionsResponse:
    """None; states that Kafka does not know are named, as Kafka does."""
    unknown = [state for state in dict.fromkeys(request.state_filters) if state not in STATES]
    return ListTransactionsResponse(unknown_state_filters=unknown)


async def handle_describe_transactions(
    _context: RequestContext, request: DescribeTransactionsRequest
) -> DescribeTransactionsResponse:
    """No transactional id is known."""

    def unknown(name: str) -> TransactionState:
        return TransactionState(transactional_id=name, error_code=ErrorCode.TRANSACTIONAL_ID_NOT_FOUND)

    states = await map_in_turns(unknown, request.transactional_ids, part_us=PART_US)
    return DescribeTransactionsResponse(transaction_states=states)


async def handle_describe_producers(
    context: RequestContext, request: DescribeProducersRequest
) -> DescribeProducersResponse:
    """The idempotent producers that a partition remembers."""
    response, pace = DescribeProducersResponse(), Pace()
    for topic in request.topics:
        answer = TopicResponse(name=topic.name)
        response.topics.append(answer)
        for index in topic.partition_indexes:
            answer.partitions.append(await _producers(context, topic.name, index))
            await pace.spend(PARTITION_US)
    return response


async def _producers(context: RequestContext, name: str, index: int) -> PartitionResponse:
    try:
        partition = context.services.partitions.get(name, index)
    except ApiError as error:
        code, message = error_code_of(error), error_message_of(error)
        if message is None and code is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION:
            message = "This server does not host this topic-partition."
        return PartitionResponse(partition_index=index, error_code=code, error_message=message)
    active = await map_in_turns(_active, partition.producers(), part_us=PART_US)
    return PartitionResponse(partition_index=index, active_producers=active)


def _active(entry: ProducerEntry) -> ProducerState:
    return ProducerState(
        producer_id=entry.producer_id,
        producer_epoch=entry.epoch,
        last_sequence=entry.batches[-1].last_sequence,
        last_timestamp=entry.last_ms,
        coordinator_epoch=-1,
    )


HANDLERS: Final[Mapping[type[Message], Handler]] = {
    ListTransactionsRequest: handle_list_transactions,
    DescribeTransactionsRequest: handle_describe_transactions,
    DescribeProducersRequest: handle_describe_producers,
}
