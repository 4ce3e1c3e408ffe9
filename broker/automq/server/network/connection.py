"""One client's connection: bytes in, requests started in order, answers out in order.

Frames are parsed where the read left them and started at once, in the same turn of the event loop. Produce requests
overlap one another; any other request starts when everything before it is answered, and nothing starts before it is
answered itself, as in Kafka. A request that may not start yet is put aside and the connection is not read on: that is
also how back-pressure works, for a Produce while the engine has no room, and for everything while the client does not
take its answers.
"""

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Final, cast

from automq.handlers.delayed_fetch import WaitingFetch
from automq.handlers.pending_produce import Appending
from automq.protocol.apis import ApiKey
from automq.protocol.codec import MalformedMessage
from automq.protocol.connection import RequestHead, ResponseQueue, ResponseSlot, UnknownApi, client_of, parse_head
from automq.protocol.framing import SHARED_BYTES, FrameReader, FrameRefused
from automq.security.session import Session
from automq.server.network.dispatch import StalledRequest, UnsupportedVersion, decode_request
from automq.server.network.handler_run import run_handler
from automq.server.network.host import ConnectionHost
from automq.server.network.muting import Muting
from automq.server.network.outbox import Outbox
from automq.server.network.receiving import Hold, decoded_bytes
from automq.server.network.repeats import Repeats
from automq.server.network.room_wait import RoomWait
from automq.server.network.started import StartedRequests

log = logging.getLogger(__name__)

# Frames started in one turn of the event loop: about a millisecond of the smallest ones.
FRAMES_PER_TURN_MAX: Final = 64
# While more than this is not taken by the client, no further request of its is started.
UNSENT_BYTES_MAX: Final = 256 * 1024
# Looked up for every request: members of an enumeration take a while to find.
_PRODUCE: Final = ApiKey.PRODUCE
_FETCH: Final = ApiKey.FETCH


