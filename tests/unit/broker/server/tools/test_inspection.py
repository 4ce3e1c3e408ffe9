"""What `dump` says of bytes."""

import uuid

import pytest
from crc32c import crc32c

from automq.ids import BrokerEpoch, ClusterId, ControllerEpoch, NodeId, ObjectId, StreamId, TopicId
from automq.metadata import log_format as metadata
from automq.metadata.records import TopicCreated, encode_record
from automq.metadata.sealed import seal
from automq.metadata.snapshot_format import encode_snapshot
from automq.s3stream.model import CorruptData
from automq.s3stream.objects.writer import ObjectWriter
from automq.s3stream.ports import ObjectInfo
from automq.s3stream.wal import format as wal
from automq.server.tools.inspection import KeyLine, NotOurs, inspect, key_line
from automq.steps import at_once
from tests.support.old_objects import OldObjectWriter

CLUSTER = ClusterId("AAAAAAAAAAAAAAAAAAAAAA")
NONCE = bytes(16)


def an_object(writer: ObjectWriter | OldObjectWriter) -> bytes:
    writer.add_block(StreamId(4), [(5, 1, 1000, crc32c(b"abc"), memoryview(b"abc"))])
    return b"".join(writer.finish())


def new_object() -> bytes:
    return an_object(ObjectWriter(CLUSTER, ObjectId(9)))


def old_object() -> bytes:
    return an_object(OldObjectWriter(CLUSTER, ObjectId(9)))


@pytest.mark.parametrize(("data", "version", "size"), [(old_object(), "1", "31"), (new_object(), "2", "83")])
def test_object_shows_its_index(data: bytes, version: str, size: str) -> None:
    found = inspect("x", data)

    assert found.title == "object"
    assert (found.facts["cluster id"], found.facts["object id"], found.facts["format"]) == (CLUSTER, "9", version)
    assert found.rows == [["4", "data", "5", "6", "1", "1", "48", size, "1000"]]


def test_damaged_block_is_told_with_its_place() -> None:
    damaged = bytearray(new_object())
    damaged[50] ^= 1

    with pytest.raises(CorruptData, match="corrupt data block in x at byte 48, 83 bytes long"):
        inspect("x", bytes(damaged))


def test_fence_names_who_fenced() -> None:
    slot = wal.SlotId(cluster_id=CLUSTER, node=NodeId(1), epoch=BrokerEpoch(2), sequence=3)
    data = wal.encode_fence(slot, nonce=NONCE, recoverer=(NodeId(1), BrokerEpoch(7)))

    found = inspect("x", data)

    assert found.title == "WAL slot"
    assert found.facts["fenced by"] == "node 1, broker epoch 7"
    assert found.facts["key"] == slot.key


def test_metadata_slot_shows_its_records() -> None:
    record = TopicCreated(TopicId(uuid.UUID(int=1)), "t", False, 3)
    position = metadata.LogPosition(ControllerEpoch(1), 2)
    data = metadata.encode_slot(CLUSTER, position, first_record=10, encoded=[encode_record(record)], nonce=NONCE)

    found = inspect("x", b"".join(data))

    assert found.title == "metadata slot"
    (row,) = found.rows
    assert row[:2] == ["10", "TopicCreated"]
    assert "name=t" in row[2]


def test_snapshot_is_told_from_a_slot() -> None:
    position = metadata.LogPosition(ControllerEpoch(1), 2)
    data = at_once(encode_snapshot(CLUSTER, position, record_number=11, records=[], nonce=NONCE))

    assert inspect("x", b"".join(data)).title == "snapshot"


@pytest.mark.parametrize("data", [b"", b"no", b"%PDF-1.7 and more"])
def test_foreign_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(NotOurs):
        inspect("x", data)


@pytest.mark.parametrize(
    ("data", "checksum"), [(seal({"clusterId": CLUSTER, "formatVersion": 1}), "good"), (b'{"clusterId": "x"}', "none")]
)
def test_json_keys_are_shown_with_what_vouches_for_them(data: bytes, checksum: str) -> None:
    found = inspect("cluster", data)
    assert found.facts["checksum"] == checksum
    assert "clusterId" in found.facts


def test_a_damaged_json_key_is_told() -> None:
    with pytest.raises(CorruptData, match="checksum"):
        inspect("cluster", seal({"clusterId": "x"}).replace(b"x", b"y", 1))


@pytest.mark.parametrize(
    ("key", "size", "kind"),
    [
        ("cluster", 9, "cluster"),
        (f"{CLUSTER}/meta/lease", 9, "lease"),
        (f"{CLUSTER}/meta/claims/{1:020d}", 9, "claim"),
        (f"{CLUSTER}/meta/log/{1:020d}/{2:020d}", 9, "metadata slot"),
        (f"{CLUSTER}/data/{0:016x}", 9, "object"),
        (f"{CLUSTER}/data/", 0, "folder marker"),
        (f"{CLUSTER}/data/notes.txt~", 9, "stranger"),
    ],
)
def test_lines_of_a_listing_say_what_a_key_is(key: str, size: int, kind: str) -> None:
    assert key_line(ObjectInfo(key, size)) == KeyLine(key, kind, size)
