"""The object store as a broker uses it: requests are counted, and every outcome told to who watches the store.

A store that makes requests of its own tells of each (`ReportsRequests`); of others, each operation counts as one
(`CountedStore`).
"""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Final, Protocol, TypeVar

from automq.runtime.clock import Clock
from automq.runtime.cpu import AddCpu, metered
from automq.runtime.telemetry import Metrics
from automq.s3stream.ports import (
    Buffer,
    ObjectExists,
    ObjectNotFound,
    ObjectStorage,
    StoreConflict,
    StoreError,
    StoreUnavailable,
)
from automq.s3stream.store.counted import OPERATIONS, CountedStore
from automq.s3stream.store.requests import ReportsRequests
from automq.s3stream.store.wrapped import WrappedStore, nothing
from automq.server.observability.abilities import Ability, Request
from automq.server.observability.store_requests import StoreRequests

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


class ObservedStore(WrappedStore):
    """Implements `ObjectStorage` by another store."""

    def __init__(
        self,
        store: ObjectStorage,
        *,
        clock: Clock,
        metrics: Metrics,
        health: StoreWatcher,
    ) -> None:
        telling = store if isinstance(store, ReportsRequests) else CountedStore(store)
        super().__init__(telling)
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

    async def _perform(
        self,
        operation: str,
        key: str,
        request: Coroutine[Any, Any, T],
        body: Sequence[Buffer] = (),
        *,
        received: Callable[[T], int] = nothing,
    ) -> T:
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
