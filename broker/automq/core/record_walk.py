"""The walk over a batch's records: twin of the compiled `walk_records`; and what says why a record is refused.

A record, as it lies in a batch after decompression; numbers are zigzag varints of at most five bytes, the timestamp
delta's has ten and 64 bits:

    length, attributes u8, timestamp delta, offset delta, key length or -1, key, value length or -1, value,
    number of headers, and of each header: name length, name in UTF-8, value length or -1, value

Java's reader takes no longer numbers, so none is taken here.
"""

from typing import Final, NamedTuple

Data = bytes | bytearray | memoryview

NO_TIMESTAMP: Final = -1
VARINT_BYTES_MAX: Final = 5
VARLONG_BYTES_MAX: Final = 10
_NULL: Final = 1
"""The zigzag form of -1."""


def walk_records(  # noqa: C901, PLR0912 - the hot loop: a call for each of a record's seven numbers would double its cost
    data: Data,
    first: int,
    stop: int,
    position: int,
    base_timestamp: int,
    earliest_ms: int,
    latest_ms: int,
    needs_keys: bool,
) -> tuple[int, int, int]:
    """How far the records [first, stop) of a batch, the first of which lies at `position`, may be taken as they are.

    The greatest timestamp of those that may (NO_TIMESTAMP when none has one), the index of the first one that may not,
    which is `stop` when all may, and where that one begins. A record may not when it is not well-formed, when its
    timestamp lies outside [earliest_ms, latest_ms], both of 64 bits, or when it has no key where `needs_keys`;
    `examine_record` says which. Positional arguments: it is called for every batch. About a microsecond a record.
    """
    end = len(data)
    has_time = base_timestamp != NO_TIMESTAMP
    greatest = NO_TIMESTAMP
    index, start = first, position
    try:
        for index in range(first, stop):
            start = position
            raw = data[position]
            position += 1
            if raw >= 0x80:
                raw, position = _read_rest(data, position, raw)
            record_end = position + (raw >> 1)
            if raw & 1 or record_end > end:
                return greatest, index, start
            raw = data[position + 1]
            position += 2
            if raw >= 0x80:
                raw, position = _read_rest(data, position, raw, VARLONG_BYTES_MAX)
            timestamp = base_timestamp + ((raw >> 1) ^ -(raw & 1))
            raw = data[position]
            position += 1
            if raw >= 0x80:
                raw, position = _read_rest(data, position, raw)
            if raw != index << 1:
                return greatest, index, start
            raw = data[position]
            position += 1
            if raw >= 0x80:
                raw, position = _read_rest(data, position, raw)
            if not raw & 1:
                position += raw >> 1
            elif raw != _NULL or needs_keys:
                return greatest, index, start
            raw = data[position]
            position += 1
            if raw >= 0x80:
                raw, position = _read_rest(data, position, raw)
            if not raw & 1:
                position += raw >> 1
            elif raw != _NULL:
                return greatest, index, start
            # A single zero byte: no headers.
            position = _pass_headers(data, position, record_end) if data[position] else position + 1
            if position != record_end:
                return greatest, index, start
            if has_time:
                if not earliest_ms <= timestamp <= latest_ms:
                    return greatest, index, start
                if timestamp > greatest:
                    greatest = timestamp
    except (IndexError, ValueError):
        return greatest, index, start
    return greatest, stop, position


class Examined(NamedTuple):
    """One well-formed record."""

    timestamp_ms: int
    has_key: bool
    end: int
    """The position behind it."""


def examine_record(data: Data, index: int, position: int, base_timestamp: int) -> Examined:
    """The record `index` of a batch, which lies at `position`. Raises ValueError with what is not well-formed of it."""
    try:
        raw, position = _read_raw(data, position)
        end = position + (raw >> 1)
        if raw & 1 or end > len(data):
            raise ValueError(f"record {index} does not end in the batch")
        raw, position = _read_raw(data, position + 1, VARLONG_BYTES_MAX)
        timestamp_ms = base_timestamp + ((raw >> 1) ^ -(raw & 1))
        raw, position = _read_raw(data, position)
        if raw != index << 1:
            raise ValueError(f"record {index} has another offset delta")
        key, position = _read_raw(data, position)
        if key & 1 and key != _NULL:
            raise ValueError(f"record {index} has a key of negative length")
        value, position = _read_raw(data, position if key & 1 else position + (key >> 1))
        if value & 1 and value != _NULL:
            raise ValueError(f"record {index} has a value of negative length")
        if _pass_headers(data, position if value & 1 else position + (value >> 1), end) != end:
            raise ValueError(f"record {index} has another length than its parts")
    except IndexError:
        raise ValueError("a record does not fit the batch") from None
    return Examined(timestamp_ms, not key & 1, end)


def _pass_headers(data: Data, position: int, end: int) -> int:
    """Where a record's headers end. Raises IndexError or ValueError."""
    raw, position = _read_raw(data, position)
    count = raw >> 1
    if raw & 1 or count * 2 > end - position:
        raise ValueError("a record has more headers than bytes")
    for _ in range(count):
        raw, position = _read_raw(data, position)
        if raw & 1:
            raise ValueError("a header has no name")
        name_at, position = position, position + (raw >> 1)
        if position > end:
            raise ValueError("a header does not end in its record")
        bytes(data[name_at:position]).decode()
        raw, position = _read_raw(data, position)
        if not raw & 1:
            position += raw >> 1
        elif raw != _NULL:
            raise ValueError("a header has a value of negative length")
        if position > end:
            raise ValueError("a header does not end in its record")
    return position


def _read_raw(data: Data, position: int, bytes_max: int = VARINT_BYTES_MAX) -> tuple[int, int]:
    """An unsigned varint and the position behind it; the zigzag is the caller's. Raises IndexError or ValueError."""
    raw = data[position]
    return (raw, position + 1) if raw < 0x80 else _read_rest(data, position + 1, raw, bytes_max)


def _read_rest(data: Data, position: int, first: int, bytes_max: int = VARINT_BYTES_MAX) -> tuple[int, int]:
    """As `_read_raw`, of a number whose first byte was read and is not its last."""
    byte = data[position]
    if byte < 0x80:
        return first & 0x7F | byte << 7, position + 1
    raw, shift = first & 0x7F, 7
    for at in range(position, position + bytes_max - 1):
        byte = data[at]
        raw |= (byte & 0x7F) << shift
        if byte < 0x80:
            if raw >> 64:
                break
            return raw, at + 1
        shift += 7
    raise ValueError(f"a number has more than {bytes_max} bytes, or 64 bits")
