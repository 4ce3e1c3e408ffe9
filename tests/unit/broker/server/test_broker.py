"""One broker's life, on doubles and virtual time."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from automq.controller.link import Answer, ControllerLink, Leader
from automq.controller.requests import OpenStreams, RegisterBroker, Request
from automq.s3stream.model import DataMissing, FencedBy
from automq.s3stream.ports import NotController, ObjectStorage, StoreUnavailable
from automq.s3stream.store.layout import CLUSTER_KEY
from automq.s3stream.store.memory import MemoryStore
from automq.server.broker import Broker
from automq.server.lifecycle.refusals import FENCED_BY
from automq.server.lifecycle.states import Reason, Refused, State
from automq.server.roles import Roles
from automq.server.surroundings import Surroundings
from tests.support.quiet_platform import QuietNetwork, quiet_broker

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]


class Running:
    """A broker that runs as a task."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.states: list[State] = []
        broker.lifecycle.subscribe(lambda: self.states.append(broker.lifecycle.state))
        self.task = asyncio.ensure_future(broker.run())

    async def until(self, state: State, timeout_s: float = 60.0) -> None:
        async with asyncio.timeout(timeout_s):
            while self.broker.lifecycle.state is not state:
                if self.task.done():
                    await self.task
                await asyncio.sleep(0.05)

    async def ended(self) -> None:
        await asyncio.wait_for(asyncio.shield(self.task), 120)


@contextlib.asynccontextmanager
async def running(broker: Broker) -> AsyncIterator[Running]:
    made = Running(broker)
    try:
        yield made
    finally:
        broker.stop()
        broker.stop()
        await asyncio.wait({made.task})


class SwitchedStore(MemoryStore):
    """A store that can be away."""

    is_away = False

    async def get(self, key: str) -> bytes:
        if self.is_away:
            raise StoreUnavailable("away")
        return await super().get(key)


async def keys(store: ObjectStorage) -> list[str]:
    return [info.key for info in await store.list("")]


async def test_broker_serves_and_stops() -> None:
    network = QuietNetwork()
    async with running(quiet_broker(MemoryStore(), network=network)) as one:
        await one.until(State.SERVING)
        assert network.bound[9092].factory is not None
        one.broker.stop()
        await one.ended()

    assert list(dict.fromkeys(one.states)) == [State.STARTING, State.RECOVERING, State.SERVING, State.DRAINING]
    assert network.bound == {}


async def test_nobody_can_connect_before_it_serves() -> None:
    store = SwitchedStore()
    store.is_away = True
    network = QuietNetwork()
    async with running(quiet_broker(store, network=network)) as one:
        await one.until(State.WAITING)
        assert network.bound[9092].factory is None
        assert network.bound[9404].factory is not None
        assert one.broker.lifecycle.reason is Reason.STORE_UNREACHABLE

        store.is_away = False
        await one.until(State.SERVING)

    assert one.broker.lifecycle.reason is None


async def test_stop_while_waiting_is_at_once() -> None:
    store = SwitchedStore()
    store.is_away = True
    async with running(quiet_broker(store)) as one:
        await one.until(State.WAITING)
        one.broker.stop()
        await asyncio.wait_for(one.ended(), 0.5)


async def test_stop_before_the_start_is_a_stop() -> None:
    broker = quiet_broker(MemoryStore())
    broker.stop()

    await broker.run()


async def test_taken_address_ends_before_the_store_is_touched() -> None:
    store, network = MemoryStore(), QuietNetwork()
    async with running(quiet_broker(store, network=network)) as one:
        await one.until(State.SERVING)
        before = await keys(store)

        with pytest.raises(Refused) as refused:
            await quiet_broker(store, network=network).run()

        assert refused.value.reason is Reason.ADDRESS_IN_USE
        assert await keys(store) == before
        assert one.broker.lifecycle.state is State.SERVING


async def test_newer_process_fences_the_older_which_stays() -> None:
    store = MemoryStore()
    async with running(quiet_broker(store)) as old:
        await old.until(State.SERVING)
        async with running(quiet_broker(store, seed=2)) as new:
            await new.until(State.SERVING)
            await old.until(State.FENCED, 5)
            await asyncio.sleep(60)
            assert old.broker.lifecycle.state is State.FENCED
            assert new.broker.lifecycle.state is State.SERVING
            parts = old.broker._components
            assert parts is not None
            assert parts._presence is not None
            assert parts._presence.cancelled(), "what the newer one deletes is not looked for for ever"
            old.broker.stop()
            await asyncio.wait_for(old.ended(), 0.5)


async def test_fenced_process_ends_once_the_newer_one_is_gone() -> None:
    store = MemoryStore()
    async with running(quiet_broker(store)) as old:
        await old.until(State.SERVING)
        async with running(quiet_broker(store, seed=2)) as new:
            await new.until(State.SERVING)
            await old.until(State.FENCED, 5)
        gone_at = asyncio.get_running_loop().time()

        with pytest.raises(Refused) as refused:
            await old.ended()

    assert refused.value.reason is Reason.FENCED
    assert asyncio.get_running_loop().time() - gone_at >= 14


