"""The bytes of group records are Kafka's, every version of them."""

import uuid
from collections.abc import Callable

import hypothesis.strategies as st
import pytest
from hypothesis import given

from automq.coordinators.group.model import (
    CommittedOffset,
    GroupSnapshot,
    GroupStored,
    MemberSnapshot,
    OffsetStored,
    Record,
)
from automq.coordinators.group.records import OffsetDecoder, OffsetEncoder, RecordMalformed, decode, encode
from automq.protocol.codec import encode_versioned
from automq.protocol.messages.group_records import (
    GroupMetadataValue,
    MemberMetadata,
    OffsetCommitKey,
    OffsetCommitValue,
)
from tests.support import golden

OFFSET = CommittedOffset(
    offset=42, leader_epoch=7, metadata="märk", commit_ms=1_700_000_000_000, topic_id=uuid.UUID(int=5)
)
MEMBER = MemberSnapshot(
    member_id="a-1",
    instance_id="i1",
    client_id="a",
    client_host="/127.0.0.1",
    rebalance_timeout_ms=60_000,
    session_timeout_ms=10_000,
    subscription=b"sub",
    assignment=b"given",
)
GROUP = GroupSnapshot(
    protocol_type="consumer",
    generation=3,
    protocol_name="range",
    leader="a-1",
    since_ms=1_700_000_000_000,
    members=(MEMBER,),
)
EXAMPLES: dict[str, Record] = {
    "offset": OffsetStored("g", "t", 3, OFFSET),
    "offset_with_expiry": OffsetStored(
        "g", "t", 3, CommittedOffset(offset=42, leader_epoch=None, metadata="", commit_ms=1, expire_ms=2)
    ),
    "offset_tombstone": OffsetStored("g", "t", 3, None),
    "group": GroupStored("g", GROUP),
    "group_empty": GroupStored(
        "g", GroupSnapshot(protocol_type="", generation=4, protocol_name=None, leader=None, since_ms=None)
    ),
    "group_tombstone": GroupStored("g", None),
}

texts = st.text(max_size=20).filter(lambda text: text.isprintable())
times = st.integers(0, 2**62)
offsets = st.builds(
    CommittedOffset,
    offset=st.integers(-1, 2**63 - 1),
    leader_epoch=st.none() | st.integers(0, 2**31 - 1),
    metadata=texts,
    commit_ms=times,
    topic_id=st.none() | st.uuids(),
)
members = st.builds(
    MemberSnapshot,
    member_id=texts,
    instance_id=st.none() | texts,
    client_id=texts,
    client_host=texts,
    rebalance_timeout_ms=st.integers(0, 2**31 - 1),
    session_timeout_ms=st.integers(0, 2**31 - 1),
    subscription=st.binary(max_size=50),
    assignment=st.binary(max_size=50),
)
snapshots = st.builds(
    GroupSnapshot,
    protocol_type=texts,
    generation=st.integers(0, 2**31 - 1),
    protocol_name=st.none() | texts,
    leader=st.none() | texts,
    since_ms=st.none() | times,
    members=st.lists(members, max_size=3).map(tuple),
)
records = st.builds(OffsetStored, texts, texts, st.integers(0, 2**31 - 1), st.none() | offsets) | st.builds(
    GroupStored, texts, st.none() | snapshots
)


@pytest.mark.parametrize("name", EXAMPLES)
def test_bytes_are_as_recorded(name: str) -> None:
    """`test_records_kafka` has Kafka itself read these and write them again."""
    key, value = encode(EXAMPLES[name])
    golden.check_bytes(f"group_records/{name}.key.hex", key)
    golden.check_bytes(f"group_records/{name}.value.hex", value or b"")


@given(records)
def test_what_is_written_is_read_back(record: Record) -> None:
    key, value = encode(record)
    assert decode(memoryview(key), value) == record


@pytest.mark.parametrize("version", range(4))
def test_older_offsets_are_read(version: int) -> None:
    value = encode_versioned(OffsetCommitValue(offset=5, metadata="m", commit_timestamp=9), version)
    key = encode_versioned(OffsetCommitKey(group="g", topic="t", partition=1), min(version, 1))
    committed = CommittedOffset(offset=5, leader_epoch=None, metadata="m", commit_ms=9)
    assert decode(key, value) == OffsetStored("g", "t", 1, committed)


