"""A storage engine in a world of its own: a ledger in place of the controller, a store whose answers a test can hold.

`Ledger` is the metadata themselves and the controller's own decisions, without a log: in memory and at once.
"""

import asyncio
import uuid
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from crc32c import crc32c
from msgspec import structs

from automq.controller.brokers import check_alive
from automq.controller.commit_check import judge
from automq.controller.damage import lose_before
from automq.controller.objects import prepare_objects
from automq.controller.streams import trim_streams
from automq.ids import BrokerEpoch, ClusterId, NodeId, ObjectId, Offset, StreamEpoch, StreamId, TopicId
from automq.metadata.image import EMPTY, BrokerImage, MetadataImage, WalImage
from automq.metadata.packed_ranges import StreamRange, unpack
from automq.metadata.records import BrokerFenced as FencedRecord
from automq.metadata.records import (
    BrokerRegistered,
    CompactedObject,
    MetadataRecord,
    NewPartition,
    ObjectsCompacted,
    ObjectsDestroyed,
    ObjectsPrepared,
    PartitionsCreated,
    RangeLost,
    StreamOpening,
    StreamsOpened,
    StreamsQuarantined,
    TopicCreated,
    WalSlotsLost,
    WalTrimmed,
)
from automq.metadata.replay import MetadataMachine
from automq.runtime.entropy import SeededEntropy
from automq.runtime.ledger import Account, MemoryLedger, split_memory
from automq.runtime.tasks import Tasks
from automq.runtime.telemetry import Metrics
from automq.s3stream.model import (
    BrokerFenced,
    CheckpointPiece,
    CommitRequest,
    CommitResult,
    ObjectSpan,
    RetentionClass,
    StoreDamaged,
    StreamNotFound,
    StreamState,
    StreamTrim,
    Trimmed,
    deleted_class,
)
from automq.s3stream.objects.writer import Batch
from automq.s3stream.ports import Buffer, ObjectInfo, ObjectStorage, StoreUnavailable, UnfinishedUpload
from automq.s3stream.settings import StorageSettings
from automq.s3stream.storage import Storage
from automq.s3stream.store.memory import MemoryStore
from automq.s3stream.stream import Stream
from automq.s3stream.wal.format import SlotId, encode_fence
from automq.steps import at_once

CLUSTER = ClusterId("AAAAAAAAAAAAAAAAAAAAAA")
NODE = NodeId(1)
FIRST_EPOCH = BrokerEpoch(1)
Incarnation = tuple[NodeId, BrokerEpoch]


