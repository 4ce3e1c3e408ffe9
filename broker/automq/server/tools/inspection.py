"""Pure: what is in an object, a log slot, a snapshot, and which keys are what: for `automq dump`.

The bytes say what they are: every format has a magic number and its own identity in its header, so a file that was
copied from a store needs no key.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from automq.ids import BrokerEpoch, ClusterId, ControllerEpoch, NodeId, ObjectId
from automq.metadata import log_format as metadata
from automq.metadata import snapshot_format
from automq.metadata.sealed import NotSealed, unseal
from automq.s3stream.model import CorruptData
from automq.s3stream.objects import format as objects
from automq.s3stream.objects.index import whole_index
from automq.s3stream.ports import ObjectInfo
from automq.s3stream.store.layout import is_folder_marker, parse_key
from automq.s3stream.wal import format as wal


class NotOurs(Exception):
    """The bytes are no format of this program's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """What to show: facts, then a table."""

    title: str
    facts: Mapping[str, str]
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()


def inspect(name: str, data: bytes) -> Inspection:
    """Tell what `data` is. Raises NotOurs, CorruptData, FormatTooNew."""
    reader = _inspect_json if data[:1] == b"{" else _READERS.get(data[:4])
    if reader is None:
        raise NotOurs(f"{name} is no object, log slot or snapshot of this program: it begins with {data[:4]!r}")
    return reader(name, data)


@dataclass(frozen=True, slots=True)
class KeyLine:
    """A key of a store, for a list of them."""

    key: str
    kind: str
    size: int


def key_line(info: ObjectInfo) -> KeyLine:
    """What the key says of itself; nothing is read."""
    parsed = parse_key(info.key)
    if parsed is not None:
        return KeyLine(info.key, parsed.kind.value, info.size)
    return KeyLine(info.key, "folder marker" if is_folder_marker(info.key, info.size) else "stranger", info.size)


def _inspect_json(name: str, data: bytes) -> Inspection:
    """The key `cluster`, a lease, a claim, the marker of an erase."""
    try:
        fields, is_sealed = unseal(data)
    except NotSealed as error:
        raise CorruptData(key=name, offset=0, length=len(data), what=f"JSON ({error})") from error
    facts = {field: value if isinstance(value, str) else json.dumps(value) for field, value in fields.items()}
    facts["checksum"] = "good" if is_sealed else "none"
    return Inspection(title="JSON", facts=facts)


def _inspect_object(name: str, data: bytes) -> Inspection:
    if len(data) < objects.HEADER_BYTES + objects.FOOTER_BYTES:
        raise CorruptData(key=name, offset=0, length=len(data), what="object")
    view = memoryview(data)
    _, version, object_id, raw_cluster = objects.HEADER.unpack_from(view)
    cluster_id = _cluster(raw_cluster)
    footer = objects.decode_footer(
        name,
        view[-objects.FOOTER_BYTES :],
        size=len(data),
        cluster_id=cluster_id,
        object_id=ObjectId(object_id),
    )
    rows: list[list[str]] = []
    for entry in whole_index(name, view, footer).entries():
        objects.check_block(name, entry, view[entry.position : entry.position + entry.size])
        rows.append(
            [
                str(entry.stream),
                entry.kind.name.lower(),
                str(entry.start),
                str(entry.end),
                str(entry.records),
                str(entry.batches),
                str(entry.position),
                str(entry.size),
                str(entry.max_timestamp_ms),
            ]
        )
    return Inspection(
        title="object",
        facts={
            "cluster id": cluster_id,
            "object id": str(object_id),
            "format": str(version),
            "bytes": str(len(data)),
            "checksums": "all good",
        },
        columns=("stream", "block", "start", "end", "records", "batches", "position", "bytes", "max timestamp"),
        rows=rows,
    )


