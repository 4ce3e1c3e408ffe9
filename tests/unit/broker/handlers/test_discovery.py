"""What clients are told of APIs, brokers and topics."""

import uuid

import pytest

from automq.handlers.broker_configs import BrokerConfigs
from automq.handlers.discovery import (
    handle_api_versions,
    handle_describe_cluster,
    handle_describe_topic_partitions,
)
from automq.ids import BrokerEpoch, NodeId
from automq.metadata.records import BrokerFenced
from automq.protocol.errors import ErrorCode
from automq.protocol.messages.discovery import (
    ApiVersionsRequest,
    Cursor,
    DescribeClusterRequest,
    DescribeTopicPartitionsRequest,
    DescribeTopicPartitionsResponse,
    MetadataRequest,
    MetadataRequestTopic,
    TopicRequest,
)
from tests.support.handler_world import CLUSTER, NODE, context_of, image_of, metadata_of, topic_id

IMAGE = image_of({"b": 2, "a": 1})
NO_CREATION = BrokerConfigs(entries={}, topic_defaults={}, auto_create_topics=False)


async def test_api_versions_lists_what_is_served() -> None:
    request = ApiVersionsRequest(client_software_name="librdkafka", client_software_version="2.15.0")

    answer = await handle_api_versions(context_of(IMAGE, version=4), request)

    assert [(api.api_key, api.min_version, api.max_version) for api in answer.api_keys] == [
        (0, 0, 13),
        (3, 0, 13),
        (18, 0, 4),
    ]
    assert answer.error_code == ErrorCode.NONE


@pytest.mark.parametrize("name", ["", "-x", "x-", "a b", "ü"])
async def test_client_without_a_plausible_name_is_refused(name: str) -> None:
    request = ApiVersionsRequest(client_software_name=name, client_software_version="1")

    answer = await handle_api_versions(context_of(IMAGE, version=3), request)

    assert answer.error_code == ErrorCode.INVALID_REQUEST
    assert not answer.api_keys


async def test_old_clients_have_no_name() -> None:
    answer = await handle_api_versions(context_of(IMAGE, version=2), ApiVersionsRequest())

    assert answer.error_code == ErrorCode.NONE


async def test_null_topics_are_all_topics_sorted_by_name() -> None:
    answer = await metadata_of(context_of(IMAGE, version=12), MetadataRequest(topics=None))

    assert [topic.name for topic in answer.topics] == ["a", "b"]
    assert answer.topics[1].topic_id == topic_id("b")
    (partition, _) = answer.topics[1].partitions
    assert (partition.leader_id, partition.leader_epoch) == (NODE, 3)
    assert partition.replica_nodes == partition.isr_nodes == [NODE]
    assert (answer.cluster_id, answer.controller_id) == (CLUSTER, NODE)


@pytest.mark.parametrize(("version", "count"), [(0, 2), (1, 0), (12, 0)])
async def test_empty_topics_are_all_only_in_version_0(version: int, count: int) -> None:
    answer = await metadata_of(context_of(IMAGE, version=version), MetadataRequest(topics=[]))

    assert len(answer.topics) == count


async def test_endpoints_are_those_of_the_listener() -> None:
    answer = await metadata_of(context_of(IMAGE, version=9, listener="OUTSIDE"), MetadataRequest(topics=[]))

    assert [(broker.host, broker.port, broker.rack) for broker in answer.brokers] == [("public.example", 443, "rack-a")]


async def test_unknown_topic_is_told_when_it_is_not_made() -> None:
    request = MetadataRequest(topics=[MetadataRequestTopic(name="none"), MetadataRequestTopic(name="not/legal")])

    answer = await metadata_of(context_of(IMAGE, version=9, configs=NO_CREATION), request)

    assert [topic.error_code for topic in answer.topics] == [
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode.INVALID_TOPIC_EXCEPTION,
    ]


