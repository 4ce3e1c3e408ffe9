"""Pure: topics are created, grown and deleted, each with its streams.

Each topic alone: what is refused changes nothing, the others are changed together. Replication factors are nominal:
any is accepted and shown, the object store replicates. A request may be large, so each is decided in parts (`finish`
makes one of them); nothing else may be decided in between.
"""

import dataclasses
import re
import uuid
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Final

from automq.controller.configs import canonical_configs, check_configs
from automq.controller.model import BrokerLoad, ControllerSettings, PartitionsSpec, TopicResult, TopicSpec
from automq.controller.placement import Placement
from automq.ids import NodeId, StreamId, TopicId
from automq.metadata.configs import TOPIC_CONFIGS
from automq.metadata.image import TOPIC_RESOURCE, MetadataImage, TopicImage, collision_key
from automq.metadata.records import (
    ConfigChanged,
    MetadataRecord,
    NewPartition,
    PartitionsCreated,
    StreamsDeleted,
    TopicCreated,
    TopicDeleted,
)
from automq.protocol.errors import ApiError, ErrorCode
from automq.replicated.machine import Decision

NAME_LENGTH_MAX: Final = 249
NAME: Final = re.compile(r"[a-zA-Z0-9._-]+")
RESERVED: Final = frozenset({"__cluster_metadata"})
# Kafka's own bound for one request: keeps one change within one slot of the metadata log.
PARTITIONS_MAX: Final = 10_000
# Every answer that names a partition repeats its nominal replicas.
REPLICATION_FACTOR_MAX: Final = 16
# About how long a topic takes, and a partition.
TOPIC_US: Final = 30
LOOKUP_US: Final = 2
PARTITION_US: Final = 4

LiveBrokers = Mapping[NodeId, BrokerLoad | None]
"""Brokers that are there, with what each has told of its load."""
Parts = Generator[int, None, Decision[MetadataRecord, list[TopicResult]]]


@dataclasses.dataclass(slots=True)
class _Batch:
    """What one request has decided so far."""

    image: MetadataImage
    settings: ControllerSettings
    records: list[MetadataRecord]
    next_stream: int
    among: LiveBrokers | None
    """The brokers that are known to be there; None: every one that is registered and not fenced."""
    placement: Placement
    partitions: int = 0

    @classmethod
    def of(
        cls,
        image: MetadataImage,
        settings: ControllerSettings,
        among: LiveBrokers | None,
    ) -> "_Batch":
        """Nothing decided yet."""
        reported = {node: load for node, load in (among or {}).items() if load is not None}
        return cls(image, settings, [], image.next_stream, among, Placement(image, among=among, reported=reported))

    def add(
        self, topic_id: TopicId, *, first: int, count: int, assignments: Sequence[Sequence[NodeId]] | None
    ) -> Generator[int, None, None]:
        """`count` more partitions of a topic, each with the next stream. Raises ApiError before anything is added."""
        partitions: list[NewPartition] = []
        topic = self.image.topic_by_id(topic_id)
        self.placement.begin(count, () if topic is None else topic.partitions)
        for number in range(count):
            replicas: tuple[NodeId, ...] = ()
            if assignments is None:
                leader = self.placement.place()
            else:
                replicas = tuple(assignments[number])
                leader = replicas[0]
                self.placement.take(leader)
            broker = self.image.broker(leader)
            partitions.append(
                NewPartition(
                    index=first + number,
                    stream=StreamId(self.next_stream + number),
                    leader=leader,
                    replicas=replicas,
                    broker_epoch=None if broker is None else broker.epoch,
                )
            )
            yield PARTITION_US
        self.next_stream += count
        self.records.append(PartitionsCreated(topic_id=topic_id, partitions=tuple(partitions)))

    def admit(self, count: int) -> None:
        """Raises ApiError when this request makes too many partitions."""
        if self.partitions + count > PARTITIONS_MAX:
            raise ApiError(ErrorCode.POLICY_VIOLATION, "Excessively large number of partitions per request.")
        self.partitions += count


def create_topics(
    image: MetadataImage,
    specs: Sequence[TopicSpec],
    *,
    settings: ControllerSettings,
    new_id: Callable[[], uuid.UUID],
    validate_only: bool,
    among: LiveBrokers | None = None,
) -> Parts:
    """One result for each name, in the order of the request. A name that comes twice is refused as a whole."""
    batch = _Batch.of(image, settings, among)
    names = Counter(spec.name for spec in specs)
    taken: dict[str, str] = {}
    results: dict[str, TopicResult] = {}
    for spec in specs:
        if spec.name in results:
            continue
        try:
            if names[spec.name] > 1:
                raise ApiError(ErrorCode.INVALID_REQUEST, "Duplicate topic name.")
            check_name(spec.name)
            _check_free(image, spec.name, taken)
            results[spec.name] = yield from _create_topic(batch, spec, new_id)
            taken[collision_key(spec.name)] = spec.name
        except ApiError as error:
            results[spec.name] = TopicResult(name=spec.name, error=error)
        yield TOPIC_US
    return Decision(() if validate_only else batch.records, list(results.values()))


