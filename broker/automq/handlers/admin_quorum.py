"""Handles messages.controller: the metadata log as the quorum that tools ask for.

The log lies in the object store; its one voter is the controller. The metadata records are numbered as offsets are.
"""

from collections.abc import Mapping
from typing import Final

from automq.handlers.context import NOBODY, Handler, RequestContext
from automq.metadata.records import INTERNAL_LISTENER
from automq.protocol.errors import ErrorCode
from automq.protocol.messages.controller import (
    DescribeQuorumRequest,
    DescribeQuorumResponse,
    Listener,
    Node,
    PartitionData,
    ReplicaState,
    TopicData,
    TopicRequest,
)
from automq.protocol.schema import Message
from automq.runtime.turns import Pace

METADATA_TOPIC: Final = "__cluster_metadata"
# About how long it takes to answer for a topic, and for a partition of it.
TOPIC_US: Final = 3
PARTITION_US: Final = 3
UNKNOWN: Final = "This server does not host this topic-partition."
MESSAGES_SINCE: Final = 2
NODES_SINCE: Final = 2
"""The first version whose answer names the voters' endpoints."""


async def handle_describe_quorum(context: RequestContext, request: DescribeQuorumRequest) -> DescribeQuorumResponse:
    """The one partition of the metadata log; anything else is unknown."""
    # One for all of them: a request may name very many topics of one partition.
    pace = Pace()
    topics = [await _topic(context, topic, pace) for topic in request.topics]
    leader = context.services.controller.leader
    if context.version < NODES_SINCE or leader is None:
        return DescribeQuorumResponse(topics=topics)
    broker = context.services.metadata.image.broker(leader.node)
    endpoints = () if broker is None else broker.endpoints
    listeners = [
        Listener(name=point.listener_name, host=point.host, port=point.port)
        for point in endpoints
        if point.listener_name != INTERNAL_LISTENER
    ]
    is_known = any(topic.topic_name == METADATA_TOPIC for topic in request.topics)
    return DescribeQuorumResponse(
        error_message="", topics=topics, nodes=[Node(node_id=leader.node, listeners=listeners)] if is_known else []
    )


async def _topic(context: RequestContext, asked: TopicRequest, pace: Pace) -> TopicData:
    partitions: list[PartitionData] = []
    await pace.spend(TOPIC_US)
    for partition in asked.partitions:
        index = partition.partition_index
        if asked.topic_name == METADATA_TOPIC and index == 0:
            partitions.append(_metadata_partition(context))
        else:
            unknown = PartitionData(partition_index=index, error_code=ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
            if context.version >= MESSAGES_SINCE:
                unknown.error_message = UNKNOWN
            partitions.append(unknown)
        await pace.spend(PARTITION_US)
    return TopicData(topic_name=asked.topic_name, partitions=partitions)


def _metadata_partition(context: RequestContext) -> PartitionData:
    services = context.services
    leader = services.controller.leader
    end, now_ms = services.metadata.image.record_number, services.clock.wall_ms()
    if leader is None:
        return PartitionData(partition_index=0, leader_id=NOBODY, leader_epoch=0, high_watermark=end)
    voter = ReplicaState(
        replica_id=leader.node, log_end_offset=end, last_fetch_timestamp=now_ms, last_caught_up_timestamp=now_ms
    )
    return PartitionData(
        partition_index=0,
        leader_id=leader.node,
        leader_epoch=leader.epoch,
        high_watermark=end,
        current_voters=[voter],
    )


HANDLERS: Final[Mapping[type[Message], Handler]] = {DescribeQuorumRequest: handle_describe_quorum}
