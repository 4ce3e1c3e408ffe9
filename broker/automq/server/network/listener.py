"""All client connections of one broker, and what they share.

`protocol_factory` is handed to whatever accepts connections: the machine's sockets, or a network in memory. One task
looks after all connections once a second, in place of a timer for each.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any, Final

from prometheus_client.core import Metric

from automq.controller.contact import ALWAYS, Always, Contact
from automq.handlers.context import Services
from automq.handlers.produce import ProduceHandler
from automq.handlers.reader_pins import ReaderPins
from automq.handlers.repeated_fetch import RepeatedFetchHandler
from automq.handlers.wide_produce import WideProduceHandler
from automq.handlers.zones import Zones
from automq.partition.content_worker import ContentWorker
from automq.partition.replica import Replicas
from automq.protocol.apis import ApiKey
from automq.protocol.connection import Part, ResponseQueue
from automq.protocol.framing import ReceiveBuffers
from automq.runtime.ledger import Account, MemoryLedger
from automq.runtime.tasks import Tasks
from automq.runtime.telemetry import Metrics
from automq.s3stream.storage import Storage
from automq.server.network.admission import Admission
from automq.server.network.audit import Audit
from automq.server.network.connection import Connection
from automq.server.network.dispatch import DispatchTable, UnsupportedVersion, cause_of
from automq.server.network.host import ListenerSettings, ServedConnection
from automq.server.network.outbox import KernelRoom
from automq.server.network.receiving import Receiving
from automq.server.network.request_metrics import RequestMetrics

log = logging.getLogger(__name__)

CHECK_S: Final = 1.0

# At the end, for answers that are given: a client that reads at all takes them in this time.
LAST_ANSWERS_S: Final = 1.0


def _buffers(receiving: Receiving) -> ReceiveBuffers:
    return ReceiveBuffers(spare_bytes_max=receiving.spare_bytes_max, on_spare=receiving.change_spares)


def _zones(services: Services, storage: Storage, metrics: Metrics) -> Zones:
    """Which consumers read elsewhere, and what is read here of partitions of others."""
    replicas = Replicas(storage=storage, metadata=services.metadata, traffic=services.partitions.traffic)
    return Zones(node=services.node, metadata=services.metadata, replicas=replicas, metrics=metrics)


class KafkaServer:
    """Serves the Kafka protocol on any number of listeners."""

    contact: Contact | Always = ALWAYS
    """Says until when answers may leave; to be set before anybody connects."""

    def __init__(
        self,
        *,
        table: DispatchTable,
        services: Services,
        storage: Storage,
        ledger: MemoryLedger,
        settings: ListenerSettings,
        contents: ContentWorker,
        tasks: Tasks,
        metrics: Metrics,
    ) -> None:
        self.table = table
        self.services = services
        self.storage = storage
        self.settings = settings
        self.metrics = RequestMetrics(metrics, table.api_versions)
        self.admission = Admission(settings.connections, ledger[Account.CONNECTIONS])
        self.metrics.connections_over_limit = self.admission.refused
        self.now, self.boottime = services.clock.monotonic, services.clock.boottime
        self.receiving = Receiving(
            ledger[Account.RECEIVE], call_soon=lambda turn: asyncio.get_running_loop().call_soon(turn)
        )
        self.receiving.on_room = storage.append.room.schedule
        self.buffers = _buffers(self.receiving)
        self.pins = ReaderPins(ledger[Account.READER_PINS])
        self.kernel_room = KernelRoom()
        self.audit = Audit()
        self.is_draining = False
        self._awaited: dict[ServedConnection, None] = {}
        """While draining: those that have something to end yet."""
        self._is_awaited: Callable[[ServedConnection], bool] = lambda _: False
        self._ended = asyncio.Event()
        self.produce: ProduceHandler = WideProduceHandler(
            partitions=services.partitions,
            append_path=storage.append,
            metadata=services.metadata,
            clock=services.clock,
            contents=contents,
            tasks=tasks,
            receive=self.receiving.copies,
            on_error=self.metrics.error_counter(ApiKey.PRODUCE),
        )
        self.fetch = RepeatedFetchHandler(
            partitions=services.partitions,
            sessions=services.fetch_sessions,
            metadata=services.metadata,
            settings=settings.fetch,
            pins=self.pins,
            zones=_zones(services, storage, metrics),
            clock=services.clock,
            entropy=services.entropy,
            tasks=tasks,
            on_error=self.metrics.error_counter(ApiKey.FETCH),
        )
        metrics.export(self._collect_reads)
        self._reads = metrics.declare(
            "automq_fetch_reads",
            "counter",
            "Partitions that Fetch read, from memory (log cache) or from objects (block cache and store)",
            ["source"],
        )
        self._tasks = tasks
        # Those that have answers to send, since this turn of the event loop.
        self._to_flush: deque[ServedConnection] = deque()
        self._is_flushing = False
        self._connections: dict[ServedConnection, bool] = {}
        """With whether they were admitted: the others are being closed."""
        # A request larger than this is let in as soon as there is this much room: it may never be more.
        self._room_bytes_max = storage.settings.arena_bytes // 4

    def _collect_reads(self) -> Iterator[Metric]:
        reads = self._reads.counters()
        reads.add_metric(["memory"], max(0, self.fetch.reads - self.fetch.cold_reads))
        reads.add_metric(["objects"], self.fetch.cold_reads)
        yield reads

    def refused(self, error: Exception, host: str) -> None:
        """A connection from `host` is closed because of what it sent, or did not take."""
        self.metrics.refused[cause_of(error)] += 1
        if isinstance(error, UnsupportedVersion):
            remedy = "its connection is closed, as Kafka does; `ApiVersions` lists what is served"
            self.audit.refuse(str(error), client_id=error.client_id, host=host, remedy=remedy)
        else:
            log.warning("connection from %s closed: %s", host, error)

    def start(self) -> None:
        """Look after connections from now on."""
        limits = self.settings.connections
        log.info(
            "connections are taken",
            extra={
                "connections_max": limits.connections_max,
                "limited_by": limits.limited_by,
                "descriptors": limits.descriptors,
                "request_bytes_max": min(self.settings.request_bytes_max, self.receiving.frame_bytes_max),
            },
        )
        _ = self._tasks.spawn(self._maintain_connections(), name="connections")

    def protocol_factory(self, listener_name: str) -> Callable[[], asyncio.BaseProtocol]:
        """Makes the protocol of a connection that came in on `listener_name`."""
        self.metrics.connections.setdefault(listener_name, 0)
        return lambda: Connection(self, listener_name)

    async def drain(self) -> None:
        """Start no further request; return when all that were started are answered, taken or not.

        Cancel to cut short.
        """
        self.is_draining = True
        for connection in list(self._connections):
            connection.hasten()
        await self._until_none(lambda connection: not connection.is_answered)

    async def flush(self) -> None:
        """After `drain`: let clients take their last answers for a moment, then close on those that do not."""
        try:
            async with asyncio.timeout(LAST_ANSWERS_S):
                await self._until_none(lambda connection: connection.has_unsent)
        except TimeoutError:
            left = list(self._awaited)
            log.info("clients that do not take their last answers are closed", extra={"connections": len(left)})
            for connection in left:
                connection.close()

    async def _until_none(self, is_awaited: Callable[[ServedConnection], bool]) -> None:
        self._awaited = dict.fromkeys(filter(is_awaited, self._connections))
        self._is_awaited = is_awaited
        self._ended.clear()
        if self._awaited:
            await self._ended.wait()

    def close(self) -> None:
        """End every connection, answered or not. Idempotent."""
        self.is_draining = True
        for connection in list(self._connections):
            connection.close()

    # For connections.

    def add(self, connection: ServedConnection) -> None:
        """A client has come."""
        # Between the end of listening and the end of the process; the state's own line says why.
        is_admitted = not self.is_draining and self.admission.admit(connection.host, self.now())
        self._connections[connection] = is_admitted
        self.metrics.connections[connection.listener_name] += is_admitted
        if not is_admitted:
            connection.close()

    def remove(self, connection: ServedConnection) -> None:
        """A client has gone."""
        if self._connections.pop(connection, False):
            self.admission.leave(connection.host)
            self.metrics.connections[connection.listener_name] -= 1
        self._forget(connection)

    def flush_soon(self, connection: ServedConnection) -> None:
        """Have it flushed in the next turn of the event loop; one callback for all, as a thousand may be at once."""
        self._to_flush.append(connection)
        if not self._is_flushing:
            self._is_flushing = True
            asyncio.get_running_loop().call_soon(self._flush_all)

    def hold(self, connection: ServedConnection, queue: ResponseQueue) -> tuple[Sequence[Part], int]:
        """Its answers wait until there is contact again; then it is flushed. What may leave all the same."""
        self.contact.when_fresh(connection.flush)
        return queue.take_own_writes()

    def _flush_all(self) -> None:
        waiting = self._to_flush
        try:
            # Those that come meanwhile belong to another turn.
            for _ in range(len(waiting)):
                waiting.popleft().flush()
        finally:
            # After an error the others have their turn all the same.
            self._is_flushing = bool(waiting)
            if waiting:
                asyncio.get_running_loop().call_soon(self._flush_all)

    def progressed(self, connection: ServedConnection) -> None:
        """While draining: something of the connection was answered or sent."""
        if connection in self._awaited and not self._is_awaited(connection):
            self._forget(connection)

    def _forget(self, connection: ServedConnection) -> None:
        self._awaited.pop(connection, None)
        if not self._awaited:
            self._ended.set()

    def has_room(self, size: int) -> bool:
        """Whether the engine takes a Produce request of `size` bytes."""
        return not self.receiving.copies.is_full and self.storage.append.has_room(
            size if size < self._room_bytes_max else self._room_bytes_max
        )

    def spawn(self, coroutine: Coroutine[Any, Any, None], *, name: str) -> asyncio.Task[None]:
        """Run a handler, or what an answer needs."""
        return self._tasks.spawn(coroutine, name=name)

    async def _maintain_connections(self) -> None:
        idle_ms_max = self.settings.idle_ms_max
        idle_s_max = None if idle_ms_max is None else idle_ms_max / 1000
        while True:
            await asyncio.sleep(CHECK_S)
            now = self.now()
            for connection in list(self._connections):
                connection.check(now, idle_s_max)
