"""One Produce request between its arrival and its answer."""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from automq.handlers.errors import write_error_code_of
from automq.protocol.codec import MalformedMessage
from automq.protocol.connection import RequestHead, ResponseQueue, ResponseSlot
from automq.protocol.errors import ErrorCode
from automq.protocol.messages.produce import NodeEndpoint, PartitionProduceResponse
from automq.protocol.produce_codec import TopicResults, change_produce_response, encode_produce_response

# Codes that say something about state: they are given when that state is durable.
STATE_CODES: Final = frozenset(
    (ErrorCode.NONE, ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER, ErrorCode.INVALID_PRODUCER_EPOCH)
)

# In Kafka a time-out of 0 limits the waiting for followers, and a leader without followers has none to wait for. Here
# there are none, and it is the store that an append takes: it gets what clients give by default.
NO_TIMEOUT_MS: Final = 30_000


def patience_ms(timeout_ms: int) -> int:
    """How long a Produce with that time-out may wait for the store."""
    return timeout_ms if timeout_ms > 0 else NO_TIMEOUT_MS


# Time-outs are looked at this often, all together, while anything waits.
SWEEP_MS: Final = 100

_TIMED_OUT_MESSAGE: Final = "the object store does not answer in time; the records may still become durable"


class AnswerWatch:
    """The time-outs of requests whose batches are not durable yet, and who is told of errors that come after all."""

    def __init__(self, on_error: Callable[[int], None]) -> None:
        self.on_error = on_error
        """Told of the codes that come after the batches were appended."""
        self.watched: dict[PendingProduce | PendingAnswer, None] = {}
        self._tick = 0
        self._is_sweeping = False

    def deadline(self, timeout_ms: int) -> int:
        """The sweep at which a request is answered that waits since now."""
        return self._tick + 1 + patience_ms(timeout_ms) // SWEEP_MS

    def add(self, pending: "PendingProduce | PendingAnswer") -> None:
        """Have the request answered at its deadline, if it is not by then."""
        self.watched[pending] = None
        if not self._is_sweeping:
            self._sweep_later()

    def _sweep_later(self) -> None:
        self._is_sweeping = bool(self.watched)
        if self._is_sweeping:
            asyncio.get_running_loop().call_later(SWEEP_MS / 1000, self._sweep)

    def _sweep(self) -> None:
        self._tick += 1
        for pending in list(self.watched):
            if pending.deadline <= self._tick:
                pending.override(ErrorCode.REQUEST_TIMED_OUT, _TIMED_OUT_MESSAGE)
                pending.answer()
        self._sweep_later()


class Connection(Protocol):
    """Where a request came in."""

    def close(self) -> None:
        """End it."""
        ...

    def end(self, error: MalformedMessage | None) -> None:
        """End it, because the request is not well formed."""
        ...

    def proceed(self) -> None:
        """What kept its next request is over."""
        ...

    def keep_frame(self) -> Callable[[], None] | None:
        """Let the request's frame stay valid until the result is called; None: it cannot."""
        ...


