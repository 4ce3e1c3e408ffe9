"""Pure: how records of topics, their partitions and leaders change an image's maps. Part of `metadata.replay`."""

import dataclasses
from collections import Counter
from collections.abc import Iterator
from typing import Final

from automq.ids import StreamId
from automq.metadata.broker_replay import BrokerReplay
from automq.metadata.image import (
    ANY_INCARNATION,
    TOPIC_RESOURCE,
    PartitionImage,
    StreamImage,
    TopicImage,
    collision_key,
    may_collide,
)
from automq.metadata.records import (
    PartitionLeaderChanged,
    PartitionsCreated,
    StreamsDeleted,
    StreamsOpened,
    TopicCreated,
    TopicDeleted,
)

PARTITIONS_A_TURN: Final = 500


class TopicReplay(BrokerReplay):
    """The part of `MetadataMachine` that knows of topics and of the streams of their partitions."""

    def topic_created(self, record: TopicCreated) -> None:
        assert record.name not in self.topic_ids
        self.topic_ids[record.name] = record.topic_id
        if may_collide(record.name):
            self.collision_keys[collision_key(record.name)] = record.name
        self.topic_map[record.topic_id] = TopicImage(
            topic_id=record.topic_id,
            name=record.name,
            is_internal=record.is_internal,
            replication_factor=record.replication_factor,
        )

    def topic_deleted(self, record: TopicDeleted) -> None:
        topic = self.topic_map.pop(record.topic_id)
        del self.topic_ids[topic.name]
        if may_collide(topic.name):
            self.collision_keys.pop(collision_key(topic.name), None)
        for leader, count in Counter(part.leader for part in topic.partitions).items():
            self.count_leader(leader, -count)
        self.configs.pop((TOPIC_RESOURCE, topic.name), None)

    def partitions_created(self, record: PartitionsCreated) -> Iterator[None]:
        topic = self.topic_map[record.topic_id]
        added: list[PartitionImage] = []
        for new in record.partitions:
            if added and not len(added) % PARTITIONS_A_TURN:
                yield
            assert new.index == len(topic.partitions) + len(added)
            assert new.stream not in self.streams
            added.append(
                PartitionImage(
                    index=new.index,
                    stream=new.stream,
                    leader=new.leader,
                    leader_epoch=new.leader_epoch,
                    replicas=new.replicas,
                    leader_broker_epoch=new.broker_epoch or ANY_INCARNATION,
                )
            )
            self.streams[new.stream] = StreamImage(
                stream=new.stream,
                topic_id=record.topic_id,
                partition=new.index,
                owner=new.leader,
                epoch=new.leader_epoch,
                owner_epoch=new.broker_epoch or ANY_INCARNATION,
            )
            self.next_stream = StreamId(max(self.next_stream, new.stream + 1))
        for leader, count in Counter(part.leader for part in added).items():
            self.count_leader(leader, count)
        self.topic_map[record.topic_id] = dataclasses.replace(topic, partitions=(*topic.partitions, *added))

    def partition_leader_changed(self, record: PartitionLeaderChanged) -> Iterator[None]:
        stream = self.topic_map[record.topic_id].partitions[record.index].stream
        epochs = {stream: record.leader_epoch}
        yield from self.open_streams(epochs, owner=record.leader, owner_epoch=ANY_INCARNATION)

    def streams_opened(self, record: StreamsOpened) -> Iterator[None]:
        epochs = {opening.stream: opening.epoch for opening in record.streams}
        us = (record.node, record.epoch)
        yield from self.open_streams(epochs, owner=record.node, owner_epoch=record.epoch, keeps_moves_of=us)

    def streams_deleted(self, record: StreamsDeleted) -> Iterator[None]:
        held = 0
        for stream_id in record.streams:
            self.quarantines.pop(stream_id, None)
            self.moves.pop(stream_id, None)
            held += 1 + self.forget_stream(stream_id)
            if held >= PARTITIONS_A_TURN:
                held = 0
                yield
