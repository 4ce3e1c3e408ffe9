"""Metadata answers put together from topics that were encoded before.

A full answer for a thousand partitions takes milliseconds to make, and every client asks every few minutes, all of them
at once after a change. Whoever keeps a topic's part of the answer as bytes has only the list of brokers left to encode.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from automq.binary import write_unsigned_varint
from automq.protocol.apis import APIS, ApiKey, finish_frame, start_response
from automq.protocol.codec import encode_into
from automq.protocol.encoder_source import compile_encoder
from automq.protocol.messages.discovery import MetadataResponse, MetadataResponsePartition, MetadataResponseTopic

OPERATIONS_SINCE: Final = 8
"""The first version in which a topic says what may be done with it."""

NO_CODES: Final[Mapping[int, int]] = {}

_API: Final = APIS[ApiKey.METADATA]
_encoders: dict[tuple[type[Any], int], Callable[[Any, bytearray], None]] = {}


def encode_metadata_topic(topic: MetadataResponseTopic, version: int) -> bytes:
    """A topic's part of the answer in `version`."""
    out = bytearray()
    _encoder_of(MetadataResponseTopic, version)(topic, out)
    return bytes(out)


def encode_metadata_partitions(partitions: Sequence[MetadataResponsePartition], version: int) -> bytes:
    """A piece of a topic's part of the answer, to be put together by `join_metadata_topic`."""
    encoder, out = _encoder_of(MetadataResponsePartition, version), bytearray()
    for partition in partitions:
        encoder(partition, out)
    return bytes(out)


def join_metadata_topic(topic: MetadataResponseTopic, pieces: Sequence[bytes], partitions: int, version: int) -> bytes:
    """As `encode_metadata_topic` of `topic`, which has no partitions itself, with those of `pieces`."""
    assert not topic.partitions
    is_flexible = MetadataResponse.is_flexible(version)
    out = bytearray(encode_metadata_topic(topic, version))
    # What lies behind the list of partitions: authorized operations, and tags.
    tail_bytes = (4 if version >= OPERATIONS_SINCE else 0) + (1 if is_flexible else 0)
    tail = out[len(out) - tail_bytes :]
    _replace_count(out, len(out) - tail_bytes, partitions, is_flexible)
    for piece in pieces:
        out += piece
    return bytes(out + tail)


def _replace_count(out: bytearray, end: int, count: int, is_flexible: bool) -> None:
    """Cut `out` off at `end`, where the length of an empty list ends, and write the length `count` instead."""
    del out[end - (1 if is_flexible else 4) :]
    if is_flexible:
        write_unsigned_varint(out, count + 1)
    else:
        out += count.to_bytes(4, "big")


def _encoder_of(message: type[Any], version: int) -> Callable[[Any, bytearray], None]:
    encoder = _encoders.get((message, version))
    if encoder is None:
        encoder = compile_encoder(message, version, is_flexible=MetadataResponse.is_flexible(version))
        _encoders[message, version] = encoder
    return encoder


class EncodedMetadata:
    """An answer whose topics are encoded already, in the version that it is asked in."""

    __slots__ = ("codes", "response", "topics", "topics_count")

    def __init__(
        self,
        response: MetadataResponse,
        topics: Sequence[bytes],
        topics_count: int,
        *,
        codes: Mapping[int, int] = NO_CODES,
    ) -> None:
        """`topics` are those of `encode_metadata_topic`, any number of them in a piece; `response` has none itself.

        `codes` are the error codes in them, and how often each is there.
        """
        self.codes: Mapping[int, int] = codes
        assert not response.topics
        self.response = response
        self.topics = topics
        self.topics_count = topics_count

    def encode(self, version: int, correlation_id: int) -> bytes:
        """The whole frame. Raises UnsupportedField."""
        out = start_response(_API, version, correlation_id)
        encode_into(out, self.response, version)
        # The list of topics is the last but what these versions put behind it.
        is_flexible = MetadataResponse.is_flexible(version)
        tail_bytes = (4 if 8 <= version <= 10 else 0) + (2 if version >= 13 else 0) + (1 if is_flexible else 0)
        tail = out[len(out) - tail_bytes :]
        _replace_count(out, len(out) - tail_bytes, self.topics_count, is_flexible)
        for piece in self.topics:
            out += piece
        out += tail
        return finish_frame(out)
