"""Answers Metadata: the brokers, and topics as bytes that were encoded before where they are still true.

A request may name as many topics as a cluster has partitions, so nothing here goes through all of them in one turn of
the event loop: they are counted, found, encoded and put together a part at a time.
"""

import asyncio
import operator
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final, cast

from automq.controller.topics import check_name
from automq.handlers.auto_creation import create_missing
from automq.handlers.context import RequestContext
from automq.handlers.metadata_cache import LIST_MAX, LIST_MIN, KeptList, Kind, TopicList
from automq.handlers.operations import KNOWN, NOT_ASKED, all_operations, operations_of
from automq.handlers.replicas import shown_replicas
from automq.handlers.zone_hint import known_zone
from automq.ids import TopicId
from automq.metadata.image import BrokerImage, Endpoint, MetadataImage, PartitionImage, TopicImage
from automq.protocol.errors import ApiError, ErrorCode
from automq.protocol.messages.discovery import (
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
from automq.runtime.turns import Pace, in_turns
from automq.security.authorizer import CLUSTER, Operation, Resource, ResourceType
from automq.steps import Steps

PARTITIONS_PER_TURN: Final = 250
"""Encoded in about a millisecond."""

KEPT_TOPICS_PER_TURN: Final = 2_500
"""Found in the cache in about a millisecond."""

# Topics of a request that are counted as one part, and about how long that takes.
ASKED_PER_PART: Final = 250
ASKED_US: Final = 100

# About how long it takes to find a topic by its id, or by its name, and to see what the client may do.
FOUND_US: Final = 4

Found = TopicImage | str | uuid.UUID
"""A topic; or the name or the id of one that is not there, or not for this client."""


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
        response.cluster_authorized_operations = cluster_operations(context)
    with_operations = request.include_topic_authorized_operations
    encoder = _TopicEncoder(context, image, with_operations)
    if request.topics is None or (context.version == 0 and not request.topics):
        return EncodedMetadata(response, *await encoder.all())
    names, ids, is_valid = await in_turns(_asked(request.topics, context.version))
    if not is_valid:
        response.error_code = ErrorCode.INVALID_REQUEST
        return await encoder.refuse(response, request.topics)
    if any(ids):
        known = await encoder.listed(ids)
        if known is not None:
            return EncodedMetadata(response, [known], len(ids))
        return await encoder.answer(response, ids, await in_turns(_topics_by_id(context, image, request.topics)))
    known = await encoder.listed(names)
    if known is not None:
        return EncodedMetadata(response, [known], len(names))
    failures = await in_turns(_hidden(context, names))
    topics, missing = await in_turns(_topics_by_name(image, names, failures))
    if missing and request.allow_auto_topic_creation and context.services.broker_configs.auto_create_topics:
        failures |= await _create_missing(context, missing)
        image = context.services.metadata.image
        encoder = _TopicEncoder(context, image, with_operations)
        topics, _ = await in_turns(_topics_by_name(image, names, failures))
    encoder.failures = failures
    return await encoder.answer(response, names, topics)


def _asked(
    topics: Sequence[MetadataRequestTopic], version: int
) -> Steps[tuple[tuple[str, ...], tuple[int, ...], bool]]:
    """The names, each once, and the numbers of the ids; and whether topics are named as the version allows.

    By id, and without a name, they are only from 12 on.
    """
    names: dict[str, None] = {}
    ids: list[int] = []
    is_valid = True
    for start in range(0, len(topics), ASKED_PER_PART):
        some = topics[start : start + ASKED_PER_PART]
        ids += [asked.topic_id.int for asked in some]
        if version < 12 and is_valid:
            is_valid = not any(ids[start:]) and all(asked.name is not None for asked in some)
        names |= dict.fromkeys([asked.name or "" for asked in some])
        yield ASKED_US
    return tuple(names), tuple(ids), is_valid


def _hidden(context: RequestContext, names: Sequence[str]) -> Steps[dict[str, ErrorCode]]:
    """The names that the client may not know of."""
    failures: dict[str, ErrorCode] = {}
    if context.allows_every(Operation.DESCRIBE, ResourceType.TOPIC):
        return failures
    for name in names:
        if not context.allows(Operation.DESCRIBE, (ResourceType.TOPIC, name)):
            failures[name] = ErrorCode.TOPIC_AUTHORIZATION_FAILED
        yield FOUND_US
    return failures


def _topics_by_name(
    image: MetadataImage, names: Sequence[str], failures: Mapping[str, ErrorCode]
) -> Steps[tuple[list[Found], list[str]]]:
    """What there is of each name, and the names that are missing: those without a topic or a failure."""
    found: list[Found] = []
    missing: list[str] = []
    for name in names:
        failure = failures.get(name)
        topic = image.topic(name) if failure is not ErrorCode.TOPIC_AUTHORIZATION_FAILED else None
        found.append(topic or name)
        if topic is None and failure is None:
            missing.append(name)
        yield FOUND_US
    return found, missing


def _topics_by_id(
    context: RequestContext, image: MetadataImage, topics: Sequence[MetadataRequestTopic]
) -> Steps[list[Found]]:
    """What there is of each id, once; a topic that the client may not see stays an id: its name is not told."""
    found: dict[int, Found] = {}
    for asked in topics:
        topic_id = asked.topic_id
        number = topic_id.int
        if number and number not in found:
            topic = image.topic_by_id(TopicId(topic_id))
            may_see = topic is not None and context.allows(Operation.DESCRIBE, _resource(topic))
            found[number] = topic if topic is not None and may_see else topic_id
        yield FOUND_US
    return list(found.values())


async def _create_missing(context: RequestContext, names: Sequence[str]) -> dict[str, ErrorCode]:
    """Create topics, as far as the client may; the code of each that could not be made."""
    may_all = context.allows(Operation.CREATE, CLUSTER)
    pace = Pace()
    allowed: list[str] = []
    failures: dict[str, ErrorCode] = {}
    for name in names:
        if may_all or context.allows(Operation.CREATE, (ResourceType.TOPIC, name)):
            allowed.append(name)
        else:
            failures[name] = ErrorCode.TOPIC_AUTHORIZATION_FAILED
        await pace.spend(FOUND_US)
    return failures | await create_missing(context, allowed)


def cluster_operations(context: RequestContext) -> int:
    """As Kafka: nothing for whoever may not describe the cluster."""
    return operations_of(context, CLUSTER) if context.allows(Operation.DESCRIBE, CLUSTER) else 0


class _TopicEncoder:
    """Topics of one answer as bytes, from the cache where they are there, a millisecond in one turn of the loop."""

    def __init__(self, context: RequestContext, image: MetadataImage, with_operations: bool) -> None:
        """`image` is the newest one."""
        self._context, self._image, self._with_operations = context, image, with_operations
        self.failures: Mapping[str, ErrorCode] = {}
        """Why names have no topic, where it is not that there is none."""
        self.codes: Counter[int] = Counter()
        """Errors that were encoded, and how often."""
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
        if not self._is_listed(asked):
            return None
        kept = self._cache.listed(self._kind, asked)
        topic_map = self._image.topic_map
        if kept is None or kept.topic_map is topic_map:
            return None if kept is None else kept.encoded
        found: list[TopicImage | None] = []
        for start in range(0, len(kept.topics), KEPT_TOPICS_PER_TURN):
            if start:
                await self._next_turn()
            some = kept.topics[start : start + KEPT_TOPICS_PER_TURN]
            found += map(topic_map.get, [topic.topic_id for topic in some])
        # By identity, and all at once: of a thousand topics one has changed.
        changed = [index for index, differs in enumerate(map(operator.is_not, found, kept.topics)) if differs]
        if any(found[index] is None for index in changed):
            return None
        topics, pieces = cast(list[TopicImage], found), list(kept.pieces)
        for index in changed:
            (pieces[index],) = await self.each([topics[index]])
        return self._keep_list(asked, topics, pieces)

    def _is_listed(self, asked: TopicList) -> bool:
        """Whether the answer to that list is kept as a whole, or may be."""
        return self._sees_all and not self._are_operations_own and LIST_MIN <= len(asked) <= LIST_MAX

    async def answer(self, response: MetadataResponse, asked: TopicList, topics: Sequence[Found]) -> EncodedMetadata:
        """`response` with each of `topics`, which is what is asked for; known as a whole when it is asked for again."""
        encoded: list[bytes] = []
        pieces: list[bytes] = []
        for start in range(0, len(topics), LIST_MAX):
            pieces = await self.each(topics[start : start + LIST_MAX])
            encoded.append(b"".join(pieces))
        if self._is_listed(asked) and self._is_current and len(topics) == len(asked) and not self.codes:
            self._keep_list(asked, cast(Sequence[TopicImage], topics), pieces)
        return EncodedMetadata(response, encoded, len(topics), codes=self.codes)

    async def refuse(self, response: MetadataResponse, topics: Sequence[MetadataRequestTopic]) -> EncodedMetadata:
        """`response`, whose error is that of all `topics`."""
        pieces: list[bytes] = []
        for asked in topics:
            if self._in_turn >= PARTITIONS_PER_TURN:
                await self._next_turn()
            code = ErrorCode(response.error_code)
            topic = MetadataResponseTopic(error_code=code, name=asked.name or "", topic_id=asked.topic_id)
            pieces.append(self._failed(topic))
        return EncodedMetadata(response, pieces, len(topics), codes=self.codes)

    def _keep_list(self, asked: TopicList, topics: Sequence[TopicImage], pieces: Sequence[bytes]) -> bytes:
        encoded = b"".join(pieces)
        if self._is_current:
            self._cache.keep_list(self._kind, asked, KeptList(self._image.topic_map, topics, pieces, encoded))
        return encoded

    async def each(self, topics: Sequence[Found]) -> list[bytes]:
        """Each of `topics`."""
        encoded: list[bytes] = []
        known = self._cache.topics(self._kind) if not self._are_operations_own else {}
        for topic in topics:
            if self._in_turn >= PARTITIONS_PER_TURN:
                await self._next_turn()
            if not isinstance(topic, TopicImage):
                encoded.append(self._failed(self._absent(topic)))
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

    def _failed(self, topic: MetadataResponseTopic) -> bytes:
        """A topic that has an error instead of partitions."""
        self.codes[topic.error_code] += 1
        self._in_turn += 1
        return encode_metadata_topic(topic, self._kind.version)

    def _absent(self, asked: str | uuid.UUID) -> MetadataResponseTopic:
        """What is said of a topic that is not there, or that the client may not see."""
        if isinstance(asked, uuid.UUID):
            is_hidden = self._image.topic_by_id(TopicId(asked)) is not None
            code = ErrorCode.TOPIC_AUTHORIZATION_FAILED if is_hidden else ErrorCode.UNKNOWN_TOPIC_ID
            return MetadataResponseTopic(error_code=code, topic_id=asked)
        error = self.failures.get(asked, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
        if error is not ErrorCode.TOPIC_AUTHORIZATION_FAILED:
            try:
                check_name(asked)
            except ApiError as refused:
                error = refused.code
        operations = NOT_ASKED
        if self._with_operations:
            operations = operations_of(self._context, (ResourceType.TOPIC, asked))
        return MetadataResponseTopic(error_code=error, name=asked, topic_authorized_operations=operations)

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


def endpoint_of(broker: BrokerImage, listener_name: str) -> Endpoint | None:
    """Where clients of that listener reach the broker."""
    return next((endpoint for endpoint in broker.endpoints if endpoint.listener_name == listener_name), None)


def _resource(topic: TopicImage) -> Resource:
    return ResourceType.TOPIC, topic.name


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
    error = partition_error(context, image, partition)
    replicas = shown_replicas(image, topic, partition, zone)
    return MetadataResponsePartition(
        error_code=error,
        partition_index=partition.index,
        leader_id=-1 if error else partition.leader,
        leader_epoch=partition.leader_epoch,
        replica_nodes=replicas,
        isr_nodes=[] if error or is_quarantined(context, topic, partition) else replicas,
        offline_replicas=replicas if error == ErrorCode.LEADER_NOT_AVAILABLE else [],
    )


def partition_error(context: RequestContext, image: MetadataImage, partition: PartitionImage) -> ErrorCode:
    leader = image.broker(partition.leader)
    if leader is None or not image.is_led(partition):
        return ErrorCode.LEADER_NOT_AVAILABLE
    if endpoint_of(leader, context.listener_name) is None:
        return ErrorCode.LISTENER_NOT_FOUND
    return ErrorCode.NONE


def is_quarantined(context: RequestContext, topic: TopicImage, partition: PartitionImage) -> bool:
    """Rule: nobody is in sync with what cannot be read: tools show the partition as under-replicated."""
    return context.services.partitions.is_quarantined(topic.name, partition.index)
