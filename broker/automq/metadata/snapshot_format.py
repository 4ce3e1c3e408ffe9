"""A snapshot of the metadata as bytes: the header of a slot of the metadata log, then records.

    snapshot        112 bytes of header as in `log_format`, with the magic "AQMS" and kind 3; then the payload
    payload         of version 2: blocks, each its size (4, big-endian) and a MessagePack array of records; of version 1
                    one such array

It holds the image after the slot that its epoch and sequence name; "number of the first record" is how many records
that image has folded in, "records" how many follow. It may be large, so it is written, checked and read in turns, some
blocks each.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from crc32c import crc32c

from automq.ids import ClusterId, ControllerEpoch
from automq.metadata.log_format import (
    HEADER_BYTES,
    Header,
    Kind,
    LogPosition,
    Slot,
    decode_payload,
    encode_header,
    read_header,
    snapshot_key,
)
from automq.metadata.records import MetadataRecord, encode_record, join_records
from automq.s3stream.model import CorruptData
from automq.s3stream.ports import Buffer
from automq.steps import Steps, at_once

VERSION: Final = 2
MAGIC: Final = b"AQMS"
SIZE_BYTES: Final = 4
# Encoded, decoded and applied in one turn of the event loop: about a millisecond's work. One record may be larger.
BLOCK_BYTES: Final = 64 * 1024
# Checked in one turn: a fraction of a millisecond.
CHECKED_BYTES: Final = 1024 * 1024


def encode_snapshot(
    cluster_id: ClusterId,
    position: LogPosition,
    *,
    record_number: int,
    records: Iterable[MetadataRecord],
    nonce: bytes,
    on_bytes: Callable[[int], None] = lambda _size: None,
) -> Steps[list[bytes]]:
    """The buffers of a snapshot of the image that has folded in `record_number` records, up to slot `position`.

    `on_bytes` is called with the size of each block when it is made.
    """
    blocks: list[bytes] = []
    block: list[bytes] = []
    count = size = crc = block_bytes = 0
    for record in records:
        block.append(encode_record(record))
        block_bytes += len(block[-1])
        count += 1
        if block_bytes >= BLOCK_BYTES:
            blocks.append(_frame(block))
            size, crc = size + len(blocks[-1]), crc32c(blocks[-1], crc)
            on_bytes(len(blocks[-1]))
            block, block_bytes = [], 0
            yield None
    if block:
        blocks.append(_frame(block))
        size, crc = size + len(blocks[-1]), crc32c(blocks[-1], crc)
        on_bytes(len(blocks[-1]))
    header = encode_header(
        MAGIC,
        Kind.SNAPSHOT,
        cluster_id,
        position,
        version=VERSION,
        number=record_number,
        count=count,
        size=size,
        crc=crc,
        nonce=nonce,
        fencer=ControllerEpoch(0),
    )
    return [header, *blocks]


def _frame(block: Sequence[bytes]) -> bytes:
    array = b"".join(join_records(block))
    return len(array).to_bytes(SIZE_BYTES, "big") + array


@dataclass(frozen=True, slots=True)
class CheckedSnapshot:
    """A snapshot whose every byte was checked."""

    key: str
    position: LogPosition
    header: Header

    @property
    def record_number(self) -> int:
        """How many records are folded into the image."""
        return self.header.number

    def blocks(self) -> Iterator[Sequence[MetadataRecord]]:
        """The records, some at a time. Raises CorruptData, FormatTooNew."""
        count = 0
        for payload in self._payloads():
            records = decode_payload(self.key, payload)
            count += len(records)
            yield records
        if count != self.header.count:
            raise self._damage("number of metadata records")

    def _payloads(self) -> Iterator[memoryview]:
        payload = self.header.payload
        if self.header.version == 1:
            yield payload
            return
        while payload:
            end = SIZE_BYTES + int.from_bytes(payload[:SIZE_BYTES], "big")
            if len(payload) < end:
                raise self._damage("size of a block of metadata records")
            yield payload[SIZE_BYTES:end]
            payload = payload[end:]

    def _damage(self, what: str) -> CorruptData:
        return CorruptData(key=self.key, offset=HEADER_BYTES, length=len(self.header.payload), what=what)


def check_snapshot(cluster_id: ClusterId, position: LogPosition, data: Buffer) -> Steps[CheckedSnapshot]:
    """Check every byte of the snapshot that includes `position`, without reading its records.

    Raises CorruptData, FormatTooNew; both name the key.
    """
    key = snapshot_key(cluster_id, position)
    header = read_header(key, MAGIC, (Kind.SNAPSHOT,), cluster_id, position, memoryview(data), newest=VERSION)
    crc = 0
    for first in range(0, len(header.payload), CHECKED_BYTES):
        crc = crc32c(header.payload[first : first + CHECKED_BYTES], crc)
        yield None
    if crc != header.crc:
        raise CorruptData(key=key, offset=HEADER_BYTES, length=len(header.payload), what="metadata payload")
    return CheckedSnapshot(key, position, header)


class SnapshotCheck:
    """Checks every byte of a snapshot that comes in pieces, none of which is kept."""

    def __init__(self, cluster_id: ClusterId, position: LogPosition) -> None:
        self._cluster_id, self._position = cluster_id, position
        self._key = snapshot_key(cluster_id, position)
        self._header: Header | None = None
        self._size = self._crc = 0

    def add(self, piece: Buffer, *, is_last: bool) -> Steps[bool]:
        """The next piece; the first has the header. Whether more must follow. Raises CorruptData, FormatTooNew."""
        payload = memoryview(piece)
        header = self._header
        if header is None:
            kinds = (Kind.SNAPSHOT,)
            self._header = header = read_header(
                self._key, MAGIC, kinds, self._cluster_id, self._position, payload, newest=VERSION, is_part=True
            )
            payload = header.payload
        for first in range(0, len(payload), CHECKED_BYTES):
            self._crc = crc32c(payload[first : first + CHECKED_BYTES], self._crc)
            yield None
        self._size += len(payload)
        if self._size < header.size and not is_last:
            return True
        if self._size != header.size or self._crc != header.crc:
            raise CorruptData(key=self._key, offset=HEADER_BYTES, length=self._size, what="metadata payload")
        return False


def decode_snapshot(cluster_id: ClusterId, position: LogPosition, data: Buffer) -> Slot:
    """The whole snapshot that includes `position`, at once. Raises CorruptData, FormatTooNew; both name the key."""
    checked = at_once(check_snapshot(cluster_id, position, data))
    return Slot(
        kind=Kind.SNAPSHOT,
        position=position,
        first_record=checked.record_number,
        records=[record for block in checked.blocks() for record in block],
        fencer=ControllerEpoch(0),
        nonce=checked.header.nonce,
    )
