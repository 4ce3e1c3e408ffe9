"""The WAL on object storage: slots filled in arenas, created if absent, several in flight.

When is a slot sent? At once after silence, that is at the end of the loop's turn, so that what arrived together travels
together; under load at most once an interval; earlier when it is full. While as many slots as allowed are in flight,
the open slot goes on filling up.

A slot's bytes and nonce are frozen when it is closed; asking again an unknown outcome sends the same bytes. A slot
found taken by somebody else's bytes means that this incarnation is fenced: no new PUT from then on. A slot that holds
what nobody can have written means that the store damaged it: no new PUT either, and the key is left as it is.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from prometheus_client import Counter, Histogram

from automq.ids import BrokerEpoch, ClusterId, NodeId, Offset
from automq.runtime.clock import Clock
from automq.runtime.entropy import Entropy
from automq.runtime.tasks import Tasks
from automq.runtime.telemetry import Metrics
from automq.s3stream.arena import PAGE_BYTES, Arena
from automq.s3stream.model import StorageFull, StoreDamaged
from automq.s3stream.ports import ObjectStorage
from automq.s3stream.store.conditional import KeyTaken, create_once
from automq.s3stream.wal.format import (
    NONCE_BYTES,
    RECORD_HEADER_BYTES,
    SLOT_HEADER_BYTES,
    SlotId,
    SlotKind,
    seal_slot,
)
from automq.s3stream.wal.trimmer import SlotTrimmer

log = logging.getLogger(__name__)

_PADDING: Final = bytes(PAGE_BYTES)
# A PUT on its way that takes milliseconds is worth waiting for: acknowledgement is in order anyway, and the next slot
# grows meanwhile. One that takes a hundred is not, and a moment's wait is part of the latency of what waits.
_EAGER_WAIT_S: Final = 0.002


# Of an arena, the most that is left unused for the sake of a whole slot.
_REST_SHARE: Final = 4

# Where a batch begins that has a slot, and an arena, of its own.
BATCH_POSITION: Final = SLOT_HEADER_BYTES + RECORD_HEADER_BYTES


class Appender(Protocol):
    """Whoever appends: its `confirmed_offset` is set to the end of what is durable. Hashed by identity."""

    confirmed_offset: Offset
    on_advance: Callable[[], None] | None


class OpenSlot:
    """A region of an arena that takes appends, then a frozen slot on its way to the store.

    Not a dataclass, nothing computed: every produced batch writes `position`, `records`, `crc` and `ends`.
    """

    __slots__ = (
        "arena",
        "crc",
        "ends",
        "limit",
        "place",
        "position",
        "records",
        "sequence",
        "start",
        "view",
        "waiters",
        "written",
    )

    def __init__(self, arena: Arena, *, sequence: int, start: int, limit: int) -> None:
        self.arena = arena
        self.view = arena.view
        self.sequence = sequence
        self.start = start
        self.position = start + SLOT_HEADER_BYTES
        self.limit = limit
        self.place = 0
        """The log cache's number of the arena, shifted into place."""
        self.records = 0
        self.crc = 0
        """Of the record headers so far."""
        self.ends: dict[Appender, Offset] = {}
        self.waiters: list[Callable[[Exception | None], None]] = []
        self.written = False

    @property
    def size(self) -> int:
        """Bytes so far, header included."""
        return self.position - self.start


class StagedBatch:
    """A batch too large for a shared slot, in memory of its own, before it has a slot. `payload` is to be filled."""

    __slots__ = ("arena", "payload")

    def __init__(self, arena: Arena, size: int) -> None:
        self.arena = arena
        """Held once: until the slot's bytes are durable, or until `discard`."""
        self.payload = arena.view[BATCH_POSITION : BATCH_POSITION + size]

    def discard(self) -> None:
        """It was not appended."""
        self.arena.release()


@dataclass(frozen=True, slots=True, kw_only=True)
class WalSettings:
    """See `settings.StorageSettings`."""

    interval_s: float
    slot_bytes_max: int
    inflight_max: int
    eager_bytes: int
    """With a PUT on its way, a slot smaller than this waits for it, for a moment."""


