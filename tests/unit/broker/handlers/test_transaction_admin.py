"""Of transactions there are none; producers of a partition are shown."""

from types import SimpleNamespace

from automq.handlers.transaction_admin import (
    handle_describe_producers,
    handle_describe_transactions,
    handle_list_transactions,
)
from automq.ids import Offset
from automq.partition.producer_state import ProducerState
from automq.protocol.errors import ApiError, ErrorCode
from automq.protocol.messages import transaction_admin as messages
from tests.support.handler_world import context_of, image_of


class Partitions:
    """One partition with one producer."""

    def get(self, _name: str, index: int) -> SimpleNamespace:
        if index:
            raise ApiError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "no")
        state = ProducerState()
        state.record(9, 2, 5, 3, first_offset=Offset(0), append_time_ms=-1, now_ms=1234)
        return SimpleNamespace(producers=lambda: list(state))


async def test_no_transactions_are_listed_and_unknown_states_are_named() -> None:
    answer = await handle_list_transactions(
        context_of(image_of({}), version=2), messages.ListTransactionsRequest(state_filters=["Ongoing", "Asleep"])
    )
    assert (answer.transaction_states, answer.unknown_state_filters) == ([], ["Asleep"])


async def test_no_transactional_id_is_known() -> None:
    answer = await handle_describe_transactions(
        context_of(image_of({}), version=0), messages.DescribeTransactionsRequest(transactional_ids=["a"])
    )
    assert [(state.transactional_id, state.error_code) for state in answer.transaction_states] == [
        ("a", ErrorCode.TRANSACTIONAL_ID_NOT_FOUND)
    ]


async def test_producers_of_a_partition_are_shown() -> None:
    context = context_of(image_of({"t": 1}), version=0, partitions=Partitions())
    asked = messages.DescribeProducersRequest(topics=[messages.TopicRequest(name="t", partition_indexes=[0, 3])])
    first, second = (await handle_describe_producers(context, asked)).topics[0].partitions
    (producer,) = first.active_producers
    assert (producer.producer_id, producer.producer_epoch, producer.last_sequence, producer.last_timestamp) == (
        9,
        2,
        7,
        1234,
    )
    assert (second.error_code, second.error_message) == (ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "no")
