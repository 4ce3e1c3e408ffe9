"""What `automq brokers` and `automq cluster` show: rows gathered by the APIs that every Kafka has for them."""

from collections import Counter
from typing import Final

from automq.cli.client import KafkaClient, RequestFailed, check
from automq.cli.output import Row
from automq.protocol.errors import ErrorCode
from automq.protocol.messages.admin import DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResponse
from automq.protocol.messages.admin_cluster import (
    DescribeLogDirsRequest,
    DescribeLogDirsResponse,
    ListPartitionReassignmentsRequest,
    ListPartitionReassignmentsResponse,
)
from automq.protocol.messages.controller import (
    DescribeQuorumRequest,
    DescribeQuorumResponse,
    PartitionData,
    PartitionRequest,
    TopicRequest,
)
from automq.protocol.messages.discovery import DescribeClusterRequest, DescribeClusterResponse, MetadataResponse

METADATA_TOPIC: Final = "__cluster_metadata"
BROKER_RESOURCE: Final = 4
DRAINING: Final = "automq.broker.draining"
TIMEOUT_MS: Final = 15_000
WITH_FENCED: Final = range(2, 3)
"""Versions of DescribeCluster that name brokers that are fenced."""


def described_cluster(client: KafkaClient) -> DescribeClusterResponse:
    """The cluster as the broker that is asked sees it; with fenced brokers where that can be asked for."""
    try:
        request = DescribeClusterRequest(include_fenced_brokers=True)
        answer = client.call(request, DescribeClusterResponse, versions=WITH_FENCED)
    except RequestFailed:
        answer = client.call(DescribeClusterRequest(), DescribeClusterResponse)
    check(answer.error_code, "the cluster is not described", answer.error_message)
    return answer


def broker_rows(client: KafkaClient) -> list[Row]:
    """A line for each broker, in order of node ids; None is what only a broker that cannot be asked could say."""
    metadata = client.metadata()
    described = described_cluster(client)
    led = Counter(partition.leader_id for topic in metadata.topics for partition in topic.partitions)
    held = Counter(
        node for topic in metadata.topics for partition in topic.partitions for node in set(partition.replica_nodes)
    )
    return [
        {
            "broker": broker.broker_id,
            "address": f"{broker.host}:{broker.port}",
            "rack": broker.rack or "",
            "state": _state(client, broker.broker_id, is_fenced=broker.is_fenced),
            "controller": broker.broker_id == described.controller_id,
            "leaders": led[broker.broker_id],
            "replicas": held[broker.broker_id],
            "bytes": _stored_bytes(client, broker.broker_id),
        }
        for broker in sorted(described.brokers, key=lambda broker: broker.broker_id)
    ]


def cluster_row(client: KafkaClient) -> Row:
    """The cluster as a whole; epoch and position of its metadata are None where they are not described."""
    metadata = client.metadata()
    described = described_cluster(client)
    quorum = _metadata_quorum(client)
    partitions = [partition for topic in metadata.topics for partition in topic.partitions]
    fenced = sum(1 for broker in described.brokers if broker.is_fenced)
    return {
        "cluster": described.cluster_id,
        "controller": described.controller_id if described.controller_id >= 0 else None,
        "controller_epoch": None if quorum is None else quorum.leader_epoch,
        "metadata_position": None if quorum is None else quorum.high_watermark,
        "brokers": len(described.brokers) - fenced,
        "fenced_brokers": fenced,
        "topics": _visible_topics(metadata),
        "partitions": len(partitions),
        "leaderless_partitions": sum(1 for partition in partitions if partition.leader_id < 0),
        "under_replicated_partitions": sum(
            1 for partition in partitions if len(partition.isr_nodes) < len(partition.replica_nodes)
        ),
    }


def move_rows(client: KafkaClient) -> list[Row]:
    """A line for each partition that is being reassigned. Raises RequestFailed."""
    answer = client.call(ListPartitionReassignmentsRequest(timeout=TIMEOUT_MS), ListPartitionReassignmentsResponse)
    check(answer.error_code, "reassignments are not listed", answer.error_message)
    return [
        {
            "topic": topic.name,
            "partition": partition.partition_index,
            "replicas": partition.replicas,
            "adding": partition.adding_replicas,
            "removing": partition.removing_replicas,
        }
        for topic in sorted(answer.topics, key=lambda topic: topic.name)
        for partition in sorted(topic.partitions, key=lambda partition: partition.partition_index)
    ]


def _visible_topics(metadata: MetadataResponse) -> int:
    return sum(1 for topic in metadata.topics if not topic.is_internal)


def _state(client: KafkaClient, node: int, *, is_fenced: bool) -> str:
    if is_fenced:
        return "fenced"
    try:
        return "draining" if _is_draining(client, node) else "online"
    except RequestFailed:
        return "unreachable"


def _is_draining(client: KafkaClient, node: int) -> bool:
    """Other Kafkas know no such config."""
    resource = DescribeConfigsResource(
        resource_type=BROKER_RESOURCE, resource_name=str(node), configuration_keys=[DRAINING]
    )
    answer = client.call(DescribeConfigsRequest(resources=[resource]), DescribeConfigsResponse, node=node)
    return any(
        config.name == DRAINING and config.value == "true" for result in answer.results for config in result.configs
    )


def _stored_bytes(client: KafkaClient, node: int) -> int | None:
    """Of what the broker holds: the partitions that it leads where data are shared, its replicas elsewhere."""
    try:
        answer = client.call(DescribeLogDirsRequest(topics=None), DescribeLogDirsResponse, node=node)
    except RequestFailed:
        return None
    if answer.error_code != ErrorCode.NONE:
        return None
    return sum(
        partition.partition_size
        for directory in answer.results
        for topic in directory.topics
        for partition in topic.partitions
    )


def _metadata_quorum(client: KafkaClient) -> PartitionData | None:
    """The metadata log's only partition; None where it is not described."""
    topic = TopicRequest(topic_name=METADATA_TOPIC, partitions=[PartitionRequest(partition_index=0)])
    try:
        answer = client.call(DescribeQuorumRequest(topics=[topic]), DescribeQuorumResponse)
    except RequestFailed:
        return None
    found = [partition for described in answer.topics for partition in described.partitions]
    if answer.error_code != ErrorCode.NONE or not found or found[0].error_code != ErrorCode.NONE:
        return None
    return found[0]
