"""Directed schedules about a store that is other than expected: half writes, what vanishes, what is damaged at rest.

Each story says what a rule of damage keeps from happening: that damage is taken for somebody else, what is missing for
what never was, that evidence is deleted, that offsets are given twice.
"""

import asyncio

from automq.controller import damage
from automq.runtime.entropy import SeededEntropy
from automq.runtime.tasks import Tasks
from automq.s3stream.objects.format import object_key
from automq.s3stream.ports import StoreAccessDenied
from automq.server.lifecycle.states import Reason
from automq.server.tools.repair import Named, parse_slot
from automq.server.tools.repairer import Repairer
from tests.sim.broker_world import BrokerWorld, of
from tests.sim.damage_world import REFUSALS, STOPS_WITHIN_S, Before, DamageWorld
from tests.support.cluster import Incarnation
from tests.support.faults import Fate, Operation
from tests.support.sim_loop import Process
from tests.support.sim_platform import SimClock


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
    """The newest WAL slots vanish under a broker that has nothing to do; then records arrive."""
    await started(world)
    await world.produce(3)
    before = world.look()
    for key in [key for key in before.slots if before.slots[key]][-2:]:
        world.cluster.bucket.vanish(key)
    lost_at = world.loop.time()
    await asyncio.sleep(STOPS_WITHIN_S)
    await goes_on_producing(world)
    world.check_stops(lost_at)
    world.check_untouched(before)


async def killed_after(world: DamageWorld, batches: int) -> Before:
    """A broker has acknowledged some batches and is dead; nothing of them is in an object."""
    made = await started(world)
    for number in range(batches):
        await world.produce(partition=number % 2)
    made.process.kill()
    await asyncio.sleep(1)
    return world.look()


async def judge_refused(world: DamageWorld, before: Before, violation: str) -> None:
    """A process that is started on what is left must end: that it serves is the violation."""
    made = await world.judge(before)
    if not made.ended:
        world.cluster.violation(violation)


async def slot_missing_below_others(world: DamageWorld) -> None:
    """A WAL slot of a dead broker is gone, and the ones above it show that it was acknowledged."""
    before = await killed_after(world, 6)
    slots = [key for key in before.slots if before.slots[key]]
    world.cluster.bucket.vanish(slots[2])
    await world.judge(before)
    world.check_untouched(before)


async def slot_spoiled_below_others(world: DamageWorld) -> None:
    """A bit of a WAL slot of a dead broker is another."""
    before = await killed_after(world, 6)
    slots = [key for key in before.slots if before.slots[key]]
    world.cluster.bucket.flip(slots[2], 100)
    await world.judge(before)
    world.check_untouched(before)


async def end_of_a_log_given_up(world: DamageWorld) -> None:
    """The newest slot of a dead broker does not decode, and a person ends the log there: its offsets stay nobody's."""
    # The history has a place for each offset; the story runs in a process of its own.
    damage.SLOT_OFFSETS_MAX = 10  # type: ignore[misc]
    before = await killed_after(world, 6)
    slots = [key for key in before.slots if before.slots[key]]
    bucket = world.cluster.bucket
    bucket.vanish(slots[-1])
    bucket.place(slots[-1], b"no slot")
    await repaired(world, Named(ends=[parse_slot(slots[-1])]))
    await world.broker()
    for partition in (0, 1):
        await world.produce(partition=partition)
        sent = world.history.lanes[f"p/{partition}"][-1]
        assert sent.acknowledged
        highest = max(offset for other, offset in before.acknowledged if other == partition)
        if sent.offset <= highest:
            world.cluster.violation(f"offset {sent.offset} of partition {partition} was given twice")


async def repaired(world: DamageWorld, named: Named) -> None:
    """What a person does with `automq repair`, in a process of its own."""
    process = Process(world.loop, "repair")
    tasks = Tasks("repair", on_crash=lambda name, error: world.cluster.violation(f"{name}: {error}"))
    repairer = Repairer(
        store=world.cluster.store.facade(process),
        name="sim",
        clock=SimClock(world.loop, world.cluster.dice),
        entropy=SeededEntropy(1),
        tasks=tasks,
        on_store=lambda _error: None,
    )
    await process.spawn(repairer.run(named, by="somebody", dry_run=False))
    process.kill()


async def newest_slots_missing(world: DamageWorld) -> None:
    """The newest slots of a dead broker are gone, and nothing shows them: only their records may be lost."""
    before = await killed_after(world, 6)
    slots = [key for key in before.slots if before.slots[key]]
    for key in slots[-2:]:
        world.cluster.bucket.vanish(key)
    await world.judge(before, world.lost_with(before, slots[-2:]), may_refuse=False)


async def opening_of_streams_is_lost(world: DamageWorld) -> None:
    """The newest fact is gone: that a broker has opened its streams anew. What it wrote then fits nowhere."""
    first = await started(world)
    await world.produce(2)
    first.process.kill()
    opened = world.when_applied(lambda operation: operation.name == "put" and operation.key.endswith("/meta/lease"))
    second = await world.broker()
    await opened
    await world.produce(2)
    await world.produce(2, partition=1)
    second.process.kill()
    await asyncio.sleep(1)
    before = world.look()
    # What the lease says would show it: this is about the log's own last line of defence.
    for key in (world.cluster.bucket.find("/meta/log/")[-1], *world.cluster.bucket.find("/meta/lease")):
        world.cluster.bucket.vanish(key)
    await world.judge(before)


