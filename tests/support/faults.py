"""A store that fails as stores do: slow, unreachable, forgetful of its answers, and late.

One `SimStore` is the bucket and the network before it; each process reaches it through a `ProcessStore` of its own,
which is dead when its process is. An operation has three moments: it is sent, it is applied (for everybody at once),
its answer arrives. The faults are what can come between them:

    REFUSED      not applied, the caller hears StoreUnavailable
    LOST         applied, the caller hears StoreUnavailable
    LATE         the caller hears StoreUnavailable; applied seconds later, whatever became of the caller
    CONFLICT     409: not applied, the caller hears StoreConflict (creates only)
    SLOW         applied and answered, but seconds later
    TWICE        applied, then applied again at once, as a proxy's retry does; the answer is that of the second time
    REPEATED     applied and answered; applied once more, seconds later, by a duplicate that nobody waits for
    CUT          the connection ends in mid-body: a store that verifies no checksum keeps the first part, one that does
                 keeps nothing; the caller hears StoreUnavailable (creates and puts only)
    HUNG         never applied, never answered
    HELD         on its way until a schedule says `release_held`; then applied and answered

A PUT that left its process lands even if the process dies before. The bytes are those of the moment of sending; that
they stay unchanged until the answer is the caller's duty, which is checked. Listings may be made page by page,
each at its own moment; an outage may be one of single operations, and of other answers than none. What happens to the
bucket while nobody looks (keys that vanish, bits that flip) is in `tests.support.damage`.
"""

import asyncio
import enum
import random
import zlib
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from automq.s3stream.ports import (
    Buffer,
    ObjectExists,
    ObjectInfo,
    ObjectNotFound,
    ObjectStorage,
    StoreConflict,
    StoreError,
    StoreUnavailable,
    UnfinishedUpload,
)
from tests.support.sim_loop import WORLD, Process, SimLoop, never


class Fate(enum.Enum):
    """What becomes of one operation."""

    OK = "ok"
    REFUSED = "refused"
    LOST = "lost"
    LATE = "late"
    CONFLICT = "conflict"
    SLOW = "slow"
    TWICE = "twice"
    REPEATED = "repeated"
    CUT = "cut"
    HUNG = "hung"
    HELD = "held"


WRITES = ("create", "create_bulk", "put", "delete", "abort_uploads")
# What a fate means for an operation that changes nothing.
_FATE_OF_READS = {
    Fate.LOST: Fate.REFUSED,
    Fate.LATE: Fate.REFUSED,
    Fate.CONFLICT: Fate.OK,
    Fate.TWICE: Fate.OK,
    Fate.REPEATED: Fate.OK,
    Fate.CUT: Fate.REFUSED,
}
_FATE_OF_PUTS = {Fate.CONFLICT: Fate.REFUSED}
_FATE_OF_DELETES = {Fate.CONFLICT: Fate.REFUSED, Fate.CUT: Fate.REFUSED}


@dataclass(slots=True, kw_only=True)
class FaultRates:
    """How likely each fate is, for one operation. What is left over succeeds."""

    refused: float = 0.0
    lost: float = 0.0
    late: float = 0.0
    conflict: float = 0.0
    slow: float = 0.0
    twice: float = 0.0
    repeated: float = 0.0
    cut: float = 0.0

    def draw(self, dice: random.Random) -> Fate:
        """One throw."""
        roll = dice.random()
        for fate, rate in (
            (Fate.REFUSED, self.refused),
            (Fate.LOST, self.lost),
            (Fate.LATE, self.late),
            (Fate.CONFLICT, self.conflict),
            (Fate.SLOW, self.slow),
            (Fate.TWICE, self.twice),
            (Fate.REPEATED, self.repeated),
            (Fate.CUT, self.cut),
        ):
            roll -= rate
            if roll < 0:
                return fate
        return Fate.OK


@dataclass(slots=True, kw_only=True)
class Latency:
    """Seconds. One way: an operation travels twice."""

    least: float = 0.002
    most: float = 0.02
    list_most: float = 0.2
    slow_most: float = 6.0
    timeout: float = 3.0
    """After how long a caller hears that there is no answer."""
    late_most: float = 40.0


@dataclass(slots=True)
class Operation:
    """One call, as directors and observers see it."""

    number: int
    process: Process
    name: str
    key: str
    body: bytes | None
    sent_at: float = 0.0
    fate: Fate = Fate.OK
    refusal: type[StoreError] | None = None
    """What a REFUSED one hears; None for no answer."""


