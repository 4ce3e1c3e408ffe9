"""The metadata log as bytes: keys, slots, fences. All numbers big-endian.

    slot          112 bytes of header, then the payload
    header        magic "AQML", version (1), kind (1: records 1, fence 2), 2 zeros, cluster id (22, filled with zeros),
                  2 zeros, controller epoch (8), sequence (8), number of the first record (8), records (4), payload size
                  (4), fencer (8: the epoch that a fence is for, else 0), nonce (16), 16 zeros, crc32c of the payload
                  (4), crc32c of the header before (4)
    payload       a MessagePack array of records; nothing in a fence. So a fence is exactly a header long, and no slot
                  of records is: a listing tells them apart.

A snapshot has the same header: see `snapshot_format`.
"""

import enum
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from crc32c import crc32c

from automq.ids import ClusterId, ControllerEpoch
from automq.metadata.records import NEWEST_TAG, MetadataRecord, UnknownRecord, decode_records, join_records
from automq.s3stream.model import CorruptData, FormatTooNew
from automq.s3stream.ports import Buffer
from automq.s3stream.store.layout import KeyKind, ParsedKey, parse_key_of

VERSION: Final = 1
SLOT_MAGIC: Final = b"AQML"
HEADER: Final = struct.Struct(">4sBB2x22s2xQQQIIQ16s16xI")
_CRC: Final = struct.Struct(">I")
HEADER_BYTES: Final = HEADER.size + _CRC.size
NONCE_BYTES: Final = 16
assert HEADER_BYTES == 112


class Kind(enum.IntEnum):
    """Persisted: never renumber, never reuse."""

    RECORDS = 1
    FENCE = 2
    SNAPSHOT = 3


@dataclass(frozen=True, slots=True, order=True)
class LogPosition:
    """A slot of the log. Ordered as the log is."""

    epoch: ControllerEpoch
    sequence: int

    def __str__(self) -> str:
        return f"{self.epoch}/{self.sequence}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """What one slot or snapshot says."""

    kind: Kind
    position: LogPosition
    first_record: int
    """Records in the whole log before this one; in a snapshot, records folded into it."""
    records: Sequence[MetadataRecord]
    fencer: ControllerEpoch
    nonce: bytes


def log_folder(cluster_id: ClusterId) -> str:
    """What the keys of all slots begin with."""
    return f"{cluster_id}/meta/log/"


def epoch_folder(cluster_id: ClusterId, epoch: ControllerEpoch) -> str:
    """What the keys of one epoch's slots begin with."""
    return f"{cluster_id}/meta/log/{epoch:020d}/"


def slot_key(cluster_id: ClusterId, position: LogPosition) -> str:
    """Fixed width: byte order is log order."""
    return f"{cluster_id}/meta/log/{position.epoch:020d}/{position.sequence:020d}"


def snapshot_folder(cluster_id: ClusterId) -> str:
    """What the keys of all snapshots begin with."""
    return f"{cluster_id}/meta/snapshots/"


def snapshot_key(cluster_id: ClusterId, position: LogPosition) -> str:
    """Named after the slot that the snapshot includes."""
    return f"{cluster_id}/meta/snapshots/{position.epoch:020d}-{position.sequence:020d}"


def claim_folder(cluster_id: ClusterId) -> str:
    """What the keys of all claims begin with."""
    return f"{cluster_id}/meta/claims/"


def claim_key(cluster_id: ClusterId, epoch: ControllerEpoch) -> str:
    """One key an epoch, created if absent, never deleted."""
    return f"{cluster_id}/meta/claims/{epoch:020d}"


def parse_slot_key(key: str) -> LogPosition | None:
    """The slot that the key names; None for a key that names none."""
    return _position(parse_key_of(KeyKind.METADATA_SLOT, key))


def parse_snapshot_key(key: str) -> LogPosition | None:
    """The slot that the snapshot of that key includes; None for a key that is no snapshot's."""
    return _position(parse_key_of(KeyKind.SNAPSHOT, key))


def parse_claim_key(key: str) -> ControllerEpoch | None:
    """The epoch that the key claims; None for a key that is no claim's."""
    parsed = parse_key_of(KeyKind.CLAIM, key)
    return None if parsed is None else ControllerEpoch(parsed.numbers[0])


def _position(parsed: ParsedKey | None) -> LogPosition | None:
    return None if parsed is None else LogPosition(ControllerEpoch(parsed.numbers[0]), parsed.numbers[1])


def is_fence_header(header: Buffer) -> bool:
    """Whether the first bytes of a slot say that it is a fence; they are not checked otherwise."""
    return len(header) >= HEADER_BYTES and header[5] == Kind.FENCE


def encode_slot(
    cluster_id: ClusterId, position: LogPosition, *, first_record: int, encoded: Sequence[bytes], nonce: bytes
) -> list[bytes]:
    """The buffers of a slot of records, each encoded by `records.encode_record`."""
    assert encoded
    payload = b"".join(join_records(encoded))
    header = encode_header(
        SLOT_MAGIC,
        Kind.RECORDS,
        cluster_id,
        position,
        version=VERSION,
        number=first_record,
        count=len(encoded),
        size=len(payload),
        crc=crc32c(payload),
        nonce=nonce,
        fencer=ControllerEpoch(0),
    )
    return [header, payload]


