"""A broker that is to end gives away what it leads."""

import pytest

from automq.ids import NodeId
from automq.server.lifecycle.controlled_shutdown import controlled_shutdown
from tests.support.moving_world import MovingBroker, MovingWorld

pytestmark = pytest.mark.looptime

FIRST, SECOND = NodeId(1), NodeId(2)


async def shuts_down_after_moves(world: MovingWorld, broker: MovingBroker) -> bool:
    return await controlled_shutdown(broker.client, world.metadata, broker.node, broker.epoch)


async def test_everything_is_led_by_others_before_the_end() -> None:
    world = await MovingWorld().start(partitions=5)
    assert await shuts_down_after_moves(world, world.brokers[FIRST])
    assert dict(world.metadata.image.leader_counts) == {SECOND: 5}
    assert not world.metadata.image.moves
    # Said twice it is as true as before.
    assert await shuts_down_after_moves(world, world.brokers[FIRST])
    await world.close()


async def test_a_single_broker_asks_nobody_and_records_nothing() -> None:
    world = await MovingWorld().start(nodes=1)
    before = world.metadata.image.record_number
    assert not await shuts_down_after_moves(world, world.brokers[FIRST])
    assert world.metadata.image.record_number == before
    await world.close()


async def test_what_is_not_taken_in_time_is_left_to_failover(caplog: pytest.LogCaptureFixture) -> None:
    world = await MovingWorld().start()
    world.brokers[FIRST].partitions._departures.close()
    assert not await shuts_down_after_moves(world, world.brokers[FIRST])
    assert "partitions are left to failover" in caplog.text
    await world.close()


async def test_a_broker_that_is_fenced_by_now_gives_nothing_away() -> None:
    world = await MovingWorld().start()
    first, second = world.brokers[FIRST], world.brokers[SECOND]
    await world.controller.fence_broker(FIRST, first.epoch, recoverer=(SECOND, second.epoch))
    assert not await shuts_down_after_moves(world, first)
    await world.close()
