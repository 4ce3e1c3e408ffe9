"""A Produce request of the common shape between the receive buffer and its answer: twins of the compiled functions.

The common shape is what every client sends again and again: a whole frame of a flexible version, for one partition, no
transaction, acknowledged, with one-byte lengths where the names of topics are short, and no tagged fields. They know
the layout of that one message and nothing else (`protocol.produce_codec`, `protocol.connection`; tests hold them
against those). What they do not take is not wrong yet: it is parsed by those modules then, which say why it is wrong.
"""

import struct
from typing import Final

from automq.core.record_walk import Data

_size_key_version = struct.Struct(">ihh").unpack_from
_correlation = struct.Struct(">i").unpack_from
_acks_timeout_count = struct.Struct(">BBhiB").unpack_from
_pack_front = struct.Struct(">iiBB").pack
_pack_result = struct.Struct(">hqqqBBBBiB").pack

_PRODUCE: Final = 0
_VERSION_MIN: Final = 9
_VERSION_MAX: Final = 13
_IDS_SINCE: Final = 13
_SIZE_BYTES: Final = 4
_CLIENT_START: Final = 12
"""From a frame's start, its size included: behind key, version and correlation id."""
_FIXED_BYTES: Final = 9
"""No tags of the head, no transaction, acks, time-out, one topic."""
_ONE: Final = 2
"""A compact array's length byte, where it has one element."""
_ID_BYTES: Final = 16
_NAME_BYTES_MAX: Final = 127
_INDEX_BYTES: Final = 4
_VARINT_BYTES_MAX: Final = 5
_TAIL: Final = bytes(3)
"""No tags of the partition, of the topic, of the request."""
_NOT_KEY_BYTES: Final = 41
"""Of an answer beside the key and its own size."""

Scanned = tuple[int, int, int, int, bytes, int, int]
"""Bytes of the frame without its own size, version, correlation id, time-out in ms, key of the partition; start and end
of its records.

The key is the bytes of topic and partition, from the name's length (or the id) to the index: equal for equal
partitions in all versions that have names, and in all that have ids.
"""


def scan_produce(data: Data, start: int, end: int, frame_bytes_max: int, client: bytes) -> Scanned | None:
    """The Produce request of the common shape whose frame begins at `start`, its size first; what is unread ends at
    `end`.

    None when something else is there, the frame is not all there or has more than `frame_bytes_max` bytes (its size not
    counted), or comes from another client than `client`: the bytes of its client id as they lie in the head, length
    first. Positional arguments.
    """
    position = start + _CLIENT_START
    if not 0 <= start <= position <= end - len(client) - _FIXED_BYTES or end > len(data):
        return None
    size, api, version = _size_key_version(data, start)
    if api != _PRODUCE or not _VERSION_MIN <= version <= _VERSION_MAX or size > frame_bytes_max:
        return None
    stop = start + _SIZE_BYTES + size
    if stop > end:
        return None
    (correlation_id,) = _correlation(data, start + 8)
    if data[position : position + len(client)] != client:
        return None
    position += len(client)
    tags, transaction, acks, timeout_ms, topics = _acks_timeout_count(data, position)
    position += _FIXED_BYTES
    if tags or transaction or acks not in (-1, 1) or topics != _ONE or position >= stop:
        return None
    key_start = position
    if version >= _IDS_SINCE:
        position += _ID_BYTES
    else:
        name_bytes = data[position]
        if not 1 < name_bytes <= _NAME_BYTES_MAX:
            return None
        position += name_bytes
    if position >= stop or data[position] != _ONE:
        return None
    position += 1 + _INDEX_BYTES
    if position >= stop:
        return None
    key = bytes(data[key_start:position])
    length = 0
    for shift in range(_VARINT_BYTES_MAX):
        if position >= stop:
            return None
        byte = data[position]
        position += 1
        length |= (byte & 0x7F) << (7 * shift)
        if byte < 0x80:
            break
    else:
        return None
    records_end = position + length - 1
    if length < _ONE or records_end != stop - len(_TAIL) or data[records_end:stop] != _TAIL:
        return None
    return size, version, correlation_id, timeout_ms, key, position, records_end


def encode_produced(key: bytes, correlation_id: int, base_offset: int, log_start_offset: int) -> bytes:
    """The whole answer, its size first, to a request that `scan_produce` has found: the records are at `base_offset`.

    Positional arguments.
    """
    front = _pack_front(_NOT_KEY_BYTES + len(key), correlation_id, 0, _ONE)
    return front + key + _pack_result(0, base_offset, -1, log_start_offset, 1, 0, 0, 0, 0, 0)
