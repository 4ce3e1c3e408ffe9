"""Directed schedules about the metadata log: interleavings too rare for chance.

Each is a story of a few controllers; the docstring tells it. Without the rule that it is about, a fact that was
acknowledged is lost or the log cannot be read.
"""

import asyncio

from automq.ids import ControllerEpoch
from automq.metadata.log_format import LogPosition, slot_key
from automq.metadata.records import ConfigChanged
from automq.replicated.driver import Driver, GradualDriver
from automq.replicated.machine import Decision
from automq.steps import Steps
from tests.sim.metadata_world import CLUSTER, RESOURCE, MetadataController, MetadataWorld
from tests.support.faults import Fate, Operation


async def started(world: MetadataWorld, facts: int = 0) -> MetadataController:
    """A controller in charge, with some facts."""
    made = world.controller()
    await made.run(made.start())
    if facts:
        await made.run(made.append(facts))
    return made


def key_of(epoch: int, sequence: int) -> str:
    return slot_key(CLUSTER, LogPosition(ControllerEpoch(epoch), sequence))


def lists_from(controller: MetadataController, sequence: int):
    """Whether an operation is `controller`'s listing of an epoch from slot `sequence` on."""

    def condition(operation: Operation) -> bool:
        return operation.process is controller.process and operation.name == "list" and "/meta/log/" in operation.key

    return condition


async def two_controllers_at_once(world: MetadataWorld) -> None:
    """A healthy controller goes on appending while a second takes over."""
    first = await started(world, facts=3)
    appending = first.run(first.append(300))
    second = await started(world, facts=5)
    await appending
    await second.run(second.append(5))


async def claimant_dies_before_it_fences(world: MetadataWorld) -> None:
    """The second controller dies between claim and fence; the third must end the first all the same."""
    first = await started(world, facts=3)
    first.process.pause()
    second = world.controller()
    await second.run(second.claim())
    second.process.kill()
    third = await started(world, facts=3)
    first.process.resume()
    await first.run(first.append(5))
    await third.run(third.append(2))


async def paused_controller_wakes_up_after_the_trim(world: MetadataWorld) -> None:
    """Years later the first controller goes on where it was; its epoch was fenced, and trimmed behind snapshots."""
    first = await started(world, facts=3)
    first.process.pause()
    second = await started(world, facts=4)
    for _ in range(4):
        await second.run(second.snapshot())
        await second.run(second.append(3))
    first.process.resume()
    await first.run(first.append(3))
    await second.run(second.append(1))


async def fence_into_a_trimmed_slot(world: MetadataWorld) -> None:
    """A claimant stops between its listing and its fence; meanwhile the slot it wants is written and trimmed."""
    first = await started(world, facts=3)
    second = world.controller()
    starting = second.run(second.start())
    stopped = asyncio.get_running_loop().create_future()

    def sends_its_fence(operation: Operation) -> Fate | None:
        if operation.process is second.process and operation.name == "create" and operation.key == key_of(1, 3):
            # It stays in the network for as long as the first controller needs.
            if not stopped.done():
                stopped.set_result(None)
                second.process.pause()
            return Fate.HELD
        return None

    world.store.direct = sends_its_fence
    await stopped
    world.store.direct = lambda operation: None
    for _ in range(4):
        await first.run(first.append(3))
        await first.run(first.snapshot())
    world.store.release_held()
    second.process.resume()
    appending = first.run(first.append(10))
    await starting
    await second.run(second.append(3))
    await appending


