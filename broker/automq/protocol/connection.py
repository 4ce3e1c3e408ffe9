"""Sans-I/O: heads of requests, and answers that leave in the order of their requests.

Kafka clients pipeline: several requests are on their way at once, and the answers must come back in the same order,
whenever each of them is ready. `framing` turns received bytes into frames; a frame's head says which API and version it
is; for every request a slot is taken in the connection's `ResponseQueue`, which is completed later, from anywhere.

An answer is a list of parts: buffers of its own, and `PulledPart`s, whose length is known and whose bytes are asked for
when they can be sent. What the log cache has is sent from where it lies, and an answer that is not taken keeps nothing
of it.
"""

import struct
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from automq.callbacks import ignore
from automq.protocol.apis import APIS, Api
from automq.protocol.codec import MalformedMessage
from automq.protocol.decoder_source import skip_tags

Buffer = bytes | bytearray | memoryview


class PulledPart(Protocol):
    """Bytes of an answer that somebody else keeps, or can read again."""

    def __len__(self) -> int:
        """Bytes that are not sent yet."""
        ...

    def peek(self, bytes_max: int, buffers_max: int) -> tuple[Sequence[Buffer], int] | None:
        """The next bytes, and how many: good for this turn of the event loop, at most so many but for the first buffer.

        None when they have to be loaded first. Raises what ends the connection.
        """
        ...

    def advance(self, sent: int) -> None:
        """The first `sent` bytes of what was peeked at have left; what was peeked at is not used any more."""
        ...

    async def load(self) -> None:
        """Make the next bytes ready to be peeked at. Raises what ends the connection."""
        ...

    def pin(self) -> None:
        """It is not sent in this turn: keep no more of it than there is room for."""
        ...

    def close(self) -> None:
        """Nothing more of it is wanted."""
        ...


Part = Buffer | PulledPart

IN_FLIGHT_MAX: Final = 1024
"""Requests of one connection that wait for their answers. Clients send 5 by default, load generators hundreds."""

# Made for every request: without a call of `__init__`.
_new = object.__new__
_HEAD = struct.Struct(">hhih").unpack_from
_HEAD_BYTES: Final = 10
_NEVER: Final = 1 << 15


class UnknownApi(Exception):
    """A key that no API has: no answer could be understood, so the connection is closed, as Kafka does."""

    def __init__(self, key: int, version: int) -> None:
        super().__init__(f"no API has key {key} (version {version})")
        self.key = key
        self.version = version


class RequestHead:
    """The head of one request, from `parse_head`. `version` may be one we cannot read: ApiVersions is answered then."""

    __slots__ = ("api", "body_offset", "client_id", "correlation_id", "is_supported", "version")

    api: Api
    version: int
    correlation_id: int
    client_id: str | None
    body_offset: int
    is_supported: bool
    """Whether the body can be read."""


# One lookup for each request; a plain dictionary of tuples is the fastest there is.
_APIS: Final[dict[int, tuple[Api, int, range]]] = {
    int(key): (api, _NEVER if api.flexible_since is None else api.flexible_since, api.versions)
    for key, api in APIS.items()
}


def parse_head(frame: memoryview) -> RequestHead:
    """The head of the request in `frame`. Raises UnknownApi, or MalformedMessage."""
    try:
        key, version, correlation_id, length = _HEAD(frame, 0)
        known = _APIS.get(key)
        if known is None:
            raise UnknownApi(key, version)
        offset = _HEAD_BYTES
        client_id = None
        if length >= 0:
            offset += length
            if offset > len(frame):
                raise IndexError
            client_id = str(frame[_HEAD_BYTES:offset], "utf-8")
        if version >= known[1]:
            # The head of a flexible version ends with tagged fields; there are none that we know.
            offset = skip_tags(frame, offset, len(frame)) if frame[offset] else offset + 1
    except (IndexError, struct.error):
        raise _malformed("the frame ends within it", frame) from None
    except ValueError:
        raise _malformed("the client id is not UTF-8 or the tagged fields are not well-formed", frame) from None
    head: RequestHead = _new(RequestHead)
    head.api = known[0]
    head.version = version
    head.correlation_id = correlation_id
    head.client_id = client_id
    head.body_offset = offset
    head.is_supported = version in known[2]
    return head


