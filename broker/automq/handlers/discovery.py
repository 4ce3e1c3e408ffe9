"""Handles messages.discovery: which APIs, brokers and topics there are.

Replicas and ISR are nominal, see `handlers.replicas`.
"""

import asyncio
import operator
import re
from collections.abc import Mapping, Sequence
from typing import Final, cast

from automq.controller.topics import check_name
from automq.handlers.auto_creation import create_missing
from automq.handlers.balancer_view import balancer_document
from automq.handlers.context import Handler, RequestContext
from automq.handlers.features import supported_features
from automq.handlers.metadata_cache import KeptList, Kind, TopicList
from automq.handlers.operations import KNOWN, NOT_ASKED, all_operations, operations_of
from automq.handlers.replicas import shown_replicas
from automq.handlers.zone_hint import known_zone
from automq.ids import TopicId
from automq.metadata.image import BrokerImage, Endpoint, MetadataImage, PartitionImage, TopicImage
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
    MetadataRequestTopic,
    MetadataResponse,
    MetadataResponseBroker,
    MetadataResponsePartition,
    MetadataResponseTopic,
)
from automq.protocol.metadata_codec import (
    EncodedMetadata,
    encode_metadata_partitions,
    encode_metadata_topic,
    join_metadata_topic,
)
from automq.protocol.schema import ZERO_UUID, Message
from automq.runtime.turns import in_turns
from automq.security.authorizer import CLUSTER, Operation, Resource, ResourceType
from automq.steps import Steps

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


async def handle_metadata(context: RequestContext, request: MetadataRequest) -> EncodedMetadata:
    """Brokers and topics; makes missing topics where client and broker allow it."""
    image = context.services.metadata.image
    response = MetadataResponse(
        brokers=[
            MetadataResponseBroker(node_id=broker.node, host=endpoint.host, port=endpoint.port, rack=broker.rack)
            for broker in image.brokers()
            if not broker.fenced and (endpoint := endpoint_of(broker, context.listener_name)) is not None
        ],
        cluster_id=context.services.cluster_id,
        controller_id=context.services.controller_id,
    )
    if request.include_cluster_authorized_operations:
        response.cluster_authorized_operations = _cluster_operations(context)
    with_operations = request.include_topic_authorized_operations
    encoder = _TopicEncoder(context, image, with_operations)
    if request.topics is None or (context.version == 0 and not request.topics):
        return EncodedMetadata(response, *await encoder.all())
    if not _is_valid(context.version, request.topics):
        response.error_code = ErrorCode.INVALID_REQUEST
        refused = [
            MetadataResponseTopic(error_code=ErrorCode.INVALID_REQUEST, name=asked.name or "", topic_id=asked.topic_id)
            for asked in request.topics
        ]
        return EncodedMetadata(response, await encoder.each(refused), len(refused), codes=_codes(refused))
    # Counted and named without a turn of the interpreter for each: lists have thousands.
    if [asked.topic_id for asked in request.topics].count(ZERO_UUID) < len(request.topics):
        asked_ids = tuple(asked.topic_id.int for asked in request.topics)
        known = await encoder.listed(asked_ids)
        if known is not None:
            return EncodedMetadata(response, [known], len(asked_ids))
        found = await in_turns(_topics_by_id(context, image, request.topics))
        return EncodedMetadata(response, await encoder.each_of(asked_ids, found), len(found), codes=_codes(found))
    names = tuple(dict.fromkeys([asked.name or "" for asked in request.topics]))
    known = await encoder.listed(names)
    if known is not None:
        return EncodedMetadata(response, [known], len(names))
    failures: dict[str, ErrorCode] = {}
    if not context.allows_every(Operation.DESCRIBE, ResourceType.TOPIC):
        failures = {
            name: ErrorCode.TOPIC_AUTHORIZATION_FAILED
            for name in names
            if not context.allows(Operation.DESCRIBE, (ResourceType.TOPIC, name))
        }
    images = [image.topic(name) if name not in failures else None for name in names]
    if request.allow_auto_topic_creation and context.services.broker_configs.auto_create_topics:
        missing = [name for name, topic in zip(names, images, strict=True) if topic is None and name not in failures]
        if missing:
            failures |= await _create_missing(context, missing)
            image = context.services.metadata.image
            encoder = _TopicEncoder(context, image, with_operations)
            images = [
                image.topic(name) if failures.get(name) is not ErrorCode.TOPIC_AUTHORIZATION_FAILED else None
                for name in names
            ]
    topics = [
        topic or _missing_topic(context, name, failures, with_operations)
        for name, topic in zip(names, images, strict=True)
    ]
    return EncodedMetadata(response, await encoder.each_of(names, topics), len(topics), codes=_codes(topics))


