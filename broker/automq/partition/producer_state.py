"""Pure: what a partition knows of its idempotent producers, so that a batch sent twice is stored once.

For each producer id: its epoch and its last five batches. A batch is judged in this order:

1. same epoch, and exactly the sequences of one of the five: a duplicate, answered with the offset it got before;
2. an older epoch: INVALID_PRODUCER_EPOCH;
3. a newer epoch: must begin at sequence 0;
4. the same epoch: must begin where the newest batch ended, 2147483647 being followed by 0;
5. an unknown producer (never seen, or forgotten after `producer.id.expiration.ms`): any sequence is taken. The same
   goes for a known one that may have written records which were lost since. But once a batch of either was refused
   only for want of room, that batch comes first: what was in flight behind it must not overtake it.

Anything else is OUT_OF_ORDER_SEQUENCE_NUMBER. Invariant: an entry's batches are in the order they were appended.
"""

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from automq.ids import Offset
from automq.protocol.errors import ApiError, ErrorCode

# As many requests as Kafka's producer has in flight at most when it is idempotent.
BATCHES_MAX: Final = 5

# Producers of one partition. Some 300 bytes each; those that were silent for longest are forgotten beyond it.
PRODUCERS_MAX: Final = 100_000

SEQUENCE_MASK: Final = 0x7FFF_FFFF
FORMAT: Final = 1
UNKNOWN_SEQUENCE: Final = -1
"""In memory only: a lost range is found anew whenever a partition is opened."""

_COUNT = struct.Struct(">BI")
_ENTRY = struct.Struct(">qhqB")
_BATCH = struct.Struct(">iiqq")


class AppendedBatch(NamedTuple):
    """One of a producer's last batches."""

    first_sequence: int
    last_sequence: int
    first_offset: Offset
    append_time_ms: int
    """-1 unless the topic's records have the broker's time."""


class ProducerEntry:
    """One producer. Not frozen: it changes with every batch."""

    __slots__ = ("batches", "epoch", "last_ms", "next_sequence")

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.batches: list[AppendedBatch] = []
        self.next_sequence = 0
        self.last_ms = 0
        """When it last wrote, by the broker's clock."""