def client_of(frame: memoryview) -> bytes:
    """The client id as it lies in the head of a frame that `parse_head` has parsed: its length, and it."""
    length: int = _HEAD(frame, 0)[3]
    return bytes(frame[_HEAD_BYTES - 2 : _HEAD_BYTES + max(0, length)])


def _malformed(reason: str, frame: memoryview) -> MalformedMessage:
    return MalformedMessage(reason, message_name="RequestHeader", version=1, position=len(frame))


class ResponseSlot:
    """The place of one answer. Completed or discarded exactly once, at any time, also after the connection is gone."""

    __slots__ = ("_queue", "is_own_write", "parts")

    def __init__(self, queue: "ResponseQueue") -> None:
        self._queue: ResponseQueue | None = queue
        self.parts: Sequence[Part] | None = None
        self.is_own_write = False
        """The answer says nothing but that what was asked for is durable: the write itself proves it."""

    @property
    def is_done(self) -> bool:
        """Whether it was completed or discarded."""
        return self.parts is not None

    def complete(self, parts: Sequence[Part]) -> None:
        """The whole answer, size and header included."""
        assert self.parts is None, "an answer is given once"
        self.parts = parts
        queue = self._queue
        self._queue = None
        assert queue is not None
        if not queue.is_closed:
            queue.slot_done(self)

    def discard(self) -> None:
        """There is no answer (Produce with acks=0): the slot only keeps later answers from overtaking it."""
        self.complete(())


class ResponseQueue:
    """Slots in the order of their requests; answers come out in that order and no other.

    `on_ready` is called when answers can be taken and could not before; it should arrange for one `take_ready` a turn
    of the event loop, so that answers that become ready together leave in one write.
    """

    __slots__ = ("_in_flight_max", "_on_ready", "_is_notified", "is_closed", "slots")

    def __init__(self, on_ready: Callable[[], None], *, in_flight_max: int = IN_FLIGHT_MAX) -> None:
        self._on_ready = on_ready
        self._in_flight_max = in_flight_max
        self.slots: deque[ResponseSlot] = deque()
        """Oldest first; to be read only."""
        self._is_notified = False
        self.is_closed = False

    def __len__(self) -> int:
        """Requests that wait for their answers to be taken."""
        return len(self.slots)

    @property
    def is_full(self) -> bool:
        """No more requests may be read from this connection until answers are taken."""
        return len(self.slots) >= self._in_flight_max

    def open_slot(self) -> ResponseSlot:
        """A slot for the request just read."""
        assert not self.is_closed
        assert len(self.slots) < self._in_flight_max
        slot = ResponseSlot(self)
        self.slots.append(slot)
        return slot

    def add(self, slot: ResponseSlot) -> None:
        """As `open_slot`, of a slot that was made for this queue."""
        assert not self.is_closed
        assert len(self.slots) < self._in_flight_max
        self.slots.append(slot)

    def slot_done(self, slot: ResponseSlot) -> None:
        """Called by a slot: its answer is there."""
        if slot is self.slots[0] and not self._is_notified:
            self._is_notified = True
            self._on_ready()

    def take_ready(self) -> tuple[Sequence[Part], int]:
        """The parts of all answers that may leave now, in order; and how many answers they are."""
        self._is_notified = False
        slots = self.slots
        if len(slots) == 1 and (only := slots[0].parts) is not None:
            slots.popleft().parts = ()
            return only, 1
        ready: list[Part] = []
        answered = 0
        while slots:
            parts = slots[0].parts
            if parts is None:
                break
            # Whoever still knows the slot does not keep the answer.
            slots.popleft().parts = ()
            answered += 1
            if len(parts) == 1:
                ready.append(parts[0])
            else:
                ready.extend(parts)
        return ready, answered

    def take_own_writes(self) -> tuple[Sequence[Part], int]:
        """As `take_ready`, up to the first answer that does not rest on its request's own write alone."""
        ready: list[Part] = []
        slots = self.slots
        answered = 0
        while slots and slots[0].parts is not None and slots[0].is_own_write:
            slot = slots.popleft()
            ready.extend(slot.parts or ())
            slot.parts = ()
            answered += 1
        # Who waits for the rest is told by `slot_done` again unless the next answer is there.
        self._is_notified = bool(slots) and slots[0].parts is not None
        return ready, answered

    def close(self) -> None:
        """The connection is gone: answers that come later are dropped."""
        self.is_closed = True
        self.slots.clear()
        self._on_ready = ignore
