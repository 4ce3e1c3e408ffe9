"""No answer of the store ends a broker that serves, nor changes how one ends.

One life of a broker with everything that runs in the background: an unclean predecessor to recover, uploads, trims,
snapshots, retention, deleted objects, a group, a drain. Every place that asks the store gets every kind of store error
at least once: a place is a task, an operation, and whether the broker starts, serves or stops.
"""

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import pytest

from automq.controller.model import ControllerSettings, TopicSpec
from automq.coordinators.group.coordinator import GroupCoordinator
from automq.partition.manager import PartitionManager
from automq.protocol.errors import ApiError
from automq.s3stream.ports import (
    Buffer,
    ObjectExists,
    ObjectInfo,
    ObjectNotFound,
    StoreError,
    StoreRefused,
    StoreSettingsInvalid,
    StoreUnsupported,
    UnfinishedUpload,
)
from automq.s3stream.store.memory import MemoryStore
from automq.server import components
from automq.server.broker import Broker
from automq.server.lifecycle.states import Reason, Refused, State
from tests.support.batches import build_batch
from tests.support.group_shell import a_commit
from tests.support.quiet_platform import quiet_broker

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]

ERRORS: Final = sorted(StoreError.__subclasses__(), key=lambda kind: kind.__name__)
# What ends a start, by design: no waiting heals it.
HOPELESS: Final = {
    StoreSettingsInvalid: Reason.INVALID_SETTINGS,
    StoreRefused: Reason.STORE_UNSUITABLE,
    StoreUnsupported: Reason.STORE_UNSUITABLE,
}
# Here the error is an answer that decides something: it has tests of its own.
MEANT: Final = {
    (ObjectNotFound, "get"),
    (ObjectNotFound, "get_range"),
    (ObjectExists, "create"),
    (ObjectExists, "create_bulk"),
}

Place = tuple[str, str, str]


@dataclass(slots=True)
class Rig:
    """A store that fails by plan: at each place the calls from `first` to `first + times`, counted from 0."""

    store: MemoryStore
    error: type[StoreError] | None = None
    first: int = 0
    times: int = 2
    phases: frozenset[str] = frozenset({"start", "serve", "stop"})
    phase: str = "start"
    asked: dict[Place, int] = field(default_factory=dict)
    failed: dict[Place, None] = field(default_factory=dict)

    def ask(self, operation: str) -> None:
        """Note the call; raise what is planned."""
        task = asyncio.current_task()
        assert task is not None
        place = (self.phase, re.sub(r"\d+", "N", task.get_name().removeprefix("broker 1: ")), operation)
        number = self.asked[place] = self.asked.get(place, -1) + 1
        if self.error is None or self.phase not in self.phases or (self.error, operation) in MEANT:
            return
        if self.first <= number < self.first + self.times:
            self.failed[place] = None
            raise self.error(f"{self.error.__name__} at {place}")

    async def get(self, key: str) -> bytes:
        self.ask("get")
        return await self.store.get(key)

    async def get_range(self, key: str, start: int, end: int) -> Buffer:
        self.ask("get_range")
        return await self.store.get_range(key, start, end)

    async def put(self, key: str, body: Sequence[Buffer]) -> None:
        self.ask("put")
        await self.store.put(key, body)

    async def create(self, key: str, body: Sequence[Buffer]) -> None:
        self.ask("create")
        await self.store.create(key, body)

    async def create_bulk(self, key: str, body: Sequence[Buffer]) -> None:
        self.ask("create_bulk")
        await self.store.create_bulk(key, body)

    async def delete(self, keys: Sequence[str]) -> None:
        self.ask("delete")
        await self.store.delete(keys)

    async def list(self, prefix: str, *, start_after: str = "", limit: int = 1_000_000) -> list[ObjectInfo]:
        self.ask("list")
        return await self.store.list(prefix, start_after=start_after, limit=limit)

    async def time_ms(self) -> int | None:
        self.ask("time_ms")
        return await self.store.time_ms()

    async def list_uploads(self, prefix: str) -> Sequence[UnfinishedUpload]:
        self.ask("list_uploads")
        return await self.store.list_uploads(prefix)

    async def abort_uploads(self, uploads: Sequence[UnfinishedUpload]) -> None:
        self.ask("abort_uploads")
        await self.store.abort_uploads(uploads)

    async def close(self) -> None:
        self.ask("close")


def a_broker(rig: Rig, *, seed: int = 1) -> Broker:
    return quiet_broker(
        rig,
        seed=seed,
        automq__upload__interval__ms="200",
        log__retention__check__interval__ms="700",
        offsets__topic__num__partitions="1",
    )


