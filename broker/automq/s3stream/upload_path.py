"""The upload path of one broker incarnation: when the open block is complete, and what becomes of it.

    open block ▶ sealed: by size, slots, age, pressure or a flush ▶ checkpoints at its ends ▶ uploader ▶ commit ▶ room

A block is sealed between two turns of the loop, never inside an append: there the appender's own state would not match
its stream's end.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from automq.ids import ObjectId, StreamEpoch, StreamId
from automq.runtime.ledger import Account
from automq.s3stream.append_path import AppendPath
from automq.s3stream.cache.log_cache import CacheBlock
from automq.s3stream.incarnation import Incarnation
from automq.s3stream.model import BrokerFenced, StoreDamaged, StreamFenced, StreamNotFound, StreamRelease
from automq.s3stream.ports import ObjectManager, StreamManager
from automq.s3stream.upload.uploader import UPLOADS_INFLIGHT, Releasing, Uploader, UploadEvents

# The log cache numbers them in ten bits.
ARENAS_OF_A_BLOCK: Final = 900


class UploadPath:
    """Seals the log cache's open block and hands it to the uploader; the append path's `Uploads`."""

    def __init__(
        self,
        incarnation: Incarnation,
        *,
        append: AppendPath,
        objects: ObjectManager,
        streams: StreamManager,
        on_fenced: Callable[[BrokerFenced], None],
        on_damaged: Callable[[StoreDamaged], None],
    ) -> None:
        self._append, self._streams = append, streams
        self._settings, self._clock = incarnation.settings, incarnation.clock
        self._timer: asyncio.TimerHandle | None = None
        self._seal_handle: asyncio.Handle | None = None
        self.uploader: Final = Uploader(
            cluster_id=incarnation.cluster_id,
            node=incarnation.node,
            epoch=incarnation.epoch,
            store=incarnation.store,
            objects=objects,
            trim_wal=append.wal.trim,
            epoch_of=streams.epoch,
            class_of=streams.retention_class,
            account=incarnation.ledger[Account.UPLOADS],
            events=UploadEvents(
                committed=self._on_committed, refused=self._on_refused, fenced=on_fenced, damaged=on_damaged
            ),
            entropy=incarnation.entropy,
            tasks=incarnation.tasks,
            metrics=incarnation.metrics,
        )
        append.uploads = self

    @property
    def pending(self) -> int:
        """Blocks submitted and not committed."""
        return self.uploader.pending

    async def flush(self) -> None:
        """Seal what the log cache holds and return when it is committed: before a stream moves, and at shutdown.

        Call it when no append is half-done. Raises BrokerFenced, StoreDamaged.
        """
        self._seal()
        await self.uploader.drain()

    def stop(self) -> None:
        """Upload nothing any more."""
        self.uploader.stop()
        self._cancel_timers()

    def seal_block(self, releases: Sequence[StreamRelease], prepared: Sequence[ObjectId] = ()) -> Releasing | None:
        """The open block is complete: capture checkpoints at exactly its ends and hand it to the uploader.

        To be called between two turns of the loop only, never inside an append: by a timer, `flush`, or a handover
        in the turn in which it sealed its streams. Slots below its end are trimmed once its commit is durable, not
        before. `releases` are of streams that were sealed in this very turn. None: there is nothing to upload.
        """
        self._cancel_timers()
        append, block = self._append, self._append.cache.open
        if append.halted is not None or not (block.runs or releases):
            return None
        append.wal.close_slot()
        self._cancel_timers()
        block.end_sequence = append.wal.next_sequence
        durable = append.durable(block.end_sequence - 1)
        captured = append.checkpoints.capture(append.cache.seal())
        if not releases:
            self.uploader.submit(block, durable, captured)
            return None
        releasing = Releasing(tuple(releases), durable, list(prepared))
        self.uploader.submit(block, captured, releasing=releasing)
        return releasing

    def slot_opened(self) -> None:
        """The open block will be uploaded within the interval, and early when memory is tight."""
        if self._timer is None:
            self._arm_timer()
        self.relieve()

    def slot_closed(self) -> None:
        """Seal the open block if that is large or long enough by now."""
        block, settings = self._append.cache.open, self._settings
        is_long = block.slots >= settings.upload_slots and not self._is_behind
        if block.size >= settings.upload_bytes or len(block.arenas) >= ARENAS_OF_A_BLOCK or is_long:
            self._request_seal()

    def relieve(self) -> None:
        """Under memory pressure upload early, unless an upload that will make room is under way already."""
        append = self._append
        if append.room.is_tight and not self.uploader.pending and append.cache.open.runs:
            self._request_seal()

    def _request_seal(self) -> None:
        if self._seal_handle is None:
            self._seal_handle = asyncio.get_running_loop().call_soon(self._seal)

    def _seal(self) -> None:
        self.seal_block(())

    def _on_committed(self, block: CacheBlock) -> None:
        now = self._clock.monotonic()
        self._append.cache.committed(block, now)
        self.relieve()
        self._append.room.after_commit(now, upload_interval_s=self._settings.upload_interval_ms / 1000)

    def _on_refused(self, stream_id: StreamId, epoch: StreamEpoch) -> None:
        open_streams = self._append.open_streams
        stream = open_streams.get(stream_id)
        if stream is not None and stream.tail.epoch == epoch:
            del open_streams[stream_id]
            try:
                current = self._streams.state(stream_id).epoch
            except StreamNotFound as error:
                stream.lose(error)
            else:
                stream.lose(StreamFenced(stream=stream_id, ours=epoch, current=current))

    def _arm_timer(self) -> None:
        interval_s = self._settings.upload_interval_ms / 1000
        self._timer = asyncio.get_running_loop().call_later(interval_s, self._on_timer)

    def _on_timer(self) -> None:
        self._arm_timer() if self._is_behind else self._seal()

    @property
    def _is_behind(self) -> bool:
        """The store cannot keep up or is away: more blocks would only be smaller ones."""
        return self.uploader.pending > UPLOADS_INFLIGHT

    def _cancel_timers(self) -> None:
        for handle in (self._timer, self._seal_handle):
            if handle is not None:
                handle.cancel()
        self._timer = self._seal_handle = None
