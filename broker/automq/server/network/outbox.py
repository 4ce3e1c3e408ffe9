"""What leaves a connection: answers are pulled by the socket, a piece at a time.

Parts of an answer that are not buffers of its own are asked for their bytes when the socket can take them, as one
gather write from where they lie; between two turns of the event loop nothing of them is kept here. Their bytes must not
be handed to a transport, which keeps what the socket does not take for as long as the peer pleases and does not say
when they are free (uvloop drops its references while the bytes are still queued). So a small copied piece is left
to the transport when the socket is full, which says when that has gone and the socket takes more.

What a client does not take of an answer's own buffers is held in memory, on the account that all connections share
(`handlers.reader_pins`). A connection that takes nothing for `UNSENT_S_MAX` is closed, whatever it holds.
"""

import asyncio
import os
import socket
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, cast

from automq.callbacks import ignore
from automq.handlers.reader_pins import ReaderPins
from automq.handlers.record_range import RecordsChanged
from automq.protocol.connection import Buffer, Part, PulledPart
from automq.s3stream.model import StreamError
from automq.s3stream.ports import StoreError

KIB: Final = 1024

# Linux takes 1024 buffers in one gather write; a part may bring one more than is asked for.
BUFFERS_MAX: Final = 1000

# Of many partitions an answer has many parts; so many are looked up in one turn of the event loop, at 10 to 20 us each.
PULLED_A_TURN: Final = 200

# Asked for at once: a whole answer, as every write wakes the peer.
WRITE_BYTES: Final = 8192 * KIB

# Copied to wake us up when the socket takes more; of no use to the socket itself.
PIECE_BYTES: Final = 4 * KIB

# Where everything goes through the transport (TLS, a simulation), a piece at a time.
COPIED_BYTES: Final = 64 * KIB

# The kernel takes megabytes of an answer beyond what it may send to the peer, and a thousand clients that do not read
# leave all others without buffers (net.ipv4.tcp_mem). So it may do that for a few clients at once; of the others it
# takes little, which costs twice the CPU for each byte.
WIDE_MAX: Final = 32
NARROW_BYTES: Final = 128 * KIB

# A Java consumer reads when it polls, and polls every five minutes at the latest (max.poll.interval.ms).
UNSENT_S_MAX: Final = 300.0

_BUFFERS: Final = (bytes, bytearray, memoryview)


class KernelRoom:
    """Whose answers the kernel may take as far as it likes: each client from a large answer to its next request."""

    __slots__ = ("_wide",)

    def __init__(self) -> None:
        self._wide: dict[Outbox, None] = {}

    def enter(self, outbox: "Outbox") -> bool:
        """Whether there is room for one more."""
        if outbox not in self._wide and len(self._wide) >= WIDE_MAX:
            return False
        self._wide[outbox] = None
        return True

    def leave(self, outbox: "Outbox") -> None:
        """The client has taken its answers, or is gone. Idempotent."""
        self._wide.pop(outbox, None)


