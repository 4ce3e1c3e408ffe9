"""The write-ahead log of a dead broker, read group by group to its end, which is fenced on the way.

A slot that is missing ends the log, for no later one can have been acknowledged: unless the store lost it. So before a
missing slot is fenced, the slots above it are asked, from the newest on, whether they know it as durable. Then it is
looked for once more, because a listing is no moment: a slot may have landed after its page was made. What is missing
then, or does not decode, is damage. Nobody but a person gives slots up (`SlotsLost`).
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from automq.ids import BrokerEpoch, ClusterId, NodeId
from automq.runtime.entropy import Entropy
from automq.runtime.turns import Pace, in_turns
from automq.s3stream.model import (
    BrokerFenced,
    CorruptData,
    DataMissing,
    FencedBy,
    SlotsLost,
    StoreDamaged,
    StreamRecordBatch,
)
from automq.s3stream.ports import ObjectManager, ObjectNotFound, ObjectStorage
from automq.s3stream.recovery import (
    IN_FLIGHT_MAX,
    Witness,
    ends_run,
    is_conclusive,
    is_suspicious,
    lowest_missing,
    shows_durable,
)
from automq.s3stream.store.conditional import KeyTaken, create_once
from automq.s3stream.store.listing import list_own
from automq.s3stream.wal.format import (
    NONCE_BYTES,
    SLOT_HEADER_BYTES,
    Slot,
    SlotHeader,
    SlotId,
    decode_in_turns,
    encode_fence,
    parse_slot_key,
    peek_header,
    slot_prefix,
)

READS_INFLIGHT: Final = 8
# Records that are freed at one go.
FREED_A_PART: Final = 1000
# What a decoded batch takes beside its bytes: its description, a view, its place in lists.
RECORD_BYTES: Final = 500
# What a slot is taken to be in memory before one was seen, as a multiple of its size.
FIRST_EXPANSION: Final = 4.0


@dataclass(slots=True, kw_only=True)
class Group:
    """Consecutive slots of the run, read."""

    next: int
    """The slot after them; when `ended`, the fence's own."""
    ended: bool = False
    damage: StoreDamaged | None = None
    """Why nothing behind the group can be read."""
    slots: list[Slot] = field(default_factory=list)
    size: int = 0
    """What it takes in memory."""

    def records(self) -> Iterator[tuple[int, StreamRecordBatch]]:
        """Every record, in the order of the log, with its slot's sequence."""
        return ((slot.slot.sequence, record) for slot in self.slots for record in slot.records)

    async def let_go(self) -> None:
        """Free the slots in bounded turns: a log's records are hundreds of thousands of objects."""
        pace = Pace()
        while self.slots:
            records = self.slots.pop().records
            while records:
                del records[-FREED_A_PART:]
                await pace.spend(FREED_A_PART // 2)


class DeadLog:
    """The log of (node, epoch), whose end `recoverer` fences. `trim_to` is T: what is missing below was trimmed."""

    def __init__(
        self,
        *,
        cluster_id: ClusterId,
        node: NodeId,
        epoch: BrokerEpoch,
        recoverer: tuple[NodeId, BrokerEpoch],
        trim_to: int,
        lost: Sequence[SlotsLost],
        store: ObjectStorage,
        objects: ObjectManager,
        entropy: Entropy,
    ) -> None:
        self._cluster_id, self._node, self._epoch = cluster_id, node, epoch
        self._recoverer = recoverer
        self._trim_to = trim_to
        self._lost = sorted(lost, key=lambda slots: slots.start)
        self._store = store
        self._objects = objects
        self._entropy = entropy
        self._present: set[int] = set()
        """Slots seen in the listing, or found while fencing."""
        self._sizes: dict[int, int] = {}
        """Of slots seen in the listing, in bytes."""
        self._expansion = FIRST_EXPANSION
        """How much more the slots read last took in memory."""

    @property
    def present(self) -> Sequence[int]:
        """Every slot that is known to exist, ascending, the trimmed ones included."""
        return sorted(self._present)

    @property
    def declared_end(self) -> int | None:
        """Where a person ended the log."""
        return next((slots.start for slots in self._lost if slots.end is None), None)

    @property
    def given_up_to(self) -> int | None:
        """The first slot behind all that were given up; None when nothing was, or nothing comes behind."""
        if not self._lost or self.declared_end is not None:
            return None
        return max(slots.end for slots in self._lost if slots.end is not None)

    def is_behind_loss(self, sequence: int) -> bool:
        """Whether slots below `sequence` were given up."""
        return any(slots.end is not None and slots.end <= sequence for slots in self._lost)

    def given_up(self, fence: int) -> int:
        """How many slots were given up. Where a person ended the log, those that can have been acknowledged count."""
        return sum(
            (slots.end if slots.end is not None else max(fence, slots.start) + IN_FLIGHT_MAX) - slots.start
            for slots in self._lost
        )

    async def list(self) -> None:
        """Look what there is. Raises StoreError."""
        listing = await list_own(self._store, slot_prefix(self._cluster_id, self._node, self._epoch), parse_slot_key)
        self._present = {listed.parsed.sequence for listed in listing}
        self._sizes = {listed.parsed.sequence: listed.info.size for listed in listing}

    async def read_group(self, position: int, bytes_max: int) -> Group:
        """The slots from `position` on, up to so much memory, one at least, or to the first that is damaged.

        Raises BrokerFenced, StoreDamaged when there is none before it, FormatTooNew, StoreError.
        """
        group = Group(next=position)
        try:
            await self._fill(group, bytes_max)
        except StoreDamaged as error:
            if not group.slots:
                raise
            group.damage = error
        return group

    async def _fill(self, group: Group, bytes_max: int) -> None:
        while group.size < bytes_max:
            given_up = self._given_up(group.next)
            if given_up is not None:
                if group.slots:
                    return
                if given_up.end is None:
                    group.next, group.ended = await self._fence_above(group.next), True
                    return
                group.next = given_up.end
                continue
            missing = lowest_missing(self._present, group.next)
            if missing == group.next:
                if await self._is_end(missing) and await self._win(missing):
                    group.ended = True
                    return
                # A race lost here, or a slot that no listing showed, is one slot more to read.
                self._present.add(missing)
                continue
            bytes_left = bytes_max - group.size
            if group.slots and self._sizes.get(group.next, 0) * self._expansion > bytes_left:
                return
            if not await self._read_some(group, missing, bytes_left):
                return

    async def peek(self, sequence: int) -> SlotHeader | None:
        """What a slot's header says, unchecked; None when that is nothing. Raises ObjectNotFound, StoreError."""
        slot = self.slot_id(sequence)
        return peek_header(slot, await self._store.get_range(slot.key, 0, SLOT_HEADER_BYTES))

    def forget(self, sequences: Sequence[int]) -> None:
        """These are deleted."""
        self._present.difference_update(sequences)

    def slot_id(self, sequence: int) -> SlotId:
        """One slot of this log."""
        return SlotId(cluster_id=self._cluster_id, node=self._node, epoch=self._epoch, sequence=sequence)

    async def _read_some(self, group: Group, missing: int, bytes_left: int) -> bool:
        """Read on below `missing`, as many as fit if they are like those before. False: a fence ended the group."""
        stop = min(missing, group.next + READS_INFLIGHT, *(s.start for s in self._lost if s.start > group.next))
        size = self._sizes.get(group.next, 0) * self._expansion
        for sequence in range(group.next + 1, stop):
            size += self._sizes.get(sequence, 0) * self._expansion
            if size > bytes_left:
                stop = sequence
                break
        self._expansion = 1.0
        reads = (self._read(sequence) for sequence in range(group.next, stop))
        for read in await asyncio.gather(*reads, return_exceptions=True):
            if isinstance(read, BaseException):
                raise read
            slot, size = read
            if ends_run(slot):
                group.ended = True
                return False
            group.slots.append(slot)
            taken = size + RECORD_BYTES * len(slot.records)
            self._expansion = max(self._expansion, taken / size)
            group.size += taken
            group.next += 1
        return True

    async def _read(self, sequence: int) -> tuple[Slot, int]:
        slot = self.slot_id(sequence)
        try:
            return await self._examine(slot)
        except ObjectNotFound:
            raise await self._missing(slot, "a WAL slot that a listing showed") from None
        except CorruptData as error:
            witness = await self._witness_of(sequence)
            why = (
                "nothing shows that it was acknowledged: `automq repair` may end the log there"
                if witness is None
                else f"it may have been acknowledged, as {witness.key} shows"
            )
            what = f"{error.what} ({why})"
            raise CorruptData(key=error.key, offset=error.offset, length=error.length, what=what) from error

    async def _examine(self, slot: SlotId) -> tuple[Slot, int]:
        """What fails a check is read once more: a bit that flipped on its way is not one that flipped at rest.

        Where only batches are damaged, their headers say whose they are. Raises ObjectNotFound, CorruptData.
        """
        data = await self._store.get(slot.key)
        try:
            return await in_turns(decode_in_turns(slot, memoryview(data))), len(data)
        except CorruptData:
            data = await self._store.get(slot.key)
            decoding = decode_in_turns(slot, memoryview(data), takes_damaged_batches=True)
            return await in_turns(decoding), len(data)

    async def _is_end(self, hole: int) -> bool:
        """Whether the log may be ended at a missing slot; False when it is not missing at all. Raises StoreDamaged."""
        witness = await self._witness_of(hole)
        if witness is None:
            return True
        slot = self.slot_id(hole)
        try:
            await self._store.get_range(slot.key, 0, SLOT_HEADER_BYTES)
        except ObjectNotFound:
            what = f"a WAL slot that may have been acknowledged, as {witness.key} shows,"
            raise await self._missing(slot, what) from None
        return False

    async def _witness_of(self, sequence: int) -> Witness | None:
        """A slot above `sequence` that knows it as durable, or may; None when all that is there says otherwise."""
        above = sorted((present for present in self._present if present > sequence), reverse=True)
        unmarked: list[Witness] = []
        for present in above:
            witness = await self._ask(present)
            if witness is None:
                continue
            if shows_durable(witness, sequence):
                return witness
            if is_conclusive(witness):
                return None
            if witness.mark is None:
                unmarked.append(witness)
                if is_suspicious(sequence, trim_to=self._trim_to, unmarked_above=len(unmarked)):
                    return unmarked[0]
        return None

    async def _ask(self, sequence: int) -> Witness | None:
        """What one slot has to say; None when it is gone."""
        slot = self.slot_id(sequence)
        try:
            data = await self._store.get(slot.key)
        except ObjectNotFound:
            return None
        try:
            return Witness(
                key=slot.key, is_whole=True, mark=(await in_turns(decode_in_turns(slot, memoryview(data)))).mark
            )
        except CorruptData:
            header = peek_header(slot, data)
            return Witness(key=slot.key, is_whole=False, mark=sequence if header is None else header.mark)

    async def _missing(self, slot: SlotId, what: str) -> StoreDamaged | BrokerFenced:
        """Why a slot is gone that must be there: somebody else has recovered the log, or the store has lost it."""
        try:
            await self._objects.confirm()
        except BrokerFenced as fenced:
            return BrokerFenced(f"{slot.key} was deleted while we recovered it ({fenced})", by=FencedBy.REGISTRATION)
        return DataMissing(key=slot.key, what=what)

    async def _win(self, sequence: int) -> bool:
        """Put the fence; False when the slot was taken meanwhile, by the dead broker or by another recoverer."""
        return await self._put_fence(sequence, self.slot_id(sequence).decode)

    async def _fence_above(self, position: int) -> int:
        """A person ended the log here, whatever lies here. Should its writer wake up, it must meet a fence."""
        while True:
            missing = lowest_missing(self._present, position)
            if await self._put_fence(missing, bytes):
                return missing
            self._present.add(missing)

    async def _put_fence(self, sequence: int, decode: Callable[[bytes], object]) -> bool:
        slot = self.slot_id(sequence)
        body = encode_fence(slot, nonce=self._entropy.token(NONCE_BYTES), recoverer=self._recoverer)
        try:
            await create_once(self._store, slot.key, [body], decode=decode, entropy=self._entropy)
        except KeyTaken:
            return False
        return True

    def _given_up(self, sequence: int) -> SlotsLost | None:
        for slots in self._lost:
            if slots.start <= sequence and (slots.end is None or sequence < slots.end):
                return slots
        return None
