"""Whether a store can be trusted: writers race each other against it, and every check says what it found.

Required checks decide: a store that fails one of them is unsuitable, and `automq doctor` ends with an error. Most of
them keep a store from losing acknowledged records sooner or later: a broker refuses to format a prefix there. The
others (`ENDURED`) keep a broker from work for a person: it says so at every start. Advisory checks name what a failure
costs. Everything is written below `doctor/<time>-<token>/` and removed again, with what doctors that died left behind.
"""

import asyncio
import enum
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import msgspec

from automq.runtime.clock import Clock
from automq.runtime.entropy import Entropy
from automq.s3stream.ports import (
    AdvisoryOperations,
    Buffer,
    HalfWrites,
    ObjectExists,
    ObjectNotFound,
    ObjectStorage,
    StoreConflict,
    StoreError,
    StoreUnavailable,
    StoreUnsupported,
)
from automq.s3stream.store.conditional import create_once
from automq.s3stream.store.listing import describe_strangers
from automq.s3stream.store.requests import DOCTOR_PREFIX

T = TypeVar("T")

# The whole examination, sweep included: a broker runs it before it formats a prefix.
SECONDS_MAX: Final = 5.0
SWEEP_SECONDS: Final = 0.75
RACERS: Final = 32
ROUNDS_MAX: Final = 8
ROUNDS_MIN: Final = 3
# The least number of rounds runs at once; those beyond it one by one, until the other checks must have their turn.
RACE_SECONDS: Final = 1.5
LATENCY_SECONDS: Final = 0.8
LATENCY_REQUESTS_MAX: Final = 100
LATENCY_BYTES: Final = 4096
PUT_P99_MS_MAX: Final = 1000.0
# S3 takes parts of 5 MiB and more, the last one excepted.
MULTIPART_BYTES: Final = (5 << 20) + 4321
# More than any server holds back before it writes.
HALF_BYTES: Final = 1 << 18
HALF_LOOKS: Final = 3
HALF_LOOK_SECONDS: Final = 0.1
# Another doctor may be at work; one this old is not.
ABANDONED_AFTER_MS: Final = 600_000


class Outcome(enum.StrEnum):
    """How one check ended."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"
    """The store's adapter has no such operation, or the time was up (advisory checks only)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """One check: what was examined, what came out, what a failure would mean."""

    name: str
    required: bool
    outcome: Outcome
    detail: str
    """What was seen, in one sentence."""
    consequence: str
    """What it means for a broker when this check fails."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Milliseconds of one kind of request: 4 KB, one at a time."""

    operation: str
    requests: int
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DoctorReport:
    """The verdict. `store` is what was examined, as the caller named it."""

    store: str
    suitable: bool
    """Every required check passed."""
    checks: tuple[CheckResult, ...]
    latencies: tuple[Latency, ...]
    seconds: float

    def to_json(self) -> str:
        """The report on one line; the keys are those of the classes."""
        return msgspec.json.encode(self).decode()

    @property
    def is_usable(self) -> bool:
        """No required check failed but such as a broker can endure."""
        return all(check.outcome is Outcome.PASSED or check.name in ENDURED for check in self.checks if check.required)

    @property
    def failures(self) -> str:
        """The required checks that failed, for a message; empty when there is none."""
        failed = (check for check in self.checks if check.required and check.outcome is not Outcome.PASSED)
        return "; ".join(f"{check.name}: {check.detail}, so {check.consequence}" for check in failed)


class CheckFailed(Exception):
    """A check saw what it must not see."""