class Ledger:
    """What the controller would know: the metadata's own image, and its own check of commits.

    There is no log and nobody to ask twice: what is decided is durable at once. Incarnations are registered when they
    first ask for something.
    """

    def __init__(self) -> None:
        self._machine = MetadataMachine(EMPTY)
        self.commits: list[CommitRequest] = []
        """Those that made a record, in order."""
        self.classes: dict[StreamId, RetentionClass] = {}
        """Of streams that are not like others."""

    @property
    def image(self) -> MetadataImage:
        """Everything decided so far."""
        return self._machine.image

    @property
    def streams(self) -> Mapping[StreamId, StreamState]:
        """All that are not deleted."""
        found = {stream: self.image.stream_state(stream) for stream in sorted(self.image.streams)}
        return {stream: state for stream, state in found.items() if state is not None}

    @property
    def objects(self) -> Mapping[ObjectId, Sequence[StreamRange]]:
        """What committed objects held when they were committed."""
        return {number: list(unpack(held.ranges)) for number, held in sorted(self.image.committed.items())}

    @property
    def trimmed(self) -> Mapping[Incarnation, int]:
        """T of each log."""
        return {log: wal.trim_to for log, wal in self.image.wals.items()}

    @property
    def lost(self) -> Sequence[tuple[StreamId, Offset, Offset]]:
        """Ranges that were given up, by stream and offset."""
        return [(each.stream, each.start, each.end) for _, of in sorted(self.image.lost_ranges.items()) for each in of]

    def record(self, *records: MetadataRecord) -> None:
        """They are in the log."""
        for record in records:
            self._machine.replay(record)

    def create_stream(self, stream: int, *, owner: NodeId = NODE) -> StreamId:
        """A new, empty stream at epoch 0: a topic of its own."""
        made, topic_id = StreamId(stream), TopicId(uuid.UUID(int=stream))
        partition = NewPartition(index=0, stream=made, leader=owner)
        self.record(
            TopicCreated(topic_id=topic_id, name=f"topic-{stream}", is_internal=False, replication_factor=1),
            PartitionsCreated(topic_id=topic_id, partitions=(partition,)),
        )
        return made

    def register(self, incarnation: Incarnation) -> None:
        """It has a log, and is alive unless a later one of its node was registered before."""
        node, epoch = incarnation
        image = self.image
        if incarnation in image.wals:
            return
        if epoch >= image.next_broker_epoch:
            self.record(BrokerRegistered(node=node, epoch=epoch, rack=None, endpoints=()))
            return
        before = image.broker(node)
        brokers = image.broker_map
        if before is None or before.epoch < epoch:
            brokers = brokers.set(node, BrokerImage(node=node, epoch=epoch, rack=None, endpoints=()))
        wals = image.wals.set(incarnation, WalImage(node=node, epoch=epoch))
        self._machine = MetadataMachine(replace(image, broker_map=brokers, wals=wals))

    def fence(self, dead: Incarnation, recoverer: Incarnation) -> int:
        """The record that fences; T of the dead incarnation."""
        self.register(dead)
        self.register(recoverer)
        self.record(FencedRecord(*dead, *recoverer))
        return self.trimmed[dead]

    def trim_log(self, log: Incarnation, trim_to: int) -> None:
        """T moves, as if what lies below had been committed."""
        self.register(log)
        self.record(WalTrimmed(*log, trim_to=trim_to))

    def reopen(self, stream: StreamId, *, owner: NodeId = NODE) -> None:
        """The next opening of the stream, by the newest incarnation of its owner: a higher epoch."""
        broker = self.image.broker(owner)
        epoch = FIRST_EPOCH if broker is None else broker.epoch
        opening = StreamOpening(stream=stream, epoch=StreamEpoch(self.streams[stream].epoch + 1))
        self.record(StreamsOpened(node=owner, epoch=epoch, streams=(opening,)))

    def change(self, stream: StreamId, **fields: Any) -> None:
        """As if the stream's past were another one: its `start`, its `end`, what objects hold of it (`held`)."""
        image = self.image
        changed = structs.replace(image.streams[stream], **fields)
        self._machine = MetadataMachine(replace(image, streams=image.streams.set(stream, changed)))

    def quarantine(self, stream: StreamId) -> None:
        """What follows its end lies in a damaged log of somebody else's: what other logs have of it fits nowhere."""
        self.record(StreamsQuarantined((stream,), "a key", "a test", 0, NodeId(9), BrokerEpoch(9)))

    def give_up(self, stream: StreamId, *ranges: tuple[int, int]) -> None:
        """A person gave these ranges up."""
        for start, end in ranges:
            self.record(RangeLost(stream, Offset(start), Offset(end), key="a key", reason="a test", by="me", at_ms=0))

    def expire_prepared(self) -> None:
        """What is prepared and not committed never will be."""
        self.record(ObjectsDestroyed(objects=tuple(self.image.prepared), at_ms=0))

    def compact_alone(self, old: ObjectId, new: ObjectId, *, size: int) -> None:
        """`new` takes the place of `old`, which is destroyed."""
        ranges = self.image.committed[old].ranges
        self.record(
            ObjectsPrepared(first=new, count=1, node=NODE, epoch=FIRST_EPOCH, expires_ms=0),
            ObjectsCompacted(NODE, FIRST_EPOCH, 1, (CompactedObject(new, size, ranges),)),
            ObjectsDestroyed(objects=(old,), at_ms=0),
        )

    def judge(self, request: CommitRequest, committer: Incarnation) -> CommitResult:
        """The commit check itself."""
        assert committer == (request.recoverer or (request.node, request.epoch))
        self.register(committer)
        decision = judge(self.image, request)
        if decision.records:
            self.commits.append(request)
        self.record(*decision.records)
        return decision.response


