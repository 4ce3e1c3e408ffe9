"""The engine's ports: their errors are those that the ports promise."""

import asyncio

import pytest

from automq.controller.broker_ports import BrokerObjects
from automq.controller.client import ControllerClient
from automq.controller.serving import LocalLink
from automq.ids import BrokerEpoch
from automq.replicated.machine import LogBusy, LogFailed, LogFenced
from automq.s3stream.model import BrokerFenced, CommitRequest, StoreDamaged
from automq.s3stream.ports import NotController, StoreUnavailable
from tests.support.metadata_worlds import CLUSTER, NODE, FlakyStore, World

pytestmark = pytest.mark.looptime


async def a_broker(world: World) -> tuple[BrokerObjects, BrokerEpoch]:
    controller, publisher = world.controller("first")
    await controller.start(owner=None)
    registration = await controller.register_broker(NODE, rack=None, endpoints=())
    client = ControllerClient(LocalLink(controller), publisher)
    objects = BrokerObjects(controller=client, metadata=publisher, node=NODE, epoch=registration.epoch)
    return objects, registration.epoch


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (LogFenced("another controller"), NotController),
        (LogFailed("closed"), NotController),
        (LogBusy("too much waits"), NotController),
        (StoreDamaged("half a slot", key="k"), StoreDamaged),
    ],
)
async def test_b17_every_error_of_the_log_becomes_one_of_the_port(
    monkeypatch: pytest.MonkeyPatch, error: Exception, told: type[Exception]
) -> None:
    world = World()
    objects, epoch = await a_broker(world)

    async def fail(*_args: object, **_options: object) -> None:
        raise error

    for method in ("call", "call_in_turns", "wait_until_durable"):
        monkeypatch.setattr(world.controllers[-1]._driver, method, fail)
    request = CommitRequest(objects=[], node=NODE, epoch=epoch, trim_to=1)
    for attempt in (objects.prepare(1), objects.commit(request), objects.confirm()):
        with pytest.raises(told):
            await attempt
    await world.close()


async def test_who_may_act_is_confirmed_by_a_look_at_the_log() -> None:
    world = World()
    objects, _ = await a_broker(world)
    assert isinstance(world.store, FlakyStore)

    await objects.confirm()

    world.store.is_down = True
    with pytest.raises(StoreUnavailable):
        await objects.confirm()
    await world.close()


async def test_a3_a_controller_that_lost_its_claim_says_so_and_fences_nobody() -> None:
    world = World()
    objects, _ = await a_broker(world)
    second, _ = world.controller("second")
    await second.start(owner=None)

    for attempt in (objects.confirm(), objects.prepare(1)):
        with pytest.raises(NotController):
            await attempt
    await world.close()


async def test_who_was_superseded_is_told_though_nothing_was_written_since() -> None:
    world = World()
    objects, _ = await a_broker(world)
    await world.controllers[-1].register_broker(NODE, rack=None, endpoints=())

    for attempt in (objects.confirm(), objects.prepare(1)):
        with pytest.raises(BrokerFenced):
            await attempt
    await world.close()


async def test_lost_metadata_are_no_fence() -> None:
    world = World()
    objects, _ = await a_broker(world)
    assert isinstance(world.store, FlakyStore)
    await world.store.inner.delete([info.key for info in await world.store.inner.list(f"{CLUSTER}/")])

    await objects.confirm()
    await world.close()


async def test_confirming_ends_while_the_log_is_never_idle() -> None:
    world = World()
    objects, _ = await a_broker(world)
    written = 0

    async def write() -> None:
        nonlocal written
        for _ in range(200):
            await objects.prepare(1)
            written += 1

    writers = [asyncio.get_running_loop().create_task(write()) for _ in range(3)]
    for _ in range(5):
        await objects.confirm()

    assert written < 600
    await asyncio.gather(*writers)
    await world.close()
