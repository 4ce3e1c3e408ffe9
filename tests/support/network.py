"""Connections in memory between simulated processes: TCP as a broker's protocols see it.

Bytes arrive in order, later, in other pieces than they were sent in; or the connection breaks and what is on its way
is lost. A transport keeps what it was given by reference until it has left, as a real one may: whoever recycles the
memory before that sends garbage. A killed process breaks its connections; a paused one leaves them open and silent.

Two processes may be cut off from each other, in one direction or in both: what is sent that way waits, ends of
connections included, and arrives when the cut is healed, as TCP sends again what nobody has confirmed. A connection is
made only where both directions work. The machine of a process may go away with it: then nobody is told.
"""

import asyncio
import random
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from tests.support.sim_loop import OWNER, WORLD, Process, SimLoop, never

HIGH_WATER_BYTES = 64 * 1024
KERNEL_BYTES = 256 * 1024
"""What the receiving machine takes before its program has read anything."""


@dataclass(slots=True)
class Listener:
    """An address that is taken; without a factory nobody can connect yet."""

    network: "SimNetwork"
    process: Process
    host: str
    port: int
    factory: Callable[[], asyncio.BaseProtocol] | None = None

    def close(self) -> None:
        """Give the address back. Idempotent."""
        self.factory = None
        if self.network.listeners.get((self.host, self.port)) is self:
            del self.network.listeners[self.host, self.port]


@dataclass(slots=True)
class NetworkRates:
    """How likely a piece of data meets a fault on its way."""

    reset: float = 0.0
    slow: float = 0.0


class SimNetwork:
    """All listeners and connections of a simulation."""

    def __init__(self, loop: SimLoop, dice: random.Random, *, least_s: float = 0.0002, most_s: float = 0.003) -> None:
        self.loop = loop
        self.listeners: dict[tuple[str, int], Listener] = {}
        self.rates = NetworkRates()
        self.trace: Callable[..., None] = lambda *fields: None
        self.on_write: Callable[[Process], None] = lambda process: None
        """Called when a server's end of a connection is given bytes."""
        self._dice = dice
        self._least_s, self._most_s = least_s, most_s
        self._connections: dict[SimTransport, None] = {}
        self._next_port = 50_000
        self._cuts: set[tuple[Process, Process]] = set()
        """From whom nothing arrives at whom."""
        self._slow_links: dict[tuple[Process, Process], float] = {}
        self._held: list[tuple[SimTransport, Callable[[], None]]] = []
        """What an end is to be told by its peer, from whom nothing arrives now."""
        self._gone: dict[str, Process] = {}
        """By host: processes whose machine went away with them."""
        self._healed: asyncio.Event = asyncio.Event()

    def delay_s(self) -> float:
        """One way."""
        delay = self._dice.uniform(self._least_s, self._most_s)
        if self.rates.slow and self._dice.random() < self.rates.slow:
            delay += self._dice.uniform(0.1, 2.0)
        return delay

    # Cuts.

    def cut(self, sender: Process, receiver: Process) -> None:
        """From now on nothing that `sender` sends arrives at `receiver`."""
        self._cuts.add((sender, receiver))

    def heal(self) -> None:
        """Everybody reaches everybody, as fast as ever: what has waited arrives."""
        self._cuts.clear()
        self._slow_links.clear()
        held, self._held = self._held, []
        for end, callback in held:
            end.tell(callback)
        for transport in list(self._connections):
            transport.go_on()
        self._healed.set()
        self._healed = asyncio.Event()

    def slow_down(self, sender: Process, receiver: Process, most_s: float) -> None:
        """What `sender` sends to `receiver` takes up to so much longer from now on."""
        self._slow_links[sender, receiver] = most_s

    def lose_machine(self, process: Process) -> None:
        """To be called before its kill: nobody hears that its connections end, nor that nobody listens there."""
        for host, _port in [address for address, taken in self.listeners.items() if taken.process is process]:
            self._gone[host] = process

    def arrives(self, sender: Process | None, receiver: Process | None) -> bool:
        """Whether what is sent that way arrives now."""
        return not self._cuts or (sender, receiver) not in self._cuts

    def travel_s(self, sender: Process | None, receiver: Process | None) -> float:
        """One way between these."""
        delay = self.delay_s()
        if self._slow_links:
            delay += self._dice.uniform(0, self._slow_links.get((sender, receiver), 0.0))  # type: ignore[arg-type]
        return delay

    def is_gone(self, process: Process | None) -> bool:
        """Whether its machine went away with it."""
        return process is not None and process in self._gone.values()

    def hold_back(self, end: "SimTransport", callback: Callable[[], None]) -> None:
        """`end` is told when its peer's words arrive again."""
        self._held.append((end, callback))

    def bind(self, process: Process, host: str, port: int) -> Listener:
        """Take an address for `process`. Raises OSError when it is taken."""
        if port == 0:
            self._next_port += 1
            port = self._next_port
        if (host, port) in self.listeners:
            raise OSError(f"{host}:{port} is taken")
        listener = self.listeners[host, port] = Listener(self, process, host, port)
        process.at_kill(listener.close)
        return listener

    async def connect(self, host: str, port: int, protocol: asyncio.BaseProtocol) -> "SimTransport":
        """A connection from the calling process. Raises ConnectionRefusedError."""
        owner = OWNER.get()
        while True:
            await asyncio.sleep(self.delay_s())
            listener = self.listeners.get((host, port))
            if listener is not None and owner is not None and not self._connects(owner, listener.process):
                await self._healed.wait()
                continue
            if host in self._gone:
                # Whoever calls knows for how long it waits.
                await never()
            break
        if listener is None or listener.factory is None:
            raise ConnectionRefusedError(f"{host}:{port} refuses connections")
        self._next_port += 1
        near = SimTransport(self, owner, protocol, peername=(host, port), sockname=("client", self._next_port))
        far = SimTransport(self, listener.process, None, peername=("client", self._next_port), sockname=(host, port))
        far.is_server = True
        near.peer, far.peer = far, near
        for end in (near, far):
            self._connections[end] = None
            if end.process is not None:
                end.process.at_kill(end.on_killed)
        listener.process.call_soon(far.accept, listener.factory)
        protocol.connection_made(near)
        return near

    def _connects(self, caller: Process, called: Process) -> bool:
        return self.arrives(caller, called) and self.arrives(called, caller)

    def reset(self, process: Process | None = None) -> int:
        """Break every connection (of `process`); returns how many."""
        ends = [end for end in self._connections if end.is_server and (process is None or end.process is process)]
        for end in ends:
            end.break_off()
        return len(ends)

    def forget(self, transport: "SimTransport") -> None:
        """The transport has ended."""
        self._connections.pop(transport, None)