async def test_topics_are_found_by_id() -> None:
    stranger = uuid.UUID(int=7)
    request = MetadataRequest(
        topics=[MetadataRequestTopic(topic_id=topic_id("a")), MetadataRequestTopic(topic_id=stranger)]
    )

    answer = await metadata_of(context_of(IMAGE, version=12), request)

    assert [(topic.name, topic.error_code) for topic in answer.topics] == [
        ("a", ErrorCode.NONE),
        (None, ErrorCode.UNKNOWN_TOPIC_ID),
    ]


async def test_topic_ids_are_refused_before_version_12() -> None:
    request = MetadataRequest(topics=[MetadataRequestTopic(topic_id=topic_id("a"), name="a")])

    answer = await metadata_of(context_of(IMAGE, version=11), request)

    assert [topic.error_code for topic in answer.topics] == [ErrorCode.INVALID_REQUEST]


async def test_operations_are_told_only_when_asked() -> None:
    asked = await metadata_of(
        context_of(IMAGE, version=9), MetadataRequest(topics=None, include_topic_authorized_operations=True)
    )
    unasked = await metadata_of(context_of(IMAGE, version=9), MetadataRequest(topics=None))

    assert asked.topics[0].topic_authorized_operations == 3576
    assert unasked.topics[0].topic_authorized_operations == -(2**31)


async def test_partition_of_a_fenced_broker_has_no_leader() -> None:
    image = image_of({"a": 1}, BrokerFenced(NODE, BrokerEpoch(1), NodeId(2), BrokerEpoch(2)))

    answer = await metadata_of(context_of(image, version=9), MetadataRequest(topics=None))

    (partition,) = answer.topics[0].partitions
    assert (partition.error_code, partition.leader_id) == (ErrorCode.LEADER_NOT_AVAILABLE, -1)
    assert answer.brokers == []


async def test_cluster_shows_fenced_brokers_when_asked() -> None:
    image = image_of({}, BrokerFenced(NODE, BrokerEpoch(1), NodeId(2), BrokerEpoch(2)))

    hidden = await handle_describe_cluster(context_of(image, version=2), DescribeClusterRequest())
    shown = await handle_describe_cluster(
        context_of(image, version=2), DescribeClusterRequest(include_fenced_brokers=True)
    )

    assert hidden.brokers == []
    assert [(broker.broker_id, broker.is_fenced) for broker in shown.brokers] == [(NODE, True)]


@pytest.mark.parametrize(
    ("endpoint_type", "code"), [(2, ErrorCode.MISMATCHED_ENDPOINT_TYPE), (9, ErrorCode.UNSUPPORTED_ENDPOINT_TYPE)]
)
async def test_cluster_has_no_controllers_to_talk_to(endpoint_type: int, code: ErrorCode) -> None:
    answer = await handle_describe_cluster(
        context_of(IMAGE, version=1), DescribeClusterRequest(endpoint_type=endpoint_type)
    )

    assert answer.error_code == code


def shape(answer: DescribeTopicPartitionsResponse) -> list[tuple[str | None, list[int]]]:
    return [(topic.name, [part.partition_index for part in topic.partitions]) for topic in answer.topics]


async def test_partitions_come_page_by_page() -> None:
    image = image_of({"a": 2, "b": 1, "c": 3})
    pages: list[list[tuple[str | None, list[int]]]] = []
    cursor: Cursor | None = None
    while True:
        request = DescribeTopicPartitionsRequest(response_partition_limit=2, cursor=cursor)
        answer = await handle_describe_topic_partitions(context_of(image, version=0), request)
        pages.append(shape(answer))
        cursor = answer.next_cursor
        if cursor is None:
            break

    assert pages == [[("a", [0, 1])], [("b", [0]), ("c", [0])], [("c", [1, 2])]]


async def test_named_partitions_tell_unknown_topics() -> None:
    request = DescribeTopicPartitionsRequest(topics=[TopicRequest(name="none"), TopicRequest(name="a")])

    answer = await handle_describe_topic_partitions(context_of(IMAGE, version=0), request)

    assert [(topic.name, topic.error_code) for topic in answer.topics] == [
        ("a", ErrorCode.NONE),
        ("none", ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
    ]