@dataclass(slots=True)
class Outage:
    """Until when operations on keys that contain `part` fail, for `process` alone or for everybody."""

    until: float
    part: str
    process: Process | None
    names: frozenset[str] = frozenset()
    """Which operations; empty for all of them."""
    error: type[StoreError] | None = None
    """What the store answers to them; None for no answer."""

    def hits(self, operation: Operation, now: float) -> bool:
        """Whether `operation` runs into it."""
        return (
            now < self.until
            and self.part in operation.key
            and (not self.names or operation.name in self.names)
            and (self.process is None or self.process is operation.process)
        )


class SimStore:
    """The bucket, and what goes wrong on the way to it."""

    def __init__(
        self, inner: ObjectStorage, loop: SimLoop, dice: random.Random, *, latency: Latency | None = None
    ) -> None:
        self.inner = inner
        self.loop = loop
        self.latency = latency or Latency()
        self.rates = FaultRates()
        self.violations: list[str] = []
        self.direct: Callable[[Operation], Fate | None] = lambda operation: None
        """A schedule's own choice for an operation; None leaves it to the rates. Called when it is sent."""
        self.before_apply: list[Callable[[Operation], None]] = []
        self.on_applied: list[Callable[[Operation, Exception | None], None]] = []
        """Called in the world, right when an operation takes effect, with what the store answers to it."""
        self.trace: Callable[..., None] = lambda *fields: None
        self.operations = 0
        self.verifies_checksums = True
        """Whether a body that ends in the middle is refused."""
        self.answers_404_to_deletes = False
        """Whether deleting what is not there is an error, as it is for some stores."""
        self.ignores_conditions = False
        """Whether a create overwrites what is there: the bucket was moved to a store that knows no conditions."""
        self.page_keys: int | None = None
        """Listings come in pages of so many keys; None for one page."""
        self._dice = dice
        self._outages: list[Outage] = []
        self._held: list[Delivery] = []

    def release_held(self, *, part: str = "") -> None:
        """What was held on its way to keys with `part` arrives now."""
        released = [delivery for delivery in self._held if part in delivery.operation.key]
        self._held = [delivery for delivery in self._held if part not in delivery.operation.key]
        for delivery in released:
            self._later(self.latency.least, delivery.land_and_answer, self.latency.least)

    def outage(
        self,
        seconds: float,
        *,
        part: str = "",
        process: Process | None = None,
        names: Iterable[str] = (),
        error: type[StoreError] | None = None,
    ) -> None:
        """From now on keys containing `part` are out of reach for `seconds`: for all or `process`, all or some `names`.

        With an `error` the store is there, and refuses with it.
        """
        now = self.loop.time()
        self._outages = [outage for outage in self._outages if outage.until > now]
        self._outages.append(Outage(now + seconds, part, process, frozenset(names), error))

    def heal(self) -> None:
        """No outage, no random fault from now on; what is on its way late still lands."""
        self._outages.clear()
        self.rates = FaultRates()

    def facade(self, process: Process) -> "ProcessStore":
        """The store as `process` reaches it."""
        return ProcessStore(self, process)

    async def run(
        self, operation: Operation, apply: Callable[[], Coroutine[Any, Any, Any]], frozen: Sequence[Buffer]
    ) -> Any:
        """Send `operation`, and wait for its answer in the caller's task."""
        if not operation.process.alive:
            await never()
        self.operations += 1
        fate = self._fate(operation)
        operation.fate = fate
        answer: asyncio.Future[Any] = self.loop.create_future()
        at = Delivery(store=self, operation=operation, apply=apply, answer=answer, frozen=frozen)
        latency, dice = self.latency, self._dice
        travel = dice.uniform(latency.least, latency.list_most if operation.name == "list" else latency.most)
        if fate is Fate.SLOW:
            travel += dice.uniform(0.2, latency.slow_most)
        match fate:
            case Fate.HUNG:
                pass
            case Fate.HELD:
                self._held.append(at)
            case Fate.REFUSED if operation.refusal is not None:
                self._later(2 * travel, at.refuse, operation.refusal)
            case Fate.REFUSED:
                # A refused connection is known at once, a swallowed request after a time-out.
                self._later(travel if dice.random() < 0.5 else latency.timeout, at.fail)
            case Fate.LATE:
                self._later(latency.timeout, at.fail)
                self._later(latency.timeout + dice.uniform(0.1, latency.late_most), at.land)
            case Fate.LOST:
                self._later(travel, at.land)
                self._later(max(travel, latency.timeout if dice.random() < 0.5 else travel), at.fail)
            case Fate.CONFLICT:
                self._later(travel, at.conflict)
            case Fate.CUT:
                self._later(travel, at.land_in_part)
                self._later(travel, at.fail)
            case Fate.TWICE:
                self._later(travel, at.land)
                self._later(travel, at.land_and_answer, travel)
            case Fate.REPEATED:
                self._later(travel, at.land_and_answer, travel)
                self._later(travel + dice.uniform(0.1, latency.late_most), at.land)
            case _:
                self._later(travel, at.land_and_answer, travel)
        try:
            return await answer
        finally:
            at.answered = True

    def _fate(self, operation: Operation) -> Fate:
        fate = self.direct(operation)
        if fate is None:
            now = self.loop.time()
            outage = next((outage for outage in self._outages if outage.hits(operation, now)), None)
            if outage is None:
                fate = self.rates.draw(self._dice)
            elif outage.error is not None:
                operation.refusal = outage.error
                return Fate.REFUSED
            else:
                roll = self._dice.random()
                fate = Fate.LOST if roll < 0.08 else Fate.LATE if roll < 0.16 else Fate.REFUSED
        if operation.name not in WRITES:
            return _FATE_OF_READS.get(fate, fate)
        if operation.name == "create":
            return fate
        return (_FATE_OF_PUTS if operation.body is not None else _FATE_OF_DELETES).get(fate, fate)

    def _later(self, delay: float, callback: Callable[..., None], *args: Any) -> None:
        self.loop.call_later(delay, callback, *args, context=WORLD)


