"""What a connection and its server are to one another, as two ports: neither module imports the other.

Everything here is called in the event loop's thread and returns at once. A connection is added before its first byte
and removed once, when its transport is gone; in between its server may call it in any order, also after it was closed.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from automq.controller.contact import Always, Contact
from automq.handlers.context import Services
from automq.handlers.fetch import FetchSettings
from automq.handlers.produce import ProduceHandler
from automq.handlers.reader_pins import ReaderPins
from automq.handlers.repeated_fetch import RepeatedFetchHandler
from automq.protocol.connection import IN_FLIGHT_MAX, Part, ResponseQueue
from automq.protocol.framing import ReceiveBuffers
from automq.s3stream.storage import Storage
from automq.server.network.admission import ConnectionLimits
from automq.server.network.audit import Audit
from automq.server.network.dispatch import DispatchTable
from automq.server.network.outbox import KernelRoom
from automq.server.network.receiving import Receiving
from automq.server.network.request_metrics import RequestMetrics


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerSettings:
    """What a broker may tune."""

    request_bytes_max: int = 104_857_600
    """socket.request.max.bytes"""
    idle_ms_max: int | None = 600_000
    """connections.max.idle.ms; None means never."""
    connections: ConnectionLimits = ConnectionLimits(connections_max=20_000)
    """Beyond them new ones are closed at once."""
    in_flight_max: int = IN_FLIGHT_MAX
    """Requests of one connection that are started and not answered."""
    fetch: FetchSettings = FetchSettings()


class ServedConnection(Protocol):
    """A connection, as its server sees it."""

    @property
    def host(self) -> str:
        """Where the client is, or ""."""
        ...

    @property
    def listener_name(self) -> str:
        """The listener it came in on."""
        ...

    @property
    def is_answered(self) -> bool:
        """Every request that was started is answered, whether the client has taken the answers or not."""
        ...

    @property
    def has_unsent(self) -> bool:
        """The client has not taken all answers."""
        ...

    def flush(self) -> None:
        """Send the answers whose turn it is; nothing once it is closed."""
        ...

    def hasten(self) -> None:
        """The broker is draining: who waits for data gets what there is."""
        ...

    def check(self, now: float, idle_s_max: float | None) -> None:
        """To be called once a second: ends a connection that is idle or takes no answers for too long."""
        ...

    def close(self) -> None:
        """End it; answers that have not left are lost. Idempotent."""
        ...


class ConnectionHost(Protocol):
    """A server, as its connections see it: what they share, and whom they report to."""

    table: DispatchTable
    services: Services
    storage: Storage
    settings: ListenerSettings
    metrics: RequestMetrics
    contact: Contact | Always
    receiving: Receiving
    buffers: ReceiveBuffers
    pins: ReaderPins
    kernel_room: KernelRoom
    audit: Audit
    produce: ProduceHandler
    fetch: RepeatedFetchHandler
    now: Callable[[], float]
    """Monotonic seconds."""
    boottime: Callable[[], float]
    """Seconds that count the machine's sleep, as `contact` does."""
    is_draining: bool
    """No further request is started."""

    def add(self, connection: ServedConnection) -> None:
        """A client has come. The connection is closed before this returns when there are too many."""
        ...

    def remove(self, connection: ServedConnection) -> None:
        """A client has gone."""
        ...

    def flush_soon(self, connection: ServedConnection) -> None:
        """Have it flushed in the next turn of the event loop."""
        ...

    def hold(self, connection: ServedConnection, queue: ResponseQueue) -> tuple[Sequence[Part], int]:
        """Its answers wait until there is contact again; then it is flushed. What may leave all the same."""
        ...

    def progressed(self, connection: ServedConnection) -> None:
        """While draining: something of the connection was answered or sent."""
        ...

    def refused(self, error: Exception, host: str) -> None:
        """A connection from `host` is closed because of what it sent, or did not take."""
        ...

    def has_room(self, size: int) -> bool:
        """Whether the engine takes a Produce request of `size` bytes."""
        ...

    def spawn(self, coroutine: Coroutine[Any, Any, None], *, name: str) -> asyncio.Task[None]:
        """Run a handler, or what an answer needs."""
        ...
