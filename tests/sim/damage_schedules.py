"""Directed schedules about a store that is other than expected: half writes, what vanishes, what is damaged at rest.

Each story says what a rule of damage keeps from happening: that damage is taken for somebody else, what is missing for
what never was, that evidence is deleted, that offsets are given twice.
"""

import asyncio

from automq.s3stream.ports import StoreAccessDenied
from automq.server.lifecycle import Reason
from tests.sim.broker_world import BrokerWorld, of
from tests.sim.damage_world import REFUSALS, STOPS_WITHIN_S, DamageWorld
from tests.support.cluster import Incarnation
from tests.support.faults import Fate, Operation


async def ended(world: BrokerWorld, made: Incarnation, *, within_s: float = 30.0) -> Reason | None:
    """Why `made` has ended; None if it goes on."""
    for _ in range(int(within_s * 10)):
        if made.ended:
            return made.reason
        await asyncio.sleep(0.1)
    return None


def cut_once(world: BrokerWorld, made: Incarnation, name: str, part: str) -> list[str]:
    """The connection ends in the middle of the next such write; its key, once it was sent."""
    cut: list[str] = []

    def choose(operation: Operation) -> Fate | None:
        if cut or not of(made, name, part)(operation):
            return None
        cut.append(operation.key)
        return Fate.CUT

    world.direct(choose)
    return cut


async def half_a_slot(world: DamageWorld) -> None:
    """A store that verifies nothing keeps half a WAL slot; its writer asks again, and meets its own half."""
    world.cluster.store.verifies_checksums = False
    first = await started(world)
    await world.produce(2)
    cut = cut_once(world, first, "create", "/wal/")
    sending = world.producing()
    reason = await ended(world, first)
    if reason is not Reason.STORE_DAMAGED:
        world.cluster.violation(f"a broker that meets half of its own slot ended with {reason}")
    before = world.look()
    if cut[0] not in before.bodies:
        world.cluster.violation(f"{cut[0]} was deleted")
    sending.cancel()
    await world.judge(before)


async def half_a_slot_of_a_killed_broker(world: DamageWorld) -> None:
    """A store that verifies nothing keeps half of the slot that a broker was sending when it was killed."""
    world.cluster.store.verifies_checksums = False
    first = await started(world)
    await world.produce(2)
    cut = cut_once(world, first, "create", "/wal/")
    sending = world.producing()
    while not cut:
        await asyncio.sleep(0.001)
    first.process.kill()
    sending.cancel()
    await asyncio.sleep(1)
    await world.judge(world.look())


async def half_a_slot_of_the_metadata_log(world: DamageWorld) -> None:
    """The same with the controller's log."""
    world.cluster.store.verifies_checksums = False
    first = await started(world)
    await world.produce(2)
    cut = cut_once(world, first, "create", "/meta/log/")
    process, client = world.client("other")
    creating = process.spawn(quietly(client.create_topic("other", 1, {})))
    reason = await ended(world, first)
    if reason is not Reason.STORE_DAMAGED:
        world.cluster.violation(f"a controller that meets half of its own slot ended with {reason}")
    creating.cancel()
    before = world.look()
    if cut[0] not in before.bodies:
        world.cluster.violation(f"{cut[0]} was deleted")
    await world.judge(before)


async def store_without_conditions(world: DamageWorld) -> None:
    """A bucket is moved to a store that overwrites where it should refuse; the next start must see that."""
    first = await started(world)
    await world.produce(2)
    first.process.kill()
    world.cluster.store.ignores_conditions = True
    second = world.cluster.start(expected=REFUSALS)
    reason = await ended(world, second)
    if reason is not Reason.STORE_UNSUITABLE:
        world.cluster.violation(f"a store that creates a key twice: the start ended with {reason}")
        second.process.kill()


async def strangers_in_every_folder(world: DamageWorld) -> None:
    """A console has made a marker of every folder, an editor left a copy beside every key; the broker starts anew."""
    first = await started(world)
    await world.produce(3)
    await asyncio.sleep(2)
    await world.produce(1)
    bucket = world.cluster.bucket
    for key in bucket.find():
        bucket.place(f"{key}~", b"a copy")
        while "/" in key:
            key = key[: key.rindex("/")]
            bucket.place(f"{key}/", b"")
    await asyncio.sleep(3)
    await world.produce(1)
    first.process.kill()
    await world.judge(world.look(), may_refuse=False)


async def refused_everything_for_a_while(world: DamageWorld) -> None:
    """Somebody takes all rights away for some seconds, and gives them back."""
    first = await started(world)
    await world.produce(2)
    world.cluster.store.outage(12, error=StoreAccessDenied)
    await asyncio.sleep(15)
    await world.produce(2)
    if first.ended:
        world.cluster.violation("a broker ended because the store refused for a while")
    first.process.kill()
    await world.judge(world.look(), may_refuse=False)


async def started(world: DamageWorld) -> Incarnation:
    """The first broker, which may end because of damage."""
    made = await world.broker()
    made.expected = REFUSALS
    return made


async def quietly(work) -> None:
    """Whatever becomes of it."""
    try:
        await work
    except Exception:  # noqa: BLE001 - the story is not about this
        return


async def goes_on_producing(world: DamageWorld, seconds: float = 4 * STOPS_WITHIN_S) -> None:
    """Batches one after the other to both partitions, as far as somebody acknowledges them."""
    sending = [world.producing(1000, partition=partition) for partition in (0, 1)]
    await asyncio.sleep(seconds)
    for task in sending:
        task.cancel()


def vanishes(part: str):
    """A story: keys with `part` vanish under a running broker, while records arrive."""

    async def story(world: DamageWorld) -> None:
        first = await started(world)
        await world.produce(3)
        await world.produce(3, partition=1)
        before = world.look()
        gone = world.cluster.bucket.vanish_all(part)
        assert gone, part
        lost_at = world.loop.time()
        await goes_on_producing(world)
        world.check_stops(lost_at)
        world.check_untouched(before)
        if not first.ended and first.is_serving:
            world.cluster.violation("a broker serves whose store has lost what must exist")

    story.__doc__ = f"Keys with {part!r} vanish under a running broker."
    return story


async def newest_slots_vanish(world: DamageWorld) -> None:
    """The newest WAL slots vanish under a running broker: what was acknowledged last is gone, nothing may follow."""
    await started(world)
    await world.produce(3)
    before = world.look()
    keys = [key for key in before.slots if before.slots[key]]
    for key in keys[-2:]:
        world.cluster.bucket.vanish(key)
    lost_at = world.loop.time()
    await goes_on_producing(world)
    world.check_stops(lost_at)
    world.check_untouched(before)


SCHEDULES = {
    "half_a_slot": (half_a_slot, {}),
    "half_a_slot_of_a_killed_broker": (half_a_slot_of_a_killed_broker, {}),
    "half_a_slot_of_the_metadata_log": (half_a_slot_of_the_metadata_log, {}),
    "store_without_conditions": (store_without_conditions, {}),
    "strangers_in_every_folder": (strangers_in_every_folder, {"automq.upload.interval.ms": "1000"}),
    "refused_everything_for_a_while": (refused_everything_for_a_while, {}),
}
