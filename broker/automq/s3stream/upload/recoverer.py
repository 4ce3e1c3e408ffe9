"""Recovery of a dead broker's WAL: read its run, end it with a fence, upload what no object holds, commit.

Reading the next group of slots and uploading the one before happen together. Everything may be repeated: a group that
was committed is below T next time, or its records below their streams' ends.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from automq.ids import BrokerEpoch, ClusterId, NodeId, ObjectId, StreamId
from automq.runtime.entropy import Entropy
from automq.s3stream.model import (
    BrokerFenced,
    CommitRange,
    CommitRequest,
    ObjectRefused,
    RangeVerdict,
    StreamNotFound,
    StreamRecordBatch,
    StreamState,
)
from automq.s3stream.objects.format import object_key
from automq.s3stream.objects.writer import Batch
from automq.s3stream.ports import ObjectManager, ObjectNotFound, ObjectStorage, StoreError, StreamManager
from automq.s3stream.recovery import UploadPlan, ends_run, first_of_run, lowest_missing, plan_upload
from automq.s3stream.store.conditional import KeyTaken, create_once
from automq.s3stream.store.listing import list_own
from automq.s3stream.upload.builder import ObjectBuilder
from automq.s3stream.wal.format import (
    NONCE_BYTES,
    SLOT_HEADER_BYTES,
    Slot,
    SlotId,
    decode_slot,
    encode_fence,
    is_data,
    parse_slot_key,
    slot_prefix,
)

log = logging.getLogger(__name__)

# Two groups are in memory at once: one being read, one being uploaded.
GROUP_BYTES: Final = 64 * 1024 * 1024
READS_INFLIGHT: Final = 8


@dataclass(slots=True, kw_only=True)
class _Group:
    """Consecutive slots of the run, read."""

    next: int
    """The slot after them; when `ended`, the fence's own."""
    ended: bool = False
    slots: list[Slot] = field(default_factory=list)
    size: int = 0