def _codes(topics: Sequence[TopicImage | MetadataResponseTopic]) -> list[int]:
    """What is wrong with those that there are not, to be counted."""
    return [topic.error_code for topic in topics if isinstance(topic, MetadataResponseTopic)]


async def _create_missing(context: RequestContext, names: Sequence[str]) -> dict[str, ErrorCode]:
    """Create topics, as far as the client may; the code of each that could not be made."""
    may_all = context.allows(Operation.CREATE, CLUSTER)
    allowed = [name for name in names if may_all or context.allows(Operation.CREATE, (ResourceType.TOPIC, name))]
    failures = dict.fromkeys(names, ErrorCode.TOPIC_AUTHORIZATION_FAILED)
    for name in allowed:
        del failures[name]
    return failures | await create_missing(context, allowed)


def _cluster_operations(context: RequestContext) -> int:
    """As Kafka: nothing for whoever may not describe the cluster."""
    return operations_of(context, CLUSTER) if context.allows(Operation.DESCRIBE, CLUSTER) else 0


class _TopicEncoder:
    """Topics of one answer as bytes, from the cache where they are there, a millisecond in one turn of the loop."""

    def __init__(self, context: RequestContext, image: MetadataImage, with_operations: bool) -> None:
        """`image` is the newest one."""
        self._context, self._image = context, image
        self._sees_all = context.allows_every(Operation.DESCRIBE, ResourceType.TOPIC)
        operations = NOT_ASKED
        self._are_operations_own = False
        """Each topic is asked what the client may do with it."""
        if with_operations:
            operations = all_operations(ResourceType.TOPIC)
            self._are_operations_own = not all(
                context.allows_every(operation, ResourceType.TOPIC) for operation in KNOWN[ResourceType.TOPIC]
            )
        self._kind = Kind(context.version, context.listener_name, operations, known_zone(image, context.client_id))
        self._cache = context.services.metadata_cache
        self._quarantine_changes = context.services.partitions.quarantine_changes
        self._cache.renew(image.brokers(), self._quarantine_changes)
        self._in_turn = 0.0
        """Partitions encoded in this turn; what is found in the cache counts as a part of one."""
        self._is_current = True
        """Rule of the cache: what was true in an earlier turn is neither taken from it nor kept in it."""

    async def _next_turn(self) -> None:
        await asyncio.sleep(0)
        self._in_turn = 0.0
        services = self._context.services
        self._is_current = (
            services.metadata.image.brokers() == self._image.brokers()
            and services.partitions.quarantine_changes == self._quarantine_changes
        )

    async def all(self) -> tuple[list[bytes], int]:
        """All topics of the image that the client may see, and how many they are."""
        topics = self._image.topics()
        if not self._sees_all or self._are_operations_own:
            seen = [topic for topic in topics if self._context.allows(Operation.DESCRIBE, _resource(topic))]
            return await self.each(seen), len(seen)
        encoded = self._cache.all(self._kind, self._image.topic_map)
        if encoded is None:
            encoded = b"".join(await self.each(topics))
            if self._is_current:
                self._cache.keep_all(self._kind, self._image.topic_map, encoded)
        return [encoded], len(topics)

    async def listed(self, asked: TopicList) -> bytes | None:
        """What is asked for, if it was asked for before and is all there: what has changed since is made anew."""
        if not self._sees_all or self._are_operations_own:
            return None
        kept = self._cache.listed(self._kind, asked)
        topic_map = self._image.topic_map
        if kept is None or kept.topic_map is topic_map:
            return None if kept is None else kept.encoded
        found = list(map(topic_map.get, [topic.topic_id for topic in kept.topics]))
        # By identity, and all at once: of a thousand topics one has changed.
        changed = [index for index, differs in enumerate(map(operator.is_not, found, kept.topics)) if differs]
        if any(found[index] is None for index in changed):
            return None
        topics, pieces = cast(list[TopicImage], found), list(kept.pieces)
        for index in changed:
            (pieces[index],) = await self.each([topics[index]])
        return self._keep_list(asked, topics, pieces)

    async def each_of(self, asked: TopicList, topics: Sequence[TopicImage | MetadataResponseTopic]) -> Sequence[bytes]:
        """Each of `topics`, which is what is asked for; known as a whole when it is asked for again."""
        pieces = await self.each(topics)
        if not self._sees_all or self._are_operations_own or not self._is_current or len(topics) != len(asked):
            return pieces
        found = [topic for topic in topics if isinstance(topic, TopicImage)]
        return pieces if len(found) < len(topics) else [self._keep_list(asked, found, pieces)]

    def _keep_list(self, asked: TopicList, topics: Sequence[TopicImage], pieces: Sequence[bytes]) -> bytes:
        encoded = b"".join(pieces)
        if self._is_current:
            self._cache.keep_list(self._kind, asked, KeptList(self._image.topic_map, topics, pieces, encoded))
        return encoded

    async def each(self, topics: Sequence[TopicImage | MetadataResponseTopic]) -> list[bytes]:
        """Each of `topics`."""
        encoded: list[bytes] = []
        known = self._cache.topics(self._kind) if not self._are_operations_own else {}
        for topic in topics:
            if self._in_turn >= PARTITIONS_PER_TURN:
                await self._next_turn()
            if isinstance(topic, MetadataResponseTopic):
                encoded.append(encode_metadata_topic(topic, self._kind.version))
                self._in_turn += 1
                continue
            if self._is_current and (kept := known.get(topic.name)) is not None and kept[0] is topic:
                encoded.append(kept[1])
                self._in_turn += PARTITIONS_PER_TURN / KEPT_TOPICS_PER_TURN
                continue
            kind = self._kind
            if self._are_operations_own:
                kind = kind._replace(operations=operations_of(self._context, _resource(topic)))
            found = self._cache.topic(kind, topic) if self._is_current else None
            encoded.append(found or await self._encode(topic, kind))
        return encoded

    async def _encode(self, topic: TopicImage, kind: Kind) -> bytes:
        pieces: list[bytes] = []
        for start in range(0, len(topic.partitions), PARTITIONS_PER_TURN):
            if self._in_turn >= PARTITIONS_PER_TURN:
                await self._next_turn()
            some = topic.partitions[start : start + PARTITIONS_PER_TURN]
            answers = [_partition(self._context, self._image, topic, part, kind.zone) for part in some]
            pieces.append(encode_metadata_partitions(answers, kind.version))
            self._in_turn += len(some)
        self._in_turn += 1
        answer = _topic_head(topic, kind.operations)
        encoded = join_metadata_topic(answer, pieces, len(topic.partitions), kind.version)
        if self._is_current:
            self._cache.keep_topic(kind, topic, encoded, topics=self._image.topic_map)
        return encoded


