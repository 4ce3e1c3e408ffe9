"""A broker that reaches its controller elsewhere: it reads its own writes, and goes on following without one."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from automq.controller.client import ControllerClient
from automq.controller.link_server import LinkServer
from automq.controller.model import TopicSpec
from automq.controller.service import Controller
from automq.metadata.loader import LogLoader
from automq.runtime.entropy import SeededEntropy
from automq.s3stream.ports import NotController
from automq.server.reach import LocalReach, RemoteReach, Surroundings
from tests.support.link_wire import LinkWire
from tests.support.metadata_worlds import CLUSTER, NODE, LoopClock, World

pytestmark = pytest.mark.looptime


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    yield made
    await made.close()
    assert made.crashes == []


async def surroundings(world: World) -> tuple[Surroundings, Controller]:
    controller, published = world.controller("first")
    around = Surroundings(
        controller=controller,
        published=published,
        store=world.store,
        cluster_id=CLUSTER,
        node=NODE,
        clock=LoopClock(),
        entropy=SeededEntropy("reach"),
        tasks=world.tasks,
    )
    return around, controller


def loader(world: World) -> LogLoader:
    return LogLoader(
        store=world.store,
        cluster_id=CLUSTER,
        entropy=SeededEntropy("loader"),
        patience=world.patience(),
        tasks=world.tasks,
    )


async def test_a4_a_broker_elsewhere_reads_its_own_writes_from_the_bucket(world: World) -> None:
    around, controller = await surroundings(world)
    server = LinkServer(controller=controller, cluster_id=CLUSTER, clock=LoopClock(), tasks=world.tasks)
    wire = LinkWire(server)
    reach = RemoteReach(around, dial=wire.dial)
    known = await loader(world).read()
    await controller.start(owner=None)
    reach.begin(known)
    client = ControllerClient(reach.link, reach.metadata, on_behind=reach.notify)

    began = asyncio.get_running_loop().time()
    await client.register_broker(NODE, rack=None, endpoints=())
    (made,) = await client.create_topics([TopicSpec(name="t", partitions=2)])

    assert made.error is None
    assert reach.metadata is not around.published
    assert reach.metadata.image.topic("t") is not None
    assert asyncio.get_running_loop().time() - began < 0.5
    # The next controller's changes show, though the link has nobody to ask.
    wire.server = None
    second, _ = world.controller("second")
    await second.start(owner=None)
    await second.create_topics([TopicSpec(name="u", partitions=1)])
    await asyncio.sleep(1.1)
    assert reach.metadata.image.topic("u") is not None
    with pytest.raises(NotController):
        await client.create_topics([TopicSpec(name="v", partitions=1)])
    reach.close()
    await second.create_topics([TopicSpec(name="w", partitions=1)])
    await asyncio.sleep(20)
    assert reach.metadata.image.topic("w") is None


async def test_a_broker_whose_controller_is_here_has_its_image(world: World) -> None:
    around, controller = await surroundings(world)
    reach = LocalReach(around)
    await controller.start(owner=None)
    reach.notify()
    assert reach.metadata is around.published
    assert reach.link.leader == controller.leader
    reach.close()
