"""The doctor: a good store passes, and each way of being bad is found and named."""

import asyncio
import json
from collections.abc import Callable, Sequence

import pytest

from automq.runtime.clock import SystemClock
from automq.runtime.entropy import SeededEntropy
from automq.s3stream.ports import (
    Buffer,
    ObjectExists,
    ObjectInfo,
    ObjectNotFound,
    ObjectStorage,
    StoreConflict,
    StoreCredentialsRejected,
    StoreError,
    StoreRefused,
    StoreUnavailable,
    StoreUnsupported,
)
from automq.s3stream.store import doctor
from automq.s3stream.store.doctor import (
    RACERS,
    DoctorReport,
    Outcome,
    RaceOutcome,
    judge_race,
    percentile,
    run_doctor,
)
from automq.s3stream.store.memory import MemoryStore


class LoopClock:
    """The loop's time, which looptime makes virtual."""

    def wall_ms(self) -> int:
        return 1_700_000_000_000

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    def boottime(self) -> float:
        return self.monotonic()


async def examine(store: ObjectStorage) -> DoctorReport:
    return await run_doctor(store, name="the store", clock=LoopClock(), entropy=SeededEntropy(1))


def failed(report: DoctorReport) -> list[str]:
    return [check.name for check in report.checks if check.outcome is Outcome.FAILED]


class Yielding(MemoryStore):
    """Lets others go on in the middle, as a network does."""

    async def create(self, key: str, body: Sequence[Buffer]) -> None:
        await asyncio.sleep(0)
        await super().create(key, body)


class IgnoringCondition(MemoryStore):
    """Takes the header and overwrites."""

    async def create(self, key: str, body: Sequence[Buffer]) -> None:
        await self.put(key, body)


class CheckThenAct(MemoryStore):
    """Looks, is interrupted, and writes: several win."""

    async def create(self, key: str, body: Sequence[Buffer]) -> None:
        if await self.list(key):
            raise ObjectExists(key)
        await asyncio.sleep(0)
        await self.put(key, body)


class LastWins(MemoryStore):
    """Tells one racer that it has won, and keeps another's bytes."""

    async def create(self, key: str, body: Sequence[Buffer]) -> None:
        try:
            await super().create(key, body)
        except ObjectExists:
            await self.put(key, body)
            raise


class WithoutConditions(MemoryStore):
    """Says that it does not know the header."""

    async def create(self, key: str, body: Sequence[Buffer]) -> None:
        raise StoreUnsupported("501 NotImplemented: If-None-Match")


class StaleReads(MemoryStore):
    """Answers what it read first, for ever."""

    def __init__(self) -> None:
        super().__init__()
        self._first: dict[str, bytes] = {}

    async def get(self, key: str) -> bytes:
        return self._first.setdefault(key, await super().get(key))


class LateListing(MemoryStore):
    """Lists what was there when it was last asked."""

    _before: list[ObjectInfo] = []

    async def list(self, prefix: str, *, start_after: str = "", limit: int = 1_000_000) -> list[ObjectInfo]:
        before, self._before = self._before, await super().list(prefix, start_after=start_after, limit=limit)
        return before


class UnsortedListing(MemoryStore):
    """As S3's directory buckets."""

    async def list(self, prefix: str, *, start_after: str = "", limit: int = 1_000_000) -> list[ObjectInfo]:
        return list(reversed(await super().list(prefix, start_after=start_after, limit=limit)))


class WithoutRanges(MemoryStore):
    """Answers a ranged GET with the whole object."""

    async def get_range(self, key: str, start: int, end: int) -> Buffer:
        return await self.get(key)


class Shy(MemoryStore):
    """Every other create is answered with 409, and nothing happens."""

    _asked = 0

    async def create(self, key: str, body: Sequence[Buffer]) -> None:
        self._asked += 1
        if self._asked % 2:
            raise StoreConflict(key)
        await super().create(key, body)


class Forgetful(MemoryStore):
    """Every third create's answer is lost."""

    _asked = 0

    async def create(self, key: str, body: Sequence[Buffer]) -> None:
        self._asked += 1
        await super().create(key, body)
        if self._asked % 3 == 0:
            raise StoreUnavailable(key)


