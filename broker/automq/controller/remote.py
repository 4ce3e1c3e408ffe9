"""The way to a controller in another process: requests with numbers over one connection, asked again over the next.

A request that was sent has an unknown outcome until it is answered. It is sent again, under its number, to the same
controller, which carries out each number once. Of another controller only what may be repeated is asked; for the rest
the outcome stays unknown, and whoever asked is told so.
"""

import asyncio
import enum
import itertools
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from automq.callbacks import ignore
from automq.controller import wire
from automq.controller.framing import FramedConnection
from automq.controller.link import Answer, Leader
from automq.controller.requests import Request
from automq.controller.wire import Answered, Ask, Hello, Refused, Welcome
from automq.ids import ClusterId, NodeId
from automq.metadata.records import FORMAT_LEVEL
from automq.runtime.backoff import Backoff
from automq.runtime.entropy import Entropy
from automq.runtime.tasks import Tasks
from automq.s3stream.ports import NotController

log = logging.getLogger(__name__)

ASKS_MAX: Final = 256
"""Outstanding at once: a broker has far fewer, unless the controller is stuck."""
FIRST_PAUSE_S: Final = 0.05
LONGEST_PAUSE_S: Final = 1.0

Dial = Callable[[Callable[[], asyncio.BaseProtocol]], Awaitable[None]]
"""Connects to whoever is the controller, as far as is known. Raises OSError, or NotController when nobody is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkSettings:
    """How long a broker waits for its controller."""

    connect_timeout_s: float = 3.0
    """For a connection and the first answer on it."""
    ask_timeout_s: float = 30.0
    """For an answer, over any number of connections: longer than the controller waits for a store that is slow."""


class Contact(enum.Enum):
    """Why no controller answered."""

    REFUSED = "refused"
    """Nobody listens there, or the connection was reset."""
    SILENT = "silent"
    DENIED = "denied"
    """Whoever answered is not the controller."""


class Unreached(NotController):
    """Nobody answered as the controller."""

    def __init__(self, message: str, contact: Contact) -> None:
        super().__init__(message)
        self.contact = contact


class _ConnectionLost(Exception):
    """The connection ended before the answer came."""


class _Connection:
    """One connection, from `Hello` to its end."""

    def __init__(self, link: "RemoteLink", hello: bytes) -> None:
        self._link = link
        self._hello = hello
        self.welcomed: asyncio.Future[Welcome] = asyncio.get_running_loop().create_future()
        self.waiting: dict[int, asyncio.Future[Answered]] = {}
        self.frames = FramedConnection(
            on_made=self._on_made,
            on_frame=self._on_frame,
            on_lost=self._on_lost,
            frame_bytes_max=wire.FRAME_BYTES_MAX,
        )

    def _on_made(self) -> None:
        self.frames.send(self._hello)

    def _on_frame(self, body: bytes) -> None:
        try:
            message = wire.decode_message(body)
        except wire.MalformedFrame as error:
            log.error("the controller's answer cannot be read", extra={"why": str(error)})
            self.frames.close()
            return
        match message:
            case Welcome() if not self.welcomed.done():
                self.welcomed.set_result(message)
            case Refused() if not self.welcomed.done():
                self.welcomed.set_exception(Unreached(message.message, Contact.DENIED))
                self.frames.close()
            case Answered():
                waiting = self.waiting.pop(message.number, None)
                if waiting is not None and not waiting.done():
                    waiting.set_result(message)
            case _:
                self.frames.close()

    def _on_lost(self) -> None:
        if not self.welcomed.done():
            self.welcomed.set_exception(_ConnectionLost())
            # Nobody may be waiting for it.
            self.welcomed.exception()
        for waiting in self.waiting.values():
            if not waiting.done():
                waiting.set_exception(_ConnectionLost())
                waiting.exception()
        self.waiting.clear()
        self._link._on_lost(self)


class RemoteLink:
    """Implements `ControllerLink`. One of a broker's process."""

    def __init__(
        self,
        *,
        dial: Dial,
        cluster_id: ClusterId,
        node: NodeId,
        entropy: Entropy,
        tasks: Tasks,
        settings: LinkSettings | None = None,
        on_lost: Callable[[], None] = ignore,
    ) -> None:
        """`on_lost` is called when a connection to the controller has ended by itself."""
        self._on_connection_lost = on_lost
        self._dial = dial
        self._entropy = entropy
        self._tasks = tasks
        self._settings = settings or LinkSettings()
        self._hello = wire.encode_frame(
            Hello(
                version=wire.LINK_VERSION,
                cluster_id=cluster_id,
                node=node,
                session=entropy.token(wire.SESSION_BYTES),
                format_level=FORMAT_LEVEL,
            )
        )
        self._numbers = itertools.count(1)
        self._outstanding: dict[int, None] = {}
        """Numbers that somebody waits for, ascending."""
        self._connection: _Connection | None = None
        self._connecting: asyncio.Task[Any] | None = None
        self._welcome: Welcome | None = None
        self._is_closed = False
        self._abandoned = 0
        """How often this process became the controller that the requests are for."""

    @property
    def leader(self) -> Leader | None:
        return None if self._welcome is None else Leader(self._welcome.node, self._welcome.epoch)

    async def connect(self) -> Leader:
        """Whoever answers as the controller. Raises Unreached, or NotController where nobody is known."""
        welcome = (await self._connected()).welcomed.result()
        return Leader(welcome.node, welcome.epoch)

    def disconnect(self) -> None:
        """The controller is somebody else now: what is outstanding is asked again, of whoever `dial` finds.

        A connection on its way leads to who was it before: a machine that is gone answers nothing for seconds.
        """
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = None
        self._drop()

    def abandon(self) -> None:
        """This process is the controller now, and asks itself: what is outstanding fails with NotController."""
        self._abandoned += 1
        self._drop()

    async def ask(self, request: Request) -> Answer:
        if len(self._outstanding) >= ASKS_MAX:
            raise NotController(f"{ASKS_MAX} requests wait for the controller already")
        number = next(self._numbers)
        self._outstanding[number] = None
        try:
            async with asyncio.timeout(self._settings.ask_timeout_s):
                return await self._ask(number, request)
        except TimeoutError:
            # It may be half-open: the next request finds out.
            self._drop()
            raise NotController(f"the controller did not answer in {self._settings.ask_timeout_s:g} s") from None
        finally:
            del self._outstanding[number]

    async def _ask(self, number: int, request: Request) -> Answer:
        """Until it is answered, or its outcome must stay unknown. Raises NotController."""
        encoded = wire.encode_request(request)
        backoff = Backoff(entropy=self._entropy, first_s=FIRST_PAUSE_S, max_s=LONGEST_PAUSE_S)
        sent_to: Welcome | None = None
        abandoned = self._abandoned
        while True:
            if self._abandoned != abandoned:
                raise NotController("this process is the controller now: whether it was done is not known")
            try:
                connection = await self._connected()
            except NotController:
                if sent_to is None:
                    # Nothing has happened: whoever asked decides.
                    raise
                await asyncio.sleep(backoff.next_s())
                continue
            welcome = connection.welcomed.result()
            self._check_repeat(request, sent_to, welcome)
            sent_to = welcome
            try:
                answered = await self._send(connection, number, welcome, encoded)
            except _ConnectionLost:
                continue
            if answered.not_controller is not None:
                self._drop(connection)
                raise NotController(answered.not_controller)
            try:
                return wire.decode_answer(request, answered)
            except wire.MalformedFrame as error:
                raise NotController(f"the controller's answer cannot be read: {error}") from error

    def _check_repeat(self, request: Request, sent_to: Welcome | None, welcome: Welcome) -> None:
        """Rule: what decides anew each time it arrives is asked of one controller only, which knows its number."""
        if request.ONCE and sent_to is not None and sent_to.epoch != welcome.epoch:
            raise NotController("another controller has taken over: whether it was done is not known")

    async def _send(self, connection: _Connection, number: int, welcome: Welcome, encoded: Any) -> Answered:
        if not connection.frames.is_open:
            raise _ConnectionLost
        waiting: asyncio.Future[Answered] = asyncio.get_running_loop().create_future()
        connection.waiting[number] = waiting
        done_below = next(iter(self._outstanding))
        ask = Ask(number=number, epoch=welcome.epoch, done_below=done_below, request=encoded)
        connection.frames.send(wire.encode_frame(ask))
        try:
            return await waiting
        finally:
            connection.waiting.pop(number, None)

    async def _connected(self) -> _Connection:
        """The connection there is, or a new one that all callers share. Raises NotController."""
        if self._is_closed:
            raise NotController("the link was closed")
        if self._connection is not None and self._connection.frames.is_open:
            return self._connection
        if self._connecting is None or self._connecting.done():
            self._connecting = self._tasks.spawn(self._connect(), name="connect to the controller")
        # Whoever wakes first may already try again, by another task.
        connecting = self._connecting
        # Not awaited directly: a cancelled caller must not cancel it for others.
        await asyncio.wait([connecting])
        if connecting.cancelled():
            # It led to who was the controller before; or this link was closed.
            return await self._connected()
        found: _Connection | NotController = connecting.result()
        if isinstance(found, NotController):
            raise found
        return found

    async def _connect(self) -> "_Connection | NotController":
        """Why there is none is a result: nobody may be waiting for it any more."""
        connection = _Connection(self, self._hello)
        try:
            async with asyncio.timeout(self._settings.connect_timeout_s):
                await self._dial(lambda: connection.frames)
                self._welcome = await connection.welcomed
        except asyncio.CancelledError:
            connection.frames.close()
            raise
        except TimeoutError:
            connection.frames.close()
            return Unreached(f"no controller answered in {self._settings.connect_timeout_s:g} s", Contact.SILENT)
        except _ConnectionLost:
            return Unreached("the controller ended the connection", Contact.REFUSED)
        except OSError as error:
            is_refusal = isinstance(error, ConnectionRefusedError | ConnectionResetError)
            contact = Contact.REFUSED if is_refusal else Contact.SILENT
            return Unreached(f"the controller cannot be reached: {error}", contact)
        except NotController as error:
            self._welcome = None
            return error
        if not connection.frames.is_open:
            # It ended in the turn in which it was welcomed: whoever is told of lost connections would never be.
            return Unreached("the controller ended the connection", Contact.REFUSED)
        self._connection = connection
        return connection

    def _on_lost(self, connection: _Connection) -> None:
        if self._connection is connection:
            self._connection = None
            self._on_connection_lost()

    def _drop(self, connection: _Connection | None = None) -> None:
        """Whoever was asked is not to be asked again over this connection."""
        dropped = connection or self._connection
        if dropped is not None:
            if dropped is self._connection:
                self._welcome = None
            dropped.frames.close()

    def close(self) -> None:
        """Ask nobody any more; what waits fails with NotController."""
        self._is_closed = True
        self._welcome = None
        if self._connecting is not None:
            self._connecting.cancel()
        if self._connection is not None:
            self._connection.frames.close()
