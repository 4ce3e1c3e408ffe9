"""A storage engine in a world of its own: a ledger in place of the controller, a store whose answers a test can hold.

`Ledger` judges commits as the design's commit check says, in memory and at once.
"""

import asyncio
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from crc32c import crc32c

from automq.ids import BrokerEpoch, ClusterId, NodeId, ObjectId, Offset, StreamEpoch, StreamId
from automq.runtime.entropy import SeededEntropy
from automq.runtime.ledger import Account, MemoryLedger, split_memory
from automq.runtime.tasks import Tasks
from automq.runtime.telemetry import Metrics
from automq.s3stream.model import (
    BrokerFenced,
    CheckpointPiece,
    CheckpointRef,
    CommitObject,
    CommitRequest,
    CommitResult,
    ObjectRefused,
    ObjectSpan,
    RangeVerdict,
    RetentionClass,
    StoreDamaged,
    StreamFenced,
    StreamNotFound,
    StreamState,
    StreamTrim,
    Trimmed,
    deleted_class,
)
from automq.s3stream.objects.writer import Batch
from automq.s3stream.ports import Buffer, ObjectInfo, ObjectStorage, StoreUnavailable, UnfinishedUpload
from automq.s3stream.settings import StorageSettings
from automq.s3stream.store.memory import MemoryStore
from automq.s3stream.stream import Storage, Stream
from automq.s3stream.wal.format import SlotId, encode_fence

CLUSTER = ClusterId("AAAAAAAAAAAAAAAAAAAAAA")
NODE = NodeId(1)
FIRST_EPOCH = BrokerEpoch(1)
Incarnation = tuple[NodeId, BrokerEpoch]


