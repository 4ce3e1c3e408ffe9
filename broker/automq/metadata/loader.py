"""Reading the metadata log: newest snapshot, then every slot after it, epoch by epoch. A new
controller fences as it goes.

A reader may be slow, and the log moves meanwhile: slots it wants may be trimmed, because a newer snapshot includes
them. Whatever does not fit together then means "overtaken", and reading begins anew at the snapshot that is newest by
now. Overtaken twice at the same place with the same snapshot is no race but damage.

Rules that live here, each a function of its own: `fences_lower_epochs`, `check_contiguous`, `check_not_void`,
`fence_counts`.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from automq.ids import ClusterId, ControllerEpoch
from automq.metadata.claim import highest_claim
from automq.metadata.image import EMPTY, MetadataImage
from automq.metadata.log_format import (
    NONCE_BYTES,
    Kind,
    LogPosition,
    Slot,
    decode_slot,
    decode_snapshot,
    encode_fence,
    epoch_folder,
    parse_slot_key,
    parse_snapshot_key,
    slot_key,
    snapshot_folder,
    snapshot_key,
)
from automq.metadata.patience import Patience
from automq.metadata.replay import MetadataMachine, replay_all
from automq.replicated.machine import LogFenced
from automq.runtime.entropy import Entropy
from automq.runtime.tasks import Tasks
from automq.s3stream.model import CorruptData
from automq.s3stream.ports import ObjectNotFound, ObjectStorage
from automq.s3stream.store.conditional import KeyTaken, create_once
from automq.s3stream.store.listing import list_own

# Slots asked for in one listing; they are small, and a listing is one request.
WINDOW: Final = 256
# Slots read at once.
READS: Final = 16
FIRST_EPOCH: Final = ControllerEpoch(1)


class Overtaken(Exception):
    """What was read does not fit together: the log moved on meanwhile."""

    def __init__(self, position: LogPosition, what: str) -> None:
        super().__init__(f"slot {position} of the metadata log: {what}")
        self.position = position
        self.what = what


@dataclass(frozen=True, slots=True)
class Snapshot:
    """An image, and the slot it includes; None before the first snapshot."""

    position: LogPosition | None
    image: MetadataImage


@dataclass(frozen=True, slots=True)
class Loaded:
    """The image at the log's end, and what had to be read for it: a snapshot is due when that was much."""

    image: MetadataImage
    epochs: int
    slots: int


