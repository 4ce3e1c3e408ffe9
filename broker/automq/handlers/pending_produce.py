"""One Produce request between its arrival and its answer."""

from collections.abc import Callable
from typing import Final

from automq.handlers.errors import write_error_code_of
from automq.protocol.connection import RequestHead, ResponseSlot
from automq.protocol.errors import ErrorCode
from automq.protocol.messages.produce import NodeEndpoint, PartitionProduceResponse
from automq.protocol.produce_codec import TopicResults, change_produce_response, encode_produce_response

# Codes that say something about state: they are given when that state is durable.
STATE_CODES: Final = frozenset(
    (ErrorCode.NONE, ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER, ErrorCode.INVALID_PRODUCER_EPOCH)
)


def _ignore(_code: int) -> None:
    """Nobody counts."""


class PendingProduce:
    """One request whose batches are appended and not durable yet. Not frozen: made for every request.

    The answer is encoded when the batches are appended and kept as bytes: what it is made of is in the processor's
    cache then, and would be gone from there, and still take memory, when the batches are durable.
    """

    __slots__ = (
        "_answer",
        "_watched",
        "acks",
        "close",
        "correlation_id",
        "deadline",
        "is_done",
        "on_error",
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
        watched: "dict[PendingProduce, None]",
        throttle_ms: int = 0,
    ) -> None:
        self._watched = watched
        """Those whose time-out is looked at, of which this one may be one."""
        self.on_error: Callable[[int], None] = _ignore
        """Told of the codes that come after the batches were appended."""
        self.version = head.version
        self.correlation_id = head.correlation_id
        self.slot = slot
        self.acks = acks
        self.timeout_ms = timeout_ms
        self.throttle_ms = throttle_ms
        """For how long the client is not listened to."""
        self.close = close
        """Closes the connection."""
        self._answer: bytes | bytearray = b""
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

        def change(result: PartitionProduceResponse) -> None:
            if result.error_code in STATE_CODES:
                if not result.error_code:
                    self.on_error(code)
                result.error_code = code
                result.error_message = message
                result.base_offset = result.log_append_time = result.log_start_offset = -1

        self._answer = change_produce_response(self._answer, self.version, change)

    def prepare(self, topics: list[TopicResults], endpoints: list[NodeEndpoint]) -> None:
        """Encode the answer; nothing refers to `topics` after that."""
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
        self._watched.pop(self, None)
        self.slot.complete((self._answer,))


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