class Advisory(Yielding):
    """Has the advisory operations; each can be broken."""

    def __init__(self, broken: str = "") -> None:
        super().__init__()
        self._broken = broken

    async def tag(self, key: str) -> str:
        return (await self.get(key)).hex()

    async def replace(self, key: str, body: Sequence[Buffer], *, tag: str) -> bool:
        if await self.tag(key) != tag and self._broken != "conditional replace":
            return False
        await self.put(key, body)
        return True

    async def put_in_parts(self, key: str, body: Sequence[Buffer], *, if_absent: bool = False) -> None:
        if self._broken == "multipart" and not if_absent:
            raise StoreUnsupported("no parts")
        await (self.create(key, body) if if_absent and self._broken != "create in bulk" else self.put(key, body))

    async def delete_in_batch(self, keys: Sequence[str]) -> None:
        if self._broken == "batch deletes":
            raise StoreRefused("MissingContentMD5")
        await self.delete(keys)

    async def refuses_damaged(self, key: str, body: Sequence[Buffer]) -> bool:
        return self._broken != "checksums"


@pytest.mark.parametrize("store_type", [MemoryStore, Yielding, Shy, Forgetful, Advisory])
async def test_good_store_passes_and_nothing_is_left(store_type: type[MemoryStore]) -> None:
    store = store_type()
    await store.put("cluster", [b"x"])

    report = await examine(store)

    assert report.suitable
    assert failed(report) == []
    assert report.failures == ""
    assert await store.list("") == [ObjectInfo("cluster", 1)]


@pytest.mark.parametrize(
    ("store_type", "check"),
    [
        (IgnoringCondition, "create-if-absent"),
        (CheckThenAct, "create-if-absent"),
        (LastWins, "create-if-absent"),
        (WithoutConditions, "create-if-absent"),
        (StaleReads, "read after write"),
        (LateListing, "list after write"),
        (UnsortedListing, "list after write"),
        (WithoutRanges, "ranged GET"),
    ],
)
async def test_bad_store_is_unsuitable_and_the_consequence_is_named(store_type: type[MemoryStore], check: str) -> None:
    store = store_type()

    report = await examine(store)

    assert not report.suitable
    assert check in failed(report)
    assert f"{check}: " in report.failures
    assert doctor.REQUIRED[check] in report.failures
    assert await MemoryStore.list(store, "") == [] or store_type is LateListing


class BehindAWire(MemoryStore):
    """Its writers may die in the middle; what it keeps then is `kept`, after a moment."""

    def __init__(self, kept: Callable[[bytes], bytes | None], *, seconds: float = 0.0) -> None:
        super().__init__()
        self.halves: list[bool] = []
        self._kept = kept
        self._seconds = seconds

    async def put_half(self, key: str, body: Sequence[Buffer], *, if_absent: bool) -> bool:
        self.halves.append(if_absent)
        kept = self._kept(b"".join(body))
        if kept is not None:
            asyncio.get_running_loop().call_later(self._seconds, self._put, key, kept)
        return True


@pytest.mark.looptime
@pytest.mark.parametrize("kept", [lambda body: None, lambda body: body])
async def test_f1_store_that_keeps_nothing_or_all_of_half_a_put_is_suitable(
    looptime, kept: Callable[[bytes], bytes | None]
) -> None:
    store = BehindAWire(kept)

    report = await examine(store)

    assert report.suitable
    assert report.is_usable
    assert store.halves == [True, False]
    assert await store.list("") == []


