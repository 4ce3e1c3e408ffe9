"""What metadata records are made of: structures that several of them hold. `metadata.records` says how they persist."""

from typing import Final

import msgspec

from automq.ids import BrokerEpoch, NodeId, ObjectId, Offset, StreamEpoch, StreamId


class Endpoint(msgspec.Struct, frozen=True, array_like=True):
    """Where clients reach a broker, for one listener."""

    listener_name: str
    host: str
    port: int
    security_protocol: str = "PLAINTEXT"


class WalDescriptor(msgspec.Struct, frozen=True, array_like=True):
    """Where an incarnation's write-ahead log lies: what says who can recover it."""

    kind: str = "s3"
    """As `automq.wal.type` names it. One of kind `s3` lies in the cluster's bucket, which every broker reaches."""
    volume: str | None = None
    region: int | None = None


IN_THE_BUCKET: Final = WalDescriptor()


class NewPartition(msgspec.Struct, frozen=True, array_like=True):
    """One partition to be: its stream, its owner, and the replicas that a client asked for (nominal)."""

    index: int
    stream: StreamId
    leader: NodeId
    leader_epoch: StreamEpoch = StreamEpoch(0)
    replicas: tuple[NodeId, ...] = ()
    broker_epoch: BrokerEpoch | None = None
    """The leader's incarnation. None is any: programs that did not say so had one broker."""


class StreamOpening(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One stream and the epoch it is opened at."""

    stream: StreamId
    epoch: StreamEpoch


class RecordedRange(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Offsets of one stream that a committed object holds: what the commit check let through.

    [start, end) is what may be read: below the trim point nothing is. It may be empty. The stream's end moves to
    `end`. `size` is that of the range as it was committed.
    """

    stream: StreamId
    start: Offset
    end: Offset
    size: int
    max_timestamp_ms: int
    checkpoint: int | bool
    """With a piece of the stream's checkpoint captured at `end`: how many of its newest pieces are kept, this one
    included; else 0. Records of format level 1 and below have True where there is a whole checkpoint."""


class SpanRecord(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A committed object's share of one stream, in a snapshot."""

    object_id: ObjectId
    object_size: int
    start: Offset
    end: Offset
    size: int
    max_timestamp_ms: int


class CommittedObject(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One object of a commit: what the commit check let through of it."""

    object_id: ObjectId
    size: int
    ranges: bytes
    """What it holds, as `packed_ranges` packs it. The streams' ends move to those of their ranges."""
    checkpoints: bytes = b""
    """`RecordedRange.checkpoint` for each range, in their order. Or nothing: none has any."""
    others: tuple[RecordedRange, ...] = ()
    """Empty ranges: those of streams that only have a checkpoint in the object, or that were trimmed beyond it."""


class UnplacedRange(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Offsets [start, end) of one stream that a dead broker's log holds in slots [first_slot, end_slot), and no object.

    They begin with a damaged batch, or not where the stream ended (`expected`), or their commit was refused.
    """

    stream: StreamId
    epoch: StreamEpoch
    start: Offset
    end: Offset
    expected: Offset
    first_slot: int
    end_slot: int
