"""The cluster's facts at one moment: an immutable value, cheap to copy with a change.

Only `metadata.replay` makes new images. What a commit touches is a msgspec structure, which is made in a fifth of the
time of a dataclass. Maps are persistent; whoever iterates one sorts it, because their order depends
on hashes.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
from immutables import Map

from automq.ids import BrokerEpoch, NodeId, ObjectId, Offset, StreamEpoch, StreamId, TopicId
from automq.metadata.checkpoint_refs import NO_CHECKPOINT, CheckpointRefs, unpack_refs
from automq.metadata.move_records import BalancerDecided, MoveCause, NamedMove
from automq.metadata.packed_ranges import NONE, PackedRanges, StreamRange, unpack
from automq.metadata.record_parts import IN_THE_BUCKET
from automq.metadata.records import Endpoint, RangeLost, UnplacedRange, WalDamaged, WalDescriptor, WalSlotsLost
from automq.metadata.spans import NOTHING_HELD, Holding, Spans
from automq.s3stream.model import CheckpointRef, ObjectSpan, StreamState

__all__ = [
    "ANY_INCARNATION",
    "BROKER_LOGGER_RESOURCE",
    "BROKER_RESOURCE",
    "CLIENT_METRICS_RESOURCE",
    "GROUP_RESOURCE",
    "TOPIC_RESOURCE",
    "BrokerImage",
    "Endpoint",
    "MetadataImage",
    "MoveImage",
    "ObjectImage",
    "PartitionImage",
    "QuarantineCause",
    "StreamImage",
    "TopicImage",
    "WalImage",
]

TOPIC_RESOURCE: Final = 2
BROKER_RESOURCE: Final = 4
BROKER_LOGGER_RESOURCE: Final = 8
CLIENT_METRICS_RESOURCE: Final = 16
GROUP_RESOURCE: Final = 32
DRAINING_CONFIG: Final = "automq.broker.draining"
BALANCER_PAUSED_CONFIG: Final = "automq.balancer.paused"
ANY_INCARNATION: Final = BrokerEpoch(0)
"""Of what was given to a node before owners were recorded by incarnation: it belongs to its newest one."""


def collision_key(name: str) -> str:
    """Topics whose names have the same key may not both exist."""
    return name.replace(".", "_")


def may_collide(name: str) -> bool:
    """Whether another name can have the same key."""
    return "." in name or "_" in name


NO_CONFIG: Final[Map[str, str]] = Map()


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerImage:
    """The newest incarnation of a node."""

    node: NodeId
    epoch: BrokerEpoch
    rack: str | None
    endpoints: tuple[Endpoint, ...]
    fenced: bool = False
    draining: bool = False
    format_level: int = 2
    """The newest that it reads."""
    incarnation: bytes = b""
    replaced: tuple[bytes, ...] = ()
    wal: WalDescriptor = IN_THE_BUCKET
    stopping: bool = False
    """It wants to end: as draining, and nobody is given to it even where there is no other."""

    @property
    def is_usable(self) -> bool:
        """Whether it may be given something: alive, and not on its way out."""
        return not (self.fenced or self.draining or self.stopping)

    @property
    def is_leaving(self) -> bool:
        """Whether it is alive, and what it leads is to be given away."""
        return not self.fenced and (self.draining or self.stopping)


@dataclass(frozen=True, slots=True, kw_only=True)
class WalImage:
    """The write-ahead log of one incarnation, as long as it may hold something that is in no object."""

    node: NodeId
    epoch: BrokerEpoch
    trim_to: int = 0
    """T: slots below are superfluous."""
    recoverer: tuple[NodeId, BrokerEpoch] | None = None
    """Set once (node, epoch) is fenced: who alone may commit for it. (node, epoch) itself: nobody, for now."""
    descriptor: WalDescriptor = IN_THE_BUCKET
    damage: WalDamaged | None = None
    """Why it could not be recovered; it is pinned then, and its streams are quarantined."""
    lost: tuple[WalSlotsLost, ...] = ()
    """Slots that a person gave up, ascending."""
    newest_objects: tuple[ObjectId, ...] = ()
    newest_refused: tuple[StreamId, ...] = ()
    """The newest commit for this log and the streams that it refused ranges of: asked for again, it gets the same
    answer. Commits for one log are made one after the other, so only the newest can be."""
    newest_released: tuple[NamedMove, ...] = ()
    newest_unreleased: tuple[NamedMove, ...] = ()
    """What that commit was to release: moves that came to pass, and moves that were void."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionImage:
    """One partition. Its leader epoch is its stream's epoch."""

    index: int
    stream: StreamId
    leader: NodeId
    leader_epoch: StreamEpoch
    replicas: tuple[NodeId, ...] = ()
    """What a client asked for; nominal. Empty means the leader alone."""
    leader_broker_epoch: BrokerEpoch = ANY_INCARNATION
    """Its stream's owner's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicImage:
    """One topic. Invariant: partitions[i].index == i."""

    topic_id: TopicId
    name: str
    is_internal: bool
    replication_factor: int
    partitions: tuple[PartitionImage, ...] = ()

    def partition(self, index: int) -> PartitionImage | None:
        """The partition of that number, as a client may send any; None when the topic has none."""
        return self.partitions[index] if 0 <= index < len(self.partitions) else None


class MoveImage(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A stream on its way from one incarnation to another; its owner is still the first."""

    stream: StreamId
    move: int
    """What it is known by: the number of the record that began it. No other move of the stream has it."""
    source: tuple[NodeId, BrokerEpoch]
    target: tuple[NodeId, BrokerEpoch]
    cause: MoveCause
    replicas: tuple[NodeId, ...] = ()
    """What the partition shows once it has arrived; empty: what it shows now."""


