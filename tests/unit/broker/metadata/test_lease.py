"""The lease, and what can be told from watching it."""

from asyncio import sleep
from collections.abc import Callable

import pytest

from automq.ids import ControllerEpoch
from automq.metadata.lease import Lease, LeaseContent, LeaseWatch, decode_lease, lease_key
from automq.s3stream.ports import StoreUnavailable
from tests.support.metadata_worlds import CLUSTER, NODE, FlakyStore, LoopClock, World

pytestmark = pytest.mark.looptime


@pytest.fixture
async def world() -> World:
    return World()


def flaky(world: World) -> FlakyStore:
    assert isinstance(world.store, FlakyStore)
    return world.store


def a_lease(world: World, *, on_renewal: Callable[[], None] = lambda: None) -> Lease:
    return Lease(
        store=world.store,
        cluster_id=CLUSTER,
        node=NODE,
        epoch=ControllerEpoch(1),
        clock=LoopClock(),
        on_renewal=on_renewal,
        interval_s=5.0,
        record_number=lambda: 0,
    )


def a_watch(world: World) -> LeaseWatch:
    return LeaseWatch(store=world.store, cluster_id=CLUSTER, clock=LoopClock())


async def test_the_lease_is_renewed_every_interval_and_no_oftener(world: World) -> None:
    world.tasks.spawn(a_lease(world).run(), name="lease")
    await sleep(61)
    assert flaky(world).writes == [lease_key(CLUSTER)] * 13
    await world.close()


async def test_a_failing_store_is_asked_no_oftener(world: World) -> None:
    renewals: list[None] = []
    flaky(world).is_down = True
    world.tasks.spawn(a_lease(world, on_renewal=lambda: renewals.append(None)).run(), name="lease")
    await sleep(12)
    assert len(renewals) == 3
    assert flaky(world).writes == []
    flaky(world).is_down = False
    await sleep(6)
    assert flaky(world).writes == [lease_key(CLUSTER)]
    await world.close()


async def test_a_lease_that_nobody_renews_is_unchanged(world: World) -> None:
    watch = a_watch(world)
    await watch.wait_unchanged(15.0)
    assert watch.unchanged_s >= 15.0
    assert watch.changes == 0


async def test_a_lease_that_is_renewed_changes(world: World) -> None:
    world.tasks.spawn(a_lease(world).run(), name="lease")
    watch = a_watch(world)
    for _ in range(60):
        await watch.poll()
        assert watch.unchanged_s < 15.0
        await sleep(1)
    assert watch.changes >= 11
    await world.close()


async def test_an_outage_proves_nothing(world: World) -> None:
    watch = a_watch(world)
    for _ in range(15):
        await watch.poll()
        await sleep(1)
    flaky(world).is_down = True
    with pytest.raises(StoreUnavailable):
        await watch.poll()
    flaky(world).is_down = False
    await sleep(60)
    await watch.poll()
    assert watch.unchanged_s == 0.0


async def test_waiting_ends_once_the_renewing_ends_even_over_an_outage(world: World) -> None:
    renewing = world.tasks.spawn(a_lease(world).run(), name="lease")
    waiting = world.tasks.spawn(a_watch(world).wait_unchanged(15.0), name="watch")
    await sleep(40)
    flaky(world).is_down = True
    await sleep(40)
    renewing.cancel()
    flaky(world).is_down = False
    await sleep(13)
    assert not waiting.done()
    await sleep(5)
    assert waiting.done()
    await world.close()


async def test_f2_the_lease_says_soon_how_long_the_log_is(world: World) -> None:
    lease = a_lease(world)
    number = 7
    lease._record_number = lambda: number
    world.tasks.spawn(lease.run(), name="lease")
    await sleep(0.5)
    assert decode_lease(await world.store.get(lease_key(CLUSTER))) == LeaseContent(NODE, ControllerEpoch(1), 7)
    number = 8
    await sleep(1.1)
    assert decode_lease(await world.store.get(lease_key(CLUSTER))) == LeaseContent(NODE, ControllerEpoch(1), 8)
    await world.close()


async def test_a_log_that_grows_all_the_time_costs_one_renewal_a_second(world: World) -> None:
    lease = a_lease(world)
    numbers = iter(range(1_000_000))
    lease._record_number = lambda: next(numbers)
    world.tasks.spawn(lease.run(), name="lease")
    await sleep(59.5)
    assert len(flaky(world).writes) == 60
    await world.close()


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", None),
        (b"{", None),
        (b'{"node": 1, "controllerEpoch": 2, "renewal": 3}', LeaseContent(NODE, ControllerEpoch(2))),
        (b'{"node": 1, "controllerEpoch": 2, "recordNumber": 3}', LeaseContent(NODE, ControllerEpoch(2))),
        (b'{"node": 1, "controllerEpoch": 2, "recordNumber": 3, "crc32c": "00000000"}', None),
    ],
)
async def test_a_lease_is_believed_only_with_its_checksum(data: bytes, expected: LeaseContent | None) -> None:
    assert decode_lease(data) == expected
