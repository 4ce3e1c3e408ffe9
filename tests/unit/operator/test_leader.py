"""Leader election: one odd answer ends nobody, a hung request does not let two work at once."""

import asyncio
import copy
from collections.abc import Mapping
from typing import Any, cast

import pytest

from automq_operator import leader
from automq_operator.api_server import ApiError, ApiServer
from automq_operator.leader import RENEW_DEADLINE_S, RETRY_S, Elector

pytestmark = pytest.mark.looptime


class Leases:
    """One Lease, and what becomes of requests about it."""

    def __init__(self) -> None:
        self.lease: dict[str, Any] | None = None
        self.version = 0
        self.raises: list[Exception] = []
        self.hang: dict[str, float] = {}
        """Verb -> seconds for which it is not answered."""

    def client(self) -> ApiServer:
        return cast(ApiServer, self)

    async def _asked(self, verb: str) -> None:
        await asyncio.sleep(self.hang.get(verb, 0.0))
        if self.raises:
            raise self.raises.pop(0)

    async def get(self, kind: str, namespace: str, name: str) -> Mapping[str, Any] | None:
        await self._asked("get")
        return copy.deepcopy(self.lease)

    async def create(self, manifest: Mapping[str, Any]) -> None:
        await self._asked("create")
        self._keep(manifest)

    async def replace(self, manifest: Mapping[str, Any]) -> None:
        await self._asked("replace")
        assert self.lease is not None
        if manifest["metadata"]["resourceVersion"] != self.lease["metadata"]["resourceVersion"]:
            raise ApiError(status=409, message="the object has been modified", what="replace")
        self._keep(manifest)

    def _keep(self, manifest: Mapping[str, Any]) -> None:
        self.version += 1
        self.lease = copy.deepcopy(dict(manifest))
        self.lease["metadata"]["resourceVersion"] = str(self.version)

    def holder(self) -> str:
        assert self.lease is not None
        found: str = self.lease["spec"]["holderIdentity"]
        return found


@pytest.fixture(autouse=True)
def _one_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """The elector's clock is the loop's, which is virtual here."""
    monkeypatch.setattr(leader.runtime, "monotonic", lambda: asyncio.get_running_loop().time())


def elector(leases: Leases, identity: str = "one") -> Elector:
    return Elector(leases.client(), namespace="system", name="lease", identity=identity)


class Work:
    def __init__(self) -> None:
        self.began: float | None = None
        self.ended: float | None = None
        self.lost: float | None = None

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    async def __call__(self) -> None:
        self.began = self._now()
        try:
            await asyncio.sleep(3600)
        finally:
            self.ended = self._now()

    def told(self) -> None:
        self.lost = self._now()


ODD = [
    ApiError(status=429, message="too many requests", what="get"),
    ApiError(status=0, message="ServerDisconnectedError", what="get"),
    ValueError("what nobody foresaw"),
]


@pytest.mark.parametrize("odd", ODD)
async def test_finding_05_one_odd_answer_neither_ends_the_leader_nor_the_one_that_waits(odd: Exception) -> None:
    leases, work, other = Leases(), Work(), Work()
    leading = asyncio.create_task(elector(leases).lead(work))
    await asyncio.sleep(RETRY_S)
    waiting = asyncio.create_task(elector(leases, "two").lead(other))
    for _ in range(6):
        leases.raises.append(odd)
        await asyncio.sleep(RETRY_S * 1.5)
    assert (leading.done(), waiting.done(), other.began) == (False, False, None)
    for task in (leading, waiting):
        task.cancel()
    await asyncio.gather(leading, waiting, return_exceptions=True)


async def test_finding_16_a_request_in_flight_does_not_outlast_the_deadline() -> None:
    leases, work = Leases(), Work()
    leading = asyncio.create_task(elector(leases).lead(work, lost=work.told))
    await asyncio.sleep(3)
    leases.hang = {"replace": 3600.0}
    began = asyncio.get_running_loop().time()
    await asyncio.wait_for(leading, 60)
    assert work.ended is not None
    assert work.lost is not None
    assert work.lost <= work.ended
    assert work.ended - began <= RENEW_DEADLINE_S


async def test_finding_16_a_renewal_counts_from_its_beginning() -> None:
    """A slow answer is an old one: another may begin a Lease's time after the renewal was sent."""
    leases, first, second = Leases(), Work(), Work()
    leading = asyncio.create_task(elector(leases).lead(first))
    await asyncio.sleep(3)
    waiting = asyncio.create_task(elector(leases, "two").lead(second))
    await asyncio.sleep(5)
    original = leases.replace

    async def written_and_not_answered(manifest: Mapping[str, Any]) -> None:
        mine = manifest["spec"]["holderIdentity"] == "one"
        await original(manifest)
        if mine:
            await asyncio.sleep(RENEW_DEADLINE_S - RETRY_S - 0.5)
            leases.replace = hung_for_one  # type: ignore[method-assign]

    async def hung_for_one(manifest: Mapping[str, Any]) -> None:
        if manifest["spec"]["holderIdentity"] == "one":
            await asyncio.sleep(3600)
        await original(manifest)

    leases.replace = written_and_not_answered  # type: ignore[method-assign]
    await asyncio.wait_for(leading, 60)
    while second.began is None:
        await asyncio.sleep(0.1)
    assert first.ended is not None
    assert first.ended <= second.began, "never two at once"
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)


async def test_an_orderly_end_hands_over_at_once() -> None:
    leases, work, other = Leases(), Work(), Work()
    leading = asyncio.create_task(elector(leases).lead(work))
    await asyncio.sleep(3)
    waiting = asyncio.create_task(elector(leases, "two").lead(other))
    await asyncio.sleep(3)
    leading.cancel()
    await asyncio.gather(leading, return_exceptions=True)
    assert leases.holder() == ""
    await asyncio.sleep(RETRY_S)
    assert (leases.holder(), other.began is not None) == ("two", True)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)


async def test_giving_the_lease_back_does_not_hold_up_the_end() -> None:
    leases, work = Leases(), Work()
    leading = asyncio.create_task(elector(leases).lead(work))
    await asyncio.sleep(3)
    leases.hang = {"get": 3600.0}
    leading.cancel()
    await asyncio.wait_for(asyncio.gather(leading, return_exceptions=True), 10)


async def test_answers_are_told_and_silence_is_not() -> None:
    leases, answers = Leases(), []
    candidate = Elector(
        leases.client(), namespace="system", name="lease", identity="one", answered=lambda: answers.append(1)
    )
    leases.raises = [ApiError(status=0, message="no route", what="get")]
    assert not await candidate._attempt()
    assert answers == []
    leases.raises = [ApiError(status=403, message="forbidden", what="get")]
    assert not await candidate._attempt()
    assert answers == [1]