@pytest.mark.looptime
@pytest.mark.parametrize("seconds", [0.0, 0.15])
async def test_f1_store_that_keeps_half_a_put_is_unsuitable(looptime, seconds: float) -> None:
    report = await examine(BehindAWire(lambda body: body[: len(body) // 2], seconds=seconds))

    assert failed(report) == ["half a PUT is not stored"]
    assert not report.suitable
    assert "131072 were stored" in report.failures
    # What is left by it is noticed; a broker warns, and goes on.
    assert report.is_usable


async def test_store_that_loses_what_was_acknowledged_is_not_usable() -> None:
    assert not (await examine(LastWins())).is_usable


@pytest.mark.parametrize("broken", ["conditional replace", "multipart", "checksums", "batch deletes", "create in bulk"])
async def test_advisory_failure_leaves_the_store_suitable(broken: str) -> None:
    report = await examine(Advisory(broken))

    assert report.suitable
    assert failed(report) == [broken]


async def test_store_without_advisory_operations_has_them_skipped() -> None:
    report = await examine(MemoryStore())

    skipped = [check.name for check in report.checks if check.outcome is Outcome.SKIPPED]
    assert skipped == ["conditional replace", "multipart", "checksums", "batch deletes", "create in bulk"]


async def test_report_is_json_and_has_latencies() -> None:
    report = await run_doctor(MemoryStore(), name="memory:", clock=SystemClock(), entropy=SeededEntropy(1))

    content = json.loads(report.to_json())
    assert content["store"] == "memory:"
    assert content["suitable"] is True
    assert [check["name"] for check in content["checks"]] == [*doctor.REQUIRED, *doctor.ADVISORY]
    assert [latency["operation"] for latency in content["latencies"]] == ["PUT", "GET"]
    assert content["latencies"][0]["p50_ms"] <= content["latencies"][0]["p99_ms"]


@pytest.mark.parametrize("error", [StoreUnavailable("down"), StoreCredentialsRejected("no")])
async def test_store_that_cannot_be_asked_is_no_verdict_and_is_swept(error: StoreError) -> None:
    class Failing(MemoryStore):
        async def get_range(self, key: str, start: int, end: int) -> Buffer:
            raise error

    store = Failing()

    with pytest.raises(type(error)):
        await examine(store)

    assert await store.list("") == []


@pytest.mark.looptime
@pytest.mark.parametrize("seconds", [0.05, 0.1, 0.4, 2.0, 10.0])
async def test_it_never_takes_longer_than_five_seconds(looptime, seconds: float) -> None:
    class Slow(MemoryStore):
        async def create(self, key: str, body: Sequence[Buffer]) -> None:
            await asyncio.sleep(seconds)
            await super().create(key, body)

        async def get(self, key: str) -> bytes:
            await asyncio.sleep(seconds)
            return await super().get(key)

    loop = asyncio.get_running_loop()
    before = loop.time()

    if seconds < 1:
        assert (await examine(Slow())).suitable
    else:
        with pytest.raises(StoreUnavailable, match="too slow to be examined"):
            await examine(Slow())

    assert loop.time() - before <= doctor.SECONDS_MAX


async def test_what_dead_doctors_left_is_swept_and_living_ones_are_let_alone() -> None:
    store = MemoryStore()
    await store.put("doctor/1600000000000-aaaa/race/000", [b"dead"])
    await store.put("doctor/1699999999999-bbbb/race/000", [b"at work"])

    await examine(store)

    assert [info.key for info in await store.list("")] == ["doctor/1699999999999-bbbb/race/000"]


async def test_k4_strangers_are_named_and_are_no_failure() -> None:
    store = MemoryStore()
    store.place("kafka/", b"")
    store.place("notes.txt~", b"x")
    await store.put("cluster", [b"x"])
    report = await examine(store)
    (check,) = [check for check in report.checks if check.name == "strangers"]
    assert check.outcome is Outcome.PASSED
    assert "'kafka/', 'notes.txt~'" in check.detail
    assert "cluster" not in check.detail


def test_race_with_one_winner_whose_body_is_stored_is_right() -> None:
    assert judge_race(RaceOutcome(winners=[b"a"], unknown=[b"b"], stored=b"a")) is None
    assert judge_race(RaceOutcome(winners=[], unknown=[b"b"], stored=b"b")) is None
    assert judge_race(RaceOutcome(winners=[], unknown=[], stored=None)) is None


def test_race_with_several_winners_or_anothers_body_is_wrong() -> None:
    assert judge_race(RaceOutcome(winners=[b"a", b"b"], unknown=[], stored=b"a")) == (
        f"2 of {RACERS} concurrent creators of one key were told that they had won"
    )
    assert judge_race(RaceOutcome(winners=[b"a"], unknown=[b"b"], stored=b"b")) is not None
    assert judge_race(RaceOutcome(winners=[], unknown=[b"b"], stored=b"a")) is not None


def test_percentile_is_a_sample() -> None:
    assert percentile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert percentile([1.0], 0.99) == 1.0
    assert percentile([float(number) for number in range(100)], 0.99) == 99.0


async def test_vanished_object_of_a_winner_is_found() -> None:
    class Vanishing(MemoryStore):
        async def get(self, key: str) -> bytes:
            raise ObjectNotFound(key)

    assert "create-if-absent" in failed(await examine(Vanishing()))
