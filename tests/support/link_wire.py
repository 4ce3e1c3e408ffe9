"""The wire between a broker and its controller, in memory: it can be cut, held, and asked what went over it."""

import asyncio
from collections.abc import Callable

from automq.controller.link_server import LinkServer


class MemoryTransport(asyncio.Transport):
    """One end. What is written arrives at the other in a later turn, in pieces of at most `piece` bytes."""

    def __init__(self, wire: "Wire", protocol: asyncio.BaseProtocol) -> None:
        super().__init__()
        self.wire = wire
        self.protocol = protocol
        self.peer: MemoryTransport | None = None
        self.closed = False
        self.unread = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self.closed or self.wire.swallows:
            self.unread += len(data)
            return
        for first in range(0, len(data), self.wire.piece):
            asyncio.get_running_loop().call_soon(self._arrive, bytes(data[first : first + self.wire.piece]))

    def _arrive(self, data: bytes) -> None:
        peer = self.peer
        if peer is not None and not peer.closed:
            peer.protocol.data_received(data)  # type: ignore[attr-defined]

    def get_write_buffer_size(self) -> int:
        return self.unread

    def close(self) -> None:
        asyncio.get_running_loop().call_soon(asyncio.get_running_loop().call_soon, self.abort)

    def abort(self) -> None:
        for end in (self, self.peer):
            if end is not None and not end.closed:
                end.closed = True
                asyncio.get_running_loop().call_soon(end.protocol.connection_lost, None)  # type: ignore[attr-defined]


class Wire:
    """How what is written arrives."""

    def __init__(self) -> None:
        self.piece = 7
        self.swallows = False
        """What is written from now on arrives nowhere."""


def connect_in_memory(near: asyncio.BaseProtocol, far: asyncio.BaseProtocol) -> None:
    """A connection between two protocols; the second one's end is made first."""
    wire = Wire()
    wire.piece = 1 << 20
    ends = MemoryTransport(wire, near), MemoryTransport(wire, far)
    ends[0].peer, ends[1].peer = ends[1], ends[0]
    far.connection_made(ends[1])
    near.connection_made(ends[0])


class LinkWire(Wire):
    """Connects to whatever server is `server` at the moment."""

    def __init__(self, server: LinkServer | None) -> None:
        super().__init__()
        self.server = server
        self.dials = 0
        self.connections: list[MemoryTransport] = []

    async def dial(self, factory: Callable[[], asyncio.BaseProtocol]) -> None:
        """See `remote.Dial`."""
        self.dials += 1
        await asyncio.sleep(0.001)
        if self.server is None:
            raise ConnectionRefusedError("nobody listens")
        near, far = MemoryTransport(self, factory()), MemoryTransport(self, self.server.protocol())
        near.peer, far.peer = far, near
        self.connections.append(near)
        far.protocol.connection_made(far)
        near.protocol.connection_made(near)

    def raw(self, protocol: asyncio.Protocol) -> MemoryTransport:
        """A connection of somebody who speaks for himself."""
        assert self.server is not None
        near, far = MemoryTransport(self, protocol), MemoryTransport(self, self.server.protocol())
        near.peer, far.peer = far, near
        far.protocol.connection_made(far)
        protocol.connection_made(near)
        return near

    def cut(self) -> None:
        """Every connection ends, and what is under way with it."""
        for end in self.connections:
            end.abort()
        self.connections.clear()
