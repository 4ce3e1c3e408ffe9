"""What the engine needs from outside: an object store, and the controller's word on streams and objects.

Every port's failure semantics are part of its contract; `tests/contract` runs one suite against every adapter.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from automq.ids import BrokerEpoch, NodeId, ObjectId, Offset, StreamEpoch, StreamId
from automq.s3stream.model import (
    CommitRequest,
    CommitResult,
    ObjectSpan,
    RetentionClass,
    StreamState,
    StreamTrim,
    Trimmed,
)

Buffer = bytes | bytearray | memoryview


class StoreError(Exception):
    """Base of everything an object store may answer."""


class ObjectNotFound(StoreError):
    """There is no object of that key."""


class ObjectExists(StoreError):
    """Create-if-absent found the key taken (412). The caller compares the nonce: it may be its own earlier try."""


class StoreConflict(StoreError):
    """The store saw a concurrent operation and did nothing (409). Try again with the same bytes."""


class StoreUnavailable(StoreError):
    """A time-out, a lost connection, a 5xx, a full disk: a write may or may not have happened."""


class NotController(StoreUnavailable):
    """Whoever was asked is not the controller any more, or takes nothing now: go elsewhere, or ask again.

    Nothing is known of the outcome. It says nothing of the asking broker, which may still act: only `BrokerFenced` ends
    an incarnation.
    """


class StoreCredentialsRejected(StoreError):
    """The store does not accept who we say we are, or the credential files are missing."""


class StoreAccessDenied(StoreError):
    """The store knows us and says no."""


class BucketNotFound(StoreError):
    """The bucket (or the root folder's parent) does not exist."""


class StoreUnsupported(StoreError):
    """The store does not know the operation or a condition of it, and never will: it is unsuitable."""


class StoreRefused(StoreError):
    """The store answered, and said no to this request for good (a 4xx): the same request again gets the same answer.

    Nothing happened. It is neither an outage nor damage: somebody must change the store, its policy or this program.
    """


class StoreSettingsInvalid(StoreError):
    """The store says that what was configured cannot be (the bucket's name, the region): a setting must be changed."""


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One line of a listing."""

    key: str
    size: int
    modified_ms: int | None = field(default=None, compare=False)
    """When the object was last written, by the store's own clock (`time_ms`); None where the store does not say."""


@dataclass(frozen=True, slots=True)
class UnfinishedUpload:
    """Parts of an object that was never completed: no listing shows them, and they are paid for."""

    key: str
    upload_id: str
    started_ms: int | None
    """By the store's own clock (`time_ms`); None where the store does not say."""


class ObjectStorage(Protocol):
    """A flat map from keys to bytes, linearizable per key.

    Keys are relative to the cluster's prefix, ASCII, `/`-separated; no key is another key plus `/...`. Reads and
    unconditional operations retry transport errors themselves a few times, then raise StoreUnavailable. `create`
    never retries by itself: an unknown outcome is the caller's to ask again (`store.conditional.create_once`).
    Every body travels with a checksum where the store can verify one: a write lands whole or not at all.
    """

    async def get(self, key: str) -> bytes:
        """The whole object. Raises ObjectNotFound."""
        ...

    async def get_range(self, key: str, start: int, end: int) -> Buffer:
        """Bytes [start, end), shorter where the object ends. Raises ObjectNotFound."""
        ...

    async def put(self, key: str, body: Sequence[Buffer]) -> None:
        """Create or overwrite with the concatenation of `body`. Bulk path: any size, paced by the adapter.

        The buffers stay unchanged until this returns or raises.
        """
        ...

    async def create(self, key: str, body: Sequence[Buffer]) -> None:
        """Create if absent, durable when this returns; <= 8 MiB.

        Raises ObjectExists, StoreConflict, StoreUnavailable.
        """
        ...

    async def create_bulk(self, key: str, body: Sequence[Buffer]) -> None:
        """Create if absent with the concatenation of `body`. Bulk path as `put`: any size, paced, tried again inside.

        Raises ObjectExists when the key is taken, possibly by an earlier try of this very call whose answer was lost:
        the caller compares what is there with what it wrote. Where a store cannot refuse (see the doctor's check
        "create in bulk"), a key that was there before is refused all the same, and only a race can overwrite.
        """
        ...

    async def delete(self, keys: Sequence[str]) -> None:
        """Remove the keys; a missing one is no error. After an error some of them may be gone."""
        ...

    async def list(self, prefix: str, *, start_after: str = "", limit: int = 1_000_000) -> list[ObjectInfo]:
        """Keys that begin with `prefix` (a plain string prefix) and sort after `start_after`, in byte order.

        Everything that lies there is listed, keys that no program of ours has written included (a console's folder
        markers `.../`, somebody's files): the caller knows its own by their whole form.
        """
        ...

    async def time_ms(self) -> int | None:
        """The store's own clock now, to compare with `modified_ms`; None where the store has none."""
        ...

    async def list_uploads(self, prefix: str) -> Sequence[UnfinishedUpload]:
        """Unfinished multipart uploads of keys that begin with `prefix`; none where the store has no such thing.

        Advisory: a store may refuse it (StoreError) or find an upload by nothing less than its whole key (MinIO, which
        removes old ones by itself), and nothing may rest on it.
        """
        ...

    async def abort_uploads(self, uploads: Sequence[UnfinishedUpload]) -> None:
        """Remove the parts of these uploads; one that has ended meanwhile is no error."""
        ...

    async def close(self) -> None:
        """Release connections and descriptors. Idempotent; raises no StoreError."""
        ...


class RangeReader(Protocol):
    """A range of an object, from its start on. One call at a time."""

    async def read_into(self, buffer: memoryview) -> int:
        """Fill `buffer` with the next bytes, and say how many: fewer only where the range or the object ends.

        What is lost on the way is asked for again a few times. Raises ObjectNotFound, StoreError; the next call goes on
        where this one began.
        """
        ...

    def close(self) -> None:
        """Take no more. Idempotent; does not wait."""
        ...


@runtime_checkable
class StreamsRanges(Protocol):
    """A store that answers a long range by one request, however slowly its reader takes the bytes."""

    def open_range(self, key: str, start: int, end: int) -> RangeReader:
        """Bytes [start, end), asked for at the first read. Until it is closed it may hold a connection."""
        ...


@runtime_checkable
class HalfWrites(Protocol):
    """A store that lies behind a wire, which may be cut."""

    async def put_half(self, key: str, body: Sequence[Buffer], *, if_absent: bool) -> bool:
        """Leave what a process leaves that dies in the middle of a put (or a create); False where that cannot be."""
        ...


@runtime_checkable
class AdvisoryOperations(Protocol):
    """What some stores can do besides. Nothing rests on it; the doctor reports whether it works. Raises StoreError."""

    async def tag(self, key: str) -> str:
        """What identifies the object's present content (an ETag). Raises ObjectNotFound."""
        ...

    async def replace(self, key: str, body: Sequence[Buffer], *, tag: str) -> bool:
        """Overwrite if the object's tag is still `tag`; whether it was."""
        ...

    async def put_in_parts(self, key: str, body: Sequence[Buffer], *, if_absent: bool = False) -> None:
        """As `put` or `create_bulk`, in a multipart upload however small the body is."""
        ...

    async def delete_in_batch(self, keys: Sequence[str]) -> None:
        """As `delete`, by one request."""
        ...

    async def refuses_damaged(self, key: str, body: Sequence[Buffer]) -> bool:
        """Put `body` with a checksum that is not its own; whether the store noticed."""
        ...


class ObjectManager(Protocol):
    """The controller's word on objects, for one broker at one epoch. The controller may be far away, or change.

    Reads are of the durable image here. Contract: it includes every change that a call of this broker's has returned
    from, or has been refused because of. A call raises NotController while no controller answers; ask again then.
    """

    async def prepare(self, count: int) -> Sequence[ObjectId]:
        """Fresh object ids, recorded as prepared with an expiry. Raises BrokerFenced, NotController."""
        ...

    async def commit(self, request: CommitRequest) -> CommitResult:
        """Judge every range of the request and record the outcome; see `model.CommitResult`.

        Raises BrokerFenced when the committing (broker, epoch) may not commit any more, ObjectRefused when the object
        id is neither prepared nor committed (upload again under a new id), CommitTooLarge when the ranges are too many
        for one change, NotController when the outcome is unknown (ask again with the same request), StoreDamaged when
        the metadata log was damaged.
        """
        ...

    async def confirm(self) -> None:
        """Return when a look at the metadata log that began now shows that our (node, epoch) may still act.

        What was seen missing in the store before is then not somebody else's doing, as far as the image here shows.
        Raises BrokerFenced, NotController, StoreError.
        """
        ...

    def spans(self, stream: StreamId, start: Offset, end: Offset, *, limit: int) -> Sequence[ObjectSpan]:
        """Committed objects that hold offsets of [start, end), ascending, at most `limit`. From the durable image.

        Once a `commit` has returned, the ranges that it accepted are among them: its block may be evicted from memory
        and every offset of it is still found. They overlap nowhere; a hole above the stream's start is a range that was
        given up. Compaction puts other objects in their places: one that was named a moment ago may be gone, `confirm`.
        """
        ...

    def spans_from(self, stream: StreamId, start: Offset) -> Iterator[ObjectSpan]:
        """Those that hold offsets from `start` on, ascending: of the durable image now, each made when it is taken."""
        ...

    def stored_bytes(self, stream: StreamId) -> int:
        """The sizes of all spans together. A number that is kept, not counted. From the durable image."""
        ...


class StreamManager(Protocol):
    """The controller's word on streams. What `ObjectManager` says of reads, and of a controller that is away, holds."""

    def state(self, stream: StreamId) -> StreamState:
        """Start, end, owner, epoch and newest checkpoint, from the durable image. Raises StreamNotFound."""
        ...

    async def trim(self, trims: Sequence[StreamTrim]) -> Sequence[Trimmed]:
        """Move the streams' starts forward, never back; each alone, and all by one change.

        For each, in order, None once it is durable, or why not. Raises BrokerFenced, NotController.
        """
        ...

    def retention_class(self, stream: StreamId) -> RetentionClass:
        """Which streams it may share an object with. A stream that is unknown by now has the shortest of all."""
        ...

    async def lose_before(self, log: tuple[NodeId, BrokerEpoch], stream: StreamId, end: Offset) -> None:
        """Behind slots that a person gave up, `log` goes on at `end`: what the stream lacks below is lost, by record.

        The stream's end is `end` then. Raises BrokerFenced, NotController.
        """
        ...

    def epoch(self, stream: StreamId) -> StreamEpoch | None:
        """The stream's current epoch; None when it was deleted. What lower ones acknowledged is committed."""
        ...