class PendingProduce:
    """One request whose batches are appended and not durable yet. Not frozen: made for every request.

    The answer is encoded when the batches are appended and kept as bytes: what it is made of is in the processor's
    cache then, and would be gone from there, and still take memory, when the batches are durable.
    """

    __slots__ = (
        "_answer",
        "_watch",
        "acks",
        "appends",
        "close",
        "correlation_id",
        "deadline",
        "is_done",
        "position",
        "slot",
        "throttle_ms",
        "timeout_ms",
        "version",
    )

    def __init__(
        self,
        head: RequestHead,
        slot: ResponseSlot,
        acks: int,
        timeout_ms: int,
        close: Callable[[], None],
        watch: AnswerWatch,
        throttle_ms: int = 0,
    ) -> None:
        self._watch = watch
        self.version = head.version
        self.correlation_id = head.correlation_id
        self.slot = slot
        self.acks = acks
        self.timeout_ms = patience_ms(timeout_ms)
        self.throttle_ms = throttle_ms
        """For how long the client is not listened to."""
        self.close = close
        """Closes the connection."""
        self._answer: bytes | bytearray = b""
        self.appends = 0
        """Batches that this very request has appended."""
        self.position = -1
        """The newest WAL slot that the answer depends on."""
        self.deadline = 0
        """The sweep at which it is answered REQUEST_TIMED_OUT."""
        self.is_done = False

    def on_durable(self, error: Exception | None) -> None:
        """Everything the answer depends on is durable, or will never be known to be."""
        if self.is_done:
            return
        if error is not None:
            self.override(write_error_code_of(error), str(error))
        self.answer()

    def override(self, code: ErrorCode, message: str) -> None:
        """What depended on state that is not durable is answered with `code` instead."""
        self.slot.is_own_write = False
        self._answer = override_answer(self._answer, self.version, code, message, self._watch.on_error)

    def prepare(self, topics: list[TopicResults], endpoints: list[NodeEndpoint]) -> None:
        """Encode the answer; nothing refers to `topics` after that."""
        batches = 0
        for _, results in topics:
            batches += len(results)
        # Whether nothing was refused, and nothing was there already.
        self.slot.is_own_write = 0 < batches == self.appends
        self._answer = encode_produce_response(
            version=self.version,
            correlation_id=self.correlation_id,
            topics=topics,
            throttle_time=self.throttle_ms,
            node_endpoints=endpoints,
        )

    def answer(self) -> None:
        """Complete the slot."""
        self.is_done = True
        # At once, not when time-outs are looked at next: its memory is still in the processor's cache.
        self._watch.watched.pop(self, None)
        self.slot.complete((self._answer,))


class PendingAnswer(ResponseSlot):
    """As `PendingProduce`, and the place of its answer, of a request of one batch that is appended. Made for every one.

    What is not said by its answer's bytes is not kept.
    """

    __slots__ = ("_answer", "_version", "_watch", "deadline")

    def __init__(self, watch: AnswerWatch, queue: ResponseQueue, answer: bytes, version: int, deadline: int) -> None:
        self.parts = None
        self._queue = queue
        self._watch = watch
        self._answer = answer
        self._version = version
        self.deadline = deadline
        """The sweep at which it is answered REQUEST_TIMED_OUT."""
        self.is_own_write = True

    def on_durable(self, error: Exception | None) -> None:
        """The batch is durable, or will never be known to be."""
        if self.parts is not None:
            return
        if error is not None:
            self.override(write_error_code_of(error), str(error))
        self.answer()

    def override(self, code: ErrorCode, message: str) -> None:
        """As `PendingProduce.override`."""
        self.is_own_write = False
        self._answer = override_answer(self._answer, self._version, code, message, self._watch.on_error)

    def answer(self) -> None:
        """Complete the slot."""
        self._watch.watched.pop(self, None)
        self.complete((self._answer,))


def override_answer(
    answer: bytes | bytearray, version: int, code: ErrorCode, message: str, on_error: Callable[[int], None]
) -> bytes:
    """An answer in which what depends on state that is not durable is `code` instead."""

    def change(result: PartitionProduceResponse) -> None:
        override_result(result, code, message, on_error)

    return change_produce_response(answer, version, change)


def override_result(
    result: PartitionProduceResponse, code: ErrorCode, message: str, on_error: Callable[[int], None]
) -> None:
    """`code` instead, if it depends on state that is not durable."""
    if result.error_code in STATE_CODES:
        if not result.error_code:
            on_error(code)
        result.error_code = code
        result.error_message = message
        result.base_offset = result.log_append_time = result.log_start_offset = -1


class Appending:
    """A request whose batches are with a worker. Done when they are appended or refused."""

    __slots__ = ("_on_appended", "is_done")

    def __init__(self, on_appended: Callable[[], None]) -> None:
        self._on_appended = on_appended
        self.is_done = False

    def finish(self) -> None:
        """The connection may go on."""
        self.is_done = True
        self._on_appended()
