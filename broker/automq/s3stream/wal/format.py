"""WAL slots as bytes: keys, headers, records, fences. All numbers big-endian.

A slot is one object, `<cluster id>/wal/<node>/<epoch>/<sequence>`, created if absent:

    offset  size  field
    0       4     magic "AQWS"
    4       1     version (2)
    5       1     kind: 1 data, 2 fence
    6       2     zero
    8       4     node
    12      8     broker epoch
    20      8     sequence
    28      22    cluster id, filled with zeros
    50      2     lag: slots before this one that were not known to be durable when it was sealed; 65535: any number
    52      16    nonce: who wrote this slot, and in which try
    68      4     number of records
    72      4     body length
    76      4     crc32c of every record header, in order (in a fence of the body), and of bytes [0, 76)
    80            body; what follows it, to the next multiple of 4096, is padding

The body of a data slot is a sequence of records, each a 44-byte header and one batch verbatim:

    0       8     stream
    8       8     stream epoch
    16      8     base offset
    24      8     max timestamp, milliseconds
    32      4     count: offsets [base, base + count)
    36      4     length of the batch that follows
    40      4     crc32c of the batch: computed once, while the batch is in the processor's cache, and kept in objects

The body of a fence slot is the recoverer: node (4), broker epoch (8). A fence is never deleted.

Sequence minus lag is the slot's *mark*: every slot below it was durable, and may have been acknowledged, when this one
was sealed. So a slot that is missing below any mark, and not below T, was lost by the store. Marks never fall from one
slot of a writer to the next. A fence lies in the lowest slot that was missing, so its mark is its own sequence.
Version 1 has no lag (zeros there): its data slots have no mark.
"""

import enum
import struct
from collections.abc import Generator
from dataclasses import dataclass
from typing import Final

from crc32c import crc32c

from automq.ids import BrokerEpoch, ClusterId, NodeId, Offset, StreamEpoch, StreamId
from automq.s3stream.model import CorruptData, FormatTooNew, StreamRecordBatch
from automq.s3stream.ports import Buffer
from automq.s3stream.store.layout import KeyKind, parse_key_of
from automq.steps import at_once

MAGIC: Final = b"AQWS"
VERSION: Final = 2
FIRST_VERSION_WITH_LAG: Final = 2
LAG_MAX: Final = 0xFFFF
SLOT_HEADER: Final = struct.Struct(">4sBBxxIQQ22sH16sII")
CRC_POSITION: Final = SLOT_HEADER.size
SLOT_HEADER_BYTES: Final = CRC_POSITION + 4
RECORD_HEADER: Final = struct.Struct(">QQQqIII")
RECORD_HEADER_BYTES: Final = RECORD_HEADER.size
NONCE_BYTES: Final = 16
# Decoded at one go, and about how long each takes.
RECORDS_A_PART: Final = 256
RECORD_US: Final = 3
_CRC: Final = struct.Struct(">I")
_FENCE: Final = struct.Struct(">IQ")
assert SLOT_HEADER_BYTES == 80
assert RECORD_HEADER_BYTES == 44


class SlotKind(enum.IntEnum):
    """Persisted: never renumber, never reuse."""

    DATA = 1
    FENCE = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotId:
    """Which slot: the parts of its key."""

    cluster_id: ClusterId
    node: NodeId
    epoch: BrokerEpoch
    sequence: int

    @property
    def key(self) -> str:
        """Fixed width, so that keys sort by sequence."""
        return f"{slot_prefix(self.cluster_id, self.node, self.epoch)}{self.sequence:020d}"

    def decode(self, data: Buffer) -> "Slot":
        """See `decode_slot`."""
        return decode_slot(self, memoryview(data))


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """A slot that has passed its checks."""

    slot: SlotId
    kind: SlotKind
    nonce: bytes
    records: list[StreamRecordBatch]
    mark: int | None
    """Every slot below was durable when this one was sealed; None: it does not say."""
    recoverer: tuple[NodeId, BrokerEpoch] | None
    """Who fenced: of a fence slot only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotHeader:
    """What the first bytes of a slot say. They are not checked: only the whole slot has a checksum."""

    kind: SlotKind
    mark: int | None
    """See `Slot`."""


def slot_prefix(cluster_id: ClusterId, node: NodeId, epoch: BrokerEpoch) -> str:
    """What the keys of one incarnation's slots begin with."""
    return f"{cluster_id}/wal/{node:010d}/{epoch:010d}/"


