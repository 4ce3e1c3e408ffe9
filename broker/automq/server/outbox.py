"""What leaves a connection, and who holds its memory until it has.

Answers are lists of buffers, some of them views of memory that is wanted back. Such a view must not be handed to a
transport, which keeps what the socket does not take for as long as the peer pleases and does not say when it lets go
(uvloop drops its references while the bytes are still queued). So buffers are written to the socket directly, as one
gather write, while the transport holds nothing; what the socket does not take stays here. Then one copied piece is left
to the transport, which says when that has gone and the socket takes more.

A reader that is too slow keeps nobody's memory: after `PINNED_S_MAX` what is still here is copied, within a budget that
all connections share, and after `UNSENT_S_MAX` without that, the connection is closed.
"""

import asyncio
import os
from collections import deque
from collections.abc import Sequence
from itertools import islice
from typing import Final

from automq.protocol.connection import Buffer
from automq.runtime.budget import ByteBudget

KIB: Final = 1024

# Linux takes 1024 buffers in one gather write.
BUFFERS_MAX: Final = 1000

# Copied to wake us up when the socket takes more: a small part of what it takes then.
PIECE_BYTES: Final = 64 * KIB

# A consumer that reads at all takes its answer in this time.
PINNED_S_MAX: Final = 2.0

# No budget to copy into, and still no end: the peer is slower than anyone can wait for.
UNSENT_S_MAX: Final = 30.0


class Outbox:
    """The way out of one connection."""

    __slots__ = (
        "_budget",
        "_chunks",
        "_copied_bytes",
        "_copied_left",
        "_fd",
        "_is_waiting",
        "_since",
        "_transport",
        "unsent_bytes",
    )

    def __init__(self, transport: asyncio.Transport, budget: ByteBudget) -> None:
        self._transport = transport
        self._budget = budget
        self._fd = _socket_of(transport)
        self._chunks: deque[Buffer] = deque()
        self._copied_bytes = 0
        """Of the budget, until everything is sent."""
        self._copied_left = 0
        """Bytes in front that are copies of ours."""
        self._is_waiting = False
        """The transport still holds the piece it was given."""
        self._since: float | None = None
        self.unsent_bytes = 0
        """Bytes that are still here."""

    def send(self, buffers: Sequence[Buffer]) -> int:
        """Send `buffers` after everything before them; `pinned_bytes` says how much of them is still needed.

        Returns the bytes of `buffers`.
        """
        size = sum(map(len, buffers))
        if not self._chunks and not self._is_waiting and len(buffers) <= BUFFERS_MAX:
            sent = self._write_now(buffers)
            if sent == size:
                return size
        else:
            sent = 0
        self._chunks.extend(filter(len, buffers))
        self.unsent_bytes += size
        self._drop(sent)
        if not self._is_waiting:
            self._write()
        return size

    def on_writable(self) -> None:
        """The transport has sent what it held."""
        self._is_waiting = False
        self._write()

    def on_full(self) -> None:
        """The transport holds something."""
        self._is_waiting = True

    def check(self, now: float) -> bool:
        """To be called once a second. False when the connection must be closed."""
        pinned = self.pinned_bytes
        if not pinned:
            self._since = None
        elif self._since is None:
            self._since = now
        elif now - self._since >= PINNED_S_MAX and self._budget.try_acquire(pinned):
            self._copied_bytes += pinned
            self._copied_left = self.unsent_bytes
            self._chunks = deque((b"".join(self._chunks),))
            self._since = None
        elif now - self._since >= UNSENT_S_MAX:
            return False
        return True

    @property
    def pinned_bytes(self) -> int:
        """Bytes of others' memory that are still needed: always the newest ones."""
        return self.unsent_bytes - self._copied_left

    def close(self) -> None:
        """The connection is gone."""
        self._fd = None
        self._is_waiting = False
        self._clear()

    def _write(self) -> None:
        """Send until everything is gone or the transport holds something."""
        chunks = self._chunks
        while chunks and not self._is_waiting:
            if self._transport.is_closing():
                self._clear()
                return
            if self._fd is not None:
                self._drop(self._write_now(list(islice(chunks, BUFFERS_MAX))))
            if chunks:
                # May call `on_full` before it returns.
                self._transport.write(self._take_piece())
        if not chunks:
            self._give_budget_back()

    def _write_now(self, buffers: Sequence[Buffer]) -> int:
        """Bytes of `buffers` that the socket took at once."""
        # A descriptor is closed before the transport tells, and may be another connection's by then.
        if self._fd is None or self._transport.is_closing():
            return 0
        try:
            return os.writev(self._fd, buffers)
        except BlockingIOError:
            return 0
        except OSError:
            self._transport.abort()
            return 0

    def _take_piece(self) -> bytes:
        """The first bytes that wait, copied."""
        chunks = self._chunks
        parts: list[Buffer] = []
        size = 0
        while chunks and size < PIECE_BYTES:
            part = memoryview(chunks[0])[: PIECE_BYTES - size]
            parts.append(part)
            size += len(part)
            self._drop(len(part))
        return b"".join(parts)

    def _drop(self, sent: int) -> None:
        """The first `sent` bytes have gone. No chunk is empty."""
        chunks = self._chunks
        self.unsent_bytes -= sent
        self._copied_left = max(0, self._copied_left - sent)
        while sent:
            size = len(chunks[0])
            if sent < size:
                chunks[0] = memoryview(chunks[0])[sent:]
                return
            sent -= size
            chunks.popleft()

    def _clear(self) -> None:
        self._chunks.clear()
        self.unsent_bytes = self._copied_left = 0
        self._give_budget_back()

    def _give_budget_back(self) -> None:
        if self._copied_bytes:
            self._budget.release(self._copied_bytes)
            self._copied_bytes = 0


def _socket_of(transport: asyncio.Transport) -> int | None:
    """The descriptor to write to; None where bytes go through something else first (TLS, a simulation)."""
    found = transport.get_extra_info("socket")
    if found is None or transport.get_extra_info("sslcontext") is not None:
        return None
    descriptor: int = found.fileno()
    return descriptor if descriptor >= 0 else None
