"""Pure: the format of a partition's checkpoint, what a new owner needs beside the records.

    version u8 | section count u16 | sections | CRC-32C u32 of everything before
    section: name length u8, name (ASCII), offset i64, payload length u32, payload

A section describes the state at its own offset: that of the checkpoint for whatever is kept up to date here, an earlier
one for a section that nobody here could renew and that is therefore handed on as it was. Each payload has a version of
its own.
"""

import struct
from collections.abc import Mapping
from typing import Final, NamedTuple

from crc32c import crc32c

from automq.ids import Offset

FORMAT: Final = 1
PRODUCERS: Final = "producers"
LEADER_EPOCHS: Final = "leader-epochs"

_HEAD = struct.Struct(">BH")
_SECTION = struct.Struct(">qI")
_CRC = struct.Struct(">I")


class CheckpointCorrupt(Exception):
    """Bytes that are no checkpoint."""


class CheckpointTooNew(Exception):
    """A checkpoint that a newer program wrote: going on without it would lose what only that program knows."""


class Section(NamedTuple):
    """What one part of the partition knew of the records below `offset`."""

    offset: Offset
    payload: bytes


def encode(sections: Mapping[str, Section]) -> bytes:
    """The bytes of a checkpoint."""
    parts = [_HEAD.pack(FORMAT, len(sections))]
    for name, (offset, payload) in sections.items():
        encoded = name.encode("ascii")
        parts += [bytes([len(encoded)]), encoded, _SECTION.pack(offset, len(payload)), payload]
    body = b"".join(parts)
    return body + _CRC.pack(crc32c(body))


def decode(data: bytes) -> dict[str, Section]:
    """The sections by name. Raises CheckpointCorrupt, CheckpointTooNew."""
    if len(data) < _HEAD.size + _CRC.size:
        raise CheckpointCorrupt(f"a checkpoint of {len(data)} bytes is too short")
    version, count = _HEAD.unpack_from(data)
    end = len(data) - _CRC.size
    if crc32c(memoryview(data)[:end]) != _CRC.unpack_from(data, end)[0]:
        raise CheckpointCorrupt("a checkpoint's checksum does not match its bytes")
    if version != FORMAT:
        raise CheckpointTooNew(f"a checkpoint has format {version}, this program reads {FORMAT}: upgrade it")
    sections: dict[str, Section] = {}
    position = _HEAD.size
    for _ in range(count):
        name_end = position + 1 + data[position]
        offset, length = _SECTION.unpack_from(data, name_end)
        payload_from = name_end + _SECTION.size
        payload_end = payload_from + length
        name = data[position + 1 : name_end].decode("ascii")
        sections[name] = Section(Offset(offset), data[payload_from:payload_end])
        position = payload_end
    if position != end:
        raise CheckpointCorrupt(f"{end - position} bytes behind a checkpoint's sections")
    return sections
