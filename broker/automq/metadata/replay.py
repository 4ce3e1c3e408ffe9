"""Pure: how one record changes the image, and which records make an image.

A record that the log holds was decided against the state before it, so `replay` asserts and never refuses: the same
records give the same image in every process and every version of the program.
"""

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from immutables import Map

from automq.ids import BrokerEpoch, NodeId, StreamId
from automq.metadata import damage
from automq.metadata.image import (
    ANY_INCARNATION,
    BROKER_RESOURCE,
    DRAINING_CONFIG,
    TOPIC_RESOURCE,
    BrokerImage,
    MetadataImage,
    PartitionImage,
    StreamImage,
    TopicImage,
    WalImage,
    collision_key,
    may_collide,
)
from automq.metadata.move_replay import MoveReplay
from automq.metadata.records import (
    BrokerFenced,
    BrokerRegistered,
    BrokerStopping,
    BrokerUnregistered,
    ConfigChanged,
    CountersAdvanced,
    FeatureLevelSet,
    FormatLevelRaised,
    MetadataRecord,
    MovesCancelled,
    NewestCommit,
    NewestReleases,
    ObjectCommitted,
    ObjectRestored,
    ObjectsCommitted,
    ObjectsCompacted,
    ObjectsDeleted,
    ObjectsDestroyed,
    ObjectsPrepared,
    PackedObjectRestored,
    PackedStreamRestored,
    PartitionLeaderChanged,
    PartitionsCreated,
    PartitionsMoving,
    PrefixOwnerSet,
    ProducerIdsAllocated,
    QuarantineLifted,
    RangeLost,
    ReplicasAssigned,
    StreamRestored,
    StreamsDeleted,
    StreamsOpened,
    StreamsQuarantined,
    StreamsReleased,
    StreamTrimmed,
    TopicCreated,
    TopicDeleted,
    WalDamaged,
    WalRecovered,
    WalSlotsLost,
    WalTrimmed,
)

PARTITIONS_A_TURN: Final = 500


class MetadataMachine(MoveReplay):
    """The image under change, record by record."""

    def replay(self, record: MetadataRecord) -> None:
        """Apply one record."""
        for _turn in self.turns(record):
            pass

    def turns(self, record: MetadataRecord) -> Iterator[None]:
        """Apply one record in turns of bounded work. What was begun must be brought to its end."""
        self.begin(record)
        turns = _REPLAY[type(record)](self, record)
        if turns is not None:
            yield from turns
        self.end()

    # Brokers and their write-ahead logs.

    def broker_registered(self, record: BrokerRegistered) -> None:
        assert record.epoch >= self.next_broker_epoch
        config = self.configs.get((BROKER_RESOURCE, str(record.node)), Map())
        self.broker_map[record.node] = BrokerImage(
            node=record.node,
            epoch=record.epoch,
            rack=record.rack,
            endpoints=record.endpoints,
            draining=_is_draining(config),
            format_level=record.format_level,
            incarnation=record.incarnation,
            replaced=record.replaced,
            wal=record.wal,
        )
        self.wals[record.node, record.epoch] = WalImage(node=record.node, epoch=record.epoch, descriptor=record.wal)
        self.next_broker_epoch = BrokerEpoch(max(self.next_broker_epoch, record.epoch + 1))

    def broker_fenced(self, record: BrokerFenced) -> None:
        broker = self.broker_map.get(record.node)
        if broker is not None and broker.epoch == record.epoch:
            self.broker_map[record.node] = dataclasses.replace(broker, fenced=True)
        wal = self.wals.get((record.node, record.epoch))
        if wal is not None:
            recoverer = (record.recoverer_node, record.recoverer_epoch)
            self.wals[record.node, record.epoch] = dataclasses.replace(wal, recoverer=recoverer)
        self.end_moves_of((record.node, record.epoch))

    def broker_stopping(self, record: BrokerStopping) -> None:
        broker = self.broker_map.get(record.node)
        if broker is not None and broker.epoch == record.epoch:
            self.broker_map[record.node] = dataclasses.replace(broker, stopping=True)

    def broker_unregistered(self, record: BrokerUnregistered) -> None:
        del self.broker_map[record.node]

    def wal_trimmed(self, record: WalTrimmed) -> None:
        self._move_wal(record.node, record.epoch, record.trim_to)

    def wal_recovered(self, record: WalRecovered) -> None:
        self.wals.pop((record.node, record.epoch), None)

    # Topics and partitions.

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

    def streams_deleted(self, record: StreamsDeleted) -> None:
        for stream_id in record.streams:
            self.quarantines.pop(stream_id, None)
            self.moves.pop(stream_id, None)
            self.forget_stream(stream_id)

    # Damage and repair.

    def streams_quarantined(self, record: StreamsQuarantined) -> None:
        damage.quarantine(self.quarantines, self.streams, record)

    def quarantine_lifted(self, record: QuarantineLifted) -> None:
        damage.lift(self.quarantines, record)

    def range_lost(self, record: RangeLost) -> None:
        damage.lose_range(self.lost_ranges, self.streams, record)

    def wal_damaged(self, record: WalDamaged) -> None:
        damage.damage_wal(self.wals, record)

    def wal_slots_lost(self, record: WalSlotsLost) -> None:
        damage.lose_slots(self.wals, record)

    def prefix_owner_set(self, record: PrefixOwnerSet) -> None:
        self.prefix_owner = record.owner

    def format_level_raised(self, record: FormatLevelRaised) -> None:
        self.format_level = max(self.format_level, record.level)

    def feature_level_set(self, record: FeatureLevelSet) -> None:
        self.features[record.name] = record.level

    def config_changed(self, record: ConfigChanged) -> None:
        key = (record.resource_type, record.resource_name)
        config = self.configs.get(key, Map())
        for name, value in record.changes:
            if value is not None:
                config = config.set(name, value)
            elif name in config:
                config = config.delete(name)
        if config:
            self.configs[key] = config
        else:
            self.configs.pop(key, None)
        if record.resource_type == BROKER_RESOURCE and record.resource_name.isdigit():
            node = NodeId(int(record.resource_name))
            if node in self.broker_map:
                self.broker_map[node] = dataclasses.replace(self.broker_map[node], draining=_is_draining(config))

    def producer_ids_allocated(self, record: ProducerIdsAllocated) -> None:
        assert record.next_id >= self.next_producer_id
        self.next_producer_id = record.next_id

    # Snapshots.

    def counters_advanced(self, record: CountersAdvanced) -> None:
        self.next_broker_epoch = record.next_broker_epoch
        self.next_stream = record.next_stream
        self.next_object = record.next_object
        self.next_producer_id = record.next_producer_id