class LogLoader:
    """Loads one cluster's log."""

    def __init__(
        self, *, store: ObjectStorage, cluster_id: ClusterId, entropy: Entropy, patience: Patience, tasks: Tasks
    ) -> None:
        self._store = store
        self._cluster_id = cluster_id
        self._entropy = entropy
        self._patience = patience
        self._tasks = tasks
        self._slots = 0

    async def take_over(self, epoch: ControllerEpoch) -> Loaded:
        """Fence and replay every lower epoch; what comes next is slot 0 of `epoch`, which is claimed already.

        Raises LogFenced when a higher claim has been at work already, CorruptData, FormatTooNew.
        """
        return await self._load(ControllerEpoch(epoch - 1), fencer=epoch)

    async def read(self) -> Loaded:
        """What the log says now, without touching it. Raises CorruptData, FormatTooNew."""
        return await self._load(await highest_claim(self._store, self._cluster_id, self._patience), fencer=None)

    async def _load(self, last: ControllerEpoch, *, fencer: ControllerEpoch | None) -> Loaded:
        failed_at: tuple[LogPosition | None, LogPosition] | None = None
        while True:
            # After claiming: a snapshot that was loaded before may be behind what the last controller trimmed since.
            snapshot = await self._newest_snapshot()
            try:
                return await self._replay_epochs(snapshot, last, fencer)
            except Overtaken as overtaken:
                here = (snapshot.position, overtaken.position)
                if here == failed_at:
                    key = slot_key(self._cluster_id, overtaken.position)
                    raise CorruptData(key=key, offset=0, length=0, what=f"metadata log ({overtaken.what})") from None
                failed_at = here

    async def _replay_epochs(self, snapshot: Snapshot, last: ControllerEpoch, fencer: ControllerEpoch | None) -> Loaded:
        machine = MetadataMachine(snapshot.image)
        self._slots = 0
        first = LogPosition(FIRST_EPOCH, 0)
        if snapshot.position is not None:
            first = LogPosition(snapshot.position.epoch, snapshot.position.sequence + 1)
            if fencer is not None and first.epoch >= fencer:
                raise LogFenced(f"controller epoch {fencer} was overtaken by epoch {first.epoch} while it started")
        for number in range(first.epoch, last + 1):
            epoch = ControllerEpoch(number)
            start = first.sequence if epoch == first.epoch else 0
            await self._replay_epoch(machine, snapshot, LogPosition(epoch, start), fencer)
        return Loaded(machine.image, last + 1 - first.epoch, self._slots)

    async def _replay_epoch(
        self, machine: MetadataMachine, snapshot: Snapshot, position: LogPosition, fencer: ControllerEpoch | None
    ) -> None:
        """Replay from `position` to the epoch's fence; put one there if there is none and `fencer` says so."""
        while True:
            present = await self._present_from(position)
            for listed, data in zip(present, await self._read_slots(present), strict=True):
                if data is None:
                    raise Overtaken(listed, "it was trimmed")
                slot = decode_slot(self._cluster_id, listed, data)
                check_contiguous(slot, position, machine.record_number)
                self._slots += 1
                if slot.kind == Kind.FENCE:
                    await self._check_fence(slot, snapshot)
                    return
                for record in slot.records:
                    machine.replay(record)
                position = LogPosition(position.epoch, position.sequence + 1)
            if not present and (
                fencer is None or not fences_lower_epochs() or await self._win(position, machine.record_number, fencer)
            ):
                return

    async def _win(self, position: LogPosition, record_number: int, fencer: ControllerEpoch) -> bool:
        """Put a fence into the slot; False when somebody else was first and there is one slot more to read."""
        body = encode_fence(
            self._cluster_id,
            position,
            first_record=record_number,
            fencer=fencer,
            nonce=self._entropy.token(NONCE_BYTES),
        )
        key = slot_key(self._cluster_id, position)
        try:
            await create_once(
                self._store,
                key,
                body,
                decode=lambda data: decode_slot(self._cluster_id, position, data),
                entropy=self._entropy,
                on_trouble=self._patience.on_store,
            )
        except KeyTaken:
            return False
        check_not_void(position, await self._present_from(LogPosition(position.epoch, position.sequence + 1)))
        return True

    async def _check_fence(self, fence: Slot, snapshot: Snapshot) -> None:
        higher = await self._present_from(LogPosition(fence.position.epoch, fence.position.sequence + 1))
        is_loaded_newest = bool(higher) and await self._newest_snapshot_position() == snapshot.position
        if not fence_counts(is_highest=not higher, is_loaded_newest=is_loaded_newest):
            raise Overtaken(fence.position, "a fence that was put into a trimmed slot")

    async def _present_from(self, position: LogPosition) -> Sequence[LogPosition]:
        """Slots of the epoch that a listing shows at `position` and above, ascending, at most a window."""
        before = "" if position.sequence == 0 else slot_key(self._cluster_id, _previous(position))
        folder = epoch_folder(self._cluster_id, position.epoch)
        found = await self._patience.insist(
            lambda: list_own(self._store, folder, parse_slot_key, start_after=before, limit=WINDOW)
        )
        return sorted(listed.parsed for listed in found)

    async def _read_slots(self, positions: Sequence[LogPosition]) -> list[bytes | None]:
        """The bytes of each slot, None where it is gone; several at a time: a round trip is all they cost."""
        found: list[bytes | None] = []
        for first in range(0, len(positions), READS):
            reads = [
                self._tasks.spawn(self._read_slot(position), name=f"read slot {position}")
                for position in positions[first : first + READS]
            ]
            await asyncio.wait(reads)
            found.extend(read.result() for read in reads)
        return found

    async def _read_slot(self, position: LogPosition) -> bytes | None:
        key = slot_key(self._cluster_id, position)
        try:
            return await self._patience.insist(lambda: self._store.get(key))
        except ObjectNotFound:
            return None

    async def _newest_snapshot_position(self) -> LogPosition | None:
        folder = snapshot_folder(self._cluster_id)
        found = await self._patience.insist(lambda: list_own(self._store, folder, parse_snapshot_key))
        return max((listed.parsed for listed in found), default=None)

    async def _newest_snapshot(self) -> Snapshot:
        while True:
            position = await self._newest_snapshot_position()
            if position is None:
                return Snapshot(None, EMPTY)
            key = snapshot_key(self._cluster_id, position)
            try:
                data = await self._patience.insist(lambda key=key: self._store.get(key))  # type: ignore[misc]
            except ObjectNotFound:
                continue  # Two newer ones exist by now.
            slot = decode_snapshot(self._cluster_id, position, data)
            image = replay_all(EMPTY, slot.records).with_record_number(slot.first_record)
            return Snapshot(position, image)


def fences_lower_epochs() -> bool:
    """Rule: a new controller fences every lower epoch that has no fence before it uses its own slot 0."""
    return True


def check_contiguous(slot: Slot, expected: LogPosition, record_number: int) -> None:
    """Rule: a missing slot, or a record number that does not follow, means reload. Raises Overtaken."""
    if slot.position != expected:
        raise Overtaken(expected, f"missing, while {slot.position} exists")
    if slot.first_record != record_number:
        raise Overtaken(expected, f"begins with record {slot.first_record}, but {record_number} comes next")


def check_not_void(position: LogPosition, higher: Sequence[LogPosition]) -> None:
    """Rule: a slot above voids the win of a fence; it was put into a trimmed slot. Raises Overtaken."""
    if higher:
        raise Overtaken(position, f"our fence is void, {higher[0]} exists")


def fence_counts(*, is_highest: bool, is_loaded_newest: bool) -> bool:
    """Rule: only a fence counts that is its epoch's highest slot, or that a replay from the newest snapshot reaches."""
    return is_highest or is_loaded_newest


def _previous(position: LogPosition) -> LogPosition:
    return LogPosition(position.epoch, position.sequence - 1)
