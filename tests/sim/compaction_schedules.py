"""Directed schedules about object compaction: readers, kills and other jobs in the middle of one."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

from automq.controller.compaction_check import (
    CompactionRefused,
    CompactionRequest,
)
from automq.controller.compaction_job import job_of, request_of
from automq.controller.compaction_plan import CompactionPlan, CompactionSettings, plan
from automq.controller.service import Controller
from automq.ids import NodeId
from automq.metadata.image import MetadataImage
from automq.s3stream.compaction.worker import InProcessWorker
from automq.s3stream.model import KEPT, ObjectRefused
from automq.steps import at_once
from tests.sim.actors import Trimmer
from tests.sim.broker_world import TOPIC, BrokerWorld
from tests.support.cluster import Incarnation
from tests.support.faults import Fate, Operation

UPLOADED = {"automq.upload.interval.ms": "200"}
COMPACTED = {
    **UPLOADED,
    "automq.compaction.enable": "true",
    "automq.compaction.objects": "2",
    "automq.compaction.interval.ms": "100",
}
UPLOADS = 6
WRITES_OF_A_JOB = 3
"""The record that prepares its output, the output, and the record that swaps it for its sources."""


async def upload(world: BrokerWorld, objects: int = UPLOADS) -> None:
    """So many small objects, or more."""
    for _ in range(objects):
        await world.produce(2)
        await world.produce(1, partition=1)
        await asyncio.sleep(0.4)


async def compacted_while_read(world: BrokerWorld) -> None:
    """Somebody reads all of it again and again, while objects are merged and the old ones deleted."""
    world.cluster.tuning = {"controller": {"object_grace_ms": 1000, "sweep_interval_s": 0.5}}
    first = await world.broker()
    world.loyal_reader(first)
    await upload(world, 3 * UPLOADS)
    await asyncio.sleep(5)
    assert first.broker is not None
    image = first.broker.image
    if image is None or max(found.generation for found in image.committed.values()) < 2:
        world.cluster.violation("objects were not compacted")
    first.process.kill()
    await world.broker()
    await world.produce()


async def killed_in_a_compaction(world: BrokerWorld, writes: int) -> None:
    """The broker is killed after so many writes of a job. Nothing is lost, and what is superfluous goes away."""
    first = await world.broker()
    landed: list[str] = []
    outputs: list[str] = []
    done = asyncio.get_running_loop().create_future()

    def is_of_the_job(operation: Operation) -> bool:
        """From its first output on, or, for those before it, of a broker that uploads nothing."""
        is_write = operation.name in ("create", "create_bulk", "put") and operation.process is first.process
        return is_write and ("/meta/log/" in operation.key or "/data/" in operation.key)

    def watch(operation: Operation, error: Exception | None) -> None:
        if error is None and is_of_the_job(operation):
            landed.append(operation.key)
            outputs.extend([operation.key] if "/data/" in operation.key else [])
            if len(landed) == writes and not done.done():
                done.set_result(None)

    def stop(operation: Operation) -> Fate | None:
        return Fate.HELD if is_of_the_job(operation) and len(landed) >= writes else None

    await upload(world)
    first.process.kill()
    # The next one uploads nothing by itself: what it writes is a job's.
    first = world.cluster.start(settings={**COMPACTED, "automq.upload.interval.ms": "3600000"})
    await world.serving(first)
    world.cluster.store.on_applied.append(watch)
    world.direct(stop)
    if writes:
        await asyncio.wait_for(done, 60)
    else:
        await asyncio.sleep(3)
    world.cluster.store.on_applied.remove(watch)
    await asyncio.sleep(0.2)
    first.process.kill()
    world.calm()
    await world.broker()
    await world.produce()


async def compacted_twice(world: BrokerWorld) -> None:
    """Two jobs were planned for the same objects, and both are done. One of them counts."""
    first = await world.broker()
    await upload(world)
    controller, image = of(first)
    planned = planned_job(image)
    requests = [await carry_out(first, controller, image, planned) for _ in range(2)]
    await controller.commit_compaction(requests[0])
    try:
        await controller.commit_compaction(requests[1])
    except CompactionRefused:
        return
    world.cluster.violation("objects that were replaced already were replaced again")


async def compacted_after_a_neighbour(world: BrokerWorld) -> None:
    """Only what lies between the objects of a job was compacted since: they are no neighbours any more, or closer."""
    first = await world.broker()
    await upload(world)
    controller, image = of(first)
    outer = planned_job(image, sources=4)
    late = await carry_out(first, controller, image, outer)
    inner = planned_job(image, sources=2)
    await controller.commit_compaction(await carry_out(first, controller, image, inner))
    try:
        await controller.commit_compaction(late)
    except CompactionRefused:
        return
    world.cluster.violation("a job replaced ranges that were not as it saw them")


async def compaction_comes_too_late(world: BrokerWorld) -> None:
    """A job takes longer than its outputs are kept for it: they are deleted, and nothing may refer to them."""
    world.cluster.tuning = {"controller": {"object_expiry_ms": 3000, "object_grace_ms": 1000, "sweep_interval_s": 0.5}}
    first = await world.broker()
    await upload(world)
    controller, image = of(first)
    late = await carry_out(first, controller, image, planned_job(image))
    await asyncio.sleep(8)
    try:
        await controller.commit_compaction(late)
    except ObjectRefused:
        return
    world.cluster.violation("an output that had been deleted was committed")


async def trimmed_in_a_compaction(world: BrokerWorld) -> None:
    """Records are deleted between a plan and its commit; the next start must find what is left, and only that."""
    first = await world.broker()
    await upload(world)
    controller, image = of(first)
    request = await carry_out(first, controller, image, planned_job(image, sources=UPLOADS))
    process, client = world.client("trimmer")
    world.history.trims[0] = 7
    await process.spawn(Trimmer(client, world.dice, world.history, topic=TOPIC, partition=0).delete(7))
    await controller.commit_compaction(request)
    first.process.kill()
    await world.broker()
    await world.produce()


def of(made: Incarnation) -> tuple[Controller, MetadataImage]:
    """The controller in a broker, and what it knows."""
    assert made.broker is not None
    components = made.broker._components
    assert components is not None
    return components.controller, components.metadata.image


def planned_job(image: MetadataImage, *, sources: int = 3) -> CompactionPlan:
    """The oldest objects as one."""
    planned = at_once(plan(image, class_of=lambda _: KEPT, settings=CompactionSettings(sources=sources)))
    assert planned is not None
    return planned


async def carry_out(
    made: Incarnation, controller: Controller, image: MetadataImage, planned: CompactionPlan
) -> CompactionRequest:
    """Put the outputs; what is to be committed."""
    broker = made.broker
    assert broker is not None
    components = broker._components
    assert components is not None
    assert components.epoch is not None
    me = NodeId(made.node), components.epoch
    ids = await controller.prepare_objects(*me, len(planned.outputs))
    job = at_once(job_of(planned, ids, image=image, cluster_id=components.cluster_id, bytes_per_second=0))
    sizes = await InProcessWorker(store=made.store, clock=made.clock).run(job)
    return request_of(planned, ids, sizes, node=me[0], epoch=me[1])


Story = Callable[[BrokerWorld], Awaitable[None]]
SCHEDULES: Mapping[str, tuple[Story, Mapping[str, str]]] = {
    "compacted_while_read": (compacted_while_read, COMPACTED),
    "compacted_twice": (compacted_twice, UPLOADED),
    "compacted_after_a_neighbour": (compacted_after_a_neighbour, UPLOADED),
    "compaction_comes_too_late": (compaction_comes_too_late, UPLOADED),
    "trimmed_in_a_compaction": (trimmed_in_a_compaction, UPLOADED),
    **{
        f"killed_in_a_compaction_{writes}": (partial(killed_in_a_compaction, writes=writes), UPLOADED)
        for writes in range(WRITES_OF_A_JOB + 1)
    },
}
