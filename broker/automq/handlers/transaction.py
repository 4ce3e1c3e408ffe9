"""Handles messages.transaction: idempotent producers. Transactions are not served yet and refused as such."""

from collections.abc import Mapping
from typing import Final

from automq.handlers.access import require
from automq.handlers.context import Handler, RequestContext
from automq.handlers.deadline import within
from automq.protocol.errors import ErrorCode
from automq.protocol.messages.transaction import InitProducerIdRequest, InitProducerIdResponse
from automq.protocol.schema import Message
from automq.security.authorizer import CLUSTER, Operation, ResourceType

# The request has no time-out of its own; a producer asks again.
ALLOCATION_TIMEOUT_MS: Final = 25_000


async def handle_init_producer_id(context: RequestContext, request: InitProducerIdRequest) -> InitProducerIdResponse:
    """A fresh id at epoch 0; an idempotent producer that wants to start over gets a new one, too."""
    if request.transactional_id is not None:
        require(context, Operation.WRITE, (ResourceType.TRANSACTIONAL_ID, request.transactional_id))
        code = ErrorCode.INVALID_REQUEST if not request.transactional_id else TRANSACTIONS_REFUSED
        return InitProducerIdResponse(error_code=code, producer_id=-1, producer_epoch=-1)
    if not context.allows_every(Operation.WRITE, ResourceType.TOPIC):
        require(context, Operation.IDEMPOTENT_WRITE, CLUSTER)
    producer_id = await within(ALLOCATION_TIMEOUT_MS, context.services.producer_ids.take())
    return InitProducerIdResponse(producer_id=producer_id, producer_epoch=0)


TRANSACTIONS_REFUSED: Final = ErrorCode.UNSUPPORTED_VERSION
"""Fatal in every client. The response has no room for a sentence; FindCoordinator, which comes first, says it."""

HANDLERS: Final[Mapping[type[Message], Handler]] = {InitProducerIdRequest: handle_init_producer_id}
