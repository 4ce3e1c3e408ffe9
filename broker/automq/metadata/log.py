"""The metadata log of one claim: slots created if absent, one at a time, many records in each.

The writer is the active controller. While one slot is on its way to the store, everything that is appended gathers and
goes into the next one (group commit). A slot's bytes are frozen before its PUT; the outcome of a PUT is always learned,
however often it has to be asked for again. A slot that somebody else has taken ends this writer for good.

Rules that live here, each a method of its own: `_take_group` (one append in flight, a call is never split),
`_confirm` (in order), `_lose` (fenced: no new PUT and no acknowledgement), `poll_fence`.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Final

from automq.ids import ClusterId, ControllerEpoch
from automq.metadata.log_format import (
    HEADER_BYTES,
    NONCE_BYTES,
    LogPosition,
    decode_slot,
    encode_slot,
    is_fence_header,
    slot_key,
)
from automq.metadata.patience import Patience
from automq.metadata.records import MetadataRecord, encode_record
from automq.replicated.machine import LogBusy, LogFailed, LogFenced
from automq.runtime.entropy import Entropy
from automq.runtime.tasks import Tasks
from automq.s3stream.model import StoreDamaged
from automq.s3stream.ports import ObjectNotFound, ObjectStorage
from automq.s3stream.store.conditional import KeyTaken, create_once

# A create carries at most 8 MiB; groups stay well below, so that a slot is quick to write and to read.
GROUP_BYTES_MAX: Final = 1024 * 1024
APPEND_BYTES_MAX: Final = 7 * 1024 * 1024
# What waits is held in memory, and replayed in advance. While the store takes no slot, callers are told to come back.
WAITING_BYTES_MAX: Final = 16 * 1024 * 1024
WAITING_APPENDS_MAX: Final = 10_000

# About how long it takes to encode a record.
ENCODE_US: Final = 4
ENCODED_BYTES_A_US: Final = 20


class AppendTooLarge(ValueError):
    """One atomic change does not fit into one slot."""


@dataclass(slots=True)
class _Waiting:
    """One append: its records' bytes, and who waits for them."""

    encoded: Sequence[bytes]
    size: int
    done: asyncio.Future[None]


OnDurable = Callable[[LogPosition, int, int, Sequence[bytes]], None]
"""Where a slot is, how many records come before it, how many there are with it, and its bytes."""


