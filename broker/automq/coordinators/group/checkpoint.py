"""Pure: a shard's checkpoint: the compacted records of its partition up to one offset.

Layout, big-endian: format u8 = 1, count u32, then `count` entries, each key size u32, key, value size u32, value; keys
are distinct, key and value are a record's bytes in the log. Kinds of records that this program does not understand are
kept like any other.
"""

import struct
from collections.abc import Iterator
from typing import Final

from automq.binary import MalformedBytes, Reader

CHECKPOINT_FORMAT: Final = 1
_HEADER: Final = struct.Struct(">BI")
_SIZE: Final = struct.Struct(">I")


class CheckpointUnreadable(Exception):
    """The bytes are not a checkpoint this program understands; says why."""


class CompactedLog:
    """The newest value of every key, ready to be written: capturing it costs one copy."""

    def __init__(self) -> None:
        self._entries: dict[bytes, bytes] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def apply(self, key: bytes, value: bytes | None) -> None:
        """Set, or with no value delete."""
        if value is None:
            self._entries.pop(key, None)
        else:
            self._entries[key] = _SIZE.pack(len(key)) + key + _SIZE.pack(len(value)) + value

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """Keys and values, in the order of first being set."""
        for key, entry in self._entries.items():
            yield key, entry[len(key) + 2 * _SIZE.size :]

    def capture(self) -> bytes:
        """The checkpoint."""
        return b"".join([_HEADER.pack(CHECKPOINT_FORMAT, len(self._entries)), *self._entries.values()])

    @classmethod
    def restore(cls, checkpoint: bytes) -> "CompactedLog":
        """Raises CheckpointUnreadable."""
        compacted = cls()
        reader = Reader(checkpoint)
        try:
            version = reader.uint8()
            if version != CHECKPOINT_FORMAT:
                raise CheckpointUnreadable(f"a group checkpoint has format {version}: this program reads only 1")
            for _ in range(reader.uint32()):
                key = bytes(reader.take(reader.uint32()))
                compacted.apply(key, bytes(reader.take(reader.uint32())))
            reader.finish()
        except MalformedBytes as error:
            raise CheckpointUnreadable(f"a group checkpoint is damaged: {error}") from error
        return compacted
