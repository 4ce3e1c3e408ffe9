"""The controller's end of the link: takes connections of brokers, carries out each numbered request once, answers.

A session is one process of a broker, over any number of connections. What it asked is kept, with the answer, until it
says that it has it: a request that comes again is the same request. Sessions live as long as this claim does; with the
next controller numbers begin anew, and brokers ask it only what may be repeated.
"""

import asyncio
import logging
from dataclasses import dataclass, field
from typing import Final

from automq.controller import wire
from automq.controller.framing import FramedConnection
from automq.controller.link import Answer
from automq.controller.service import Controller
from automq.controller.serving import answer
from automq.controller.wire import Answered, Ask, Hello, Refused, Welcome
from automq.ids import ClusterId, NodeId
from automq.protocol.errors import ApiError, ErrorCode
from automq.runtime.clock import Clock
from automq.runtime.tasks import Tasks
from automq.s3stream.ports import NotController

log = logging.getLogger(__name__)

SESSION_ASKS_MAX: Final = 512
"""Requests and answers kept for one session; a broker has half as many outstanding."""
SESSIONS_MAX: Final = 2_000
SESSION_KEPT_S: Final = 120.0
"""Without a connection: longer than a broker asks for an answer."""
HELLO_TIMEOUT_S: Final = 5.0
"""Whoever connects says who it is at once."""


@dataclass(slots=True, eq=False)
class _Session:
    """One process of a broker."""

    session: bytes
    node: NodeId
    connection: "_Peer | None" = None
    left_at: float = 0.0
    """When its last connection ended."""
    asked: dict[int, bytes | None] = field(default_factory=dict)
    """By number: the answer's frame, None while it is being carried out."""
    done_below: int = 0

    def forget_below(self, done_below: int) -> None:
        """These answers have arrived."""
        if done_below > self.done_below:
            self.done_below = done_below
            for number in [number for number in self.asked if number < done_below]:
                # What is still being carried out was given up by whoever asked.
                del self.asked[number]


class _Peer:
    """One connection."""

    def __init__(self, server: "LinkServer", frames: FramedConnection | None = None) -> None:
        self._server = server
        self.session: _Session | None = None
        self._silence: asyncio.TimerHandle | None = None
        if frames is not None:
            frames.on_frame, frames.on_lost = self._on_frame, self._on_lost
        self.frames = frames or FramedConnection(on_made=self._on_made, on_frame=self._on_frame, on_lost=self._on_lost)

    def _on_made(self) -> None:
        self._silence = asyncio.get_running_loop().call_later(HELLO_TIMEOUT_S, self.frames.close)
        self._server.peers[self] = None

    def _on_frame(self, body: bytes) -> None:
        try:
            message = wire.decode_message(body)
            if self.session is None and isinstance(message, Hello):
                self._server.on_hello(self, message)
                if self._silence is not None:
                    self._silence.cancel()
            elif self.session is not None and isinstance(message, Ask):
                self._server.on_ask(self.session, message)
            else:
                self.frames.close()
        except wire.MalformedFrame as error:
            log.warning(
                "a request over the link cannot be read",
                extra={"node": None if self.session is None else self.session.node, "why": str(error)},
            )
            self.frames.close()

    def _on_lost(self) -> None:
        if self._silence is not None:
            self._silence.cancel()
        self._server.on_lost(self)


