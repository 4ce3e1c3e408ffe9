"""Reading the metadata log: newest snapshot, then every slot after it, epoch by epoch. A new
controller fences as it goes.

A reader may be slow, and the log moves meanwhile: slots it wants may be trimmed, because a newer snapshot includes
them. Whatever does not fit together then means "overtaken", and reading begins anew at the snapshot that is newest by
now. Overtaken twice at the same place with the same snapshot is no race but damage.

A snapshot is derived from the slots below it, and those after the one before it are kept: one that does not decode is
passed over for the one before, and the slots must then reach as far as it did.

What was read before the claim is gone on with after it, unless a snapshot is newer by then: the log is read once.

Rules that live here, each a function of its own: `check_contiguous`, `check_not_void`,
`fence_counts`.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from automq.ids import ClusterId, ControllerEpoch
from automq.metadata.change import MetadataChange
from automq.metadata.claim import highest_claim
from automq.metadata.committed_object import ranges_committed
from automq.metadata.image import EMPTY, MetadataImage
from automq.metadata.log_format import (
    NONCE_BYTES,
    Kind,
    LogPosition,
    Slot,
    decode_slot,
    encode_fence,
    epoch_folder,
    log_folder,
    parse_slot_key,
    parse_snapshot_key,
    slot_key,
    snapshot_folder,
    snapshot_key,
)
from automq.metadata.patience import Patience
from automq.metadata.records import FORMAT_LEVEL, MetadataRecord
from automq.metadata.replay import MetadataMachine
from automq.metadata.snapshot_format import CheckedSnapshot, check_snapshot
from automq.replicated.machine import LogFenced
from automq.runtime.budget import ByteBudget
from automq.runtime.entropy import Entropy
from automq.runtime.tasks import Tasks
from automq.runtime.turns import in_turns
from automq.s3stream.model import FormatTooNew, StoreDamaged
from automq.s3stream.ports import ObjectNotFound, ObjectStorage
from automq.s3stream.store.conditional import KeyTaken, create_once
from automq.s3stream.store.listing import list_own
from automq.steps import Steps

log = logging.getLogger(__name__)

# Slots asked for in one listing; they are small, and a listing is one request.
WINDOW: Final = 256
# Slots read at once.
READS: Final = 16
# About how long it takes to apply a record.
RECORD_US: Final = 10
FIRST_EPOCH: Final = ControllerEpoch(1)
FIRST: Final = LogPosition(FIRST_EPOCH, 0)


class Overtaken(Exception):
    """What was read does not fit together: the log moved on meanwhile."""

    def __init__(self, position: LogPosition, what: str) -> None:
        super().__init__(f"slot {position} of the metadata log: {what}")
        self.position = position
        self.what = what


@dataclass(frozen=True, slots=True)
class Loaded:
    """The image at the log's end, and what had to be read for it: a snapshot is due when that was much."""

    image: MetadataImage
    epochs: int
    slots: int
    end: LogPosition
    """After the last slot that was read."""
    newest_epoch: ControllerEpoch
    """The newest that was claimed, or seen otherwise."""
    resume: LogPosition | None
    """Where reading may go on later: in the lowest epoch without a fence. None when that is behind `end`."""
    damaged: Sequence[StoreDamaged] = ()
    """Snapshots that were passed over; the next one takes their place."""
    ranges: int = 0
    """How many ranges the slots had: what takes long to replay."""
    change: MetadataChange | None = None
    """What came since the image that reading went on from; None when it began with a snapshot."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """An image that reading begins with."""

    position: LogPosition | None
    """The newest snapshot when it was chosen, whether it decodes or not, and the image is no older; else None."""
    image: MetadataImage
    next: LogPosition
    """The first slot that the image does not include."""
    epochs: int = 0
    slots: int = 0
    damaged: Sequence[StoreDamaged] = ()
    ranges: int = 0
    is_known: bool = False
    """It is what was read before."""


class LogLoader:
    """Loads one cluster's log."""

    def __init__(
        self,
        *,
        store: ObjectStorage,
        cluster_id: ClusterId,
        entropy: Entropy,
        patience: Patience,
        tasks: Tasks,
        memory: ByteBudget | None = None,
    ) -> None:
        """`memory` counts the bytes of a snapshot that is being read."""
        self._memory = ByteBudget(0) if memory is None else memory
        self._store = store
        self._cluster_id = cluster_id
        self._entropy = entropy
        self._patience = patience
        self._tasks = tasks
        self._slots = 0
        self._ranges = 0
        self._fencer = ControllerEpoch(0)
        self._known: Loaded | None = None
        self._prefers_slots = False
        self._reported: set[LogPosition] = set()

    async def take_over(self, epoch: ControllerEpoch, known: Loaded | None = None) -> Loaded:
        """Fence and replay every lower epoch; what comes next is slot 0 of `epoch`, which is claimed already.

        `known` is what was read before the claim. Raises LogFenced when a higher claim has been at work already,
        StoreDamaged, FormatTooNew.
        """
        self._known = known
        return await self._load(ControllerEpoch(epoch - 1), fencer=epoch)

    async def read(self) -> Loaded:
        """What the log says now, without touching it. Raises StoreDamaged, FormatTooNew."""
        self._known = None
        return await self._load(await self.newest_epoch(), fencer=None)

    async def read_on(self, known: Loaded) -> Loaded:
        """What the log says now, going on from `known` for as long as the slots behind it are there; see `read`."""
        self._known, self._prefers_slots = known, True
        try:
            return await self._load(await self.newest_epoch(), fencer=None)
        finally:
            self._prefers_slots = False

    async def read_next(self, known: Loaded) -> Loaded | None:
        """`known` and the slot behind it, whose change it tells; `known` itself while there is none.

        A slot of records that goes on where we are is part of the log, whatever has become of what lies below it. None
        for anything else: that takes a whole look (`read_on`). Raises StoreDamaged, FormatTooNew.
        """
        position = known.resume
        if position is None:
            return None
        data = await self._read_slot(position)
        if data is None:
            return known
        return await self._go_on(known, position, data)

    async def apply(self, known: Loaded, position: LogPosition, data: bytes) -> Loaded | None:
        """`known` and a slot that the controller says is durable, whose change it tells; see `read_next`.

        None where it does not go on where we are. A controller that was asked has fenced every lower epoch, so what
        it appended behind the same number of records goes on there. Raises StoreDamaged, FormatTooNew.
        """
        resume = known.resume
        if resume is not None and position.epoch <= resume.epoch and position != resume:
            return None
        return await self._go_on(known, position, data)

    async def _go_on(self, known: Loaded, position: LogPosition, data: bytes) -> Loaded | None:
        slot = decode_slot(self._cluster_id, position, data)
        if slot.kind != Kind.RECORDS or slot.first_record != known.image.record_number:
            return None
        machine = MetadataMachine(known.image, remembers=True)
        await in_turns(_apply(machine, slot.records))
        change = machine.take_change()
        check_format_level(self._cluster_id, change.new)
        behind = LogPosition(position.epoch, position.sequence + 1)
        end = max(known.end, behind)
        newest = max(known.newest_epoch, position.epoch)
        return replace(
            known, image=change.new, slots=known.slots + 1, end=end, newest_epoch=newest, resume=behind, change=change
        )

    async def newest_epoch(self) -> ControllerEpoch:
        """The newest epoch that was claimed, or that slots or a snapshot show to have been; 0 when there is none."""
        claimed = await highest_claim(self._store, self._cluster_id, self._patience)
        snapshots = await self._snapshot_positions()
        newest = max(claimed, snapshots[0].epoch if snapshots else claimed)
        folder = log_folder(self._cluster_id)
        while True:
            behind = f"{epoch_folder(self._cluster_id, newest)}~"
            found = await self._patience.retry_forever(
                lambda behind=behind: list_own(self._store, folder, parse_slot_key, start_after=behind, limit=1)  # type: ignore[misc]
            )
            if not found:
                break
            newest = found[0].parsed.epoch
        if newest > claimed:
            log.warning(
                "epochs of the metadata log have no claim: somebody removed claims; going on above them",
                extra={"claimed": claimed, "seen": newest},
            )
        return newest

    async def _load(self, last: ControllerEpoch, *, fencer: ControllerEpoch | None) -> Loaded:
        failed_at: tuple[LogPosition | None, LogPosition] | None = None
        while True:
            # After claiming: a snapshot that was loaded before may be behind what the last controller trimmed since.
            snapshot = await self._newest_snapshot()
            try:
                loaded = await self._replay_epochs(snapshot, last, fencer)
            except Overtaken as overtaken:
                here = (snapshot.position, overtaken.position)
                if here == failed_at:
                    raise self._damage(snapshot, overtaken) from None
                failed_at = here
                self._known = None
                continue
            if snapshot.damaged and snapshot.position is not None and loaded.end <= snapshot.position:
                raise self._damage(
                    snapshot, Overtaken(loaded.end, f"missing, while snapshot {snapshot.position} exists")
                )
            check_format_level(self._cluster_id, loaded.image)
            # To release the image that reading began with takes a turn of its own where there are many streams.
            await asyncio.sleep(0)
            return loaded

    def _damage(self, snapshot: Snapshot, overtaken: Overtaken) -> StoreDamaged:
        key = slot_key(self._cluster_id, overtaken.position)
        passed_over = "".join(f"; besides: {damage}" for damage in snapshot.damaged)
        return StoreDamaged(
            f"the metadata log is damaged at {key} ({overtaken.what}){passed_over}: put the key back from a backup or "
            "an older version of the bucket",
            key=key,
        )

    async def _replay_epochs(self, snapshot: Snapshot, last: ControllerEpoch, fencer: ControllerEpoch | None) -> Loaded:
        machine = MetadataMachine(snapshot.image, remembers=snapshot.is_known and self._prefers_slots)
        self._slots = self._ranges = 0
        first = snapshot.next
        if fencer is not None and first > LogPosition(fencer, 0):
            raise LogFenced(f"controller epoch {fencer} was overtaken by epoch {first.epoch} while it started")
        end, resume = first, None
        resume_number = machine.record_number
        for number in range(first.epoch, last + 1):
            epoch = ControllerEpoch(number)
            start = first.sequence if epoch == first.epoch else 0
            end, is_fenced = await self._replay_epoch(machine, snapshot, LogPosition(epoch, start), fencer)
            if not is_fenced and resume is None:
                resume, resume_number = end, machine.record_number
        if resume is None:
            # Every epoch that was read is fenced.
            resume = LogPosition(ControllerEpoch(last + 1), 0) if last >= first.epoch else first
        elif machine.record_number != resume_number:
            resume = None
        epochs = snapshot.epochs + max(0, last + 1 - first.epoch)
        return Loaded(
            machine.image,
            epochs,
            snapshot.slots + self._slots,
            end,
            max(last, self._fencer),
            resume,
            snapshot.damaged,
            snapshot.ranges + self._ranges,
            machine.take_change() if snapshot.is_known and self._prefers_slots else None,
        )

    async def _replay_epoch(
        self, machine: MetadataMachine, snapshot: Snapshot, position: LogPosition, fencer: ControllerEpoch | None
    ) -> tuple[LogPosition, bool]:
        """Replay from `position` to the epoch's fence; put one there if there is none and `fencer` says so.

        The position after the last slot of records, and whether a fence lies there.
        """
        while True:
            present = await self._present_from(position)
            for listed, data in zip(present, await self._read_slots(present), strict=True):
                if data is None:
                    raise Overtaken(listed, "it was trimmed")
                slot = decode_slot(self._cluster_id, listed, data)
                check_contiguous(slot, position, machine.record_number)
                self._slots += 1
                self._ranges += ranges_committed(slot.records)
                if slot.kind == Kind.FENCE:
                    # Whoever put it had claimed that epoch, whatever has become of the claim.
                    self._fencer = max(self._fencer, slot.fencer)
                    await self._check_fence(slot, snapshot)
                    return position, True
                await in_turns(_apply(machine, slot.records))
                position = LogPosition(position.epoch, position.sequence + 1)
            if not present:
                # Rule: a new controller fences every lower epoch that has no fence before it uses its own slot 0.
                if fencer is None:
                    return position, False
                if await self._win(position, machine.record_number, fencer):
                    return position, True

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
        found = await self._patience.retry_forever(
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
            return await self._patience.retry_forever(lambda: self._store.get(key))
        except ObjectNotFound:
            return None

    async def _newest_snapshot_position(self) -> LogPosition | None:
        positions = await self._snapshot_positions()
        return positions[0] if positions else None

    async def _snapshot_positions(self) -> Sequence[LogPosition]:
        """Newest first."""
        folder = snapshot_folder(self._cluster_id)
        found = await self._patience.retry_forever(lambda: list_own(self._store, folder, parse_snapshot_key))
        return sorted((listed.parsed for listed in found), reverse=True)

    async def _newest_snapshot(self) -> Snapshot:
        """The newest that decodes; what was read before the claim, where no snapshot is newer than that."""
        while True:
            positions = await self._snapshot_positions()
            newest = positions[0] if positions else None
            known = self._known
            if known is not None and known.resume is not None:
                is_newer = newest is None or newest < known.resume
                if is_newer or self._prefers_slots:
                    return Snapshot(
                        # Rule: behind an older image than the newest snapshot a fence counts only as the highest slot.
                        newest if is_newer else None,
                        known.image,
                        known.resume,
                        known.epochs,
                        known.slots,
                        known.damaged,
                        known.ranges,
                        is_known=True,
                    )
            found = await self._first_that_decodes(positions)
            if found is not None:
                return found

    async def _first_that_decodes(self, positions: Sequence[LogPosition]) -> Snapshot | None:
        """None when one was trimmed meanwhile: two newer ones exist by now. Raises FormatTooNew."""
        newest = positions[0] if positions else None
        damaged: list[StoreDamaged] = []
        for position in positions:
            key = snapshot_key(self._cluster_id, position)
            try:
                data = await self._patience.retry_forever(lambda key=key: self._store.get(key))  # type: ignore[misc]
                with self._memory.counting(len(data)):
                    checked = await in_turns(check_snapshot(self._cluster_id, position, data))
                    image = await in_turns(_restore(checked))
            except ObjectNotFound:
                return None
            except StoreDamaged as error:
                damaged.append(error)
                self._report(position, error)
                continue
            return Snapshot(newest, image, LogPosition(position.epoch, position.sequence + 1), damaged=tuple(damaged))
        return Snapshot(newest, EMPTY, FIRST, damaged=tuple(damaged))

    def _report(self, position: LogPosition, error: StoreDamaged) -> None:
        """Once for each snapshot: loading may begin anew."""
        if position not in self._reported:
            self._reported.add(position)
            log.error(
                "a snapshot of the metadata is damaged; going on from the one before it and the slots after that, "
                "and writing a new one. Nothing is lost, but look at the store",
                extra={"key": error.key, "why": str(error)},
            )


def _restore(snapshot: CheckedSnapshot) -> Steps[MetadataImage]:
    """The image that a snapshot holds. Raises CorruptData, FormatTooNew."""
    machine = MetadataMachine(EMPTY)
    for records in snapshot.blocks():
        yield from _apply(machine, records)
        yield None
    return machine.image.with_record_number(snapshot.record_number)


def _apply(machine: MetadataMachine, records: Sequence[MetadataRecord]) -> Steps[None]:
    for record in records:
        for _turn in machine.turns(record):
            yield None
        yield RECORD_US


def check_format_level(cluster_id: ClusterId, image: MetadataImage) -> None:
    """Rule: what a newer program may have written is left alone. Raises FormatTooNew."""
    if image.format_level > FORMAT_LEVEL:
        raise FormatTooNew(key=log_folder(cluster_id), version=image.format_level, supported=FORMAT_LEVEL)


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