def _is_draining(config: Map[str, str]) -> bool:
    return config.get(DRAINING_CONFIG, "false") == "true"


_REPLAY: Final[dict[type, Callable[[MetadataMachine, Any], Iterator[None] | None]]] = {
    BrokerRegistered: MetadataMachine.broker_registered,
    BrokerFenced: MetadataMachine.broker_fenced,
    BrokerUnregistered: MetadataMachine.broker_unregistered,
    PrefixOwnerSet: MetadataMachine.prefix_owner_set,
    TopicCreated: MetadataMachine.topic_created,
    TopicDeleted: MetadataMachine.topic_deleted,
    PartitionsCreated: MetadataMachine.partitions_created,
    PartitionLeaderChanged: MetadataMachine.partition_leader_changed,
    StreamsOpened: MetadataMachine.streams_opened,
    PartitionsMoving: MetadataMachine.partitions_moving,
    MovesCancelled: MetadataMachine.moves_cancelled,
    StreamsReleased: MetadataMachine.streams_released,
    NewestReleases: MetadataMachine.newest_releases,
    ReplicasAssigned: MetadataMachine.replicas_assigned,
    BrokerStopping: MetadataMachine.broker_stopping,
    ConfigChanged: MetadataMachine.config_changed,
    StreamTrimmed: MetadataMachine.stream_trimmed,
    StreamsDeleted: MetadataMachine.streams_deleted,
    ObjectsPrepared: MetadataMachine.objects_prepared,
    ObjectCommitted: MetadataMachine.object_committed,
    ObjectsCommitted: MetadataMachine.objects_committed,
    ObjectsCompacted: MetadataMachine.objects_compacted,
    PackedObjectRestored: MetadataMachine.packed_object_restored,
    PackedStreamRestored: MetadataMachine.packed_stream_restored,
    NewestCommit: MetadataMachine.newest_commit,
    ObjectsDestroyed: MetadataMachine.objects_destroyed,
    ObjectsDeleted: MetadataMachine.objects_deleted,
    WalTrimmed: MetadataMachine.wal_trimmed,
    WalRecovered: MetadataMachine.wal_recovered,
    ProducerIdsAllocated: MetadataMachine.producer_ids_allocated,
    FeatureLevelSet: MetadataMachine.feature_level_set,
    FormatLevelRaised: MetadataMachine.format_level_raised,
    CountersAdvanced: MetadataMachine.counters_advanced,
    ObjectRestored: MetadataMachine.object_restored,
    StreamRestored: MetadataMachine.stream_restored,
    StreamsQuarantined: MetadataMachine.streams_quarantined,
    QuarantineLifted: MetadataMachine.quarantine_lifted,
    RangeLost: MetadataMachine.range_lost,
    WalDamaged: MetadataMachine.wal_damaged,
    WalSlotsLost: MetadataMachine.wal_slots_lost,
}


def replay(image: MetadataImage, record: MetadataRecord) -> MetadataImage:
    """The image after one more record."""
    return replay_all(image, (record,))


def replay_all(image: MetadataImage, records: Iterable[MetadataRecord]) -> MetadataImage:
    """The image after all of `records`."""
    machine = MetadataMachine(image)
    for record in records:
        machine.replay(record)
    return machine.image
