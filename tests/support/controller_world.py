"""A real controller over a store in memory, for tests of handlers that change something."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from automq.controller.client import ControllerClient
from automq.controller.controller_metrics import ControllerMetrics
from automq.controller.model import ControllerSettings
from automq.controller.service import Controller
from automq.controller.serving import LocalLink
from automq.handlers.context import RequestContext
from automq.handlers.producer_ids import ProducerIds
from automq.metadata.publisher import MetadataPublisher
from automq.metadata.records import Endpoint
from automq.runtime.clock import SystemClock
from automq.runtime.entropy import SeededEntropy
from automq.runtime.tasks import Tasks
from automq.runtime.telemetry import Metrics
from automq.s3stream.objects.format import object_key
from automq.s3stream.ports import ObjectStorage
from automq.s3stream.store.memory import MemoryStore
from tests.support.handler_world import CLUSTER, NODE, context_of

ENDPOINTS = (Endpoint("PLAINTEXT", "here", 9092),)


class ControllerWorld:
    """A controller with one registered broker, and requests to it."""

    def __init__(self, controller: Controller, metadata: MetadataPublisher) -> None:
        self.controller = controller
        self.metadata = metadata
        self.client = ControllerClient(LocalLink(controller), metadata)
        self.crashes: list[BaseException] = []

    def context(self, version: int, **changed: Any) -> RequestContext:
        """A request in `version`."""
        context = context_of(self.metadata.image, version=version, controller=self.client, **changed)
        context.services.metadata = self.metadata
        return context


@contextlib.asynccontextmanager
async def controller_world(
    store: ObjectStorage | None = None, *, settings: ControllerSettings | None = None
) -> AsyncIterator[ControllerWorld]:
    """Started, registered, with its streams open; ended afterwards."""
    crashes: list[BaseException] = []
    tasks = Tasks("test", on_crash=lambda _name, error: crashes.append(error))
    metadata = MetadataPublisher()
    controller = Controller(
        settings=settings or ControllerSettings(),
        cluster_id=CLUSTER,
        node=NODE,
        store=MemoryStore() if store is None else store,
        publisher=metadata,
        key_of=lambda object_id: object_key(CLUSTER, object_id),
        clock=SystemClock(),
        entropy=SeededEntropy(1),
        tasks=tasks,
        metrics=ControllerMetrics(Metrics(), lambda: metadata.image),
        on_fenced=lambda _reason: None,
        on_damaged=lambda _error: None,
        on_store=lambda _error: None,
    )
    await controller.start(owner=None)
    registration = await controller.register_broker(NODE, rack=None, endpoints=ENDPOINTS)
    world = ControllerWorld(controller, metadata)
    try:
        yield world
    finally:
        await controller.close()
        await tasks.close()
        assert not crashes
    assert registration.epoch


async def producer_ids_of(world: ControllerWorld) -> ProducerIds:
    """Ids from the world's controller."""
    broker = world.metadata.image.broker(NODE)
    assert broker is not None
    return ProducerIds(lambda count: world.controller.allocate_producer_ids(NODE, broker.epoch, count))
