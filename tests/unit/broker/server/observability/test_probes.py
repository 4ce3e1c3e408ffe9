"""What the HTTP address answers."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from automq.ids import BrokerEpoch, ClusterId, NodeId
from automq.runtime.telemetry import Metrics
from automq.server.lifecycle.states import Event, Lifecycle, Reason
from automq.server.observability.occupancy import Occupancy
from automq.server.observability.probes import CONNECTIONS_MAX, Probes


class World:
    def __init__(self) -> None:
        self.lifecycle = Lifecycle()
        self.cluster_id: ClusterId | None = None
        metrics = Metrics()
        metrics.counter("automq_tests", "Tests").inc()
        self.probes = Probes(
            lifecycle=self.lifecycle,
            metrics=metrics,
            node=NodeId(3),
            cluster_id=lambda: self.cluster_id,
            advertised=lambda: {"outside": "kafka.example:9094"},
            occupancy=lambda: self.occupancy,
        )
        self.occupancy: Occupancy | None = None
        self.port = 0

    async def ask(self, request: bytes) -> tuple[bytes, bytes]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(request)
        answer = await reader.read()
        writer.close()
        head, _, body = answer.partition(b"\r\n\r\n")
        return head.split(b"\r\n")[0], body

    async def get(self, path: str) -> tuple[bytes, bytes]:
        return await self.ask(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    server = await asyncio.get_running_loop().create_server(made.probes.protocol, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    yield made
    server.close()
    made.probes.close()
    await server.wait_closed()


async def test_starting_broker_is_alive_and_not_ready(world: World) -> None:
    assert (await world.get("/livez"))[0] == b"HTTP/1.1 200 OK"
    status, body = await world.get("/readyz")

    assert status == b"HTTP/1.1 503 Service Unavailable"
    assert json.loads(body) == {
        "state": "Starting",
        "reason": None,
        "message": "reading settings",
        "nodeId": 3,
        "clusterId": None,
        "version": "0.1.0",
        "advertised": {"outside": "kafka.example:9094"},
        "brokerEpoch": None,
        "ledPartitions": None,
        "draining": False,
        "empty": False,
        "notEmpty": "its state is Starting",
    }


async def test_serving_broker_is_ready_even_while_its_store_fails(world: World) -> None:
    world.cluster_id = ClusterId("AAAAAAAAAAAAAAAAAAAAAA")
    world.lifecycle.move(Event.REGISTERED, "recovering")
    world.lifecycle.move(Event.RECOVERED, "serving")
    world.lifecycle.set_reason("the store fails", Reason.STORE_UNREACHABLE)

    status, body = await world.get("/readyz?verbose")

    assert status == b"HTTP/1.1 200 OK"
    answered = json.loads(body)
    assert (answered["state"], answered["reason"]) == ("Serving", "StoreUnreachable")
    assert answered["clusterId"] == "AAAAAAAAAAAAAAAAAAAAAA"


@pytest.mark.parametrize(
    ("not_empty", "events", "shown"),
    [
        (None, [Event.REGISTERED, Event.RECOVERED], None),
        ("it leads 2 partitions", [Event.REGISTERED, Event.RECOVERED], "it leads 2 partitions"),
        (None, [Event.REGISTERED, Event.RECOVERED, Event.STOP_ASKED], None),
        (None, [Event.REGISTERED], "its state is Recovering"),
        (None, [Event.REGISTERED, Event.RECOVERED, Event.FENCED], "its state is Fenced"),
    ],
)
async def test_empty_is_said_by_a_broker_that_serves_and_has_nothing(
    world: World, not_empty: str | None, events: list[Event], shown: str | None
) -> None:
    world.occupancy = Occupancy(epoch=BrokerEpoch(7), led=2, not_empty=not_empty)
    for event in events:
        world.lifecycle.move(event, "")

    answered = json.loads((await world.get("/readyz"))[1])

    assert (answered["brokerEpoch"], answered["ledPartitions"]) == (7, 2)
    assert (answered["empty"], answered["notEmpty"]) == (shown is None, shown)


async def test_metrics_are_prometheus_text(world: World) -> None:
    assert b"automq_tests_total 1.0" in (await world.get("/metrics"))[1]


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /nothing HTTP/1.1\r\n\r\n", b"HTTP/1.1 404 Not Found"),
        (b"POST /readyz HTTP/1.1\r\n\r\n", b"HTTP/1.1 405 Method Not Allowed"),
        (b"hello\r\n\r\n", b"HTTP/1.1 400 Bad Request"),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 20_000, b"HTTP/1.1 431 Request Header Fields Too Large"),
    ],
)
async def test_other_requests_are_refused(world: World, request_bytes: bytes, status: bytes) -> None:
    assert (await world.ask(request_bytes))[0] == status


async def test_request_may_come_in_pieces(world: World) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
    for piece in (b"GET /li", b"vez HTTP/1.1\r", b"\n\r\n"):
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(0)
    assert (await reader.read()).endswith(b"\r\n\r\nok\n")
    writer.close()


async def test_head_has_no_body(world: World) -> None:
    assert (await world.ask(b"HEAD /livez HTTP/1.1\r\n\r\n"))[1] == b""


async def test_connections_are_bounded(world: World) -> None:
    idle = [await asyncio.open_connection("127.0.0.1", world.port) for _ in range(CONNECTIONS_MAX)]
    while len(world.probes.connections) < CONNECTIONS_MAX:
        await asyncio.sleep(0)
    reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
    refused = await asyncio.gather(reader.read(), return_exceptions=True)

    assert refused[0] == b"" or isinstance(refused[0], ConnectionError)
    writer.close()
    for _, other in idle:
        other.close()
