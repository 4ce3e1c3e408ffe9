# cython: language_level=3, boundscheck=True, wraparound=False, embedsignature=False
"""The compiled functions of `automq.core`; their twins in Python say what they do, and are what to read first.

Every read and write goes through a position that was compared with the end of its buffer. Lengths are compared with
what is left, never added first. No Python object is kept, none is touched between taking a buffer and giving it back
but to check a header's name.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport int16_t, int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

INTERFACE = 6

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


cdef extern from "checksum.h":
    int checksum_prepare() noexcept nogil
    uint32_t checksum_of(const uint8_t *data, size_t size, uint32_t value) noexcept nogil
    uint32_t checksum_copied(uint8_t *to, const uint8_t *data, size_t size, uint32_t value) noexcept nogil
    uint32_t checksum_joined(uint32_t first, uint32_t second, uint64_t second_bytes) noexcept nogil
    uint64_t read_big(const uint8_t *at, int bytes) noexcept nogil
    void write_big(uint8_t *at, uint64_t value, int bytes) noexcept nogil


HAS_CHECKSUM = bool(checksum_prepare())
"""Whether this processor sums as fast as the library that is used otherwise; without, `take_batch` is not to be used."""

# Of a record batch, see `protocol.records`.
cdef Py_ssize_t HEADER_BYTES = 61
cdef Py_ssize_t LENGTH_END = 12
cdef Py_ssize_t CRC_START = 21
cdef Py_ssize_t RECORD_BYTES_MIN = 7
cdef int MAGIC = 2
cdef int COMPRESSION_MAX = 4
# From here on two CRCs are joined sooner than the second is made.
cdef Py_ssize_t JOINED_BYTES_MIN = 4096

# Of a record in the write-ahead log, see `s3stream.wal.format`.
cdef Py_ssize_t RECORD_HEADER_BYTES = 44


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


cdef struct Batch:
    int32_t count
    int64_t base_timestamp
    int64_t max_timestamp
    int64_t producer_id
    int16_t producer_epoch
    int32_t first_sequence
    int attributes


cdef bint read_header(const uint8_t *data, Py_ssize_t size, Batch *batch) noexcept nogil:
    """False when it is not that of one batch of the common shape, as large as the buffer."""
    if size < HEADER_BYTES or read_big(data, 8) != 0 or data[16] != MAGIC:
        return False
    if <int64_t><int32_t>read_big(data + 8, 4) + LENGTH_END != size:
        return False
    batch.attributes = <int>read_big(data + 21, 2)
    batch.count = <int32_t>read_big(data + 57, 4)
    batch.base_timestamp = <int64_t>read_big(data + 27, 8)
    batch.max_timestamp = <int64_t>read_big(data + 35, 8)
    batch.producer_id = <int64_t>read_big(data + 43, 8)
    batch.producer_epoch = <int16_t>read_big(data + 51, 2)
    batch.first_sequence = <int32_t>read_big(data + 53, 4)
    if batch.attributes > COMPRESSION_MAX or batch.count <= 0:
        return False
    if <int32_t>read_big(data + 23, 4) != batch.count - 1:
        return False
    return batch.producer_id < 0 or (batch.producer_epoch >= 0 and batch.first_sequence >= 0)


cdef bint has_good_records(
    const uint8_t *data, Py_ssize_t size, Batch *batch, int64_t earliest_ms, int64_t latest_ms, bint needs_keys
):
    """Whether the records are what the header says, and are taken as they are."""
    cdef Cursor at
    cdef int64_t index, greatest_ms = NO_TIMESTAMP
    at.data = data
    at.position = HEADER_BYTES
    at.end = size
    for index in range(batch.count):
        if not take_record(&at, index, batch.base_timestamp, earliest_ms, latest_ms, needs_keys, &greatest_ms):
            return False
    return at.position == size and greatest_ms == batch.max_timestamp


cdef bint is_common(Batch *batch, Py_ssize_t size, int64_t earliest_ms, int64_t latest_ms, bint walks) noexcept nogil:
    """Whether it is known from the header alone how the records are checked, and that they are few enough."""
    if walks:
        return not batch.attributes
    if batch.max_timestamp > latest_ms or batch.base_timestamp < earliest_ms:
        return False
    return batch.attributes or batch.count <= (size - HEADER_BYTES) / RECORD_BYTES_MIN


cdef bint take(
    uint8_t *to,
    const uint8_t *data,
    Py_ssize_t size,
    Batch *batch,
    int64_t base_offset,
    int32_t leader_epoch,
    int64_t earliest_ms,
    int64_t latest_ms,
    bint needs_keys,
    bint walks,
    uint32_t *placed_crc,
):
    """Check a batch whose header was read, and copy it to `to`, where there is room for it, unless that is NULL."""
    cdef uint32_t crc = <uint32_t>read_big(data + 17, 4), first_crc
    cdef uint8_t front[21]
    memcpy(front, data, CRC_START)
    write_big(front, <uint64_t>base_offset, 8)
    write_big(front + 12, <uint32_t>leader_epoch, 4)
    if to == NULL:
        if checksum_of(data + CRC_START, size - CRC_START, 0) != crc:
            return False
    else:
        if checksum_copied(to + CRC_START, data + CRC_START, size - CRC_START, 0) != crc:
            return False
        memcpy(to, front, CRC_START)
    if walks and not has_good_records(data, size, batch, earliest_ms, latest_ms, needs_keys):
        return False
    first_crc = checksum_of(front, CRC_START, 0)
    if size >= JOINED_BYTES_MIN:
        placed_crc[0] = checksum_joined(first_crc, crc, size - CRC_START)
    else:
        placed_crc[0] = checksum_of(data + CRC_START, size - CRC_START, first_crc)
    return True


def take_batch(
    records,
    out,
    Py_ssize_t position,
    int64_t base_offset,
    int32_t leader_epoch,
    Py_ssize_t bytes_max,
    int64_t earliest_ms,
    int64_t latest_ms,
    bint needs_keys,
    bint walks,
    /,
):
    """See `produced_batch.take_batch`."""
    cdef Py_buffer source, target
    cdef uint32_t crc
    cdef uint8_t *to = NULL
    cdef Batch batch
    cdef bint is_taken
    PyObject_GetBuffer(records, &source, PyBUF_SIMPLE)
    try:
        if source.len > bytes_max or not read_header(<const uint8_t *>source.buf, source.len, &batch):
            return None
        if not is_common(&batch, source.len, earliest_ms, latest_ms, walks):
            return None
        if out is None:
            is_taken = take(
                NULL, <const uint8_t *>source.buf, source.len, &batch, base_offset, leader_epoch, earliest_ms,
                latest_ms, needs_keys, walks, &crc
            )
        else:
            PyObject_GetBuffer(out, &target, PyBUF_WRITABLE)
            try:
                if position < 0 or position > target.len or source.len > target.len - position:
                    return None
                to = <uint8_t *>target.buf + position
                is_taken = take(
                    to, <const uint8_t *>source.buf, source.len, &batch, base_offset, leader_epoch, earliest_ms,
                    latest_ms, needs_keys, walks, &crc
                )
            finally:
                PyBuffer_Release(&target)
    finally:
        PyBuffer_Release(&source)
    if not is_taken:
        return None
    return batch.count, batch.max_timestamp, batch.producer_id, batch.producer_epoch, batch.first_sequence, crc


cdef uint32_t write_record_header(
    uint8_t *to,
    uint64_t stream,
    uint64_t epoch,
    uint64_t base_offset,
    int64_t max_timestamp_ms,
    uint32_t count,
    uint32_t size,
    uint32_t crc,
    uint32_t slot_crc,
) noexcept nogil:
    write_big(to, stream, 8)
    write_big(to + 8, epoch, 8)
    write_big(to + 16, base_offset, 8)
    write_big(to + 24, <uint64_t>max_timestamp_ms, 8)
    write_big(to + 32, count, 4)
    write_big(to + 36, size, 4)
    write_big(to + 40, crc, 4)
    return checksum_of(to, RECORD_HEADER_BYTES, slot_crc)


def put_record_header(
    out,
    Py_ssize_t position,
    uint64_t stream,
    uint64_t epoch,
    uint64_t base_offset,
    int64_t max_timestamp_ms,
    uint32_t count,
    uint32_t size,
    uint32_t crc,
    uint32_t slot_crc,
    /,
):
    """See `produced_batch.put_record_header`."""
    cdef Py_buffer target
    PyObject_GetBuffer(out, &target, PyBUF_WRITABLE)
    try:
        if position < 0 or position > target.len or RECORD_HEADER_BYTES > target.len - position:
            raise ValueError("the record's header does not fit")
        return write_record_header(
            <uint8_t *>target.buf + position, stream, epoch, base_offset, max_timestamp_ms, count, size, crc, slot_crc
        )
    finally:
        PyBuffer_Release(&target)


def place_received(
    data,
    Py_ssize_t start,
    Py_ssize_t stop,
    out,
    Py_ssize_t position,
    uint64_t stream,
    uint64_t epoch,
    int64_t base_offset,
    Py_ssize_t bytes_max,
    int64_t records_max,
    int64_t earliest_ms,
    int64_t latest_ms,
    bint needs_keys,
    bint walks,
    int64_t mark_ms,
    uint32_t slot_crc,
    /,
):
    """See `produced_batch.place_received`."""
    cdef Py_buffer source, target
    cdef Py_ssize_t size = stop - start
    cdef const uint8_t *records
    cdef uint8_t *to
    cdef uint32_t crc
    cdef int64_t newest_ms
    cdef Batch batch
    PyObject_GetBuffer(data, &source, PyBUF_SIMPLE)
    try:
        if start < 0 or start > stop or stop > source.len or size > bytes_max:
            return None
        records = <const uint8_t *>source.buf + start
        if not read_header(records, size, &batch) or batch.count > records_max:
            return None
        if not is_common(&batch, size, earliest_ms, latest_ms, walks):
            return None
        PyObject_GetBuffer(out, &target, PyBUF_WRITABLE)
        try:
            if position < 0 or position > target.len or RECORD_HEADER_BYTES > target.len - position:
                return None
            if size > target.len - position - RECORD_HEADER_BYTES:
                return None
            to = <uint8_t *>target.buf + position
            if not take(
                to + RECORD_HEADER_BYTES, records, size, &batch, base_offset, <int32_t>epoch, earliest_ms, latest_ms,
                needs_keys, walks, &crc
            ):
                return None
            newest_ms = batch.max_timestamp if batch.max_timestamp >= 0 else mark_ms
            slot_crc = write_record_header(
                to, stream, epoch, base_offset, newest_ms, batch.count, size, crc, slot_crc
            )
        finally:
            PyBuffer_Release(&target)
    finally:
        PyBuffer_Release(&source)
    return batch.count, newest_ms, batch.producer_id, batch.producer_epoch, batch.first_sequence, slot_crc


# Of a Produce request, see `produce_frame`.
cdef Py_ssize_t SIZE_BYTES = 4
cdef Py_ssize_t CLIENT_START = 12
cdef Py_ssize_t FIXED_BYTES = 9
cdef Py_ssize_t TAIL_BYTES = 3
cdef int VERSION_MIN = 9
cdef int VERSION_MAX = 13
cdef int IDS_SINCE = 13
cdef int ONE = 2
cdef int NAME_BYTES_MAX = 127


def scan_produce(data, Py_ssize_t start, Py_ssize_t end, Py_ssize_t frame_bytes_max, bytes client, /):
    """See `produce_frame.scan_produce`."""
    cdef Py_buffer source
    cdef Py_ssize_t client_bytes = PyBytes_GET_SIZE(client), stop, key_start
    cdef const uint8_t *bytes_of
    cdef int version, acks
    cdef int64_t size
    cdef uint64_t length
    cdef Cursor at
    PyObject_GetBuffer(data, &source, PyBUF_SIMPLE)
    try:
        if start < 0 or end > source.len or start > end or end - start < CLIENT_START + client_bytes + FIXED_BYTES:
            return None
        bytes_of = <const uint8_t *>source.buf
        size = <int32_t>read_big(bytes_of + start, 4)
        version = <int16_t>read_big(bytes_of + start + 6, 2)
        if read_big(bytes_of + start + 4, 2) != 0 or version < VERSION_MIN or version > VERSION_MAX:
            return None
        if size < 0 or size > frame_bytes_max or size > end - start - SIZE_BYTES:
            return None
        stop = start + SIZE_BYTES + <Py_ssize_t>size
        at.data = bytes_of
        at.end = stop
        at.position = start + CLIENT_START
        if memcmp(bytes_of + at.position, PyBytes_AS_STRING(client), client_bytes) != 0:
            return None
        at.position += client_bytes
        acks = <int16_t>read_big(bytes_of + at.position + 2, 2)
        if bytes_of[at.position] or bytes_of[at.position + 1] or (acks != -1 and acks != 1):
            return None
        timeout_ms = <int32_t>read_big(bytes_of + at.position + 4, 4)
        if bytes_of[at.position + 8] != ONE:
            return None
        at.position += FIXED_BYTES
        if at.position >= stop:
            return None
        key_start = at.position
        if version >= IDS_SINCE:
            at.position += 16
        elif bytes_of[at.position] < 2 or bytes_of[at.position] > NAME_BYTES_MAX:
            return None
        else:
            at.position += bytes_of[at.position]
        if at.position >= stop or bytes_of[at.position] != ONE:
            return None
        at.position += 5
        if at.position >= stop:
            return None
        key = PyBytes_FromStringAndSize(<const char *>bytes_of + key_start, at.position - key_start)
        if not read_number(&at, VARINT_BYTES_MAX, &length) or length < 2:
            return None
        if stop - at.position < TAIL_BYTES or length - 1 != <uint64_t>(stop - TAIL_BYTES - at.position):
            return None
        if bytes_of[stop - 3] or bytes_of[stop - 2] or bytes_of[stop - 1]:
            return None
        return (
            size,
            version,
            <int32_t>read_big(bytes_of + start + 8, 4),
            timeout_ms,
            key,
            at.position,
            stop - TAIL_BYTES,
        )
    finally:
        PyBuffer_Release(&source)


def encode_produced(bytes key, int32_t correlation_id, int64_t base_offset, int64_t log_start_offset, /):
    """See `produce_frame.encode_produced`."""
    cdef Py_ssize_t key_bytes = PyBytes_GET_SIZE(key)
    found = PyBytes_FromStringAndSize(NULL, 45 + key_bytes)
    cdef uint8_t *to = <uint8_t *>PyBytes_AS_STRING(found)
    write_big(to, <uint64_t>(41 + key_bytes), 4)
    write_big(to + 4, <uint32_t>correlation_id, 4)
    to[8] = 0
    to[9] = ONE
    memcpy(to + 10, PyBytes_AS_STRING(key), key_bytes)
    to += 10 + key_bytes
    write_big(to, 0, 2)
    write_big(to + 2, <uint64_t>base_offset, 8)
    write_big(to + 10, <uint64_t>-1, 8)
    write_big(to + 18, <uint64_t>log_start_offset, 8)
    write_big(to + 26, 0x01000000, 4)
    memset(to + 30, 0, 5)
    return found


# Of a Fetch, see `fetch_frame`.
cdef Py_ssize_t CORRELATION_AT = 8
cdef Py_ssize_t CORRELATION_END = 12
cdef Py_ssize_t EPOCH_BYTES = 4


def match_fetch(data, bytes frame, Py_ssize_t epoch_at, /):
    """See `fetch_frame.match_fetch`."""
    cdef Py_buffer source
    cdef Py_ssize_t size = PyBytes_GET_SIZE(frame), epoch_end
    cdef const uint8_t *known = <const uint8_t *>PyBytes_AS_STRING(frame)
    cdef const uint8_t *at
    if epoch_at < CORRELATION_END or epoch_at > size - EPOCH_BYTES:
        return None
    epoch_end = epoch_at + EPOCH_BYTES
    PyObject_GetBuffer(data, &source, PyBUF_SIMPLE)
    try:
        at = <const uint8_t *>source.buf
        if (
            source.len < size
            or memcmp(at, known, CORRELATION_AT)
            or memcmp(at + CORRELATION_END, known + CORRELATION_END, epoch_at - CORRELATION_END)
            or memcmp(at + epoch_end, known + epoch_end, size - epoch_end)
        ):
            return None
        return <int32_t>read_big(at + CORRELATION_AT, 4), <int32_t>read_big(at + epoch_at, 4)
    finally:
        PyBuffer_Release(&source)


# Of the places of batches, see `cached_batches`.
cdef int SIZE_BITS = 27
cdef int POSITION_BITS = 26
cdef uint64_t SIZE_MASK = (<uint64_t>1 << 27) - 1
cdef uint64_t POSITION_MASK = (<uint64_t>1 << 26) - 1


def measure_batches(places, Py_ssize_t start, Py_ssize_t stop, int64_t bytes_max, int64_t total, /):
    """See `cached_batches.measure_batches`."""
    cdef Py_buffer source
    cdef const uint64_t *each
    cdef int64_t size
    PyObject_GetBuffer(places, &source, PyBUF_SIMPLE)
    try:
        if start < 0 or stop > source.len // 8:
            raise ValueError("there are not so many batches")
        each = <const uint64_t *>source.buf
        while start < stop:
            size = <int64_t>(each[start] & SIZE_MASK)
            if total and size > bytes_max - total:
                break
            total += size
            start += 1
    finally:
        PyBuffer_Release(&source)
    return start, total


def gather_batches(places, Py_ssize_t start, Py_ssize_t stop, list arenas, int64_t total, /):
    """See `cached_batches.gather_batches`."""
    cdef Py_buffer source, arena
    cdef const uint64_t *each
    cdef uint64_t number, known = <uint64_t>-1
    cdef Py_ssize_t size, position
    cdef uint8_t *to
    cdef uint8_t *end
    if total < 0:
        raise ValueError("the batches have another size")
    found = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>total)
    to = <uint8_t *>PyBytes_AS_STRING(found)
    end = to + total
    PyObject_GetBuffer(places, &source, PyBUF_SIMPLE)
    try:
        if start < 0 or stop > source.len // 8:
            raise ValueError("there are not so many batches")
        each = <const uint64_t *>source.buf
        while start < stop:
            number = each[start] >> (SIZE_BITS + POSITION_BITS)
            if number != known:
                if known != <uint64_t>-1:
                    PyBuffer_Release(&arena)
                    known = <uint64_t>-1
                if number >= <uint64_t>len(arenas):
                    raise ValueError("there is no such arena")
                PyObject_GetBuffer(arenas[<Py_ssize_t>number], &arena, PyBUF_SIMPLE)
                known = number
            size = <Py_ssize_t>(each[start] & SIZE_MASK)
            position = <Py_ssize_t>((each[start] >> SIZE_BITS) & POSITION_MASK)
            if position > arena.len or size > arena.len - position or size > end - to:
                raise ValueError("a batch lies outside its arena, or the batches have another size")
            memcpy(to, <const uint8_t *>arena.buf + position, size)
            to += size
            start += 1
        if to != end:
            raise ValueError("the batches have another size")
    finally:
        if known != <uint64_t>-1:
            PyBuffer_Release(&arena)
        PyBuffer_Release(&source)
    return found


def find_batch(data, int64_t position, /):
    """See `cached_batches.find_batch`."""
    cdef Py_buffer source
    cdef const uint8_t *at
    cdef int64_t start = 0, size
    PyObject_GetBuffer(data, &source, PyBUF_SIMPLE)
    try:
        at = <const uint8_t *>source.buf
        if position < 0:
            raise ValueError("there is no such byte")
        while source.len - start >= LENGTH_END:
            size = <int64_t><int32_t>read_big(at + start + 8, 4) + LENGTH_END
            if size < LENGTH_END or size > source.len - start:
                break
            if position < start + size:
                return start
            start += size
        raise ValueError("there is no such batch")
    finally:
        PyBuffer_Release(&source)


cdef inline Py_ssize_t length_bytes(uint64_t number) noexcept nogil:
    """Of the varint of a number that is not negative, in its zigzag form."""
    cdef Py_ssize_t found = 1
    number <<= 1
    while number >= 0x80:
        number >>= 7
        found += 1
    return found


cdef inline uint8_t *write_length(uint8_t *to, uint64_t number) noexcept nogil:
    """That varint; where it ends."""
    number <<= 1
    while number >= 0x80:
        to[0] = <uint8_t>(number & 0x7F | 0x80)
        number >>= 7
        to += 1
    to[0] = <uint8_t>number
    return to + 1


cdef Py_ssize_t record_bytes(Py_ssize_t index, bytes key, bytes value):
    """Of a record without headers, its own size not counted."""
    cdef Py_ssize_t key_bytes = PyBytes_GET_SIZE(key), size = 3 + length_bytes(index)
    size += length_bytes(key_bytes) + key_bytes
    if value is None:
        return size + 1
    return size + length_bytes(PyBytes_GET_SIZE(value)) + PyBytes_GET_SIZE(value)


def write_records(list pairs, /):
    """See `written_records.write_records`."""
    cdef Py_ssize_t index, size, total = 0, count = len(pairs)
    cdef tuple pair
    cdef bytes key, value
    cdef uint8_t *to
    # Nobody else gets to run meanwhile, but what is measured is held all the same.
    held = tuple(pairs)
    for index in range(count):
        pair = held[index]
        key, value = pair
        if key is None:
            raise TypeError("a record of the broker has a key")
        size = record_bytes(index, key, value)
        total += length_bytes(size) + size
    found = PyBytes_FromStringAndSize(NULL, total)
    to = <uint8_t *>PyBytes_AS_STRING(found)
    for index in range(count):
        pair = held[index]
        key, value = pair
        to = write_length(to, record_bytes(index, key, value))
        to[0] = to[1] = 0
        to = write_length(to + 2, index)
        to = write_length(to, PyBytes_GET_SIZE(key))
        memcpy(to, PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key))
        to += PyBytes_GET_SIZE(key)
        if value is None:
            to[0] = 1
            to += 1
        else:
            to = write_length(to, PyBytes_GET_SIZE(value))
            memcpy(to, PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value))
            to += PyBytes_GET_SIZE(value)
        to[0] = 0
        to += 1
    return found


# Of a producer, see `partition.producer_state`.
cdef Py_ssize_t ENTRY_BYTES = 19
cdef Py_ssize_t BATCH_BYTES = 24
cdef int BATCHES_MAX = 5
cdef uint32_t SEQUENCE_MASK = 0x7FFFFFFF


def next_producer_entry(
    bytes entry,
    int16_t epoch,
    uint32_t first_sequence,
    uint32_t count,
    int64_t first_offset,
    int64_t append_time_ms,
    int64_t now_ms,
    /,
):
    """See `produced_batch.next_producer_entry`."""
    cdef Py_ssize_t size = PyBytes_GET_SIZE(entry), kept
    cdef const uint8_t *old = <const uint8_t *>PyBytes_AS_STRING(entry)
    cdef uint8_t *new
    cdef int batches
    if size < ENTRY_BYTES + BATCH_BYTES:
        return None
    batches = old[18]
    if batches > BATCHES_MAX or size != ENTRY_BYTES + batches * BATCH_BYTES:
        return None
    if <int16_t>read_big(old + 8, 2) != epoch:
        return None
    if (<uint32_t>read_big(old + size - BATCH_BYTES + 4, 4) + 1) & SEQUENCE_MASK != first_sequence:
        return None
    kept = batches if batches < BATCHES_MAX else BATCHES_MAX - 1
    found = PyBytes_FromStringAndSize(NULL, ENTRY_BYTES + (kept + 1) * BATCH_BYTES)
    new = <uint8_t *>PyBytes_AS_STRING(found)
    memcpy(new, old, 10)
    write_big(new + 10, <uint64_t>now_ms, 8)
    new[18] = <uint8_t>(kept + 1)
    new += ENTRY_BYTES
    memcpy(new, old + size - kept * BATCH_BYTES, kept * BATCH_BYTES)
    new += kept * BATCH_BYTES
    write_big(new, first_sequence, 4)
    write_big(new + 4, (first_sequence + count - 1) & SEQUENCE_MASK, 4)
    write_big(new + 8, <uint64_t>first_offset, 8)
    write_big(new + 16, <uint64_t>append_time_ms, 8)
    return found