class Connection(asyncio.BufferedProtocol):
    """Driven by any transport: a socket's, or one in memory."""

    __slots__ = (
        "_blocked",
        "_blocked_since",
        "_client",
        "_exclusive",
        "_frames",
        "_hold",
        "_idle_since",
        "_is_frame_kept",
        "_is_flush_wanted",
        "_is_processing",
        "_is_reading",
        "_muting",
        "_outbox",
        "_peer",
        "_queue",
        "_reader",
        "_repeats",
        "_room_wait",
        "_seen_reads",
        "_server",
        "_session",
        "_started",
        "_transport",
        "_unsent_key",
        "_unsent_since",
        "_waiting",
        "is_closed",
        "reads",
    )

    _transport: asyncio.Transport
    _outbox: Outbox

    def __init__(self, server: ConnectionHost, listener_name: str) -> None:
        self._server = server
        services = server.services
        self._session = Session(
            listener_name=listener_name, authorizer=services.authorizer, quotas=services.quotas, mute=self._mute
        )
        self._muting = Muting(self.proceed)
        self._room_wait = RoomWait(server.storage.append, self.proceed)
        self._peer = ""
        receiving = server.receiving
        self._reader = FrameReader(
            server.buffers, frame_bytes_max=min(server.settings.request_bytes_max, receiving.frame_bytes_max)
        )
        self._hold = Hold(receiving, self.proceed)
        self._is_frame_kept = False
        """A request that is worked on in turns lies where it was received."""
        self._frames = 0
        """Requests started."""
        self._queue = ResponseQueue(self._on_ready, in_flight_max=server.settings.in_flight_max)
        self._started = StartedRequests(server.metrics)
        self._client: bytes | None = None
        """The client id as it lies in the newest Produce's head, where nobody is asked what the client may do."""
        self._exclusive: ResponseSlot | Appending | None = None
        """The request that runs alone."""
        self._waiting: WaitingFetch | None = None
        self._repeats = Repeats()
        self._blocked: RequestHead | None = None
        """The head of the next frame, which may not start yet."""
        self._blocked_since = 0.0
        self._unsent_since = 0.0
        self._unsent_key = 0
        """Of the oldest answer that its client has not taken; the time is 0 while there is none."""
        self._is_reading = True
        self._is_processing = False
        self._is_flush_wanted = False
        self.is_closed = False
        self.reads = 0
        self._seen_reads = 0
        self._idle_since = 0.0

    # Called by the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        # With no room at all the transport says at once when it could not send everything, and again when it has.
        self._transport.set_write_buffer_limits(high=0)
        self._outbox = Outbox(
            self._transport,
            pins=self._server.pins,
            room=self._server.kernel_room,
            spawn=partial(self._server.spawn, name="load for an answer"),
            on_progress=self._on_progress,
            on_broken=self._refuse,
        )
        peer = transport.get_extra_info("peername")
        self._peer = self._session.client_host = str(peer[0]) if peer else ""
        self._server.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_closed = True
        if self._waiting is not None:
            self._waiting.cancel()
        self._blocked = None
        self._repeats.forget()
        self._reader.close()
        if not self._is_frame_kept:
            self._hold.clear()
        self._exclusive = self._waiting = None
        # Each refers to this, too: a cycle, which in a busy broker nobody looks for.
        for part in (self._hold, self._muting, self._outbox, self._queue, self._room_wait, self._session):
            part.close()
        self._server.remove(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._reader.get_buffer(self._server.receiving.read_bytes)

    def buffer_updated(self, nbytes: int) -> None:
        if self.is_closed:
            return
        self.reads += 1
        self._server.metrics.bytes_in += nbytes
        self._reader.buffer_updated(nbytes)
        if self._blocked is None and (nbytes != self._repeats.frame_bytes or not self._repeat()):
            self._process()

    def eof_received(self) -> bool:
        return False

    def pause_writing(self) -> None:
        self._outbox.on_full()

    def resume_writing(self) -> None:
        if not self.is_closed:
            self._outbox.on_writable()
            self._on_progress()

    def _on_progress(self) -> None:
        """The client has taken something."""
        server = self._server
        if self._unsent_since and not self._outbox.unsent_bytes:
            server.metrics.sent(self._unsent_key, server.now() - self._unsent_since)
            self._unsent_since = 0.0
        if server.is_draining:
            server.progressed(self)
        self.proceed()

    # Requests.

    def proceed(self) -> None:
        """Something changed that the next request may have waited for."""
        if not (self._is_reading or self._is_processing or self.is_closed):
            self._process()

    def _repeat(self) -> bool:
        """`_process` in short, where all that came is the Fetch that waited last. False: something is left for it."""
        server, repeats = self._server, self._repeats
        fetch = repeats.fetch
        if (
            fetch is None
            or not fetch.is_done
            or self._queue.slots
            or self._outbox.unsent_bytes
            or self._muting.is_on
            or server.is_draining
            or (found := self._reader.take_repeated(repeats.frame, repeats.epoch_at)) is None
        ):
            return False
        self._frames += 1
        self._exclusive = slot = self._queue.open_slot()
        self._waiting = fetch
        began = server.now()
        self._outbox.on_request()
        self._is_processing = True
        try:
            server.fetch.repeat(fetch, slot, correlation_id=found[0], epoch=found[1], now=began)
        finally:
            self._is_processing = False
        self._started.add(_FETCH, began, server.now() - began)
        return not self._is_flush_wanted and not self._muting.is_on

    def _process(self) -> None:
        """Start what has arrived, as far as it may start; then read on, or not."""
        self._is_processing = True
        try:
            is_all = self._start_frames()
        except (FrameRefused, MalformedMessage, UnknownApi, UnsupportedVersion) as error:
            self._refuse(error)
            return
        finally:
            self._is_processing = False
        if self.is_closed:
            return
        self._started.end_turn(self._server.now)
        # A kept frame's memory stays drawn, and nothing is read behind it.
        is_kept, is_muted = self._is_frame_kept, self._muting.is_on
        may_read = not is_kept and self._hold.update(self._reader) and is_all and not is_muted
        if may_read != self._is_reading:
            self._is_reading = may_read
            if may_read:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    def _start_frames(self) -> bool:
        """Whether everything that has arrived was started."""
        reader = self._reader
        now = self._server.now()
        # Produce requests that may start, and bytes they may have, without asking again.
        quota = room = 0
        for _ in range(FRAMES_PER_TURN_MAX):
            appending = self._exclusive
            if isinstance(appending, Appending) and not appending.is_done:
                # Nothing may start: what has arrived stays where it is.
                self._flush_wanted()
                reader.retain()
                return False
            if self._client is not None and self._blocked is None and (found := reader.next_produce(self._client)):
                size = found[0]
                if not quota or size > room:
                    quota, room = self._quota(1) if self._may_start_produce(size) else (0, 0)
                    room = max(room, size)
                if quota and self._server.produce.start_scanned(found, reader.data, self._queue):
                    self._frames += 1
                    self._started.begin(_PRODUCE, now)
                    quota -= 1
                    room -= size
                    continue
                reader.put_back(size)
            frame = reader.next_frame()
            if frame is None:
                self._flush_wanted()
                return True
            was_blocked = self._blocked is not None
            head = parse_head(frame) if self._blocked is None else self._blocked
            size = len(frame)
            is_produce = head.api.key is _PRODUCE
            if quota and is_produce and size <= room:
                quota -= 1
                room -= size
            elif self._may_start(head, size):
                quota, room = self._quota(0) if is_produce else (0, 0)
            else:
                self._put_aside(frame, head)
                # The answer it waits for may be ready already.
                if not self._flush_wanted() or self.is_closed or not self._may_start(head, size):
                    return False
                frame = cast(memoryview, reader.next_frame())
                quota = 0
            self._blocked = None
            if was_blocked:
                self._server.metrics.queued(head.api.key, now - self._blocked_since)
            if not self._start(head, frame, now) or self._muting.is_on:
                quota = 0
            if self.is_closed:
                return False
        self._flush_wanted()
        reader.retain()
        asyncio.get_running_loop().call_soon(self.proceed)
        return False

    def _quota(self, more: int) -> tuple[int, int]:
        """How many Produce requests may start beside one that may, or with it (`more` is 1), and their bytes."""
        room = SHARED_BYTES if self._server.has_room(2 * SHARED_BYTES) else 0
        return self._server.settings.in_flight_max - len(self._queue) - 1 + more, room

    def _flush_wanted(self) -> bool:
        """Send what became ready in this turn; whether there was anything."""
        if not self._is_flush_wanted:
            return False
        self._is_flush_wanted = False
        self._send_ready()
        return True

    def _may_start(self, head: RequestHead, size: int) -> bool:
        """Whether the next request may start now; if not, somebody will call `proceed`."""
        if head.api.key is _PRODUCE:
            return self._may_start_produce(size)
        if not self._may_start_any():
            return False
        return not len(self._queue) and (self._server.receiving.may_decode(size) or self._room_wait.begin())

    def _may_start_produce(self, size: int) -> bool:
        """As `_may_start`, of a Produce."""
        return self._may_start_any() and (self._server.has_room(size) or self._room_wait.begin())

    def _may_start_any(self) -> bool:
        exclusive = self._exclusive
        if exclusive is not None:
            if not exclusive.is_done:
                return False
            self._exclusive = self._waiting = None
        if self._muting.is_on or self._server.is_draining or self._queue.is_full:
            return False
        return self._outbox.unsent_bytes <= UNSENT_BYTES_MAX

    def _mute(self, throttle_ms: int) -> None:
        """Rule of quotas: answers leave, and the client is not listened to for so long."""
        self._muting.begin(throttle_ms)
        if self._is_reading and not self._is_processing and not self.is_closed:
            self._is_reading = False
            self._transport.pause_reading()

    def _put_aside(self, frame: memoryview, head: RequestHead) -> None:
        if self._blocked is None:
            self._blocked_since = self._server.now()
        self._blocked = head
        self._reader.put_back(len(frame))
        self._reader.retain()

    def _start(self, head: RequestHead, frame: memoryview, now: float) -> bool:
        """False when the request runs alone. Raises MalformedMessage, UnsupportedVersion, FrameRefused."""
        server, key = self._server, head.api.key
        if key is not _PRODUCE:
            server.receiving.check_decoded(len(frame))
        self._frames += 1
        session = self._session
        if head.client_id != session.client_id:
            session.client_id = head.client_id
            self._client = None
        slot = self._queue.open_slot()
        started = self._started.begin(key, now)
        if not head.is_supported:
            if key is not ApiKey.API_VERSIONS:
                raise UnsupportedVersion(head, f"version {head.version} is not supported")
            slot.complete((server.table.refuse_api_versions(head.correlation_id),))
        elif key is _PRODUCE:
            if self._client is None and not session.has_rules:
                self._client = client_of(frame)
            appending = server.produce.start(head, frame, slot, session, self)
            if appending is None:
                return True
            self._exclusive = appending
        elif key is _FETCH:
            self._exclusive = slot
            self._outbox.on_request()
            self._waiting = server.fetch.start(head, frame, slot, session=session, end=self.end)
            self._repeats.remember(head, frame, self._waiting)
        else:
            route = server.table.route(key, head.version)
            if route is None:
                raise UnsupportedVersion(head, "is not served here")
            request = decode_request(route, head.version, frame, head.body_offset)
            self._exclusive = slot
            server.receiving.decoded.charge(decoded_bytes(len(frame)))
            work = run_handler(server, session, route, head, request, slot, started, size=len(frame), end=self.end)
            _ = server.spawn(work, name=head.api.name)
        return False

    def keep_frame(self) -> Callable[[], None] | None:
        """Let the frame of the request that is being started stay valid until the result is called; None: it cannot."""
        release_buffer = self._reader.detach()
        if release_buffer is None:
            return None
        self._is_frame_kept = True

        def release() -> None:
            release_buffer()
            self._is_frame_kept = False
            if self.is_closed:
                self._hold.clear()

        return release

    # Answers.

    def _on_ready(self) -> None:
        """Answers can be taken: once in a turn of the event loop, so that they leave together."""
        if self._is_processing:
            self._is_flush_wanted = True
        elif self._waiting is not None and not self._server.is_draining:
            # A Fetch runs alone: there is nothing that its answer could leave together with.
            self.flush()
        else:
            self._server.flush_soon(self)

    def flush(self) -> None:
        """The turn in which answers became ready is over: send them."""
        if not self.is_closed:
            self._send_ready()
            if not self._is_reading:
                self.proceed()

    def _send_ready(self) -> None:
        """Send every answer whose turn it is. An idle connection keeps nothing of its last request."""
        server, outbox = self._server, self._outbox
        # Rule: nothing is answered from state whose last proof is older than a session.
        is_stale = server.boottime() >= server.contact.fresh_until
        parts, answered = server.hold(self, self._queue) if is_stale else self._queue.take_ready()
        now = server.now()
        key = self._started.answered(answered, now) if answered else 0
        if answered and self._exclusive is not None and self._exclusive.is_done:
            self._exclusive = self._waiting = None
        if parts:
            server.metrics.bytes_out += outbox.send(parts)
            if outbox.unsent_bytes and not self._unsent_since:
                self._unsent_key, self._unsent_since = key, now
        if server.is_draining:
            server.progressed(self)

    # The end.

    def close(self) -> None:
        """End the connection; answers not given yet are lost."""
        if not self.is_closed:
            self.is_closed = True
            self._transport.abort()

    def end(self, error: MalformedMessage | None) -> None:
        """A request has no answer: because of what it is, or of what its answer is."""
        if error is None:
            self.close()
        elif not self.is_closed:
            self._refuse(error)

    def _refuse(self, error: Exception) -> None:
        """Nothing behind this can be understood."""
        self._server.refused(error, self._peer or "an unknown host")
        self.close()

    @property
    def host(self) -> str:
        """Where the client is, or ""."""
        return self._peer

    @property
    def listener_name(self) -> str:
        """The listener it came in on."""
        return self._session.listener_name

    @property
    def is_answered(self) -> bool:
        """Every request that was started is answered, whether the client has taken the answers or not."""
        return not len(self._queue)

    @property
    def has_unsent(self) -> bool:
        """The client has not taken all answers."""
        return self._outbox.unsent_bytes > 0

    def hasten(self) -> None:
        """The broker is draining: who waits for data gets what there is."""
        if self._waiting is not None:
            self._waiting.hasten()

    def check(self, now: float, idle_s_max: float | None) -> None:
        """To be called once a second: ends a connection that is idle or takes no answers for too long."""
        if self.reads != self._seen_reads or not self._idle_since or len(self._queue):
            self._seen_reads = self.reads
            self._idle_since = now
        if not self._outbox.check(now):
            self._refuse(TimeoutError("the client does not take its answers"))
        elif not self._is_reading:
            self._hold.pause()
        elif self._hold.is_stalled(self._reader, now, frames=self._frames):
            self._server.metrics.requests_stalled += 1
            reader = self._reader
            self._refuse(StalledRequest(size=reader.frame_bytes, arrived=reader.unread_bytes))
        elif idle_s_max is not None and now - self._idle_since > idle_s_max:
            log.info("connection from %s closed: idle for %d s", self._peer, int(idle_s_max))
            self.close()
