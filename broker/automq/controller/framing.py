"""One end of a connection of the link: frames in, frames out, nothing known of what they say.

A peer is not trusted with memory: a frame above the bound, or so many bytes that it does not take, end the connection.
"""

import asyncio
from collections.abc import Callable
from typing import cast

from automq.controller.wire import FRAME_BYTES_MAX, HELLO_BYTES_MAX, LENGTH_BYTES

UNSENT_BYTES_MAX = 2 * FRAME_BYTES_MAX
"""Kept for a peer that does not read: more than the largest answer, and little beside what a broker has."""


class FramedConnection(asyncio.Protocol):
    """`on_frame` gets each frame's body; it may close the connection. `on_lost` is called once, at the end."""

    def __init__(
        self,
        *,
        on_made: Callable[[], None],
        on_frame: Callable[[bytes], None],
        on_lost: Callable[[], None],
        frame_bytes_max: int = HELLO_BYTES_MAX,
    ) -> None:
        self._on_made = on_made
        self.on_frame = on_frame
        self.on_lost = on_lost
        """Both may be changed by whoever the connection is handed on to."""
        self.frame_bytes_max = frame_bytes_max
        """To be raised once the peer is known."""
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._is_closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's are no subclass of asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        if self._is_closed:
            self._transport.abort()
            return
        self._on_made()

    def data_received(self, data: bytes) -> None:
        self._received += data
        while not self._is_closed and len(self._received) >= LENGTH_BYTES:
            length = int.from_bytes(self._received[:LENGTH_BYTES], "big")
            if length > self.frame_bytes_max:
                self.close()
                return
            end = LENGTH_BYTES + length
            if len(self._received) < end:
                return
            body = bytes(memoryview(self._received)[LENGTH_BYTES:end])
            del self._received[:end]
            self.on_frame(body)

    def connection_lost(self, _error: Exception | None) -> None:
        self._is_closed = True
        self._received.clear()
        self.on_lost()

    @property
    def is_open(self) -> bool:
        """Whether frames may still arrive."""
        return self._transport is not None and not self._is_closed

    def send(self, frame: bytes) -> None:
        """Nothing is sent through a connection that has ended: whoever waits for an answer learns of its end."""
        if self._transport is None or self._is_closed:
            return
        self._transport.write(frame)
        if self._transport.get_write_buffer_size() > UNSENT_BYTES_MAX:
            self.close()

    def end(self) -> None:
        """Close once what was sent has left."""
        if self._transport is not None and not self._is_closed:
            self._is_closed = True
            self._transport.close()

    def close(self) -> None:
        """At once. Idempotent."""
        if not self._is_closed:
            self._is_closed = True
            if self._transport is not None:
                self._transport.abort()