def a_piece(data: bytes, *, kept: int = 1) -> CheckpointPiece:
    """A piece of a checkpoint that is just these bytes."""

    def encode() -> Generator[None, None, list[bytes]]:
        yield
        return [data[:1], data[1:]]

    return CheckpointPiece(kept=kept, size=len(data), encode=encode)


class LedgerObjects:
    """The ObjectManager of one incarnation."""

    def __init__(self, ledger: Ledger, committer: Incarnation) -> None:
        self._ledger, self._committer = ledger, committer
        self.unavailable = 0
        """So many calls fail first."""

    async def prepare(self, count: int) -> Sequence[ObjectId]:
        await self._answer()
        decision = prepare_objects(self._ledger.image, *self._committer, count, now_ms=0, expiry_ms=1)
        self._ledger.record(*decision.records)
        return decision.response

    async def commit(self, request: CommitRequest) -> CommitResult:
        await self._answer()
        return self._ledger.judge(request, self._committer)

    async def confirm(self) -> None:
        await self._answer()
        check_alive(self._ledger.image, *self._committer)

    def spans(self, stream: StreamId, start: Offset, end: Offset, *, limit: int) -> Sequence[ObjectSpan]:
        return self._ledger.image.spans(stream, start, end, limit=limit)

    def spans_from(self, stream: StreamId, start: Offset) -> Iterator[ObjectSpan]:
        return self._ledger.image.spans_of(stream).above(start)

    def stored_bytes(self, stream: StreamId) -> int:
        found = self._ledger.image.stream(stream)
        return 0 if found is None else found.held.stored_bytes

    async def _answer(self) -> None:
        await asyncio.sleep(0)
        if self.unavailable:
            self.unavailable -= 1
            raise StoreUnavailable("the metadata log cannot be reached")
        self._ledger.register(self._committer)


class LedgerStreams:
    """The StreamManager of one incarnation."""

    def __init__(self, ledger: Ledger, owner: Incarnation) -> None:
        self._ledger, self._owner = ledger, owner

    def state(self, stream: StreamId) -> StreamState:
        state = self._ledger.image.stream_state(stream)
        if state is None:
            raise StreamNotFound(f"stream {stream}")
        return state

    async def trim(self, trims: Sequence[StreamTrim]) -> Sequence[Trimmed]:
        await asyncio.sleep(0)
        self._ledger.register(self._owner)
        decision = at_once(trim_streams(self._ledger.image, *self._owner, trims))
        self._ledger.record(*decision.records)
        return decision.response

    def retention_class(self, stream: StreamId) -> RetentionClass:
        return self._ledger.classes.get(stream, deleted_class(604_800_000))

    async def lose_before(self, log: tuple[NodeId, BrokerEpoch], stream: StreamId, end: Offset) -> None:
        await asyncio.sleep(0)
        if not self._ledger.image.wals[log].lost:
            # Whoever recovers was told of slots that are given up; here nobody has recorded them before.
            self._ledger.record(WalSlotsLost(*log, start=0, end=None, by="me", at_ms=0))
        recoverer = self._owner
        decision = lose_before(self._ledger.image, *log, recoverer=recoverer, stream=stream, end=end, now_ms=0)
        self._ledger.record(*decision.records)

    def epoch(self, stream: StreamId) -> StreamEpoch | None:
        found = self._ledger.image.stream(stream)
        return None if found is None else found.epoch


