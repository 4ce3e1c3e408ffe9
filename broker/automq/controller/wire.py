"""Pure: the bytes of the link between a broker and a controller that is elsewhere.

A frame is four bytes of length, then that many of one message: a MessagePack array of the message's tag and its fields,
in the order of declaration. Structures inside are arrays too, dataclasses are maps from field names. Tags and fields of
arrays are never renumbered, reused or reordered; a field may be added at the end, or to a map, with a default, and
readers skip what they do not know. What an older peer must not misunderstand needs a higher `LINK_VERSION`, and the
handshake tells who speaks which.

    broker       Hello                     first of all, and nothing else before Welcome
    controller   Welcome, or Refused       and the end of the connection
    broker       Ask                       any number at once; each is numbered within the broker's session
    controller   Answered                  in any order, by number

    broker       DoYouHear                 of any other broker, instead of Hello: the question of a candidate
    broker       Hear                      the answer
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from automq.controller.compaction_check import CompactionRefused
from automq.controller.link import Answer
from automq.controller.requests import REQUEST_TYPES, Request, TrimStreams
from automq.ids import BrokerEpoch, ClusterId, ControllerEpoch, NodeId, StreamEpoch, StreamId
from automq.protocol.errors import ApiError, ErrorCode
from automq.s3stream.model import (
    BrokerFenced,
    CommitTooLarge,
    FencedBy,
    ObjectRefused,
    StoreDamaged,
    StreamError,
    StreamFenced,
    StreamNotFound,
)
from automq.s3stream.ports import StoreUnavailable

LINK_VERSION: Final = 1
LENGTH_BYTES: Final = 4
FRAME_BYTES_MAX: Final = 16 * 1024 * 1024
"""A commit of all ranges that fit into one change of the metadata takes less."""
HELLO_BYTES_MAX: Final = 64 * 1024
"""Of the first frame of a connection, from whoever it is."""
SESSION_BYTES: Final = 16


class MalformedFrame(Exception):
    """The bytes are no message of this link: the connection ends, and what is outstanding is asked again."""


class Hello(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Who is there."""

    version: int
    cluster_id: ClusterId
    node: NodeId
    session: bytes
    """Drawn by the broker's process: requests are numbered within it, over any number of connections."""
    epoch: BrokerEpoch | None = None
    """None before its registration."""
    format_level: int = 0
    credential: bytes = b""


