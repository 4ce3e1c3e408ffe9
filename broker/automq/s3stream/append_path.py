"""The append path of one broker incarnation: memory, the WAL's open slot, the log cache, and who waits for a slot.

    room ▶ open slot (`roll`, `stage`) ▶ slot closed, one PUT ▶ written ▶ acknowledged strictly in slot order

Acknowledging a slot moves the confirmed offsets of its streams, and calls whoever waits for it. The upload of what is
in the log cache is the upload path's; it is known here by the port `Uploads`. Nothing here awaits.
"""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from automq.ids import StreamId
from automq.runtime.ledger import Account
from automq.s3stream.append_queue import AppendQueue
from automq.s3stream.arena import ArenaPool
from automq.s3stream.cache.log_cache import LogCache
from automq.s3stream.cache.room import Room
from automq.s3stream.incarnation import Incarnation
from automq.s3stream.model import BrokerFenced, StorageFull, StoreDamaged, StreamClosed
from automq.s3stream.upload.capture import CheckpointCapture, EngineStream
from automq.s3stream.wal.object_wal import BATCH_POSITION, ObjectWal, OpenSlot, StagedBatch, WalSettings


class Uploads(Protocol):
    """What appending needs of uploading: memory is made by nothing else."""

    @property
    def pending(self) -> int:
        """Blocks on their way to a commit."""
        ...

    def slot_opened(self) -> None:
        """The open block will hold records: it must be uploaded in due time, early when memory is tight."""

    def slot_closed(self) -> None:
        """The open block has grown by a slot."""

    def relieve(self) -> None:
        """Upload early if that makes room."""


