# cython: language_level=3, boundscheck=True, wraparound=False, embedsignature=False
"""The compiled functions of `automq.core`; their twins in Python say what they do, and are what to read first.

Every read and write goes through a position that was compared with the end of its buffer. Lengths are compared with
what is left, never added first. No Python object is kept, none is touched between taking a buffer and giving it back
but to check a header's name.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport int64_t, uint8_t, uint64_t

INTERFACE = 1

cdef int64_t NO_TIMESTAMP = -1
cdef uint64_t NULL_LENGTH = 1  # the zigzag form of -1
cdef int VARINT_BYTES_MAX = 5
cdef int VARLONG_BYTES_MAX = 10

cdef extern from *:
    """
    static inline int sum_overflows(int64_t first, int64_t second, int64_t *sum) {
      if (second > 0 ? first > INT64_MAX - second : first < INT64_MIN - second) return 1;
      *sum = first + second;
      return 0;
    }
    """
    bint sum_overflows(int64_t first, int64_t second, int64_t *sum) noexcept nogil


cdef struct Cursor:
    const uint8_t *data
    Py_ssize_t position
    Py_ssize_t end


cdef inline bint read_number(Cursor *at, int bytes_max, uint64_t *number) noexcept nogil:
    """An unsigned varint; False when it does not end, or has more than 64 bits."""
    cdef uint64_t value = 0
    cdef uint8_t byte
    cdef int index
    for index in range(bytes_max):
        if at.position >= at.end:
            return False
        byte = at.data[at.position]
        at.position += 1
        if index == VARLONG_BYTES_MAX - 1 and byte > 1:
            return False
        value |= <uint64_t>(byte & 0x7F) << (7 * index)
        if byte < 0x80:
            number[0] = value
            return True
    return False


cdef inline int64_t signed_of(uint64_t raw) noexcept nogil:
    return <int64_t>(raw >> 1) ^ -<int64_t>(raw & 1)


cdef inline bint pass_bytes(Cursor *at, bint *is_null) noexcept nogil:
    """A length, or that of nothing, and as many bytes; False when they do not fit."""
    cdef uint64_t raw
    if not read_number(at, VARINT_BYTES_MAX, &raw):
        return False
    is_null[0] = raw & 1
    if raw & 1:
        return raw == NULL_LENGTH
    if raw >> 1 > <uint64_t>(at.end - at.position):
        return False
    at.position += <Py_ssize_t>(raw >> 1)
    return True


cdef bint is_text(const uint8_t *data, Py_ssize_t size):
    """Whether it is UTF-8, as Python decodes it."""
    cdef Py_ssize_t index
    for index in range(size):
        if data[index] >= 0x80:
            break
    else:
        return True
    try:
        PyUnicode_DecodeUTF8(<const char *>data, size, NULL)
    except UnicodeDecodeError:
        return False
    return True


cdef bint pass_headers(Cursor *at):
    """The number of a record's headers, and the headers; False when they do not fit."""
    cdef uint64_t raw, index
    cdef Py_ssize_t name_at
    cdef bint is_null
    if not read_number(at, VARINT_BYTES_MAX, &raw):
        return False
    if raw & 1 or (raw >> 1) > <uint64_t>(at.end - at.position) / 2:
        return False
    for index in range(raw >> 1):
        if not read_number(at, VARINT_BYTES_MAX, &raw):
            return False
        if raw & 1 or raw >> 1 > <uint64_t>(at.end - at.position):
            return False
        name_at = at.position
        at.position += <Py_ssize_t>(raw >> 1)
        if not is_text(at.data + name_at, at.position - name_at):
            return False
        if not pass_bytes(at, &is_null):
            return False
    return True


cdef bint take_record(
    Cursor *at,
    int64_t index,
    int64_t base_timestamp,
    int64_t earliest_ms,
    int64_t latest_ms,
    bint needs_keys,
    int64_t *greatest_ms,
):
    """One record; False when it may not be taken as it is. `at.end` is the record's own end then, else left as it was."""
    cdef Py_ssize_t end = at.end
    cdef uint64_t raw
    cdef int64_t timestamp_ms
    cdef bint is_null
    if not read_number(at, VARINT_BYTES_MAX, &raw):
        return False
    if raw & 1 or raw >> 1 > <uint64_t>(end - at.position) or raw < 2:
        return False
    at.end = at.position + <Py_ssize_t>(raw >> 1)
    at.position += 1
    if not read_number(at, VARLONG_BYTES_MAX, &raw):
        return False
    if base_timestamp != NO_TIMESTAMP:
        if sum_overflows(base_timestamp, signed_of(raw), &timestamp_ms):
            return False
        if timestamp_ms < earliest_ms or timestamp_ms > latest_ms:
            return False
    else:
        timestamp_ms = NO_TIMESTAMP
    if not read_number(at, VARINT_BYTES_MAX, &raw) or raw != <uint64_t>index << 1:
        return False
    if not pass_bytes(at, &is_null) or (is_null and needs_keys):
        return False
    if not pass_bytes(at, &is_null):
        return False
    if at.position >= at.end:
        return False
    if at.data[at.position] == 0:
        at.position += 1
    elif not pass_headers(at):
        return False
    if at.position != at.end:
        return False
    if timestamp_ms > greatest_ms[0]:
        greatest_ms[0] = timestamp_ms
    at.end = end
    return True


def walk_records(
    data,
    int64_t first,
    int64_t stop,
    Py_ssize_t position,
    int64_t base_timestamp,
    int64_t earliest_ms,
    int64_t latest_ms,
    bint needs_keys,
    /,
):
    """See `record_walk.walk_records`."""
    cdef Py_buffer source
    cdef Cursor at
    cdef int64_t index = first, greatest_ms = NO_TIMESTAMP
    cdef Py_ssize_t start
    PyObject_GetBuffer(data, &source, PyBUF_SIMPLE)
    try:
        if position < 0 or position > source.len or first < 0:
            raise ValueError("there are no records")
        at.data = <const uint8_t *>source.buf
        at.position = start = position
        at.end = source.len
        while index < stop and take_record(
            &at, index, base_timestamp, earliest_ms, latest_ms, needs_keys, &greatest_ms
        ):
            index += 1
            start = at.position
    finally:
        PyBuffer_Release(&source)
    return greatest_ms, index, start
