"""Handles messages.admin_cluster for leaders and replicas: elections and reassignments of partitions.

Every leader is the preferred one, and with one broker there is nowhere to move a partition to: what would change
nothing succeeds, what would is refused with the reason.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from automq.handlers.context import Handler, RequestContext
from automq.handlers.replicas import shown_replicas
from automq.ids import NodeId
from automq.metadata.image import MetadataImage, PartitionImage
from automq.protocol.errors import ApiError, ErrorCode
from automq.protocol.messages.admin_cluster import (
    AlterPartitionReassignmentsRequest,
    AlterPartitionReassignmentsResponse,
    ElectLeadersRequest,
    ElectLeadersResponse,
    ListPartitionReassignmentsRequest,
    ListPartitionReassignmentsResponse,
    PartitionResult,
    ReassignablePartitionResponse,
    ReassignableTopicResponse,
    ReplicaElectionResult,
    TopicPartitions,
)
from automq.protocol.schema import Message

_PREFERRED, _UNCLEAN = 0, 1


async def handle_elect_leaders(context: RequestContext, request: ElectLeadersRequest) -> ElectLeadersResponse:
    """Nobody is elected: each named partition is led by its preferred leader. Without names there is nothing to say."""
    if request.election_type not in (_PREFERRED, _UNCLEAN):
        return ElectLeadersResponse(
            error_code=ErrorCode.INVALID_REQUEST, replica_election_results=_no_elections(request)
        )
    image = context.services.metadata.image
    return ElectLeadersResponse(
        replica_election_results=[
            ReplicaElectionResult(topic=topic.topic, partition_result=_elections(image, topic))
            for topic in request.topic_partitions or []
        ]
    )


def _no_elections(request: ElectLeadersRequest) -> list[ReplicaElectionResult]:
    code, message = ErrorCode.INVALID_REQUEST, f"Unknown election type {request.election_type}"
    return [
        ReplicaElectionResult(
            topic=topic.topic,
            partition_result=[
                PartitionResult(partition_id=index, error_code=code, error_message=message)
                for index in topic.partitions
            ],
        )
        for topic in request.topic_partitions or []
    ]


def _elections(image: MetadataImage, topic: TopicPartitions) -> list[PartitionResult]:
    results: list[PartitionResult] = []
    for index in topic.partitions:
        try:
            partition = _partition(image, topic.topic, index)
            if partition is None:
                what = topic.topic if image.topic(topic.topic) is None else f"{topic.topic}-{index}"
                kind = "topic" if image.topic(topic.topic) is None else "partition"
                raise ApiError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"No such {kind} as {what}")
            if not image.is_led(partition):
                raise ApiError(ErrorCode.PREFERRED_LEADER_NOT_AVAILABLE, "The preferred leader was not available.")
            raise ApiError(ErrorCode.ELECTION_NOT_NEEDED, "Leader election not needed for topic partition.")
        except ApiError as answer:
            results.append(PartitionResult(partition_id=index, error_code=answer.code, error_message=answer.message))
    return results


async def handle_alter_partition_reassignments(
    context: RequestContext, request: AlterPartitionReassignmentsRequest
) -> AlterPartitionReassignmentsResponse:
    """One result a partition. A list that is what the partition has succeeds at once: tools roll back with it."""
    image = context.services.metadata.image
    return AlterPartitionReassignmentsResponse(
        allow_replication_factor_change=request.allow_replication_factor_change,
        responses=[
            ReassignableTopicResponse(
                name=topic.name,
                partitions=[
                    _reassigned(image, topic.name, asked.partition_index, asked.replicas) for asked in topic.partitions
                ],
            )
            for topic in request.topics
        ],
    )


def _reassigned(
    image: MetadataImage, name: str, index: int, replicas: Sequence[int] | None
) -> ReassignablePartitionResponse:
    answer = ReassignablePartitionResponse(partition_index=index)
    try:
        partition = _partition(image, name, index)
        if partition is None:
            message = f"Unable to find partition {name}:{index}."
            if image.topic(name) is None:
                message = f"Unable to find a topic named {name}."
            raise ApiError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, message)
        _check_reassignment(image, name, partition, replicas)
    except ApiError as refused:
        answer.error_code, answer.error_message = refused.code, refused.message
    return answer


def _check_reassignment(
    image: MetadataImage, name: str, partition: PartitionImage, replicas: Sequence[int] | None
) -> None:
    """Raises ApiError unless `replicas` is what the partition has already."""
    if replicas is None:
        raise ApiError(ErrorCode.NO_REASSIGNMENT_IN_PROGRESS, "No partition reassignment is in progress.")
    if not replicas:
        raise ApiError(
            ErrorCode.INVALID_REPLICA_ASSIGNMENT, "The manual partition assignment includes an empty replica list."
        )
    for node in replicas:
        broker = image.broker(NodeId(node))
        if broker is None:
            raise ApiError(
                ErrorCode.INVALID_REPLICA_ASSIGNMENT,
                f"The manual partition assignment includes broker {node}, but no such broker is registered.",
            )
    topic = image.topic(name)
    assert topic is not None
    if list(replicas) != shown_replicas(image, topic, partition):
        raise ApiError(
            ErrorCode.INVALID_REPLICA_ASSIGNMENT,
            f"Partition {name}-{partition.index} cannot be moved: this cluster has one broker, and a topic keeps the "
            "replication factor it was created with. The object store replicates.",
        )


async def handle_list_partition_reassignments(
    _context: RequestContext, _request: ListPartitionReassignmentsRequest
) -> ListPartitionReassignmentsResponse:
    """None is under way."""
    return ListPartitionReassignmentsResponse()


def _partition(image: MetadataImage, name: str, index: int) -> PartitionImage | None:
    topic = image.topic(name)
    return topic.partitions[index] if topic is not None and 0 <= index < len(topic.partitions) else None


HANDLERS: Final[Mapping[type[Message], Handler]] = {
    ElectLeadersRequest: handle_elect_leaders,
    AlterPartitionReassignmentsRequest: handle_alter_partition_reassignments,
    ListPartitionReassignmentsRequest: handle_list_partition_reassignments,
}