def _create_topic(batch: _Batch, spec: TopicSpec, new_id: Callable[[], uuid.UUID]) -> Generator[int, None, TopicResult]:
    configs = spec.configs
    check_configs(configs, TOPIC_CONFIGS, message_limit=batch.settings.message_limit)
    assignments: Sequence[Sequence[NodeId]] | None = None
    if spec.assignments is not None:
        assignments = _check_assignments(batch, spec)
        count, factor = len(assignments), len(assignments[0])
    else:
        count, factor = _check_numbers(spec, batch.settings)
        batch.placement.check()
    batch.admit(count)
    topic_id = TopicId(new_id())
    batch.records.append(
        TopicCreated(topic_id=topic_id, name=spec.name, is_internal=spec.is_internal, replication_factor=factor)
    )
    yield from batch.add(topic_id, first=0, count=count, assignments=assignments)
    changes = tuple(canonical_configs(configs, TOPIC_CONFIGS).items())
    if changes:
        batch.records.append(ConfigChanged(resource_type=TOPIC_RESOURCE, resource_name=spec.name, changes=changes))
    return TopicResult(name=spec.name, topic_id=topic_id, partitions=count, replication_factor=factor)


def check_name(name: str) -> None:
    """Raises ApiError for what Kafka calls no topic name."""
    if not name:
        problem = "the empty string is not allowed"
    elif name in (".", ".."):
        problem = f"'{name}' is not allowed"
    elif len(name) > NAME_LENGTH_MAX:
        problem = f"the length of '{name}' is longer than the max allowed length {NAME_LENGTH_MAX}"
    elif not NAME.fullmatch(name):
        problem = f"'{name}' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'"
    else:
        if name in RESERVED:
            raise ApiError(ErrorCode.TOPIC_AUTHORIZATION_FAILED, f"{name} is reserved: choose another name")
        return
    raise ApiError(ErrorCode.INVALID_TOPIC_EXCEPTION, f"Topic name is invalid: {problem}")


def _check_free(image: MetadataImage, name: str, taken: Mapping[str, str]) -> None:
    """Kafka's metric names do not tell '.' from '_': topics that differ in nothing else are refused."""
    if image.topic(name) is not None:
        raise ApiError(ErrorCode.TOPIC_ALREADY_EXISTS, f"Topic '{name}' already exists.")
    key = collision_key(name)
    other = taken.get(key) or image.collision_keys.get(key)
    if other is not None:
        raise ApiError(ErrorCode.INVALID_TOPIC_EXCEPTION, f"Topic '{name}' collides with existing topic: {other}")


def _check_numbers(spec: TopicSpec, settings: ControllerSettings) -> tuple[int, int]:
    count = settings.partitions_default if spec.partitions is None else spec.partitions
    if count < 1:
        raise ApiError(ErrorCode.INVALID_PARTITIONS, "Number of partitions was set to an invalid non-positive value.")
    factor = settings.replication_factor_default if spec.replication_factor is None else spec.replication_factor
    if not 1 <= factor <= REPLICATION_FACTOR_MAX:
        raise ApiError(
            ErrorCode.INVALID_REPLICATION_FACTOR,
            "Replication factor must be larger than 0, or -1 to use the default value."
            if factor < 1
            else f"Replication factor {factor} is refused: it is nominal here, and at most {REPLICATION_FACTOR_MAX}.",
        )
    return count, factor


def _check_assignments(batch: _Batch, spec: TopicSpec) -> Sequence[Sequence[NodeId]]:
    assert spec.assignments is not None
    if spec.partitions is not None or spec.replication_factor is not None:
        raise ApiError(
            ErrorCode.INVALID_REQUEST,
            "A manual partition assignment was specified, but numPartitions or replicationFactor were not set to -1.",
        )
    indexes = sorted(spec.assignments)
    if not indexes or indexes != list(range(len(indexes))):
        raise ApiError(
            ErrorCode.INVALID_REPLICA_ASSIGNMENT, "partitions should be a consecutive 0-based integer sequence"
        )
    assignments = [spec.assignments[index] for index in indexes]
    if len(assignments[0]) > REPLICATION_FACTOR_MAX:
        raise ApiError(
            ErrorCode.INVALID_REPLICATION_FACTOR,
            f"{len(assignments[0])} replicas are assigned: their number is nominal here, and at most "
            f"{REPLICATION_FACTOR_MAX}.",
        )
    _check_replicas(batch, assignments, factor=len(assignments[0]))
    return assignments


def _check_replicas(batch: _Batch, assignments: Sequence[Sequence[NodeId]], *, factor: int) -> None:
    for nodes in assignments:
        _check_list(batch, nodes)
        if len(nodes) != factor:
            raise ApiError(
                ErrorCode.INVALID_REPLICA_ASSIGNMENT,
                f"The manual partition assignment includes a partition with {len(nodes)} replica(s), but this is not "
                f"consistent with previous partitions, which have {factor} replica(s).",
            )