def _is_valid(version: int, topics: Sequence[MetadataRequestTopic]) -> bool:
    """Whether topics are named as the version allows: by id, and without a name, only from 12 on."""
    return version >= 12 or all(asked.name is not None and asked.topic_id == ZERO_UUID for asked in topics)


def endpoint_of(broker: BrokerImage, listener_name: str) -> Endpoint | None:
    """Where clients of that listener reach the broker."""
    return next((endpoint for endpoint in broker.endpoints if endpoint.listener_name == listener_name), None)


def _resource(topic: TopicImage) -> Resource:
    return ResourceType.TOPIC, topic.name


def _topics_by_id(
    context: RequestContext, image: MetadataImage, topics: Sequence[MetadataRequestTopic]
) -> Steps[list[TopicImage | MetadataResponseTopic]]:
    answers: list[TopicImage | MetadataResponseTopic] = []
    for topic_id in dict.fromkeys(asked.topic_id for asked in topics if asked.topic_id != ZERO_UUID):
        topic = image.topic_by_id(TopicId(topic_id))
        if topic is None:
            answers.append(MetadataResponseTopic(error_code=ErrorCode.UNKNOWN_TOPIC_ID, topic_id=topic_id))
        elif not context.allows(Operation.DESCRIBE, _resource(topic)):
            # The name stays unsaid.
            answers.append(MetadataResponseTopic(error_code=ErrorCode.TOPIC_AUTHORIZATION_FAILED, topic_id=topic_id))
        else:
            answers.append(topic)
        yield FOUND_US
    return answers