class QuarantineCause(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One reason why a stream takes no append, named by the key that has to be repaired."""

    key: str
    reason: str
    at_ms: int
    wal: tuple[NodeId, BrokerEpoch] | None = None
    """Whose write-ahead log may hold acknowledged records of the stream: what follows its end is unknown then."""


class StreamImage(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One stream. Invariants: 0 <= start; `end` covers every span; checkpoints' offsets are at most `end`.

    Which spans there are is for the image to tell: it takes the objects, too.
    """

    stream: StreamId
    topic_id: TopicId
    partition: int
    owner: NodeId
    epoch: StreamEpoch
    owner_epoch: BrokerEpoch = ANY_INCARNATION
    """Only that incarnation of its owner opens it, commits and trims."""
    start: Offset = Offset(0)
    end: Offset = Offset(0)
    """One past the last committed offset. The trim point may be above: then what follows begins at the trim point."""
    checkpoints: CheckpointRefs = NO_CHECKPOINT
    """Where the pieces of its newest two whole checkpoints lie."""
    held: Holding = NOTHING_HELD
    """What committed objects hold of it."""

    def belongs_to(self, node: NodeId, epoch: BrokerEpoch) -> bool:
        """Rule: a stream is one incarnation's, not its node's."""
        return self.owner == node and self.owner_epoch in (epoch, ANY_INCARNATION)

    @property
    def next_offset(self) -> Offset:
        """Where the next commit must begin and where an owner opens: offsets are never given twice."""
        return max(self.start, self.end)


class ObjectImage(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One object. Which of the image's maps it is in says its state."""

    object_id: ObjectId
    node: NodeId
    epoch: BrokerEpoch
    size: int = 0
    expires_ms: int = 0
    """Prepared only: when it may be destroyed."""
    references: int = 0
    """Committed only: spans and pieces of checkpoints that lie in it. At none it is destroyed."""
    checkpoints: int = 0
    """Of those references: how many are pieces of checkpoints."""
    destroyed_ms: int = 0
    """Destroyed only: when the grace period began."""
    ranges: PackedRanges = NONE
    """Committed only: what it held when it was committed. A stream that was trimmed or deleted refers to it no more."""
    generation: int = 0
    """Committed only: how often its bytes were rewritten by compaction since they were uploaded."""


@dataclass(frozen=True, kw_only=True)
class MetadataImage:
    """Everything. Equal images answer every question alike."""

    record_number: int = 0
    """How many records, of the log's whole life, are folded in."""
    prefix_owner: str | None = None
    format_level: int = 0
    """What a program must be able to read to run this cluster."""
    features: Map[str, int] = Map()
    broker_map: Map[NodeId, BrokerImage] = Map()
    wals: Map[tuple[NodeId, BrokerEpoch], WalImage] = Map()
    topic_map: Map[TopicId, TopicImage] = Map()
    topic_ids: Map[str, TopicId] = Map()
    collision_keys: Map[str, str] = Map()
    """The names of topics that `may_collide`, by their keys."""
    leader_counts: Map[NodeId, int] = Map()
    """How many partitions each broker leads; none at zero."""
    streams: Map[StreamId, StreamImage] = Map()
    prepared: Map[ObjectId, ObjectImage] = Map()
    committed: Map[ObjectId, ObjectImage] = Map()
    destroyed: Map[ObjectId, ObjectImage] = Map()
    unreferenced: Map[ObjectId, None] = Map()
    """Committed objects that nothing refers to any more: to be destroyed."""
    quarantines: Map[StreamId, tuple[QuarantineCause, ...]] = Map()
    """Streams that take no append until they are repaired, and why; never empty."""
    lost_ranges: Map[StreamId, tuple[RangeLost, ...]] = Map()
    """What people gave up, by stream, ascending and without overlap."""
    moves: Map[StreamId, MoveImage] = Map()
    """Streams that are to change hands."""
    decisions: tuple[BalancerDecided, ...] = ()
    """Of the balancer, the newest last: those that made its last `DECIDED_KEPT_MAX` moves."""
    configs: Map[tuple[int, str], Map[str, str]] = Map()
    next_broker_epoch: BrokerEpoch = BrokerEpoch(1)
    next_stream: StreamId = StreamId(1)
    next_object: ObjectId = ObjectId(1)
    next_producer_id: int = 0

    def topic(self, name: str) -> TopicImage | None:
        """The topic of that name."""
        topic_id = self.topic_ids.get(name)
        return None if topic_id is None else self.topic_map[topic_id]

    def topic_by_id(self, topic_id: TopicId) -> TopicImage | None:
        """The topic of that id."""
        return self.topic_map.get(topic_id)

    def topics(self) -> Sequence[TopicImage]:
        """All of them, sorted by name."""
        return self._topics

    def broker(self, node: NodeId) -> BrokerImage | None:
        """The newest incarnation of `node`, fenced or not."""
        return self.broker_map.get(node)

    def brokers(self) -> Sequence[BrokerImage]:
        """All registered ones, fenced or not, sorted by node id."""
        return self._brokers

    def stream(self, stream: StreamId) -> StreamImage | None:
        """None when it was deleted or never was."""
        return self.streams.get(stream)

    def partition_of(self, stream: StreamId) -> tuple[TopicImage, PartitionImage] | None:
        """Whose stream it is; None when it was deleted or never was."""
        found = self.streams.get(stream)
        if found is None:
            return None
        topic = self.topic_map[found.topic_id]
        return topic, topic.partitions[found.partition]

    def stream_state(self, stream: StreamId) -> StreamState | None:
        """What the engine wants to know of a stream."""
        found = self.streams.get(stream)
        if found is None:
            return None
        return StreamState(
            stream=stream,
            epoch=found.epoch,
            owner=found.owner,
            start=found.start,
            end=found.end,
            checkpoints=tuple(map(self._checkpoint_ref, unpack_refs(found.checkpoints))),
            lost=tuple((lost.start, lost.end) for lost in self.lost_ranges.get(stream, ())),
        )

    def _checkpoint_ref(self, piece: tuple[ObjectId, Offset]) -> CheckpointRef:
        object_id, offset = piece
        held = self.committed[object_id]
        is_alone = held.checkpoints == held.references
        return CheckpointRef(object_id=object_id, object_size=held.size, offset=offset, is_alone=is_alone)

    @property
    def pinned(self) -> Mapping[tuple[NodeId, BrokerEpoch], Sequence[UnplacedRange]]:
        """What recovery of logs could not place; they are pinned, as are those that could not be recovered at all."""
        return {key: wal.damage.unplaced for key, wal in self.wals.items() if wal.damage is not None}

    def quarantine(self, stream: StreamId) -> Sequence[QuarantineCause]:
        """Why the stream takes no append; empty when it does."""
        return self.quarantines.get(stream, ())

    def spans(self, stream: StreamId, start: Offset, end: Offset, *, limit: int) -> Sequence[ObjectSpan]:
        """Committed objects that hold offsets of [start, end), ascending, at most `limit`."""
        return self.spans_of(stream).overlapping(start, end, limit=limit)

    def spans_of(self, stream: StreamId) -> Spans:
        """All committed objects that hold something of the stream; none when it was deleted or never was."""
        found = self.streams.get(stream)
        return Spans(stream, NOTHING_HELD if found is None else found.held, self.committed)

    def ranges_of(self, object_id: ObjectId) -> Sequence[StreamRange]:
        """What streams still hold of a committed object, by stream."""
        return [held for held in unpack(self.committed[object_id].ranges) if self._refers(held, object_id)]

    def _refers(self, held: StreamRange, object_id: ObjectId) -> bool:
        """A stream that was trimmed, deleted or compacted meanwhile does not."""
        return any(span.object_id == object_id for span in self.spans(held.stream, held.start, held.end, limit=1))

    def owned_partitions(self, node: NodeId) -> Sequence[tuple[TopicImage, PartitionImage]]:
        """Every partition that `node` leads, by topic name and index."""
        return [(topic, part) for topic in self._topics for part in topic.partitions if part.leader == node]

    def is_led(self, part: PartitionImage) -> bool:
        """Whether its leader's very incarnation is there and not fenced; else nobody leads it for now."""
        broker = self.broker_map.get(part.leader)
        return broker is not None and not broker.fenced and self.is_leader(part, broker.node, broker.epoch)

    def is_leader(self, part: PartitionImage, node: NodeId, epoch: BrokerEpoch) -> bool:
        """Whether that incarnation serves the partition.

        What a damaged log may hold records of keeps its owner until it is repaired; a newer incarnation of the node
        serves what is committed of it.
        """
        if part.leader != node:
            return False
        if part.leader_broker_epoch == ANY_INCARNATION:
            # Its newest one, but not before what former ones may have written is recovered.
            return not any(
                wal.node == node and wal.recoverer is not None and wal.damage is None for wal in self.wals.values()
            )
        return part.leader_broker_epoch == epoch or part.stream in self.quarantines

    def config(self, resource_type: int, resource_name: str) -> Map[str, str]:
        """What is overridden for one resource."""
        return self.configs.get((resource_type, resource_name), NO_CONFIG)

    def topic_config(self, name: str) -> Mapping[str, str]:
        """What is overridden for a topic."""
        return self.config(TOPIC_RESOURCE, name)

    def broker_config(self, node: NodeId | None) -> Mapping[str, str]:
        """What is overridden for a broker, or with None for all brokers."""
        return self.config(BROKER_RESOURCE, "" if node is None else str(node))

    def inherit(self, before: "MetadataImage") -> None:
        """What was sorted for an image before need not be sorted again where the map is the same."""
        if self.topic_map is before.topic_map and "_topics" in before.__dict__:
            self.__dict__["_topics"] = before.__dict__["_topics"]
        if self.broker_map is before.broker_map:
            for name in ("_brokers", "racks"):
                if name in before.__dict__:
                    self.__dict__[name] = before.__dict__[name]

    def with_record_number(self, record_number: int) -> "MetadataImage":
        """The same facts at another place of the log: what a snapshot's envelope says."""
        return dataclasses.replace(self, record_number=record_number)

    @functools.cached_property
    def racks(self) -> Mapping[str, Sequence[NodeId]]:
        """The brokers of each zone that may be given something, both sorted."""
        found: dict[str, list[NodeId]] = {}
        for broker in self._brokers:
            if broker.rack is not None and broker.is_usable:
                found.setdefault(broker.rack, []).append(broker.node)
        return dict(sorted(found.items()))

    @functools.cached_property
    def _topics(self) -> Sequence[TopicImage]:
        return tuple(sorted(self.topic_map.values(), key=lambda topic: topic.name))

    @functools.cached_property
    def _brokers(self) -> Sequence[BrokerImage]:
        return tuple(sorted(self.broker_map.values(), key=lambda broker: broker.node))


EMPTY: Final = MetadataImage()
"""What a new cluster begins with."""
