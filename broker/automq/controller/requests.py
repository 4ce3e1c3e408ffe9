"""Everything that a broker may ask the controller for: one frozen structure a request, whoever carries it.

`ONCE` requests decide anew each time they arrive: a second try must reach the same controller, which knows it by its
number (`link`). All others are conditions on the state that they are decided on, or give out what nobody gets twice, so
that any controller may be asked again; each says how a repeat is recognised.

Tags and the order of fields are for the wire: never renumber, never reuse, never reorder; a field may be added at the
end with a default.
"""

from collections.abc import Sequence
from typing import ClassVar, Final, get_args

import msgspec

from automq.controller.compaction_check import CompactionRequest, CompactionResult
from automq.controller.damage import Damage
from automq.controller.model import (
    BalancerView,
    BrokerLoad,
    ConfigAlteration,
    ConfigResult,
    HeartbeatAnswer,
    MoveResult,
    PartitionsSpec,
    ProducerIdBlock,
    Reassignment,
    Registration,
    TopicResult,
    TopicSpec,
    WalToRecover,
)
from automq.ids import BrokerEpoch, ControllerEpoch, NodeId, ObjectId, Offset, StreamId, TopicId
from automq.metadata.record_parts import IN_THE_BUCKET
from automq.metadata.records import Endpoint, WalDescriptor
from automq.s3stream.model import CommitRequest, CommitResult, RecoveredLog, StreamTrim, Trimmed, Unplaced

Incarnation = tuple[NodeId, BrokerEpoch]
TopicName = tuple[str | None, TopicId | None]
"""A topic by name, or by id: the other is None."""


