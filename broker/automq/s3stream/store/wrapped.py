"""What every store around another store has in common: the operations of the port, each handed on in one place."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from automq.s3stream.ports import Buffer, HalfWrites, ObjectInfo, ObjectStorage, UnfinishedUpload

T = TypeVar("T")


def nothing(_result: object) -> int:
    """Bytes of data in an answer that carries none."""
    return 0


class WrappedStore(ABC):
    """Implements `ObjectStorage` by another store."""

    def __init__(self, store: ObjectStorage) -> None:
        self._store = store

    async def get(self, key: str) -> bytes:
        return await self._perform("get", key, self._store.get(key), received=len)

    async def get_range(self, key: str, start: int, end: int) -> Buffer:
        return await self._perform("get_range", key, self._store.get_range(key, start, end), received=len)

    async def put(self, key: str, body: Sequence[Buffer]) -> None:
        await self._perform("put", key, self._store.put(key, body), body)

    async def create(self, key: str, body: Sequence[Buffer]) -> None:
        await self._perform("create", key, self._store.create(key, body), body)

    async def create_bulk(self, key: str, body: Sequence[Buffer]) -> None:
        await self._perform("create_bulk", key, self._store.create_bulk(key, body), body)

    async def delete(self, keys: Sequence[str]) -> None:
        await self._perform("delete", keys[0] if keys else "", self._store.delete(keys))

    async def list(self, prefix: str, *, start_after: str = "", limit: int = 1_000_000) -> list[ObjectInfo]:
        return await self._perform("list", prefix, self._store.list(prefix, start_after=start_after, limit=limit))

    async def time_ms(self) -> int | None:
        return await self._perform("time_ms", "", self._store.time_ms())

    async def list_uploads(self, prefix: str) -> Sequence[UnfinishedUpload]:
        return await self._perform("list_uploads", prefix, self._store.list_uploads(prefix))

    async def abort_uploads(self, uploads: Sequence[UnfinishedUpload]) -> None:
        await self._perform("abort_uploads", uploads[0].key if uploads else "", self._store.abort_uploads(uploads))

    async def put_half(self, key: str, body: Sequence[Buffer], *, if_absent: bool) -> bool:
        """For the doctor; see `HalfWrites`. Not performed as an operation of the port."""
        return isinstance(self._store, HalfWrites) and await self._store.put_half(key, body, if_absent=if_absent)

    async def close(self) -> None:
        await self._store.close()

    @abstractmethod
    async def _perform(
        self,
        operation: str,
        key: str,
        request: Coroutine[Any, Any, T],
        body: Sequence[Buffer] = (),
        *,
        received: Callable[[T], int] = nothing,
    ) -> T:
        """Await `request`, the other store's `operation` on `key`; `received` are the bytes of data in its answer."""