class LinkServer:
    """One of a claim. `protocol` makes the protocol of a connection, for whoever listens."""

    def __init__(self, *, controller: Controller, cluster_id: ClusterId, clock: Clock, tasks: Tasks) -> None:
        self._controller = controller
        self._cluster_id = cluster_id
        self._clock = clock
        self._tasks = tasks
        self._sessions: dict[bytes, _Session] = {}
        self.peers: dict[_Peer, None] = {}
        self._is_closed = False

    def protocol(self) -> asyncio.BaseProtocol:
        """Of a new connection."""
        return _Peer(self).frames

    def accept(self, frames: FramedConnection, hello: Hello) -> None:
        """A connection on which somebody else has read the first message."""
        peer = _Peer(self, frames)
        self.peers[peer] = None
        self.on_hello(peer, hello)

    @property
    def session_count(self) -> int:
        """Processes of brokers that are known."""
        return len(self._sessions)

    def close(self) -> None:
        """End every connection; what is being carried out may still happen."""
        self._is_closed = True
        for peer in list(self.peers):
            peer.frames.close()

    def on_hello(self, peer: _Peer, hello: Hello) -> None:
        """Welcome or refuse."""
        leader = self._controller.leader
        if hello.cluster_id != self._cluster_id or hello.version < 1 or len(hello.session) != wire.SESSION_BYTES:
            log.warning("a stranger asked for the controller", extra={"node": hello.node, "cluster": hello.cluster_id})
            self._refuse(peer, f"this is cluster {self._cluster_id}", is_no_controller=False)
        elif leader is None or self._is_closed:
            self._refuse(peer, "not the controller any more", is_no_controller=True)
        elif (session := self._session_of(hello)) is None:
            self._refuse(peer, f"{SESSIONS_MAX} brokers are connected already", is_no_controller=True)
        else:
            if session.connection is not None:
                session.connection.frames.close()
            session.connection, peer.session = peer, session
            peer.frames.frame_bytes_max = wire.FRAME_BYTES_MAX
            welcome = Welcome(
                version=min(hello.version, wire.LINK_VERSION),
                node=leader.node,
                epoch=leader.epoch,
                record_number=self._controller.record_number,
            )
            peer.frames.send(wire.encode_frame(welcome))

    def _refuse(self, peer: _Peer, message: str, *, is_no_controller: bool) -> None:
        peer.frames.send(wire.encode_frame(Refused(message, is_no_controller)))
        peer.frames.end()

    def _session_of(self, hello: Hello) -> _Session | None:
        """The session of a process; None when there are too many."""
        found = self._sessions.get(hello.session)
        if found is not None:
            return found
        now = self._clock.monotonic()
        for session in list(self._sessions.values()):
            if session.connection is None and now - session.left_at > SESSION_KEPT_S:
                del self._sessions[session.session]
        if len(self._sessions) >= SESSIONS_MAX:
            return None
        return self._sessions.setdefault(hello.session, _Session(hello.session, hello.node))

    def on_ask(self, session: _Session, ask: Ask) -> None:
        """Carry it out, unless it was or is being carried out already. Raises MalformedFrame."""
        if self._is_closed:
            return
        session.forget_below(ask.done_below)
        if ask.number < session.done_below:
            return
        if self._is_known(session, ask.number):
            kept = session.asked[ask.number]
            if kept is not None:
                self._send(session, kept)
            return
        leader = self._controller.leader
        if leader is None or leader.epoch != ask.epoch:
            self._send(session, _not_controller(ask.number, f"not controller {ask.epoch}"))
            return
        if len(session.asked) >= SESSION_ASKS_MAX:
            self._send(session, _not_controller(ask.number, f"{SESSION_ASKS_MAX} requests are under way"))
            return
        # Decoded here: what cannot be read ends the connection.
        request = wire.decode_request(ask.request)
        session.asked[ask.number] = None

        async def carry_out() -> None:
            try:
                found = await answer(self._controller, request)
                frame = wire.encode_frame(wire.encode_answer(ask.number, found))
            except NotController as error:
                frame = _not_controller(ask.number, str(error))
            except Exception:
                # A request is supervised: a bug in one ends nobody else's.
                log.exception("a request over the link failed", extra={"request": type(request).__name__})
                failed = ApiError(ErrorCode.UNKNOWN_SERVER_ERROR, "The controller failed; see its log.")
                answered = Answer(record_number=self._controller.record_number, error=failed)
                frame = wire.encode_frame(wire.encode_answer(ask.number, answered))
            if ask.number in session.asked:
                session.asked[ask.number] = frame
            self._send(session, frame)

        _ = self._tasks.spawn(carry_out(), name=f"request {ask.number} of broker {session.node}")

    def _is_known(self, session: _Session, number: int) -> bool:
        """Rule: the same number of a session is the same request, which is carried out once."""
        return number in session.asked

    def _send(self, session: _Session, frame: bytes) -> None:
        if session.connection is not None:
            session.connection.frames.send(frame)

    def on_lost(self, peer: _Peer) -> None:
        """The connection has ended; the session stays for a while."""
        self.peers.pop(peer, None)
        if peer.session is not None and peer.session.connection is peer:
            peer.session.connection = None
            peer.session.left_at = self._clock.monotonic()


def _not_controller(number: int, why: str) -> bytes:
    return wire.encode_frame(Answered(number=number, record_number=0, not_controller=why))
