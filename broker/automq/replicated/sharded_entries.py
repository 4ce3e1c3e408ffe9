"""Pure: `Entries` for states of millions of keys, in shards: a dictionary of a million keys that grows keeps the loop
for a tenth of a second, and so does one that is freed.

A key's shard follows from its bytes alone, so that the same changes give the same pieces in every process.
"""

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from automq.replicated.entries import BYTES_A_RECORD_BYTE, CARRY_BYTES, Capture, Entries

SHARDS: Final = 64


@dataclass(frozen=True, slots=True)
class ShardedCapture:
    """What one piece is to hold of all shards."""

    shards: list[Capture]

    def __len__(self) -> int:
        return sum(map(len, self.shards))

    def entries(self) -> Iterator[bytes]:
        """All of them, in the order in which they are to be read."""
        for shard in self.shards:
            yield from shard.entries()

    def release(self) -> Iterator[None]:
        """Free what is held, some of it each time it is asked for more."""
        for shard in self.shards:
            yield from shard.release()


class ShardedEntries:
    """As `Entries`, with keys of bytes."""

    __slots__ = ("_next", "_shards", "credit")

    def __init__(self, tombstone: Callable[[bytes], bytes]) -> None:
        self._shards: list[Entries[bytes]] = [Entries(tombstone) for _ in range(SHARDS)]
        self._next = 0
        """Whose turn it is to carry an entry along."""
        self.credit = 0

    def __len__(self) -> int:
        return sum(map(len, self._shards))

    def _of(self, key: bytes) -> Entries[bytes]:
        return self._shards[zlib.crc32(key) % SHARDS]

    def get(self, key: bytes) -> bytes | None:
        """One entry."""
        return self._of(key).get(key)

    def values(self) -> Iterator[bytes]:
        """All entries."""
        for shard in self._shards:
            yield from shard.values()

    @property
    def size(self) -> int:
        """Bytes of all entries."""
        return sum(shard.size for shard in self._shards)

    @property
    def pending_bytes(self) -> int:
        """Of the piece that would be captured now."""
        return sum(shard.pending_bytes for shard in self._shards)

    def set(self, key: bytes, entry: bytes) -> None:
        """The key has a new entry."""
        self._of(key).set(key, entry)

    def delete(self, key: bytes) -> None:
        """The key is gone; nothing if it never was."""
        self._of(key).delete(key)

    def earn(self, record_bytes: int) -> None:
        """See `Entries.earn`."""
        self.credit += record_bytes * BYTES_A_RECORD_BYTE
        self.carry(1 + record_bytes // CARRY_BYTES, bytes_max=self.credit - self.pending_bytes)

    def carry(self, count: int, *, bytes_max: int | None = None) -> bool:
        """Carry up to `count` entries along, one of a shard after the other; whether more are left."""
        exhausted = 0
        while exhausted < SHARDS:
            shard = self._shards[self._next]
            if count <= 0:
                return True
            before = shard.pending_bytes
            is_more = shard.carry(1, bytes_max=bytes_max)
            carried = shard.pending_bytes - before
            if carried:
                count, exhausted = count - 1, 0
                if bytes_max is not None:
                    bytes_max -= carried
            elif is_more:
                # There is no room for it.
                return True
            else:
                exhausted += 1
            self._next = (self._next + 1) % SHARDS
        return False

    def capture(self, number: int) -> ShardedCapture:
        """The piece of that number, higher than any before: what is pending. Between two turns of the loop."""
        self.credit = max(0, self.credit - self.pending_bytes)
        return ShardedCapture([shard.capture(number) for shard in self._shards])

    def oldest_piece(self, number: int) -> int:
        """The piece that the longest unwritten entry is in, when `number` is that of the next one."""
        return min(shard.oldest_piece(number) for shard in self._shards)

    def restore(self, key: bytes, entry: bytes | None) -> None:
        """Of a piece that is read, in its order; None where the key is gone."""
        self._of(key).restore(key, entry)

    def restored(self, number: int) -> None:
        """All of the piece of that number was read."""
        for shard in self._shards:
            shard.restored(number)
