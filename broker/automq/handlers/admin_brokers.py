"""Handles UnregisterBroker: a node is forgotten once nothing of it is left.

A tagged field of our own, `broker_epoch`, names an incarnation that is to be ended first: it is fenced unless it sends
a heartbeat, its log is recovered, what it led is given on. Without it only a fenced node that has nothing is forgotten.
Whoever got no answer asks again: the sequence goes on where it was.
"""

from collections.abc import Mapping
from typing import Final

from automq.handlers.context import Handler, RequestContext
from automq.ids import BrokerEpoch, NodeId
from automq.protocol.messages.controller import UnregisterBrokerRequest, UnregisterBrokerResponse
from automq.protocol.schema import Message


async def handle_unregister_broker(
    context: RequestContext, request: UnregisterBrokerRequest
) -> UnregisterBrokerResponse:
    """Returns when the node is forgotten. Raises ApiError: see `Membership.unregister`."""
    epoch = None if request.broker_epoch < 0 else BrokerEpoch(request.broker_epoch)
    await context.services.controller.unregister_broker(NodeId(request.broker_id), epoch)
    return UnregisterBrokerResponse()


HANDLERS: Final[Mapping[type[Message], Handler]] = {UnregisterBrokerRequest: handle_unregister_broker}
