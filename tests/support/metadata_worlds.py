"""Images, controllers and a forgetful store for tests of metadata and controller."""

import asyncio
from collections import Counter, deque
from collections.abc import Sequence

from automq.controller.controller_metrics import ControllerMetrics
from automq.controller.model import ControllerSettings, Registration
from automq.controller.service import Controller
from automq.ids import ClusterId, NodeId, Offset
from automq.metadata.checkpoint_refs import unpack_refs
from automq.metadata.image import MetadataImage, collision_key, may_collide
from automq.metadata.patience import Patience
from automq.metadata.publisher import MetadataPublisher
from automq.runtime.entropy import SeededEntropy
from automq.runtime.tasks import Tasks
from automq.runtime.telemetry import Metrics
from automq.s3stream.model import StoreDamaged
from automq.s3stream.ports import (
    Buffer,
    ObjectInfo,
    ObjectStorage,
    StoreConflict,
    StoreError,
    StoreUnavailable,
    UnfinishedUpload,
)
from automq.s3stream.store.memory import MemoryStore

CLUSTER = ClusterId("abcdefghijklmnopqrstuv")
NODE = NodeId(1)


class LoopClock:
    """Follows the loop's time, which looptime makes virtual."""

    def wall_ms(self) -> int:
        return 1_700_000_000_000 + int(self.monotonic() * 1000)

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    def boottime(self) -> float:
        return self.monotonic()


