"""Records of partitions that change hands; `metadata.records` says how records persist, and lists them all.

A partition has at most one move. It ends in the very record that makes it pointless: a release, a cancel, the fence of
either side, the deletion of the stream, another opening of it.
"""

import enum

import msgspec

from automq.ids import BrokerEpoch, NodeId, Offset, StreamEpoch, StreamId, TopicId


class MoveCause(enum.IntEnum):
    """Who wants a move; the higher takes the place of the lower. Persisted: never renumber."""

    BALANCER = 1
    DRAIN = 2
    OPERATOR = 3


class MovingPartition(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One stream on its way, and the replicas (nominal) that its partition shows once it has arrived."""

    stream: StreamId
    replicas: tuple[NodeId, ...] = ()
    """Empty: it keeps those that it has."""


class PartitionsMoving(msgspec.Struct, frozen=True, array_like=True, tag=35):
    """(node, epoch) is to hand these partitions over to (target, target_epoch)."""

    node: NodeId
    epoch: BrokerEpoch
    target: NodeId
    target_epoch: BrokerEpoch
    cause: MoveCause
    partitions: tuple[MovingPartition, ...]
    move: int = 0
    """What all of these moves are known by: in the log 0, which means the number of this very record. A snapshot's
    record has another number, and so says it."""


class MovesCancelled(msgspec.Struct, frozen=True, array_like=True, tag=36):
    """The streams stay with their owners."""

    streams: tuple[StreamId, ...]
    reason: str


class ReleasedStream(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One stream that has a new owner: at `end`, under `epoch`."""

    stream: StreamId
    move: int
    end: Offset
    target: NodeId
    target_epoch: BrokerEpoch
    epoch: StreamEpoch


class NamedMove(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One move of one stream."""

    stream: StreamId
    move: int


class StreamsReleased(msgspec.Struct, frozen=True, array_like=True, tag=37):
    """(node, epoch) has sealed these streams, and everything of them is committed: their targets own them from here on.

    It comes in the append of the commit that ends them, right behind it.
    """

    node: NodeId
    epoch: BrokerEpoch
    released: tuple[ReleasedStream, ...]
    refused: tuple[NamedMove, ...] = ()
    """Those that are void: the stream stays. A repeated commit gets the same answer."""


class NewestReleases(msgspec.Struct, frozen=True, array_like=True, tag=38):
    """Snapshots only: what the newest commit for (node, epoch)'s log released, and what it did not."""

    node: NodeId
    epoch: BrokerEpoch
    released: tuple[NamedMove, ...]
    refused: tuple[NamedMove, ...]


class PartitionReplicas(msgspec.Struct, frozen=True, array_like=True):
    """The replicas (nominal) of one partition of a topic."""

    index: int
    replicas: tuple[NodeId, ...]


class ReplicasAssigned(msgspec.Struct, frozen=True, array_like=True, tag=39):
    """Somebody has asked for other replicas; who leads stays as it is."""

    topic_id: TopicId
    partitions: tuple[PartitionReplicas, ...]


class BalancedBrokerState(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a broker carried when the balancer decided."""

    node: NodeId
    partitions: int
    bytes_per_second: int
    """In and out together."""
    cpu_percent: int
    """Of a core."""


class BalancedMove(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One move that the balancer decided. Shares are thousandths of the mean, before and after."""

    topic: str
    index: int
    stream: StreamId
    source: NodeId
    target: NodeId
    source_share: tuple[int, int]
    target_share: tuple[int, int]
    bytes_per_second: int
    is_by_count: bool
    """It is numbers of partitions that are evened out, and shares are of them."""


class BalancerDecided(msgspec.Struct, frozen=True, array_like=True, tag=41):
    """Why the moves of the record before were decided: what a person asks for later, whoever is the controller then."""

    at_ms: int
    brokers: tuple[BalancedBrokerState, ...]
    moves: tuple[BalancedMove, ...]


class BrokerStopping(msgspec.Struct, frozen=True, array_like=True, tag=40):
    """(node, epoch) wants to end: it is given nothing any more, by nobody."""

    node: NodeId
    epoch: BrokerEpoch
