"""A group coordinator over partitions in memory, for tests of what calls it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping

from automq.coordinators.group.coordinator import OFFSETS_TOPIC, GroupCoordinator
from automq.coordinators.group.model import GroupSettings
from automq.ids import StreamEpoch
from automq.metadata.image import MetadataImage
from automq.metadata.publisher import MetadataPublisher
from automq.runtime.clock import SystemClock
from automq.runtime.tasks import Tasks
from automq.runtime.telemetry import Metrics
from automq.runtime.wall_time import WallTimeGuard
from tests.support.handler_world import NODE
from tests.support.offsets_partitions import Disk, MemoryPartitions


async def no_topic(*, name: str, partitions: int, replication_factor: int, configs: Mapping[str, str]) -> None:
    """The image has the topic already."""
    raise AssertionError(f"{name} was to be made")


@contextlib.asynccontextmanager
async def a_coordinator(image: MetadataImage) -> AsyncIterator[GroupCoordinator]:
    """Loaded, with an instant disk and no initial delay."""
    disk = Disk()
    partitions = MemoryPartitions(disk)
    topic = image.topic(OFFSETS_TOPIC)
    for part in topic.partitions if topic else ():
        partitions.epochs[part.index] = StreamEpoch(part.leader_epoch)
    crashes: list[str] = []
    tasks = Tasks("test", on_crash=lambda name, error: crashes.append(f"{name}: {error!r}"))
    coordinator = GroupCoordinator(
        node=NODE,
        settings=GroupSettings(initial_rebalance_delay_ms=0),
        metadata=MetadataPublisher(image),
        partitions=partitions,
        when_durable=disk.when_durable,
        create_topic=no_topic,
        clock=SystemClock(),
        aging=WallTimeGuard(SystemClock(), Metrics()),
        tasks=tasks,
        metrics=Metrics(),
    )
    coordinator.start()
    for _ in range(10):
        await asyncio.sleep(0)
    try:
        yield coordinator
    finally:
        coordinator.close()
        await tasks.close()
        assert crashes == []