async def test_fenced_message_says_how_it_was_noticed_and_who_runs_the_cluster() -> None:
    store = MemoryStore()
    async with running(quiet_broker(store)) as old:
        await old.until(State.SERVING)
        async with running(quiet_broker(store, seed=2)) as new:
            await new.until(State.SERVING)
            await old.until(State.FENCED, 5)
            first = old.broker.lifecycle.message
            await asyncio.sleep(10)

            assert FENCED_BY[FencedBy.METADATA_LOG] in first
            assert "newer process" not in first
            assert "node id 1 is the controller now" in old.broker.lifecycle.message


@pytest.mark.parametrize("draining", [False, True])
async def test_damage_found_while_running_ends_with_a_reason_of_its_own(draining: bool) -> None:
    store = MemoryStore()
    one = Running(quiet_broker(store))
    await one.until(State.SERVING)
    components = one.broker._components
    assert components is not None
    assert components.storage is not None
    if draining:
        one.broker.stop()

    components.storage.damage(DataMissing(key="a/wal/1/1/7", what="an acknowledged slot of the write-ahead log"))

    assert (one.broker.lifecycle.state, one.broker.lifecycle.reason) == (State.DAMAGED, Reason.STORE_DAMAGED)
    acknowledged: list[Exception | None] = []
    components.storage.append.when_durable(0, acknowledged.append)
    assert [type(error) for error in acknowledged] == [DataMissing]
    with pytest.raises(Refused) as refused:
        await one.ended()
    assert (refused.value.reason, refused.value.exit_code) == (Reason.STORE_DAMAGED, 6)
    assert "a/wal/1/1/7" in refused.value.message
    assert "automq repair" in refused.value.message


async def test_another_owner_is_refused_before_the_claim() -> None:
    store = MemoryStore()
    async with running(quiet_broker(store, automq__cluster__owner="me")) as one:
        await one.until(State.SERVING)
        before = await keys(store)

        with pytest.raises(Refused) as refused:
            await quiet_broker(store, seed=2, automq__cluster__owner="you").run()

        assert refused.value.reason is Reason.STORE_OWNED_BY_ANOTHER
        assert [key for key in await keys(store) if "/claims/" in key] == [key for key in before if "/claims/" in key]
        assert one.broker.lifecycle.state is State.SERVING


async def test_damaged_cluster_key_is_told() -> None:
    store = MemoryStore()
    await store.create(CLUSTER_KEY, [b"?"])

    with pytest.raises(Refused) as refused:
        await quiet_broker(store).run()
    assert refused.value.reason is Reason.STORE_DAMAGED


async def test_newer_format_is_left_alone() -> None:
    store = MemoryStore()
    await store.create(CLUSTER_KEY, [b'{"clusterId": "AAAAAAAAAAAAAAAAAAAAAA", "formatVersion": 99}'])

    with pytest.raises(Refused) as refused:
        await quiet_broker(store).run()

    assert refused.value.reason is Reason.STORE_FORMAT_TOO_NEW
    assert await keys(store) == [CLUSTER_KEY]


async def test_crashed_task_ends_the_broker() -> None:
    def crash() -> None:
        raise ZeroDivisionError("a bug")

    async with running(quiet_broker(MemoryStore())) as one:
        await one.until(State.SERVING)
        one.broker.every(0.1, crash)

        with pytest.raises(ZeroDivisionError):
            await one.ended()


async def test_restart_keeps_the_cluster() -> None:
    store = MemoryStore()
    found: list[str | None] = []
    for seed in (1, 2):
        async with running(quiet_broker(store, seed=seed)) as one:
            await one.until(State.SERVING)
            found.append(one.broker.cluster_id)

    assert found[0] is not None
    assert found[0] == found[1]


class AwayAtFirst:
    """A `ControllerLink` whose controller is away when anything is asked for the first time."""

    def __init__(self, link: ControllerLink) -> None:
        self._link = link
        self.refused: list[type[Request]] = []

    @property
    def leader(self) -> Leader | None:
        return self._link.leader

    async def ask(self, request: Request) -> Answer:
        if type(request) not in self.refused:
            self.refused.append(type(request))
            raise NotController("nobody is the controller now (simulated)")
        return await self._link.ask(request)


async def test_a_broker_starts_however_long_there_is_no_controller() -> None:
    """It ended as by a bug: the controller had died between two of the broker's questions."""
    links: list[AwayAtFirst] = []

    class AwayRoles(Roles):
        def __init__(self, around: Surroundings) -> None:
            super().__init__(around)
            links.append(AwayAtFirst(self.link))
            self.link = links[0]

    async with running(quiet_broker(MemoryStore(), roles=AwayRoles)) as one:
        await one.until(State.SERVING)

    assert {RegisterBroker, OpenStreams} <= set(links[0].refused)
