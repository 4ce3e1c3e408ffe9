"""Every fact of the metadata log: one frozen structure a record, and its bytes.

A record is a MessagePack array: its tag, then its fields in the order of declaration. Tags and the order of fields are
persisted: never renumber, never reuse, never reorder. A field may be added at the end with a default; readers skip
fields they do not know. A record of an unknown tag cannot be skipped (it may matter): the log is then newer than the
program.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from automq.ids import BrokerEpoch, NodeId, ObjectId, Offset, StreamEpoch, StreamId, TopicId
from automq.metadata.move_records import BalancerDecided as BalancerDecided
from automq.metadata.move_records import BrokerStopping as BrokerStopping
from automq.metadata.move_records import MovesCancelled as MovesCancelled
from automq.metadata.move_records import NewestReleases as NewestReleases
from automq.metadata.move_records import PartitionsMoving as PartitionsMoving
from automq.metadata.move_records import ReplicasAssigned as ReplicasAssigned
from automq.metadata.move_records import StreamsReleased as StreamsReleased
from automq.metadata.record_parts import IN_THE_BUCKET
from automq.metadata.record_parts import CommittedObject as CommittedObject
from automq.metadata.record_parts import Endpoint as Endpoint
from automq.metadata.record_parts import NewPartition as NewPartition
from automq.metadata.record_parts import RecordedRange as RecordedRange
from automq.metadata.record_parts import SpanRecord as SpanRecord
from automq.metadata.record_parts import StreamOpening as StreamOpening
from automq.metadata.record_parts import UnplacedRange as UnplacedRange
from automq.metadata.record_parts import WalDescriptor as WalDescriptor

INTERNAL_LISTENER: Final = "AUTOMQ_INTERNAL"
"""The name under which a broker registers where other brokers reach it; no client is told of it."""


class BrokerRegistered(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """A new incarnation of a node, with an empty write-ahead log. `epoch` is above every epoch ever given."""

    node: NodeId
    epoch: BrokerEpoch
    rack: str | None
    endpoints: tuple[Endpoint, ...]
    format_level: int = 2
    """The newest that it reads; programs that did not say so read this one."""
    incarnation: bytes = b""
    """Drawn by the process: what tells a registration that is asked for again from a newer one. Empty: none asks."""
    wal: WalDescriptor = IN_THE_BUCKET
    replaced: tuple[bytes, ...] = ()
    """Incarnations of the node before this one, the newest last: whoever of them still asks is refused."""


class BrokerFenced(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """From here on no commit and no trim of (node, epoch) is accepted, but from the recoverer.

    A second record for the same incarnation names another recoverer: the first one died. The incarnation itself in its
    place is nobody: who was left could not reach its log.
    """

    node: NodeId
    epoch: BrokerEpoch
    recoverer_node: NodeId
    recoverer_epoch: BrokerEpoch


class BrokerUnregistered(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """The node is gone for good: fenced, its write-ahead logs recovered, nothing owned."""

    node: NodeId


class PrefixOwnerSet(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """Who may run this cluster (on Kubernetes the resource's UID); None: whoever names no owner."""

    owner: str | None


class TopicCreated(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """A topic; its partitions follow."""

    topic_id: TopicId
    name: str
    is_internal: bool
    replication_factor: int


class TopicDeleted(msgspec.Struct, frozen=True, array_like=True, tag=6):
    """The topic, its partitions and its configuration are gone; its streams were deleted before."""

    topic_id: TopicId


class PartitionsCreated(msgspec.Struct, frozen=True, array_like=True, tag=7):
    """New partitions of one topic, each with a stream of its own that begins at offset 0."""

    topic_id: TopicId
    partitions: tuple[NewPartition, ...]


class PartitionLeaderChanged(msgspec.Struct, frozen=True, array_like=True, tag=8):
    """A partition moves: another owner at a higher epoch."""

    topic_id: TopicId
    index: int
    leader: NodeId
    leader_epoch: StreamEpoch


class StreamsOpened(msgspec.Struct, frozen=True, array_like=True, tag=9):
    """Streams belong to (node, epoch) from now on, each at a higher epoch: one record for all of them.

    Either it opens what its node owns, or it is given what another had, whose log is recovered.
    """

    node: NodeId
    epoch: BrokerEpoch
    streams: tuple[StreamOpening, ...]


class ConfigChanged(msgspec.Struct, frozen=True, array_like=True, tag=10):
    """Overrides of one resource: a text sets, None removes. Resource types are Kafka's numbers (topic 2, broker 4)."""

    resource_type: int
    resource_name: str
    changes: tuple[tuple[str, str | None], ...]


class StreamTrimmed(msgspec.Struct, frozen=True, array_like=True, tag=11):
    """Offsets below `start` are gone."""

    stream: StreamId
    start: Offset


class StreamsDeleted(msgspec.Struct, frozen=True, array_like=True, tag=12):
    """The streams and everything in them are gone."""

    streams: tuple[StreamId, ...]


class ObjectsPrepared(msgspec.Struct, frozen=True, array_like=True, tag=13):
    """Ids [first, first + count) may be uploaded and committed until they expire."""

    first: ObjectId
    count: int
    node: NodeId
    epoch: BrokerEpoch
    expires_ms: int


class ObjectCommitted(msgspec.Struct, frozen=True, array_like=True, tag=14):
    """A prepared object is readable, and (node, epoch)'s write-ahead log is superfluous below `trim_to`.

    Not written any more: a commit of format level 2 is `ObjectsCommitted`.
    """

    object_id: ObjectId
    size: int
    node: NodeId
    epoch: BrokerEpoch
    trim_to: int
    ranges: tuple[RecordedRange, ...]
    refused: tuple[StreamId, ...] = ()
    """Streams whose ranges the commit check refused: a repeated commit gets the same answer."""


class ObjectsDestroyed(msgspec.Struct, frozen=True, array_like=True, tag=15):
    """Nobody may read or commit these any more; their bytes go after the grace period."""

    objects: tuple[ObjectId, ...]
    at_ms: int


class ObjectsDeleted(msgspec.Struct, frozen=True, array_like=True, tag=16):
    """The bytes are gone."""

    objects: tuple[ObjectId, ...]


class WalTrimmed(msgspec.Struct, frozen=True, array_like=True, tag=17):
    """(node, epoch)'s write-ahead log is superfluous below `trim_to`: a record before it is a delete."""

    node: NodeId
    epoch: BrokerEpoch
    trim_to: int


class WalRecovered(msgspec.Struct, frozen=True, array_like=True, tag=18):
    """Everything in (node, epoch)'s write-ahead log is committed, and its end is fenced."""

    node: NodeId
    epoch: BrokerEpoch


class ProducerIdsAllocated(msgspec.Struct, frozen=True, array_like=True, tag=19):
    """Producer ids below `next_id` are given out; the newest block went to (node, epoch)."""

    next_id: int
    node: NodeId
    epoch: BrokerEpoch


class FeatureLevelSet(msgspec.Struct, frozen=True, array_like=True, tag=20):
    """The level of a feature, as Kafka's UpdateFeatures means it."""

    name: str
    level: int


class CountersAdvanced(msgspec.Struct, frozen=True, array_like=True, tag=21):
    """Snapshots only: what the next ids are; they are never given twice."""

    next_broker_epoch: BrokerEpoch
    next_stream: StreamId
    next_object: ObjectId
    next_producer_id: int


class ObjectRestored(msgspec.Struct, frozen=True, array_like=True, tag=22):
    """Snapshots only: a committed object; the streams that follow say what it holds."""

    object_id: ObjectId
    size: int
    node: NodeId
    epoch: BrokerEpoch
    refused: tuple[StreamId, ...] = ()
    """Of format level 1 and below: see `NewestCommit`."""


class StreamRestored(msgspec.Struct, frozen=True, array_like=True, tag=23):
    """Snapshots only: where a stream of an existing partition begins and ends, and which objects hold it.

    A second record for the same stream has more spans, above those of the first.

    Not written any more: format level 2 has `PackedStreamRestored`.
    """

    stream: StreamId
    start: Offset
    end: Offset
    checkpoint_object: ObjectId | None
    checkpoint_offset: Offset
    spans: tuple[SpanRecord, ...]


class StreamsQuarantined(msgspec.Struct, frozen=True, array_like=True, tag=24):
    """The streams take no append, and are opened at no higher epoch, until what is at `key` is repaired.

    What is committed of them stays readable. With `wal_node` and `wal_epoch` the cause is that incarnation's
    write-ahead log, which may hold acknowledged records of them. A second record for the same stream and key replaces
    the first; causes of different keys add up.
    """

    streams: tuple[StreamId, ...]
    key: str
    reason: str
    at_ms: int
    wal_node: NodeId | None = None
    wal_epoch: BrokerEpoch | None = None


class QuarantineLifted(msgspec.Struct, frozen=True, array_like=True, tag=25):
    """The cause named `key` is gone for these streams; with their last cause they take appends again."""

    streams: tuple[StreamId, ...]
    key: str


class RangeLost(msgspec.Struct, frozen=True, array_like=True, tag=26):
    """A person gave offsets [start, end) of a stream up: what `key` held of them cannot be read any more.

    The stream's end moves to `end` at least, which is above every offset of the range that can have been acknowledged:
    no offset is ever given twice. Readers pass over the range; producers' sequences in it count as unknown.
    """

    stream: StreamId
    start: Offset
    end: Offset
    key: str
    reason: str
    by: str
    at_ms: int


class WalDamaged(msgspec.Struct, frozen=True, array_like=True, tag=27):
    """(node, epoch)'s write-ahead log cannot be recovered because of what is at `key`: it is pinned.

    Nothing of it is deleted and its streams are quarantined; it is tried again at every start, and may be passed over
    by whoever opens streams. WalRecovered ends that. With `unplaced` that is all that is left: the rest is committed.
    """

    node: NodeId
    epoch: BrokerEpoch
    key: str
    reason: str
    at_ms: int
    unplaced: tuple[UnplacedRange, ...] = ()


class WalSlotsLost(msgspec.Struct, frozen=True, array_like=True, tag=28):
    """A person gave slots [start, end) of (node, epoch)'s write-ahead log up: recovery passes over them.

    With `end` None the log ends at `start`: nothing at or above it is part of it.
    """

    node: NodeId
    epoch: BrokerEpoch
    start: int
    end: int | None
    by: str
    at_ms: int


class FormatLevelRaised(msgspec.Struct, frozen=True, array_like=True, tag=29):
    """From here on the prefix may hold, anywhere, what only programs of this format level read.

    It comes before the first of that, and into every snapshot: an older program meets it when it reads the log, which
    is before it claims anything, and refuses.
    """

    level: int


class ObjectsCommitted(msgspec.Struct, frozen=True, array_like=True, tag=30):
    """Prepared objects are readable, all of a block, and (node, epoch)'s log is superfluous below `trim_to`."""

    node: NodeId
    epoch: BrokerEpoch
    trim_to: int
    objects: tuple[CommittedObject, ...]
    refused: tuple[StreamId, ...] = ()
    """Streams whose ranges the commit check refused: a repeated commit gets the same answer."""


class NewestCommit(msgspec.Struct, frozen=True, array_like=True, tag=31):
    """Snapshots only: the newest commit for (node, epoch)'s log, which may be asked for again."""

    node: NodeId
    epoch: BrokerEpoch
    objects: tuple[ObjectId, ...]
    refused: tuple[StreamId, ...] = ()


class PackedObjectRestored(msgspec.Struct, frozen=True, array_like=True, tag=32):
    """Snapshots only: a committed object, what it held when it was committed, and how many refer to it now."""

    object_id: ObjectId
    size: int
    node: NodeId
    epoch: BrokerEpoch
    references: int
    ranges: bytes
    generation: int = 0


class PackedStreamRestored(msgspec.Struct, frozen=True, array_like=True, tag=33):
    """Snapshots only: where a stream of an existing partition begins and ends, and which objects hold it.

    `objects` are chunks of `object_ids`; a second record for the same stream has more of them.
    """

    stream: StreamId
    start: Offset
    end: Offset
    checkpoint_object: ObjectId | None
    checkpoint_offset: Offset
    stored_bytes: int
    stored_offsets: int
    objects: tuple[bytes, ...]
    checkpoints: bytes = b""
    """As in `checkpoint_refs`; `checkpoint_object` and `checkpoint_offset` are the newest of them."""


class CompactedObject(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One object that compaction wrote, and the packed ranges it holds: each takes the place of what lay there."""

    object_id: ObjectId
    size: int
    ranges: bytes


class ObjectsCompacted(msgspec.Struct, frozen=True, array_like=True, tag=34):
    """Prepared objects are readable instead of others: for each of their ranges, all spans between its ends are gone.

    The compaction check saw that those spans hold exactly the range's offsets. `generation` is how often the objects'
    bytes were rewritten.
    """

    node: NodeId
    epoch: BrokerEpoch
    generation: int
    objects: tuple[CompactedObject, ...]


MetadataRecord = (
    BrokerRegistered
    | BrokerFenced
    | BrokerUnregistered
    | PrefixOwnerSet
    | TopicCreated
    | TopicDeleted
    | PartitionsCreated
    | PartitionLeaderChanged
    | StreamsOpened
    | ConfigChanged
    | StreamTrimmed
    | StreamsDeleted
    | ObjectsPrepared
    | ObjectCommitted
    | ObjectsDestroyed
    | ObjectsDeleted
    | WalTrimmed
    | WalRecovered
    | ProducerIdsAllocated
    | FeatureLevelSet
    | CountersAdvanced
    | ObjectRestored
    | StreamRestored
    | StreamsQuarantined
    | QuarantineLifted
    | RangeLost
    | WalDamaged
    | WalSlotsLost
    | FormatLevelRaised
    | ObjectsCommitted
    | NewestCommit
    | PackedObjectRestored
    | PackedStreamRestored
    | ObjectsCompacted
    | PartitionsMoving
    | MovesCancelled
    | StreamsReleased
    | NewestReleases
    | ReplicasAssigned
    | BrokerStopping
    | BalancerDecided
)

RECORD_TYPES: Final[tuple[type[msgspec.Struct], ...]] = MetadataRecord.__args__
FORMAT_LEVEL: Final = 4
"""The newest that this program reads, and what a cluster that it makes begins with.

Level 3 knew records up to tag 34, and nothing of partitions that move. Level 2 knew objects of version 1, and ranges
without their places in them; level 1 knew records up to tag 29, whole checkpoints only, and ranges one by one; level 0
knew records up to tag 23, and WAL slots of version 1."""
NEWEST_TAG: Final = 41
_NEWEST_TAGS: Final = (23, 29, 34, 34, NEWEST_TAG)
"""Of each format level."""

_ENCODER: Final = msgspec.msgpack.Encoder(uuid_format="bytes")
_DECODER: Final = msgspec.msgpack.Decoder(list[MetadataRecord])
_TAGS: Final = msgspec.msgpack.Decoder(list[msgspec.Raw])
_FIELDS: Final = msgspec.msgpack.Decoder(list[object])
RECORD_LEVELS: Final[Mapping[type[msgspec.Struct], int]] = {
    kind: next(level for level, newest in enumerate(_NEWEST_TAGS) if int(kind.__struct_config__.tag or 0) <= newest)
    for kind in RECORD_TYPES
}
"""The format level of each kind of record: programs that read a lower one do not know it."""


class UnknownRecord(Exception):
    """A record of a tag that this program does not know: a newer one wrote it."""

    def __init__(self, tag: int) -> None:
        super().__init__(f"metadata record of type {tag}; this program knows types up to {NEWEST_TAG}")
        self.tag = tag


def encode_record(record: MetadataRecord) -> bytes:
    """One record's bytes; `decode_records` reads them behind an array header."""
    return _ENCODER.encode(record)


def join_records(encoded: Sequence[bytes]) -> list[bytes]:
    """What `decode_records` reads: an array header, then the records one after the other."""
    return [b"\xdd" + len(encoded).to_bytes(4, "big"), *encoded]


def decode_records(data: bytes | bytearray | memoryview) -> list[MetadataRecord]:
    """The inverse of `join_records`. Raises UnknownRecord, ValueError for anything else that is no such array."""
    try:
        return _DECODER.decode(data)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        _raise_if_newer(data)
        raise ValueError(f"no metadata records: {error}") from error


def _raise_if_newer(data: bytes | bytearray | memoryview) -> None:
    try:
        fields = [_FIELDS.decode(raw) for raw in _TAGS.decode(data)]
    except (msgspec.DecodeError, msgspec.ValidationError):
        return
    for tag, *_rest in (record for record in fields if record):
        if isinstance(tag, int) and tag > NEWEST_TAG:
            raise UnknownRecord(tag)