class AppendPath:
    """Slots for batches, and the order of their acknowledgement.

    `uploads` is set by the upload path before `start`. After `halt` nothing is acknowledged any more.
    """

    uploads: Uploads

    def __init__(
        self,
        incarnation: Incarnation,
        *,
        on_taken: Callable[[str], None],
        on_vanished: Callable[[str], object],
        on_damaged: Callable[[StoreDamaged], None],
    ) -> None:
        """The callbacks concern slots: another process's bytes are there; it was there and is gone; it is damaged."""
        settings, ledger, tasks = incarnation.settings, incarnation.ledger, incarnation.tasks
        clock, metrics = incarnation.clock, incarnation.metrics
        self._settings, self._clock = settings, clock
        self.halted: BrokerFenced | StoreDamaged | None = None
        """Why this incarnation may not acknowledge, write or read any more."""
        self._is_started = self._is_closing = False
        self.open_streams: dict[StreamId, EngineStream] = {}
        index, checkpoints = ledger[Account.LOG_CACHE_INDEX], ledger[Account.CHECKPOINTS]
        self.cache: Final = LogCache(index=index, checkpoints=checkpoints)
        self.checkpoints: Final = CheckpointCapture(cache=self.cache, streams=self.open_streams, tasks=tasks)
        self.pool: Final = ArenaPool(
            arenas_max=settings.arenas_max, arena_bytes=settings.arena_unit_bytes, account=ledger[Account.ARENAS]
        )
        self.room: Final = Room(
            pool=self.pool,
            cache=self.cache,
            index=index,
            checkpoints=checkpoints,
            reserve_bytes=settings.reserve_bytes,
        )
        self.room.is_there = lambda: self.halted is not None or self.has_room(1)
        self._queue: AppendQueue[OpenSlot] = AppendQueue()
        self.wal: Final = ObjectWal(
            settings=WalSettings(
                interval_s=settings.wal_interval_ms / 1000,
                slot_bytes_max=settings.wal_batch_bytes,
                inflight_max=settings.wal_inflight,
                eager_bytes=settings.wal_eager_bytes,
            ),
            cluster_id=incarnation.cluster_id,
            node=incarnation.node,
            epoch=incarnation.epoch,
            store=incarnation.store,
            clock=clock,
            entropy=incarnation.entropy,
            tasks=tasks,
            metrics=metrics,
            take_arena=self.pool.take,
            on_closed=self._on_slot_closed,
            on_written=self._on_slot_written,
            on_taken=on_taken,
            on_vanished=on_vanished,
            on_damaged=on_damaged,
        )
        held = metrics.gauge("automq_arena_held_bytes", "Bytes of arenas that uploads, slots or reads keep")
        held.set_function(lambda: self.pool.held * self.pool.arena_bytes)
        self.cache.watch(metrics, clock.monotonic)

    def start(self) -> None:
        """Take appends from now on."""
        self._is_started = True

    def refuse(self) -> None:
        """Refuse appends from now on: an orderly end has begun. What was appended is still written and acknowledged."""
        self._is_closing = self.wal.is_closing = True

    def stop(self) -> None:
        """Write nothing any more, as after a crash; nobody is called."""
        self._is_closing = self.wal.is_closing = True
        self.wal.stop()

    def halt(self, error: BrokerFenced | StoreDamaged) -> None:
        """No PUT, no acknowledgement, no read from now on; whoever waits is called with `error`. Called once."""
        assert self.halted is None
        self.halted = error
        slots = self._queue.fence()
        self.wal.stop()
        for slot in slots:
            waiters, slot.waiters = slot.waiters, []
            for waiter in waiters:
                waiter(error)
        for stream in list(self.open_streams.values()):
            stream.lose(error)
        self.room.schedule()

    @property
    def append_bytes_max(self) -> int:
        """The largest batch `Stream.append` takes."""
        return self.wal.append_bytes_max

    @property
    def batch_bytes_max(self) -> int:
        """The largest batch of all: beyond `append_bytes_max` with `Stream.stage`."""
        return max(self.wal.append_bytes_max, self._settings.own_slot_bytes_max)

    def has_room(self, size: int) -> bool:
        """Whether a Produce request of `size` bytes fits; what is internal may use the reserve above that."""
        if self.room.is_crowded(uploads_pending=self.uploads.pending > 0):
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
        self.uploads.relieve()

    def when_durable(self, position: int, callback: Callable[[Exception | None], None]) -> None:
        """Call `callback` once: with None when WAL slot `position` is durable, in slot order, at once if it is.

        With BrokerFenced or StoreDamaged when this incarnation may not acknowledge any more.
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

    def durable(self, position: int) -> asyncio.Future[None]:
        """Done when WAL slot `position` is durable. Raises BrokerFenced, StoreDamaged; it need not be awaited."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def known(error: Exception | None) -> None:
            if future.cancelled():
                return
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)
                # Retrieved here: nobody may be waiting for it any more.
                future.exception()

        self.when_durable(position, known)
        return future

    @property
    def needed_slots(self) -> range:
        """Sequences of acknowledged slots that must be in the store: nobody has asked yet to delete them."""
        return range(self.wal.trimmer.trimmed_to, self._queue.acknowledged_below)

    def stage(self, size: int) -> StagedBatch:
        """Memory of its own for a batch of `size` bytes. Raises BrokerFenced, StreamClosed, StorageFull, ValueError."""
        self._check_open()
        if size > self.batch_bytes_max:
            raise ValueError(f"a batch of {size} bytes; at most {self.batch_bytes_max} are taken")
        arena = self.pool.take_own(BATCH_POSITION + size)
        self.uploads.relieve()
        if arena is None:
            raise StorageFull(f"too many arenas are held for a batch of {size} bytes; try again later")
        return StagedBatch(arena, size)

    def roll_staged(self, staged: StagedBatch) -> OpenSlot:
        """A slot for `staged` alone. Raises BrokerFenced, StreamClosed: `staged` is its owner's then, as before."""
        self._check_open()
        return self._opened(self.wal.open_staged(staged))

    def roll(self, size: int) -> OpenSlot:
        """A slot with room for a batch of `size` bytes. Raises BrokerFenced, StreamClosed, StorageFull, ValueError."""
        self._check_open()
        if size > self.wal.append_bytes_max:
            raise ValueError(
                f"a batch of {size} bytes does not fit a WAL slot; the limit is {self.wal.append_bytes_max}"
            )
        return self._opened(self.wal.open_slot(size))

    def add_stream(self, stream_id: StreamId, stream: EngineStream) -> None:
        """`stream` is open; an earlier opening of the same stream is not any more."""
        before = self.open_streams.get(stream_id)
        if before is not None:
            before.lose(StreamClosed(f"stream {stream_id} was opened again"))
        self.open_streams[stream_id] = stream

    def is_open(self, stream_id: StreamId, stream: object | None) -> bool:
        """Whether `stream` is what is open of it; None: nothing is."""
        return self.open_streams.get(stream_id) is stream

    def remove_stream(self, stream_id: StreamId, stream: EngineStream) -> None:
        """`stream` is closed."""
        self.checkpoints.before_append(stream.tail)
        if self.open_streams.get(stream_id) is stream:
            del self.open_streams[stream_id]

    def _check_open(self) -> None:
        if self.halted is not None:
            raise self.halted.with_traceback(None)
        if self._is_closing:
            raise StreamClosed("the broker is shutting down")
        assert self._is_started

    def _opened(self, slot: OpenSlot) -> OpenSlot:
        slot.place = self.cache.open.place_of(slot.arena)
        self._queue.push(slot)
        self.uploads.slot_opened()
        return slot

    def _on_slot_closed(self, slot: OpenSlot) -> None:
        self.cache.open.add_slot(slot.size, self._clock.monotonic())
        self.cache.count_batches(slot.records)
        self.uploads.slot_closed()

    def _on_slot_written(self, slot: OpenSlot) -> None:
        for acknowledged in self._queue.take_acknowledged():
            self._acknowledge(acknowledged)

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
