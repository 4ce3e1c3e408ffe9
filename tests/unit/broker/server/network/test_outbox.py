"""The outbox on real sockets: bytes arrive whole and in order, and nothing that is pulled is looked at too late."""

import asyncio
import contextlib
import random
import socket
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import uvloop

from automq.handlers.reader_pins import ReaderPins
from automq.handlers.record_range import RecordsChanged
from automq.protocol.connection import Buffer, Part
from automq.runtime.budget import ByteBudget
from automq.s3stream.ports import StoreUnavailable
from automq.server.network.outbox import NARROW_BYTES, PIECE_BYTES, UNSENT_S_MAX, WIDE_MAX, KernelRoom, Outbox


class Pulled:
    """Random bytes that are lent for a turn: what was lent is overwritten as soon as the turn is over."""

    def __init__(self, size: int, *, cold: float = 0.0) -> None:
        self.data = random.randbytes(size)
        self.sent = 0
        self.cold = cold
        self.is_loaded = False
        self.is_closed = False
        self.lent: list[bytearray] = []
        self.error: Exception | None = None

    def __len__(self) -> int:
        return len(self.data) - self.sent

    def peek(self, bytes_max: int, buffers_max: int) -> tuple[Sequence[Buffer], int] | None:
        if self.error is not None:
            raise self.error
        if not self.is_loaded and random.random() < self.cold:
            return None
        self.is_loaded = False
        buffers, position = [], self.sent
        while position < len(self.data) and (not buffers or (position - self.sent < bytes_max and len(buffers) < 9)):
            size = random.randint(1, 70_000)
            buffers.append(bytearray(self.data[position : position + size]))
            position += size
        self.lend(buffers)
        return buffers, sum(map(len, buffers))

    def lend(self, buffers: list[bytearray]) -> None:
        self.lent += buffers
        asyncio.get_running_loop().call_soon(self.spoil)

    def spoil(self) -> None:
        for buffer in self.lent:
            buffer[:] = b"\xff" * len(buffer)
        self.lent.clear()

    def advance(self, sent: int) -> None:
        self.sent += sent
        self.spoil()

    async def load(self) -> None:
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        self.is_loaded = True

    def pin(self) -> None:
        pass

    def close(self) -> None:
        self.is_closed = True
        self.spoil()


class Server(asyncio.Protocol):
    """The broker's end."""

    made: "list[Server]" = []

    def __init__(self, pins: ReaderPins, room: KernelRoom | None = None) -> None:
        self.pins = pins
        self.room = KernelRoom() if room is None else room
        self.broken: list[Exception] = []
        self.progress = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self.made.append(self)
        self.transport.set_write_buffer_limits(high=0)
        self.outbox = Outbox(
            self.transport,
            pins=self.pins,
            room=self.room,
            spawn=lambda coroutine: asyncio.get_running_loop().create_task(coroutine),
            on_progress=self.on_progress,
            on_broken=self.on_broken,
        )

    def on_progress(self) -> None:
        self.progress += 1

    def on_broken(self, error: Exception) -> None:
        self.broken.append(error)
        self.transport.abort()

    def pause_writing(self) -> None:
        self.outbox.on_full()

    def resume_writing(self) -> None:
        self.outbox.on_writable()

    def connection_lost(self, exc: Exception | None) -> None:
        self.outbox.close()

    def send(self, parts: list[Part], expected: bytearray) -> None:
        for part in parts:
            expected += part.data if isinstance(part, Pulled) else part  # type: ignore[operator]
        self.outbox.send(parts)


async def connected(limit: int = 1_000_000) -> tuple[Server, socket.socket]:
    loop = asyncio.get_running_loop()
    near, far = socket.socketpair()
    near.setblocking(False)
    far.setblocking(False)
    _, server = await loop.create_connection(lambda: Server(ReaderPins(ByteBudget(limit))), sock=near)
    return server, far


async def read(far: socket.socket, count: int) -> bytes:
    loop = asyncio.get_running_loop()
    data = bytearray()
    while len(data) < count:
        received = await loop.sock_recv(far, random.randint(1, 300_000))
        assert received, "the connection was closed"
        data += received
    return bytes(data)


async def end(server: Server, far: socket.socket) -> None:
    server.transport.abort()
    await asyncio.sleep(0.01)
    far.close()
    assert server.outbox.unsent_bytes == 0
    assert server.pins.budget.used == 0


def some_parts(cold: float) -> list[Part]:
    parts: list[Part] = []
    for _ in range(random.randint(1, 20)):
        size = random.choice((1, 100, 70_000, 300_000))
        parts.append(
            Pulled(size, cold=cold) if random.random() < 0.6 else random.randbytes(random.choice((0, 1, size)))
        )
    return parts


async def whole_and_in_order(cold: float) -> None:
    random.seed(5)
    server, far = await connected()
    expected = bytearray()
    for _ in range(20):
        server.send(some_parts(cold), expected)
    server.send([random.randbytes(3) for _ in range(2500)], expected)
    received = await asyncio.wait_for(read(far, len(expected)), 20)
    await asyncio.sleep(0.01)

    assert received == expected
    assert (server.outbox.unsent_bytes, server.pins.budget.used, server.broken) == (0, 0, [])
    await end(server, far)


async def hot_is_pulled() -> None:
    await whole_and_in_order(0.0)


async def cold_is_loaded() -> None:
    await whole_and_in_order(0.7)


