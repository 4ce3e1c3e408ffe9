"""From messages to bytes and back: for each (class, version) an encoder and a decoder, compiled at first use.

`decoder_source` and `encoder_source` write straight-line Python without reflection, which runs several times faster
than a loop over fields would. The functions here are its typed face. What it promises:

- an unknown tagged field is skipped, so a newer client is understood;
- the length of an array is checked against the bytes that are left, and against `ELEMENTS_MAX` for the whole message,
  before anything is allocated; so the memory a frame can claim is bounded by a multiple of its size;
- null is refused where the version does not allow it, and text that is not UTF-8 always;
- nothing recurses: the nesting of a message is that of its class.

`records` fields are views into the frame. All other fields are copies and outlive it.
"""

import struct
from collections.abc import Callable, Generator
from typing import Any, Final, TypeVar

from automq.protocol.decoder_source import DecodingError, compile_decoder, compile_part_decoder
from automq.protocol.encoder_source import EncodingError, compile_encoder
from automq.protocol.schema import Message

M = TypeVar("M", bound=Message)

ELEMENTS_MAX: Final = 1_000_000
"""Array elements of one message, nested ones included; Kafka's own decoders stop at the same number for one array."""

Decoder = Callable[[bytes | memoryview, int, int], tuple[Any, int]]
"""(buffer, offset, elements allowed) to (message, end)."""
Encoder = Callable[[Any, bytearray], None]

_decoders: dict[tuple[type[Message], int], Decoder] = {}
_part_decoders: dict[
    tuple[type[Message], int], Callable[[bytes | memoryview, int, int], Generator[None, None, tuple[Any, int]]]
] = {}
_encoders: dict[tuple[type[Message], int], Encoder] = {}
_part_encoders: dict[tuple[type[Message], int], Callable[[Any, bytearray], Generator[None, None, None]]] = {}


class MalformedMessage(Exception):
    """Bytes that are not a message of this API and version. The connection they came from cannot be trusted on."""

    def __init__(self, reason: str, *, message_name: str, version: int, position: int) -> None:
        super().__init__(f"{message_name} version {version}: {reason} at byte {position}")
        self.reason = reason
        self.message_name = message_name
        self.version = version
        self.position = position


class UnsupportedField(Exception):
    """A message cannot be said in this version: a bug of whoever made it, who looked at another version's fields."""

    def __init__(self, reason: str, *, message_name: str, version: int) -> None:
        super().__init__(f"{message_name} version {version}: {reason}")
        self.reason = reason
        self.message_name = message_name
        self.version = version


def decode(cls: type[M], version: int, buffer: bytes | memoryview, offset: int = 0) -> tuple[M, int]:
    """The message at `offset` and the offset behind it. Raises MalformedMessage.

    The buffer ends where the frame ends: a length is believed only up to there.
    """
    decoder = _decoders.get((cls, version)) or _compile_decoder(cls, version)
    try:
        message, end = decoder(buffer, offset, ELEMENTS_MAX)
    except DecodingError as error:
        reason, position = error.args
        raise MalformedMessage(reason, message_name=cls.__name__, version=version, position=position) from None
    assert isinstance(message, cls)
    return message, end


def decode_in_parts(
    cls: type[M], version: int, buffer: bytes | memoryview, offset: int = 0
) -> Generator[None, None, tuple[M, int]]:
    """As `decode`, for a message of very many parts; beside it how many elements its arrays have together."""
    decoder = _part_decoders.get((cls, version))
    if decoder is None:
        assert version in cls.VERSIONS, (cls.__name__, version)
        decoder = _part_decoders[(cls, version)] = compile_part_decoder(cls, version)
    try:
        message, left = yield from decoder(buffer, offset, ELEMENTS_MAX)
    except DecodingError as error:
        reason, position = error.args
        raise MalformedMessage(reason, message_name=cls.__name__, version=version, position=position) from None
    assert isinstance(message, cls)
    return message, ELEMENTS_MAX - left


def decode_whole(cls: type[M], version: int, buffer: bytes | memoryview, offset: int = 0) -> M:
    """The message that fills the buffer from `offset` to its end; bytes behind it are an error."""
    message, end = decode(cls, version, buffer, offset)
    if end != len(buffer):
        raise MalformedMessage(
            f"{len(buffer) - end} bytes behind the message", message_name=cls.__name__, version=version, position=end
        )
    return message


def encode_into(out: bytearray, message: Message, version: int) -> None:
    """Append the bytes of `message`. On UnsupportedField what was appended before it is left in `out`."""
    cls = type(message)
    encoder = _encoders.get((cls, version)) or _compile_encoder(cls, version)
    try:
        encoder(message, out)
    except (EncodingError, struct.error, AttributeError, TypeError) as error:
        # The latter three: a number out of range, or null where the version has none.
        raise UnsupportedField(str(error), message_name=cls.__name__, version=version) from error


def encode_in_parts(out: bytearray, message: Message, version: int) -> Generator[None, None, None]:
    """As `encode_into`, for a message of very many parts that is nobody else's: it is empty afterwards."""
    cls = type(message)
    encoder = _part_encoders.get((cls, version))
    if encoder is None:
        encoder = compile_encoder(cls, version, is_flexible=cls.is_flexible(version), in_parts=True)
        _part_encoders[(cls, version)] = encoder
    try:
        yield from encoder(message, out)
    except (EncodingError, struct.error, AttributeError, TypeError) as error:
        raise UnsupportedField(str(error), message_name=cls.__name__, version=version) from error


def encode(message: Message, version: int) -> bytes:
    """The bytes of `message` in `version`. Fields the version lacks are left out if they are ignorable or default."""
    out = bytearray()
    encode_into(out, message, version)
    return bytes(out)


def encode_versioned(message: Message, version: int) -> bytes:
    """An int16 version and the message: how records of internal topics and the consumer protocol are written."""
    out = bytearray(version.to_bytes(2, "big"))
    encode_into(out, message, version)
    return bytes(out)


def decode_versioned(cls: type[M], data: bytes | memoryview, *, is_newest_for_newer: bool = False) -> M:
    """The message behind an int16 version.

    With `is_newest_for_newer` a version newer than ours is read as our newest and what follows it is ignored: the
    consumer protocol only ever adds fields at the end.
    """
    version = int.from_bytes(data[:2], "big", signed=True)
    newest = cls.VERSIONS[-1]
    if len(data) >= 2 and version > newest and is_newest_for_newer:
        return decode(cls, newest, data, 2)[0]
    if len(data) < 2 or version not in cls.VERSIONS:
        raise MalformedMessage("version is not known", message_name=cls.__name__, version=version, position=0)
    return decode_whole(cls, version, data, 2)


def _compile_decoder(cls: type[Message], version: int) -> Decoder:
    assert version in cls.VERSIONS, (cls.__name__, version)
    decoder = _decoders[(cls, version)] = compile_decoder(cls, version)
    return decoder


def _compile_encoder(cls: type[Message], version: int) -> Encoder:
    assert version in cls.VERSIONS, (cls.__name__, version)
    encoder = _encoders[(cls, version)] = compile_encoder(cls, version, is_flexible=cls.is_flexible(version))
    return encoder
