"""The storage engine of one broker incarnation: it wires the append, upload and read path, and has their life cycle."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from automq.ids import BrokerEpoch, ClusterId, NodeId, Offset, StreamId
from automq.runtime.backoff import Backoff
from automq.runtime.clock import Clock
from automq.runtime.entropy import Entropy
from automq.runtime.ledger import Account, MemoryLedger
from automq.runtime.tasks import Tasks
from automq.runtime.telemetry import Metrics
from automq.s3stream.append_path import AppendPath
from automq.s3stream.handover import Handover
from automq.s3stream.incarnation import Incarnation
from automq.s3stream.model import (
    BrokerFenced,
    DataMissing,
    FencedBy,
    RecoveredLog,
    SlotsLost,
    StoreDamaged,
    StreamFenced,
    StreamTrim,
)
from automq.s3stream.ports import ObjectManager, ObjectStorage, StoreError, StreamManager
from automq.s3stream.read_path import ReadPath
from automq.s3stream.settings import StorageSettings
from automq.s3stream.stream import Stream
from automq.s3stream.upload.recoverer import Recoverer, Share, alone
from automq.s3stream.upload.sweeper import Sweeper
from automq.s3stream.upload_path import UploadPath

# How long an orderly end waits for its last deletes.
TRIM_AT_END_S: Final = 2.0


class Storage:
    """The three paths of one broker incarnation, and what ends them together.

    Order of life: construct, `recover` every dead (node, epoch), `start`, `open_stream`..., `close`.
    """

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
        incarnation = Incarnation(
            cluster_id=cluster_id,
            node=node,
            epoch=epoch,
            settings=settings,
            ledger=ledger,
            store=store,
            clock=clock,
            entropy=entropy,
            tasks=tasks,
            metrics=metrics,
        )
        self.settings, self.ledger = settings, ledger
        self.cluster_id, self.node, self.epoch = cluster_id, node, epoch
        self._store, self._objects, self._streams, self._entropy = store, objects, streams, entropy
        self._on_fenced, self._on_damaged = on_fenced, on_damaged
        self._sweeper = Sweeper(entropy=entropy, tasks=tasks)
        self.append: Final = AppendPath(
            incarnation,
            on_taken=self._on_slot_taken,
            on_vanished=lambda key: tasks.spawn(self._explain_vanished(key), name="find out why a slot is gone"),
            on_damaged=self.damage,
        )
        self.upload: Final = UploadPath(
            incarnation,
            append=self.append,
            objects=objects,
            streams=streams,
            on_fenced=self._fence_ourselves,
            on_damaged=self.damage,
        )
        self.read: Final = ReadPath(incarnation, objects=objects, streams=streams)
        self.handover: Final = Handover(node=node, append=self.append, upload=self.upload, streams=streams)

    @property
    def halted(self) -> BrokerFenced | StoreDamaged | None:
        """Why this incarnation may not acknowledge, write or read any more."""
        return self.append.halted

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
            store=self._store,
            objects=self._objects,
            streams=self._streams,
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
        self.append.start()

    def open_stream(self, stream_id: StreamId) -> Stream:
        """Open at the epoch, start and end the durable image gives; `next_offset` is the larger of end and start.

        An earlier opening of the stream here is closed; its batches must have been uploaded. Raises StreamNotFound,
        StreamFenced when the image names another owner, BrokerFenced.
        """
        if self.halted is not None:
            raise self.halted.with_traceback(None)
        state = self._streams.state(stream_id)
        if state.owner != self.node:
            raise StreamFenced(stream=stream_id, ours=state.epoch, current=state.epoch)
        stream = Stream(state, append=self.append, read=self.read)
        self.append.add_stream(stream_id, stream)
        return stream

    def replica_stream(self, stream_id: StreamId) -> Stream:
        """A stream of another owner, to be read below the end that the image shows, and for nothing else.

        Whoever reads keeps its `start_offset` and `confirmed_offset` as the image has them. Raises StreamNotFound.
        """
        return Stream(self._streams.state(stream_id), append=self.append, read=self.read)

    async def trim(self, trims: Sequence[tuple[Stream, Offset]]) -> Sequence[Exception | None]:
        """`Stream.trim` of many by one change: for each None, or what it would have raised."""
        results: list[Exception | None] = [stream.lost_by for stream, _ in trims]
        wanted = [number for number, lost_by in enumerate(results) if lost_by is None]
        asked = [StreamTrim(trims[number][0].stream_id, trims[number][0].epoch, trims[number][1]) for number in wanted]
        for number, refused in zip(wanted, await self._streams.trim(asked), strict=True):
            stream, new_start = trims[number]
            results[number] = refused
            if refused is None:
                stream.start_offset = max(stream.start_offset, new_start)
        return results

    def damage(self, error: StoreDamaged) -> None:
        """The store has lost or damaged what acknowledgements rest on: halt, and call `on_damaged`. Idempotent."""
        if self.halted is None:
            self.halt(error)
            self._on_damaged(error)

    def halt(self, error: BrokerFenced | StoreDamaged) -> None:
        """This incarnation is over: no new PUT, no acknowledgement, no read from now on. Idempotent."""
        if self.halted is None:
            self.upload.stop()
            self._sweeper.stop()
            self.append.halt(error)

    async def close(self, upload: bool) -> None:
        """Refuse appends, make what was appended durable, with `upload` commit it too, and end. Cancel to cut short."""
        self.append.refuse()
        try:
            if self.halted is None:
                await self._finish(upload)
        except (BrokerFenced, StoreDamaged):
            pass  # `on_fenced` or `on_damaged` was called.
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Stop at once, as a crash would: nothing is finished, and no callback is called."""
        self.append.stop()
        self.upload.stop()
        self._sweeper.stop()

    async def _finish(self, upload: bool) -> None:
        wal = self.append.wal
        if upload:
            await self.upload.flush()
            # What is left over, the next start's recovery deletes.
            await wal.trimmer.attempt(TRIM_AT_END_S)
        else:
            wal.close_slot()
            if wal.next_sequence:
                await self.append.durable(wal.next_sequence - 1)

    def _on_slot_taken(self, key: str) -> None:
        self._fence_ourselves(BrokerFenced(f"the slot {key} holds another process's bytes", by=FencedBy.WAL_SLOT))

    async def _explain_vanished(self, key: str) -> None:
        """A slot was there and is gone. A recoverer that has fenced us may delete it; else the store has lost it."""
        backoff = Backoff(entropy=self._entropy)
        while self.halted is None:
            try:
                await self._objects.confirm()
            except StoreError:
                await asyncio.sleep(backoff.next_s())
            except BrokerFenced as fenced:
                self._fence_ourselves(fenced)
            except StoreDamaged as damaged:
                self.damage(damaged)
            else:
                self.damage(DataMissing(key=key, what="a WAL slot that was there a moment ago"))

    def _fence_ourselves(self, fenced: BrokerFenced) -> None:
        if self.halted is None:
            self.halt(fenced)
            self._on_fenced(fenced)