class Life:
    """One broker from start to end, with work to do."""

    def __init__(self, rig: Rig, *, seed: int) -> None:
        self.rig = rig
        self.broker = a_broker(rig, seed=seed)
        self.running = asyncio.ensure_future(self.broker.run())

    async def serve(self) -> None:
        async with asyncio.timeout(600):
            while self.broker.lifecycle.state is not State.SERVING:
                await asyncio.sleep(0.1)
                if self.running.done():
                    await self.running
        self.rig.phase = "serve"

    @property
    def parts(self) -> components.Components:
        assert self.broker._components is not None
        return self.broker._components

    @property
    def groups(self) -> GroupCoordinator:
        assert self.parts.groups is not None
        return self.parts.groups

    @property
    def partitions(self) -> PartitionManager:
        assert self.parts.partitions is not None
        return self.parts.partitions

    async def work(self) -> None:
        """Topics, records, a group, deletions, with time for everything that runs by itself."""
        keep = TopicSpec(name="t", partitions=2, configs={"retention.bytes": "1", "segment.bytes": "1048576"})
        await self.parts.controller.create_topics([keep, TopicSpec(name="gone", partitions=1)])
        await self.groups.find_coordinator("g")
        for round_number in range(12):
            for topic, index in (("t", 0), ("t", 1), ("gone", 0)):
                await self.append(topic, index)
            if round_number == 8:
                await self.parts.controller.delete_topics(["gone"])
            await self.commit(round_number)
            await asyncio.sleep(1.1)

    async def append(self, topic: str, index: int) -> None:
        partition = self.partitions.find(topic, index)
        if partition is not None:
            partition.append(memoryview(bytearray(build_batch([b"v" * 100], timestamp_ms=0))))

    async def commit(self, offset: int) -> None:
        async with asyncio.timeout(60):
            while True:
                try:
                    await self.groups.offset_commit(a_commit(offset), knows_group_errors=True)
                    return
                except ApiError:
                    # Being loaded, perhaps anew: a client comes again.
                    await asyncio.sleep(0.1)

    async def stop(self) -> None:
        for topic, index in (("t", 0), ("t", 1)):
            await self.append(topic, index)
        self.rig.phase = "stop"
        self.broker.stop()
        await asyncio.wait_for(asyncio.shield(self.running), 120)

    async def kill(self) -> None:
        """Unclean: what was written is there, nothing was told."""
        storage = self.parts.storage
        assert storage is not None
        storage.abandon()
        self.running.cancel()
        await asyncio.wait({self.running})


async def a_used_store() -> MemoryStore:
    """What an unclean predecessor left: a tail in the write-ahead log, objects to be deleted, a group."""
    rig = Rig(MemoryStore())
    life = Life(rig, seed=1)
    await life.serve()
    await life.work()
    for _ in range(3):
        await life.append("t", 0)
        await asyncio.sleep(0.01)
    await life.kill()
    return rig.store


async def live(rig: Rig) -> Life:
    life = Life(rig, seed=2)
    try:
        await life.serve()
        await life.work()
        assert life.broker.lifecycle.state is State.SERVING, life.broker.lifecycle.message
        await life.stop()
    finally:
        life.broker.stop()
        life.broker.stop()
        await asyncio.wait({life.running})
    return life


@pytest.fixture(autouse=True)
def busy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything that the controller does by itself it does within seconds."""
    settings = ControllerSettings(
        lease_interval_s=1.0,
        # Shorter than the pauses between appends, each of which is as good as a look.
        poll_interval_s=0.1,
        snapshot_slots=4,
        object_grace_ms=100,
        object_expiry_ms=2_000,
        sweep_interval_s=0.9,
    )
    monkeypatch.setattr(components, "controller_settings", lambda _settings: settings)


async def places() -> dict[Place, int]:
    rig = Rig(await a_used_store())
    await live(rig)
    return rig.asked


async def test_the_life_reaches_everything_that_runs_in_the_background() -> None:
    asked = await places()
    tasks = {(phase, task) for phase, task, _ in asked}

    for task in (
        "lease",
        "poll",
        "snapshots",
        "sweep",
        "upload",
        "metadata log",
        "wal slot N",
        "wal trim",
        "presence watch",
    ):
        assert ("serve", task) in tasks, sorted(tasks)
    assert ("start", "start") in tasks
    assert {operation for phase, _, operation in asked if phase == "start"} >= {"get", "list", "create", "put"}
    assert {operation for phase, _, operation in asked if phase == "stop"} >= {"create", "create_bulk", "close"}
    assert {operation for _, _, operation in asked} >= {"delete"}


@pytest.mark.parametrize("first", [0, 1, 3])
@pytest.mark.parametrize("error", ERRORS)
async def test_k3_f9_no_store_error_at_any_await_ends_the_broker(error: type[StoreError], first: int) -> None:
    phases = {"start", "serve", "stop"} - ({"start"} if error in HOPELESS else set())
    rig = Rig(await a_used_store(), error=error, first=first, phases=frozenset(phases))

    life = await live(rig)

    assert life.running.exception() is None
    assert len(rig.failed) > 3, rig.failed
    # The next one serves: nothing was left half-done.
    after = Life(Rig(rig.store), seed=3)
    await after.serve()
    await after.stop()


@pytest.mark.parametrize("error", sorted(HOPELESS, key=lambda kind: kind.__name__))
async def test_k6_what_no_waiting_heals_ends_a_start_with_its_reason(error: type[StoreError]) -> None:
    rig = Rig(await a_used_store(), error=error, phases=frozenset({"start"}))
    life = Life(rig, seed=2)

    with pytest.raises(Refused) as refused:
        await life.serve()

    assert refused.value.reason is HOPELESS[error]


@pytest.mark.parametrize("error", ERRORS)
async def test_f9_closing_path_never_changes_the_exit(error: type[StoreError]) -> None:
    """Every request from the stop on fails, for good."""
    rig = Rig(await a_used_store(), error=error, times=10**9, phases=frozenset({"stop"}))
    life = Life(rig, seed=2)
    await life.serve()
    await life.parts.controller.create_topics([TopicSpec(name="u", partitions=1)])

    await life.stop()

    assert life.running.exception() is None
