"""Requests are counted and their outcomes told."""

import time
from typing import Any

import pytest

from automq.runtime.clock import SystemClock
from automq.runtime.cpu import MeteredWorkers, metered
from automq.runtime.telemetry import Metrics
from automq.runtime.workers import ThreadWorkers
from automq.s3stream.ports import ObjectExists, ObjectNotFound, StoreConflict, StoreError, StoreUnavailable
from automq.s3stream.store.memory import MemoryStore
from automq.server.observability.abilities import Ability, Request
from automq.server.observability.observed_store import ObservedStore
from automq.server.observability.store_requests import puts_so_far


class Outcomes(list[StoreError | None]):
    """A watcher that only remembers."""

    def __init__(self) -> None:
        super().__init__()
        self.abilities: list[Ability] = []
        self.in_flight = 0

    def began(self, ability: Ability) -> Request:
        self.abilities.append(ability)
        self.in_flight += 1
        return Request(ability, 0.0)

    def succeeded(self, _request: Request) -> None:
        self.append(None)

    def failed(self, _request: Request, error: StoreError) -> None:
        self.append(error)

    def dropped(self, _request: Request) -> None:
        self.in_flight -= 1


class BrokenStore(MemoryStore):
    async def get(self, key: str) -> bytes:
        raise StoreUnavailable("out of order")


def observed(store: MemoryStore) -> tuple[ObservedStore, Metrics, Outcomes]:
    metrics, outcomes = Metrics(), Outcomes()
    return ObservedStore(store, clock=SystemClock(), metrics=metrics, health=outcomes), metrics, outcomes


def counted(metrics: Metrics) -> dict[tuple[str, str, str], int]:
    """What was counted, by operation, purpose and outcome."""
    registry = metrics.registry.restricted_registry(["automq_store_requests_total"])
    return {
        (sample.labels["operation"], sample.labels["purpose"], sample.labels["outcome"]): int(sample.value)
        for metric in registry.collect()
        for sample in metric.samples
        if sample.name == "automq_store_requests_total" and sample.value
    }


async def test_requests_are_passed_on_and_counted() -> None:
    store, metrics, outcomes = observed(MemoryStore())

    await store.create("c/wal/1", [b"a"])
    await store.put("c/data/1", [b"b", b"c"])
    assert await store.get("c/data/1") == b"bc"
    assert [info.key for info in await store.list("c/")] == ["c/data/1", "c/wal/1"]
    await store.delete(["c/wal/1"])

    assert outcomes == [None] * 5
    assert outcomes.abilities == [Ability.CREATE, Ability.PUT, Ability.GET, Ability.LIST, Ability.DELETE]
    assert outcomes.in_flight == 0
    assert counted(metrics) == {
        ("PutObject", "wal", "success"): 1,
        ("PutObject", "upload", "success"): 1,
        ("GetObject", "read", "success"): 1,
        ("ListObjectsV2", "metadata", "success"): 1,
        ("DeleteObjects", "wal", "success"): 1,
    }
    assert puts_so_far(metrics) == 2
    sent, received = "automq_store_sent_bytes_total", "automq_store_received_bytes_total"
    assert metrics.registry.get_sample_value(sent, {"operation": "PutObject", "purpose": "upload"}) == 2
    assert metrics.registry.get_sample_value(received, {"operation": "GetObject", "purpose": "read"}) == 2
    assert (metrics.registry.get_sample_value("automq_store_cpu_seconds_total", {"kind": "wal"}) or 0) > 0


async def test_answers_are_no_failures() -> None:
    store, metrics, outcomes = observed(MemoryStore())
    await store.create("k", [b"a"])

    with pytest.raises(ObjectExists):
        await store.create("k", [b"b"])
    with pytest.raises(ObjectNotFound):
        await store.get("none")

    assert outcomes == [None] * 3
    assert counted(metrics) == {
        ("PutObject", "metadata", "success"): 1,
        ("PutObject", "metadata", "refused"): 1,
        ("GetObject", "metadata", "refused"): 1,
    }


async def test_failures_are_told() -> None:
    store, metrics, outcomes = observed(BrokenStore())

    with pytest.raises(StoreUnavailable):
        await store.get("k")

    assert [type(outcome) for outcome in outcomes] == [StoreUnavailable]
    assert counted(metrics) == {("GetObject", "metadata", "failed"): 1}


def burn(seconds: float) -> int:
    began = time.thread_time()
    while time.thread_time() - began < seconds:
        pass
    return 7


async def test_cpu_of_workers_counts_for_who_awaits_them() -> None:
    spent: list[float] = []
    workers = MeteredWorkers(ThreadWorkers(threads=1))

    async def work() -> int:
        burn(0.005)
        return await workers.run(burn, 0.01)

    assert await metered(work(), spent.append) == 7
    assert await workers.run(burn, 0.001) == 7
    workers.close()

    assert 0.014 <= sum(spent) < 0.1


@pytest.mark.parametrize("answer", [ObjectNotFound, ObjectExists, StoreConflict])
@pytest.mark.parametrize("operation", ["get", "put", "create", "create_bulk", "delete", "list"])
async def test_answer_that_the_port_does_not_know_is_a_failure(operation: str, answer: type[StoreError]) -> None:
    """A 404 to a PUT proves nothing; whoever takes it for "not found" concludes something from it."""

    class OddStore(MemoryStore):
        def __getattribute__(self, name: str) -> Any:
            if name != operation:
                return super().__getattribute__(name)

            async def odd(*_arguments: object, **_options: object) -> None:
                raise answer("odd")

            return odd

    store, _, outcomes = observed(OddStore())
    calls: dict[str, tuple[Any, ...]] = {"get": ("k",), "list": ("k",), "delete": (["k"],)}
    known = {
        "get": {ObjectNotFound},
        "create": {ObjectExists, StoreConflict},
        "create_bulk": {ObjectExists, StoreConflict},
    }

    with pytest.raises(StoreError) as raised:
        await getattr(store, operation)(*calls.get(operation, ("k", [b""])))

    fits = answer in known.get(operation, set())
    assert type(raised.value) is (answer if fits else StoreUnavailable)
    assert (outcomes == [None]) == (fits and answer is not StoreConflict)


async def test_advisory_operation_says_nothing_of_the_stores_health() -> None:
    store, metrics, outcomes = observed(MemoryStore())

    await store.create_bulk("c/data/1", [b"a"])
    await store.time_ms()
    await store.list_uploads("c/")

    assert outcomes.abilities == [Ability.PUT]
    assert len(counted(metrics)) == 3
