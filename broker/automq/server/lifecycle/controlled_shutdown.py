"""An orderly end begins with giving away what the broker leads, where somebody can take it."""

import asyncio
import logging
from typing import Final

from automq.controller.client import ControllerClient
from automq.controller.possessions import has_nothing
from automq.ids import BrokerEpoch, NodeId
from automq.metadata.change import Aspect, MetadataChange
from automq.metadata.publisher import MetadataPublisher
from automq.protocol.errors import ApiError
from automq.s3stream.model import StreamError
from automq.s3stream.ports import StoreError

log = logging.getLogger(__name__)

END_S: Final = 2.0
"""Without an answer by then the broker is fenced after its session, as one that died; its log holds nothing."""
CONTROLLED_SHUTDOWN_S: Final = 10.0
"""What is not taken by then is given on by failover, which is slower and loses nothing."""


async def controlled_shutdown(
    client: ControllerClient, metadata: MetadataPublisher, node: NodeId, epoch: BrokerEpoch
) -> bool:
    """Return once (node, epoch) leads nothing; False when nobody can take it over, or not in time.

    Without another broker nothing is asked and nothing recorded: that is the end of a single one.
    """
    if not any(other.is_usable for other in metadata.image.brokers() if other.node != node):
        return False
    empty: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def check(change: MetadataChange | None = None) -> None:
        if not empty.done() and has_nothing(metadata.image, (node, epoch)):
            empty.set_result(None)

    unsubscribe = metadata.subscribe(check, to=(Aspect.TOPICS, Aspect.MOVES, Aspect.WALS))
    try:
        async with asyncio.timeout(CONTROLLED_SHUTDOWN_S):
            if not await client.stop_broker(node, epoch):
                return False
            check()
            await empty
    except (TimeoutError, ApiError, StreamError, StoreError) as error:
        log.warning("partitions are left to failover", extra={"why": str(error) or "they were not taken in time"})
        return False
    finally:
        unsubscribe()
    return True


async def end_in_order(client: ControllerClient, node: NodeId, epoch: BrokerEpoch) -> None:
    """Have it recorded that (node, epoch), which leads nothing, is gone: nobody waits for it, or reads its log."""
    try:
        async with asyncio.timeout(END_S):
            await client.end_broker(node, epoch)
    except (TimeoutError, ApiError, StreamError, StoreError) as error:
        log.info("the end is not recorded: a session has to pass", extra={"why": str(error) or "no answer in time"})
