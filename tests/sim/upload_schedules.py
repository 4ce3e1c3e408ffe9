"""Directed schedules about an upload of several objects: it is there whole, or the log still has it.

`killed_in_an_upload_N` lets the broker's next N writes of an upload land and kills it right after the last of them: 0
is before the first, the last is after the commit. The upload has three objects: of what is never trimmed, of what is
deleted after an hour, and of what is deleted after a week, which is the topic whose records are counted.
"""

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

from msgspec import structs

from automq.s3stream.model import CommitObject
from automq.s3stream.upload.builder import ObjectBuilder
from tests.sim.broker_schedules import answer_of, produce
from tests.sim.broker_world import BrokerWorld
from tests.support.faults import Fate, Operation

KEPT, HOURLY = "kept", "hourly"
BATCHES = 20
"""Enough for an object of its own: a class with few bytes shares that of a longer one."""
WRITES_OF_AN_UPLOAD = 5
"""The record that prepares three objects, three PUTs, the record that commits them."""


async def killed_in_an_upload(world: BrokerWorld, writes: int) -> None:
    """The broker is killed after so many writes of an upload. What it had acknowledged is there."""
    first = await world.broker()
    process, client = world.client("classes")
    await process.spawn(client.create_topic(KEPT, 1, {"cleanup.policy": "compact"}))
    await process.spawn(client.create_topic(HOURLY, 1, {"retention.ms": "3600000"}))
    for topic in (KEPT, HOURLY) * BATCHES:
        await process.spawn(answer_of(client, produce(-1, -1, -1, topic)))
    await world.produce(3)
    await world.produce(2, partition=1)
    landed: list[str] = []
    done = asyncio.get_running_loop().create_future()

    def watch(operation: Operation, error: Exception | None) -> None:
        if is_of_the_upload(operation):
            landed.append(operation.key)
            if len(landed) == writes and not done.done():
                done.set_result(None)

    def is_of_the_upload(operation: Operation) -> bool:
        is_write = operation.name in ("create", "create_bulk", "put") and operation.process is first.process
        return is_write and ("/meta/log/" in operation.key or "/data/" in operation.key)

    def stop(operation: Operation) -> Fate | None:
        return Fate.HELD if is_of_the_upload(operation) and len(landed) >= writes else None

    world.cluster.store.on_applied.append(watch)
    world.direct(stop)
    if writes:
        await done
    else:
        await asyncio.sleep(3)
    world.cluster.store.on_applied.remove(watch)
    await asyncio.sleep(0.5)
    first.process.kill()
    world.calm()
    await world.broker()
    await world.produce()


async def places_mixed_up(world: BrokerWorld) -> None:
    """The metadata say of each of two streams that it lies where the other does. Another process reads them."""
    original = ObjectBuilder.committed

    def mixed(builder: ObjectBuilder) -> CommitObject:
        made: CommitObject = original.fget(builder)  # type: ignore[misc]
        ranges = list(made.ranges)
        alike = [number for number, part in enumerate(ranges) if part.size and part.end - part.start == 2 * 3]
        if len(alike) == 2:
            one, other = (ranges[number] for number in alike)
            ranges[alike[0]] = structs.replace(one, position=other.position, size=other.size)
            ranges[alike[1]] = structs.replace(other, position=one.position, size=one.size)
        return dataclasses.replace(made, ranges=ranges)

    first = await world.broker()
    ObjectBuilder.committed = property(mixed)  # type: ignore[misc]
    try:
        await world.produce(2)
        await world.produce(2, partition=1)
        await asyncio.sleep(5)
    finally:
        ObjectBuilder.committed = original  # type: ignore[method-assign]
    first.process.kill()
    await world.broker()
    await world.produce()


SCHEDULES: Mapping[str, tuple[Callable[[BrokerWorld], Awaitable[None]], Mapping[str, str]]] = {
    f"killed_in_an_upload_{writes}": (
        partial(killed_in_an_upload, writes=writes),
        {"automq.upload.interval.ms": "2000"},
    )
    for writes in range(WRITES_OF_AN_UPLOAD + 1)
} | {"places_mixed_up": (places_mixed_up, {"automq.upload.interval.ms": "2000"})}
