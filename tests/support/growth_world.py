"""A broker's partitions over a real controller, with as many topics and uploads as a test asks for.

Uploads are synthetic: what is committed is only what the metadata would know of an object.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

from automq.controller.broker_ports import BrokerObjects, BrokerStreams
from automq.controller.model import ControllerSettings, TopicSpec
from automq.ids import BrokerEpoch, Offset, StreamEpoch, StreamId
from automq.partition.content_worker import ContentWorker
from automq.partition.manager import PartitionManager, PartitionSettings
from automq.runtime.budget import ByteBudget
from automq.runtime.entropy import SeededEntropy
from automq.runtime.ledger import MemoryLedger, split_memory
from automq.runtime.tasks import Tasks
from automq.runtime.telemetry import Metrics
from automq.runtime.wall_time import WallTimeGuard
from automq.runtime.workers import InlineWorkers
from automq.s3stream.model import CommitObject, CommitRange, CommitRequest
from automq.s3stream.objects.format import HEADER_BYTES, object_key
from automq.s3stream.ports import ObjectStorage
from automq.s3stream.settings import StorageSettings
from automq.s3stream.storage import Storage
from automq.s3stream.store.memory import MemoryStore
from automq.s3stream.upload.builder import ObjectBuilder
from tests.support.controller_world import ControllerWorld, controller_world
from tests.support.engine import GIB, SMALL, LoopClock, stored
from tests.support.handler_world import CLUSTER, NODE

QUIET = ControllerSettings(snapshot_records=10**9, snapshot_bytes=10**12, snapshot_slots=10**9, sweep_interval_s=10**9)
"""No work in the background that would be measured, too."""


class ManualClock(LoopClock):
    """Wall time is what the test says."""

    def __init__(self) -> None:
        self.now_ms = 1_000_000_000_000

    def wall_ms(self) -> int:
        return self.now_ms

    def boottime(self) -> float:
        return self.now_ms / 1000


class GrowthWorld:
    """See the module's docstring."""

    def __init__(
        self,
        world: ControllerWorld,
        storage: Storage,
        clock: ManualClock,
        partitions: PartitionManager,
        objects: ObjectStorage,
    ) -> None:
        self.controller, self.metadata = world.controller, world.metadata
        self.storage, self.clock = storage, clock
        self.partitions = partitions
        self.epoch: BrokerEpoch = storage.epoch
        self._objects, self._store = storage.read.objects, objects

    async def create_topics(self, count: int, *, configs: dict[str, str | None] | None = None) -> None:
        """Topics of one partition each, open."""
        first = len(self.metadata.image.topic_map)
        specs = [TopicSpec(name=f"t{first + number}", partitions=1, configs=configs or {}) for number in range(count)]
        await self.controller.create_topics(specs)

    async def opened(self, count: int) -> None:
        """Return when so many partitions are open."""
        while len(self.partitions.all()) < count:
            await asyncio.sleep(0)

    @property
    def streams(self) -> Sequence[StreamId]:
        """All of them, ascending."""
        return sorted(self.metadata.image.streams)

    async def upload(self, *, records: int = 1) -> None:
        """One object with the next records of every stream, written just now."""
        image = self.metadata.image
        ranges: list[CommitRange] = []
        for stream in self.streams:
            end = image.streams[stream].end
            ranges.append(
                CommitRange(
                    stream=stream,
                    epoch=StreamEpoch(image.streams[stream].epoch),
                    start=end,
                    end=Offset(end + records),
                    size=100 * records,
                    max_timestamp_ms=self.clock.now_ms,
                    position=HEADER_BYTES + 100 * records * len(ranges),
                )
            )
        (object_id,) = await self._objects.prepare(1)
        await self._commit(CommitObject(object_id=object_id, size=100 * len(ranges), ranges=ranges))

    async def upload_batches(self, streams: Sequence[StreamId], *, batch_bytes: int) -> None:
        """An object that is there, with one batch of one record of each of the streams."""
        (object_id,) = await self._objects.prepare(1)
        builder = ObjectBuilder(CLUSTER, object_id)
        for stream_id in streams:
            stream = self.metadata.image.streams[stream_id]
            batch = stored(stream_id, stream.end, 1, self.clock.now_ms, size=batch_bytes)
            await builder.add_run(stream_id, stream.epoch, [batch])
        await self._store.put(object_key(CLUSTER, object_id), await builder.finish())
        await self._commit(builder.committed)

    async def _commit(self, committed: CommitObject) -> None:
        await self._objects.commit(CommitRequest(objects=[committed], node=NODE, epoch=self.epoch, trim_to=0))
        for partition in self.partitions.all():
            # As if it had been appended here.
            stream = partition._stream
            stream.next_offset = stream.confirmed_offset = self.metadata.image.streams[stream.stream_id].end


@contextlib.asynccontextmanager
async def growth_world(
    *, storage_settings: StorageSettings = SMALL, objects: ObjectStorage | None = None
) -> AsyncIterator[GrowthWorld]:
    """Started and serving. `objects` is the store that the engine sees, else the one of the metadata."""
    crashes: list[str] = []
    tasks = Tasks("growth", on_crash=lambda name, error: crashes.append(f"{name}: {error!r}"))
    store, clock, metrics = MemoryStore(), ManualClock(), Metrics()
    async with controller_world(store, settings=QUIET) as world:
        broker = world.metadata.image.broker(NODE)
        assert broker is not None
        where = {"controller": world.client, "metadata": world.metadata, "node": NODE, "epoch": broker.epoch}
        storage = Storage(
            settings=storage_settings,
            ledger=MemoryLedger({**split_memory(GIB), **storage_settings.limits()}, metrics),
            cluster_id=CLUSTER,
            node=NODE,
            epoch=broker.epoch,
            store=objects or store,
            objects=BrokerObjects(**where),
            streams=BrokerStreams(**where),
            clock=clock,
            entropy=SeededEntropy("growth"),
            tasks=tasks,
            metrics=metrics,
            on_fenced=lambda fenced: crashes.append(str(fenced)),
            on_damaged=lambda damaged: crashes.append(str(damaged)),
        )
        storage.start()
        partitions = PartitionManager(
            node=NODE,
            storage=storage,
            metadata=world.metadata,
            settings=PartitionSettings(),
            clock=clock,
            entropy=SeededEntropy("partitions"),
            tasks=tasks,
            contents=ContentWorker(InlineWorkers(), ByteBudget(1 << 30)),
            metrics=metrics,
            aging=WallTimeGuard(clock, metrics),
        )
        await partitions.start()
        growth = GrowthWorld(world, storage, clock, partitions, objects or store)
        try:
            yield growth
        finally:
            partitions.close()
            await storage.close(upload=False)
            await tasks.close()
            assert crashes == []
