"""Fetch by hand equals the compiled codec, for every version, also where the input is wrong."""

import random

import pytest

from automq.protocol.apis import APIS, ApiKey, encode_response
from automq.protocol.codec import MalformedMessage, decode, encode
from automq.protocol.fetch_codec import (
    FetchResult,
    FetchTopicResult,
    encode_fetch_response,
    encode_quiet_response,
    parse_fetch_request,
)
from automq.protocol.messages.fetch import (
    FetchableTopicResponse,
    FetchEpochEndOffset,
    FetchPartition,
    FetchRequest,
    FetchResponse,
    FetchTopic,
    LeaderIdAndEpoch,
    PartitionData,
    SnapshotId,
)
from tests.support.messages import random_message

VERSIONS = list(FetchRequest.VERSIONS)


@pytest.mark.parametrize("version", VERSIONS)
def test_request_is_parsed_as_the_compiled_codec_does(version: int) -> None:
    source = random.Random(version)
    for index in range(200):
        expected = random_message(FetchRequest, version, source)
        if index % 2:
            make_common(expected)
        frame = memoryview(bytearray(b"head" + encode(expected, version)))

        assert parse_fetch_request(frame, 4, version) == expected


def make_common(request: FetchRequest) -> None:
    """What consumers really send: nothing tagged, nothing forgotten."""
    plain = FetchRequest()
    request.cluster_id, request.replica_state = plain.cluster_id, plain.replica_state
    request.forgotten_topics_data = []
    for topic in request.topics:
        for partition in topic.partitions:
            usual = FetchPartition()
            partition.replica_directory_id, partition.high_watermark = usual.replica_directory_id, usual.high_watermark


@pytest.mark.parametrize("version", VERSIONS)
def test_mutated_request_is_judged_as_the_compiled_codec_does(version: int) -> None:
    source = random.Random(1000 + version)
    for _ in range(300):
        request = random_message(FetchRequest, version, source)
        make_common(request)
        data = bytearray(encode(request, version))
        data[source.randrange(len(data))] = source.choice([0, 1, 2, 0x7F, 0x80, 0xFF])
        if source.random() < 0.3:
            del data[source.randrange(len(data)) :]
        frame = memoryview(data)
        try:
            expected, _ = decode(FetchRequest, version, frame)
        except MalformedMessage:
            with pytest.raises(MalformedMessage):
                parse_fetch_request(frame, 0, version)
        else:
            assert parse_fetch_request(frame, 0, version) == expected


def test_more_partitions_than_expected_go_through_the_compiled_codec() -> None:
    partitions = [FetchPartition(partition=index) for index in range(100_001)]
    request = FetchRequest(topics=[FetchTopic(topic="t", partitions=partitions)])

    assert parse_fetch_request(memoryview(encode(request, 12)), 0, 12) == request


@pytest.mark.parametrize("version", VERSIONS)
def test_response_is_encoded_as_the_compiled_codec_does(version: int) -> None:
    source = random.Random(version)
    for _ in range(60):
        response = random_message(FetchResponse, version, source)
        for topic in response.responses:
            for partition in topic.partitions:
                partition.snapshot_id = SnapshotId()
                partition.records = memoryview(partition.records or b"")

        buffers = encode_fetch_response(
            version=version,
            correlation_id=33,
            topics=[a_topic(topic) for topic in response.responses],
            session_id=response.session_id,
            error_code=response.error_code,
            throttle_time=response.throttle_time,
            node_endpoints=response.node_endpoints,
        )

        assert b"".join(buffers) == encode_response(APIS[ApiKey.FETCH], version, 33, response)


def a_topic(topic: FetchableTopicResponse) -> FetchTopicResult:
    return FetchTopicResult(topic.topic, topic.topic_id, [a_result(partition) for partition in topic.partitions])


def a_result(partition: PartitionData) -> FetchResult:
    records = partition.records
    assert records is not None
    aborted = partition.aborted_transactions
    result = FetchResult(
        partition.partition_index,
        partition.error_code,
        partition.high_watermark,
        partition.last_stable_offset,
        partition.log_start_offset,
        # Records come in several pieces.
        [records[:20], records[20:]],
        len(records),
        None if aborted is None else [(entry.producer_id, entry.first_offset) for entry in aborted],
    )
    result.preferred_read_replica = partition.preferred_read_replica
    if partition.diverging_epoch != FetchEpochEndOffset():
        result.diverging_epoch = (partition.diverging_epoch.epoch, partition.diverging_epoch.end_offset)
    if partition.current_leader != LeaderIdAndEpoch():
        result.current_leader = (partition.current_leader.leader_id, partition.current_leader.leader_epoch)
    return result


def test_records_are_not_copied() -> None:
    data = memoryview(bytearray(1000))
    result = FetchResult(0, 0, 5, 5, 0, [data[:400], data[400:]], 1000)

    buffers = encode_fetch_response(
        version=12, correlation_id=1, topics=[FetchTopicResult("t", FetchTopic().topic_id, [result])]
    )

    views = [buffer for buffer in buffers if isinstance(buffer, memoryview)]
    assert [view.obj for view in views] == [data.obj, data.obj]


def test_answer_with_nothing_is_the_same_in_short() -> None:
    for version in VERSIONS:
        whole = encode_fetch_response(version=version, correlation_id=-7, topics=(), session_id=8, throttle_time=9)
        assert b"".join(map(bytes, encode_quiet_response(version, -7, 8, 9))) == b"".join(map(bytes, whole))


def test_details_a_version_lacks_are_left_out() -> None:
    result = FetchResult(0, 6)
    result.current_leader = (1, 2)
    for version in VERSIONS:
        encode_fetch_response(
            version=version,
            correlation_id=1,
            topics=[FetchTopicResult("t", FetchTopic().topic_id, [result])],
            session_id=7,
            error_code=70,
        )