@dataclass(slots=True, kw_only=True)
class Delivery:
    """An operation on its way. Its methods run in the world, not in the process that sent it."""

    store: SimStore
    operation: Operation
    apply: Callable[[], Coroutine[Any, Any, Any]]
    answer: asyncio.Future[Any]
    frozen: Sequence[Buffer]
    answered: bool = False

    def fail(self) -> None:
        """No answer came, and none will."""
        self._answer(StoreUnavailable(f"{self.operation.name} {self.operation.key}: no answer (simulated)"))

    def refuse(self, error: type[StoreError]) -> None:
        """The store is there, and says no."""
        self._answer(error(f"{self.operation.name} {self.operation.key}: {error.__name__} (simulated)"))

    def conflict(self) -> None:
        """Somebody else is at it."""
        self.store.trace("store", self.operation.process.name, self.operation.name, self.operation.key, "409")
        self._answer(StoreConflict(f"create {self.operation.key}: 409 (simulated)"))

    def land(self) -> None:
        """The operation takes effect; nobody is told."""
        self._land()

    def land_in_part(self) -> None:
        """The connection ends in the middle of the body. Whether something is kept depends on the store."""
        operation, store = self.operation, self.store
        body = operation.body or b""
        kept = body[: (len(body) + 1) // 2]
        if store.verifies_checksums or (operation.name != "put" and run_now(_has(store.inner, operation.key))):
            store.trace("store", operation.process.name, operation.name, operation.key, "cut, nothing kept")
            return
        run_now(store.inner.put(operation.key, [kept]))
        store.trace("store", operation.process.name, operation.name, operation.key, f"cut, {len(kept)} bytes kept")

    def land_and_answer(self, travel: float) -> None:
        """The operation takes effect, and its answer sets out."""
        outcome = self._land()
        self.store.loop.call_later(travel, self._answer, outcome, context=WORLD)

    def _land(self) -> Any:
        operation, store = self.operation, self.store
        for observe in store.before_apply:
            observe(operation)
        self._check_frozen()
        error: Exception | None = None
        outcome: Any
        try:
            outcome = run_now(self.apply())
        except (ObjectExists, ObjectNotFound) as refusal:
            outcome = error = refusal
        digest = zlib.crc32(operation.body) if operation.body is not None else 0
        store.trace(
            "store", operation.process.name, operation.name, operation.key, operation.fate.value, _said(outcome), digest
        )
        for callback in store.on_applied:
            callback(operation, error)
        return outcome

    def _check_frozen(self) -> None:
        if self.frozen and not self.answered and self.operation.process.alive:
            now = b"".join(self.frozen)
            if now != self.operation.body:
                self.store.violations.append(f"the body of {self.operation.key} changed while it was on its way")

    def _answer(self, outcome: Any) -> None:
        if self.answer.done():
            return
        if isinstance(outcome, Exception):
            self.answer.set_exception(outcome)
            # A caller that is dead or cancelled will not ask; that is no bug.
            self.answer.exception()
        else:
            self.answer.set_result(outcome)


class ProcessStore:
    """The store as one process reaches it."""

    def __init__(self, world: SimStore, process: Process) -> None:
        self._world = world
        self._process = process
        self.on_read: Callable[[str, bytes], None] = lambda key, data: None
        """Called in the process's own task, at the moment when it has read `data`."""

    async def get(self, key: str) -> bytes:
        data: bytes = await self._call("get", key, None, lambda: self._world.inner.get(key))
        self.on_read(key, data)
        return data

    async def get_range(self, key: str, start: int, end: int) -> Buffer:
        found: Buffer = await self._call("get_range", key, None, lambda: self._world.inner.get_range(key, start, end))
        # An answer is memory of its own, not a view of what the bucket keeps.
        data = bytes(found)
        self.on_read(key, data)
        return data

    async def put(self, key: str, body: Sequence[Buffer]) -> None:
        data = b"".join(body)
        await self._call("put", key, data, lambda: self._world.inner.put(key, [data]), body)

    async def create(self, key: str, body: Sequence[Buffer]) -> None:
        data = b"".join(body)
        inner = self._world.inner
        await self._call(
            "create",
            key,
            data,
            lambda: inner.put(key, [data]) if self._world.ignores_conditions else inner.create(key, [data]),
            body,
        )

    async def create_bulk(self, key: str, body: Sequence[Buffer]) -> None:
        data = b"".join(body)
        await self._call("create_bulk", key, data, lambda: self._world.inner.create_bulk(key, [data]), body)

    async def delete(self, keys: Sequence[str]) -> None:
        # Key by key, as a store does it: a failure in the middle leaves the rest.
        for key in list(keys):
            await self._call("delete", key, None, lambda key=key: self._delete(key))

    async def _delete(self, key: str) -> None:
        if self._world.answers_404_to_deletes:
            await self._world.inner.get(key)
        await self._world.inner.delete([key])

    async def list(self, prefix: str, *, start_after: str = "", limit: int = 1_000_000) -> list[ObjectInfo]:
        found: list[ObjectInfo] = []
        while True:
            # What is made or deleted between two pages may be missing or be there: a listing is no moment.
            wanted = min(limit - len(found), self._world.page_keys or limit)
            page: list[ObjectInfo] = await self._call(
                "list",
                prefix,
                None,
                lambda after=start_after, most=wanted: self._world.inner.list(prefix, start_after=after, limit=most),
            )
            found += page
            if len(page) < wanted or len(found) >= limit:
                return found
            start_after = page[-1].key

    async def time_ms(self) -> int | None:
        now: int | None = await self._call("time_ms", "", None, self._world.inner.time_ms)
        return now

    async def list_uploads(self, prefix: str) -> Sequence[UnfinishedUpload]:
        uploads: Sequence[UnfinishedUpload] = await self._call(
            "list_uploads", prefix, None, lambda: self._world.inner.list_uploads(prefix)
        )
        return uploads

    async def abort_uploads(self, uploads: Sequence[UnfinishedUpload]) -> None:
        await self._call("abort_uploads", "", None, lambda: self._world.inner.abort_uploads(uploads))

    async def close(self) -> None:
        """The bucket stays."""

    async def _call(
        self,
        name: str,
        key: str,
        body: bytes | None,
        apply: Callable[[], Coroutine[Any, Any, Any]],
        frozen: Sequence[Buffer] = (),
    ) -> Any:
        world = self._world
        operation = Operation(world.operations, self._process, name, key, body, world.loop.time())
        return await world.run(operation, apply, frozen)


def _said(outcome: Any) -> str:
    if isinstance(outcome, Exception):
        return type(outcome).__name__
    if isinstance(outcome, list):
        return f"{len(outcome)} keys"
    if isinstance(outcome, int):
        return str(outcome)
    return f"{len(outcome)} bytes" if outcome is not None else "done"


async def _has(inner: ObjectStorage, key: str) -> bool:
    try:
        await inner.get(key)
    except ObjectNotFound:
        return False
    return True


def run_now(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """The result of a coroutine that waits for nothing, as those of the memory store do."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    coroutine.close()
    raise AssertionError("the inner store of a simulation must answer without waiting")