class Outbox:
    """The way out of one connection."""

    __slots__ = (
        "_checked",
        "_fd",
        "_held_bytes",
        "_is_in_room",
        "_is_waiting",
        "_is_wide",
        "_loading",
        "_on_broken",
        "_on_progress",
        "_parts",
        "_pins",
        "_pulled",
        "_room",
        "_sent_bytes",
        "_since",
        "_spawn",
        "_transport",
        "_write_bytes",
        "unsent_bytes",
    )

    def __init__(
        self,
        transport: asyncio.Transport,
        *,
        pins: ReaderPins,
        room: KernelRoom,
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
        on_progress: Callable[[], None],
        on_broken: Callable[[Exception], None],
    ) -> None:
        """`on_progress` is called when bytes were sent that nobody waits for, `on_broken` why the connection must end.

        That is when an answer cannot be completed or sent, or is in the way of others.
        """
        self._transport = transport
        self._pins = pins
        self._room = room
        self._is_in_room = False
        self._is_wide = True
        self._write_bytes = WRITE_BYTES
        """What is asked for at once: not much more than the socket took last."""
        self._spawn = spawn
        self._on_progress = on_progress
        self._on_broken = on_broken
        self._fd = _socket_of(transport)
        self._parts: deque[Part] = deque()
        self._pulled = 0
        """Of the parts, those that are pulled."""
        self._held_bytes = 0
        """Of the parts' bytes, those of their own."""
        self._is_waiting = False
        """The transport still holds the piece it was given."""
        self._loading: asyncio.Task[None] | None = None
        """Brings the first part's next bytes, or the next turn."""
        self._sent_bytes = self._checked = 0
        self._since: float | None = None
        """When it was first seen that `_checked` bytes had been sent and no more."""
        self.unsent_bytes = 0
        """Bytes that are still to be sent."""

    def send(self, parts: Sequence[Part]) -> int:
        """Send `parts` after everything before them; returns their bytes."""
        if len(parts) == 1 and not self.unsent_bytes and not self._is_waiting:
            only = parts[0]
            if isinstance(only, bytes) and len(only) <= NARROW_BYTES:
                return self._send_short(only)
        size = pulled_bytes = 0
        for part in parts:
            size += len(part)
            if not isinstance(part, _BUFFERS):
                self._pulled += 1
                pulled_bytes += len(part)
        if size > NARROW_BYTES and self._fd is not None:
            self._is_in_room = self._room.enter(self)
            self._set_wide(self._is_in_room)
        if not (self._pulled or self._parts or self._is_waiting) and len(parts) <= BUFFERS_MAX:
            sent = self._write_now(cast(Sequence[Buffer], parts))
            if sent == size:
                self._sent_bytes += size
                return size
        else:
            sent = 0
        self._parts.extend(filter(len, parts))
        self.unsent_bytes += size
        self._held_bytes += size - pulled_bytes
        self._drop(sent)
        self._write()
        if self._pulled:
            for part in parts:
                if not isinstance(part, _BUFFERS):
                    part.pin()
        return size

    def _send_short(self, data: bytes) -> int:
        """Nothing is before it; returns its bytes. Most answers are short, and the socket takes them at once."""
        size = len(data)
        sent = self._write_now((data,))
        if sent == size:
            self._sent_bytes += size
            return size
        self._parts.append(data)
        self.unsent_bytes += size
        self._held_bytes += size
        self._drop(sent)
        self._write()
        return size

    def on_writable(self) -> None:
        """The transport has sent what it held."""
        self._is_waiting = False
        # Of the piece, which counted as sent when it was handed over.
        self._sent_bytes += 1
        self._write()

    def on_request(self) -> None:
        """The client has taken what it was given: it asks for more."""
        if self._is_in_room:
            self._is_in_room = False
            self._room.leave(self)

    def on_full(self) -> None:
        """The transport holds something."""
        self._is_waiting = True

    def check(self, now: float) -> bool:
        """To be called once a second. False when the connection must be closed."""
        if not self.unsent_bytes and not self._is_waiting:
            self._since = None
        elif self._since is None or self._sent_bytes != self._checked:
            self._since, self._checked = now, self._sent_bytes
        elif now - self._since >= UNSENT_S_MAX:
            return False
        return True

    def evict(self) -> None:
        """Others need the room of what is held for this client, which has taken nothing for longest."""
        self._on_broken(TimeoutError("the client does not take its answers, and others need the room"))

    def close(self) -> None:
        """The connection is gone."""
        self._fd = None
        self._is_waiting = False
        self._room.leave(self)
        self._clear()
        self._on_progress, self._on_broken = ignore, ignore

    def _set_wide(self, is_wide: bool) -> None:
        """Let the kernel take as much as it likes of an answer, or little."""
        if is_wide != self._is_wide:
            self._is_wide = is_wide
            found = self._transport.get_extra_info("socket")
            if found.family in (socket.AF_INET, socket.AF_INET6) and hasattr(socket, "TCP_NOTSENT_LOWAT"):
                # 0 is the system's default: no limit.
                found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, 0 if is_wide else NARROW_BYTES)

    def _write(self) -> None:
        """Send until everything is gone, the transport holds something, or bytes have to be loaded."""
        parts = self._parts
        left = PULLED_A_TURN
        try:
            while parts and not self._is_waiting and self._loading is None:
                if self._transport.is_closing():
                    self._clear()
                    return
                if left <= 0:
                    self._loading = self._spawn(self._go_on())
                elif self._fd is None:
                    buffers, _, peeked = self._gather(COPIED_BYTES)
                    left -= peeked
                    self._hand_over(buffers, peeked)
                else:
                    left -= self._write_some()
        except RecordsChanged as error:
            self._on_broken(error)
            return
        self._pins.hold(self, self._held_bytes)

    async def _go_on(self) -> None:
        """In another turn."""
        try:
            await asyncio.sleep(0)
        finally:
            self._loading = None
        self._write()
        self._on_progress()

    def _write_some(self) -> int:
        """Write as much as the socket takes of the next bytes, and leave a piece to the transport when it is full.

        Returns how many parts were peeked at.
        """
        buffers, size, peeked = self._gather(self._write_bytes)
        sent = self._write_now(buffers) if buffers else 0
        # Of a narrow socket much would be looked up in vain; of others each write that asks for less is one more.
        self._write_bytes = WRITE_BYTES if self._is_wide else min(WRITE_BYTES, max(NARROW_BYTES, 2 * sent))
        if buffers and (sent == size or self._transport.is_closing()):
            self._drop(sent, peeked)
        else:
            self._hand_over(buffers, peeked, sent=sent, bytes_max=PIECE_BYTES)
        return peeked

    def _hand_over(self, buffers: list[Buffer], peeked: int, *, sent: int = 0, bytes_max: int = COPIED_BYTES) -> None:
        """Leave what follows the first `sent` bytes to the transport, or have it loaded first."""
        if buffers:
            piece = _piece(buffers, sent, bytes_max)
            self._drop(sent + len(piece), peeked)
            # May call `on_full` before it returns.
            self._transport.write(piece)
        else:
            self._loading = self._spawn(self._load(cast(PulledPart, self._parts[0])))

    def _gather(self, bytes_max: int) -> tuple[list[Buffer], int, int]:
        """The next buffers, as many as may go in one write, their bytes, and how many parts were peeked at.

        No bytes when the first part's have to be loaded. Raises RecordsChanged.
        """
        buffers: list[Buffer] = []
        size = peeked = 0
        for part in self._parts:
            if isinstance(part, _BUFFERS):
                buffers.append(part)
                size += len(part)
            else:
                found = part.peek(bytes_max - size, BUFFERS_MAX - len(buffers))
                if found is None:
                    break
                peeked += 1
                buffers.extend(found[0])
                size += found[1]
                if found[1] < len(part):
                    break
            if size >= bytes_max or len(buffers) >= BUFFERS_MAX or peeked >= PULLED_A_TURN:
                break
        return buffers, size, peeked

    async def _load(self, part: PulledPart) -> None:
        try:
            await part.load()
        except (RecordsChanged, StreamError, StoreError) as error:
            self._on_broken(error)
            return
        finally:
            self._loading = None
        self._write()
        self._on_progress()

    def _write_now(self, buffers: Sequence[Buffer]) -> int:
        """Bytes of `buffers` that the socket took at once."""
        # A descriptor is closed before the transport tells, and may be another connection's by then.
        if self._fd is None or self._transport.is_closing():
            return 0
        try:
            return os.write(self._fd, buffers[0]) if len(buffers) == 1 else os.writev(self._fd, buffers)
        except BlockingIOError:
            return 0
        except (ConnectionError, TimeoutError):
            self._transport.abort()
            return 0
        except OSError as error:
            # Not the peer's doing: it is told, as the client asks for the same again.
            self._on_broken(error)
            return 0

    def _drop(self, sent: int, peeked: int = 0) -> None:
        """The first `sent` bytes have gone; the first `peeked` pulled parts are not looked at any more."""
        parts = self._parts
        self._sent_bytes += sent
        self.unsent_bytes -= sent
        while sent:
            part = parts[0]
            size = len(part)
            is_own = isinstance(part, _BUFFERS)
            if sent < size:
                if is_own:
                    parts[0] = memoryview(cast(Buffer, part))[sent:]
                    self._held_bytes -= sent
                    sent = 0
                break
            sent -= size
            parts.popleft()
            if is_own:
                self._held_bytes -= size
            else:
                cast(PulledPart, part).close()
                self._pulled -= 1
                peeked -= 1
        for part in parts:
            if peeked <= 0:
                break
            if not isinstance(part, _BUFFERS):
                part.advance(sent)
                sent = 0
                peeked -= 1

    def _clear(self) -> None:
        if self._loading is not None:
            self._loading.cancel()
        for part in self._parts:
            if not isinstance(part, _BUFFERS):
                part.close()
        self._parts.clear()
        self.unsent_bytes = self._held_bytes = self._pulled = 0
        self._pins.hold(self, 0)


def _piece(buffers: Sequence[Buffer], begin: int, bytes_max: int) -> bytes:
    """A copy of what follows the first `begin` bytes of `buffers`, at most so much, and not all of a large buffer."""
    found: list[memoryview] = []
    for buffer in buffers:
        if begin >= len(buffer):
            begin -= len(buffer)
            continue
        found.append(memoryview(buffer)[begin : begin + bytes_max])
        bytes_max -= len(found[-1])
        begin = 0
        if not bytes_max:
            break
    return b"".join(found)


def _socket_of(transport: asyncio.Transport) -> int | None:
    """The descriptor to write to; None where bytes go through something else first (TLS, a simulation)."""
    found = transport.get_extra_info("socket")
    if found is None or transport.get_extra_info("sslcontext") is not None:
        return None
    descriptor: int = found.fileno()
    return descriptor if descriptor >= 0 else None
