"""Handles messages.discovery: which APIs, brokers and topics there are. Metadata: `handlers.metadata_answers`.

Replicas and ISR are nominal, see `handlers.replicas`.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Final

from automq.controller.topics import check_name
from automq.handlers.balancer_view import balancer_document
from automq.handlers.context import Handler, RequestContext
from automq.handlers.features import supported_features
from automq.handlers.metadata_answers import (
    cluster_operations,
    endpoint_of,
    handle_metadata,
    is_quarantined,
    partition_error,
)
from automq.handlers.operations import operations_of
from automq.handlers.replicas import shown_replicas
from automq.metadata.image import MetadataImage, TopicImage
from automq.protocol.errors import ApiError, ErrorCode
from automq.protocol.messages.discovery import (
    ApiVersion,
    ApiVersionsRequest,
    ApiVersionsResponse,
    Cursor,
    DescribeClusterBroker,
    DescribeClusterRequest,
    DescribeClusterResponse,
    DescribeTopicPartitionsRequest,
    DescribeTopicPartitionsResponse,
    DescribeTopicPartitionsResponsePartition,
    DescribeTopicPartitionsResponseTopic,
    MetadataRequest,
)
from automq.protocol.schema import Message
from automq.security.authorizer import Operation, ResourceType

PARTITIONS_MAX: Final = 2000
"""Partitions in one DescribeTopicPartitions answer, as Kafka's max.request.partition.size.limit."""

PARTITIONS_PER_TURN: Final = 250
"""Encoded in about a millisecond."""

KEPT_TOPICS_PER_TURN: Final = 2_500
"""Found in the cache in about a millisecond."""

# About how long it takes to find a topic by its id.
FOUND_US: Final = 4

_SOFTWARE: Final = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?")
_BROKERS, _CONTROLLERS = 1, 2


async def handle_api_versions(context: RequestContext, request: ApiVersionsRequest) -> ApiVersionsResponse:
    """What is served. From version 3 the client's software must have a plausible name."""
    if context.version >= 3 and not (
        _SOFTWARE.fullmatch(request.client_software_name) and _SOFTWARE.fullmatch(request.client_software_version)
    ):
        return ApiVersionsResponse(error_code=ErrorCode.INVALID_REQUEST)
    if context.version >= 3:
        context.session.software_name = request.client_software_name
        context.session.software_version = request.client_software_version
    listed = context.services.api_versions
    return ApiVersionsResponse(
        supported_features=supported_features(context.version),
        finalized_features_epoch=context.services.metadata.image.record_number,
        api_keys=[
            ApiVersion(api_key=key, min_version=versions[0], max_version=versions[-1])
            for key, versions in listed.items()
        ],
    )


async def handle_describe_cluster(context: RequestContext, request: DescribeClusterRequest) -> DescribeClusterResponse:
    """The brokers, with fenced ones when asked for."""
    if request.endpoint_type == _CONTROLLERS:
        return DescribeClusterResponse(
            error_code=ErrorCode.MISMATCHED_ENDPOINT_TYPE,
            error_message="The request was sent to an endpoint of type BROKER, but we wanted an endpoint of type "
            "CONTROLLER",
        )
    if request.endpoint_type != _BROKERS:
        return DescribeClusterResponse(
            error_code=ErrorCode.UNSUPPORTED_ENDPOINT_TYPE,
            error_message=f"Unsupported endpoint type {request.endpoint_type}",
        )
    image = context.services.metadata.image
    response = DescribeClusterResponse(
        cluster_id=context.services.cluster_id,
        controller_id=context.services.controller_id,
        brokers=[
            DescribeClusterBroker(
                broker_id=broker.node,
                host=endpoint.host,
                port=endpoint.port,
                rack=broker.rack,
                is_fenced=broker.fenced,
            )
            for broker in image.brokers()
            if (endpoint := endpoint_of(broker, context.listener_name)) is not None
            and (request.include_fenced_brokers or not broker.fenced)
        ],
    )
    if request.include_cluster_authorized_operations:
        response.cluster_authorized_operations = cluster_operations(context)
    if request.balancer_moves >= 0:
        response.balancer = await balancer_document(context, request.balancer_moves)
    return response


