"""A store without requests of its own (a folder, memory), as one that tells of them: each operation counts as one."""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Final, TypeVar

from automq.s3stream.ports import (
    Buffer,
    HalfWrites,
    ObjectExists,
    ObjectInfo,
    ObjectNotFound,
    ObjectStorage,
    StoreConflict,
    StoreError,
    StoreUnavailable,
    UnfinishedUpload,
)
from automq.s3stream.store.requests import Operation, Request, RequestListener, RequestOutcome, purpose_of

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


class CountedStore:
    """Implements `ObjectStorage` and `TellsRequests` by another store."""

    def __init__(self, store: ObjectStorage) -> None:
        self._store = store
        self._listeners: list[RequestListener] = []

    def on_request(self, listener: RequestListener) -> None:
        self._listeners.append(listener)

    async def get(self, key: str) -> bytes:
        return await self._count("get", key, self._store.get(key), received=len)

    async def get_range(self, key: str, start: int, end: int) -> Buffer:
        return await self._count("get_range", key, self._store.get_range(key, start, end), received=len)

    async def put(self, key: str, body: Sequence[Buffer]) -> None:
        await self._count("put", key, self._store.put(key, body), body)

    async def create(self, key: str, body: Sequence[Buffer]) -> None:
        await self._count("create", key, self._store.create(key, body), body)

    async def create_bulk(self, key: str, body: Sequence[Buffer]) -> None:
        await self._count("create_bulk", key, self._store.create_bulk(key, body), body)

    async def delete(self, keys: Sequence[str]) -> None:
        await self._count("delete", keys[0] if keys else "", self._store.delete(keys))

    async def list(self, prefix: str, *, start_after: str = "", limit: int = 1_000_000) -> list[ObjectInfo]:
        return await self._count("list", prefix, self._store.list(prefix, start_after=start_after, limit=limit))

    async def time_ms(self) -> int | None:
        return await self._count("time_ms", "", self._store.time_ms())

    async def list_uploads(self, prefix: str) -> Sequence[UnfinishedUpload]:
        return await self._count("list_uploads", prefix, self._store.list_uploads(prefix))

    async def abort_uploads(self, uploads: Sequence[UnfinishedUpload]) -> None:
        await self._count("abort_uploads", uploads[0].key if uploads else "", self._store.abort_uploads(uploads))

    async def put_half(self, key: str, body: Sequence[Buffer], *, if_absent: bool) -> bool:
        """See `HalfWrites`; not counted."""
        return isinstance(self._store, HalfWrites) and await self._store.put_half(key, body, if_absent=if_absent)

    async def close(self) -> None:
        await self._store.close()

    async def _count(
        self,
        operation: str,
        key: str,
        request: Coroutine[Any, Any, T],
        body: Sequence[Buffer] = (),
        *,
        received: Callable[[T], int] = lambda result: 0,
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
