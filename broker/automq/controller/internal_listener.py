"""What a broker answers on its internal listener: other brokers who look for the controller, or ask what it hears."""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from automq.controller import wire
from automq.controller.framing import FramedConnection
from automq.controller.link_server import HELLO_TIMEOUT_S, LinkServer
from automq.controller.wire import DoYouHear, Hear, Hello, Refused
from automq.ids import ClusterId, ControllerEpoch

log = logging.getLogger(__name__)

PEERS_MAX: Final = 2_000
"""Connections that have not said yet what they want."""


class InternalListener:
    """One of a process. `server` is there while this process is the controller.

    `recent_epoch` is that of the newest controller that answered lately, or that this process is; None: there is none.
    """

    def __init__(
        self,
        *,
        cluster_id: ClusterId,
        server: Callable[[], LinkServer | None],
        recent_epoch: Callable[[], ControllerEpoch | None],
    ) -> None:
        self.cluster_id = cluster_id
        self.server = server
        self.recent_epoch = recent_epoch
        self.waiting: dict[_Incoming, None] = {}
        self._is_closed = False

    def protocol(self) -> asyncio.BaseProtocol:
        """Of a new connection."""
        incoming = _Incoming(self)
        if self._is_closed or len(self.waiting) >= PEERS_MAX:
            incoming.frames.close()
        return incoming.frames

    def close(self) -> None:
        """End what has not said yet what it wants, and take no more."""
        self._is_closed = True
        for incoming in list(self.waiting):
            incoming.frames.close()


class _Incoming:
    """A connection until its first message is understood."""

    def __init__(self, listener: InternalListener) -> None:
        self._listener = listener
        self._silence: asyncio.TimerHandle | None = None
        self.frames = FramedConnection(on_made=self._on_made, on_frame=self._on_frame, on_lost=self._on_lost)

    def _on_made(self) -> None:
        self._listener.waiting[self] = None
        self._silence = asyncio.get_running_loop().call_later(HELLO_TIMEOUT_S, self.frames.close)

    def _on_frame(self, body: bytes) -> None:
        listener = self._listener
        try:
            message = wire.decode_message(body)
        except wire.MalformedFrame as error:
            log.warning("a stranger's request on the internal listener cannot be read", extra={"why": str(error)})
            self.frames.close()
            return
        match message:
            case Hello():
                self._forget()
                server = listener.server()
                if server is None:
                    self.frames.send(wire.encode_frame(Refused("this broker is not the controller", True)))
                    self.frames.end()
                else:
                    server.accept(self.frames, message)
            case DoYouHear() if message.cluster_id == listener.cluster_id:
                self.frames.send(wire.encode_frame(Hear(listener.recent_epoch())))
            case _:
                self.frames.close()

    def _on_lost(self) -> None:
        self._forget()

    def _forget(self) -> None:
        self._listener.waiting.pop(self, None)
        if self._silence is not None:
            self._silence.cancel()