async def metadata_missing(world: DamageWorld) -> None:
    """The metadata of a dead cluster are gone, its data are there."""
    before = await killed_after(world, 4)
    world.cluster.bucket.vanish_all("/meta/")
    await judge_refused(world, before, "a cluster is served whose metadata are gone")


async def tail_of_the_metadata_log_missing(world: DamageWorld) -> None:
    """The newest slots of the metadata log of a dead cluster are gone; the lease knows how many records there were."""
    made = await started(world)
    await world.produce(3)
    await asyncio.sleep(7)
    made.process.kill()
    before = world.look()
    for key in world.cluster.bucket.find("/meta/log/")[-2:]:
        world.cluster.bucket.vanish(key)
    await judge_refused(world, before, "a cluster is served whose newest metadata are gone")


async def object_that_no_record_prepared(world: DamageWorld) -> None:
    """The newest slots of the metadata log are gone, and so is the lease; an object is left that no record prepared."""
    made = await started(world)
    await world.produce(3)
    await asyncio.sleep(3)
    made.process.kill()
    await asyncio.sleep(1)
    before = world.look()
    for key in (*world.cluster.bucket.find("/meta/log/")[-2:], *world.cluster.bucket.find("/meta/lease")):
        world.cluster.bucket.vanish(key)
    await judge_refused(world, before, "a cluster is served whose newest metadata are gone")


async def object_id_taken(world: DamageWorld) -> None:
    """An object lies already where the next one is to be put: whoever put it there, it must stay."""
    first = await started(world)
    await world.produce(2)
    image = first.broker.image
    theirs = b"somebody's object"
    key = object_key(first.broker.cluster_id, image.next_object)
    world.cluster.bucket.place(key, theirs)
    sending = world.producing(1)
    reason = await ended(world, first)
    sending.cancel()
    if world.cluster.bucket.body(key) != theirs:
        world.cluster.violation(f"{key} was there, and was overwritten")
    if reason is not Reason.STORE_DAMAGED:
        world.cluster.violation(f"an object id was taken, and the broker ended with {reason}")


async def object_spoiled(world: DamageWorld) -> None:
    """A bit of an uploaded object is another; other partitions and what comes later are served."""
    made = await started(world)
    await world.produce(2)
    await world.produce(2, partition=1)
    await asyncio.sleep(3)
    made.process.kill()
    await asyncio.sleep(1)
    before = world.look()
    world.cluster.bucket.flip(world.cluster.bucket.find("/data/")[0], 200)
    await world.judge(before, may_refuse=False)


async def snapshot_spoiled(world: DamageWorld) -> None:
    """The newest snapshot is damaged; the one before it and the slots after that say the same."""
    world.cluster.tuning = {"controller": {"snapshot_records": 6}}
    made = await started(world)
    for _ in range(8):
        await world.produce(1)
        await asyncio.sleep(1.2)
    made.process.kill()
    await asyncio.sleep(1)
    before = world.look()
    snapshots = world.cluster.bucket.find("/meta/snapshots/")
    if len(snapshots) < 2:
        world.cluster.violation("there are no two snapshots")
        return
    world.cluster.bucket.flip(snapshots[-1], 60)
    await world.judge(before, may_refuse=False)


UPLOADS = {"automq.upload.interval.ms": "1000"}
SCHEDULES = {
    "half_a_slot": (half_a_slot, {}),
    "half_a_slot_of_a_killed_broker": (half_a_slot_of_a_killed_broker, {}),
    "half_a_slot_of_the_metadata_log": (half_a_slot_of_the_metadata_log, {}),
    "store_without_conditions": (store_without_conditions, {}),
    "strangers_in_every_folder": (strangers_in_every_folder, {"automq.upload.interval.ms": "1000"}),
    "refused_everything_for_a_while": (refused_everything_for_a_while, {}),
    "bucket_vanishes": (vanishes(""), {}),
    "metadata_vanish": (vanishes("/meta/"), {}),
    "claims_vanish": (vanishes("/meta/claims/"), {}),
    "cluster_key_vanishes": (vanishes("cluster"), {}),
    "log_vanishes": (vanishes("/wal/"), {}),
    "newest_slots_vanish": (newest_slots_vanish, {}),
    "slot_missing_below_others": (slot_missing_below_others, {}),
    "slot_spoiled_below_others": (slot_spoiled_below_others, {}),
    "end_of_a_log_given_up": (end_of_a_log_given_up, {}),
    "newest_slots_missing": (newest_slots_missing, {}),
    "opening_of_streams_is_lost": (opening_of_streams_is_lost, {}),
    "metadata_missing": (metadata_missing, {}),
    "tail_of_the_metadata_log_missing": (tail_of_the_metadata_log_missing, {}),
    "object_that_no_record_prepared": (object_that_no_record_prepared, UPLOADS),
    "object_id_taken": (object_id_taken, UPLOADS),
    "object_spoiled": (object_spoiled, UPLOADS),
    "snapshot_spoiled": (snapshot_spoiled, UPLOADS),
}