async def void_fence_of_a_dead_claimant(world: MetadataWorld) -> None:
    """As before, but the claimant dies after its void fence; another, whose snapshot is old by then, meets it."""
    first = await started(world, facts=3)
    await first.run(first.snapshot())
    dead, late = world.controller(), world.controller()
    dying = dead.run(dead.start())
    held = asyncio.get_running_loop().create_future()

    def direct(operation: Operation) -> Fate | None:
        if operation.process is dead.process and operation.name == "create" and operation.key == key_of(1, 3):
            if not held.done():
                held.set_result(None)
            return Fate.HELD
        return None

    world.store.direct = direct
    await held
    # The late one has loaded the old snapshot and stops before it lists the slots.
    loaded = asyncio.get_running_loop().create_future()

    def has_loaded(operation: Operation) -> bool:
        return operation.process is late.process and operation.name == "get" and "/snapshots/" in operation.key

    def stop() -> None:
        late.process.pause()
        loaded.set_result(None)

    world.when_applied(has_loaded, stop)
    starting = late.run(late.start())
    await loaded
    for _ in range(4):
        await first.run(first.append(3))
        await first.run(first.snapshot())
    world.store.release_held()
    await asyncio.sleep(1)
    dead.process.kill()
    del dying
    late.process.resume()
    appending = first.run(first.append(10))
    await starting
    await late.run(late.append(3))
    await appending


async def slots_trimmed_under_a_reader(world: MetadataWorld) -> None:
    """A claimant has loaded a snapshot when the slots after it are trimmed behind newer ones."""
    first = await started(world, facts=3)
    await first.run(first.snapshot())
    await first.run(first.append(2))
    second = world.controller()
    loaded = asyncio.get_running_loop().create_future()

    def has_loaded(operation: Operation) -> bool:
        return operation.process is second.process and operation.name == "get" and "/snapshots/" in operation.key

    def stop() -> None:
        second.process.pause()
        loaded.set_result(None)

    world.when_applied(has_loaded, stop)
    starting = second.run(second.start())
    await loaded
    for _ in range(4):
        await first.run(first.append(3))
        await first.run(first.snapshot())
    second.process.resume()
    await starting
    await second.run(second.append(3))
    await second.run(second.snapshot())


async def lost_answer_of_an_append(world: MetadataWorld) -> None:
    """A slot lands and its answer is lost: the next try finds the slot taken, by itself."""
    first = await started(world, facts=1)
    world.store.direct = once(Fate.LOST, first)
    await first.run(first.append(3))
    if first.fenced:
        world.violations.append("a controller took its own slot for a fence")


async def conflict_on_an_append(world: MetadataWorld) -> None:
    """The store answers 409 to an append: nothing happened."""
    first = await started(world, facts=1)
    world.store.direct = once(Fate.CONFLICT, first)
    await first.run(first.append(3))
    if first.fenced:
        world.violations.append("a controller took 409 for a fence")


async def refused_append(world: MetadataWorld) -> None:
    """An append does not reach the store: that is no success."""
    first = await started(world, facts=1)
    world.store.direct = once(Fate.REFUSED, first)
    await first.run(first.append(3))


async def snapshot_while_appends_are_on_their_way(world: MetadataWorld) -> None:
    """A snapshot is asked for while the machine is ahead of the log; then the log catches up and the process dies."""
    first = await started(world, facts=3)
    assert first.log is not None
    assert first.machine is not None
    world.store.direct = lambda operation: Fate.HELD if operation.key == key_of(1, 3) else None
    ahead = first.run(first.append_ahead())
    await asyncio.sleep(1)
    await first.run(first.snapshot())
    world.store.direct = lambda operation: None
    world.store.release_held()
    await ahead
    first.process.kill()
    second = await started(world, facts=3)
    await second.run(second.append(1))


async def slots_after_the_newest_snapshot(world: MetadataWorld) -> None:
    """Snapshots, then facts, then a restart: what the snapshots do not include must still be there."""
    first = await started(world, facts=3)
    await first.run(first.snapshot())
    await first.run(first.append(3))
    await first.run(first.snapshot())
    await first.run(first.append(3))
    await first.run(first.snapshots.trim())
    first.process.kill()
    second = await started(world, facts=1)
    await second.run(second.append(1))


async def two_claims_at_once(world: MetadataWorld) -> None:
    """Two processes look for the highest claim in the same moment."""
    await started(world, facts=1)
    first, second = world.controller(), world.controller()
    world.store.direct = lambda operation: Fate.HELD if "/meta/claims/" in operation.key else None
    starting = [first.run(first.start()), second.run(second.start())]
    await asyncio.sleep(1)
    world.store.direct = lambda operation: None
    world.store.release_held()
    await asyncio.gather(*starting)


