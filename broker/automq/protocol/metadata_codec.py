"""Metadata answers put together from topics that were encoded before.

A full answer for a thousand partitions takes milliseconds to make, and every client asks every few minutes, all of them
at once after a change. Whoever keeps a topic's part of the answer as bytes has only the list of brokers left to encode.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

from automq.binary import write_unsigned_varint
from automq.protocol.apis import APIS, ApiKey, finish_frame, start_response
from automq.protocol.codec import encode_into
from automq.protocol.encoder_source import compile_encoder
from automq.protocol.messages.discovery import MetadataResponse, MetadataResponseTopic

_API: Final = APIS[ApiKey.METADATA]
_topic_encoders: dict[int, Callable[[Any, bytearray], None]] = {}


def encode_metadata_topic(topic: MetadataResponseTopic, version: int) -> bytes:
    """A topic's part of the answer in `version`."""
    encoder = _topic_encoders.get(version)
    if encoder is None:
        is_flexible = MetadataResponse.is_flexible(version)
        encoder = compile_encoder(MetadataResponseTopic, version, is_flexible=is_flexible)
        _topic_encoders[version] = encoder
    out = bytearray()
    encoder(topic, out)
    return bytes(out)


class EncodedMetadata:
    """An answer whose topics are encoded already, in the version that it is asked in."""

    __slots__ = ("codes", "response", "topics", "topics_count")

    def __init__(
        self, response: MetadataResponse, topics: Sequence[bytes], topics_count: int, *, codes: Sequence[int] = ()
    ) -> None:
        """`topics` are those of `encode_metadata_topic`, any number of them in a piece; `response` has none itself.

        `codes` are the error codes in them.
        """
        self.codes = codes
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
        del out[len(out) - tail_bytes - (1 if is_flexible else 4) :]
        if is_flexible:
            write_unsigned_varint(out, self.topics_count + 1)
        else:
            out += self.topics_count.to_bytes(4, "big")
        for piece in self.topics:
            out += piece
        out += tail
        return finish_frame(out)
