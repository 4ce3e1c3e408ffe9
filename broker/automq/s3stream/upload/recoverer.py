"""Recovery of a dead broker's WAL: read its run, end it with a fence, upload what no object holds, commit.

Reading the next group of slots and uploading the one before happen together. Everything may be repeated: a group that
was committed is below T next time, or its records below their streams' ends. Where a stream ends by
now, the answers to our own commits tell: the image may not show them yet. What cannot be placed (the log goes on where
no stream ends, or the commit check refuses it) is handed back; T stays below its slots, and nobody deletes them.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from automq.ids import BrokerEpoch, ClusterId, NodeId, ObjectId, Offset, StreamEpoch, StreamId
from automq.runtime.budget import ByteBudget
from automq.runtime.entropy import Entropy
from automq.runtime.turns import Pace, in_turns
from automq.s3stream.model import (
    CommitObject,
    CommitRequest,
    ObjectRefused,
    RangeVerdict,
    RecoveredLog,
    SlotsLost,
    StreamNotFound,
    StreamRecordBatch,
    StreamState,
    Unplaced,
)
from automq.s3stream.objects.creation import put_object
from automq.s3stream.objects.format import object_key
from automq.s3stream.objects.writer import Batch
from automq.s3stream.ports import ObjectManager, ObjectNotFound, ObjectStorage, StreamManager
from automq.s3stream.recovery import RecoveredRun, UploadPlan, merged, plan_upload
from automq.s3stream.upload.builder import ObjectBuilder
from automq.s3stream.upload.dead_log import DeadLog, Group
from automq.s3stream.upload.id_reserve import IdReserve
from automq.s3stream.upload.parts import in_commits
from automq.s3stream.wal.format import SlotKind
from automq.s3stream.wal.trimmer import DELETES_AT_ONCE

log = logging.getLogger(__name__)

# One being read, one being uploaded.
GROUPS_AT_ONCE: Final = 2

Share = Callable[[], int]
"""How many logs share the account at this moment."""


def alone() -> int:
    """One log has the account for itself."""
    return 1


class Recoverer:
    """Recovers the log of (node, epoch) in the name of `recoverer`, whom the fence record names.

    `lost` are slots that a person gave up. So many logs `share` the account at a time: each asks before it reads.
    """

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
        streams: StreamManager,
        account: ByteBudget,
        entropy: Entropy,
        share: Share = alone,
    ) -> None:
        self._account = account
        self._share = share
        self._cluster_id, self._node, self._epoch = cluster_id, node, epoch
        self._recoverer = recoverer
        self._store = store
        self._objects = objects
        self._streams = streams
        self._ids = IdReserve(objects)
        self._committed_to = trim_to
        self._trim_limit: int | None = None
        self._unplaced: dict[tuple[StreamId, StreamEpoch], Unplaced] = {}
        self._continued: set[StreamId] = set()
        self._ends: dict[StreamId, Offset] = {}
        """Where streams end by what we have committed."""
        self._charged = 0
        self._log = DeadLog(
            cluster_id=cluster_id,
            node=node,
            epoch=epoch,
            recoverer=recoverer,
            trim_to=trim_to,
            lost=lost,
            store=store,
            objects=objects,
            entropy=entropy,
        )

    async def run(self) -> RecoveredLog:
        """Recover everything from T on. Raises BrokerFenced, StoreDamaged, FormatTooNew, StoreError.

        Nothing was deleted then, and what lies before the damage is committed; what `sweep` deletes comes later.
        """
        await self._log.list()
        # Rule of the log: recovery starts at T and never looks below it. What is missing there was trimmed.
        group = await self._read(self._committed_to)
        while not group.ended and group.damage is None:
            # Not cancelled half-way by the other's failure: what was begun is finished, then the failure is raised.
            following, uploaded = await asyncio.gather(
                self._read(group.next), self._upload(group), return_exceptions=True
            )
            if isinstance(uploaded, BaseException):
                raise uploaded
            if isinstance(following, BaseException):
                raise following
            await group.let_go()
            self._account.release(group.size)
            self._charged -= group.size
            group = following
        await self._upload(group)
        await group.let_go()
        if group.damage is not None:
            raise group.damage
        return RecoveredLog(
            fence=group.next,
            unplaced=tuple(self._unplaced[key] for key in sorted(self._unplaced)),
            given_up=self._log.given_up(group.next),
            continued=frozenset(self._continued),
        )

    def close(self) -> None:
        """After `run`, however it ended: nothing is in memory any more."""
        self._account.release(self._charged)
        self._charged = 0

    async def sweep(self, fence: int) -> None:
        """Delete what is committed, and data slots beyond the fence. Fences stay, and what does not decode.

        May be repeated, and goes on where it failed. Raises StoreError.
        """
        declared_end = self._log.declared_end
        below = min(fence, self._committed_to)
        if declared_end is not None:
            below = min(below, declared_end)
        doomed = [sequence for sequence in self._log.present if sequence < below]
        if declared_end is None:
            # A person who ended a log may still want to look at what lies beyond.
            doomed += [sequence for sequence in self._log.present if sequence > fence and await self._is_data(sequence)]
        for first in range(0, len(doomed), DELETES_AT_ONCE):
            batch = doomed[first : first + DELETES_AT_ONCE]
            await self._store.delete([self._log.slot_id(sequence).key for sequence in batch])
            self._log.forget(batch)

    async def _is_data(self, sequence: int) -> bool:
        try:
            header = await self._log.peek(sequence)
        except ObjectNotFound:
            return False
        return header is not None and header.kind is SlotKind.DATA

    async def _read(self, position: int) -> Group:
        room = self._account.limit - self._account.used
        bytes_max = min(self._account.limit // (GROUPS_AT_ONCE * self._share()), room)
        group = await self._log.read_group(position, max(1, bytes_max))
        # Counted when it is there: how large a slot is shows when it is read.
        self._account.charge(group.size)
        self._charged += group.size
        return group

    async def _upload(self, group: Group) -> None:
        """Commit the group's batches, if any, and T."""
        plan = await self._plan(group)
        for gap in plan.gaps:
            is_damaged = gap.start == gap.expected
            self._hold("damaged batch" if is_damaged else "the log goes on where the stream does not end", gap)
        if plan.runs:
            await in_commits(
                plan.runs,
                lambda objects, is_last: self._upload_objects(objects, group.next if is_last else 0),
                class_of=self._streams.retention_class,
            )
        elif group.next > self._committed_to:
            await self._commit([], [], trim_to=group.next)

    async def _plan(self, group: Group) -> UploadPlan:
        """What of the group is to be uploaded. A hole that lost slots have left is recorded as lost first."""
        behind, pace = self._log.given_up_to, Pace()
        for slot in group.slots:
            if behind is not None and slot.slot.sequence >= behind:
                self._continued.update(record.stream for record in slot.records)
                await pace.spend(len(slot.records) // 10)
        plan = await in_turns(plan_upload(group.records(), self._state))
        holes = [gap for gap in plan.gaps if gap.start > gap.expected and self._log.is_behind_loss(gap.first_slot)]
        for hole in holes:
            await self._streams.lose_before((self._node, self._epoch), hole.stream, hole.start)
            self._ends[hole.stream] = hole.start
        return await in_turns(plan_upload(group.records(), self._state)) if holes else plan

    async def _upload_objects(self, objects: Sequence[Sequence[RecoveredRun]], trim_to: int) -> None:
        """Objects, and their one commit."""
        while True:
            # Several at a time: each is a journey to the controller's log, beside the PUT and the commit.
            ids = await self._ids.take(len(objects))
            put = [await self._put(runs, object_id) for object_id, runs in zip(ids, objects, strict=True)]
            try:
                await self._commit(put, [run for runs in objects for run in runs], trim_to=trim_to)
            except ObjectRefused as error:
                log.warning("objects refused, uploading again", extra={"objects": ids, "error": str(error)})
                self._ids.forget()
                continue
            return

    async def _put(self, runs: Sequence[RecoveredRun], object_id: ObjectId) -> CommitObject:
        builder = ObjectBuilder(self._cluster_id, object_id)
        for run in runs:
            await builder.add_run(run.stream, run.epoch, (_batch(record) for record in run.batches))
        await put_object(self._store, object_key(self._cluster_id, object_id), await builder.finish())
        return builder.committed

    async def _commit(self, objects: Sequence[CommitObject], runs: Sequence[RecoveredRun], *, trim_to: int) -> None:
        request = CommitRequest(
            objects=objects,
            node=self._node,
            epoch=self._epoch,
            trim_to=trim_to if self._trim_limit is None else min(trim_to, self._trim_limit),
            recoverer=self._recoverer,
        )
        result = await self._objects.commit(request)
        self._go_on_behind(runs, result.verdicts)
        for run, verdict in zip(runs, result.verdicts, strict=True):
            # At a higher epoch, everything acknowledged at the range's is committed: there is nothing to hold.
            current = self._streams.epoch(run.stream)
            if verdict is RangeVerdict.REFUSED and current is not None and current <= run.epoch:
                state = self._state(run.stream)
                self._hold("the commit check refused it", run.unplaced(state.end if state is not None else run.start))
        self._committed_to = max(self._committed_to, result.trimmed_to)

    def _go_on_behind(self, runs: Sequence[RecoveredRun], verdicts: Sequence[RangeVerdict]) -> None:
        """Rule: what is to be uploaded next follows from the answers to our commits, however old the image is."""
        for run, verdict in zip(runs, verdicts, strict=True):
            if verdict is not RangeVerdict.REFUSED:
                self._ends[run.stream] = max(run.end, self._ends.get(run.stream, run.end))

    def _hold(self, why: str, unplaced: Unplaced) -> None:
        """Keep T, and so every delete, below what cannot be placed."""
        log.error(
            "recovered records cannot be placed: their stream takes no append until somebody decides",
            extra={
                "why": why,
                "stream": unplaced.stream,
                "epoch": unplaced.epoch,
                "start": unplaced.start,
                "end": unplaced.end,
                "expected": unplaced.expected,
                "first_slot": self._log.slot_id(unplaced.first_slot).key,
            },
        )
        key = (unplaced.stream, unplaced.epoch)
        before = self._unplaced.get(key)
        self._unplaced[key] = unplaced if before is None else merged(before, unplaced)
        limit = unplaced.first_slot
        self._trim_limit = limit if self._trim_limit is None else min(self._trim_limit, limit)

    def _state(self, stream: StreamId) -> StreamState | None:
        try:
            state = self._streams.state(stream)
        except StreamNotFound:
            return None
        end = self._ends.get(stream, state.end)
        return replace(state, end=end) if end > state.end else state


def _batch(record: StreamRecordBatch) -> Batch:
    return record.base_offset, record.count, record.max_timestamp_ms, record.crc, record.payload
