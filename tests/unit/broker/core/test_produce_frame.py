"""A Produce request of the common shape, in Python and compiled, beside what parses and answers every request."""

import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from automq import core
from automq.core import produce_frame
from automq.protocol.apis import APIS, ApiKey, encode_request
from automq.protocol.connection import client_of, parse_head
from automq.protocol.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from automq.protocol.produce_codec import ProduceResult, encode_produce_response, parse_produce_request
from automq.protocol.schema import ZERO_UUID
from tests.fuzz.records import scans

KINDS = ["python"] + (["compiled"] if core.native is not None else [])
both = pytest.mark.parametrize("kind", KINDS)
MAX = 1 << 30


def function(kind: str, name: str) -> Any:
    return getattr(core.native if kind == "compiled" else produce_frame, name)


def a_request(version: int = 13, **changed: Any) -> ProduceRequest:
    fields = {"acks": -1, "timeout": 1500, "name": "orders", "index": 3, "records": b"r" * 200} | changed
    has_id = version >= 13
    topic = TopicProduceData(
        name="" if has_id else fields["name"],
        topic_id=uuid.UUID(int=7) if has_id else ZERO_UUID,
        partition_data=[PartitionProduceData(index=fields["index"], records=fields["records"])],
    )
    return ProduceRequest(
        transactional_id=fields.get("transactional_id"),
        acks=fields["acks"],
        timeout=fields["timeout"],
        topic_data=[topic] * fields.get("topics", 1),
    )


def a_frame(version: int = 13, client: str | None = "bench", **changed: Any) -> bytes:
    return encode_request(APIS[ApiKey.PRODUCE], version, 77, client, a_request(version, **changed))


def scan(kind: str, frame: bytes, client: bytes = b"\x00\x05bench", frame_bytes_max: int = MAX) -> Any:
    return function(kind, "scan_produce")(frame, 0, len(frame), frame_bytes_max, client)


@both
@given(
    version=st.integers(9, 13),
    client=st.none() | st.text(max_size=9),
    name=st.text(st.characters(codec="ascii", exclude_characters="\0"), min_size=1, max_size=126),
    index=st.integers(-(1 << 31), (1 << 31) - 1),
    size=st.integers(1, 300) | st.sampled_from([16_382, 16_383, 16_384]),
    timeout=st.integers(-(1 << 31), (1 << 31) - 1),
    acks=st.sampled_from([-1, 1]),
    offset=st.integers(0, 1 << 62),
)
def test_finds_what_the_parser_finds_and_answers_as_the_encoder_does(
    kind: str,
    version: int,
    client: str | None,
    name: str,
    index: int,
    size: int,
    timeout: int,
    acks: int,
    offset: int,
) -> None:
    frame = a_frame(version, client, acks=acks, timeout=timeout, name=name, index=index, records=b"r" * size)
    view = memoryview(bytearray(frame))[4:]
    head = parse_head(view)

    found = function(kind, "scan_produce")(b"xy" + frame + b"z", 2, 3 + len(frame), MAX, client_of(view))

    request = parse_produce_request(view, head.body_offset, version)
    (topic,) = request.topic_data
    (asked,) = topic.partition_data
    frame_bytes, found_version, correlation_id, timeout_ms, key, start, end = found
    assert (frame_bytes, found_version, correlation_id) == (len(frame) - 4, version, 77)
    assert timeout_ms == request.timeout
    assert (b"xy" + frame)[start:end] == asked.records
    named = topic.topic_id.bytes if version >= 13 else bytes([len(name) + 1]) + name.encode()
    assert key == named + b"\x02" + index.to_bytes(4, "big", signed=True)
    result = ProduceResult(index, 0, base_offset=offset, log_start_offset=offset // 2)
    assert function(kind, "encode_produced")(key, 77, offset, offset // 2) == encode_produce_response(
        version=version, correlation_id=77, topics=[(topic, [result])]
    )


UNCOMMON = {
    "an older version": a_frame(8),
    "of a transaction": a_frame(transactional_id="t"),
    "an empty transactional id": a_frame(transactional_id=""),
    "without an answer": a_frame(acks=0),
    "acknowledgements that are none": a_frame(acks=2),
    "two topics": a_frame(topics=2),
    "no topic": a_frame(topics=0),
    "without records": a_frame(records=None),
    "empty records": a_frame(records=b""),
    "a long name": a_frame(12, name="n" * 127),
    "of another client": a_frame(client="bench2"),
    "of no client": a_frame(client=None),
    "another API": encode_request(APIS[ApiKey.API_VERSIONS], 0, 1, "bench", APIS[ApiKey.API_VERSIONS].request_class()),
    "something behind it": (len(a_frame()) - 3).to_bytes(4, "big") + a_frame()[4:] + b"x",
    "tags at its end": a_frame()[:-1] + b"\x01",
    "tags of its topic": a_frame()[:-2] + b"\x01\x00",
    "tags of its partition": a_frame()[:-3] + b"\x01\x00\x00",
    "not all there": a_frame()[:-1],
    "nothing": b"",
}


@both
@pytest.mark.parametrize("frame", UNCOMMON.values(), ids=UNCOMMON.keys())
def test_what_is_not_common_is_left_to_others(kind: str, frame: bytes) -> None:
    assert scan(kind, a_frame()) is not None
    assert scan(kind, frame) is None


@both
def test_larger_frame_than_is_taken_is_left_to_others(kind: str) -> None:
    frame = a_frame()
    assert scan(kind, frame, frame_bytes_max=len(frame) - 4) is not None
    assert scan(kind, frame, frame_bytes_max=len(frame) - 5) is None


@pytest.mark.skipif(core.native is None, reason="nothing was compiled")
@given(seed=st.integers(0, 1 << 32))
def test_twins_agree(seed: int) -> None:
    for each, _ in zip(scans(seed), range(40), strict=False):
        assert function("compiled", "scan_produce")(*each) == produce_frame.scan_produce(*each)
