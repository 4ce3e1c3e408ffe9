"""Producer ids, and transactions that are refused."""

from automq.controller.model import ProducerIdBlock
from automq.handlers.producer_ids import ProducerIds
from automq.handlers.transaction import handle_init_producer_id
from automq.protocol.errors import ErrorCode
from automq.protocol.messages.transaction import InitProducerIdRequest
from tests.support.handler_world import context_of, image_of


class Blocks:
    def __init__(self, size: int) -> None:
        self.size = size
        self.given = 0

    async def __call__(self, count: int) -> ProducerIdBlock:
        self.given += 1
        return ProducerIdBlock(first=(self.given - 1) * self.size, count=self.size)


async def test_ids_come_from_blocks_in_order() -> None:
    blocks = Blocks(2)
    ids = ProducerIds(blocks)

    assert [await ids.take() for _ in range(5)] == [0, 1, 2, 3, 4]
    assert blocks.given == 3


async def test_idempotent_producer_gets_an_id_at_epoch_0() -> None:
    context = context_of(image_of({}), version=4, producer_ids=ProducerIds(Blocks(10)))

    first = await handle_init_producer_id(context, InitProducerIdRequest(transactional_id=None))
    again = await handle_init_producer_id(
        context, InitProducerIdRequest(transactional_id=None, producer_id=first.producer_id, producer_epoch=0)
    )

    assert (first.error_code, first.producer_id, first.producer_epoch) == (ErrorCode.NONE, 0, 0)
    assert (again.producer_id, again.producer_epoch) == (1, 0)


async def test_transactional_id_is_refused_for_good() -> None:
    context = context_of(image_of({}), version=4)

    answer = await handle_init_producer_id(context, InitProducerIdRequest(transactional_id="payments"))

    assert answer.error_code == ErrorCode.UNSUPPORTED_VERSION
    assert answer.producer_id == -1


async def test_empty_transactional_id_is_a_malformed_request() -> None:
    answer = await handle_init_producer_id(
        context_of(image_of({}), version=4), InitProducerIdRequest(transactional_id="")
    )

    assert answer.error_code == ErrorCode.INVALID_REQUEST