class HeldStore:
    """A store before which a test can stop operations, lose answers and count.

    `before` and `after` may wait on an event or raise StoreError; they get the operation's name and key.
    """

    def __init__(self, inner: ObjectStorage) -> None:
        self.inner = inner
        self.before: Callable[[str, str], Any] = _pass
        self.after: Callable[[str, str], Any] = _pass
        self.calls: list[tuple[str, str]] = []

    async def _around(self, name: str, key: str, call: Callable[[], Any]) -> Any:
        self.calls.append((name, key))
        await self.before(name, key)
        result = await call()
        await self.after(name, key)
        return result

    async def get(self, key: str) -> bytes:
        data: bytes = await self._around("get", key, lambda: self.inner.get(key))
        return data

    async def get_range(self, key: str, start: int, end: int) -> Buffer:
        data: Buffer = await self._around("get_range", key, lambda: self.inner.get_range(key, start, end))
        return data

    async def put(self, key: str, body: Sequence[Buffer]) -> None:
        await self._around("put", key, lambda: self.inner.put(key, body))

    async def create(self, key: str, body: Sequence[Buffer]) -> None:
        await self._around("create", key, lambda: self.inner.create(key, body))

    async def create_bulk(self, key: str, body: Sequence[Buffer]) -> None:
        await self._around("create_bulk", key, lambda: self.inner.create_bulk(key, body))

    async def delete(self, keys: Sequence[str]) -> None:
        await self._around("delete", keys[0], lambda: self.inner.delete(keys))

    async def list(self, prefix: str, *, start_after: str = "", limit: int = 1_000_000) -> list[ObjectInfo]:
        infos: list[ObjectInfo] = await self._around(
            "list", prefix, lambda: self.inner.list(prefix, start_after=start_after, limit=limit)
        )
        return infos

    async def time_ms(self) -> int | None:
        now: int | None = await self._around("time_ms", "", self.inner.time_ms)
        return now

    async def list_uploads(self, prefix: str) -> Sequence[UnfinishedUpload]:
        uploads: Sequence[UnfinishedUpload] = await self._around(
            "list_uploads", prefix, lambda: self.inner.list_uploads(prefix)
        )
        return uploads

    async def abort_uploads(self, uploads: Sequence[UnfinishedUpload]) -> None:
        await self._around("abort_uploads", "", lambda: self.inner.abort_uploads(uploads))

    async def close(self) -> None:
        await self.inner.close()


async def _pass(name: str, key: str) -> None:
    return None


class LoopClock:
    """The running loop's own time, so that virtual time is virtual for the engine as well."""

    def wall_ms(self) -> int:
        return int(self.monotonic() * 1000)

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    def boottime(self) -> float:
        return self.monotonic()


GIB = 1 << 30

SMALL = StorageSettings(
    arena_bytes=16 * 64 * 1024,
    upload_bytes=128 * 1024,
    upload_interval_ms=200,
    block_cache_bytes=256 * 1024,
    cold_read_bytes=64 * 1024,
    wal_interval_ms=1.0,
    wal_batch_bytes=64 * 1024,
    wal_inflight=4,
    wal_eager_bytes=0,
)