class SimTransport(asyncio.Transport):
    """One end of a connection."""

    def __init__(
        self,
        network: SimNetwork,
        process: Process | None,
        protocol: asyncio.BaseProtocol | None,
        *,
        peername: tuple[str, int],
        sockname: tuple[str, int],
    ) -> None:
        super().__init__({"peername": peername, "sockname": sockname, "socket": None})
        self.network = network
        self.process = process
        self.peer: SimTransport
        self.is_server = False
        self._protocol = protocol
        self._outgoing: list[memoryview] = []
        self._outgoing_bytes = 0
        self._incoming: list[bytes] = []
        self._incoming_bytes = 0
        self._leaving = False
        self._reading = True
        self._writable = True
        self._high, self._low = HIGH_WATER_BYTES, HIGH_WATER_BYTES // 4
        self._closing = False
        self._lost = False

    # What the protocol's side calls.

    def get_protocol(self) -> asyncio.BaseProtocol:
        assert self._protocol is not None
        return self._protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def is_closing(self) -> bool:
        return self._closing

    def is_reading(self) -> bool:
        return self._reading and not self._closing

    def pause_reading(self) -> None:
        self._reading = False

    def resume_reading(self) -> None:
        if not self._reading:
            self._reading = True
            if self._incoming:
                self._call_own(self._hand_over)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high = HIGH_WATER_BYTES if high is None else high
        self._low = self._high // 4 if low is None else low

    def get_write_buffer_size(self) -> int:
        return self._outgoing_bytes

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._low, self._high

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.writelines([data])

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        if self._closing:
            return
        if self.is_server and self.process is not None:
            self.network.on_write(self.process)
        for data in list_of_data:
            view = memoryview(data).cast("B")
            if len(view):
                self._outgoing.append(view)
                self._outgoing_bytes += len(view)
        self._send_off()
        if self._outgoing_bytes > self._high and self._writable:
            self._writable = False
            self.get_protocol().pause_writing()

    def can_write_eof(self) -> bool:
        return False

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            if not self._outgoing:
                self._call_own(self._end, None)
                self.peer.tell(self.peer.on_peer_closed)

    def abort(self) -> None:
        self._drop()
        if not self._lost:
            self._closing = True
            self._call_own(self._end, None)
            self.peer.tell(self.peer.on_reset)

    # What the network calls, in the world.

    def on_killed(self) -> None:
        """The process is gone; its machine tells the peer."""
        self._drop()
        if not self._lost:
            self._lost = self._closing = True
            self.network.forget(self)
            if not self.network.is_gone(self.process):
                self.peer.tell(self.peer.on_reset)

    def tell(self, callback: Callable[[], None]) -> None:
        """`callback`, one of this end's, is called when its peer's words arrive here."""
        network = self.network
        if network.arrives(self.peer.process, self.process):
            network.loop.call_later(network.travel_s(self.peer.process, self.process), callback, context=WORLD)
        else:
            network.hold_back(self, callback)

    def go_on(self) -> None:
        """A cut is healed: what waits is sent again."""
        self._send_off()

    def break_off(self) -> None:
        """A fault: both ends lose the connection and everything on its way."""
        for end in (self, self.peer):
            end._drop()
            end._later(end.on_reset)

    def on_reset(self) -> None:
        """The connection is broken."""
        self._drop()
        if not self._lost:
            self._closing = True
            self._call_own(self._end, ConnectionResetError("connection reset (simulated)"))

    def on_peer_closed(self) -> None:
        """The other end is done: what has arrived is still read."""
        if not self._lost:
            self._call_own(self._read_end)

    def accept(self, factory: Callable[[], asyncio.BaseProtocol]) -> None:
        """In the listening process: a client has come."""
        if self._lost:
            return
        self._protocol = factory()
        self._protocol.connection_made(self)
        if self._incoming:
            self._hand_over()

    def _send_off(self) -> None:
        if self._outgoing and not self._leaving:
            self._leaving = True
            travel_s = self.network.travel_s(self.process, self.peer.process)
            self.network.loop.call_later(travel_s, self._leave, context=WORLD)

    def _leave(self) -> None:
        """Bytes have left the sender and arrive: only now are they looked at."""
        self._leaving = False
        peer, network = self.peer, self.network
        if not self._outgoing or peer._lost:
            self._drop()
            return
        if not network.arrives(self.process, peer.process):
            return
        if network.rates.reset and network._dice.random() < network.rates.reset:
            network.trace("net", self._name(), "reset")
            self.break_off()
            return
        if peer._incoming_bytes > KERNEL_BYTES:
            return
        data = b"".join(self._outgoing)
        keep = b""
        if len(data) > 8 and network._dice.random() < 0.1:
            at = network._dice.randrange(1, len(data))
            data, keep = data[:at], data[at:]
        self._outgoing = [memoryview(keep)] if keep else []
        self._outgoing_bytes = len(keep)
        network.trace("net", self._name(), len(data), zlib.crc32(data))
        peer._incoming.append(data)
        peer._incoming_bytes += len(data)
        peer._call_own(peer._hand_over)
        if not self._writable and self._outgoing_bytes <= self._low:
            self._writable = True
            self._call_own(self._resume_writing)
        if self._outgoing:
            self._send_off()
        elif self._closing and not self._lost:
            self._call_own(self._end, None)
            peer.tell(peer.on_peer_closed)

    # What runs in the owning process.

    def _resume_writing(self) -> None:
        if not self._lost and self._writable:
            self.get_protocol().resume_writing()

    def _hand_over(self) -> None:
        while self._incoming and self._reading and not self._closing and self._protocol is not None:
            data = self._incoming.pop(0)
            self._incoming_bytes -= len(data)
            if isinstance(self._protocol, asyncio.BufferedProtocol):
                _feed(self._protocol, data)
            else:
                assert isinstance(self._protocol, asyncio.Protocol)
                self._protocol.data_received(data)
        if self._incoming_bytes <= KERNEL_BYTES:
            self.peer._send_off()

    def _read_end(self) -> None:
        self._hand_over()
        if self._lost or self._protocol is None:
            return
        if self._incoming:
            # Not read on for now: the end is seen after what came before it.
            self._later(self.on_peer_closed)
        elif not self._closing:
            keep_open = isinstance(self._protocol, asyncio.Protocol | asyncio.BufferedProtocol) and (
                self._protocol.eof_received()
            )
            if not keep_open:
                self._closing = True
                self._end(None)

    def _end(self, error: Exception | None) -> None:
        if self._lost:
            return
        self._lost = True
        self.network.forget(self)
        if self._protocol is not None:
            self._protocol.connection_lost(error)

    def _drop(self) -> None:
        self._outgoing, self._outgoing_bytes = [], 0
        self._incoming, self._incoming_bytes = [], 0

    def _call_own(self, callback: Callable[..., None], *args: Any) -> None:
        if self.process is None:
            self.network.loop.call_soon(callback, *args, context=WORLD)
        else:
            self.process.call_soon(callback, *args)

    def _later(self, callback: Callable[..., None], *args: Any) -> None:
        self.network.loop.call_later(self.network.delay_s(), callback, *args, context=WORLD)

    def _name(self) -> str:
        return f"{self.process.name if self.process else 'world'}:{self.get_extra_info('sockname')[1]}"


def _feed(protocol: asyncio.BufferedProtocol, data: bytes) -> None:
    position = 0
    while position < len(data):
        buffer = memoryview(protocol.get_buffer(len(data) - position)).cast("B")
        size = min(len(buffer), len(data) - position)
        assert size > 0, "get_buffer gave an empty buffer"
        buffer[:size] = data[position : position + size]
        del buffer
        protocol.buffer_updated(size)
        position += size
