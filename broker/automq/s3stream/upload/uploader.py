"""The upload of log-cache blocks: wait until durable, prepare, put, commit in order, free.

Whatever the store does, an upload is tried again until it is done or this incarnation is fenced; the memory that waits
meanwhile is bounded by the arenas. Without blocks nothing runs.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from operator import attrgetter
from typing import Final, TypeVar

from prometheus_client import Counter

from automq.ids import BrokerEpoch, ClusterId, NodeId, ObjectId, StreamEpoch, StreamId
from automq.runtime.backoff import Backoff
from automq.runtime.budget import ByteBudget
from automq.runtime.entropy import Entropy
from automq.runtime.tasks import Tasks
from automq.runtime.telemetry import Metrics
from automq.s3stream.cache.log_cache import CacheBlock, Renewed, Run
from automq.s3stream.model import (
    BrokerFenced,
    CommitObject,
    CommitRequest,
    CommitResult,
    CorruptData,
    ObjectRefused,
    RangeVerdict,
    RetentionClass,
    StoreDamaged,
    StreamRelease,
)
from automq.s3stream.objects.creation import put_object, read_back
from automq.s3stream.objects.format import IndexEntry, object_key
from automq.s3stream.objects.writer import writing_bytes
from automq.s3stream.ports import ObjectManager, ObjectNotFound, ObjectStorage, StoreError
from automq.s3stream.upload.builder import ObjectBuilder
from automq.s3stream.upload.id_reserve import IdReserve
from automq.s3stream.upload.parts import in_commits

log = logging.getLogger(__name__)

T = TypeVar("T")

# Blocks whose object is built or put at once. Two hide the wait for a commit; more would only share the bandwidth.
UPLOADS_INFLIGHT: Final = 2
# A store that damages what it is given is no reason to upload without a pause.
DAMAGED_UPLOAD_PAUSE_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class PutObject:
    """An object in the store that is not committed yet."""

    committed: CommitObject
    checkpoints: Sequence[IndexEntry]
    """Those of its pieces of checkpoints."""


@dataclass(slots=True)
class Releasing:
    """Streams that are handed over with a block: it has the last of what their owner appended."""

    streams: tuple[StreamRelease, ...]
    durable: Awaitable[None]
    """Done when the block's slots are: its objects need not wait for that, its commit does."""
    prepared: list[ObjectId] = field(default_factory=list)
    """Ids that were prepared ahead, so that the release costs no more than its own record."""
    released: tuple[bool, ...] = ()
    """For each whether it has its new owner, once the block is committed; else it stays."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadEvents:
    """Callbacks of an uploader, each in the event loop: after a commit, a refused range, a fence, found damage."""

    committed: Callable[[CacheBlock], None]
    """The block is in a committed object, as far as its ranges were not refused."""
    refused: Callable[[StreamId, StreamEpoch], None]
    """The stream is not ours any more."""
    fenced: Callable[[BrokerFenced], None]
    damaged: Callable[[StoreDamaged], None]
    """The store has lost or damaged what acknowledgements rest on."""


class Uploader:
    """Takes sealed blocks in order."""

    def __init__(
        self,
        *,
        cluster_id: ClusterId,
        node: NodeId,
        epoch: BrokerEpoch,
        store: ObjectStorage,
        objects: ObjectManager,
        trim_wal: Callable[[int], None],
        epoch_of: Callable[[StreamId], StreamEpoch | None],
        class_of: Callable[[StreamId], RetentionClass],
        account: ByteBudget,
        events: UploadEvents,
        entropy: Entropy,
        tasks: Tasks,
        metrics: Metrics,
    ) -> None:
        self._cluster_id, self._node, self._epoch = cluster_id, node, epoch
        self._store = store
        self._objects = objects
        self._ids_ahead = IdReserve(objects)
        self._trim_wal = trim_wal
        self._epoch_of = epoch_of
        self._class_of = class_of
        self._account = account
        """Of objects that are built or put; each is drawn whole before it is begun."""
        self._events = events
        self._entropy = entropy
        self._tasks = tasks
        self._slots = asyncio.Semaphore(UPLOADS_INFLIGHT)
        self._newest: asyncio.Future[None] | None = None
        """Done when the block submitted last is committed."""
        self._begun: asyncio.Future[None] | None = None
        """Done when the block submitted last has its place among those in flight."""
        self._running: dict[asyncio.Task[None], None] = {}
        self._trim_limit: int | None = None
        self.pending = 0
        """Blocks submitted and not committed."""
        self._uploads: Counter = metrics.counter("automq_uploads", "Objects uploaded and committed")
        self._bytes: Counter = metrics.counter("automq_upload_bytes", "Bytes of objects uploaded and committed")

    async def prepare(self, count: int) -> Sequence[ObjectId]:
        """Ids for objects of a block that comes in a moment. Raises BrokerFenced, StoreDamaged."""
        return await self._persist(partial(self._ids_ahead.take, count), "prepare")

    def submit(self, block: CacheBlock, *ready: Awaitable[None], releasing: Releasing | None = None) -> None:
        """Upload `block` once all of `ready` are done; committed after every block submitted before it."""
        loop = asyncio.get_running_loop()
        previous, self._newest = self._newest, loop.create_future()
        may_begin, self._begun = self._begun, loop.create_future()
        self.pending += 1
        done, begun = self._newest, self._begun
        task = self._tasks.spawn(self._run(block, ready, previous, done, may_begin, begun, releasing), name="upload")
        self._running[task] = None
        task.add_done_callback(lambda ended: self._on_ended(ended, done, begun))

    def stop(self) -> None:
        """Give up what is under way: fenced, or closed for good. The WAL has it all."""
        for task in list(self._running):
            task.cancel()

    async def drain(self) -> None:
        """Wait until everything submitted so far is committed. Raises BrokerFenced, StoreDamaged."""
        if self._newest is not None:
            await asyncio.shield(self._newest)

    async def _run(
        self,
        block: CacheBlock,
        ready: Sequence[Awaitable[None]],
        previous: asyncio.Future[None] | None,
        done: asyncio.Future[None],
        may_begin: asyncio.Future[None] | None,
        begun: asyncio.Future[None],
        releasing: Releasing | None,
    ) -> None:
        try:
            for each in ready:
                await each
            if may_begin is not None:
                # In order: a later block keeps its place until the earlier one is committed, which would never get one.
                await asyncio.shield(may_begin)
            async with self._slots:
                begun.set_result(None)
                trimmed_to = await self._upload(block, previous, releasing)
            self.pending -= 1
            self._events.committed(block)
            self._trim_wal(trimmed_to)
            done.set_result(None)
        except BrokerFenced as error:
            self._fail(done, error)
            self._events.fenced(error)
        except StoreDamaged as error:
            self._fail(done, error)
            self._events.damaged(error)

    def _on_ended(self, task: asyncio.Task[None], done: asyncio.Future[None], begun: asyncio.Future[None]) -> None:
        del self._running[task]
        if not begun.done():
            begun.set_result(None)
        if not done.done():
            self._fail(done, BrokerFenced("the upload was given up"))

    async def _upload(
        self, block: CacheBlock, previous: asyncio.Future[None] | None, releasing: Releasing | None
    ) -> int:
        """T when all of the block is committed."""
        runs: list[Run | Renewed] = [*block.runs, *block.renewed]
        if not runs:
            return await self._commit_block(block, [], previous, releasing, is_last=True)
        # A stream's runs in a block are in their order already.
        runs.sort(key=attrgetter("stream"))
        return await in_commits(
            runs,
            lambda objects, is_last: self._upload_objects(block, objects, previous, releasing, is_last=is_last),
            class_of=self._class_of,
        )

    async def _upload_objects(
        self,
        block: CacheBlock,
        objects: Sequence[Sequence[Run | Renewed]],
        previous: asyncio.Future[None] | None,
        releasing: Releasing | None,
        *,
        is_last: bool,
    ) -> int:
        """Objects, and their one commit, which moves T unless another one of the block follows."""
        while True:
            ids = await self._ids(len(objects), releasing)
            put = [await self._put(block, runs, object_id) for object_id, runs in zip(ids, objects, strict=True)]
            if not all([await self._is_whole(each) for each in put]):
                continue
            try:
                return await self._commit_block(block, put, previous, releasing, is_last=is_last)
            except ObjectRefused as error:
                log.warning("objects refused, uploading again", extra={"objects": ids, "error": str(error)})
                self._ids_ahead.forget()

    async def _ids(self, count: int, releasing: Releasing | None) -> Sequence[ObjectId]:
        """Fresh ids. Those that were prepared ahead are used once: refused, they are gone."""
        if releasing is not None and len(releasing.prepared) >= count:
            ids, releasing.prepared[:count] = releasing.prepared[:count], []
            return ids
        return await self.prepare(count)

    async def _commit_block(
        self,
        block: CacheBlock,
        put: Sequence[PutObject],
        previous: asyncio.Future[None] | None,
        releasing: Releasing | None,
        *,
        is_last: bool,
    ) -> int:
        """What is in the store becomes readable, when it is its turn; with the last of it streams get new owners.

        Rule: once a release was sent it is asked again, of any controller, until there is an answer. Raises
        ObjectRefused.
        """
        await self._wait_turn(previous)
        if releasing is not None:
            await releasing.durable
        request = CommitRequest(
            objects=[each.committed for each in put],
            node=self._node,
            epoch=self._epoch,
            trim_to=self._trim_target(block) if is_last else 0,
            releasing=releasing.streams if releasing is not None and is_last else (),
        )
        result = await self._commit(request)
        if releasing is not None and is_last:
            releasing.released = result.released
        return result.trimmed_to

    async def _put(self, block: CacheBlock, runs: Sequence[Run | Renewed], object_id: ObjectId) -> PutObject:
        batches = [run for run in runs if isinstance(run, Run)]
        size = sum(writing_bytes(run.size, len(run.bases)) for run in batches)
        await self._account.acquire(size)
        try:
            builder = ObjectBuilder(self._cluster_id, object_id)
            await builder.add_runs(runs, block.checkpoints)
            key = object_key(self._cluster_id, object_id)
            body = await builder.finish()
            await self._persist(partial(put_object, self._store, key, body), "put")
            return PutObject(builder.committed, builder.checkpoints)
        finally:
            self._account.release(size)

    async def _is_whole(self, put: PutObject) -> bool:
        """Rule: with a newer checkpoint an older one goes, so the newer one is read back before its commit."""
        object_id = put.committed.object_id
        key = object_key(self._cluster_id, object_id)
        try:
            return await self._persist(partial(self._read_back, key, put), "read back")
        except CorruptData as error:
            log.error("checkpoint is not what was put, uploading again", extra={"object": object_id}, exc_info=error)
            await asyncio.sleep(DAMAGED_UPLOAD_PAUSE_S)
            return False

    async def _read_back(self, key: str, put: PutObject) -> bool:
        """What is not there comes back by no retry: a prepared object that took too long expires, and is deleted."""
        try:
            await read_back(self._store, key, put.checkpoints)
        except ObjectNotFound:
            log.warning("object is gone before its commit, uploading again", extra={"key": key})
            await asyncio.sleep(DAMAGED_UPLOAD_PAUSE_S)
            return False
        return True

    async def _commit(self, request: CommitRequest) -> CommitResult:
        """Rule: all objects of a block are one commit. T moves with all that it makes superfluous, or not at all."""
        result = await self._persist(partial(self._objects.commit, request), "commit")
        self._judge(request, result)
        return result

    async def _wait_turn(self, previous: asyncio.Future[None] | None) -> None:
        """Commits are made strictly in the order of the blocks: T may not pass a block that is not committed."""
        if previous is not None:
            await asyncio.shield(previous)

    def _trim_target(self, block: CacheBlock) -> int:
        """T after this commit, but never past slots that a refused range left behind."""
        return block.end_sequence if self._trim_limit is None else min(block.end_sequence, self._trim_limit)

    def _judge(self, request: CommitRequest, result: CommitResult) -> None:
        self._uploads.inc(len(request.objects))
        self._bytes.inc(sum(committed.size for committed in request.objects))
        for judged, verdict in zip(request.ranges, result.verdicts, strict=True):
            if verdict is RangeVerdict.REFUSED:
                log.error("commit refused", extra={"stream": judged.stream, "start": judged.start, "end": judged.end})
                current = self._epoch_of(judged.stream)
                is_former = current is None or judged.epoch < current
                if result.trimmed_to < request.trim_to or not is_former:
                    # The log may be all that is left of the range: T stays below it, whatever is committed later.
                    self._trim_limit = result.trimmed_to
                self._events.refused(judged.stream, judged.epoch)

    async def _persist(self, attempt: Callable[[], Awaitable[T]], what: str) -> T:
        """A store that fails is asked again for ever, with backoff; what else the ports may raise is an answer."""
        backoff = Backoff(entropy=self._entropy)
        while True:
            try:
                return await attempt()
            except StoreError as error:
                log.warning("upload waits for the store", extra={"step": what, "error": str(error)})
                await asyncio.sleep(backoff.next_s())

    def _fail(self, done: asyncio.Future[None], error: BrokerFenced | StoreDamaged) -> None:
        done.set_exception(error)
        # Nobody may be waiting for it.
        done.exception()