# Name: consequence of a failure.
REQUIRED: Final[Mapping[str, str]] = {
    "create-if-absent": "two brokers could own the same partition, and acknowledged records would be overwritten",
    "read after write": "a recovering broker could miss acknowledged records",
    "list after write": "a recovering broker could miss acknowledged records, or delete what is in use",
    "ranged GET": "no record could be read back from the objects that hold it",
    "half a PUT is not stored": (
        "a broker that is killed while it writes may leave half a slot: its partitions take no records then until "
        "somebody has ended its log with `automq repair`"
    ),
}
# Half a slot is taken for damage, never for a fence or for the end of a log, so nothing acknowledged is lost by it.
ENDURED: Final = frozenset({"half a PUT is not stored"})
ADVISORY: Final[Mapping[str, str]] = {
    "conditional replace": "nothing rests on it today; features that swap a key atomically will not work on this store",
    "multipart": f"uploads above 16 MiB fail: keep automq.upload.bytes below {16 << 20}",
    "checksums": "bytes damaged on the way to the store are found when they are read, not when they are written",
    "batch deletes": "keys are deleted one by one, which takes as many requests",
    "create in bulk": "whether a key is free is looked for before: two writers at once could overwrite each other",
    "strangers": "they are passed over; remove what nobody needs, it costs listings and space",
    "latency": "produce latency is at least the store's own: use a store that is nearer, or a block WAL",
}


async def run_doctor(store: ObjectStorage, *, name: str, clock: Clock, entropy: Entropy) -> DoctorReport:
    """Examine `store` (called `name` in the report) in at most 5 seconds, and sweep up.

    Raises StoreUnavailable, StoreCredentialsRejected, StoreAccessDenied or BucketNotFound when it cannot be asked; too
    slow for the required checks is StoreUnavailable as well.
    """
    examination = _Examination(store, clock=clock, entropy=entropy)
    try:
        async with asyncio.timeout(SECONDS_MAX - SWEEP_SECONDS):
            await examination.run_required()
    except TimeoutError:
        raise StoreUnavailable(
            f"{name} is too slow to be examined: the required checks did not end in {SECONDS_MAX - SWEEP_SECONDS} s"
        ) from None
    else:
        if all(check.outcome is Outcome.PASSED for check in examination.checks):
            await examination.run_advisory()
    finally:
        await examination.sweep()
    return examination.report(name)


@dataclass(frozen=True, slots=True, kw_only=True)
class RaceOutcome:
    """One round: what each racer was told, and what is stored."""

    winners: Sequence[bytes]
    """Bodies whose creators were told that they had won."""
    unknown: Sequence[bytes]
    """Bodies whose creators were told nothing."""
    stored: bytes | None


def judge_race(outcome: RaceOutcome) -> str | None:
    """Pure: what is wrong with a round; None when nothing is."""
    if len(outcome.winners) > 1:
        return f"{len(outcome.winners)} of {RACERS} concurrent creators of one key were told that they had won"
    if outcome.winners and outcome.stored != outcome.winners[0]:
        return "the body stored is not that of the creator who was told that it had won"
    if not outcome.winners and outcome.stored is not None and outcome.stored not in outcome.unknown:
        return "a body is stored whose creator was told that it had lost"
    return None


def percentile(samples: Sequence[float], share: float) -> float:
    """Pure: the sample below which `share` of all lie."""
    assert samples
    return sorted(samples)[min(len(samples) - 1, int(len(samples) * share))]


