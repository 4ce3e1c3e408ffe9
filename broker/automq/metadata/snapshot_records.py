"""Pure: the records that rebuild an image: what a snapshot holds.

Replaying them on the empty image gives an equal image, but for its record number, which the snapshot's envelope says.
The order matters: what is referred to comes first.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from automq.ids import Offset, StreamId
from automq.metadata.checkpoint_refs import newest_ref
from automq.metadata.image import MetadataImage, MoveImage, ObjectImage, QuarantineCause, StreamImage, TopicImage
from automq.metadata.move_records import MovingPartition
from automq.metadata.record_parts import IN_THE_BUCKET
from automq.metadata.records import (
    BrokerFenced,
    BrokerRegistered,
    BrokerStopping,
    ConfigChanged,
    CountersAdvanced,
    FeatureLevelSet,
    FormatLevelRaised,
    MetadataRecord,
    NewestCommit,
    NewestReleases,
    NewPartition,
    ObjectsDestroyed,
    ObjectsPrepared,
    PackedObjectRestored,
    PackedStreamRestored,
    PartitionsCreated,
    PartitionsMoving,
    PrefixOwnerSet,
    StreamsQuarantined,
    TopicCreated,
    WalRecovered,
    WalTrimmed,
)

# Bounds what one record costs to encode: before compaction a stream has a share in every upload of its life.
CHUNKS_A_RECORD: Final = 64


def to_records(image: MetadataImage) -> Iterator[MetadataRecord]:
    """Lazily, so that a large image can be encoded in many short turns."""
    if image.format_level:
        # First: whoever cannot read what follows need not try.
        yield FormatLevelRaised(level=image.format_level)
    if image.prefix_owner is not None:
        yield PrefixOwnerSet(owner=image.prefix_owner)
    for name in sorted(image.features):
        yield FeatureLevelSet(name=name, level=image.features[name])
    for resource_type, resource_name in sorted(image.configs):
        config = image.configs[resource_type, resource_name]
        yield ConfigChanged(
            resource_type=resource_type,
            resource_name=resource_name,
            changes=tuple((name, config[name]) for name in sorted(config)),
        )
    yield from _brokers(image)
    for topic in image.topics():
        yield from _topic(topic)
    yield from _objects(image)
    for topic in image.topics():
        for part in topic.partitions:
            yield from _stream(image.streams[part.stream])
    for stream_id in sorted(image.lost_ranges):
        yield from image.lost_ranges[stream_id]
    for stream_id in sorted(image.quarantines):
        yield from _quarantine(stream_id, image.quarantines[stream_id])
    for stream_id in sorted(image.moves):
        yield _move(image.moves[stream_id])
    yield from image.decisions
    yield CountersAdvanced(
        next_broker_epoch=image.next_broker_epoch,
        next_stream=image.next_stream,
        next_object=image.next_object,
        next_producer_id=image.next_producer_id,
    )


def _brokers(image: MetadataImage) -> Iterator[MetadataRecord]:
    """Every incarnation that is the newest of its node or has a log, in the order of their epochs."""
    newest = {(broker.node, broker.epoch): broker for broker in image.brokers()}
    gone: list[BrokerFenced] = []
    for node, epoch in sorted({**dict.fromkeys(image.wals), **dict.fromkeys(newest)}, key=lambda key: (key[1], key[0])):
        broker, wal = newest.get((node, epoch)), image.wals.get((node, epoch))
        yield BrokerRegistered(
            node=node,
            epoch=epoch,
            rack=None if broker is None else broker.rack,
            endpoints=() if broker is None else broker.endpoints,
            format_level=0 if broker is None else broker.format_level,
            incarnation=b"" if broker is None else broker.incarnation,
            replaced=() if broker is None else broker.replaced,
            wal=wal.descriptor if wal is not None else IN_THE_BUCKET if broker is None else broker.wal,
        )
        if wal is None:
            yield WalRecovered(node=node, epoch=epoch)
        elif wal.trim_to:
            yield WalTrimmed(node=node, epoch=epoch, trim_to=wal.trim_to)
        if wal is not None:
            yield from wal.lost
            if wal.newest_objects:
                yield NewestCommit(node=node, epoch=epoch, objects=wal.newest_objects, refused=wal.newest_refused)
            if wal.newest_released or wal.newest_unreleased:
                yield NewestReleases(node, epoch, wal.newest_released, wal.newest_unreleased)
            if wal.damage is not None:
                yield wal.damage
        if broker is not None and broker.stopping:
            yield BrokerStopping(node=node, epoch=epoch)
        recoverer = None if wal is None else wal.recoverer
        if recoverer is not None:
            gone.append(BrokerFenced(node=node, epoch=epoch, recoverer_node=recoverer[0], recoverer_epoch=recoverer[1]))
        elif broker is not None and broker.fenced:
            gone.append(BrokerFenced(node=node, epoch=epoch, recoverer_node=node, recoverer_epoch=epoch))
    yield from gone


def _topic(topic: TopicImage) -> Iterator[MetadataRecord]:
    yield TopicCreated(
        topic_id=topic.topic_id,
        name=topic.name,
        is_internal=topic.is_internal,
        replication_factor=topic.replication_factor,
    )
    yield PartitionsCreated(
        topic_id=topic.topic_id,
        partitions=tuple(
            NewPartition(
                index=part.index,
                stream=part.stream,
                leader=part.leader,
                leader_epoch=part.leader_epoch,
                replicas=part.replicas,
                broker_epoch=part.leader_broker_epoch or None,
            )
            for part in topic.partitions
        ),
    )


def _objects(image: MetadataImage) -> Iterator[MetadataRecord]:
    for number in sorted(image.prepared):
        prepared = image.prepared[number]
        yield ObjectsPrepared(
            first=number, count=1, node=prepared.node, epoch=prepared.epoch, expires_ms=prepared.expires_ms
        )
    for number in sorted(image.committed):
        yield _restored(image.committed[number])
    for number in sorted(image.destroyed):
        yield _restored(image.destroyed[number])
        yield ObjectsDestroyed(objects=(number,), at_ms=image.destroyed[number].destroyed_ms)


def _restored(image: ObjectImage) -> PackedObjectRestored:
    return PackedObjectRestored(
        object_id=image.object_id,
        size=image.size,
        node=image.node,
        epoch=image.epoch,
        references=image.references,
        ranges=image.ranges,
        generation=image.generation,
    )


def _stream(stream: StreamImage) -> Iterator[MetadataRecord]:
    """One record, or several for a stream in many objects."""
    held = stream.held
    newest = newest_ref(stream.checkpoints) or (None, Offset(0))
    chunks = held.objects.chunks
    for first in range(0, max(1, len(chunks)), CHUNKS_A_RECORD):
        yield PackedStreamRestored(
            stream=stream.stream,
            start=stream.start,
            end=stream.end,
            checkpoint_object=newest[0],
            checkpoint_offset=newest[1],
            checkpoints=stream.checkpoints,
            stored_bytes=held.stored_bytes,
            stored_offsets=held.stored_offsets,
            objects=chunks[first : first + CHUNKS_A_RECORD],
        )


def _quarantine(stream: StreamId, causes: Sequence[QuarantineCause]) -> Iterator[MetadataRecord]:
    for cause in causes:
        wal_node, wal_epoch = (None, None) if cause.wal is None else cause.wal
        yield StreamsQuarantined(
            streams=(stream,),
            key=cause.key,
            reason=cause.reason,
            at_ms=cause.at_ms,
            wal_node=wal_node,
            wal_epoch=wal_epoch,
        )


def _move(move: MoveImage) -> PartitionsMoving:
    return PartitionsMoving(
        node=move.source[0],
        epoch=move.source[1],
        target=move.target[0],
        target_epoch=move.target[1],
        cause=move.cause,
        partitions=(MovingPartition(stream=move.stream, replicas=move.replicas),),
        move=move.move,
    )
