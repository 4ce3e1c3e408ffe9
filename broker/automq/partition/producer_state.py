"""Pure: what a partition knows of its idempotent producers, so that a batch sent twice is stored once.

For each producer id: its epoch and its last five batches. A batch is judged in this order:

1. same epoch, and exactly the sequences of one of the five: a duplicate, answered with the offset it got before;
2. an older epoch: INVALID_PRODUCER_EPOCH;
3. a newer epoch: must begin at sequence 0;
4. the same epoch: must begin where the newest batch ended, 2147483647 being followed by 0;
5. an unknown producer (never seen, or forgotten after `producer.id.expiration.ms`): any sequence is taken. The same
   goes for a known one that may have written records which were lost since. But once a batch of either was refused
   only for want of room, that batch comes first: what was in flight behind it must not overtake it.

Anything else is OUT_OF_ORDER_SEQUENCE_NUMBER. A producer is kept as the bytes that a checkpoint has of it, and replaced
whole: 19 bytes and 24 for each batch. Invariant: an entry's batches are in the order they were appended.

Layout, big-endian: a payload is format u8, count u32, then the producers. A producer: id i64, epoch i16, last written
i64, batch count u8, and each of its batches: first and last sequence i32, first offset i64, append time i64. Format 1
is the whole state; format 2 is a piece of it (`replicated.entries`), in which a batch count of 255 says that the
producer was forgotten.
"""

import struct
from collections import OrderedDict
from collections.abc import Iterator
from typing import Final, NamedTuple

from automq.core import next_producer_entry
from automq.ids import Offset
from automq.protocol.errors import ApiError, ErrorCode
from automq.replicated.entries import Entries

# As many requests as Kafka's producer has in flight at most when it is idempotent.
BATCHES_MAX: Final = 5

# Producers of one partition. Some 400 bytes each; one more takes the place of a silent one.
PRODUCERS_MAX: Final = 100_000
# Of so many that have not been written to a checkpoint for longest, the most silent one has to go.
CANDIDATES: Final = 64
# Producers whose first batch was refused for want of room, and nothing else is known of.
EXPECTED_MAX: Final = 10_000
# Looked at in one turn of the loop when silent ones are forgotten.
EXPIRED_A_TURN: Final = 5_000

SEQUENCE_MASK: Final = 0x7FFF_FFFF
WHOLE_FORMAT: Final = 1
FORMAT: Final = 2
UNKNOWN_SEQUENCE: Final = -1
NO_APPEND_TIME: Final = -1
_FORGOTTEN: Final = 255

_COUNT = struct.Struct(">BI")
_ENTRY = struct.Struct(">qhqB")
_BATCH = struct.Struct(">iiqq")
_BATCHES_BYTES: Final = BATCHES_MAX * _BATCH.size


class AppendedBatch(NamedTuple):
    """One of a producer's last batches."""

    first_sequence: int
    last_sequence: int
    first_offset: Offset
    append_time_ms: int
    """-1 unless the topic's records have the broker's time."""


class ProducerEntry(NamedTuple):
    """One producer, for whoever wants to look."""

    producer_id: int
    epoch: int
    last_ms: int
    """When it last wrote, by the broker's clock."""
    batches: tuple[AppendedBatch, ...]


class _Expected(NamedTuple):
    """In memory only: a new owner has none of the batches that were in flight to this one."""

    epoch: int
    first_sequence: int
    last_ms: int