class RegisterBroker(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """A new incarnation of `node`. A repeat is known by `incarnation`, and answered from the image.

    Without one it is a newer incarnation, which fences the one before: nobody has heard of that.
    """

    ANSWER: ClassVar = Registration
    ONCE: ClassVar = False
    node: NodeId
    rack: str | None
    endpoints: Sequence[Endpoint]
    format_level: int
    incarnation: bytes = b""
    wal: WalDescriptor = IN_THE_BUCKET
    after: BrokerEpoch | None = None
    """Only if that is still the newest incarnation of the node; None: whatever there is."""


class FenceBroker(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """End (node, epoch). Repeated it names the same logs again."""

    ANSWER: ClassVar = Sequence[WalToRecover]
    ONCE: ClassVar = False
    node: NodeId
    epoch: BrokerEpoch
    recoverer: Incarnation


class WalRecovered(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """(node, epoch)'s log is committed and ended. Repeated it finds no such log."""

    ANSWER: ClassVar = type(None)
    ONCE: ClassVar = False
    node: NodeId
    epoch: BrokerEpoch
    recoverer: Incarnation
    recovered: RecoveredLog


class UnregisterBroker(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """Forget a fenced node; with `epoch`, one that says nothing any more."""

    ANSWER: ClassVar = type(None)
    ONCE: ClassVar = True
    node: NodeId
    epoch: BrokerEpoch | None = None


class OpenStreams(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """Raise the epoch of what `node` owns. Repeated it raises it once more, before anybody has opened anything."""

    ANSWER: ClassVar = type(None)
    ONCE: ClassVar = False
    node: NodeId
    epoch: BrokerEpoch


class AllocateProducerIds(msgspec.Struct, frozen=True, array_like=True, tag=6):
    """Ids for (node, epoch). Repeated it gives others; the first are nobody's."""

    ANSWER: ClassVar = ProducerIdBlock
    ONCE: ClassVar = False
    node: NodeId
    epoch: BrokerEpoch
    count: int


class QuarantineWal(msgspec.Struct, frozen=True, array_like=True, tag=7):
    """(node, epoch)'s log cannot be recovered whole. What is said twice is recorded once."""

    ANSWER: ClassVar = type(None)
    ONCE: ClassVar = False
    node: NodeId
    epoch: BrokerEpoch
    recoverer: Incarnation
    found: Damage
    unplaced: Sequence[Unplaced]
    by_serving: bool = False
    """The recoverer serves already: see `RecoveredLog.by_serving`."""


class QuarantineStreams(msgspec.Struct, frozen=True, array_like=True, tag=8):
    """Streams of (node, epoch) take no append. What is said twice is recorded once."""

    ANSWER: ClassVar = type(None)
    ONCE: ClassVar = False
    node: NodeId
    epoch: BrokerEpoch
    streams: Sequence[StreamId]
    found: Damage


class LoseBefore(msgspec.Struct, frozen=True, array_like=True, tag=9):
    """What a stream lacks below `end` was given up with slots of (node, epoch)'s log. Repeated it finds no hole."""

    ANSWER: ClassVar = type(None)
    ONCE: ClassVar = False
    node: NodeId
    epoch: BrokerEpoch
    recoverer: Incarnation
    stream: StreamId
    end: Offset


class CreateTopics(msgspec.Struct, frozen=True, array_like=True, tag=10):
    """One result for each."""

    ANSWER: ClassVar = list[TopicResult]
    ONCE: ClassVar = True
    specs: Sequence[TopicSpec]
    validate_only: bool


class DeleteTopics(msgspec.Struct, frozen=True, array_like=True, tag=11):
    """One result for each."""

    ANSWER: ClassVar = list[TopicResult]
    ONCE: ClassVar = True
    topics: Sequence[TopicName]


class CreatePartitions(msgspec.Struct, frozen=True, array_like=True, tag=12):
    """One result for each."""

    ANSWER: ClassVar = list[TopicResult]
    ONCE: ClassVar = True
    specs: Sequence[PartitionsSpec]
    validate_only: bool


class AlterConfigs(msgspec.Struct, frozen=True, array_like=True, tag=13):
    """One result for each. Appending twice to a list is not appending once."""

    ANSWER: ClassVar = list[ConfigResult]
    ONCE: ClassVar = True
    alterations: Sequence[ConfigAlteration]
    validate_only: bool


class TrimStreams(msgspec.Struct, frozen=True, array_like=True, tag=14):
    """Starts move forward, never back: a repeat changes nothing."""

    ANSWER: ClassVar = list[Trimmed]
    ONCE: ClassVar = False
    node: NodeId
    epoch: BrokerEpoch
    trims: Sequence[StreamTrim]


class PrepareObjects(msgspec.Struct, frozen=True, array_like=True, tag=15):
    """Fresh object ids. Repeated it gives others; the first expire."""

    ANSWER: ClassVar = list[ObjectId]
    ONCE: ClassVar = False
    node: NodeId
    epoch: BrokerEpoch
    count: int


class CommitObjects(msgspec.Struct, frozen=True, array_like=True, tag=16):
    """A repeat is known by its object ids, and answered from the broker's newest commit; without objects it moves T."""

    ANSWER: ClassVar = CommitResult
    ONCE: ClassVar = False
    request: CommitRequest


class CommitCompaction(msgspec.Struct, frozen=True, array_like=True, tag=17):
    """A repeat is known by its outputs, which are committed."""

    ANSWER: ClassVar = CompactionResult
    ONCE: ClassVar = False
    request: CompactionRequest


class Confirm(msgspec.Struct, frozen=True, array_like=True, tag=18):
    """Whether (node, epoch) may still act, by a look at the log that began after this arrived."""

    ANSWER: ClassVar = type(None)
    ONCE: ClassVar = False
    node: NodeId
    epoch: BrokerEpoch


class RaiseFormatLevel(msgspec.Struct, frozen=True, array_like=True, tag=19):
    """Records of that level may be written from now on. Repeated it records nothing."""

    ANSWER: ClassVar = type(None)
    ONCE: ClassVar = False
    level: int


class Heartbeat(msgspec.Struct, frozen=True, array_like=True, tag=20):
    """(node, epoch) is there. Repeated it is one more."""

    ANSWER: ClassVar = HeartbeatAnswer
    ONCE: ClassVar = False
    node: NodeId
    epoch: BrokerEpoch
    load: BrokerLoad
    record_number: int
    """Of the asker's image."""
    # A sixth field was a wish to stop, which `StopBroker` is: its place is not taken again.


class FollowedSlot(msgspec.Struct, frozen=True, array_like=True):
    """A slot of the metadata log: what lies in the bucket at (epoch, sequence)."""

    epoch: ControllerEpoch
    sequence: int
    body: bytes


class Followed(msgspec.Struct, frozen=True, array_like=True):
    """What came behind the records that were asked for."""

    slots: Sequence[FollowedSlot] = ()
    """None, when nothing came in time."""
    is_behind: bool = False
    """The controller does not have what comes next: read the bucket."""
    successor: NodeId | None = None
    """The controller stops: this broker claims at once."""


class Follow(msgspec.Struct, frozen=True, array_like=True, tag=30):
    """Durable slots behind so many records, as soon as there are any. It changes nothing."""

    ANSWER: ClassVar = Followed
    ONCE: ClassVar = False
    node: NodeId
    record_number: int
    wait_ms: int


class AlterReassignments(msgspec.Struct, frozen=True, array_like=True, tag=21):
    """One result for each. What is there, or under way, already is not begun again."""

    ANSWER: ClassVar = list[MoveResult]
    ONCE: ClassVar = True
    wanted: Sequence[Reassignment]
    allows_factor_change: bool


class ElectLeaders(msgspec.Struct, frozen=True, array_like=True, tag=22):
    """The first replicas are to lead; of all partitions with None. What moves there already is not begun again."""

    ANSWER: ClassVar = list[MoveResult]
    ONCE: ClassVar = False
    wanted: Sequence[tuple[str, int]] | None


class StopBroker(msgspec.Struct, frozen=True, array_like=True, tag=23):
    """(node, epoch) wants to end, and gives away what it leads; whether there is anybody to take it."""

    ANSWER: ClassVar = bool
    ONCE: ClassVar = False
    node: NodeId
    epoch: BrokerEpoch


class EndBroker(msgspec.Struct, frozen=True, array_like=True, tag=25):
    """(node, epoch) ends in order, and its log with it. Said again, BrokerFenced tells that it was done."""

    ANSWER: ClassVar = type(None)
    ONCE: ClassVar = False
    node: NodeId
    epoch: BrokerEpoch


class DescribeBalancer(msgspec.Struct, frozen=True, array_like=True, tag=24):
    """What the balancer sees, would do and did, with so many of its last moves. It changes nothing."""

    ANSWER: ClassVar = BalancerView
    ONCE: ClassVar = False
    moves_max: int


Request = (
    RegisterBroker
    | FenceBroker
    | WalRecovered
    | UnregisterBroker
    | OpenStreams
    | AllocateProducerIds
    | QuarantineWal
    | QuarantineStreams
    | LoseBefore
    | CreateTopics
    | DeleteTopics
    | CreatePartitions
    | AlterConfigs
    | TrimStreams
    | PrepareObjects
    | CommitObjects
    | CommitCompaction
    | Confirm
    | RaiseFormatLevel
    | Heartbeat
    | Follow
    | AlterReassignments
    | ElectLeaders
    | StopBroker
    | EndBroker
    | DescribeBalancer
)

REQUEST_TYPES: Final[tuple[type[msgspec.Struct], ...]] = get_args(Request)