class Recoverer:
    """Recovers the log of (node, epoch) in the name of `recoverer`, whom the fence record names."""

    def __init__(
        self,
        *,
        cluster_id: ClusterId,
        node: NodeId,
        epoch: BrokerEpoch,
        recoverer: tuple[NodeId, BrokerEpoch],
        store: ObjectStorage,
        objects: ObjectManager,
        streams: StreamManager,
        entropy: Entropy,
    ) -> None:
        self._cluster_id, self._node, self._epoch = cluster_id, node, epoch
        self._recoverer = recoverer
        self._store = store
        self._objects = objects
        self._streams = streams
        self._entropy = entropy
        self._sizes: dict[int, int] = {}
        """Slots seen in the listing, or found while fencing."""
        self._committed_to = 0
        self._trim_limit: int | None = None

    async def run(self, trim_to: int) -> int:
        """Recover everything from T on; the sequence of the fence. Raises BrokerFenced, CorruptData, StoreError."""
        listing = await list_own(self._store, slot_prefix(self._cluster_id, self._node, self._epoch), parse_slot_key)
        self._sizes = {listed.parsed.sequence: listed.info.size for listed in listing}
        self._committed_to = trim_to
        group = await self._read_group(first_of_run(trim_to))
        while not group.ended:
            # Not cancelled half-way by the other's failure: what was begun is finished, then the failure is raised.
            following, uploaded = await asyncio.gather(
                self._read_group(group.next), self._upload(group), return_exceptions=True
            )
            if isinstance(uploaded, BaseException):
                raise uploaded
            if isinstance(following, BaseException):
                raise following
            group = following
        await self._upload(group)
        await self._sweep(group.next)
        return group.next

    async def _read_group(self, position: int) -> _Group:
        group = _Group(next=position)
        while group.size < GROUP_BYTES:
            missing = lowest_missing(self._sizes.keys(), group.next)
            if missing == group.next:
                if await self._win(missing):
                    group.ended = True
                    return group
                # A race lost here is one slot more to read.
                self._sizes[missing] = 0
                continue
            wanted = range(group.next, min(missing, group.next + READS_INFLIGHT))
            for slot, size in await asyncio.gather(*(self._read(sequence) for sequence in wanted)):
                if ends_run(slot):
                    group.ended = True
                    return group
                group.slots.append(slot)
                group.size += size
                group.next += 1
        return group

    async def _win(self, sequence: int) -> bool:
        """Put the fence; False when the slot was taken meanwhile, by the dead broker or by another recoverer."""
        slot = self._slot_id(sequence)
        body = encode_fence(slot, nonce=self._entropy.token(NONCE_BYTES), recoverer=self._recoverer)
        try:
            await create_once(self._store, slot.key, [body], decode=slot.decode, entropy=self._entropy)
        except KeyTaken:
            return False
        return True

    async def _read(self, sequence: int) -> tuple[Slot, int]:
        slot = self._slot_id(sequence)
        try:
            data = await self._store.get(slot.key)
        except ObjectNotFound:
            raise BrokerFenced(
                f"{slot.key} was deleted while we recovered it: somebody else did so before us"
            ) from None
        return decode_slot(slot, memoryview(data)), len(data)

    async def _upload(self, group: _Group) -> None:
        """Commit the group's batches, if any, and T."""
        while True:
            plan = plan_upload((record for slot in group.slots for record in slot.records), self._state)
            self._report(plan)
            if not plan.runs:
                if group.next > self._committed_to:
                    await self._commit(None, size=0, ranges=[], trim_to=group.next)
                return
            object_id = (await self._objects.prepare(1))[0]
            builder = ObjectBuilder(self._cluster_id, object_id)
            for run in plan.runs:
                await builder.add_run(run.stream, run.epoch, (_batch(record) for record in run.batches))
            await self._store.put(object_key(self._cluster_id, object_id), builder.finish())
            try:
                await self._commit(object_id, size=builder.size, ranges=builder.ranges, trim_to=group.next)
            except ObjectRefused as error:
                log.warning("object refused, uploading again", extra={"object": object_id, "error": str(error)})
                continue
            return

    async def _commit(
        self, object_id: ObjectId | None, *, size: int, ranges: Sequence[CommitRange], trim_to: int
    ) -> None:
        request = CommitRequest(
            object_id=object_id,
            size=size,
            node=self._node,
            epoch=self._epoch,
            trim_to=trim_to if self._trim_limit is None else min(trim_to, self._trim_limit),
            ranges=ranges,
            recoverer=self._recoverer,
        )
        result = await self._objects.commit(request)
        if result.trimmed_to < request.trim_to:
            # A refused range whose stream is still the dead broker's: its slots must stay.
            self._trim_limit = result.trimmed_to
        for judged, verdict in zip(ranges, result.verdicts, strict=True):
            if verdict is RangeVerdict.REFUSED:
                log.error("recovered range refused", extra={"stream": judged.stream, "start": judged.start})
        self._committed_to = result.trimmed_to

    def _state(self, stream: StreamId) -> StreamState | None:
        try:
            return self._streams.state(stream)
        except StreamNotFound:
            return None

    def _report(self, plan: UploadPlan) -> None:
        for gap in plan.gaps:
            log.error(
                "wal has a gap, which is a bug: please report it",
                extra={"stream": gap.stream, "epoch": gap.epoch, "expected": gap.expected, "found": gap.found},
            )

    async def _sweep(self, fence: int) -> None:
        """Delete what is committed, and data slots beyond the fence. Fences stay; a failure is no reason to stop."""
        below = min(fence, self._committed_to)
        keys = [self._slot_id(sequence).key for sequence in sorted(self._sizes) if sequence < below]
        try:
            for sequence in sorted(sequence for sequence in self._sizes if sequence > fence):
                key = self._slot_id(sequence).key
                if is_data(await self._store.get_range(key, 0, SLOT_HEADER_BYTES)):
                    keys.append(key)
            if keys:
                await self._store.delete(keys)
        except StoreError as error:
            log.warning("wal of a recovered broker not swept", extra={"slots": len(keys), "error": str(error)})

    def _slot_id(self, sequence: int) -> SlotId:
        return SlotId(cluster_id=self._cluster_id, node=self._node, epoch=self._epoch, sequence=sequence)


def _batch(record: StreamRecordBatch) -> Batch:
    return record.base_offset, record.count, record.max_timestamp_ms, record.crc, record.payload