class ProducerState:
    """All producers of one partition."""

    __slots__ = ("_expected", "_lost_since", "entries")

    def __init__(self) -> None:
        self.entries: Entries[int] = Entries(_forgotten)
        """By producer id."""
        self._expected: OrderedDict[int, _Expected] = OrderedDict()
        self._lost_since: Offset | None = None

    def __len__(self) -> int:
        return len(self.entries)

    def get(self, producer_id: int) -> ProducerEntry | None:
        """What is known of one producer."""
        entry = self.entries.get(producer_id)
        return None if entry is None else _decode_entry(entry)

    def continued(
        self, producer_id: int, epoch: int, first_sequence: int, count: int, *, first_offset: Offset, now_ms: int
    ) -> bytes | None:
        """The producer's entry with this batch more, to be `put` once it is appended; None: `check` it, and `record`.

        Of a producer that goes on where its newest batch ended, while nothing was lost. The batch has no append time.
        """
        entry = self.entries.get(producer_id)
        if entry is None or self._lost_since is not None:
            return None
        return next_producer_entry(entry, epoch, first_sequence, count, first_offset, NO_APPEND_TIME, now_ms)

    def put(self, producer_id: int, entry: bytes, *, batch_bytes: int) -> None:
        """A batch of so many bytes was appended, and made this of its producer's entry."""
        if self._expected:
            self._expected.pop(producer_id, None)
        self.entries.set(producer_id, entry)
        self.entries.earn(batch_bytes)

    def check(self, producer_id: int, epoch: int, first_sequence: int, count: int) -> AppendedBatch | None:
        """None: append it, then `record` it. A batch: it is there already, under that offset. Raises ApiError."""
        entry = self.entries.get(producer_id)
        if entry is None:
            expected = self._expected.get(producer_id) if self._expected else None
            if expected is not None:
                self._check_first(producer_id, epoch, first_sequence, expected)
            return None
        _, known_epoch, _, _ = _ENTRY.unpack_from(entry)
        if epoch == known_epoch:
            next_sequence = self._next_sequence(producer_id, epoch, entry)
            if first_sequence == next_sequence:
                return None
            duplicate = _find_duplicate(entry, first_sequence, count)
            if duplicate is None and next_sequence != UNKNOWN_SEQUENCE:
                raise _out_of_order(producer_id, first_sequence, next_sequence)
            return duplicate
        _check_epoch(producer_id, epoch, known_epoch, first_sequence)
        return None

    def _check_first(self, producer_id: int, epoch: int, first_sequence: int, expected: _Expected) -> None:
        if epoch != expected.epoch:
            _check_epoch(producer_id, epoch, expected.epoch, first_sequence)
        elif first_sequence != expected.first_sequence:
            raise _out_of_order(producer_id, first_sequence, expected.first_sequence)

    def _next_sequence(self, producer_id: int, epoch: int, entry: bytes) -> int:
        _, last_sequence, first_offset, _ = _BATCH.unpack_from(entry, len(entry) - _BATCH.size)
        if self._lost_since is None or first_offset >= self._lost_since:
            return (int(last_sequence) + 1) & SEQUENCE_MASK
        expected = self._expected.get(producer_id)
        return UNKNOWN_SEQUENCE if expected is None or expected.epoch != epoch else expected.first_sequence

    def expect(self, producer_id: int, epoch: int, first_sequence: int, now_ms: int) -> None:
        """A batch that `check` let pass was refused for want of room: what may have any sequence begins with it."""
        entry = self.entries.get(producer_id)
        if entry is None:
            is_open = producer_id not in self._expected
        else:
            is_open = self._next_sequence(producer_id, epoch, entry) == UNKNOWN_SEQUENCE
            is_open = is_open and epoch == _ENTRY.unpack_from(entry)[1]
        if is_open:
            self._expected[producer_id] = _Expected(epoch, first_sequence, now_ms)
            if len(self._expected) > EXPECTED_MAX:
                self._expected.popitem(last=False)

    def forget_sequences(self, since: Offset) -> None:
        """Records from `since` on were lost: who wrote nothing known above it may have any sequence by now.

        What it wrote before is a duplicate still.
        """
        self._lost_since = since

    def record(
        self,
        producer_id: int,
        epoch: int,
        first_sequence: int,
        count: int,
        *,
        first_offset: Offset,
        append_time_ms: int,
        now_ms: int,
        batch_bytes: int = 0,
    ) -> None:
        """A batch of so many bytes was appended, or was found in the log when the partition was opened."""
        entries = self.entries
        entry = entries.get(producer_id)
        before = b""
        if entry is None:
            if len(entries) >= PRODUCERS_MAX:
                self._forget_silent()
        elif epoch == _ENTRY.unpack_from(entry)[1]:
            before = entry[_ENTRY.size :]
            if len(before) == _BATCHES_BYTES:
                before = before[_BATCH.size :]
        if self._expected:
            self._expected.pop(producer_id, None)
        batch = _BATCH.pack(first_sequence, last_sequence_of(first_sequence, count), first_offset, append_time_ms)
        head = _ENTRY.pack(producer_id, epoch, now_ms, len(before) // _BATCH.size + 1)
        entries.set(producer_id, b"".join((head, before, batch)))
        entries.earn(batch_bytes)

    def _forget_silent(self) -> None:
        """The limit holds at once: who has written nothing for longest makes room, as far as a short look tells."""
        candidates = list(self.entries.oldest(CANDIDATES))
        self.entries.delete(min(candidates, key=self._last_ms))

    def _last_ms(self, producer_id: int) -> int:
        entry = self.entries.get(producer_id)
        assert entry is not None
        return int(_ENTRY.unpack_from(entry)[2])

    def expire(self, now_ms: int, expiration_ms: int) -> Iterator[None]:
        """Forget who wrote nothing for `expiration_ms`, some thousands looked at each time it is asked for more.

        Others may change the state meanwhile.
        """
        for producer_id in [key for key, value in self._expected.items() if now_ms - value.last_ms >= expiration_ms]:
            del self._expected[producer_id]
        keys = self.entries.all_keys()
        for first in range(0, len(keys), EXPIRED_A_TURN):
            if first:
                yield
            for producer_id in keys[first : first + EXPIRED_A_TURN]:
                entry = self.entries.get(producer_id)
                if entry is not None and now_ms - _ENTRY.unpack_from(entry)[2] >= expiration_ms:
                    self.entries.delete(producer_id)

    def restore(self, payload: bytes | memoryview, *, number: int | None) -> Iterator[None]:
        """Read a payload, some entries each time it is asked for more: that of piece `number`.

        With None what is read counts as changed: the next piece has all of it. Raises struct.error when it is no
        payload, ValueError when it is one of a newer program.
        """
        version, count = _COUNT.unpack_from(payload)
        if version not in (WHOLE_FORMAT, FORMAT):
            raise ValueError(f"producer state has format {version}, this program reads up to {FORMAT}: upgrade it")
        entries = self.entries
        position = _COUNT.size
        for done in range(1, count + 1):
            producer_id, _, _, batches = _ENTRY.unpack_from(payload, position)
            end = position + _ENTRY.size
            if batches == _FORGOTTEN:
                entry = None
            else:
                end += batches * _BATCH.size
                entry = bytes(payload[position:end])
                if batches > BATCHES_MAX or len(entry) < end - position:
                    raise struct.error(f"producer {producer_id} with {batches} batches in {len(entry)} bytes")
            if number is not None:
                entries.restore(producer_id, entry)
            elif entry is not None:
                entries.set(producer_id, entry)
            else:
                entries.delete(producer_id)
            position = end
            if not done % EXPIRED_A_TURN:
                yield
        if position != len(payload):
            raise struct.error(f"{len(payload) - position} bytes behind the producers")
        if number is not None:
            entries.restored(number)
        while len(entries) > PRODUCERS_MAX:
            self._forget_silent()

    def __iter__(self) -> Iterator[ProducerEntry]:
        """Those that there are now and still are when they come up."""
        for producer_id in self.entries.all_keys():
            entry = self.entries.get(producer_id)
            if entry is not None:
                yield _decode_entry(entry)


def payload_head(count: int) -> bytes:
    """What a payload of so many entries begins with."""
    return _COUNT.pack(FORMAT, count)


def last_sequence_of(first_sequence: int, count: int) -> int:
    """The sequence of the last of `count` records."""
    return (first_sequence + count - 1) & SEQUENCE_MASK


def _forgotten(producer_id: int) -> bytes:
    return _ENTRY.pack(producer_id, 0, 0, _FORGOTTEN)


def _decode_entry(entry: bytes) -> ProducerEntry:
    producer_id, epoch, last_ms, _ = _ENTRY.unpack_from(entry)
    batches = tuple(AppendedBatch(*fields) for fields in _BATCH.iter_unpack(memoryview(entry)[_ENTRY.size :]))
    return ProducerEntry(producer_id, epoch, last_ms, batches)


def _find_duplicate(entry: bytes, first_sequence: int, count: int) -> AppendedBatch | None:
    last_sequence = last_sequence_of(first_sequence, count)
    for fields in _BATCH.iter_unpack(memoryview(entry)[_ENTRY.size :]):
        if fields[0] == first_sequence and fields[1] == last_sequence:
            return AppendedBatch(*fields)
    return None


def _check_epoch(producer_id: int, epoch: int, known_epoch: int, first_sequence: int) -> None:
    if epoch < known_epoch:
        raise ApiError(
            ErrorCode.INVALID_PRODUCER_EPOCH, f"producer {producer_id} has epoch {known_epoch} by now, not {epoch}"
        )
    if first_sequence != 0:
        raise ApiError(
            ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER,
            f"producer {producer_id} begins epoch {epoch} at sequence {first_sequence} instead of 0",
        )


def _out_of_order(producer_id: int, first_sequence: int, expected: int) -> ApiError:
    return ApiError(
        ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER,
        f"producer {producer_id} sent sequence {first_sequence}, expected was {expected}",
    )
