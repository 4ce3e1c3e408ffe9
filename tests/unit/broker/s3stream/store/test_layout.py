"""One strict pattern a folder: our own keys come back, and nothing else is taken for one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from automq.ids import BrokerEpoch, ClusterId, ControllerEpoch, NodeId, ObjectId
from automq.metadata.cluster import erasing_key
from automq.metadata.lease import lease_key
from automq.metadata.log_format import LogPosition, claim_key, slot_key, snapshot_key
from automq.s3stream.objects.format import object_key
from automq.s3stream.store.layout import CLUSTER_KEY, KeyKind, is_folder_marker, parse_key, parse_key_of
from automq.s3stream.wal.format import SlotId

CLUSTER = ClusterId("abcdefghijklmnopqrstuv")
HERE = LogPosition(ControllerEpoch(3), 12)
WAL_SLOT = SlotId(cluster_id=CLUSTER, node=NodeId(1), epoch=BrokerEpoch(7), sequence=42)
OURS = {
    CLUSTER_KEY: (KeyKind.CLUSTER, ()),
    "doctor/1700000000000-0a1b2c3d4e5f6071/race/001": (KeyKind.DOCTOR, (1_700_000_000_000,)),
    erasing_key(CLUSTER): (KeyKind.ERASING, ()),
    lease_key(CLUSTER): (KeyKind.LEASE, ()),
    claim_key(CLUSTER, ControllerEpoch(3)): (KeyKind.CLAIM, (3,)),
    slot_key(CLUSTER, HERE): (KeyKind.METADATA_SLOT, (3, 12)),
    snapshot_key(CLUSTER, HERE): (KeyKind.SNAPSHOT, (3, 12)),
    WAL_SLOT.key: (KeyKind.WAL_SLOT, (1, 7, 42)),
    object_key(CLUSTER, ObjectId(0x1A2B)): (KeyKind.OBJECT, (0x1A2B,)),
}


@pytest.mark.parametrize("key", OURS)
def test_every_kind_of_key_of_ours_is_known(key: str) -> None:
    parsed = parse_key(key)
    assert parsed is not None
    assert (parsed.kind, parsed.numbers) == OURS[key]
    assert parsed.cluster_id == (CLUSTER if key.startswith(CLUSTER) else None)


def test_every_kind_has_an_example_here() -> None:
    assert {kind for kind, _ in OURS.values()} == set(KeyKind)


@pytest.mark.parametrize("key", OURS)
@pytest.mark.parametrize("change", ["{}~", "{}/", "{}.bak", " {}", "{}\n", "{} (1)", "/{}", "copy/{}", "{}0", "-{}"])
def test_k4_a_key_that_only_contains_one_of_ours_is_a_strangers(key: str, change: str) -> None:
    strange = change.format(key)
    if strange.startswith("doctor/"):
        # Whatever lies in a doctor's own folder is its own.
        return
    assert parse_key(strange) is None


@pytest.mark.parametrize("key", [key for key in OURS if "/" in key and not key.startswith("doctor/")])
@pytest.mark.parametrize("name", ["", ".DS_Store", "notes.txt~", "Thumbs.db", "0", "ⅷ" * 20, "٣" * 20])
def test_k4_strangers_in_every_folder_are_strangers(key: str, name: str) -> None:
    assert parse_key(f"{key[: key.rindex('/')]}/{name}") is None


def test_numbers_beyond_what_headers_hold_are_no_numbers() -> None:
    assert parse_key_of(KeyKind.CLAIM, f"{CLUSTER}/meta/claims/{2**64 - 1:020d}") is not None
    assert parse_key_of(KeyKind.CLAIM, f"{CLUSTER}/meta/claims/{2**64:020d}") is None


@given(st.text(max_size=90))
def test_any_text_is_a_key_of_at_most_one_kind(text: str) -> None:
    assert sum(parse_key_of(kind, text) is not None for kind in KeyKind) <= 1


@pytest.mark.parametrize(
    ("key", "size", "is_marker"), [("", 0, True), ("a/", 0, True), ("a/", 1, False), ("a", 0, False)]
)
def test_folder_markers_are_empty_and_end_in_a_slash(key: str, size: int, is_marker: bool) -> None:
    assert is_folder_marker(key, size) is is_marker