def encode_fence(
    cluster_id: ClusterId, position: LogPosition, *, first_record: int, fencer: ControllerEpoch, nonce: bytes
) -> list[bytes]:
    """The buffer of a fence slot: `position.epoch` ends here, `fencer` goes on."""
    assert fencer > position.epoch
    return [
        encode_header(
            SLOT_MAGIC,
            Kind.FENCE,
            cluster_id,
            position,
            version=VERSION,
            number=first_record,
            count=0,
            size=0,
            crc=crc32c(b""),
            nonce=nonce,
            fencer=fencer,
        )
    ]


def encode_header(
    magic: bytes,
    kind: Kind,
    cluster_id: ClusterId,
    position: LogPosition,
    *,
    version: int,
    number: int,
    count: int,
    size: int,
    crc: int,
    nonce: bytes,
    fencer: ControllerEpoch,
) -> bytes:
    """The 112 bytes that every slot and snapshot begins with; `size` and `crc` are the payload's."""
    assert len(nonce) == NONCE_BYTES
    header = HEADER.pack(
        magic,
        version,
        kind,
        _cluster(cluster_id),
        position.epoch,
        position.sequence,
        number,
        count,
        size,
        fencer,
        nonce,
        crc,
    )
    return header + _CRC.pack(crc32c(header))


def decode_slot(cluster_id: ClusterId, position: LogPosition, data: Buffer) -> Slot:
    """The slot at `position`. Raises CorruptData, FormatTooNew; both name the key."""
    key = slot_key(cluster_id, position)
    header = read_header(key, SLOT_MAGIC, (Kind.RECORDS, Kind.FENCE), cluster_id, position, memoryview(data))
    if crc32c(header.payload) != header.crc:
        raise CorruptData(key=key, offset=HEADER_BYTES, length=len(header.payload), what="metadata payload")
    records = [] if header.kind == Kind.FENCE else decode_payload(key, header.payload)
    if len(records) != header.count:
        raise CorruptData(key=key, offset=HEADER_BYTES, length=len(header.payload), what="number of metadata records")
    return Slot(
        kind=header.kind,
        position=position,
        first_record=header.number,
        records=records,
        fencer=header.fencer,
        nonce=header.nonce,
    )


@dataclass(frozen=True, slots=True)
class Header:
    """A header whose checksum is right, and the payload, which is `size` long unless a part was read only."""

    version: int
    kind: Kind
    number: int
    count: int
    fencer: ControllerEpoch
    nonce: bytes
    crc: int
    payload: memoryview
    size: int
    """Bytes of the payload."""


def read_header(
    key: str,
    magic: bytes,
    kinds: Sequence[Kind],
    cluster_id: ClusterId,
    position: LogPosition,
    data: memoryview,
    *,
    newest: int = VERSION,
    is_part: bool = False,
) -> Header:
    """Of a slot or snapshot of one of `kinds`; the payload is not checked, and may be cut short where it `is_part`.

    Raises CorruptData, FormatTooNew.
    """
    if len(data) < 5 or data[:4] != magic:
        raise CorruptData(key=key, offset=0, length=len(data), what="metadata header")
    if data[4] > newest and not _is_of_known_version(data, newest):
        raise FormatTooNew(key=key, version=data[4], supported=newest)
    if len(data) < HEADER_BYTES or _CRC.unpack_from(data, HEADER.size)[0] != crc32c(data[: HEADER.size]):
        raise CorruptData(key=key, offset=0, length=min(len(data), HEADER_BYTES), what="metadata header")
    (_magic, version, kind, cluster, epoch, sequence, number, count, size, fencer, nonce, crc) = HEADER.unpack_from(
        data
    )
    if (cluster, epoch, sequence) != (_cluster(cluster_id), position.epoch, position.sequence) or kind not in kinds:
        raise CorruptData(key=key, offset=0, length=HEADER_BYTES, what="identity of the metadata slot")
    payload = data[HEADER_BYTES:]
    if len(payload) != size and not (is_part and len(payload) < size):
        raise CorruptData(key=key, offset=HEADER_BYTES, length=len(payload), what="metadata payload")
    return Header(version, Kind(kind), number, count, ControllerEpoch(fencer), nonce, crc, payload, size)


def _is_of_known_version(data: memoryview, newest: int) -> bool:
    """Whether the checksum of the header says that its version was another: then the version is what is damaged."""
    if len(data) < HEADER_BYTES:
        return False
    header = bytearray(data[: HEADER.size])
    for version in range(1, newest + 1):
        header[4] = version
        if _CRC.unpack_from(data, HEADER.size)[0] == crc32c(header):
            return True
    return False


def decode_payload(key: str, payload: memoryview) -> list[MetadataRecord]:
    """A MessagePack array of records. Raises CorruptData, FormatTooNew; both name the key."""
    try:
        return decode_records(payload)
    except UnknownRecord as error:
        raise FormatTooNew(key=key, version=error.tag, supported=NEWEST_TAG) from error
    except ValueError as error:
        raise CorruptData(key=key, offset=HEADER_BYTES, length=len(payload), what="metadata records") from error


def _cluster(cluster_id: ClusterId) -> bytes:
    encoded = cluster_id.encode()
    assert len(encoded) <= 22
    return encoded.ljust(22, b"\0")