@dataclass
class Ledger:
    """What the controller would know."""

    streams: dict[StreamId, StreamState] = field(default_factory=dict)
    objects: dict[ObjectId, list[tuple[StreamId, ObjectSpan]]] = field(default_factory=dict)
    prepared: dict[ObjectId, None] = field(default_factory=dict)
    trimmed: dict[Incarnation, int] = field(default_factory=dict)
    fenced_by: dict[Incarnation, Incarnation] = field(default_factory=dict)
    commits: list[CommitRequest] = field(default_factory=list)
    lost: list[tuple[StreamId, Offset, Offset]] = field(default_factory=list)
    classes: dict[StreamId, RetentionClass] = field(default_factory=dict)
    """Of streams that are not like others."""
    """What recovery recorded as lost with slots that were given up."""
    next_object: int = 1

    def create_stream(self, stream: int, *, owner: NodeId = NODE) -> StreamId:
        """A new, empty stream at epoch 0."""
        made = StreamId(stream)
        self.streams[made] = StreamState(stream=made, epoch=StreamEpoch(0), owner=owner, start=Offset(0), end=Offset(0))
        return made

    def fence(self, dead: Incarnation, recoverer: Incarnation) -> int:
        """The record that fences; T of the dead incarnation."""
        self.fenced_by[dead] = recoverer
        return self.trimmed.get(dead, 0)

    def reopen(self, stream: StreamId, *, owner: NodeId = NODE) -> None:
        """The next opening of the stream: a higher epoch, at the larger of end and trim point."""
        state = self.streams[stream]
        self.streams[stream] = replace(
            state, epoch=StreamEpoch(state.epoch + 1), owner=owner, end=max(state.end, state.start)
        )

    def judge(self, request: CommitRequest, committer: Incarnation) -> CommitResult:
        """The commit check."""
        dead = (request.node, request.epoch)
        expected = self.fenced_by.get(dead) if request.recoverer is not None else None
        if request.recoverer is None:
            if committer in self.fenced_by or dead != committer:
                raise BrokerFenced(f"{committer} is fenced")
        elif expected != committer or committer in self.fenced_by:
            raise BrokerFenced(f"{committer} does not recover {dead}")
        if request.objects:
            if any(object_id in self.objects for object_id in request.object_ids):
                verdicts = [RangeVerdict.ACCEPTED] * len(request.ranges)
                return CommitResult(verdicts=verdicts, trimmed_to=self.trimmed.get(dead, 0))
            if not all(object_id in self.prepared for object_id in request.object_ids):
                raise ObjectRefused(f"objects {request.object_ids} are not prepared")
            for object_id in request.object_ids:
                del self.prepared[object_id]
                self.objects[object_id] = []
        self.commits.append(request)
        verdicts, stuck = [], False
        for committed, commit in ((each, item) for each in request.objects for item in each.ranges):
            state = self.streams.get(commit.stream)
            if state is None:
                verdicts.append(RangeVerdict.DROPPED)
            elif state.owner != request.node or state.epoch != commit.epoch or commit.start != state.end:
                verdicts.append(RangeVerdict.REFUSED)
                stuck = stuck or state.owner == request.node
            else:
                verdicts.append(RangeVerdict.CLIPPED if commit.start < state.start else RangeVerdict.ACCEPTED)
                self._accept(committed, commit)
        if not stuck:
            self.trimmed[dead] = max(self.trimmed.get(dead, 0), request.trim_to)
        return CommitResult(verdicts=verdicts, trimmed_to=self.trimmed.get(dead, 0))

    def _accept(self, request: CommitObject, commit: Any) -> None:
        state = self.streams[commit.stream]
        span = ObjectSpan(
            object_id=request.object_id,
            object_size=request.size,
            start=commit.start,
            end=commit.end,
            size=commit.size,
            max_timestamp_ms=commit.max_timestamp_ms,
        )
        self.objects[request.object_id].append((commit.stream, span))
        checkpoints = tuple(state.checkpoints)
        if commit.checkpoint:
            made = CheckpointRef(object_id=request.object_id, object_size=request.size, offset=commit.end)
            checkpoints = (*checkpoints, made)[-commit.checkpoint :]
        self.streams[commit.stream] = replace(state, end=commit.end, checkpoints=checkpoints)


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
        ids = [ObjectId(self._ledger.next_object + n) for n in range(count)]
        self._ledger.next_object += count
        self._ledger.prepared.update(dict.fromkeys(ids))
        return ids

    async def commit(self, request: CommitRequest) -> CommitResult:
        await self._answer()
        return self._ledger.judge(request, self._committer)

    async def confirm(self) -> None:
        await self._answer()
        if self._committer in self._ledger.fenced_by:
            raise BrokerFenced(f"{self._committer} is fenced")

    def spans(self, stream: StreamId, start: Offset, end: Offset, *, limit: int) -> Sequence[ObjectSpan]:
        return [span for span in self.spans_from(stream, start) if span.start < end][:limit]

    def spans_from(self, stream: StreamId, start: Offset) -> Iterator[ObjectSpan]:
        spans = [span for spans in self._ledger.objects.values() for of, span in spans if of == stream]
        return iter(sorted((span for span in spans if span.end > start), key=lambda span: span.start))

    def stored_bytes(self, stream: StreamId) -> int:
        return sum(span.size for span in self.spans_from(stream, self._ledger.streams[stream].start))

    async def _answer(self) -> None:
        await asyncio.sleep(0)
        if self.unavailable:
            self.unavailable -= 1
            raise StoreUnavailable("the metadata log cannot be reached")


class LedgerStreams:
    """The StreamManager of one incarnation."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def state(self, stream: StreamId) -> StreamState:
        if stream not in self._ledger.streams:
            raise StreamNotFound(f"stream {stream}")
        return self._ledger.streams[stream]

    async def trim(self, trims: Sequence[StreamTrim]) -> Sequence[Trimmed]:
        await asyncio.sleep(0)
        return [self._trim(trim) for trim in trims]

    def _trim(self, trim: StreamTrim) -> Trimmed:
        state = self._ledger.streams.get(trim.stream)
        if state is None:
            return StreamNotFound(f"stream {trim.stream}")
        if trim.epoch != state.epoch:
            return StreamFenced(stream=trim.stream, ours=trim.epoch, current=state.epoch)
        self._ledger.streams[trim.stream] = replace(state, start=max(state.start, trim.new_start))
        return None

    def retention_class(self, stream: StreamId) -> RetentionClass:
        return self._ledger.classes.get(stream, deleted_class(604_800_000))

    async def lose_before(self, log: tuple[NodeId, BrokerEpoch], stream: StreamId, end: Offset) -> None:
        await asyncio.sleep(0)
        state = self.state(stream)
        self._ledger.lost.append((stream, state.end, end))
        self._ledger.streams[stream] = replace(state, end=max(state.end, end))

    def owner(self, stream: StreamId) -> NodeId | None:
        return self._ledger.streams[stream].owner if stream in self._ledger.streams else None


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
            streams=LedgerStreams(ledger),
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
    storage.when_durable(position, lambda error: done.set_exception(error) if error else done.set_result(None))
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