class ProducerState:
    """All producers of one partition."""

    __slots__ = ("_entries",)

    def __init__(self) -> None:
        self._entries: dict[int, ProducerEntry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, producer_id: int) -> ProducerEntry | None:
        """What is known of one producer."""
        return self._entries.get(producer_id)

    def check(self, producer_id: int, epoch: int, first_sequence: int, count: int) -> AppendedBatch | None:
        """None: append it, then `record` it. A batch: it is there already, under that offset. Raises ApiError."""
        entry = self._entries.get(producer_id)
        if entry is None:
            return None
        if epoch == entry.epoch:
            if first_sequence == entry.next_sequence:
                return None
            duplicate = self._find_duplicate(entry, first_sequence, count)
            if duplicate is None and entry.next_sequence != UNKNOWN_SEQUENCE:
                raise ApiError(
                    ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER,
                    f"producer {producer_id} sent sequence {first_sequence}, expected was {entry.next_sequence}",
                )
            return duplicate
        if epoch < entry.epoch:
            raise ApiError(
                ErrorCode.INVALID_PRODUCER_EPOCH, f"producer {producer_id} has epoch {entry.epoch} by now, not {epoch}"
            )
        if first_sequence != 0:
            raise ApiError(
                ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER,
                f"producer {producer_id} begins epoch {epoch} at sequence {first_sequence} instead of 0",
            )
        return None

    def expect(self, producer_id: int, epoch: int, first_sequence: int, now_ms: int) -> None:
        """A batch that `check` let pass was refused for want of room: what may have any sequence begins with it.

        In memory only: a new owner has none of the batches that were in flight to this one.
        """
        entry = self._entries.get(producer_id)
        if entry is None:
            entry = self._entries[producer_id] = ProducerEntry(epoch)
            entry.next_sequence = UNKNOWN_SEQUENCE
            entry.last_ms = now_ms
        if epoch == entry.epoch and entry.next_sequence == UNKNOWN_SEQUENCE:
            entry.next_sequence = first_sequence

    def forget_sequences(self, since: Offset) -> None:
        """Records from `since` on were lost: who wrote nothing known above it may have any sequence by now.

        What it wrote before is a duplicate still.
        """
        for entry in self._entries.values():
            if entry.batches and entry.batches[-1].first_offset < since:
                entry.next_sequence = UNKNOWN_SEQUENCE

    def _find_duplicate(self, entry: ProducerEntry, first_sequence: int, count: int) -> AppendedBatch | None:
        last_sequence = last_sequence_of(first_sequence, count)
        for batch in entry.batches:
            if batch.first_sequence == first_sequence and batch.last_sequence == last_sequence:
                return batch
        return None

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
    ) -> None:
        """A batch was appended, or was found in the log when the partition was opened."""
        entry = self._entries.get(producer_id)
        if entry is None:
            entry = self._entries[producer_id] = ProducerEntry(epoch)
        elif entry.epoch != epoch:
            entry.epoch = epoch
            entry.batches.clear()
        last_sequence = (first_sequence + count - 1) & SEQUENCE_MASK
        batches = entry.batches
        if len(batches) == BATCHES_MAX:
            del batches[0]
        batches.append(AppendedBatch(first_sequence, last_sequence, first_offset, append_time_ms))
        entry.next_sequence = (last_sequence + 1) & SEQUENCE_MASK
        entry.last_ms = now_ms

    def expire(self, now_ms: int, expiration_ms: int) -> int:
        """Forget who wrote nothing for `expiration_ms`, and the most silent of too many; returns how many."""
        before = len(self._entries)
        self._entries = {
            producer_id: entry for producer_id, entry in self._entries.items() if now_ms - entry.last_ms < expiration_ms
        }
        if len(self._entries) > PRODUCERS_MAX:
            by_silence = sorted(self._entries.items(), key=lambda item: item[1].last_ms)
            self._entries = dict(by_silence[-PRODUCERS_MAX:])
        return before - len(self._entries)

    def encode(self) -> bytes:
        """For the checkpoint: format u8, count u32, then the producers.

        A producer: id i64, epoch i16, last written i64, batch count u8, and each of its batches: first and last
        sequence i32, first offset i64, append time i64. Who has written nothing yet is left out.
        """
        written = [(producer_id, entry) for producer_id, entry in self._entries.items() if entry.batches]
        parts = [_COUNT.pack(FORMAT, len(written))]
        for producer_id, entry in written:
            parts.append(_ENTRY.pack(producer_id, entry.epoch, entry.last_ms, len(entry.batches)))
            parts.extend(_BATCH.pack(*batch) for batch in entry.batches)
        return b"".join(parts)

    @classmethod
    def decode(cls, data: bytes) -> "ProducerState":
        """What `encode` wrote. Raises ValueError or struct.error when it is something else."""
        state = cls()
        version, count = _COUNT.unpack_from(data)
        if version != FORMAT:
            raise ValueError(f"producer state has format {version}, this program reads {FORMAT}: upgrade it")
        position = _COUNT.size
        for _ in range(count):
            producer_id, epoch, last_ms, batch_count = _ENTRY.unpack_from(data, position)
            position += _ENTRY.size
            entry = state._entries[producer_id] = ProducerEntry(epoch)
            entry.last_ms = last_ms
            for _ in range(batch_count):
                entry.batches.append(AppendedBatch(*_BATCH.unpack_from(data, position)))
                position += _BATCH.size
            if entry.batches:
                entry.next_sequence = (entry.batches[-1].last_sequence + 1) & SEQUENCE_MASK
        return state

    def __iter__(self) -> Iterator[tuple[int, ProducerEntry]]:
        return iter(self._entries.items())


def last_sequence_of(first_sequence: int, count: int) -> int:
    """The sequence of the last of `count` records."""
    return (first_sequence + count - 1) & SEQUENCE_MASK