class Engine:
    """One incarnation of a broker's storage on a world that outlives it."""

    def __init__(
        self,
        ledger: Ledger,
        store: ObjectStorage,
        *,
        epoch: int = 1,
        node: NodeId = NODE,
        settings: StorageSettings = SMALL,
        memory: Mapping[Account, int] | None = None,
        seed: str = "engine",
    ) -> None:
        self.ledger = ledger
        self.crashes: list[str] = []
        self.fences: list[BrokerFenced] = []
        self.damages: list[StoreDamaged] = []
        self.me = (node, BrokerEpoch(epoch))
        self.tasks = Tasks(f"engine {epoch}", on_crash=lambda name, error: self.crashes.append(f"{name}: {error!r}"))
        self.objects = LedgerObjects(ledger, self.me)
        self.metrics = Metrics()
        self.memory = MemoryLedger({**split_memory(GIB), **settings.limits(), **(memory or {})}, self.metrics)
        self.storage = Storage(
            settings=settings,
            ledger=self.memory,
            cluster_id=CLUSTER,
            node=node,
            epoch=BrokerEpoch(epoch),
            store=store,
            objects=self.objects,
            streams=LedgerStreams(ledger, self.me),
            clock=LoopClock(),
            entropy=SeededEntropy(f"{seed} {epoch}"),
            tasks=self.tasks,
            metrics=self.metrics,
            on_fenced=self.fences.append,
            on_damaged=self.damages.append,
        )

    async def die(self) -> None:
        """As kill -9: nothing is finished, nothing is told."""
        self.storage.abandon()
        await self.tasks.close()
        assert self.crashes == []

    async def recover(self, dead: "Engine") -> None:
        """Fence the dead incarnation in the ledger, recover its log, open its streams' next epoch."""
        await self.storage.recover(*dead.me, self.ledger.fence(dead.me, self.me))
        for stream in self.ledger.streams:
            self.ledger.reopen(stream, owner=self.me[0])
        self.storage.start()


def append(stream: Stream, count: int = 1, *, size: int = 100, timestamp_ms: int = 0) -> int:
    """One batch that says which it is; the slot it will be durable with."""
    payload = a_batch(stream.stream_id, stream.next_offset, size=size)
    return stream.append(payload, count=count, max_timestamp_ms=timestamp_ms)


async def durable(storage: Storage, position: int) -> None:
    """Wait until slot `position` is acknowledged, or raise what the engine says instead."""
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    storage.append.when_durable(position, lambda error: done.set_exception(error) if error else done.set_result(None))
    await done


async def read_all(stream: Stream, *, max_bytes: int = 1000) -> list[int]:
    """Base offsets of everything readable, each batch checked to be the one that was appended there."""
    bases: list[int] = []
    position = stream.start_offset
    while position < stream.confirmed_offset:
        result = await stream.read(position, stream.confirmed_offset, max_bytes)
        assert result.start_offset <= position
        for view in result.batches:
            base = int(bytes(view[:40]).split(b">")[0].split(b":")[1])
            assert view == a_batch(stream.stream_id, base, size=len(view))
            bases.append(base)
        assert result.end_offset > position
        position = result.end_offset
        result.release()
    return bases


async def keys_of(store: ObjectStorage, part: str) -> list[str]:
    """Keys that contain `part`, without the cluster's folder."""
    return [info.key[len(CLUSTER) + 1 :] for info in await store.list("") if part in info.key]


def slot_key(sequence: int, *, epoch: int = 1) -> str:
    """The key of a slot of the test broker."""
    return SlotId(cluster_id=CLUSTER, node=NODE, epoch=BrokerEpoch(epoch), sequence=sequence).key


def a_fence(sequence: int, *, epoch: int = 1) -> bytes:
    """What a recoverer puts into a slot of the test broker."""
    slot = SlotId(cluster_id=CLUSTER, node=NODE, epoch=BrokerEpoch(epoch), sequence=sequence)
    return encode_fence(slot, nonce=b"somebody else's!", recoverer=(NODE, BrokerEpoch(epoch + 1)))


def a_batch(stream: int, offset: int, *, size: int = 100) -> memoryview:
    """Bytes that say which batch they are, so that a wrong one is noticed."""
    text = f"<{stream}:{offset}>".encode()
    return memoryview((text * (size // len(text) + 1))[:size])


def stored(stream: int, offset: int, count: int, timestamp_ms: int, *, size: int = 100) -> Batch:
    """The same batch as the object writer takes it."""
    payload = a_batch(stream, offset, size=size)
    return offset, count, timestamp_ms, crc32c(payload), payload


def new_store() -> MemoryStore:
    """An empty bucket."""
    return MemoryStore()
