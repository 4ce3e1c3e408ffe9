"""A node is forgotten by Kafka's own request, with or without the incarnation that is to be ended first."""

from types import SimpleNamespace
from typing import cast

import pytest

from automq.handlers.admin_brokers import handle_unregister_broker
from automq.handlers.context import RequestContext
from automq.ids import NodeId
from automq.protocol.apis import APIS, ApiKey, encode_request
from automq.protocol.codec import decode
from automq.protocol.errors import ErrorCode
from automq.protocol.messages.controller import UnregisterBrokerRequest
from tests.support.data_path import MemoryTransport
from tests.support.moving_world import MovingWorld


@pytest.mark.parametrize(("wire", "epoch"), [(-1, None), (0, 0), (2**40, 2**40)])
async def test_the_epoch_is_passed_on_where_there_is_one(wire: int, epoch: int | None) -> None:
    asked: list[tuple[int, int | None]] = []

    async def unregister(node: int, found: int | None) -> None:
        asked.append((node, found))

    context = SimpleNamespace(services=SimpleNamespace(controller=SimpleNamespace(unregister_broker=unregister)))
    request = UnregisterBrokerRequest(broker_id=5, broker_epoch=wire)
    answer = await handle_unregister_broker(cast(RequestContext, context), request)
    assert (answer.error_code, answer.error_message) == (ErrorCode.NONE, None)
    assert asked == [(5, epoch)]


def test_the_epoch_is_a_tagged_field_that_others_pass_over() -> None:
    api = APIS[ApiKey.UNREGISTER_BROKER]
    bare = encode_request(api, 0, 1, None, UnregisterBrokerRequest(broker_id=5))
    tagged = encode_request(api, 0, 1, None, UnregisterBrokerRequest(broker_id=5, broker_epoch=7))
    assert len(tagged) > len(bare)
    body = tagged[len(bare) - 5 :]
    assert decode(UnregisterBrokerRequest, 0, memoryview(body), 0)[0] == UnregisterBrokerRequest(
        broker_id=5, broker_epoch=7
    )


async def refusal(client: MemoryTransport, node: int, epoch: int = -1) -> tuple[int, str | None]:
    request = UnregisterBrokerRequest(broker_id=node, broker_epoch=epoch)
    answer = await client.call(ApiKey.UNREGISTER_BROKER, 0, request)
    return answer.error_code, answer.error_message


@pytest.mark.looptime
async def test_refusals_are_answered_with_code_and_reason_and_a_silent_node_is_forgotten() -> None:
    world = await MovingWorld().start(partitions=2)
    first, second = world.brokers[NodeId(1)], world.brokers[NodeId(2)]
    client = first.connect()
    assert await refusal(client, 9) == (ErrorCode.BROKER_ID_NOT_REGISTERED, "broker 9 is not registered")
    code, why = await refusal(client, 2)
    assert code == ErrorCode.INVALID_REQUEST
    assert why is not None
    assert "is alive" in why

    # Nothing speaks for the second broker in this world: it is ended, and its log has to be recovered.
    await second.die()
    del world.brokers[NodeId(2)]
    asking = first.tasks.spawn(refusal(client, 2, second.epoch), name="forget")
    await world.until(lambda: world.metadata.image.wals[second.node, second.epoch].recoverer is not None)
    await first.storage.recover(second.node, second.epoch, 0)
    us = (first.node, first.epoch)
    await world.controller.wal_recovered(second.node, second.epoch, recoverer=us)
    assert await asking == (ErrorCode.NONE, None)
    assert world.metadata.image.broker(NodeId(2)) is None
    await world.close()
