"""Handles messages.admin_cluster: the one directory that this broker seems to have."""

from collections.abc import Mapping
from typing import Final

from automq.handlers.context import Handler, RequestContext
from automq.metadata.image import MetadataImage, PartitionImage
from automq.protocol.errors import ApiError
from automq.protocol.messages.admin_cluster import (
    DescribeLogDirsPartition,
    DescribeLogDirsRequest,
    DescribeLogDirsResponse,
    DescribeLogDirsResult,
    DescribeLogDirsTopic,
)
from automq.protocol.schema import Message


async def handle_describe_log_dirs(context: RequestContext, request: DescribeLogDirsRequest) -> DescribeLogDirsResponse:
    """The store as one directory; a partition's size is that of its records, those not yet in objects included."""
    image = context.services.metadata.image
    asked = None if request.topics is None else {entry.topic: set(entry.partitions) for entry in request.topics}
    topics: list[DescribeLogDirsTopic] = []
    for topic in image.topics():
        if asked is not None and topic.name not in asked:
            continue
        partitions = [
            DescribeLogDirsPartition(
                partition_index=partition.index, partition_size=_size(context, image, topic.name, partition)
            )
            for partition in topic.partitions
            if partition.leader == context.services.node and (asked is None or partition.index in asked[topic.name])
        ]
        if partitions:
            topics.append(DescribeLogDirsTopic(name=topic.name, partitions=partitions))
    folder = f"/{context.services.cluster_id}"
    return DescribeLogDirsResponse(results=[DescribeLogDirsResult(log_dir=folder, topics=topics)])


def _size(context: RequestContext, image: MetadataImage, topic: str, partition: PartitionImage) -> int:
    stream = image.stream(partition.stream)
    committed = 0 if stream is None else sum(span.size for span in stream.spans)
    try:
        return committed + context.services.partitions.get(topic, partition.index).uncommitted_bytes
    except ApiError:
        # Still being opened: what is in objects is all that is known.
        return committed


HANDLERS: Final[Mapping[type[Message], Handler]] = {DescribeLogDirsRequest: handle_describe_log_dirs}