class ObjectWal:
    """The log of one (node, epoch). Tells its owner of closed, written and taken slots; the owner acknowledges."""

    def __init__(
        self,
        *,
        settings: WalSettings,
        cluster_id: ClusterId,
        node: NodeId,
        epoch: BrokerEpoch,
        store: ObjectStorage,
        clock: Clock,
        entropy: Entropy,
        tasks: Tasks,
        metrics: Metrics,
        take_arena: Callable[[], Arena | None],
        on_closed: Callable[[OpenSlot], None],
        on_written: Callable[[OpenSlot], None],
        on_taken: Callable[[str], None],
        on_vanished: Callable[[str], object],
        on_damaged: Callable[[StoreDamaged], None],
    ) -> None:
        assert settings.inflight_max > 0
        self._settings = settings
        self._cluster_id, self._node, self._epoch = cluster_id, node, epoch
        self._store = store
        self._clock = clock
        self._entropy = entropy
        self._tasks = tasks
        self._take_arena = take_arena
        self._on_closed, self._on_written = on_closed, on_written
        self._on_taken, self._on_vanished, self._on_damaged = on_taken, on_vanished, on_damaged
        self._arena: Arena | None = None
        self._arena_position = 0
        self.slot: OpenSlot | None = None
        """The slot that takes appends."""
        self.next_sequence = 0
        self._ready: deque[OpenSlot] = deque()
        self._inflight: dict[int, asyncio.Task[None]] = {}
        self._due = False
        self._sent_at = -1e9
        self._timer: asyncio.Handle | None = None
        self.trimmer = SlotTrimmer(
            store=store,
            key_of=lambda sequence: self.slot_id(sequence).key,
            entropy=entropy,
            tasks=tasks,
            metrics=metrics,
        )
        self.stopped = self.is_closing = False
        self._slots_total: Counter = metrics.counter("automq_wal_slots", "WAL slots written")
        self._bytes_total: Counter = metrics.counter("automq_wal_bytes", "Bytes of WAL slots written")
        self._seconds: Histogram = metrics.histogram("automq_wal_put_seconds", "From a slot's first PUT to its success")

    @property
    def append_bytes_max(self) -> int:
        """The largest batch that fits a slot."""
        return self._settings.slot_bytes_max - SLOT_HEADER_BYTES - RECORD_HEADER_BYTES

    @property
    def arena_room(self) -> int:
        """Bytes left in the arena that is being filled."""
        if self._arena is None:
            return 0
        is_open = self.slot is not None and self.slot.arena is self._arena
        return self._arena.size - (self.slot.position if is_open and self.slot is not None else self._arena_position)

    @property
    def is_trimmed(self) -> bool:
        """Whether T is at the end: nothing of the log is needed, and nothing is on its way into it."""
        return self.trimmer.trimmed_to >= self.next_sequence

    def open_slot(self, size: int) -> OpenSlot:
        """Close the open slot if there is one, and open one with room for a batch of `size`. Raises StorageFull."""
        assert not self.stopped
        assert size <= self.append_bytes_max
        needed = SLOT_HEADER_BYTES + RECORD_HEADER_BYTES + size
        self.close_slot()
        arena = self._arena
        if arena is None or self._arena_position + needed > arena.size:
            arena = self._change_arena()
        start = self._arena_position
        slot = OpenSlot(
            arena,
            sequence=self.next_sequence,
            start=start,
            limit=min(arena.size, start + self._settings.slot_bytes_max),
        )
        arena.hold()
        self.next_sequence += 1
        self.slot = slot
        self._schedule()
        return slot

    def next_place(self, size: int) -> tuple[memoryview, int] | None:
        """Where `open_slot` would place a batch of `size` first, in memory that is nobody's until then.

        The arena's bytes and the position of the batch's record; None when a slot is open, or an arena must be taken.
        """
        arena, start = self._arena, self._arena_position
        if self.stopped or self.is_closing or self.slot is not None or arena is None or size > self.append_bytes_max:
            return None
        position = start + SLOT_HEADER_BYTES
        return (arena.view, position) if position + RECORD_HEADER_BYTES + size <= arena.size else None

    def open_staged(self, staged: StagedBatch) -> OpenSlot:
        """Close the open slot if there is one, and open one for `staged` alone, whose hold becomes the slot's."""
        assert not self.stopped
        self.close_slot()
        slot = OpenSlot(staged.arena, sequence=self.next_sequence, start=0, limit=-1)
        self.next_sequence += 1
        self.slot = slot
        self._schedule()
        return slot

    def close_slot(self) -> None:
        """Freeze the open slot, if any, and send it as soon as it is its turn."""
        slot, self.slot = self.slot, None
        if slot is None:
            return
        assert slot.records
        self._due = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        seal_slot(
            slot.view,
            start=slot.start,
            end=slot.position,
            slot=self.slot_id(slot.sequence),
            kind=SlotKind.DATA,
            nonce=self._entropy.token(NONCE_BYTES),
            records=slot.records,
            crc=slot.crc,
            durable_below=self._durable_below(slot.sequence),
        )
        end = (slot.position + PAGE_BYTES - 1) & -PAGE_BYTES
        slot.view[slot.position : end] = _PADDING[: end - slot.position]
        if slot.arena is self._arena:
            self._arena_position = end
        slot.limit = -1
        self._ready.append(slot)
        self._on_closed(slot)
        self._send_ready()

    def trim(self, trimmed_to: int) -> None:
        """Delete what a commit has made superfluous, some time: nothing waits for it.

        Rule of the log: trim is a record before it is a delete. `trimmed_to` is the T a commit has made durable.
        """
        if not self.stopped:
            self.trimmer.trim(trimmed_to)

    def stop(self) -> None:
        """No new PUT from now on: fenced, or closed for good."""
        self.stopped = True
        self.slot = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._ready.clear()
        self.trimmer.stop()
        for task in self._inflight.values():
            task.cancel()

    def _durable_below(self, sequence: int) -> int:
        """Every slot below is known to be durable, while `sequence` is being sealed."""
        if self._inflight:
            return next(iter(self._inflight))
        return self._ready[0].sequence if self._ready else sequence

    def slot_id(self, sequence: int) -> SlotId:
        """One slot of this log."""
        return SlotId(cluster_id=self._cluster_id, node=self._node, epoch=self._epoch, sequence=sequence)

    def _change_arena(self) -> Arena:
        arena = self._take_arena()
        if arena is None:
            raise StorageFull("every arena is held by uploads, reads or slots in flight; try again later")
        self._use_arena(arena)
        return arena

    def _use_arena(self, arena: Arena) -> None:
        """Slots lie in `arena` from now on."""
        old, self._arena, self._arena_position = self._arena, arena, 0
        if old is not None:
            old.release()

    def _schedule(self) -> None:
        loop = asyncio.get_running_loop()
        wait = self._sent_at + self._settings.interval_s - self._clock.monotonic()
        self._timer = loop.call_later(wait, self._flush) if wait > 0 else loop.call_soon(self._flush)

    def _flush(self) -> None:
        """The open slot has waited for as long as its interval asks."""
        self._timer = None
        if self._inflight and self.slot is not None and self.slot.size < self._settings.eager_bytes and not self._due:
            self._due = True
            self._timer = asyncio.get_running_loop().call_later(_EAGER_WAIT_S, self._flush)
        elif len(self._inflight) >= self._settings.inflight_max:
            self._due = True
        else:
            self._close_in_time()

    def _close_in_time(self) -> None:
        """Close the open slot because its interval is over: the next one will be about as large.

        Where an arena's rest is too short for that it would be cut by the arena's end, and each arena would cost one
        more PUT. So a short rest is left unused.
        """
        slot = self.slot
        self.close_slot()
        arena = self._arena
        if slot is None or arena is None or slot.arena is not arena:
            return
        if 0 < self.arena_room < min(slot.size, arena.size // _REST_SHARE):
            fresh = self._take_arena()
            if fresh is not None:
                self._use_arena(fresh)

    def _send_ready(self) -> None:
        while self._ready and len(self._inflight) < self._settings.inflight_max:
            slot = self._ready.popleft()
            self._sent_at = self._clock.monotonic()
            self._inflight[slot.sequence] = self._tasks.spawn(self._put(slot), name=f"wal slot {slot.sequence}")

    async def _put(self, slot: OpenSlot) -> None:
        started = self._clock.monotonic()
        end = (slot.position + PAGE_BYTES - 1) & -PAGE_BYTES
        slot_id = self.slot_id(slot.sequence)
        key = slot_id.key
        body = [slot.view[slot.start : end]]
        try:
            await create_once(self._store, key, body, decode=slot_id.decode, entropy=self._entropy)
        except KeyTaken as taken:
            (self._on_taken if taken.body is not None else self._on_vanished)(key)
            return
        except StoreDamaged as error:
            self._on_damaged(error)
            return
        del self._inflight[slot.sequence]
        self._slots_total.inc()
        self._bytes_total.inc(end - slot.start)
        self._seconds.observe(self._clock.monotonic() - started)
        slot.written = True
        self._on_written(slot)
        if self._ready:
            self._send_ready()
        elif self._due:
            self._close_in_time()