async def _all(operations: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Run them at once; when one fails, that is said only after the others have ended."""
    results: list[T] = []
    for outcome in await asyncio.gather(*operations, return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome
        results.append(outcome)
    return results


class _Examination:
    """One run: its folder, its results so far."""

    def __init__(self, store: ObjectStorage, *, clock: Clock, entropy: Entropy) -> None:
        self.checks: list[CheckResult] = []
        self.latencies: list[Latency] = []
        self._store = store
        self._clock = clock
        self._entropy = entropy
        self._started_ms = clock.wall_ms()
        self._started = clock.monotonic()
        self._folder = f"{DOCTOR_PREFIX}{self._started_ms:013d}-{entropy.token(8).hex()}/"

    def report(self, name: str) -> DoctorReport:
        """What was found."""
        return DoctorReport(
            store=name,
            suitable=all(check.outcome is Outcome.PASSED for check in self.checks if check.required),
            checks=tuple(self.checks),
            latencies=tuple(self.latencies),
            seconds=round(self._elapsed(), 3),
        )

    async def run_required(self) -> None:
        """All of them, whatever the first ones say; the race has the store for itself."""
        found = [await self._run_one(self._check_create)]
        others = (self._check_read, self._check_list, self._check_range, self._check_half)
        found += await _all(self._run_one(check) for check in others)
        for (name, consequence), (outcome, detail) in zip(REQUIRED.items(), found, strict=True):
            self._note(name, consequence, outcome, detail, required=True)

    async def _run_one(self, check: Callable[[], Awaitable[str]]) -> tuple[Outcome, str]:
        try:
            return Outcome.PASSED, await check()
        except (CheckFailed, StoreUnsupported) as error:
            return Outcome.FAILED, str(error)
        except ObjectNotFound as error:
            return Outcome.FAILED, f"an object that had just been written was not there ({error})"

    async def run_advisory(self) -> None:
        """In turn, as long as there is time."""
        checks: tuple[Callable[[], Awaitable[str]], ...] = (
            self._check_replace,
            self._check_multipart,
            self._check_checksums,
            self._check_batch_deletes,
            self._check_create_in_bulk,
            lambda: describe_strangers(self._store),
            self._check_latency,
        )
        for (name, consequence), check in zip(ADVISORY.items(), checks, strict=True):
            try:
                async with asyncio.timeout(max(0.0, SECONDS_MAX - SWEEP_SECONDS - self._elapsed())):
                    detail = await check()
                outcome = Outcome.PASSED if detail else Outcome.SKIPPED
            except TimeoutError:
                outcome, detail = Outcome.SKIPPED, "there was no time left"
            except (CheckFailed, StoreError) as error:
                outcome, detail = Outcome.FAILED, str(error)
            self._note(name, consequence, outcome, detail or "this kind of store has no such operation", required=False)

    async def sweep(self) -> None:
        """Remove what we wrote, and what doctors that died did; what cannot be removed stays for the next one."""
        try:
            async with asyncio.timeout(SWEEP_SECONDS):
                keys = [info.key for info in await self._store.list(DOCTOR_PREFIX)]
                await self._store.delete(
                    [key for key in keys if key.startswith(self._folder) or self._is_abandoned(key)]
                )
        except (TimeoutError, StoreError):
            pass

    def _is_abandoned(self, key: str) -> bool:
        stamp = key[len(DOCTOR_PREFIX) :].partition("-")[0]
        return stamp.isdigit() and int(stamp) < self._started_ms - ABANDONED_AFTER_MS

    def _elapsed(self) -> float:
        return self._clock.monotonic() - self._started

    def _note(self, name: str, consequence: str, outcome: Outcome, detail: str, *, required: bool) -> None:
        self.checks.append(
            CheckResult(name=name, required=required, outcome=outcome, detail=detail, consequence=consequence)
        )

    async def _check_create(self) -> str:
        """Racers on one key, round by round: exactly one wins, and its body is stored."""
        keys = [f"{self._folder}race/{number:03d}" for number in range(ROUNDS_MAX)]
        await _all(self._race(key) for key in keys[:ROUNDS_MIN])
        rounds = ROUNDS_MIN
        while rounds < ROUNDS_MAX and self._elapsed() < RACE_SECONDS:
            await self._race(keys[rounds])
            rounds += 1
        return f"{rounds} rounds of {RACERS} concurrent creators of one key: one winner in each, whose body is stored"

    async def _race(self, key: str) -> None:
        winners: list[bytes] = []
        unknown: list[bytes] = []

        async def create(body: bytes) -> None:
            try:
                await self._store.create(key, [body])
                winners.append(body)
            except (ObjectExists, StoreConflict):
                pass
            except StoreUnavailable:
                unknown.append(body)

        await _all(create(b"%03d " % racer + self._entropy.token(60)) for racer in range(RACERS))
        try:
            stored = await self._store.get(key)
        except ObjectNotFound:
            if winners:
                raise CheckFailed("a creator was told that it had won, and its object is not there") from None
            # Everybody was told to try again: nobody won, nothing happened.
            stored = None
        fault = judge_race(RaceOutcome(winners=winners, unknown=unknown, stored=stored))
        if fault is not None:
            raise CheckFailed(fault)
        if stored is not None:
            await self._create_late(key)

    async def _create_late(self, key: str) -> None:
        try:
            await self._store.create(key, [b"late"])
        except (ObjectExists, StoreConflict):
            return
        raise CheckFailed("a key that existed was created again")

    async def _check_read(self) -> str:
        """What was written is read at once, after an overwrite too."""
        keys = [f"{self._folder}read/{number:02d}" for number in range(16)]

        async def write_and_read(key: str) -> None:
            for size in (100, 5000):
                body = self._entropy.token(size)
                await self._store.put(key, [body])
                if await self._get(key) != body:
                    raise CheckFailed(f"an object of {size} bytes was not read back as it had just been written")

        await _all(write_and_read(key) for key in keys)
        await self._store.delete(keys[:4])
        if await self._get(keys[0]) is not None:
            raise CheckFailed("an object was read after it had been deleted")
        return f"{len(keys)} objects were read back at once after write, overwrite and delete"

    async def _check_list(self) -> str:
        """What was created is listed at once, in byte order; what was deleted is not."""
        names = ["0", "1-0", "1/0", "1/1", "10", "A", "B/0", "a", "b/0", "b/1"]
        keys = [f"{self._folder}list/{name}" for name in names]
        await _all(self._store.put(key, [b"listed"]) for key in reversed(keys))
        await self._expect_listing(f"{self._folder}list/", keys)
        await self._expect_listing(f"{self._folder}list/1", keys[1:5])
        await self._store.delete(keys[::2])
        await self._expect_listing(f"{self._folder}list/", keys[1::2])
        return f"{len(keys)} objects were listed at once, by prefix and in byte order, and not after their deletion"

    async def _expect_listing(self, prefix: str, keys: Sequence[str]) -> None:
        listed = [info.key for info in await self._store.list(prefix)]
        if listed != list(keys):
            raise CheckFailed(f"{len(keys)} objects were to be listed, {len(listed)} were, or in another order")

    async def _check_range(self) -> str:
        """Any part of an object, up to and over its end."""
        key, body = f"{self._folder}range", self._entropy.token(10_000)
        await self._store.put(key, [body])
        ranges = ((0, 1), (4095, 4097), (9_000, 10_000), (9_999, 20_000), (10_000, 10_001))

        async def read(start: int, end: int) -> None:
            if bytes(await self._store.get_range(key, start, end)) != body[start:end]:
                raise CheckFailed(f"bytes {start} to {end} of an object of {len(body)} were not what had been written")

        await _all(read(start, end) for start, end in ranges)
        return f"{len(ranges)} ranges of an object were read as written"

    async def _check_half(self) -> str:
        """Writers that die in the middle of a PUT, as a process that is killed does."""
        store, body = self._store, self._entropy.token(HALF_BYTES)
        if not isinstance(store, HalfWrites):
            return "there is no wire to this kind of store that could be cut"

        async def write_half(name: str, *, if_absent: bool) -> bool:
            key = f"{self._folder}half/{name}"
            if not await store.put_half(key, [body], if_absent=if_absent):
                return False
            for _ in range(HALF_LOOKS):
                found = await self._get(key)
                if found is not None and found != body:
                    raise CheckFailed(
                        f"of {len(body)} bytes that were sent with their checksum, {len(found)} were stored when the "
                        "connection ended in the middle"
                    )
                await asyncio.sleep(HALF_LOOK_SECONDS)
            return True

        if not all(await _all((write_half("create", if_absent=True), write_half("put", if_absent=False)))):
            return "there is no wire to this kind of store that could be cut"
        return f"{len(body)} bytes whose connection ended in the middle were not stored"

    async def _check_batch_deletes(self) -> str:
        if not isinstance(self._store, AdvisoryOperations):
            return ""
        keys = [f"{self._folder}batch/{number}" for number in range(3)]
        await _all(self._store.put(key, [b"x"]) for key in keys[:2])
        await self._store.delete_in_batch(keys)
        if any([await self._get(key) is not None for key in keys]):
            raise CheckFailed("a key was still there after it had been deleted in a batch")
        return "several keys were deleted by one request, one that was not there among them"

    async def _check_create_in_bulk(self) -> str:
        store = self._store
        if not isinstance(store, AdvisoryOperations):
            return ""
        key = f"{self._folder}bulk"
        await store.put_in_parts(key, [b"first"], if_absent=True)
        try:
            await store.put_in_parts(key, [b"second"], if_absent=True)
        except ObjectExists:
            return "an upload in parts to a key that existed was refused at its completion"
        raise CheckFailed("an upload in parts to a key that existed was accepted")

    async def _check_replace(self) -> str:
        store = self._store
        if not isinstance(store, AdvisoryOperations):
            return ""
        key = f"{self._folder}replace"
        await self._store.put(key, [b"first"])
        tag = await store.tag(key)
        if not await store.replace(key, [b"second"], tag=tag):
            raise CheckFailed("a conditional replace of the current version was refused")
        if await store.replace(key, [b"third"], tag=tag) or await self._get(key) != b"second":
            raise CheckFailed("a conditional replace of a version that was gone was accepted")
        return "a conditional replace works for the current version only"

    async def _check_multipart(self) -> str:
        if not isinstance(self._store, AdvisoryOperations):
            return ""
        key, body = f"{self._folder}multipart", bytes(range(256)) * (MULTIPART_BYTES // 256 + 1)
        await self._store.put_in_parts(key, [body])
        tail: Buffer = await self._store.get_range(key, len(body) - 100_000, len(body))
        if bytes(tail) != body[-100_000:]:
            raise CheckFailed("an object uploaded in parts was not read back as written")
        return "an upload in parts was read back as written"

    async def _check_checksums(self) -> str:
        if not isinstance(self._store, AdvisoryOperations):
            return ""
        if not await self._store.refuses_damaged(f"{self._folder}damaged", [b"not what the checksum says"]):
            raise CheckFailed("a body whose checksum was wrong was accepted")
        return "a body whose checksum was wrong was refused"

    async def _check_latency(self) -> str:
        body = self._entropy.token(LATENCY_BYTES)
        puts = await self._measure("PUT", lambda key: self._create(key, [body]))
        gets = await self._measure("GET", self._store.get, requests_max=puts.requests)
        summary = ", ".join(
            f"{latency.operation} p50 {latency.p50_ms:.1f} ms, p99 {latency.p99_ms:.1f} ms" for latency in (puts, gets)
        )
        if puts.p99_ms > PUT_P99_MS_MAX:
            raise CheckFailed(summary)
        return summary

    async def _measure(
        self, operation: str, request: Callable[[str], Awaitable[T]], *, requests_max: int = LATENCY_REQUESTS_MAX
    ) -> Latency:
        samples: list[float] = []
        end = self._clock.monotonic() + LATENCY_SECONDS
        while len(samples) < requests_max and (not samples or self._clock.monotonic() < end):
            before = self._clock.monotonic()
            await request(f"{self._folder}latency/{len(samples):03d}")
            samples.append((self._clock.monotonic() - before) * 1e3)
        latency = Latency(
            operation=operation,
            requests=len(samples),
            p50_ms=round(percentile(samples, 0.5), 3),
            p99_ms=round(percentile(samples, 0.99), 3),
        )
        self.latencies.append(latency)
        return latency

    async def _create(self, key: str, body: Sequence[Buffer]) -> None:
        # Whoever writes here writes random bytes: there is nothing to decode.
        await create_once(self._store, key, body, decode=bytes, entropy=self._entropy)

    async def _get(self, key: str) -> bytes | None:
        try:
            return await self._store.get(key)
        except ObjectNotFound:
            return None
