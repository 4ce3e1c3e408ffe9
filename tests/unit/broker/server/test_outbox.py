"""The outbox on real sockets: bytes arrive whole and in order, and memory is never let go too early."""

import asyncio
import random
import socket
from typing import Any

import pytest
import uvloop

from automq.runtime.budget import ByteBudget
from automq.server.outbox import PIECE_BYTES, PINNED_S_MAX, UNSENT_S_MAX, Outbox


class Server(asyncio.Protocol):
    """The broker's end. Memory that the outbox does not need any more is overwritten at once."""

    def __init__(self, budget: ByteBudget) -> None:
        self.budget = budget
        self.pinned: list[tuple[int, bytearray]] = []
        self.handed = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self.transport.set_write_buffer_limits(high=0)
        self.outbox = Outbox(self.transport, self.budget)

    def pause_writing(self) -> None:
        self.outbox.on_full()

    def resume_writing(self) -> None:
        self.outbox.on_writable()
        self.recycle()

    def connection_lost(self, exc: Exception | None) -> None:
        self.outbox.close()

    def send(self, sizes: list[int], expected: bytearray) -> None:
        """Buffers of these sizes, with random bytes."""
        buffers = [bytearray(random.randbytes(size)) for size in sizes]
        for buffer in buffers:
            expected += buffer
            self.handed += len(buffer)
            self.pinned.append((self.handed, buffer))
        self.outbox.send([memoryview(buffer) for buffer in buffers])
        self.recycle()

    def recycle(self) -> None:
        while self.pinned and self.pinned[0][0] <= self.handed - self.outbox.pinned_bytes:
            buffer = self.pinned.pop(0)[1]
            buffer[:] = b"\xff" * len(buffer)


async def connected(budget: ByteBudget) -> tuple[Server, socket.socket]:
    loop = asyncio.get_running_loop()
    near, far = socket.socketpair()
    near.setblocking(False)
    far.setblocking(False)
    _, server = await loop.create_connection(lambda: Server(budget), sock=near)
    return server, far


async def read(far: socket.socket, count: int) -> bytes:
    loop = asyncio.get_running_loop()
    data = bytearray()
    while len(data) < count:
        data += await loop.sock_recv(far, random.randint(1, 300_000))
    return bytes(data)


async def whole_and_in_order() -> None:
    random.seed(5)
    server, far = await connected(ByteBudget(1))
    expected = bytearray()
    for _ in range(20):
        server.send([random.choice((0, 1, 100, 70_000)) for _ in range(random.randint(1, 30))], expected)
    server.send([3] * 2500, expected)
    received = await asyncio.wait_for(read(far, len(expected)), 20)
    await asyncio.sleep(0.01)

    assert received == expected
    assert server.outbox.unsent_bytes == 0
    assert server.pinned == []
    server.transport.abort()
    far.close()


async def copied_when_slow() -> None:
    random.seed(6)
    budget = ByteBudget(50_000_000)
    server, far = await connected(budget)
    expected = bytearray()
    server.send([100_000] * 30, expected)
    assert server.outbox.check(0.0)
    assert server.pinned
    assert server.outbox.check(PINNED_S_MAX)
    server.recycle()
    assert server.pinned == []
    assert budget.used == server.outbox.unsent_bytes > 0
    server.send([100_000] * 3, expected)
    server.recycle()
    assert server.outbox.pinned_bytes == 300_000
    received = await asyncio.wait_for(read(far, len(expected)), 20)
    await asyncio.sleep(0.01)

    assert received == expected
    assert (budget.used, server.outbox.pinned_bytes) == (0, 0)
    server.transport.abort()
    far.close()


async def closed_when_nothing_can_be_copied() -> None:
    budget = ByteBudget(10)
    assert budget.try_acquire(1)
    server, far = await connected(budget)
    server.send([100_000] * 30, bytearray())

    assert server.outbox.check(0.0)
    assert server.outbox.check(UNSENT_S_MAX - 1)
    assert not server.outbox.check(UNSENT_S_MAX)
    server.transport.abort()
    await asyncio.sleep(0.01)
    assert server.outbox.unsent_bytes == 0
    far.close()


async def peer_is_gone() -> None:
    server, far = await connected(ByteBudget(1))
    server.send([100_000] * 30, bytearray())
    far.close()
    await asyncio.sleep(0.05)
    server.send([PIECE_BYTES] * 3, bytearray())
    await asyncio.sleep(0.05)

    assert server.outbox.unsent_bytes == 0
    assert server.transport.is_closing()


@pytest.mark.parametrize("runner", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize(
    "case", [whole_and_in_order, copied_when_slow, closed_when_nothing_can_be_copied, peer_is_gone]
)
def test_outbox(runner: Any, case: Any) -> None:
    runner(case())
