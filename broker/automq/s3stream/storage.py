"""The engine of one broker incarnation: WAL, log cache, upload and caches, wired into an append and a read path."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from automq.ids import BrokerEpoch, ClusterId, NodeId, ObjectId, StreamEpoch, StreamId
from automq.runtime.backoff import Backoff
from automq.runtime.clock import Clock
from automq.runtime.entropy import Entropy
from automq.runtime.ledger import Account, MemoryLedger
from automq.runtime.tasks import Tasks
from automq.runtime.telemetry import Metrics
from automq.s3stream.append_queue import AppendQueue
from automq.s3stream.arena import ArenaPool
from automq.s3stream.cache.block_cache import BlockCache
from automq.s3stream.cache.log_cache import CacheBlock, LogCache
from automq.s3stream.cache.room import Room
from automq.s3stream.model import (
    BrokerFenced,
    DataMissing,
    FencedBy,
    RecoveredLog,
    SlotsLost,
    StorageFull,
    StoreDamaged,
    StreamClosed,
    StreamFenced,
    StreamNotFound,
    StreamRelease,
)
from automq.s3stream.objects.reader import ObjectReader
from automq.s3stream.ports import ObjectManager, ObjectStorage, StoreError, StreamManager
from automq.s3stream.settings import StorageSettings
from automq.s3stream.upload.capture import CheckpointCapture, EngineStream
from automq.s3stream.upload.recoverer import Recoverer, Share, alone
from automq.s3stream.upload.sweeper import Sweeper
from automq.s3stream.upload.uploader import UPLOADS_INFLIGHT, Releasing, Uploader, UploadEvents
from automq.s3stream.wal.object_wal import BATCH_POSITION, ObjectWal, OpenSlot, StagedBatch, WalSettings

# The log cache numbers them in ten bits.
ARENAS_OF_A_BLOCK: Final = 900
# How long an orderly end waits for its last deletes.
TRIM_AT_END_S: Final = 2.0


class StorageEngine:
    """See `stream.Storage`, the public face."""

    def __init__(
        self,
        *,
        settings: StorageSettings,
        ledger: MemoryLedger,
        cluster_id: ClusterId,
        node: NodeId,
        epoch: BrokerEpoch,
        store: ObjectStorage,
        objects: ObjectManager,
        streams: StreamManager,
        clock: Clock,
        entropy: Entropy,
        tasks: Tasks,
        metrics: Metrics,
        on_fenced: Callable[[BrokerFenced], None],
        on_damaged: Callable[[StoreDamaged], None],
    ) -> None:
        """`on_fenced` and `on_damaged` are called once, after everything here has ended.

        `ledger` has at least the limits of `settings`.
        """
        self.settings, self.ledger = settings, ledger
        self.cluster_id, self.node, self.epoch = cluster_id, node, epoch
        self.store, self.objects, self.streams = store, objects, streams
        self.clock, self._entropy, self._tasks = clock, entropy, tasks
        self._on_fenced, self._on_damaged = on_fenced, on_damaged
        self.halted: BrokerFenced | StoreDamaged | None = None
        """Why this incarnation may not acknowledge, write or read any more."""
        self._started = self._closing = False
        self._sweeper = Sweeper(entropy=entropy, tasks=tasks)
        self._open_streams: dict[StreamId, EngineStream] = {}
        self._upload_timer: asyncio.TimerHandle | None = None
        self._seal_handle: asyncio.Handle | None = None
        index, checkpoints = ledger[Account.LOG_CACHE_INDEX], ledger[Account.CHECKPOINTS]
        self.cache = LogCache(index=index, checkpoints=checkpoints)
        self.checkpoints = CheckpointCapture(cache=self.cache, streams=self._open_streams, tasks=tasks)
        self._pool = ArenaPool(
            arenas_max=settings.arenas_max, arena_bytes=settings.arena_unit_bytes, account=ledger[Account.ARENAS]
        )
        reserve_bytes = settings.reserve_bytes
        self.room = Room(
            pool=self._pool, cache=self.cache, index=index, checkpoints=checkpoints, reserve_bytes=reserve_bytes
        )
        self.room.is_there = lambda: self.halted is not None or self.has_room(1)
        self._queue: AppendQueue[OpenSlot] = AppendQueue()
        self.wal = self._make_wal(metrics)
        self.uploader = self._make_uploader(metrics)
        self.reader = ObjectReader(
            store=store,
            cluster_id=cluster_id,
            clock=clock,
            account=ledger[Account.INDEX_CACHE],
            loading=ledger[Account.COLD_READS],
            tasks=tasks,
        )
        self.blocks = BlockCache(
            reader=self.reader,
            account=ledger[Account.BLOCK_CACHE],
            loading=ledger[Account.COLD_READS],
            clock=clock,
            tasks=tasks,
            metrics=metrics,
        )
        self._watch_memory(metrics)

    async def recover(
        self, node: NodeId, epoch: BrokerEpoch, trim_to: int, *, lost: Sequence[SlotsLost] = (), share: Share = alone
    ) -> RecoveredLog:
        """Make everything acknowledged by (node, epoch) readable from objects, and end its log for ever.

        To be called after the record that fences (node, epoch) is durable, with the T that record froze, and before any
        of its streams is opened. `lost` are slots that a person gave up; so many logs `share` the memory at a time. May
        be repeated. What could not be placed is returned; its slots stay. Superfluous slots are deleted later. Raises
        BrokerFenced when somebody else recovers it by now, StoreDamaged when an acknowledged slot is missing or does
        not decode (nothing is deleted then), FormatTooNew, StoreError.
        """
        recoverer = Recoverer(
            cluster_id=self.cluster_id,
            node=node,
            epoch=epoch,
            recoverer=(self.node, self.epoch),
            trim_to=trim_to,
            lost=lost,
            store=self.store,
            objects=self.objects,
            streams=self.streams,
            account=self.ledger[Account.RECOVERY],
            share=share,
            entropy=self._entropy,
        )
        try:
            recovered = await recoverer.run()
        finally:
            recoverer.close()
        self._sweeper.add(partial(recoverer.sweep, recovered.fence))
        return recovered

    def start(self) -> None:
        """Take appends from now on."""
        self._started = True

    @property
    def append_bytes_max(self) -> int:
        """The largest batch `Stream.append` takes."""
        return self.wal.append_bytes_max

    @property
    def batch_bytes_max(self) -> int:
        """The largest batch of all: beyond `append_bytes_max` with `Stream.stage`."""
        return max(self.wal.append_bytes_max, self.settings.own_slot_bytes_max)

    def has_room(self, size: int) -> bool:
        """Whether a Produce request of `size` bytes fits; what is internal may use the reserve above that."""
        if self.room.is_crowded(uploads_pending=self.uploader.pending > 0):
            return False
        room = self.room.free_bytes
        if size > self.wal.append_bytes_max:
            # It may be one batch, in whole arenas of its own; as much as there can be, all the same.
            size = max(size, self.room.whole_bytes(size + BATCH_POSITION))
        # What is left of the arena that is being filled seldom decides.
        return room >= size or room + self.wal.arena_room >= size

    def when_room(self, callback: Callable[[], None]) -> None:
        """Call `callback` once, when room has been made since; ask `has_room` again then."""
        self.room.wait(callback)
        self._relieve()

    def when_durable(self, position: int, callback: Callable[[Exception | None], None]) -> None:
        """Call `callback` once: with None when WAL slot `position` is durable, in slot order, at once if it is.

        With BrokerFenced or StoreDamaged when this incarnation may not say so any more.
        """
        if self.halted is not None:
            callback(self.halted)
            return
        slot = self.wal.slot
        if slot is None or slot.sequence != position:
            slot = self._queue.find(position)
            if slot is None:
                callback(None)
                return
        slot.waiters.append(callback)

    async def upload_now(self) -> None:
        """Seal what the log cache holds and return when it is committed: before a stream moves, and at shutdown.

        Call it when no append is half-done. Raises BrokerFenced, StoreDamaged.
        """
        self._seal()
        await self.uploader.drain()

    def damage(self, error: StoreDamaged) -> None:
        """The store has lost or damaged what acknowledgements rest on: halt, and call `on_damaged`. Idempotent."""
        if self.halted is None:
            self.halt(error)
            self._on_damaged(error)

    def halt(self, error: BrokerFenced | StoreDamaged) -> None:
        """This incarnation is over: no new PUT, no acknowledgement, no read from now on. Idempotent."""
        if self.halted is not None:
            return
        self.halted = error
        slots = self._queue.fence()
        self.wal.stop()
        self.uploader.stop()
        self._sweeper.stop()
        self._cancel_timers()
        for slot in slots:
            waiters, slot.waiters = slot.waiters, []
            for waiter in waiters:
                waiter(error)
        for stream in list(self._open_streams.values()):
            stream.lose(error)
        self.room.schedule()

    async def close(self, upload: bool) -> None:
        """Refuse appends, make what was appended durable, with `upload` commit it too, and end. Cancel to cut short."""
        self._closing = self.wal.is_closing = True
        try:
            if self.halted is None:
                await self._finish(upload)
        except (BrokerFenced, StoreDamaged):
            pass  # The owner was told.
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Stop at once, as a crash would: nothing is finished, nobody is told."""
        self._closing = self.wal.is_closing = True
        self.wal.stop()
        self.uploader.stop()
        self._sweeper.stop()
        self._cancel_timers()

    async def _finish(self, upload: bool) -> None:
        if upload:
            await self.upload_now()
            # What is left over, the next start's recovery deletes.
            await self.wal.trimmer.attempt(TRIM_AT_END_S)
        else:
            self.wal.close_slot()
            if self.wal.next_sequence:
                await self._durable(self.wal.next_sequence - 1)

    @property
    def needed_slots(self) -> range:
        """Sequences of acknowledged slots that must be in the store: nobody has asked yet to delete them."""
        return range(self.wal.trimmer.trimmed_to, self._queue.acknowledged_below)

    def stage(self, size: int) -> StagedBatch:
        """Memory of its own for a batch of `size` bytes. Raises BrokerFenced, StreamClosed, StorageFull, ValueError."""
        self._check_open()
        if size > self.batch_bytes_max:
            raise ValueError(f"a batch of {size} bytes; at most {self.batch_bytes_max} are taken")
        arena = self._pool.take_own(BATCH_POSITION + size)
        self._relieve()
        if arena is None:
            raise StorageFull(f"too many arenas are held for a batch of {size} bytes; try again later")
        return StagedBatch(arena, size)

    def roll_staged(self, staged: StagedBatch) -> OpenSlot:
        """A slot for `staged` alone. Raises BrokerFenced, StreamClosed: `staged` is its owner's then, as before."""
        self._check_open()
        return self._opened(self.wal.open_staged(staged))

    def _check_open(self) -> None:
        if self.halted is not None:
            raise self.halted.with_traceback(None)
        if self._closing:
            raise StreamClosed("the broker is shutting down")
        assert self._started

    def roll(self, size: int) -> OpenSlot:
        """A slot with room for a batch of `size` bytes. Raises BrokerFenced, StreamClosed, StorageFull, ValueError."""
        self._check_open()
        if size > self.wal.append_bytes_max:
            raise ValueError(
                f"a batch of {size} bytes does not fit a WAL slot; the limit is {self.wal.append_bytes_max}"
            )
        return self._opened(self.wal.open_slot(size))

    def _opened(self, slot: OpenSlot) -> OpenSlot:
        slot.place = self.cache.open.place_of(slot.arena)
        self._queue.push(slot)
        if self._upload_timer is None:
            self._arm_upload_timer()
        self._relieve()
        return slot

    def add_stream(self, stream_id: StreamId, stream: EngineStream) -> None:
        """`stream` is open; an earlier opening of the same stream is not any more."""
        before = self._open_streams.get(stream_id)
        if before is not None:
            before.lose(StreamClosed(f"stream {stream_id} was opened again"))
        self._open_streams[stream_id] = stream

    def is_open(self, stream_id: StreamId, stream: object | None) -> bool:
        """Whether `stream` is what is open of it; None: nothing is."""
        return self._open_streams.get(stream_id) is stream

    def remove_stream(self, stream_id: StreamId, stream: EngineStream) -> None:
        """`stream` is closed."""
        self.checkpoints.before_append(stream.tail)
        if self._open_streams.get(stream_id) is stream:
            del self._open_streams[stream_id]

    def _make_wal(self, metrics: Metrics) -> ObjectWal:
        settings = self.settings
        return ObjectWal(
            settings=WalSettings(
                interval_s=settings.wal_interval_ms / 1000,
                slot_bytes_max=settings.wal_batch_bytes,
                inflight_max=settings.wal_inflight,
                eager_bytes=settings.wal_eager_bytes,
            ),
            cluster_id=self.cluster_id,
            node=self.node,
            epoch=self.epoch,
            store=self.store,
            clock=self.clock,
            entropy=self._entropy,
            tasks=self._tasks,
            metrics=metrics,
            take_arena=self._pool.take,
            on_closed=self._on_slot_closed,
            on_written=self._on_slot_written,
            on_taken=lambda key: self._fence_ourselves(
                BrokerFenced(f"the slot {key} holds another process's bytes", by=FencedBy.WAL_SLOT)
            ),
            on_vanished=lambda key: self._tasks.spawn(self._explain_vanished(key), name="look why a slot is gone"),
            on_damaged=self.damage,
        )

    def _make_uploader(self, metrics: Metrics) -> Uploader:
        return Uploader(
            cluster_id=self.cluster_id,
            node=self.node,
            epoch=self.epoch,
            store=self.store,
            objects=self.objects,
            trim_wal=self.wal.trim,
            epoch_of=self.streams.epoch,
            class_of=self.streams.retention_class,
            account=self.ledger[Account.UPLOADS],
            events=UploadEvents(
                committed=self._on_committed,
                refused=self._on_refused,
                fenced=self._fence_ourselves,
                damaged=self.damage,
            ),
            entropy=self._entropy,
            tasks=self._tasks,
            metrics=metrics,
        )

    def _watch_memory(self, metrics: Metrics) -> None:
        held = metrics.gauge("automq_arena_held_bytes", "Bytes of arenas that uploads, slots or reads keep")
        held.set_function(lambda: self._pool.held * self._pool.arena_bytes)
        self.cache.watch(metrics, self.clock.monotonic)
        cached = metrics.gauge("automq_block_cache_bytes", "Bytes of data blocks in the block cache")
        cached.set_function(lambda: self.ledger[Account.BLOCK_CACHE].used)

    def _on_slot_closed(self, slot: OpenSlot) -> None:
        block = self.cache.open
        block.add_slot(slot.size, self.clock.monotonic())
        self.cache.count_batches(slot.records)
        is_long = block.slots >= self.settings.upload_slots and not self._is_behind
        if block.size >= self.settings.upload_bytes or len(block.arenas) >= ARENAS_OF_A_BLOCK or is_long:
            self._request_seal()

    def _on_slot_written(self, slot: OpenSlot) -> None:
        for acknowledged in self._queue.take_acknowledged():
            self._acknowledge(acknowledged)

    async def _explain_vanished(self, key: str) -> None:
        """A slot was there and is gone. A recoverer that has fenced us may delete it; else the store has lost it."""
        backoff = Backoff(entropy=self._entropy)
        while self.halted is None:
            try:
                await self.objects.confirm()
            except StoreError:
                await asyncio.sleep(backoff.next_s())
            except BrokerFenced as fenced:
                self._fence_ourselves(fenced)
            except StoreDamaged as damaged:
                self.damage(damaged)
            else:
                self.damage(DataMissing(key=key, what="a WAL slot that was there a moment ago"))

    def _acknowledge(self, slot: OpenSlot) -> None:
        ends = slot.ends
        for stream, end in ends.items():
            stream.confirmed_offset = end
        waiters, slot.waiters = slot.waiters, []
        for waiter in waiters:
            waiter(None)
        for stream in ends:
            if stream.on_advance is not None:
                stream.on_advance()
        slot.arena.release()

    def _request_seal(self) -> None:
        """Seal between two turns: inside an append the appender's own state would not match its stream's end."""
        if self._seal_handle is None:
            self._seal_handle = asyncio.get_running_loop().call_soon(self._seal)

    def _seal(self) -> None:
        self.seal_block(())

    def seal_block(self, releases: Sequence[StreamRelease], prepared: Sequence[ObjectId] = ()) -> Releasing | None:
        """The open block is complete: capture checkpoints at exactly its ends and hand it to the uploader.

        `releases` are of streams that were sealed in this very turn. None: there is nothing to upload.
        """
        self._cancel_timers()
        block = self.cache.open
        if self.halted is not None or not (block.runs or releases):
            return None
        self.wal.close_slot()
        self._cancel_timers()
        block.end_sequence = self.wal.next_sequence
        durable, captured = self._durable(block.end_sequence - 1), self.checkpoints.capture(self.cache.seal())
        if not releases:
            self.uploader.submit(block, durable, captured)
            return None
        releasing = Releasing(tuple(releases), durable, list(prepared))
        self.uploader.submit(block, captured, releasing=releasing)
        return releasing

    def _durable(self, position: int) -> asyncio.Future[None]:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def known(error: Exception | None) -> None:
            if future.cancelled():
                return
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)
                # Nobody may be waiting for it any more.
                future.exception()

        self.when_durable(position, known)
        return future

    def _on_committed(self, block: CacheBlock) -> None:
        now = self.clock.monotonic()
        self.cache.committed(block, now)
        self._relieve()
        self.room.after_commit(now, upload_interval_s=self.settings.upload_interval_ms / 1000)

    def _on_refused(self, stream_id: StreamId, epoch: StreamEpoch) -> None:
        stream = self._open_streams.get(stream_id)
        if stream is not None and stream.tail.epoch == epoch:
            del self._open_streams[stream_id]
            try:
                current = self.streams.state(stream_id).epoch
            except StreamNotFound as error:
                stream.lose(error)
            else:
                stream.lose(StreamFenced(stream=stream_id, ours=epoch, current=current))

    def _fence_ourselves(self, fenced: BrokerFenced) -> None:
        if self.halted is None:
            self.halt(fenced)
            self._on_fenced(fenced)

    def _arm_upload_timer(self) -> None:
        interval_s = self.settings.upload_interval_ms / 1000
        self._upload_timer = asyncio.get_running_loop().call_later(interval_s, self._on_upload_timer)

    def _on_upload_timer(self) -> None:
        self._arm_upload_timer() if self._is_behind else self._seal()

    @property
    def _is_behind(self) -> bool:
        """The store cannot keep up or is away: more blocks would only be smaller ones."""
        return self.uploader.pending > UPLOADS_INFLIGHT

    def _cancel_timers(self) -> None:
        for handle in (self._upload_timer, self._seal_handle):
            if handle is not None:
                handle.cancel()
        self._upload_timer = self._seal_handle = None

    def _relieve(self) -> None:
        """Under memory pressure upload early, unless an upload that will make room is under way already."""
        if self.room.is_tight and not self.uploader.pending and self.cache.open.runs:
            self._request_seal()
