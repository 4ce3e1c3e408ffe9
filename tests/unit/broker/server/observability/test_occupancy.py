"""A broker that is to go says when nothing is left of it here, and brings the last of it about."""

import pytest

from automq.controller.model import ConfigAlteration, ConfigChange
from automq.ids import BrokerEpoch, NodeId
from automq.metadata.image import BROKER_RESOURCE, DRAINING_CONFIG, EMPTY
from automq.protocol.records import Record, build_batch
from automq.runtime.telemetry import Metrics
from automq.server.observability.occupancy import Occupancy, OccupancyMetrics, OccupancyWatch, occupancy
from tests.support.moving_world import MovingBroker, MovingWorld

pytestmark = pytest.mark.looptime

FIRST, SECOND = NodeId(1), NodeId(2)


def watched(world: MovingWorld, broker: MovingBroker) -> OccupancyWatch:
    return OccupancyWatch(
        metadata=world.metadata,
        node=broker.node,
        epoch=broker.epoch,
        storage=lambda: broker.storage,
        tasks=broker.tasks,
    )


async def drain(world: MovingWorld, node: NodeId) -> None:
    change = ConfigChange(name=DRAINING_CONFIG, operation=0, value="true")
    wanted = ConfigAlteration(resource_type=BROKER_RESOURCE, resource_name=str(node), changes=[change])
    (result,) = await world.controller.alter_configs([wanted])
    assert result.error is None


async def test_a_drained_broker_becomes_empty_with_everything_uploaded() -> None:
    world = await MovingWorld().start(partitions=3)
    first = world.brokers[FIRST]
    watch = watched(world, first)
    batch = build_batch([Record(key=b"k", value=bytes(500), timestamp=7)])
    first.partition(0).stream.append(memoryview(batch), count=1, max_timestamp_ms=7)
    assert watch.now.led == 3
    assert watch.now.not_empty is not None
    assert watch.now.not_empty.startswith("it leads 3 partitions; it is neither being drained nor told to stop; ")

    await drain(world, FIRST)
    await world.until(lambda: watch.now.is_empty)

    assert (watch.now.led, watch.now.epoch) == (0, first.epoch)
    wal = world.metadata.image.wals[FIRST, first.epoch]
    assert wal.trim_to == first.storage.append.wal.next_sequence > 0
    watch.close()
    await world.close()


async def test_what_of_a_deleted_topic_lies_in_the_log_is_uploaded_when_the_broker_is_to_go() -> None:
    world = await MovingWorld().start(partitions=1)
    first = world.brokers[FIRST]
    watch = watched(world, first)
    batch = build_batch([Record(key=b"k", value=bytes(500), timestamp=7)])
    first.partition(0).stream.append(memoryview(batch), count=1, max_timestamp_ms=7)
    (gone,) = await world.controller.delete_topics(["orders"])
    assert gone.error is None
    await world.until(lambda: watch.now.led == 0)
    assert not first.storage.append.wal.is_trimmed

    await drain(world, FIRST)

    await world.until(lambda: watch.now.is_empty)
    assert first.storage.append.wal.is_trimmed
    watch.close()
    await world.close()


async def test_nobody_who_stays_is_empty_however_little_it_has() -> None:
    world = await MovingWorld().start()
    watch = watched(world, world.brokers[SECOND])
    assert watch.now == Occupancy(
        epoch=world.brokers[SECOND].epoch, led=0, not_empty="it is neither being drained nor told to stop"
    )
    watch.close()
    await world.close()


def test_an_image_that_knows_nothing_of_the_broker_makes_nobody_empty() -> None:
    assert not occupancy(EMPTY, FIRST, BrokerEpoch(1), is_uploaded=True).is_empty


def test_metrics_show_the_same_once_there_is_something_to_show() -> None:
    metrics, shown = Metrics(), list[Occupancy]()
    OccupancyMetrics(metrics, lambda: shown[-1] if shown else None)
    value = metrics.registry.get_sample_value
    assert value("automq_led_partitions") is None
    shown.append(Occupancy(epoch=BrokerEpoch(7), led=2, not_empty="it leads 2 partitions"))
    assert (value("automq_led_partitions"), value("automq_broker_empty"), value("automq_broker_epoch")) == (2, 0, 7)
    shown.append(Occupancy(epoch=BrokerEpoch(7), led=0, not_empty=None))
    assert value("automq_broker_empty") == 1