class MetadataLog:
    """Implements `RecordLog` for one controller epoch.

    `on_fenced` is called once, with what was found, when somebody else has taken over; `on_damaged` when the slot that
    is ours to write holds what nobody can have written: it is left as it is, and this writer ends.
    """

    def __init__(
        self,
        *,
        store: ObjectStorage,
        cluster_id: ClusterId,
        epoch: ControllerEpoch,
        record_number: int,
        entropy: Entropy,
        tasks: Tasks,
        patience: Patience,
        on_fenced: Callable[[LogFenced], None],
        on_damaged: Callable[[StoreDamaged], None],
        on_durable: OnDurable = lambda _position, _first, _number, _body: None,
        now: Callable[[], float] | None = None,
    ) -> None:
        """`on_durable` is called with each slot that has become durable, before whoever waits for it.

        `now` is the clock that `proved_at` is told by.
        """
        self._on_durable = on_durable
        self._now = now
        self.proved_at: float | None = None
        """When the append or look began that last showed that nobody had taken over; None before the first."""
        self._store = store
        self._cluster_id = cluster_id
        self._entropy = entropy
        self._tasks = tasks
        self._patience = patience
        self._on_fenced = on_fenced
        self._on_damaged = on_damaged
        self._waiting: deque[_Waiting] = deque()
        self._waiting_bytes = 0
        self._next = LogPosition(epoch, 0)
        self._record_number = record_number
        self._in_flight: Sequence[_Waiting] = ()
        self._writing = False
        self._writer: asyncio.Task[None] | None = None
        self._failure: LogFenced | LogFailed | StoreDamaged | None = None
        self.bytes_written = 0
        """Payload bytes since the start; snapshots are paced by it."""

    @property
    def durable(self) -> LogPosition | None:
        """The newest slot of this epoch that is durable."""
        sequence = self._next.sequence
        return LogPosition(self._next.epoch, sequence - 1) if sequence else None

    @property
    def slots_written(self) -> int:
        """How many slots of this epoch are durable."""
        return self._next.sequence

    @property
    def record_number(self) -> int:
        """How many records the log holds, up to `durable`."""
        return self._record_number

    @property
    def _is_idle(self) -> bool:
        return not self._writing and self._failure is None

    def append(self, records: Sequence[MetadataRecord]) -> asyncio.Future[None]:
        """See `RecordLog.append`. Raises AppendTooLarge and LogBusy before anything is taken."""
        return self._append([encode_record(record) for record in records])

    def append_in_turns(self, records: Sequence[MetadataRecord]) -> Generator[int | None, None, "asyncio.Future[None]"]:
        """See `GradualLog.append_in_turns`. Raises as `append`."""
        encoded: list[bytes] = []
        for record in records:
            encoded.append(encode_record(record))
            yield ENCODE_US + len(encoded[-1]) // ENCODED_BYTES_A_US
        return self._append(encoded)

    def _append(self, encoded: Sequence[bytes]) -> "asyncio.Future[None]":
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self._failure is not None:
            done.set_exception(self._failure.with_traceback(None))
            return done
        size = sum(map(len, encoded))
        if size > APPEND_BYTES_MAX:
            raise AppendTooLarge(f"one change of {size} bytes of metadata; at most {APPEND_BYTES_MAX} fit into a slot")
        if self._waiting and (
            self._waiting_bytes + size > WAITING_BYTES_MAX or len(self._waiting) >= WAITING_APPENDS_MAX
        ):
            raise LogBusy(f"{len(self._waiting)} changes of metadata wait for the store; try again later")
        self._waiting.append(_Waiting(encoded, size, done))
        self._waiting_bytes += size
        if not self._writing:
            self._writing = True
            self._writer = self._tasks.spawn(self._write(), name="metadata log")
        return done

    async def poll_fence(self) -> bool:
        """Rule: a fenced process learns of it without writing: it looks for its own next slot.

        Whether it knows: where the slot that is being written lies there already, only its outcome will tell. Raises
        StoreError; what it finds it tells to `on_fenced`.
        """
        position, is_writing = self._next, self._writing
        if self._failure is not None:
            return False
        key = slot_key(self._cluster_id, position)
        began = None if self._now is None else self._now()
        try:
            header = await self._store.get_range(key, 0, HEADER_BYTES)
        except ObjectNotFound:
            self._prove(began)
            return True
        # A slot of records may be our own, of a write that began meanwhile. A fence never is: from this moment on
        # nothing may be answered, so a write that is still to find out is not waited for.
        if is_fence_header(header) or (position == self._next and self._is_idle):
            self._lose(LogFenced(f"slot {position} of the metadata log belongs to another controller"))
        return not is_writing

    def _prove(self, began: float | None) -> None:
        """Rule: what is proved is proved as of the moment in which the question began."""
        if began is not None and (self.proved_at is None or began > self.proved_at):
            self.proved_at = began

    def close(self) -> None:
        """Take nothing any more; what waits fails. A slot on its way may still land: a successor will find it."""
        self._fail(LogFailed("the metadata log was closed"))

    async def drain(self, timeout_s: float) -> None:
        """After `close`: give the slot on its way that long to arrive. A request broken off may leave half of it."""
        if self._writer is not None and not self._writer.done():
            await asyncio.wait({self._writer}, timeout=timeout_s)

    async def _write(self) -> None:
        """Slot after slot, as long as something waits."""
        try:
            while self._waiting and self._failure is None:
                group = self._take_group()
                encoded = [record for waiting in group for record in waiting.encoded]
                body = encode_slot(
                    self._cluster_id,
                    self._next,
                    first_record=self._record_number,
                    encoded=encoded,
                    nonce=self._entropy.token(NONCE_BYTES),
                )
                began = None if self._now is None else self._now()
                try:
                    await self._create(self._next, body)
                except KeyTaken:
                    self._lose(LogFenced(f"slot {self._next} of the metadata log belongs to another controller"))
                    return
                except StoreDamaged as error:
                    self._break(error)
                    return
                self._prove(began)
                self._confirm(group, records=len(encoded), body=body)
        finally:
            self._writing = False

    async def _create(self, position: LogPosition, body: Sequence[bytes]) -> None:
        await create_once(
            self._store,
            slot_key(self._cluster_id, position),
            body,
            decode=lambda data: decode_slot(self._cluster_id, position, data),
            entropy=self._entropy,
            on_trouble=self._patience.on_store,
        )

    def _take_group(self) -> list[_Waiting]:
        """Rule: one slot in flight; what one call appended is never split over two slots."""
        assert not self._in_flight
        group = [self._waiting.popleft()]
        size = group[0].size
        while self._waiting and size + self._waiting[0].size <= GROUP_BYTES_MAX:
            group.append(self._waiting.popleft())
            size += group[-1].size
        self._in_flight = group
        self._waiting_bytes -= size
        return group

    def _confirm(self, group: Sequence[_Waiting], *, records: int, body: Sequence[bytes]) -> None:
        """Rule: acknowledged strictly in slot order, and within a slot in the order of the calls."""
        position, first_record = self._next, self._record_number
        self._next = LogPosition(position.epoch, position.sequence + 1)
        self._record_number += records
        self.bytes_written += sum(map(len, body))
        self._on_durable(position, first_record, self._record_number, body)
        self._in_flight = ()
        for waiting in group:
            if not waiting.done.done():
                waiting.done.set_result(None)

    def _lose(self, error: LogFenced) -> None:
        """Rule: a slot taken by another nonce means fenced: no new PUT and no acknowledgement any more."""
        if self._failure is None:
            self._fail(error)
            self._on_fenced(error)

    def _break(self, error: StoreDamaged) -> None:
        """Rule: what does not decode is damage, never a fence: no new PUT, no acknowledgement, and the key stays."""
        if self._failure is None:
            self._fail(error)
            self._on_damaged(error)

    def _fail(self, error: LogFenced | LogFailed | StoreDamaged) -> None:
        if self._failure is not None:
            return
        self._failure = error
        failed = [*self._in_flight, *self._waiting]
        self._waiting.clear()
        self._waiting_bytes = 0
        for waiting in failed:
            if not waiting.done.done():
                waiting.done.set_exception(error)
