"""Handles messages.admin_cluster: the one directory that this broker seems to have."""

from collections.abc import Collection, Mapping
from typing import Final

from automq.controller.possessions import expected_streams
from automq.handlers.context import Handler, RequestContext
from automq.ids import StreamId
from automq.metadata.image import MetadataImage, PartitionImage
from automq.protocol.errors import ApiError, ErrorCode
from automq.protocol.messages.admin_cluster import (
    AlterReplicaLogDirPartitionResult,
    AlterReplicaLogDirsRequest,
    AlterReplicaLogDirsResponse,
    AlterReplicaLogDirTopicResult,
    DescribeLogDirsPartition,
    DescribeLogDirsRequest,
    DescribeLogDirsResponse,
    DescribeLogDirsResult,
    DescribeLogDirsTopic,
)
from automq.protocol.schema import Message
from automq.runtime.turns import Pace

# About how long it takes to look at a topic, and to size a partition.
TOPIC_US: Final = 2
PARTITION_US: Final = 8


async def handle_describe_log_dirs(context: RequestContext, request: DescribeLogDirsRequest) -> DescribeLogDirsResponse:
    """The store as one directory; a partition's size is that of its records, those not yet in objects included.

    Quarantined partitions are in a directory of their own, whose storage fails: that is where tools look for it. What
    moves here, or lies in a write-ahead log that is recovered here, is shown as a replica that is still being copied:
    a broker that shows none at all has nothing.
    """
    image, pace = context.services.metadata.image, Pace()
    expected = _expected(context, image)
    asked: dict[str, set[int]] | None = None if request.topics is None else {}
    for entry in request.topics or ():
        assert asked is not None
        asked.setdefault(entry.topic, set()).update(entry.partitions)
        await pace.spend(TOPIC_US + len(entry.partitions) // 10)
    whole: list[DescribeLogDirsTopic] = []
    damaged: list[DescribeLogDirsTopic] = []
    for topic in image.topics():
        await pace.spend(TOPIC_US)
        if asked is not None and topic.name not in asked:
            continue
        here = DescribeLogDirsTopic(name=topic.name), DescribeLogDirsTopic(name=topic.name)
        coming: list[DescribeLogDirsPartition] = []
        for partition in topic.partitions:
            await pace.spend(PARTITION_US)
            if asked is not None and partition.index not in asked[topic.name]:
                continue
            if partition.leader == context.services.node:
                is_damaged = context.services.partitions.is_quarantined(topic.name, partition.index)
                size = _size(context, image, topic.name, partition)
                here[is_damaged].partitions.append(
                    DescribeLogDirsPartition(partition_index=partition.index, partition_size=size)
                )
            if partition.stream in expected:
                size = _committed(image, partition)
                coming.append(
                    DescribeLogDirsPartition(partition_index=partition.index, partition_size=size, is_future_key=True)
                )
        here[False].partitions.extend(coming)
        for found, entry_here in zip((whole, damaged), here, strict=True):
            if entry_here.partitions:
                found.append(entry_here)
    folder = _folder(context)
    results = [DescribeLogDirsResult(log_dir=folder, topics=whole)]
    if damaged:
        code = ErrorCode.KAFKA_STORAGE_ERROR
        results.append(DescribeLogDirsResult(error_code=code, log_dir=f"{folder}/quarantined", topics=damaged))
    return DescribeLogDirsResponse(results=results)


async def handle_alter_replica_log_dirs(
    context: RequestContext, request: AlterReplicaLogDirsRequest
) -> AlterReplicaLogDirsResponse:
    """Every replica stays in the one directory that there is: the file for a rollback of a reassignment names it."""
    results: dict[str, list[AlterReplicaLogDirPartitionResult]] = {}
    for directory in request.dirs:
        for topic in directory.topics:
            some = results.setdefault(topic.name, [])
            some += [
                AlterReplicaLogDirPartitionResult(
                    partition_index=index, error_code=_moving_error(context, directory.path, topic.name, index)
                )
                for index in topic.partitions
            ]
    return AlterReplicaLogDirsResponse(
        results=[AlterReplicaLogDirTopicResult(topic_name=name, partitions=some) for name, some in results.items()]
    )


def _moving_error(context: RequestContext, path: str, topic: str, index: int) -> ErrorCode:
    if path != _folder(context):
        return ErrorCode.LOG_DIR_NOT_FOUND
    try:
        context.services.partitions.get(topic, index)
    except ApiError as error:
        # As Kafka: the broker has no such replica.
        return ErrorCode.REPLICA_NOT_AVAILABLE if error.code == ErrorCode.NOT_LEADER_OR_FOLLOWER else error.code
    return ErrorCode.NONE


def _folder(context: RequestContext) -> str:
    """What the store is shown as."""
    return f"/{context.services.cluster_id}"


def _expected(context: RequestContext, image: MetadataImage) -> Collection[StreamId]:
    us = image.broker(context.services.node)
    return () if us is None else expected_streams(image, (us.node, us.epoch))


def _committed(image: MetadataImage, partition: PartitionImage) -> int:
    stream = image.stream(partition.stream)
    return 0 if stream is None else stream.held.stored_bytes


def _size(context: RequestContext, image: MetadataImage, topic: str, partition: PartitionImage) -> int:
    committed = _committed(image, partition)
    try:
        return committed + context.services.partitions.get(topic, partition.index).uncommitted_bytes
    except ApiError:
        # Still being opened: what is in objects is all that is known.
        return committed


HANDLERS: Final[Mapping[type[Message], Handler]] = {
    DescribeLogDirsRequest: handle_describe_log_dirs,
    AlterReplicaLogDirsRequest: handle_alter_replica_log_dirs,
}
