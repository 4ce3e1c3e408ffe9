"""A store without requests of its own (a folder, memory), as one that tells of them: each operation counts as one."""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Final, TypeVar

from automq.s3stream.ports import (
    Buffer,
    ObjectExists,
    ObjectNotFound,
    ObjectStorage,
    StoreConflict,
    StoreError,
    StoreUnavailable,
)
from automq.s3stream.store.requests import Operation, Request, RequestListener, RequestOutcome, purpose_of
from automq.s3stream.store.wrapped import WrappedStore, nothing

T = TypeVar("T")

OPERATIONS: Final[Mapping[str, Operation]] = {
    "get": Operation.GET_OBJECT,
    "get_range": Operation.GET_OBJECT,
    "put": Operation.PUT_OBJECT,
    "create": Operation.PUT_OBJECT,
    "create_bulk": Operation.PUT_OBJECT,
    "delete": Operation.DELETE_OBJECTS,
    "list": Operation.LIST_OBJECTS,
    "time_ms": Operation.LIST_OBJECTS,
    "list_uploads": Operation.LIST_MULTIPART_UPLOADS,
    "abort_uploads": Operation.ABORT_MULTIPART_UPLOAD,
}
"""What each operation of the port would be in a bucket."""


class CountedStore(WrappedStore):
    """Implements `ObjectStorage` and `ReportsRequests` by another store."""

    def __init__(self, store: ObjectStorage) -> None:
        super().__init__(store)
        self._listeners: list[RequestListener] = []

    def on_request(self, listener: RequestListener) -> None:
        self._listeners.append(listener)

    async def _perform(
        self,
        operation: str,
        key: str,
        request: Coroutine[Any, Any, T],
        body: Sequence[Buffer] = (),
        *,
        received: Callable[[T], int] = nothing,
    ) -> T:
        outcome, received_bytes = RequestOutcome.NO_ANSWER, 0
        try:
            result = await request
            outcome, received_bytes = RequestOutcome.SUCCESS, received(result)
            return result
        except (ObjectNotFound, ObjectExists, StoreConflict):
            outcome = RequestOutcome.REFUSED
            raise
        except StoreError as error:
            outcome = RequestOutcome.FAILED if isinstance(error, StoreUnavailable) else RequestOutcome.REFUSED
            raise
        finally:
            name = OPERATIONS[operation]
            counted = Request(
                operation=name,
                purpose=purpose_of(name, key),
                outcome=outcome,
                sent_bytes=sum(map(len, body)),
                received_bytes=received_bytes,
            )
            for listener in self._listeners:
                listener(counted)