async def a_lost_append_leaves_nothing(world: MetadataWorld) -> None:
    """An append fails because another has taken over; the next command must not see what it would have done."""
    first = await started(world, facts=2)
    assert first.log is not None
    assert first.machine is not None
    machine = first.machine
    driver: Driver[ConfigChanged, object] = Driver(machine, first.log)
    fact = world.next_fact()
    world.store.direct = lambda operation: Fate.HELD if operation.process is first.process else None
    lost = first.run(driver.call(lambda: Decision((ConfigChanged(RESOURCE, "facts", ((fact, "lost"),)),), None)))
    await asyncio.sleep(0.1)
    await started(world, facts=2)
    world.store.direct = lambda operation: None
    world.store.release_held()
    await lost
    seen = await first.run(driver.call(lambda: Decision((), fact in machine.image.config(RESOURCE, "facts"))))
    if seen:
        world.violations.append(f"{fact} was answered from, and was never durable")


class Exists(Exception):
    """A command was refused because of a fact."""


async def refused_because_of_a_lost_fact(world: MetadataWorld) -> None:
    """A fact is on its way to the log; a command is refused because of it. Then the process dies with the fact."""
    first = await started(world, facts=2)
    assert first.log is not None
    assert first.machine is not None
    machine = first.machine
    driver: Driver[ConfigChanged, object] = Driver(machine, first.log)
    fact = world.next_fact()

    def create() -> Decision[ConfigChanged, object]:
        if fact in machine.image.config(RESOURCE, "facts"):
            raise Exists
        return Decision((ConfigChanged(RESOURCE, "facts", ((fact, "lost"),)),), None)

    async def second_try() -> None:
        try:
            await driver.call(create)
        except Exists:
            told.append(fact)

    told: list[str] = []
    world.store.direct = lambda operation: Fate.HUNG if operation.process is first.process else None
    first.run(driver.call(create))
    await asyncio.sleep(0.1)
    first.run(second_try())
    await asyncio.sleep(2)
    first.process.kill()
    world.store.direct = lambda operation: None
    # Whoever was told that it exists takes it for acknowledged.
    world.acknowledged.extend(told)
    await started(world, facts=1)


async def two_long_commands_at_once(world: MetadataWorld) -> None:
    """Each counts one on from what it sees, in several turns. Nobody else may decide between its parts."""
    first = await started(world, facts=1)
    assert first.log is not None
    assert first.machine is not None
    machine = first.machine
    driver: GradualDriver[ConfigChanged, object] = GradualDriver(machine, first.log)

    def count_on() -> Steps[Decision[ConfigChanged, int]]:
        count = int(machine.image.config(RESOURCE, "count").get("count", "0")) + 1
        for _ in range(3):
            yield None
        return Decision((ConfigChanged(RESOURCE, "count", (("count", str(count)),)),), count)

    counts = await asyncio.gather(*(first.run(driver.call_in_turns(count_on)) for _ in range(3)))
    if sorted(map(str, counts)) != ["1", "2", "3"]:
        world.violations.append(f"commands that took several turns counted {counts}")


def once(fate: Fate, controller: MetadataController):
    """The next create of a slot by `controller` meets `fate`."""
    done = False

    def direct(operation: Operation) -> Fate | None:
        nonlocal done
        if done or operation.process is not controller.process:
            return None
        if operation.name != "create" or "/meta/log/" not in operation.key:
            return None
        done = True
        return fate

    return direct


SCHEDULES = {
    schedule.__name__: schedule
    for schedule in (
        two_controllers_at_once,
        claimant_dies_before_it_fences,
        paused_controller_wakes_up_after_the_trim,
        fence_into_a_trimmed_slot,
        void_fence_of_a_dead_claimant,
        slots_trimmed_under_a_reader,
        lost_answer_of_an_append,
        conflict_on_an_append,
        refused_append,
        snapshot_while_appends_are_on_their_way,
        slots_after_the_newest_snapshot,
        two_claims_at_once,
        two_long_commands_at_once,
        a_lost_append_leaves_nothing,
        refused_because_of_a_lost_fact,
    )
}
