"""Produce by hand equals the compiled codec, for every version, also where the input is wrong."""

import random

import pytest

from automq.protocol.apis import APIS, ApiKey, encode_response
from automq.protocol.codec import MalformedMessage, decode, encode
from automq.protocol.messages.produce import (
    LeaderIdAndEpoch,
    NodeEndpoint,
    PartitionProduceData,
    PartitionProduceResponse,
    ProduceRequest,
    ProduceResponse,
    TopicProduceData,
    TopicProduceResponse,
)
from automq.protocol.produce_codec import (
    NARROW_ELEMENTS_MAX,
    ManyPartitions,
    ProduceResult,
    TopicResults,
    change_produce_response,
    encode_produce_response,
    parse_produce_request,
)
from tests.support.messages import random_message

VERSIONS = list(ProduceRequest.VERSIONS)


@pytest.mark.parametrize("version", VERSIONS)
def test_request_is_parsed_as_the_compiled_codec_does(version: int) -> None:
    source = random.Random(version)
    for _ in range(100):
        expected = random_message(ProduceRequest, version, source)
        frame = memoryview(bytearray(b"head" + encode(expected, version)))

        assert parse_produce_request(frame, 4, version) == expected


@pytest.mark.parametrize("version", VERSIONS)
def test_mutated_request_is_judged_as_the_compiled_codec_does(version: int) -> None:
    source = random.Random(1000 + version)
    for _ in range(300):
        data = bytearray(encode(random_message(ProduceRequest, version, source), version))
        for _ in range(source.randint(1, 3)):
            if not data:
                break
            match source.randrange(3):
                case 0:
                    data[source.randrange(len(data))] = source.choice([0, 1, 0x7F, 0x80, 0xFF, source.randrange(256)])
                case 1:
                    del data[source.randrange(len(data)) :]
                case _:
                    data.insert(source.randrange(len(data)), source.randrange(256))
        frame = memoryview(data)
        try:
            expected, _ = decode(ProduceRequest, version, frame)
        except MalformedMessage:
            with pytest.raises(MalformedMessage):
                parse_produce_request(frame, 0, version)
        else:
            assert parse_produce_request(frame, 0, version) == expected


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("topics", [1, 100])
def test_request_of_very_many_partitions_is_not_parsed_at_one_go(version: int, topics: int) -> None:
    def frame(partitions: int) -> memoryview:
        parts = [PartitionProduceData(index=index, records=None) for index in range(partitions // topics)]
        data = [TopicProduceData(name="t", partition_data=parts) for _ in range(topics)]
        return memoryview(bytearray(encode(ProduceRequest(topic_data=data), version)))

    many = frame(NARROW_ELEMENTS_MAX)
    with pytest.raises(ManyPartitions):
        parse_produce_request(many, 0, version)
    assert parse_produce_request(frame(NARROW_ELEMENTS_MAX // 5), 0, version).topic_data
    # An array that cannot be so long is no such request.
    with pytest.raises(MalformedMessage):
        parse_produce_request(many[: 20 + NARROW_ELEMENTS_MAX // 10], 0, version)


def test_records_are_views_into_the_frame() -> None:
    topic = TopicProduceData(name="t", partition_data=[PartitionProduceData(index=0, records=memoryview(b"x" * 61))])
    frame = memoryview(bytearray(encode(ProduceRequest(topic_data=[topic]), 9)))
    records = parse_produce_request(frame, 0, 9).topic_data[0].partition_data[0].records
    assert records is not None

    records[0] = 0x42

    assert 0x42 in frame


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("has_details", [False, True])
def test_response_is_encoded_as_the_compiled_codec_does(version: int, has_details: bool) -> None:
    source = random.Random(version)
    for _ in range(30):
        response = random_message(ProduceResponse, version, source)
        response.node_endpoints = []
        for topic in response.responses:
            for partition in topic.partition_responses:
                if not has_details:
                    partition.record_errors, partition.error_message = [], None
                    partition.current_leader = LeaderIdAndEpoch()
        if has_details and version >= 10:
            response.node_endpoints = [NodeEndpoint(node_id=1, host="h", port=9, rack="r")]

        actual = encode_produce_response(
            version=version,
            correlation_id=-5,
            topics=[a_topic_with_results(topic) for topic in response.responses],
            throttle_time=response.throttle_time,
            node_endpoints=response.node_endpoints,
        )

        assert actual == encode_response(APIS[ApiKey.PRODUCE], version, -5, response)


def test_details_a_version_lacks_are_left_out() -> None:
    result = ProduceResult(0, 6, error_message="moved", current_leader=LeaderIdAndEpoch(leader_id=2, leader_epoch=3))
    endpoint = NodeEndpoint(node_id=2, host="h", port=9)
    for version in VERSIONS:
        encode_produce_response(
            version=version,
            correlation_id=1,
            topics=[(TopicProduceData(name="t"), [result])],
            node_endpoints=[endpoint],
        )


def a_topic_with_results(topic: TopicProduceResponse) -> TopicResults:
    results = [a_result(partition) for partition in topic.partition_responses]
    return TopicProduceData(name=topic.name, topic_id=topic.topic_id), results


def a_result(partition: PartitionProduceResponse) -> ProduceResult:
    return ProduceResult(
        partition.index,
        partition.error_code,
        partition.base_offset,
        partition.log_append_time,
        partition.log_start_offset,
        partition.error_message,
        partition.record_errors,
        None if partition.current_leader == LeaderIdAndEpoch() else partition.current_leader,
    )


@pytest.mark.parametrize("version", VERSIONS)
def test_encoded_response_can_be_changed(version: int) -> None:
    topics = [(TopicProduceData(name="t"), [ProduceResult(0, 0, 7), ProduceResult(1, 3)])]
    frame = encode_produce_response(version=version, correlation_id=-5, topics=topics)

    def change(partition: PartitionProduceResponse) -> None:
        if not partition.error_code:
            partition.error_code, partition.base_offset = 7, -1

    changed = [(TopicProduceData(name="t"), [ProduceResult(0, 7), ProduceResult(1, 3)])]
    assert change_produce_response(frame, version, change) == encode_produce_response(
        version=version, correlation_id=-5, topics=changed
    )