async def own_bytes_are_held_on_the_account() -> None:
    server, far = await connected()
    pulled = Pulled(2_000_000)
    server.send([pulled, b"x" * 300_000], bytearray())

    assert server.outbox.unsent_bytes > 300_000
    assert server.pins.budget.used == 300_000
    assert server.outbox.check(0.0)
    assert server.outbox.check(UNSENT_S_MAX - 1)
    assert not server.outbox.check(UNSENT_S_MAX)
    await end(server, far)
    assert pulled.is_closed


async def progress_is_seen() -> None:
    server, far = await connected()
    expected = bytearray()
    server.send([Pulled(3_000_000)], expected)
    assert server.outbox.check(0.0)
    received = await read(far, 1_000_000)
    await asyncio.sleep(0.05)
    assert server.outbox.check(UNSENT_S_MAX)
    assert server.outbox.check(2 * UNSENT_S_MAX - 1)
    received += await read(far, len(expected) - len(received))

    assert received == expected
    await asyncio.sleep(0.01)
    assert server.outbox.check(9 * UNSENT_S_MAX)
    await end(server, far)


async def broken_by(error: Exception, change: Callable[[Pulled, Exception], None]) -> None:
    server, far = await connected()
    pulled = Pulled(3_000_000)
    server.send([pulled], bytearray())
    change(pulled, error)
    with contextlib.suppress(ConnectionError):
        while await asyncio.wait_for(asyncio.get_running_loop().sock_recv(far, 1_000_000), 5):
            pass

    assert server.broken == [error]
    await end(server, far)


def change(pulled: Pulled, error: Exception) -> None:
    pulled.error = error


def evict(pulled: Pulled, error: Exception) -> None:
    pulled.cold = 1.0

    async def load() -> None:
        raise error

    pulled.load = load  # type: ignore[method-assign]


async def broken_when_records_changed() -> None:
    await broken_by(RecordsChanged("a test"), change)


async def broken_when_nothing_can_be_loaded() -> None:
    await broken_by(StoreUnavailable("a test"), evict)


async def oldest_is_given_up_for_room() -> None:
    first, far = await connected(limit=2_000_000)
    loop = asyncio.get_running_loop()
    near, other_far = socket.socketpair()
    near.setblocking(False)
    _, second = await loop.create_connection(lambda: Server(first.pins), sock=near)
    first.send([bytes(1_800_000)], bytearray())
    assert first.broken == []
    second.send([bytes(1_800_000)], bytearray())
    await asyncio.sleep(0.01)

    assert len(first.broken) == 1
    assert second.broken == []
    assert 0 < first.pins.budget.used <= 1_800_000
    second.transport.abort()
    other_far.close()
    await asyncio.sleep(0.01)
    await end(first, far)


async def kernel_takes_as_much_as_it_likes_of_a_few_clients_alone() -> None:
    """What is left here of the same answer is more where the kernel may take little."""
    loop = asyncio.get_running_loop()
    pins, room = ReaderPins(ByteBudget(1_000_000)), KernelRoom()
    listener = await loop.create_server(lambda: Server(pins, room), "127.0.0.1", 0)
    address = listener.sockets[0].getsockname()
    clients: list[socket.socket] = []
    for _ in range(WIDE_MAX + 5):
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setblocking(False)
        await loop.sock_connect(client, address)
        clients.append(client)
    while len(Server.made) < len(clients):
        await asyncio.sleep(0.01)
    servers, Server.made = Server.made, []
    for server in servers:
        server.send([Pulled(6_000_000)], bytearray())
    taken = [6_000_000 - server.outbox.unsent_bytes for server in servers]
    assert max(taken[WIDE_MAX:]) <= 3 * NARROW_BYTES < min(taken[:WIDE_MAX])

    servers[0].outbox.on_request()
    late = servers[-1]
    assert late.outbox._is_wide is False
    late.send([Pulled(6_000_000)], bytearray())
    assert late.outbox._is_wide is True
    for server in servers:
        server.transport.abort()
    await asyncio.sleep(0.01)
    assert room.enter(late.outbox)
    listener.close()
    for client in clients:
        client.close()


class Refused(Pulled):
    """More buffers than one write may have."""

    def peek(self, bytes_max: int, buffers_max: int) -> tuple[Sequence[Buffer], int] | None:
        return [self.data[position : position + 1] for position in range(len(self.data))], len(self.data)


async def system_refuses_a_write() -> None:
    server, far = await connected()
    server.send([Refused(5_000)], bytearray())
    await asyncio.sleep(0)

    assert [type(error) for error in server.broken] == [OSError]
    assert server.transport.is_closing()
    far.close()


async def peer_is_gone() -> None:
    server, far = await connected()
    server.send([Pulled(3_000_000)], bytearray())
    far.close()
    await asyncio.sleep(0.05)
    server.send([bytes(PIECE_BYTES)] * 3, bytearray())
    await asyncio.sleep(0.05)

    assert server.outbox.unsent_bytes == 0
    assert server.transport.is_closing()


CASES = [
    hot_is_pulled,
    cold_is_loaded,
    own_bytes_are_held_on_the_account,
    progress_is_seen,
    broken_when_records_changed,
    broken_when_nothing_can_be_loaded,
    oldest_is_given_up_for_room,
    kernel_takes_as_much_as_it_likes_of_a_few_clients_alone,
    peer_is_gone,
    system_refuses_a_write,
]


@pytest.mark.parametrize("runner", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("case", CASES)
def test_outbox(runner: Any, case: Any) -> None:
    Server.made.clear()
    runner(case())
