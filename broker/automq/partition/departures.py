"""Partitions that leave this broker: follows the moves that the metadata show, and hands their streams over.

Everything here follows records. A move that names this incarnation as its source is carried out; a partition that was
sealed for a move that the image does not show any more, and that is still ours, takes appends again; one that has a new
owner is closed by `manager`, like any other that is not ours. A move that turned out to be void and is still there is
tried again after a pause.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Final

from automq.ids import BrokerEpoch, NodeId, StreamId
from automq.metadata.image import MoveImage
from automq.metadata.publisher import MetadataPublisher
from automq.partition.parking import PARKED_S
from automq.partition.partition import Partition
from automq.runtime.clock import Clock
from automq.runtime.tasks import Tasks
from automq.runtime.telemetry import Metrics
from automq.s3stream.handover import Departure
from automq.s3stream.model import BrokerFenced, StoreDamaged
from automq.s3stream.storage import Storage

log = logging.getLogger(__name__)

RETRY_S: Final = 1.0


class Departures:
    """Of one broker. `opened` finds the open partition of a stream."""

    def __init__(
        self,
        *,
        node: NodeId,
        storage: Storage,
        metadata: MetadataPublisher,
        opened: Callable[[StreamId], Partition | None],
        clock: Clock,
        tasks: Tasks,
        metrics: Metrics,
    ) -> None:
        self._us: tuple[NodeId, BrokerEpoch] = (node, storage.epoch)
        self._storage = storage
        self._metadata = metadata
        self._opened = opened
        self._clock, self._tasks = clock, tasks
        self._wanted: dict[StreamId, None] = {}
        """Streams to be handed over next, in the order in which somebody wished so."""
        self._sealed: dict[StreamId, tuple[Partition, int]] = {}
        """Partitions that are sealed, and for which move."""
        self._running: asyncio.Task[None] | None = None
        self._is_closed = False
        self._moved = metrics.counter("automq_partitions_handed_over", "Partitions given to another broker")
        self._void = metrics.counter("automq_partition_moves_void", "Moves that had ended before they were carried out")
        self._seconds = metrics.histogram(
            "automq_partition_sealed_seconds", "From a partition's seal to the answer who owns it"
        )

    def follow(self, streams: Iterable[StreamId]) -> None:
        """Moves of these have begun, changed or ended in the image."""
        for stream in streams:
            move = self._metadata.image.moves.get(stream)
            sealed = self._sealed.get(stream)
            if sealed is not None and (move is None or move.move != sealed[1]):
                self._lift(stream)
            if move is not None and move.source == self._us:
                self._want(stream)

    def follow_all(self) -> None:
        """As `follow`, for all there are."""
        self.follow(sorted(self._metadata.image.moves))

    def opened(self, partition: Partition) -> None:
        """It is open from now on: somebody may have wished it away meanwhile."""
        self.follow((partition.stream_id,))

    def closed(self, partition: Partition) -> None:
        """It is not open any more."""
        sealed = self._sealed.get(partition.stream_id)
        if sealed is not None and sealed[0] is partition:
            del self._sealed[partition.stream_id]

    def close(self) -> None:
        """Hand nothing over any more; what was sent stays sent."""
        self._is_closed = True
        self._wanted.clear()
        self._sealed.clear()

    def _want(self, stream: StreamId) -> None:
        if self._is_closed or self._opened(stream) is None:
            # What is being loaded is looked at when it is open.
            return
        self._wanted[stream] = None
        if self._running is None or self._running.done():
            self._running = self._tasks.spawn(self._run(), name="hand partitions over")

    async def _run(self) -> None:
        # What arrives in one change goes with one commit.
        await asyncio.sleep(0)
        while self._wanted and not self._is_closed:
            streams, self._wanted = list(self._wanted), {}
            departures = [departure for stream in streams if (departure := self._departure(stream)) is not None]
            if departures:
                try:
                    await self._hand_over(departures)
                except (BrokerFenced, StoreDamaged):
                    return

    def _departure(self, stream: StreamId) -> Departure | None:
        partition, move = self._opened(stream), self._move(stream)
        if partition is None or move is None:
            return None
        return Departure(
            stream=stream,
            epoch=partition.leader_epoch,
            move=move.move,
            opened=partition.stream,
            renews_checkpoint=partition.has_tail,
        )

    def _move(self, stream: StreamId) -> MoveImage | None:
        move = self._metadata.image.moves.get(stream)
        return None if move is None or move.source != self._us else move

    async def _hand_over(self, departures: list[Departure]) -> None:
        started: list[float] = []

        def seal(departure: Departure) -> None:
            if not started:
                started.append(self._clock.monotonic())
            self._seal(departure)

        results = await self._storage.handover.release(departures, is_wanted=self._is_wanted, on_sealed=seal)
        if started:
            self._seconds.observe(self._clock.monotonic() - started[0])
        again: list[StreamId] = []
        for departure, is_released in results:
            (self._moved if is_released else self._void).inc()
            if not is_released:
                self._lift(departure.stream)
                again.append(departure.stream)
        log.info("partitions handed over", extra={"released": len(results) - len(again), "void": len(again)})
        if any(self._move(stream) is not None for stream in again):
            await asyncio.sleep(RETRY_S)
            self.follow(again)

    def _is_wanted(self, departure: Departure) -> bool:
        partition, move = self._opened(departure.stream), self._move(departure.stream)
        is_current = move is not None and move.move == departure.move
        return is_current and partition is not None and partition.stream is departure.opened and not self._is_closed

    def _seal(self, departure: Departure) -> None:
        partition = self._opened(departure.stream)
        assert partition is not None
        parking = partition.seal()
        self._sealed[departure.stream] = (partition, departure.move)
        # Nobody waits for longer, whatever becomes of the release.
        asyncio.get_running_loop().call_later(PARKED_S, parking.refuse)

    def _lift(self, stream: StreamId) -> None:
        """The move is void for good, by a durable answer or by the image: where the partition is ours it goes on."""
        sealed = self._sealed.pop(stream, None)
        if sealed is None:
            return
        partition, _move = sealed
        now = self._metadata.image.stream(stream)
        is_ours = now is not None and now.belongs_to(*self._us) and now.epoch == partition.leader_epoch
        if is_ours and partition.is_open:
            partition.unseal()