def _inspect_wal_slot(name: str, data: bytes) -> Inspection:
    if len(data) < wal.SLOT_HEADER_BYTES:
        raise CorruptData(key=name, offset=0, length=len(data), what="WAL slot header")
    _, version, _, node, epoch, sequence, raw_cluster, *_ = wal.SLOT_HEADER.unpack_from(data)
    cluster_id = _cluster(raw_cluster)
    identity = wal.SlotId(cluster_id=cluster_id, node=NodeId(node), epoch=BrokerEpoch(epoch), sequence=sequence)
    slot = wal.decode_slot(identity, memoryview(data))
    facts = {
        "cluster id": cluster_id,
        "key": identity.key,
        "kind": slot.kind.name.lower(),
        "node": str(node),
        "broker epoch": str(epoch),
        "sequence": str(sequence),
        "nonce": slot.nonce.hex(),
        "format": str(version),
        "bytes": str(len(data)),
        "checksum": "good",
    }
    if slot.mark is not None:
        facts["durable below"] = f"slot {slot.mark}, when it was sealed"
    if slot.recoverer is not None:
        facts["fenced by"] = f"node {slot.recoverer[0]}, broker epoch {slot.recoverer[1]}"
    rows = [
        [
            str(record.stream),
            str(record.epoch),
            str(record.base_offset),
            str(record.end_offset),
            str(len(record.payload)),
            str(record.max_timestamp_ms),
        ]
        for record in slot.records
    ]
    return Inspection(
        title="WAL slot",
        facts=facts,
        columns=("stream", "epoch", "start", "end", "bytes", "max timestamp"),
        rows=rows,
    )


def _inspect_metadata_slot(name: str, data: bytes) -> Inspection:
    cluster_id, position = _metadata_identity(name, data)
    return _metadata_view("metadata slot", cluster_id, metadata.decode_slot(cluster_id, position, data), data)


def _inspect_snapshot(name: str, data: bytes) -> Inspection:
    cluster_id, position = _metadata_identity(name, data)
    return _metadata_view("snapshot", cluster_id, snapshot_format.decode_snapshot(cluster_id, position, data), data)


def _metadata_identity(name: str, data: bytes) -> tuple[ClusterId, metadata.LogPosition]:
    if len(data) < metadata.HEADER_BYTES:
        raise CorruptData(key=name, offset=0, length=len(data), what="metadata header")
    _, _, _, raw_cluster, epoch, sequence, *_ = metadata.HEADER.unpack_from(data)
    return _cluster(raw_cluster), metadata.LogPosition(ControllerEpoch(epoch), sequence)


def _metadata_view(title: str, cluster_id: ClusterId, slot: metadata.Slot, data: bytes) -> Inspection:
    facts = {
        "cluster id": cluster_id,
        "kind": slot.kind.name.lower(),
        "controller epoch": str(slot.position.epoch),
        "sequence": str(slot.position.sequence),
        "first record": str(slot.first_record),
        "nonce": slot.nonce.hex(),
        "format": str(metadata.VERSION),
        "bytes": str(len(data)),
        "checksums": "all good",
    }
    if slot.kind is metadata.Kind.FENCE:
        facts["fenced for"] = f"controller epoch {slot.fencer}"
    rows = [
        [str(slot.first_record + number), type(record).__name__, _record_text(record)]
        for number, record in enumerate(slot.records)
    ]
    return Inspection(title=title, facts=facts, columns=("number", "record", "what it says"), rows=rows)


def _record_text(record: msgspec.Struct) -> str:
    values = ((name, getattr(record, name)) for name in record.__struct_fields__)
    return ", ".join(f"{name}={value}" for name, value in values)


def _cluster(raw: bytes) -> ClusterId:
    return ClusterId(raw.rstrip(b"\0").decode("ascii", errors="replace"))


_READERS: Final[Mapping[bytes, Callable[[str, bytes], Inspection]]] = {
    objects.MAGIC: _inspect_object,
    wal.MAGIC: _inspect_wal_slot,
    metadata.SLOT_MAGIC: _inspect_metadata_slot,
    snapshot_format.MAGIC: _inspect_snapshot,
}
