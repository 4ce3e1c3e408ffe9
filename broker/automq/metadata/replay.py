"""Pure: how one record changes the image, and which records make an image.

A record that the log holds was decided against the state before it, so `replay` asserts and never refuses: the same
records give the same image in every process and every version of the program.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from automq.metadata import damage
from automq.metadata.image import MetadataImage
from automq.metadata.records import (
    BalancerDecided,
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
from automq.metadata.topic_replay import TopicReplay


class MetadataMachine(TopicReplay):
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

    # Damage and repair.

    def streams_quarantined(self, record: StreamsQuarantined) -> Iterator[None]:
        return damage.quarantine(self.quarantines, self.streams, record)

    def quarantine_lifted(self, record: QuarantineLifted) -> Iterator[None]:
        return damage.lift(self.quarantines, record)

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

    def producer_ids_allocated(self, record: ProducerIdsAllocated) -> None:
        assert record.next_id >= self.next_producer_id
        self.next_producer_id = record.next_id

    # Snapshots.

    def counters_advanced(self, record: CountersAdvanced) -> None:
        self.next_broker_epoch = record.next_broker_epoch
        self.next_stream = record.next_stream
        self.next_object = record.next_object
        self.next_producer_id = record.next_producer_id


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
    BalancerDecided: MetadataMachine.balancer_decided,
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