async def handle_describe_topic_partitions(
    context: RequestContext, request: DescribeTopicPartitionsRequest
) -> DescribeTopicPartitionsResponse:
    """Partitions in order of topic name and index, a page at a time: `next_cursor` is where the next page begins."""
    cursor = request.cursor
    if cursor is not None and cursor.partition_index < 0:
        raise ApiError(ErrorCode.INVALID_REQUEST, f"The cursor's partition must be valid, got {cursor.partition_index}")
    if cursor is not None and request.topics and all(topic.name != cursor.topic_name for topic in request.topics):
        raise ApiError(
            ErrorCode.INVALID_REQUEST,
            f"DescribeTopicPartitionsRequest topic list should contain the cursor topic: {cursor.topic_name}",
        )
    image = context.services.metadata.image
    everything = not request.topics
    names = [topic.name for topic in image.topics()] if everything else [topic.name for topic in request.topics]
    first = cursor.topic_name if cursor is not None else ""
    room = max(min(request.response_partition_limit, PARTITIONS_MAX), 1)
    response = DescribeTopicPartitionsResponse()
    for name in sorted({name: None for name in names if name >= first}):
        if not context.allows(Operation.DESCRIBE, (ResourceType.TOPIC, name)):
            if not everything:
                code = ErrorCode.TOPIC_AUTHORIZATION_FAILED
                response.topics.append(DescribeTopicPartitionsResponseTopic(error_code=code, name=name))
            continue
        topic = image.topic(name)
        if topic is None:
            response.topics.append(_unknown_topic(context, name))
            continue
        begin = cursor.partition_index if cursor is not None and name == first else 0
        end = min(len(topic.partitions), begin + room)
        response.topics.append(_topic_page(context, image, topic, begin, end))
        room -= max(0, end - begin)
        if end < len(topic.partitions):
            response.next_cursor = Cursor(topic_name=name, partition_index=end)
            return response
        if room == 0:
            response.next_cursor = _cursor_after(image, sorted(names), name)
            return response
    return response


def _cursor_after(image: MetadataImage, names: Sequence[str], last: str) -> Cursor | None:
    following = next((name for name in names if name > last and image.topic(name) is not None), None)
    return None if following is None else Cursor(topic_name=following, partition_index=0)


def _unknown_topic(context: RequestContext, name: str) -> DescribeTopicPartitionsResponseTopic:
    try:
        check_name(name)
        error = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    except ApiError as refused:
        error = refused.code
    operations = operations_of(context, (ResourceType.TOPIC, name))
    return DescribeTopicPartitionsResponseTopic(error_code=error, name=name, topic_authorized_operations=operations)


def _topic_page(
    context: RequestContext, image: MetadataImage, topic: TopicImage, begin: int, end: int
) -> DescribeTopicPartitionsResponseTopic:
    partitions: list[DescribeTopicPartitionsResponsePartition] = []
    for partition in topic.partitions[begin:end]:
        error = partition_error(context, image, partition)
        replicas = shown_replicas(image, topic, partition)
        partitions.append(
            DescribeTopicPartitionsResponsePartition(
                error_code=error,
                partition_index=partition.index,
                leader_id=-1 if error else partition.leader,
                leader_epoch=partition.leader_epoch,
                replica_nodes=replicas,
                isr_nodes=[] if error or is_quarantined(context, topic, partition) else replicas,
                eligible_leader_replicas=[],
                last_known_elr=[],
                offline_replicas=replicas if error == ErrorCode.LEADER_NOT_AVAILABLE else [],
            )
        )
    return DescribeTopicPartitionsResponseTopic(
        name=topic.name,
        topic_id=topic.topic_id,
        is_internal=topic.is_internal,
        partitions=partitions,
        topic_authorized_operations=operations_of(context, (ResourceType.TOPIC, topic.name)),
    )


HANDLERS: Final[Mapping[type[Message], Handler]] = {
    ApiVersionsRequest: handle_api_versions,
    MetadataRequest: handle_metadata,
    DescribeClusterRequest: handle_describe_cluster,
    DescribeTopicPartitionsRequest: handle_describe_topic_partitions,
}
