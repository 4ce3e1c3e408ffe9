"""The engine's nouns and the errors it raises."""

import enum
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Final, NewType

import msgspec

from automq.ids import BrokerEpoch, NodeId, ObjectId, Offset, StreamEpoch, StreamId


class StreamError(Exception):
    """Something the world did to a stream; never a bug of ours."""


class StreamNotFound(StreamError):
    """The stream was deleted or never was."""


class StreamFenced(StreamError):
    """Another owner has opened the stream at a higher epoch."""

    def __init__(self, *, stream: StreamId, ours: StreamEpoch, current: StreamEpoch) -> None:
        super().__init__(f"stream {stream} fenced: our epoch {ours}, current {current}")
        self.stream, self.ours, self.current = stream, ours, current


class FencedBy(enum.Enum):
    """How an incarnation learned that it is fenced: a closed set. None of them says who the other process is."""

    WAL_SLOT = "WalSlot"
    """A slot of our write-ahead log holds another process's bytes: it is being recovered."""
    METADATA_LOG = "MetadataLog"
    """A slot of the metadata log that was ours to write holds another controller's bytes."""
    CLAIM = "Claim"
    """A newer claim to the metadata log was faster than our start."""
    REGISTRATION = "Registration"
    """The cluster's metadata say that (node, epoch) is superseded, or that another broker recovers it."""


class BrokerFenced(StreamError):
    """This broker epoch has been fenced: it may never acknowledge, commit or serve again."""

    def __init__(self, message: str, *, by: FencedBy = FencedBy.REGISTRATION) -> None:
        super().__init__(message)
        self.by = by


class ObjectRefused(StreamError):
    """An object id of the commit is neither prepared nor committed: upload all of it again under new ids."""


class CommitTooLarge(StreamError):
    """One commit has more ranges than fit into one change of the metadata. Nothing happened: commit parts of it.

    Whoever uploads splits its ranges over several commits, and moves T with the last of them only.
    """

    def __init__(self, *, ranges: int, ranges_max: int) -> None:
        super().__init__(f"a commit of {ranges} ranges; at most {ranges_max} fit into one change of the metadata")
        self.ranges, self.ranges_max = ranges, ranges_max


class OffsetOutOfRange(StreamError):
    """A read outside [start, confirmed end]."""


class StreamQuarantined(StreamError):
    """The stream takes no append: what is at `key` is damaged and may hold acknowledged records of it."""

    def __init__(self, message: str, *, key: str) -> None:
        super().__init__(message)
        self.key = key


class StreamClosed(StreamError):
    """The stream was closed here, or the storage was: open it again where it lives now."""


class StreamSealed(StreamError):
    """The stream takes no append while it changes hands: whoever appends waits a moment, or looks elsewhere."""


class StorageFull(StreamError):
    """Every arena is held, the reserve included: try again when uploads have made room."""


class FormatTooNew(StreamError):
    """Something in the store was written by a newer version of the program; it is left untouched."""

    def __init__(self, *, key: str, version: int, supported: int) -> None:
        super().__init__(f"{key} has format version {version}, this program reads up to {supported}: upgrade it")
        self.key, self.version, self.supported = key, version, supported


class StoreDamaged(StreamError):
    """What must be in the store is missing or does not decode. Never anybody's fence, never served, never overwritten.

    `key` is what a person looks at; nothing is deleted because of damage.
    """

    def __init__(self, message: str, *, key: str) -> None:
        super().__init__(message)
        self.key = key
        self.hidden: tuple[Offset, Offset] | None = None
        """Set by reads of a stream: offsets [start, end) cannot be read because of this; `end` may be readable."""


class CorruptData(StoreDamaged):
    """Bytes in the store fail their checksum; never served. Names key, offset and length."""

    def __init__(self, *, key: str, offset: int, length: int, what: str) -> None:
        super().__init__(f"corrupt {what} in {key} at byte {offset}, {length} bytes long", key=key)
        self.offset, self.length, self.what = offset, length, what

    def again(self) -> "CorruptData":
        """The same fact, to be raised once more."""
        return CorruptData(key=self.key, offset=self.offset, length=self.length, what=self.what)


class DataMissing(StoreDamaged):
    """What a durable record or an acknowledged write says must exist is not in the store."""

    def __init__(self, *, key: str, what: str) -> None:
        super().__init__(f"{what} is missing: {key}", key=key)
        self.what = what


RetentionClass = NewType("RetentionClass", int)
"""How long a stream's records live, as far as sharing objects with others goes: `KEPT`, or longer the higher it is."""

KEPT: Final = RetentionClass(0)
"""Nothing is ever trimmed by age or size."""
DELETED_BY_SIZE: Final = RetentionClass(63)
"""Trimmed by size alone: nobody knows when, so it counts as longest."""


