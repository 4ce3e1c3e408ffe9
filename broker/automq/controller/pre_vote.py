"""A candidate's question to the other brokers: whether they hear the controller."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Final

from automq.controller import wire
from automq.controller.framing import FramedConnection
from automq.ids import ClusterId, ControllerEpoch, NodeId
from automq.metadata.claim import ClaimantAddress
from automq.metadata.image import MetadataImage
from automq.metadata.records import INTERNAL_LISTENER
from automq.runtime.tasks import Tasks

ANSWER_S: Final = 1.0
"""A broker that is alive answers in far less."""

Connect = Callable[[ClaimantAddress, Callable[[], asyncio.BaseProtocol]], Awaitable[None]]
"""Connects a protocol to another broker's internal listener. Raises OSError."""


def other_listeners(image: MetadataImage, node: NodeId) -> dict[NodeId, ClaimantAddress]:
    """Where the other brokers that are not fenced take connections of brokers; sorted."""
    return {
        broker.node: ClaimantAddress(point.host, point.port)
        for broker in sorted(image.brokers(), key=lambda broker: broker.node)
        if broker.node != node and not broker.fenced
        for point in broker.endpoints
        if point.listener_name == INTERNAL_LISTENER
    }


async def ask_others(
    others: Sequence[ClaimantAddress], *, cluster_id: ClusterId, connect: Connect, tasks: Tasks
) -> Sequence[ControllerEpoch | None]:
    """What those that answer hear: the epoch of a controller, or nothing. At once, so it takes no longer than one."""
    asked = [
        tasks.spawn(_ask(where, cluster_id=cluster_id, connect=connect), name=f"ask {where.host}:{where.port}")
        for where in others
    ]
    if asked:
        await asyncio.wait(asked)
    return [answer.epoch for task in asked if (answer := task.result()) is not None]


async def _ask(where: ClaimantAddress, *, cluster_id: ClusterId, connect: Connect) -> wire.Hear | None:
    """None when it does not answer."""
    answered: asyncio.Future[wire.Hear] = asyncio.get_running_loop().create_future()
    question = wire.encode_frame(wire.DoYouHear(cluster_id))

    def on_frame(body: bytes) -> None:
        with suppress(wire.MalformedFrame):
            message = wire.decode_message(body)
            if isinstance(message, wire.Hear) and not answered.done():
                answered.set_result(message)
        frames.close()

    def on_lost() -> None:
        if not answered.done():
            answered.cancel()

    frames = FramedConnection(on_made=lambda: frames.send(question), on_frame=on_frame, on_lost=on_lost)
    try:
        async with asyncio.timeout(ANSWER_S):
            await connect(where, lambda: frames)
            await asyncio.wait([answered])
    except (TimeoutError, OSError):
        return None
    finally:
        frames.close()
    return None if answered.cancelled() else answered.result()
