"""Pure: a shard's checkpoint: the compacted records of its partition up to one offset.

Layout, big-endian: format u8, count u32, then `count` entries, each key size u32, key, value size u32, value; key and
value are a record's bytes in the log. Format 1 is the whole state, its keys distinct. Format 2 is a piece of it
(`replicated.entries`): a later entry of a key takes the place of an earlier one, and a value size of 2**32 - 1 without
a value says that the key is gone. Kinds of records that this program does not understand are kept like any other.
"""

import functools
import struct
from collections.abc import Iterator
from typing import Final

from automq.replicated.sharded_entries import ShardedEntries

WHOLE_FORMAT: Final = 1
CHECKPOINT_FORMAT: Final = 2
_HEADER: Final = struct.Struct(">BI")
_SIZE: Final = struct.Struct(">I")
_GONE: Final = 0xFFFF_FFFF
# Read in one turn of the loop.
ENTRIES_A_TURN: Final = 2_000


class CheckpointUnreadable(Exception):
    """The bytes are not a checkpoint this program understands; says why."""


class CompactedLog:
    """The newest value of every key, kept as a checkpoint has it."""

    def __init__(self) -> None:
        self.entries = ShardedEntries(_gone)
        """By key."""

    def __len__(self) -> int:
        return len(self.entries)

    def apply(self, key: bytes, value: bytes | None) -> None:
        """Set, or with no value delete."""
        if value is None:
            self.entries.delete(key)
        else:
            self.entries.set(key, encode_entry(key, value))

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """Keys and values, in no order that means anything."""
        return map(decode_entry, self.entries.values())

    def restore(self, payload: bytes | memoryview, *, number: int | None) -> Iterator[None]:
        """Read a payload, some entries each time it is asked for more: that of piece `number`.

        With None what is read counts as changed: the next piece has all of it. Raises CheckpointUnreadable.
        """
        view = memoryview(payload)
        try:
            version, count = _HEADER.unpack_from(view)
            if version not in (WHOLE_FORMAT, CHECKPOINT_FORMAT):
                raise CheckpointUnreadable(
                    f"a group checkpoint has format {version}: this program reads up to {CHECKPOINT_FORMAT}"
                )
            position, size = _HEADER.size, _SIZE.size
            for done in range(1, count + 1):
                key_start = position + size
                value_at = key_start + _SIZE.unpack_from(view, position)[0]
                (value_size,) = _SIZE.unpack_from(view, value_at)
                key = bytes(view[key_start:value_at])
                end = value_at + size
                entry = None
                if value_size != _GONE:
                    end += value_size
                    entry = bytes(view[position:end])
                if end > len(view):
                    raise CheckpointUnreadable("a group checkpoint is damaged: it is cut short")
                if number is not None:
                    self.entries.restore(key, entry)
                elif entry is None:
                    self.entries.delete(key)
                else:
                    self.entries.set(key, entry)
                position = end
                if not done % ENTRIES_A_TURN:
                    yield
        except struct.error as error:
            raise CheckpointUnreadable(f"a group checkpoint is damaged: {error}") from error
        if position != len(view):
            raise CheckpointUnreadable(f"a group checkpoint is damaged: {len(view) - position} bytes behind it")
        if number is not None:
            self.entries.restored(number)


def encode_entry(key: bytes, value: bytes) -> bytes:
    """One key and its value."""
    return _entry_of(len(key), len(value)).pack(len(key), key, len(value), value)


@functools.lru_cache(maxsize=256)
def _entry_of(key_bytes: int, value_bytes: int) -> struct.Struct:
    """Most keys and values have one of few sizes."""
    return struct.Struct(f">I{key_bytes}sI{value_bytes}s")


def decode_entry(entry: bytes) -> tuple[bytes, bytes]:
    """The inverse."""
    value_at = _SIZE.size + _SIZE.unpack_from(entry)[0]
    return entry[_SIZE.size : value_at], entry[value_at + _SIZE.size :]


def payload_head(count: int) -> bytes:
    """What a payload of so many entries begins with."""
    return _HEADER.pack(CHECKPOINT_FORMAT, count)


def _gone(key: bytes) -> bytes:
    return b"".join((_SIZE.pack(len(key)), key, _SIZE.pack(_GONE)))
