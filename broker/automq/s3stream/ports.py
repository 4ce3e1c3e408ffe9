"""What the engine needs from outside: an object store, and the controller's word on streams and objects.

Every port's failure semantics are part of its contract; `tests/contract` runs one suite against every adapter.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from automq.ids import NodeId, ObjectId, Offset, StreamEpoch, StreamId
from automq.s3stream.model import (
    CommitRequest,
    CommitResult,
    ObjectSpan,
    StreamState,
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


class StoreCredentialsRejected(StoreError):
    """The store does not accept who we say we are, or the credential files are missing."""


class StoreAccessDenied(StoreError):
    """The store knows us and says no."""


class BucketNotFound(StoreError):
    """The bucket (or the root folder's parent) does not exist."""


class StoreUnsupported(StoreError):
    """The store does not know the operation or a condition of it, and never will: it is unsuitable."""


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One line of a listing."""

    key: str
    size: int


class ObjectStorage(Protocol):
    """A flat map from keys to bytes, linearizable per key.

    Keys are relative to the cluster's prefix, ASCII, `/`-separated; no key is another key plus `/...`. Reads and
    unconditional operations retry transport errors themselves a few times, then raise StoreUnavailable. `create`
    never retries by itself: an unknown outcome is the caller's to ask again (`store.conditional.create_once`).
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

    async def delete(self, keys: Sequence[str]) -> None:
        """Remove the keys; a missing one is no error."""
        ...

    async def list(self, prefix: str, *, start_after: str = "", limit: int = 1_000_000) -> list[ObjectInfo]:
        """Keys that begin with `prefix` (a plain string prefix) and sort after `start_after`, in byte order."""
        ...

    async def close(self) -> None:
        """Let go of connections and descriptors."""
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

    async def put_in_parts(self, key: str, body: Sequence[Buffer]) -> None:
        """As `put`, in a multipart upload however small the body is."""
        ...

    async def refuses_damaged(self, key: str, body: Sequence[Buffer]) -> bool:
        """Put `body` with a checksum that is not its own; whether the store noticed."""
        ...


class ObjectManager(Protocol):
    """The controller's word on objects, for one broker at one epoch."""

    async def prepare(self, count: int) -> Sequence[ObjectId]:
        """Fresh object ids, recorded as prepared with an expiry. Raises BrokerFenced, StoreUnavailable."""
        ...

    async def commit(self, request: CommitRequest) -> CommitResult:
        """Judge every range of the request and record the outcome; see `model.CommitResult`.

        Raises BrokerFenced when the committing (broker, epoch) may not commit any more, ObjectRefused when the object
        id is neither prepared nor committed (upload again under a new id).
        """
        ...

    def spans(self, stream: StreamId, start: Offset, end: Offset, *, limit: int) -> Sequence[ObjectSpan]:
        """Committed objects that hold offsets of [start, end), ascending, at most `limit`. From the durable image."""
        ...


class StreamManager(Protocol):
    """The controller's word on streams."""

    def state(self, stream: StreamId) -> StreamState:
        """Start, end, owner, epoch and newest checkpoint, from the durable image. Raises StreamNotFound."""
        ...

    async def trim(self, stream: StreamId, epoch: StreamEpoch, new_start: Offset) -> None:
        """Move the stream's start forward; never back. Raises StreamFenced, StreamNotFound."""
        ...

    def owner(self, stream: StreamId) -> NodeId | None:
        """Who owns the stream now."""
        ...