def parse_slot_key(key: str) -> SlotId | None:
    """The slot that the key names; None for a key that names none."""
    parsed = parse_key_of(KeyKind.WAL_SLOT, key)
    if parsed is None or parsed.cluster_id is None:
        return None
    node, epoch, sequence = parsed.numbers
    return SlotId(cluster_id=parsed.cluster_id, node=NodeId(node), epoch=BrokerEpoch(epoch), sequence=sequence)


def is_data(header: Buffer) -> bool:
    """Whether these first bytes are those of a data slot, of whatever version; a sweep leaves alone what is none."""
    return bytes(header[:4]) == MAGIC and len(header) >= SLOT_HEADER_BYTES and header[5] == SlotKind.DATA


def peek_header(slot: SlotId, data: Buffer) -> SlotHeader | None:
    """What the slot's first bytes say of it; None when they are not those of this slot. Raises FormatTooNew."""
    if len(data) < SLOT_HEADER_BYTES:
        return None
    magic, version, kind, node, epoch, sequence, cluster, lag, *_ = SLOT_HEADER.unpack_from(data)
    identity = (node, epoch, sequence, cluster)
    if magic != MAGIC or identity != (slot.node, slot.epoch, slot.sequence, _cluster(slot.cluster_id)):
        return None
    if version > VERSION:
        raise FormatTooNew(key=slot.key, version=version, supported=VERSION)
    if kind not in (SlotKind.DATA, SlotKind.FENCE):
        return None
    return SlotHeader(kind=SlotKind(kind), mark=_mark(version, kind, sequence, lag))


def seal_slot(
    view: memoryview,
    *,
    start: int,
    end: int,
    slot: SlotId,
    kind: SlotKind,
    nonce: bytes,
    records: int,
    crc: int,
    durable_below: int,
) -> None:
    """Fill in the header that was left free at `start`; the body ends at `end`. After this the bytes are frozen.

    `crc` is that of the record headers, or of a fence's body. Every slot below `durable_below` is durable.
    """
    assert len(nonce) == NONCE_BYTES
    assert durable_below <= slot.sequence
    SLOT_HEADER.pack_into(
        view,
        start,
        MAGIC,
        VERSION,
        kind,
        slot.node,
        slot.epoch,
        slot.sequence,
        _cluster(slot.cluster_id),
        min(slot.sequence - durable_below, LAG_MAX),
        nonce,
        records,
        end - start - SLOT_HEADER_BYTES,
    )
    crc_at = start + CRC_POSITION
    _CRC.pack_into(view, crc_at, crc32c(view[start:crc_at], crc, 0))


def encode_fence(slot: SlotId, *, nonce: bytes, recoverer: tuple[NodeId, BrokerEpoch]) -> bytes:
    """The slot that ends a log: whoever wins it owns everything before it."""
    data = bytearray(SLOT_HEADER_BYTES + _FENCE.size)
    _FENCE.pack_into(data, SLOT_HEADER_BYTES, *recoverer)
    seal_slot(
        memoryview(data),
        start=0,
        end=len(data),
        slot=slot,
        kind=SlotKind.FENCE,
        nonce=nonce,
        records=0,
        crc=crc32c(data[SLOT_HEADER_BYTES:]),
        durable_below=slot.sequence,
    )
    return bytes(data)


def decode_slot(slot: SlotId, data: memoryview, *, takes_damaged_batches: bool = False) -> Slot:
    """`decode_in_turns`, at one go."""
    return at_once(decode_in_turns(slot, data, takes_damaged_batches=takes_damaged_batches))