def deleted_class(retention_ms: int) -> RetentionClass:
    """The class of what is deleted at that age: each spans a factor of two, from a minute on."""
    return RetentionClass(1 + (max(0, retention_ms) // 60_000).bit_length())


CHECKPOINTS_KEPT_MAX: Final = 255
"""Pieces of a stream's checkpoints: a byte of a record."""


class CheckpointPiece(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of a stream's checkpoint, captured at exactly an offset."""

    kept: int
    """How many of the stream's newest pieces are needed from now on, this one included."""
    size: int
    """About how many bytes it has."""
    encode: Callable[[], Generator[None, None, list[bytes]]] | None = None
    """Its bytes, in buffers, some at a time; may be asked for again. None: they are few, and in `data`."""
    data: bytes = b""


class CommitRange(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Offsets [start, end) of one stream inside the object to be committed. Made by the ten thousand."""

    stream: StreamId
    epoch: StreamEpoch
    start: Offset
    end: Offset
    size: int
    """Bytes of data blocks."""
    max_timestamp_ms: int
    checkpoint: int = 0
    """Above 0: the object has a piece of the stream's checkpoint, captured at `end`. See `CheckpointPiece.kept`."""
    position: int = 0
    """Where in the object the first of the blocks begins, which lie one behind the other; 0: it is not known."""


class StreamRelease(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A stream that its owner has sealed at `end`, for the move that the metadata know by `move`."""

    stream: StreamId
    epoch: StreamEpoch
    move: int
    end: Offset


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitObject:
    """One object of a commit, and what it holds: each stream's ranges ascend."""

    object_id: ObjectId
    size: int
    ranges: Sequence[CommitRange]


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitRequest:
    """The objects of one block, and the WAL position that they make superfluous: all of it by one record, or nothing.

    `node` and `epoch` name the broker whose WAL the data come from. In a recovery commit that is the dead broker, and
    `recoverer` is the (node, epoch) which the fence record names; else `recoverer` is None.
    """

    objects: Sequence[CommitObject]
    """None of them when a commit only moves the WAL position."""
    node: NodeId
    epoch: BrokerEpoch
    trim_to: int
    """New T of (node, epoch): a WAL sequence."""
    recoverer: tuple[NodeId, BrokerEpoch] | None = None
    releasing: tuple[StreamRelease, ...] = ()
    """Streams whose last range this is: with it they get their new owners, or stay. Each at most once."""

    @property
    def object_ids(self) -> tuple[ObjectId, ...]:
        """The objects' ids, in order."""
        return tuple(committed.object_id for committed in self.objects)

    @property
    def ranges(self) -> Sequence[CommitRange]:
        """Those of all objects, in their order: what `CommitResult.verdicts` follows."""
        return [item for committed in self.objects for item in committed.ranges]


@dataclass(frozen=True, slots=True)
class StreamTrim:
    """The owner at `epoch` forgets what lies below `new_start`."""

    stream: StreamId
    epoch: StreamEpoch
    new_start: Offset


Trimmed = StreamFenced | StreamNotFound | None
"""What became of one: None, or why nothing did."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unplaced:
    """Offsets [start, end) of one stream that recovery found in slots [first_slot, end_slot) and could not commit.

    They do not begin where the stream ended (`expected`), or the commit check refused them. Nobody deletes the slots.
    """

    stream: StreamId
    epoch: StreamEpoch
    start: Offset
    end: Offset
    expected: Offset
    first_slot: int
    end_slot: int


@dataclass(frozen=True, slots=True)
class SlotsLost:
    """Slots [start, end) of a log that a person gave up: recovery passes over them. None: the log ends at `start`."""

    start: int
    end: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveredLog:
    """What recovery of one log has done."""

    fence: int
    """The sequence of the fence that ends it."""
    unplaced: Sequence[Unplaced] = ()
    given_up: int = 0
    """How many slots were passed over because a person gave them up; where the log was ended, as many as can have been
    acknowledged."""
    continued: frozenset[StreamId] = frozenset()
    """Streams that have records behind the last of those."""
    by_serving: bool = False
    """Whether the recoverer has opened its streams already."""


class RangeVerdict(enum.Enum):
    """How the commit check judged one range (design: 'Commit check, the last line of defence')."""

    ACCEPTED = 1
    DROPPED = 2
    """The stream is deleted."""
    CLIPPED = 3
    """Wholly or partly below the trim point; the stream's end moves all the same."""
    REFUSED = 4
    """Not the owner, not at its current epoch, or not contiguous: the owner learns that it is not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitResult:
    """The verdict for each range of the request, in its order, and whether T moved."""

    verdicts: Sequence[RangeVerdict]
    trimmed_to: int
    """T after this commit; below the request's `trim_to` when a range was refused while its stream is still ours."""
    released: tuple[bool, ...] = ()
    """For each of the request's releases whether the stream has its new owner; else the move is void and it stays."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectSpan:
    """A committed object's share of one stream: offsets [start, end)."""

    object_id: ObjectId
    object_size: int
    start: Offset
    end: Offset
    size: int
    max_timestamp_ms: int
    position: int = 0
    """Where in the object its blocks begin, `size` bytes one behind the other; 0 when only the object's index knows.

    The first of them may begin below `start`, where a trim has cut the share."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """Offsets [start, end) of one stream as retention sees them: a committed object's share, or a cached block's."""

    start: Offset
    end: Offset
    size: int
    max_timestamp_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointRef:
    """Where a piece of a stream's checkpoint lies, and the end offset it was captured at."""

    object_id: ObjectId
    object_size: int
    offset: Offset
    is_alone: bool = False
    """The object lives for checkpoints alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamState:
    """What the durable image says of a stream. Invariant: 0 <= start, and `end` covers every committed object."""

    stream: StreamId
    epoch: StreamEpoch
    owner: NodeId
    start: Offset
    end: Offset
    checkpoints: Sequence[CheckpointRef] = ()
    """Oldest first."""
    lost: Sequence[tuple[Offset, Offset]] = ()
    """Ranges [start, end) that a person gave up, ascending: there are no records in them, readers pass over them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamRecordBatch:
    """One record batch kept verbatim, as the WAL and recovery see it: offsets [base_offset, base_offset + count)."""

    stream: StreamId
    epoch: StreamEpoch
    base_offset: Offset
    count: int
    max_timestamp_ms: int
    crc: int
    """crc32c of the payload."""
    payload: memoryview = field(repr=False)
    is_damaged: bool = False
    """The payload fails its checksum; everything else here is as it was written."""

    @property
    def end_offset(self) -> Offset:
        """One past the last offset."""
        return Offset(self.base_offset + self.count)