def _missing_topic(
    context: RequestContext, name: str, failures: Mapping[str, ErrorCode], with_operations: bool
) -> MetadataResponseTopic:
    error = failures.get(name, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
    if error is not ErrorCode.TOPIC_AUTHORIZATION_FAILED:
        try:
            check_name(name)
        except ApiError as refused:
            error = refused.code
    operations = operations_of(context, (ResourceType.TOPIC, name)) if with_operations else NOT_ASKED
    return MetadataResponseTopic(error_code=error, name=name, topic_authorized_operations=operations)


def _topic_head(topic: TopicImage, operations: int) -> MetadataResponseTopic:
    """The topic without its partitions."""
    return MetadataResponseTopic(
        name=topic.name,
        topic_id=topic.topic_id,
        is_internal=topic.is_internal,
        topic_authorized_operations=operations,
    )


def _partition(
    context: RequestContext, image: MetadataImage, topic: TopicImage, partition: PartitionImage, zone: str
) -> MetadataResponsePartition:
    error = _partition_error(context, image, partition)
    replicas = shown_replicas(image, topic, partition, zone)
    return MetadataResponsePartition(
        error_code=error,
        partition_index=partition.index,
        leader_id=-1 if error else partition.leader,
        leader_epoch=partition.leader_epoch,
        replica_nodes=replicas,
        isr_nodes=[] if error or _is_quarantined(context, topic, partition) else replicas,
        offline_replicas=replicas if error == ErrorCode.LEADER_NOT_AVAILABLE else [],
    )


def _partition_error(context: RequestContext, image: MetadataImage, partition: PartitionImage) -> ErrorCode:
    leader = image.broker(partition.leader)
    if leader is None or not image.is_led(partition):
        return ErrorCode.LEADER_NOT_AVAILABLE
    if endpoint_of(leader, context.listener_name) is None:
        return ErrorCode.LISTENER_NOT_FOUND
    return ErrorCode.NONE


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
        response.cluster_authorized_operations = _cluster_operations(context)
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


def _is_quarantined(context: RequestContext, topic: TopicImage, partition: PartitionImage) -> bool:
    """Rule: nobody is in sync with what cannot be read: tools show the partition as under-replicated."""
    return context.services.partitions.is_quarantined(topic.name, partition.index)


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
        error = _partition_error(context, image, partition)
        replicas = shown_replicas(image, topic, partition)
        partitions.append(
            DescribeTopicPartitionsResponsePartition(
                error_code=error,
                partition_index=partition.index,
                leader_id=-1 if error else partition.leader,
                leader_epoch=partition.leader_epoch,
                replica_nodes=replicas,
                isr_nodes=[] if error or _is_quarantined(context, topic, partition) else replicas,
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
        topic_authorized_operations=operations_of(context, _resource(topic)),
    )


HANDLERS: Final[Mapping[type[Message], Handler]] = {
    ApiVersionsRequest: handle_api_versions,
    MetadataRequest: handle_metadata,
    DescribeClusterRequest: handle_describe_cluster,
    DescribeTopicPartitionsRequest: handle_describe_topic_partitions,
}
