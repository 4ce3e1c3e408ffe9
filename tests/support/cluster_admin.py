"""What an administrator asks a cluster for, of one broker and nobody else."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from automq.cli.client import KafkaClient, RequestFailed, check
from automq.protocol.errors import ErrorCode
from automq.protocol.messages.admin import (
    IncrementalAlterableConfig,
    IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResource,
    IncrementalAlterConfigsResponse,
)
from automq.protocol.messages.admin_cluster import (
    AlterPartitionReassignmentsRequest,
    AlterPartitionReassignmentsResponse,
    ReassignablePartition,
    ReassignableTopic,
)
from tests.support.cluster_processes import Member

BROKER_RESOURCE = 4
SET, DELETE = 0, 1


class Asked(Protocol):
    """A broker that answers."""

    def client(self) -> KafkaClient:
        """A connection to it."""
        ...


def reassign(asked: Asked, topic: str, wanted: Mapping[int, Sequence[int]]) -> None:
    """Give these partitions these replicas, the first of whom leads. Raises RequestFailed."""
    partitions = [ReassignablePartition(partition_index=index, replicas=list(wanted[index])) for index in wanted]
    request = AlterPartitionReassignmentsRequest(topics=[ReassignableTopic(name=topic, partitions=partitions)])
    with asked.client() as client:
        answer = client.call(request, AlterPartitionReassignmentsResponse)
    check(answer.error_code, "not reassigned", answer.error_message)
    refused = [each for each in answer.responses[0].partitions if each.error_code != ErrorCode.NONE]
    if refused:
        raise RequestFailed(f"not reassigned: {refused[0]}")


def set_draining(asked: Member, *, is_draining: bool) -> None:
    """Or no longer. A broker's configs are asked of itself, as with Kafka. Raises RequestFailed."""
    config = IncrementalAlterableConfig(
        name="automq.broker.draining", config_operation=SET if is_draining else DELETE, value="true"
    )
    resource = IncrementalAlterConfigsResource(
        resource_type=BROKER_RESOURCE, resource_name=str(asked.node), configs=[config]
    )
    with asked.client() as client:
        answer = client.call(IncrementalAlterConfigsRequest(resources=[resource]), IncrementalAlterConfigsResponse)
    for each in answer.responses:
        check(each.error_code, f"broker {asked.node} is not set to be drained", each.error_message)