@pytest.mark.parametrize("version", range(5))
def test_older_and_newer_groups_are_read(version: int) -> None:
    member = MemberMetadata(member_id="m", client_id="c", client_host="h", session_timeout=7, subscription=b"s")
    if version >= 1:
        member.rebalance_timeout = 8
    value = GroupMetadataValue(protocol_type="consumer", generation=2, protocol="range", leader="m", members=[member])
    key, _ = encode(GroupStored("g", None))
    decoded = decode(key, encode_versioned(value, version))
    assert isinstance(decoded, GroupStored)
    assert decoded.snapshot is not None
    assert decoded.snapshot.since_ms is None
    assert [(found.rebalance_timeout_ms, found.session_timeout_ms) for found in decoded.snapshot.members] == [
        (8 if version >= 1 else 7, 7)
    ]


def test_records_of_newer_kinds_of_groups_are_passed_over() -> None:
    assert decode(b"\x00\x03\x00\x01g", b"\x00\x00") is None


@pytest.mark.parametrize("value", [b"", b"\x00", b"\x00\x63", b"\x00\x04\x00"])
def test_a_value_that_is_cut_or_too_new_is_malformed(value: bytes) -> None:
    key, _ = encode(EXAMPLES["offset"])
    with pytest.raises(RecordMalformed):
        decode(key, value)
    key, _ = encode(EXAMPLES["group"])
    with pytest.raises(RecordMalformed):
        decode(key, value)


@pytest.mark.parametrize("metadata", ["", "m", "é" * 200])
@pytest.mark.parametrize("expire_ms", [None, 2])
@pytest.mark.parametrize("topic_id", [None, uuid.UUID(int=7)])
@pytest.mark.parametrize("epoch", [None, 0, 9])
def test_plain_offsets_are_decoded_as_all_others(
    metadata: str, expire_ms: int | None, topic_id: uuid.UUID | None, epoch: int | None
) -> None:
    decoder = OffsetDecoder()
    for partition in (0, 2**31 - 1):
        committed = CommittedOffset(
            offset=2**62, leader_epoch=epoch, metadata=metadata, commit_ms=3, expire_ms=expire_ms, topic_id=topic_id
        )
        key, value = encode(OffsetStored("g", "t", partition, committed))
        assert value is not None
        assert decoder.decode(key, value) == decode(key, value)


@given(st.binary(max_size=60), st.one_of(st.binary(max_size=60), st.binary(min_size=24, max_size=24)))
def test_whatever_a_key_and_a_value_are_both_decoders_say_the_same(key: bytes, value: bytes) -> None:
    def said(decoded: Callable[[bytes, bytes], Record | None]) -> object:
        try:
            return decoded(key, value)
        except RecordMalformed:
            return "malformed"

    assert said(OffsetDecoder().decode) == said(decode)


@given(
    st.lists(
        st.builds(
            OffsetStored,
            st.sampled_from(("g", "ä")),
            st.sampled_from(("t", "märk", "t")),
            st.integers(0, (1 << 31) - 1),
            st.none()
            | st.builds(
                CommittedOffset,
                offset=st.integers(-(1 << 63), (1 << 63) - 1),
                leader_epoch=st.none() | st.integers(0, (1 << 31) - 1),
                metadata=st.sampled_from(("", "", "märk", "m" * 127)),
                commit_ms=st.integers(0, (1 << 63) - 1),
                expire_ms=st.none() | st.integers(0, (1 << 63) - 1),
                topic_id=st.none() | st.uuids() | st.just(uuid.UUID(int=0)),
            ),
        )
        | st.sampled_from(list(EXAMPLES.values())),
        max_size=6,
    )
)
def test_encoder_of_many_writes_what_the_codec_writes(records: list[Record]) -> None:
    encoder = OffsetEncoder()
    assert [encoder.encode(record) for record in records] == [encode(record) for record in records]