class FlakyStore:
    """A store in memory whose writes have the fates that a test names, one an operation; then they succeed.

    "lost" is applied and not answered, "refused" is not applied, "late" is applied when the test says `land`,
    "conflict" is a 409, "half" keeps the first half of the body and does not answer. With `is_down` nothing works.
    """

    def __init__(self, inner: MemoryStore | None = None) -> None:
        self.inner = MemoryStore() if inner is None else inner
        self.fates: deque[str] = deque()
        self.late: list[tuple[str, bytes]] = []
        self.writes: list[str] = []
        self.is_down = False

    async def get(self, key: str) -> bytes:
        await self._arrive()
        return await self.inner.get(key)

    async def get_range(self, key: str, start: int, end: int) -> Buffer:
        await self._arrive()
        return await self.inner.get_range(key, start, end)

    async def list(self, prefix: str, *, start_after: str = "", limit: int = 1_000_000) -> list[ObjectInfo]:
        await self._arrive()
        return await self.inner.list(prefix, start_after=start_after, limit=limit)

    async def put(self, key: str, body: Sequence[Buffer]) -> None:
        await self._arrive()
        self.writes.append(key)
        await self.inner.put(key, body)

    async def delete(self, keys: Sequence[str]) -> None:
        await self._arrive()
        self.writes.extend(keys)
        await self.inner.delete(keys)

    async def create_bulk(self, key: str, body: Sequence[Buffer]) -> None:
        await self._arrive()
        self.writes.append(key)
        await self.inner.create_bulk(key, body)

    async def time_ms(self) -> int | None:
        await self._arrive()
        return await self.inner.time_ms()

    async def list_uploads(self, prefix: str) -> Sequence[UnfinishedUpload]:
        await self._arrive()
        return await self.inner.list_uploads(prefix)

    async def abort_uploads(self, uploads: Sequence[UnfinishedUpload]) -> None:
        await self._arrive()
        await self.inner.abort_uploads(uploads)

    async def create(self, key: str, body: Sequence[Buffer]) -> None:
        await self._arrive()
        self.writes.append(key)
        fate = self.fates.popleft() if self.fates else "ok"
        if fate == "conflict":
            raise StoreConflict("409")
        if fate in ("ok", "lost"):
            await self.inner.create(key, body)
        if fate == "half":
            whole = b"".join(body)
            await self.inner.create(key, [whole[: len(whole) // 2]])
        if fate == "late":
            self.late.append((key, b"".join(body)))
        if fate != "ok":
            raise StoreUnavailable(fate)

    async def land(self) -> None:
        """Apply what was on its way, as creates that nobody waits for."""
        for key, body in self.late:
            if not await self.inner.list(key, limit=1):
                await self.inner.put(key, [body])
        self.late.clear()

    async def close(self) -> None:
        """Nothing to let go of."""

    async def _arrive(self) -> None:
        await asyncio.sleep(0)
        if self.is_down:
            raise StoreUnavailable("down")


class World:
    """One store and the controllers that come and go on it."""

    def __init__(self, store: ObjectStorage | None = None) -> None:
        self.store: ObjectStorage = FlakyStore() if store is None else store
        self.crashes: list[BaseException] = []
        self.store_errors: list[StoreError | None] = []
        self.fenced: list[tuple[str, str]] = []
        self.damages: list[StoreDamaged] = []
        self.tasks = Tasks("test", on_crash=lambda _name, error: self.crashes.append(error))
        self.controllers: list[Controller] = []

    def patience(self, name: str = "patience") -> Patience:
        """Reports into `store_errors`."""
        return Patience(entropy=SeededEntropy(name), on_store=self.store_errors.append)

    def controller(
        self, name: str, *, settings: ControllerSettings | None = None, node: NodeId = NODE
    ) -> tuple[Controller, MetadataPublisher]:
        """Another one, not started."""
        publisher = MetadataPublisher()
        made = Controller(
            settings=settings or ControllerSettings(),
            cluster_id=CLUSTER,
            node=node,
            store=self.store,
            publisher=publisher,
            key_of=lambda object_id: f"{CLUSTER}/data/{object_id:020d}",
            clock=LoopClock(),
            entropy=SeededEntropy(name),
            tasks=self.tasks,
            metrics=ControllerMetrics(Metrics(), lambda: publisher.image),
            on_fenced=lambda reason: self.fenced.append((name, reason)),
            on_damaged=self.damages.append,
            on_store=self.store_errors.append,
        )
        self.controllers.append(made)
        return made, publisher

    async def started(
        self, name: str, *, settings: ControllerSettings | None = None, owner: str | None = None
    ) -> tuple[Controller, MetadataPublisher]:
        """Another one, which has taken over."""
        made, publisher = self.controller(name, settings=settings)
        await made.start(owner=owner)
        return made, publisher

    async def serving(self, controller: Controller, node: NodeId = NODE) -> Registration:
        """Register `node`, say that its logs are recovered, open its streams."""
        registration = await controller.register_broker(node, rack=None, endpoints=())
        us = (node, registration.epoch)
        for wal in registration.wals:
            await controller.wal_recovered(wal.node, wal.epoch, recoverer=us)
        await controller.open_streams(*us)
        return registration

    async def close(self) -> None:
        """End everything; a crash of a task fails the test."""
        for controller in self.controllers:
            await controller.close()
        await self.tasks.close()
        assert not self.crashes, self.crashes


def check(image: MetadataImage) -> None:
    """What holds for every image."""
    references: Counter[int] = Counter()
    checkpoints: Counter[int] = Counter()
    for stream_id, stream in image.streams.items():
        assert stream.stream == stream_id < image.next_stream
        part = image.topic_map[stream.topic_id].partitions[stream.partition]
        assert (part.stream, part.leader, part.leader_epoch) == (stream_id, stream.owner, stream.epoch)
        references.update(stream.held.objects)
        pieces = list(unpack_refs(stream.checkpoints))
        references.update(object_id for object_id, _ in pieces)
        checkpoints.update(object_id for object_id, _ in pieces)
        offsets = [offset for _, offset in pieces]
        assert offsets == sorted(offsets)
        assert all(0 <= offset <= stream.end for offset in offsets)
        spans = list(image.spans_of(stream_id))
        assert stream.held.stored_bytes == sum(span.size for span in spans)
        assert stream.held.stored_offsets == sum(span.end - span.start for span in spans)
        for before, after in zip(spans, spans[1:], strict=False):
            assert before.end <= after.start
        if spans:
            assert stream.start < spans[0].end
            lost_to = max((lost.end for lost in image.lost_ranges.get(stream_id, ())), default=0)
            assert stream.end in (spans[-1].end, max(spans[-1].end, lost_to))
            # Above the trim point there is no hole but what was given up.
            assert spans[0].start <= max(stream.start, lost_to, Offset(0)) or spans[0].start == 0
    for topic_id, topic in image.topic_map.items():
        assert topic.topic_id == topic_id
        assert image.topic_ids[topic.name] == topic_id
        assert [part.index for part in topic.partitions] == list(range(len(topic.partitions)))
    assert len(image.topic_ids) == len(image.topic_map)
    for stream_id, move in image.moves.items():
        assert move.stream == stream_id in image.streams
        assert 0 < move.move <= image.record_number
        for node, epoch in (move.source, move.target):
            broker = image.broker(node)
            assert broker is not None
            assert (broker.epoch, broker.fenced) == (epoch, False)
        assert image.streams[stream_id].owner == move.source[0] != move.target[0]
    names = [topic.name for topic in image.topics() if may_collide(topic.name)]
    assert dict(image.collision_keys) == {collision_key(name): name for name in names}
    assert dict(image.leader_counts) == Counter(part.leader for topic in image.topics() for part in topic.partitions)
    assert len(image.streams) == sum(len(topic.partitions) for topic in image.topics())
    for object_id, committed in image.committed.items():
        assert committed.references == references.pop(object_id, 0)
        assert committed.checkpoints == checkpoints[object_id]
        assert (committed.references == 0) == (object_id in image.unreferenced)
    assert not references, "an object is referenced that is not committed"
    ids = [*image.prepared, *image.committed, *image.destroyed]
    assert len(ids) == len(set(ids))
    assert all(object_id < image.next_object for object_id in ids)
    assert all(object_id in image.committed for object_id in image.unreferenced)
    assert all(image.quarantines.values())
    assert all(stream in image.streams for stream in [*image.quarantines, *image.lost_ranges])
    for stream_id, ranges in image.lost_ranges.items():
        assert ranges[-1].end <= image.streams[stream_id].end
        for lost, following in zip(ranges, ranges[1:], strict=False):
            assert lost.start < lost.end <= following.start
    for (node, epoch), wal in image.wals.items():
        assert (wal.node, wal.epoch) == (node, epoch)
        assert epoch < image.next_broker_epoch
        broker = image.broker(node)
        assert broker is None or epoch <= broker.epoch
        if broker is not None and epoch < broker.epoch:
            assert wal.recoverer is not None