def _check_list(batch: _Batch, nodes: Sequence[NodeId]) -> None:
    """One partition's list by itself."""
    if not nodes:
        raise ApiError(
            ErrorCode.INVALID_REPLICA_ASSIGNMENT, "The manual partition assignment includes an empty replica list."
        )
    for node in nodes:
        if nodes.count(node) > 1:
            raise ApiError(
                ErrorCode.INVALID_REPLICA_ASSIGNMENT,
                f"The manual partition assignment includes the broker {node} more than once.",
            )
    # The others of the list are nominal: a backup's list of three brokers is taken by a cluster of one.
    leader = batch.image.broker(nodes[0])
    if leader is None:
        raise ApiError(
            ErrorCode.INVALID_REPLICA_ASSIGNMENT,
            f"The manual partition assignment includes broker {nodes[0]}, but no such broker is registered.",
        )
    if leader.fenced or (batch.among is not None and leader.node not in batch.among):
        raise ApiError(
            ErrorCode.INVALID_REPLICA_ASSIGNMENT,
            f"All brokers specified in the manual partition assignment are fenced or in controlled shutdown: "
            f"broker {nodes[0]} cannot lead.",
        )


def create_partitions(
    image: MetadataImage,
    specs: Sequence[PartitionsSpec],
    *,
    settings: ControllerSettings,
    validate_only: bool,
    among: LiveBrokers | None = None,
) -> Parts:
    """Grow topics; one result for each name."""
    batch = _Batch.of(image, settings, among)
    names = Counter(spec.name for spec in specs)
    results: dict[str, TopicResult] = {}
    for spec in specs:
        if spec.name in results:
            continue
        try:
            if names[spec.name] > 1:
                raise ApiError(ErrorCode.INVALID_REQUEST, "Duplicate topic name.")
            results[spec.name] = yield from _grow(batch, spec)
        except ApiError as error:
            results[spec.name] = TopicResult(name=spec.name, error=error)
        yield TOPIC_US
    return Decision(() if validate_only else batch.records, list(results.values()))


def _grow(batch: _Batch, spec: PartitionsSpec) -> Generator[int, None, TopicResult]:
    topic = batch.image.topic(spec.name)
    if topic is None:
        raise ApiError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"topic {spec.name} does not exist")
    have = len(topic.partitions)
    if spec.count == have:
        raise ApiError(ErrorCode.INVALID_PARTITIONS, f"Topic already has {have} partition(s).")
    if spec.count < have:
        raise ApiError(
            ErrorCode.INVALID_PARTITIONS,
            f"The topic {spec.name} currently has {have} partition(s); {spec.count} would not be an increase.",
        )
    added = spec.count - have
    if spec.assignments is not None:
        if len(spec.assignments) != added:
            raise ApiError(
                ErrorCode.INVALID_REPLICA_ASSIGNMENT,
                f"Attempted to add {added} additional partition(s), but only {len(spec.assignments)} assignment(s) "
                "were specified.",
            )
        _check_replicas(batch, spec.assignments, factor=topic.replication_factor)
    else:
        batch.placement.check()
    batch.admit(added)
    yield from batch.add(topic.topic_id, first=have, count=added, assignments=spec.assignments)
    return _result(topic, partitions=spec.count)


def delete_topics(image: MetadataImage, topics: Sequence[str | TopicId]) -> Parts:
    """By name or id, one result each, in order. A topic that is named in two ways is not deleted, as in Kafka."""
    records: list[MetadataRecord] = []
    results: list[TopicResult] = []
    found: list[TopicImage | None] = []
    counts: Counter[TopicId] = Counter()
    for wanted in topics:
        topic = image.topic(wanted) if isinstance(wanted, str) else image.topic_by_id(wanted)
        found.append(topic)
        if topic is not None:
            counts[topic.topic_id] += 1
        yield LOOKUP_US
    for wanted, topic in zip(topics, found, strict=True):
        if topic is None:
            results.append(_missing(wanted))
            continue
        if counts[topic.topic_id] > 1:
            message = "The provided topic name maps to an ID that was already supplied."
            refused = ApiError(ErrorCode.INVALID_REQUEST, message)
            results.append(TopicResult(name=topic.name, topic_id=topic.topic_id, error=refused))
            continue
        if topic.partitions:
            records.append(StreamsDeleted(streams=tuple(part.stream for part in topic.partitions)))
        records.append(TopicDeleted(topic_id=topic.topic_id))
        results.append(_result(topic, partitions=len(topic.partitions)))
        yield TOPIC_US + len(topic.partitions) // 4
    return Decision(records, results)


def _missing(wanted: str | TopicId) -> TopicResult:
    if isinstance(wanted, str):
        error = ApiError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "This server does not host this topic-partition.")
        return TopicResult(name=wanted, error=error)
    return TopicResult(
        name="",
        topic_id=wanted,
        error=ApiError(ErrorCode.UNKNOWN_TOPIC_ID, "This server does not host this topic ID."),
    )


def _result(topic: TopicImage, *, partitions: int) -> TopicResult:
    return TopicResult(
        name=topic.name,
        topic_id=topic.topic_id,
        partitions=partitions,
        replication_factor=topic.replication_factor,
    )
