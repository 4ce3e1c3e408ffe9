"""Control records: how the end of a transaction is written into a partition.

A control batch has one record and both the control and the transactional bit. The key is an int16 version (0) and an
int16 type; the value of an end marker is an int16 version (0) and the int32 epoch of the coordinator. A control batch
takes an offset, clients never see it, and a broker never accepts one from a producer.
"""

import enum
import struct
from dataclasses import dataclass

from automq.protocol.records import CONTROL, TRANSACTIONAL, CorruptRecords, Record, RecordBatch, build_batch, records_in

_KEY = struct.Struct(">hh")
_END_MARKER = struct.Struct(">hi")
_CONTROL_BYTES_MAX = 1024


class ControlType(enum.IntEnum):
    """The second number of a control record's key."""

    ABORT = 0
    COMMIT = 1
    LEADER_CHANGE = 2
    SNAPSHOT_HEADER = 3
    SNAPSHOT_FOOTER = 4
    KRAFT_VERSION = 5
    KRAFT_VOTERS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class EndMarker:
    """How a transaction ended, and which incarnation of its coordinator said so."""

    is_commit: bool
    coordinator_epoch: int


def build_end_marker(
    marker: EndMarker, *, producer_id: int, producer_epoch: int, timestamp: int, leader_epoch: int = -1
) -> bytearray:
    """The control batch that ends the open transaction of a producer in one partition."""
    kind = ControlType.COMMIT if marker.is_commit else ControlType.ABORT
    record = Record(key=_KEY.pack(0, kind), value=_END_MARKER.pack(0, marker.coordinator_epoch), timestamp=timestamp)
    return build_batch(
        [record],
        leader_epoch=leader_epoch,
        producer_id=producer_id,
        producer_epoch=producer_epoch,
        attributes=CONTROL | TRANSACTIONAL,
    )


def read_end_marker(batch: RecordBatch) -> EndMarker | None:
    """What a control batch says of a transaction; None for control records of other kinds. Raises CorruptRecords."""
    assert batch.is_control
    for record in records_in(batch, decompressed_bytes_max=_CONTROL_BYTES_MAX):
        if record.key is None or len(record.key) < _KEY.size:
            raise CorruptRecords("a control record has no key", position=0)
        _version, kind = _KEY.unpack_from(record.key)
        if kind not in (ControlType.ABORT, ControlType.COMMIT):
            return None
        if record.value is None or len(record.value) < _END_MARKER.size:
            raise CorruptRecords("an end marker has no value", position=0)
        _version, epoch = _END_MARKER.unpack_from(record.value)
        return EndMarker(is_commit=kind == ControlType.COMMIT, coordinator_epoch=epoch)
    raise CorruptRecords("a control batch has no record", position=0)
