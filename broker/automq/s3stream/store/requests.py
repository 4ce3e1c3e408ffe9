"""Requests to a store as they are counted and paid for: which operation, for what, how it ended.

Operations have Amazon's names, so that a count can be compared with a server's log and with a bill. Stores without
requests of their own (folders, memory) are counted by what the operation would be in a bucket.
"""

import contextlib
import contextvars
import enum
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol, runtime_checkable
from urllib.parse import parse_qsl

DOCTOR_PREFIX: Final = "doctor/"


class Operation(enum.StrEnum):
    """A request by S3's name."""

    ABORT_MULTIPART_UPLOAD = "AbortMultipartUpload"
    COMPLETE_MULTIPART_UPLOAD = "CompleteMultipartUpload"
    CREATE_MULTIPART_UPLOAD = "CreateMultipartUpload"
    DELETE_OBJECT = "DeleteObject"
    DELETE_OBJECTS = "DeleteObjects"
    GET_OBJECT = "GetObject"
    HEAD_BUCKET = "HeadBucket"
    LIST_MULTIPART_UPLOADS = "ListMultipartUploads"
    LIST_OBJECTS = "ListObjectsV2"
    PUT_OBJECT = "PutObject"
    UPLOAD_PART = "UploadPart"


class Purpose(enum.StrEnum):
    """What a request serves."""

    WAL = "wal"
    UPLOAD = "upload"
    READ = "read"
    COMPACTION = "compaction"
    METADATA = "metadata"
    DOCTOR = "doctor"


class RequestOutcome(enum.StrEnum):
    """How a request ended."""

    SUCCESS = "success"
    REFUSED = "refused"
    """A 3xx or 4xx: an answer, wanted (412, 404) or not."""
    FAILED = "failed"
    """A 5xx."""
    NO_ANSWER = "no_answer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Requests that were made, one if nothing else is said.

    Bytes are those of bodies, as far as they are known to have gone over the wire, of all of them together.
    """

    operation: Operation
    purpose: Purpose
    outcome: RequestOutcome
    sent_bytes: int = 0
    received_bytes: int = 0
    count: int = 1


RequestListener = Callable[[Request], None]


@runtime_checkable
class ReportsRequests(Protocol):
    """A store that tells of each request it makes: one operation of the port may be none, one or many."""

    def on_request(self, listener: RequestListener) -> None:
        """From now on `listener` hears of each request, after its end."""
        ...


class RequestTally:
    """Requests counted until somebody takes them along; those that differ in nothing but bytes are one."""

    def __init__(self) -> None:
        self._counted: dict[tuple[Operation, Purpose, RequestOutcome], Request] = {}

    def add(self, request: Request) -> None:
        """A `RequestListener`."""
        kind = request.operation, request.purpose, request.outcome
        known = self._counted.get(kind)
        if known is not None:
            request = replace(
                request,
                sent_bytes=known.sent_bytes + request.sent_bytes,
                received_bytes=known.received_bytes + request.received_bytes,
                count=known.count + request.count,
            )
        self._counted[kind] = request

    def take(self) -> Sequence[Request]:
        """What was counted since the last time."""
        counted, self._counted = self._counted, {}
        return tuple(counted.values())


_served: contextvars.ContextVar[Purpose | None] = contextvars.ContextVar("automq_served_purpose", default=None)


@contextlib.contextmanager
def serving(purpose: Purpose) -> Iterator[None]:
    """Every request of this context serves `purpose`, whatever its key is."""
    token = _served.set(purpose)
    try:
        yield
    finally:
        _served.reset(token)


def purpose_of(operation: Operation, key: str) -> Purpose:
    """What a request for `key` (or the prefix of a listing) serves. Keys begin with the cluster's id."""
    served = _served.get()
    if served is not None:
        return served
    if key.startswith(DOCTOR_PREFIX):
        return Purpose.DOCTOR
    match key.split("/", 2)[1:2]:
        case ["wal"]:
            return Purpose.WAL
        case ["data"]:
            return Purpose.READ if operation is Operation.GET_OBJECT else Purpose.UPLOAD
        case _:
            return Purpose.METADATA


def outcome_of(status: int) -> RequestOutcome:
    """How a request ended that was answered with `status`."""
    if status < 300:
        return RequestOutcome.SUCCESS
    return RequestOutcome.REFUSED if status < 500 else RequestOutcome.FAILED


def operation_of(method: str, query: str) -> Operation:
    """Which request an HTTP request of S3's is, of those that are made here."""
    names = {name for name, _ in parse_qsl(query, keep_blank_values=True)}
    match method:
        case "PUT":
            return Operation.UPLOAD_PART if "partNumber" in names else Operation.PUT_OBJECT
        case "DELETE":
            return Operation.ABORT_MULTIPART_UPLOAD if "uploadId" in names else Operation.DELETE_OBJECT
        case "POST" if "delete" in names:
            return Operation.DELETE_OBJECTS
        case "POST":
            return Operation.CREATE_MULTIPART_UPLOAD if "uploads" in names else Operation.COMPLETE_MULTIPART_UPLOAD
        case "HEAD":
            # aiobotocore asks so for the region of a bucket that is elsewhere.
            return Operation.HEAD_BUCKET
        case _ if "uploads" in names:
            return Operation.LIST_MULTIPART_UPLOADS
        case _:
            return Operation.LIST_OBJECTS if "list-type" in names else Operation.GET_OBJECT
