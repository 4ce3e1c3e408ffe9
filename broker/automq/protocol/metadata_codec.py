"""Metadata answers put together from topics that were encoded before.

A full answer for a thousand partitions takes half a millisecond to encode, and every client asks every few minutes,
all of them at once after a change. A topic's part of the answer depends on nothing but the topic and the version, so
whoever keeps the topics can keep those bytes; what is left to encode is the list of brokers.

A topic that says what its reader may do with it (`topic_authorized_operations`) is that reader's own: do not keep it.
"""

from collections.abc import Callable, Iterable
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


def encode_metadata_response(
    response: MetadataResponse, topics: Iterable[bytes], *, version: int, correlation_id: int
) -> bytes:
    """A whole frame: `response`, which has no topics itself, with `topics` as `encode_metadata_topic` made them."""
    assert not response.topics
    parts = list(topics)
    out = start_response(_API, version, correlation_id)
    encode_into(out, response, version)
    # The list of topics is the last but what these versions put behind it.
    is_flexible = MetadataResponse.is_flexible(version)
    tail_bytes = (4 if 8 <= version <= 10 else 0) + (2 if version >= 13 else 0) + (1 if is_flexible else 0)
    tail = out[len(out) - tail_bytes :]
    del out[len(out) - tail_bytes - (1 if is_flexible else 4) :]
    if is_flexible:
        write_unsigned_varint(out, len(parts) + 1)
    else:
        out += len(parts).to_bytes(4, "big")
    out += b"".join(parts)
    out += tail
    return finish_frame(out)