class Welcome(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """Who answers."""

    version: int
    node: NodeId
    epoch: ControllerEpoch
    record_number: int


class Refused(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """Why nobody answers here."""

    message: str
    is_no_controller: bool
    """True: ask whoever is the controller. False: this broker is none of this cluster's."""


class Ask(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """Number `number` of the session. The same number is the same request: it is carried out once."""

    number: int
    epoch: ControllerEpoch
    """Of the controller that is meant."""
    done_below: int
    """Answers below this number have arrived: nobody asks for them again."""
    request: msgspec.Raw


class Failure(msgspec.Struct, frozen=True, array_like=True):
    """An exception that is an answer."""

    kind: int
    message: str
    numbers: Sequence[int] = ()
    text: str = ""


class Answered(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """The answer to number `number`, or that there is no controller here any more."""

    number: int
    record_number: int
    value: msgspec.Raw = msgspec.Raw(b"\xc0")
    failure: Failure | None = None
    not_controller: str | None = None


class DoYouHear(msgspec.Struct, frozen=True, array_like=True, tag=6):
    """A candidate asks another broker whether it hears a controller."""

    cluster_id: ClusterId


class Hear(msgspec.Struct, frozen=True, array_like=True, tag=7):
    """The epoch of the controller that was heard lately."""

    epoch: ControllerEpoch | None


Message = Hello | Welcome | Refused | Ask | Answered | DoYouHear | Hear


def _trimmed(value: Any) -> Any:
    return [None if failure is None else error_of(failure) for failure in value]


def _encode_other(value: Any) -> Any:
    if isinstance(value, Exception):
        return failure_of(value)
    raise NotImplementedError(f"{type(value).__name__} is not for the wire")


def _decode_other(kind: type, value: Any) -> Any:
    if issubclass(kind, Exception):
        return error_of(msgspec.convert(value, Failure))
    raise NotImplementedError(f"{kind.__name__} is not for the wire")


_ENCODER: Final = msgspec.msgpack.Encoder(uuid_format="bytes", enc_hook=_encode_other)
_MESSAGES: Final = msgspec.msgpack.Decoder(Message)
_REQUESTS: Final = msgspec.msgpack.Decoder(Request, dec_hook=_decode_other)
_ANSWERS: Final[Mapping[type, Any]] = {
    kind: msgspec.msgpack.Decoder(
        list[Failure | None] if kind is TrimStreams else getattr(kind, "ANSWER"),  # noqa: B009 - not of every Struct
        dec_hook=_decode_other,
    )
    for kind in REQUEST_TYPES
}


def encode_frame(message: Message) -> bytes:
    """A message as it goes out."""
    body = _ENCODER.encode(message)
    return len(body).to_bytes(LENGTH_BYTES, "big") + body


def decode_message(body: bytes | memoryview) -> Message:
    """What is behind a frame's length. Raises MalformedFrame."""
    try:
        message: Message = _MESSAGES.decode(body)
        return message
    except msgspec.DecodeError as error:
        raise MalformedFrame(f"no message of the link: {error}") from error


def encode_request(request: Request) -> msgspec.Raw:
    """For `Ask`."""
    return msgspec.Raw(_ENCODER.encode(request))


def decode_request(data: msgspec.Raw) -> Request:
    """The inverse. Raises MalformedFrame, for a request that only a newer broker knows, too."""
    try:
        request: Request = _REQUESTS.decode(data)
        return request
    except msgspec.DecodeError as error:
        raise MalformedFrame(f"no request of the link: {error}") from error


def encode_answer(number: int, answer: Answer) -> Answered:
    """An answer to number `number`."""
    failure = None if answer.error is None else failure_of(answer.error)
    value = msgspec.Raw(_ENCODER.encode(None if answer.error is not None else answer.value))
    return Answered(number=number, record_number=answer.record_number, value=value, failure=failure)


def decode_answer(request: Request, answered: Answered) -> Answer:
    """The inverse, for the answer to `request`. Raises MalformedFrame."""
    if answered.failure is not None:
        return Answer(record_number=answered.record_number, error=error_of(answered.failure))
    try:
        value = _ANSWERS[type(request)].decode(answered.value)
    except msgspec.DecodeError as error:
        raise MalformedFrame(f"no answer to {type(request).__name__}: {error}") from error
    if isinstance(request, TrimStreams):
        value = _trimmed(value)
    return Answer(record_number=answered.record_number, value=value)


# Numbers are for the wire. What is not listed is told by the nearest of its bases, or as a bug.
API, FENCED, OBJECT_REFUSED, TOO_LARGE, STREAM_FENCED, STREAM_NOT_FOUND = range(1, 7)
COMPACTION_REFUSED, DAMAGED, UNAVAILABLE, STREAM = range(7, 11)


def failure_of(error: Exception) -> Failure:
    """An exception for the wire."""
    match error:
        case ApiError():
            return Failure(API, error.message or "", [int(error.code), int(error.message is not None)])
        case BrokerFenced():
            return Failure(FENCED, str(error), text=error.by.value)
        case ObjectRefused():
            return Failure(OBJECT_REFUSED, str(error))
        case CommitTooLarge():
            return Failure(TOO_LARGE, str(error), [error.ranges, error.ranges_max])
        case StreamFenced():
            return Failure(STREAM_FENCED, str(error), [error.stream, error.ours, error.current])
        case StreamNotFound():
            return Failure(STREAM_NOT_FOUND, str(error))
        case CompactionRefused():
            return Failure(COMPACTION_REFUSED, str(error))
        case StoreDamaged():
            return Failure(DAMAGED, str(error), text=error.key)
        case StreamError():
            return Failure(STREAM, str(error))
        case _:
            return Failure(UNAVAILABLE, str(error))


def error_of(failure: Failure) -> Exception:
    """The inverse. A kind that only a newer peer knows is one of the store's: whoever asked tries again."""
    numbers = failure.numbers
    # The numbers of the kinds are those above.
    match failure.kind, len(numbers):
        case (1, 2):
            return ApiError(_code(numbers[0]), failure.message if numbers[1] else None)
        case (2, _):
            by = {each.value: each for each in FencedBy}
            return BrokerFenced(failure.message, by=by.get(failure.text, FencedBy.REGISTRATION))
        case (3, _):
            return ObjectRefused(failure.message)
        case (4, 2):
            return CommitTooLarge(ranges=numbers[0], ranges_max=numbers[1])
        case (5, 3):
            stream, ours, current = numbers
            return StreamFenced(stream=StreamId(stream), ours=StreamEpoch(ours), current=StreamEpoch(current))
        case (6, _):
            return StreamNotFound(failure.message)
        case (7, _):
            return CompactionRefused(failure.message)
        case (8, _):
            return StoreDamaged(failure.message, key=failure.text)
        case (10, _):
            return StreamError(failure.message)
        case _:
            return StoreUnavailable(failure.message)


def _code(number: int) -> ErrorCode:
    try:
        return ErrorCode(number)
    except ValueError:
        return ErrorCode.UNKNOWN_SERVER_ERROR
