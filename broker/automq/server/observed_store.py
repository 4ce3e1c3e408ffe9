"""The object store as a broker uses it: requests are counted, and every outcome told to who watches the store.

A store that makes requests of its own tells of each (`TellsRequests`); of others, each operation counts as one
(`CountedStore`).
"""

from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, Final, Protocol, TypeVar

from automq.runtime.clock import Clock
from automq.runtime.cpu import AddCpu, metered
from automq.runtime.telemetry import Metrics
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
from automq.s3stream.store.counted import OPERATIONS, CountedStore
from automq.s3stream.store.requests import TellsRequests
from automq.server.abilities import Ability, Request
from automq.server.store_requests import StoreRequests

T = TypeVar("T")

ANSWERS: Final[Mapping[str, tuple[type[StoreError], ...]]] = {
    "get": (ObjectNotFound,),
    "get_range": (ObjectNotFound,),
    "create": (ObjectExists, StoreConflict),
    "create_bulk": (ObjectExists, StoreConflict),
}
"""What the port lets an operation say that is no failure. Where a store says it out of place, nothing was learned."""
KINDS: Final = ("wal", "upload", "metadata")
# What is advisory is not among them: nobody misses it.
ABILITIES: Final = {
    "get": Ability.GET,
    "get_range": Ability.GET,
    "put": Ability.PUT,
    "create_bulk": Ability.PUT,
    "create": Ability.CREATE,
    "delete": Ability.DELETE,
    "list": Ability.LIST,
}


class StoreWatcher(Protocol):
    """Hears of every request; see `StoreHealth`."""

    def began(self, ability: Ability) -> Request:
        """A request leaves."""
        ...

    def succeeded(self, request: Request) -> None:
        """It has an answer."""
        ...

    def failed(self, request: Request, error: StoreError) -> None:
        """It has none, or a refusal."""
        ...

    def dropped(self, request: Request) -> None:
        """Nobody waits for it any more."""
        ...


class Asked:
    """One request, for who watches the store; of an advisory one it hears nothing."""

    def __init__(self, watcher: StoreWatcher, ability: Ability | None) -> None:
        self._watcher = watcher
        self._request = None if ability is None else watcher.began(ability)

    def succeeded(self) -> None:
        """See `StoreWatcher`."""
        if self._request is not None:
            self._watcher.succeeded(self._request)

    def failed(self, error: StoreError) -> None:
        """See `StoreWatcher`."""
        if self._request is not None:
            self._watcher.failed(self._request, error)

    def dropped(self) -> None:
        """See `StoreWatcher`."""
        if self._request is not None:
            self._watcher.dropped(self._request)


class ObservedStore:
    """Implements `ObjectStorage` by another store."""

    def __init__(
        self,
        store: ObjectStorage,
        *,
        clock: Clock,
        metrics: Metrics,
        health: StoreWatcher,
    ) -> None:
        telling = store if isinstance(store, TellsRequests) else CountedStore(store)
        self._store: ObjectStorage = telling
        self._clock = clock
        self._health = health
        self.requests = StoreRequests(metrics)
        """For requests that others have made, too."""
        telling.on_request(self.requests.add)
        seconds = metrics.histogram(
            "automq_store_request_seconds", "Time until an operation ended, its tries included", ["operation"]
        )
        cpu = metrics.counter("automq_store_cpu_seconds", "CPU of store requests on our threads, by purpose", ["kind"])
        self._seconds = {name: seconds.labels(name) for name in OPERATIONS}
        self._cpu = {kind: cpu.labels(kind).inc for kind in KINDS}

    async def get(self, key: str) -> bytes:
        return await self._watch("get", key, self._store.get(key))

    async def get_range(self, key: str, start: int, end: int) -> Buffer:
        return await self._watch("get_range", key, self._store.get_range(key, start, end))

    async def put(self, key: str, body: Sequence[Buffer]) -> None:
        await self._watch("put", key, self._store.put(key, body))

    async def create(self, key: str, body: Sequence[Buffer]) -> None:
        await self._watch("create", key, self._store.create(key, body))

    async def create_bulk(self, key: str, body: Sequence[Buffer]) -> None:
        await self._watch("create_bulk", key, self._store.create_bulk(key, body))

    async def delete(self, keys: Sequence[str]) -> None:
        await self._watch("delete", keys[0] if keys else "", self._store.delete(keys))

    async def list(self, prefix: str, *, start_after: str = "", limit: int = 1_000_000) -> list[ObjectInfo]:
        return await self._watch("list", prefix, self._store.list(prefix, start_after=start_after, limit=limit))

    async def time_ms(self) -> int | None:
        return await self._watch("time_ms", "", self._store.time_ms())

    async def list_uploads(self, prefix: str) -> Sequence[UnfinishedUpload]:
        return await self._watch("list_uploads", prefix, self._store.list_uploads(prefix))

    async def abort_uploads(self, uploads: Sequence[UnfinishedUpload]) -> None:
        await self._watch("abort_uploads", uploads[0].key if uploads else "", self._store.abort_uploads(uploads))

    async def put_half(self, key: str, body: Sequence[Buffer], *, if_absent: bool) -> bool:
        """For the doctor; see `HalfWrites`. Nothing is learned of the store's health."""
        return isinstance(self._store, HalfWrites) and await self._store.put_half(key, body, if_absent=if_absent)

    async def close(self) -> None:
        await self._store.close()

    async def _watch(self, operation: str, key: str, request: Coroutine[Any, Any, T]) -> T:
        began = self._clock.monotonic()
        asked = Asked(self._health, ABILITIES.get(operation))
        try:
            result = await metered(request, self._add_cpu(key))
        except (ObjectNotFound, ObjectExists, StoreConflict) as answer:
            if not isinstance(answer, ANSWERS.get(operation, ())):
                unfit = StoreUnavailable(f"{type(answer).__name__} is no answer to a {operation}: {answer}")
                asked.failed(unfit)
                raise unfit from answer
            if isinstance(answer, StoreConflict):
                asked.failed(answer)
            else:
                asked.succeeded()
            raise
        except StoreError as error:
            asked.failed(error)
            raise
        finally:
            # Of a cancelled request nothing is learned.
            asked.dropped()
            self._seconds[operation].observe(self._clock.monotonic() - began)
        asked.succeeded()
        return result

    def _add_cpu(self, key: str) -> AddCpu:
        """Keys begin with the cluster's id; what follows says whom the request serves."""
        folder = key.split("/", 2)[1:2]
        return self._cpu["wal" if folder == ["wal"] else "upload" if folder == ["data"] else "metadata"]