def decode_in_turns(
    slot: SlotId, data: memoryview, *, takes_damaged_batches: bool = False
) -> Generator[int, None, Slot]:
    """Check every byte of a slot. Raises CorruptData, FormatTooNew. A slot may hold tens of thousands of batches.

    With `takes_damaged_batches` a batch that fails its checksum is no error but marked, as long as the headers, which
    have a checksum of their own, say whose it is.
    """
    key = slot.key
    if len(data) < SLOT_HEADER_BYTES:
        raise CorruptData(key=key, offset=0, length=len(data), what="WAL slot header")
    magic, version, kind, node, epoch, sequence, cluster, lag, nonce, count, length = SLOT_HEADER.unpack_from(data)
    if magic != MAGIC:
        raise CorruptData(key=key, offset=0, length=SLOT_HEADER_BYTES, what="WAL slot header")
    if version > VERSION:
        raise FormatTooNew(key=key, version=version, supported=VERSION)
    end = SLOT_HEADER_BYTES + length
    if end > len(data):
        raise CorruptData(key=key, offset=SLOT_HEADER_BYTES, length=length, what="WAL slot body")
    body = data[SLOT_HEADER_BYTES:end]
    if kind == SlotKind.FENCE:
        records, body_crc = list[StreamRecordBatch](), crc32c(body)
    else:
        records, body_crc = yield from _decode_records(key, body, takes_damaged_batches)
    if crc32c(data[:CRC_POSITION], body_crc) != _CRC.unpack_from(data, CRC_POSITION)[0]:
        raise CorruptData(key=key, offset=0, length=end, what="WAL slot")
    if (node, epoch, sequence, cluster) != (slot.node, slot.epoch, slot.sequence, _cluster(slot.cluster_id)):
        raise CorruptData(key=key, offset=0, length=SLOT_HEADER_BYTES, what="identity of the WAL slot")
    mark = _mark(version, kind, sequence, lag)
    if kind == SlotKind.FENCE:
        by, by_epoch = _FENCE.unpack_from(body)
        recoverer = NodeId(by), BrokerEpoch(by_epoch)
        return Slot(slot=slot, kind=SlotKind.FENCE, nonce=nonce, records=[], mark=mark, recoverer=recoverer)
    if kind != SlotKind.DATA:
        raise CorruptData(key=key, offset=5, length=1, what="WAL slot kind")
    if len(records) != count:
        raise CorruptData(key=key, offset=SLOT_HEADER_BYTES, length=length, what="WAL record count")
    return Slot(slot=slot, kind=SlotKind.DATA, nonce=nonce, records=records, mark=mark, recoverer=None)


def _decode_records(
    key: str, body: memoryview, takes_damaged_batches: bool
) -> Generator[int, None, tuple[list[StreamRecordBatch], int]]:
    """The records, and the crc of their headers."""
    records: list[StreamRecordBatch] = []
    headers_crc = position = 0
    end = len(body)
    while position < end:
        at = position + RECORD_HEADER_BYTES
        if at > end:
            raise CorruptData(key=key, offset=SLOT_HEADER_BYTES + position, length=end - position, what="WAL record")
        stream, epoch, base, max_timestamp, count, length, crc = RECORD_HEADER.unpack_from(body, position)
        payload = body[at : at + length]
        is_damaged = crc32c(payload, 0, 0) != crc
        if len(payload) != length or not count or (is_damaged and not takes_damaged_batches):
            raise CorruptData(key=key, offset=SLOT_HEADER_BYTES + position, length=length, what="WAL record")
        headers_crc = crc32c(body[position:at], headers_crc, 0)
        records.append(
            StreamRecordBatch(
                stream=StreamId(stream),
                epoch=StreamEpoch(epoch),
                base_offset=Offset(base),
                count=count,
                max_timestamp_ms=max_timestamp,
                crc=crc,
                payload=payload,
                is_damaged=is_damaged,
            )
        )
        position = at + length
        if not len(records) % RECORDS_A_PART:
            yield RECORDS_A_PART * RECORD_US
    return records, headers_crc


def _mark(version: int, kind: int, sequence: int, lag: int) -> int | None:
    if kind == SlotKind.FENCE:
        return sequence
    if version < FIRST_VERSION_WITH_LAG:
        return None
    return sequence - lag if lag < LAG_MAX else 0


def _cluster(cluster_id: ClusterId) -> bytes:
    encoded = cluster_id.encode()
    assert len(encoded) <= 22
    return encoded.ljust(22, b"\0")
