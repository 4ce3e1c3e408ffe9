"""The balancer is asked through any broker, by a field of DescribeCluster that others pass over."""

import json

import pytest

from automq.ids import NodeId
from automq.protocol.apis import ApiKey
from automq.protocol.messages.admin import (
    IncrementalAlterableConfig,
    IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResource,
)
from automq.protocol.messages.discovery import DescribeClusterRequest
from tests.support.data_path import MemoryTransport
from tests.support.moving_world import MovingWorld

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]


async def alter(client: MemoryTransport, name: str, value: str) -> tuple[int, str | None]:
    change = IncrementalAlterableConfig(name="automq.balancer.paused", config_operation=0, value=value)
    resource = IncrementalAlterConfigsResource(resource_type=4, resource_name=name, configs=[change])
    answer = await client.call(
        ApiKey.INCREMENTAL_ALTER_CONFIGS, 1, IncrementalAlterConfigsRequest(resources=[resource])
    )
    (result,) = answer.responses
    return result.error_code, result.error_message


@pytest.mark.parametrize("node", [1, 2])
async def test_any_broker_tells_of_the_balancer_and_only_who_asks_is_told(node: int) -> None:
    world = await MovingWorld().start(partitions=2)
    client = world.brokers[NodeId(node)].connect()
    bare = await client.call(ApiKey.DESCRIBE_CLUSTER, 0, DescribeClusterRequest())
    assert bare.balancer is None
    for version in (0, 1, 2):
        answer = await client.call(ApiKey.DESCRIBE_CLUSTER, version, DescribeClusterRequest(balancer_moves=5))
        view = json.loads(answer.balancer)
        assert [broker["broker"] for broker in view["brokers"]] == [1, 2]
        assert view["moves"] == []
        assert view["paused"] is False
    await world.close()


async def test_all_brokers_pause_together_or_not_at_all() -> None:
    world = await MovingWorld().start(partitions=2)
    client = world.brokers[NodeId(2)].connect()
    assert (await alter(client, "", "true"))[0] == 0
    answer = await client.call(ApiKey.DESCRIBE_CLUSTER, 0, DescribeClusterRequest(balancer_moves=0))
    assert json.loads(answer.balancer)["paused"] is True
    code, _why = await alter(client, "1", "true")
    assert code != 0
    assert (await alter(client, "", "perhaps"))[0] != 0
    await world.close()
