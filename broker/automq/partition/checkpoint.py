"""Pure: the format of a partition's checkpoint, what a new owner needs beside the records.

    version u8 | pieces u16 | section count u16 | sections | CRC-32C u32 of everything before
    section: name length u8, name (ASCII), offset i64, payload length u32, payload

A checkpoint is written in pieces (`replicated.entries`): `pieces` says how many of the newest, this one included, are a
whole checkpoint when their sections are read in order. A name may come several times in a piece; it is read in order as
well. Version 1 had no `pieces`, and each was a whole checkpoint.

A section describes the state at its own offset: that of the checkpoint for whatever is kept up to date here, an earlier
one for a section that nobody here could renew and that is therefore handed on as it was. Each payload has a version of
its own.
"""

import struct
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from crc32c import crc32c

from automq.ids import Offset

WHOLE_FORMAT: Final = 1
FORMAT: Final = 2
PRODUCERS: Final = "producers"
LEADER_EPOCHS: Final = "leader-epochs"

# Joined and summed in one turn of the loop: a fraction of a millisecond.
CHUNK_BYTES: Final = 256 * 1024
CHUNK_ENTRIES: Final = 2_000

_HEAD = struct.Struct(">BHH")
_WHOLE_HEAD = struct.Struct(">BH")
_SECTION = struct.Struct(">qI")
_CRC = struct.Struct(">I")
_OWN_SECTIONS: Final = _HEAD.pack(FORMAT, 1, 2)
_PRODUCERS_NAME: Final = bytes([len(PRODUCERS)]) + PRODUCERS.encode("ascii")
_LEADER_EPOCHS_NAME: Final = bytes([len(LEADER_EPOCHS)]) + LEADER_EPOCHS.encode("ascii")


class CheckpointCorrupt(Exception):
    """Bytes that are no checkpoint."""


class CheckpointTooNew(Exception):
    """A checkpoint that a newer program wrote: going on without it would lose what only that program knows."""


class Section(NamedTuple):
    """What one part of the partition knew of the records below `offset`."""

    offset: Offset
    payload: bytes | memoryview


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece that was read."""

    pieces: int
    sections: Sequence[tuple[str, Section]]


class CapturedEntries(Protocol):
    """What a section is to have; does not change."""

    def __len__(self) -> int:
        """How many."""
        ...

    def entries(self) -> Iterable[bytes]:
        """Each of them, in order."""
        ...

    def release(self) -> Iterator[None]:
        """Free what is held, some of it each time it is asked for more."""
        ...


@dataclass(frozen=True, slots=True)
class CapturedSection:
    """A section to be written; its payload is `head` of the number of entries, and the entries."""

    name: str
    offset: Offset
    captured: CapturedEntries
    head: Callable[[int], bytes]


@dataclass(frozen=True, slots=True)
class _Whole:
    payload: bytes

    def __len__(self) -> int:
        return 1

    def entries(self) -> Iterable[bytes]:
        return (self.payload,)

    def release(self) -> Iterator[None]:
        return iter(())


def encode(pieces: int, sections: Sequence[CapturedSection]) -> Generator[None, None, list[bytes]]:
    """The bytes of a piece, in buffers, some at a time: what was captured does not change meanwhile."""
    buffers = [_HEAD.pack(FORMAT, pieces, len(sections))]
    for section in sections:
        payload = [section.head(len(section.captured))]
        yield from _join(section.captured.entries(), payload)
        name = section.name.encode("ascii")
        length = sum(map(len, payload))
        buffers.append(bytes([len(name)]) + name + _SECTION.pack(section.offset, length))
        buffers += payload
    crc = 0
    for buffer in buffers:
        crc = crc32c(buffer, crc)
        if len(buffer) >= CHUNK_BYTES // 2:
            yield
    buffers.append(_CRC.pack(crc))
    return buffers


def encode_small(offset: Offset, *, producers: bytes, leader_epochs: bytes) -> bytes:
    """A piece that is a whole checkpoint, of the partition's own sections alone, at one go."""
    data = b"".join(
        (
            _OWN_SECTIONS,
            _PRODUCERS_NAME,
            _SECTION.pack(offset, len(producers)),
            producers,
            _LEADER_EPOCHS_NAME,
            _SECTION.pack(offset, len(leader_epochs)),
            leader_epochs,
        )
    )
    return data + _CRC.pack(crc32c(data))


def whole_section(name: str, section: Section) -> CapturedSection:
    """A section whose payload is there already."""
    payload = bytes(section.payload)
    return CapturedSection(name, section.offset, _Whole(payload), _no_head)


def _no_head(count: int) -> bytes:
    return b""


def _join(entries: Iterable[bytes], into: list[bytes]) -> Generator[None, None, None]:
    chunk: list[bytes] = []
    size = 0
    for entry in entries:
        chunk.append(entry)
        size += len(entry)
        if size >= CHUNK_BYTES or len(chunk) >= CHUNK_ENTRIES:
            into.append(b"".join(chunk))
            chunk, size = [], 0
            yield
    into.append(b"".join(chunk))


def decode(data: bytes | memoryview) -> Piece:
    """A piece. Raises CheckpointCorrupt, CheckpointTooNew."""
    view = memoryview(data)
    if len(view) < _WHOLE_HEAD.size + _CRC.size:
        raise CheckpointCorrupt(f"a checkpoint of {len(view)} bytes is too short")
    end = len(view) - _CRC.size
    if crc32c(view[:end]) != _CRC.unpack_from(view, end)[0]:
        raise CheckpointCorrupt("a checkpoint's checksum does not match its bytes")
    version, pieces = view[0], 1
    if version == WHOLE_FORMAT:
        _, count = _WHOLE_HEAD.unpack_from(view)
        position = _WHOLE_HEAD.size
    elif version == FORMAT:
        _, pieces, count = _HEAD.unpack_from(view)
        position = _HEAD.size
    else:
        raise CheckpointTooNew(f"a checkpoint has format {version}, this program reads up to {FORMAT}: upgrade it")
    sections: list[tuple[str, Section]] = []
    for _ in range(count):
        name_end = position + 1 + view[position]
        offset, length = _SECTION.unpack_from(view, name_end)
        payload_from = name_end + _SECTION.size
        name = bytes(view[position + 1 : name_end]).decode("ascii")
        position = payload_from + length
        sections.append((name, Section(Offset(offset), view[payload_from:position])))
    if position != end or not pieces:
        raise CheckpointCorrupt(f"{end - position} bytes behind a checkpoint's sections, of {pieces} pieces")
    return Piece(pieces, sections)
