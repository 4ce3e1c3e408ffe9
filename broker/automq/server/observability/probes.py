"""HTTP for whatever runs the broker: /metrics, /livez, /readyz.

/livez answers as long as the event loop turns: answering at all is the proof. /readyz is 200 only while serving; its
body is a contract (docs/broker.md). HTTP here is one GET a connection, answered and closed: a web framework would cost
every start a third of a second.
"""

import asyncio
import json
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final, Protocol, cast

from automq import __version__
from automq.ids import ClusterId, NodeId
from automq.runtime.telemetry import Metrics
from automq.server.lifecycle.states import Lifecycle, Reason, State
from automq.server.observability.occupancy import Occupancy

REQUEST_BYTES_MAX: Final = 16 * 1024
"""Request line and headers; a probe needs a few hundred bytes."""
REQUEST_TIMEOUT_S: Final = 10.0
CONNECTIONS_MAX: Final = 64
"""Probes and scrapers are a handful; what is above that is refused, so that nobody can exhaust descriptors here."""

_PHRASES: Final = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    431: "Request Header Fields Too Large",
    503: "Service Unavailable",
}
_JSON: Final = "application/json"
_TEXT: Final = "text/plain; charset=utf-8"
_SCRAPE: Final = (b"GET /metrics ", b"GET /metrics?")
_METRICS: Final = "text/plain; version=0.0.4; charset=utf-8"

Answer = tuple[int, str, bytes]


class Spawn(Protocol):
    """Starts a task."""

    def __call__(self, coroutine: Coroutine[Any, Any, None], /, *, name: str) -> object: ...


def ready_body(
    lifecycle: Lifecycle,
    *,
    node: NodeId,
    cluster_id: ClusterId | None,
    advertised: Mapping[str, str],
    occupancy: Occupancy | None = None,
    damage: str | None = None,
) -> tuple[int, str]:
    """Status and body of /readyz. `damage` is known of while the rest is served: a reason, and no less ready."""
    reason, message = lifecycle.reason, lifecycle.message
    if reason is None and damage is not None and lifecycle.state is State.SERVING:
        reason, message = Reason.STORE_DAMAGED, f"{message}; {damage}"
    not_empty = _not_empty(lifecycle.state, occupancy)
    body = {
        "state": lifecycle.state.value,
        "reason": reason.value if reason else None,
        "message": message,
        "nodeId": node,
        "clusterId": cluster_id,
        "version": __version__,
        "advertised": dict(advertised),
        "brokerEpoch": None if occupancy is None else occupancy.epoch,
        "ledPartitions": None if occupancy is None else occupancy.led,
        "draining": occupancy is not None and occupancy.is_draining,
        "empty": not_empty is None,
        "notEmpty": not_empty,
    }
    return (200 if lifecycle.is_ready else 503), json.dumps(body)


def _not_empty(state: State, occupancy: Occupancy | None) -> str | None:
    """Why the broker may not be taken away at once. Whoever is fenced knows nothing of what it had."""
    if state not in (State.SERVING, State.DRAINING):
        return f"its state is {state.value}"
    return "it is not registered yet" if occupancy is None else occupancy.not_empty


class Probes:
    """What is answered; `protocol` is a connection's protocol, for whatever listens."""

    def __init__(
        self,
        *,
        lifecycle: Lifecycle,
        metrics: Metrics,
        node: NodeId,
        cluster_id: Callable[[], ClusterId | None],
        advertised: Callable[[], Mapping[str, str]] = dict,
        occupancy: Callable[[], Occupancy | None] = lambda: None,
        damage: Callable[[], str | None] = lambda: None,
        spawn: Spawn | None = None,
    ) -> None:
        """`spawn` runs what takes several turns of the event loop; without it `/metrics` is written in one."""
        self.spawn = spawn
        self._lifecycle = lifecycle
        self._metrics = metrics
        self._node = node
        self._cluster_id = cluster_id
        self._advertised = advertised
        self._occupancy = occupancy
        self._damage = damage
        self.connections: dict[asyncio.Protocol, asyncio.Transport] = {}

    def protocol(self) -> asyncio.Protocol:
        """One connection."""
        return _Connection(self)

    def close(self) -> None:
        """Break the connections that are open."""
        for transport in list(self.connections.values()):
            transport.abort()

    async def metrics_page(self) -> bytes:
        """What `/metrics` answers, written in turns."""
        return await self._metrics.render_in_turns()

    def answer(self, request: bytes) -> Answer:
        """Status, content type and body for a request's first line."""
        parts = request.split(b"\r\n", 1)[0].split(b" ")
        if len(parts) != 3 or not parts[2].startswith(b"HTTP/1."):
            return 400, _TEXT, b"this is no HTTP request\n"
        if parts[0] not in (b"GET", b"HEAD"):
            return 405, _TEXT, b"only GET is answered\n"
        match parts[1].split(b"?", 1)[0]:
            case b"/livez":
                return 200, _TEXT, b"ok\n"
            case b"/readyz":
                status, body = ready_body(
                    self._lifecycle,
                    node=self._node,
                    cluster_id=self._cluster_id(),
                    advertised=self._advertised(),
                    occupancy=self._occupancy(),
                    damage=self._damage(),
                )
                return status, _JSON, body.encode()
            case b"/metrics":
                return 200, _METRICS, self._metrics.render()
            case _:
                return 404, _TEXT, b"there are /livez, /readyz and /metrics\n"


class _Connection(asyncio.Protocol):
    """Reads one request, answers it, closes."""

    def __init__(self, probes: Probes) -> None:
        self._probes = probes
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._timer: asyncio.TimerHandle | None = None
        self._is_answering = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclass of asyncio's.
        made = cast(asyncio.Transport, transport)
        if len(self._probes.connections) >= CONNECTIONS_MAX:
            made.abort()
            return
        self._transport = self._probes.connections[self] = made
        self._timer = asyncio.get_running_loop().call_later(REQUEST_TIMEOUT_S, made.abort)

    def connection_lost(self, error: Exception | None) -> None:
        self._probes.connections.pop(self, None)
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        self._received += data
        if b"\r\n\r\n" in self._received:
            spawn = self._probes.spawn
            if spawn is not None and self._received.startswith(_SCRAPE) and not self._is_answering:
                self._is_answering = True
                spawn(self._answer_scrape(self._transport), name="scrape")
            elif not self._is_answering:
                self._send(self._transport, self._probes.answer(bytes(self._received)))
        elif len(self._received) > REQUEST_BYTES_MAX:
            self._send(self._transport, (431, _TEXT, b"the request is too long\n"))

    async def _answer_scrape(self, transport: asyncio.Transport) -> None:
        page = await self._probes.metrics_page()
        if not transport.is_closing():
            self._send(transport, (200, _METRICS, page))

    def _send(self, transport: asyncio.Transport, answer: Answer) -> None:
        status, content_type, body = answer
        head = (
            f"HTTP/1.1 {status} {_PHRASES[status]}\r\nContent-Type: {content_type}\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\nCache-Control: no-store\r\n\r\n"
        )
        is_head = self._received.startswith(b"HEAD ")
        transport.write(head.encode() + (b"" if is_head else body))
        transport.close()
