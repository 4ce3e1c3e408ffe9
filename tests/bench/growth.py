"""What grows with time and count: rows of synthetic worlds, by CPU time of the loop's thread and the longest turn.

Nothing here waits for a disk or the network, and no other process counts: the figures are what the code does.
"""

import asyncio
import contextlib
import random
import tempfile
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack
from typing import Any, TypeVar

from automq.controller.model import TopicSpec
from automq.ids import BrokerEpoch, Offset
from automq.metadata.records import ObjectsPrepared
from automq.metadata.replay import MetadataMachine
from automq.runtime.entropy import SystemEntropy
from automq.runtime.ledger import Account
from automq.runtime.workers import ThreadWorkers
from automq.s3stream.settings import StorageSettings
from automq.s3stream.store.file import FileStore
from automq.s3stream.store.memory import MemoryStore
from automq.s3stream.stream import Stream
from tests.bench.compaction import MEMORY
from tests.bench.metadata_growth import metadata_growth
from tests.bench.report import Row, at_most
from tests.support.dead_logs import fill_log
from tests.support.engine import Engine, Ledger, append, durable
from tests.support.growth_world import GrowthWorld, growth_world
from tests.support.handler_world import NODE
from tests.support.object_reads import CountedStore
from tests.support.state_world import StateWorld, a_shard, loading
from tests.support.turns import Longest, measure

T = TypeVar("T")

MIB = 1024 * 1024
DAY_MS = 86_400_000
RECOVERED_STREAMS = 100
Work = Callable[[], Awaitable[object]]


def growth(*, quick: bool) -> Iterator[Row]:
    """Each world is made anew for each of three repetitions; the least counts."""
    count = 1_000 if quick else 10_000
    yield from asyncio.run(publish(count))
    yield from asyncio.run(creation(count))
    yield from asyncio.run(retention(count))
    yield from asyncio.run(cold_reads(count, objects=10))
    yield from asyncio.run(recovery(MIB * (16 if quick else 1024)))
    yield from asyncio.run(producers(count * 10))
    for offsets, limit_s in ((100_000, 1.0), (1_000_000, 5.0)):
        if not quick or offsets == 100_000:
            yield from asyncio.run(offsets_loaded(offsets, limit_s))
    yield from metadata_growth(quick=quick)


async def publish(topics: int) -> list[Row]:
    """A record that touches no topic: applied, taken and told to every subscriber of a broker."""
    async with growth_world() as world:
        await with_topics(world, topics)
        machine = MetadataMachine(world.metadata.image, remembers=True)
        best_s = float("inf")
        for number in range(300):
            record = ObjectsPrepared(first=10**6 + number, count=1, node=NODE, epoch=world.epoch, expires_ms=0)
            begun = time.thread_time()
            machine.replay(record)
            world.metadata.publish(machine.take_change())
            best_s = min(best_s, time.thread_time() - begun)
    return [at_most(f"publish of an unrelated record, {topics} topics", best_s * 1000, "ms", 0.1)]


async def creation(topics: int) -> list[Row]:
    """One request, until every partition is open."""
    specs = [TopicSpec(name=f"topic-{number}", partitions=1) for number in range(topics)]

    async def prepare(world: GrowthWorld) -> Work:
        async def work() -> None:
            await world.controller.create_topics(specs)
            await world.opened(topics)

        return work

    longest = await in_worlds(prepare)
    return [
        Row(f"creation of {topics} topics by one request: CPU", longest.cpu_ms, "ms"),
        at_most(f"creation of {topics} topics by one request: longest turn", longest.turn_ms, "ms", 10),
    ]


async def retention(partitions: int) -> list[Row]:
    """After a week of uploads: a round that finds nothing, and one in which every partition forgets its oldest."""

    async def quiet(world: GrowthWorld) -> Work:
        await a_week(world, partitions)
        return world.partitions.retain

    async def due(world: GrowthWorld) -> Work:
        await a_week(world, partitions)
        world.clock.now_ms += DAY_MS // 3
        return world.partitions.retain

    rows: list[Row] = []
    for name, prepare in (("nothing to forget", quiet), ("every partition forgets", due)):
        longest = await in_worlds(prepare)
        what = f"retention round, {partitions} partitions after a week, {name}"
        rows.append(at_most(f"{what}: CPU", longest.cpu_ms, "ms", 1000))
        rows.append(at_most(f"{what}: longest turn", longest.turn_ms, "ms", 5))
    return rows


async def cold_reads(partitions: int, *, objects: int) -> list[Row]:
    """One partition of many, each with a batch of 480 bytes in each object: counted, not timed."""
    store = CountedStore()
    async with growth_world(storage_settings=StorageSettings(), objects=store) as world:
        await with_topics(world, partitions)
        for _ in range(objects):
            await world.upload_batches(world.streams, batch_bytes=480)
        store.ranges.clear()
        stream = world.partitions.all()[partitions // 2]._stream
        size, position = 0, stream.start_offset
        while position < objects:
            read = await stream.read(position, Offset(objects), MIB)
            size, position = size + read.size, read.end_offset
            read.release()
    what = f"cold read of a trickling partition among {partitions}"
    return [
        at_most(f"{what}: bytes fetched for a byte", store.fetched / size, "bytes", 20),
        at_most(f"{what}: GETs an object", len(store.ranges) / objects, "GETs", 1.2),
    ]


async def producers(count: int) -> list[Row]:
    """Producers of one partition, then as many batches of any of them: what checkpoints of that cost."""
    made = [StateWorld()]

    async def prepare() -> Work:
        made[0] = world = StateWorld()
        dice = random.Random(count)
        for producer in range(count):
            world.produce(producer, 0, size=120)

        async def work() -> None:
            for number in range(count):
                world.produce(dice.randrange(count), 1, size=120)
                if number % 1_000 == 0:
                    await asyncio.sleep(0)
                if number % (count // 20) == 0:
                    await world.upload()

        return work

    longest = await measure(prepare)
    ratio = made[0].state_bytes / made[0].record_bytes
    return [
        at_most(f"checkpoints of {count} producers: bytes for each byte of records", ratio, "", 2),
        at_most(f"checkpoints of {count} producers: longest turn", longest.turn_ms, "ms", 10),
    ]


async def offsets_loaded(offsets: int, limit_s: float) -> list[Row]:
    """A coordinator takes over a shard with so many committed offsets."""
    disk = a_shard(offsets)
    longest = await measure(lambda: loading(disk))
    return [
        at_most(f"load of {offsets} committed offsets: CPU", longest.cpu_ms / 1000, "s", limit_s),
        at_most(f"load of {offsets} committed offsets: longest turn", longest.turn_ms, "ms", 10),
    ]


async def recovery(size: int) -> list[Row]:
    """A dead broker's log of 120-byte batches, with the memory that the account may have, while another stream is used.

    What is used appends a batch, waits until it is durable, and reads it back, over and over. The store is a folder in
    memory: one that is only memory copies whole objects in the turn in which they are put, which no other store does.
    """
    over = 0
    latencies_ms: list[float] = []
    # Each repetition recovers the same bytes.
    store = MemoryStore()
    await fill_log(store, Ledger(), size=size, streams=RECOVERED_STREAMS)
    slots = {info.key: await store.get(info.key) for info in await store.list("")}
    del store

    async def prepare() -> Work:
        stack.pop_all().close()
        folder = stack.enter_context(tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None))
        ledger = Ledger()
        store = FileStore(folder, workers=ThreadWorkers(), entropy=SystemEntropy())
        for number in range(RECOVERED_STREAMS):
            ledger.create_stream(number + 1)
        for key, body in slots.items():
            await store.put(key, [body])
        engine = Engine(ledger, store, epoch=2, settings=StorageSettings())
        ledger.fence((NODE, BrokerEpoch(1)), engine.me)
        account = engine.memory[Account.RECOVERY]
        charge = account.charge

        def watched(amount: int) -> None:
            nonlocal over
            charge(amount)
            over = max(over, account.used - account.limit)

        account.charge = watched  # type: ignore[method-assign]
        engine.storage.start()
        stream = engine.storage.open_stream(ledger.create_stream(RECOVERED_STREAMS + 1))

        async def work() -> None:
            recovering = asyncio.ensure_future(engine.storage.recover(NODE, BrokerEpoch(1), 0))
            while not recovering.done():
                begun = time.perf_counter()
                await serve(engine, stream)
                latencies_ms.append((time.perf_counter() - begun) * 1000)
            await recovering

        return work

    with contextlib.ExitStack() as stack:
        longest = await measure(prepare)
    what = f"recovery of {size // MIB} MiB of 120-byte batches"
    latencies_ms.sort()
    return [
        Row(f"{what}: CPU", longest.cpu_ms, "ms"),
        at_most(f"{what}, beside serving: longest turn", longest.turn_ms, "ms", 10),
        at_most(f"{what}: memory beyond its account", over, "bytes", 0),
        Row(f"{what}: batches served beside it", len(latencies_ms), ""),
        Row(f"{what}: append to read back, p50", latencies_ms[len(latencies_ms) // 2], "ms"),
    ]


async def serve(engine: Engine, stream: Stream) -> None:
    """One batch, written and read."""
    offset = stream.next_offset
    await durable(engine.storage, append(stream, size=1000))
    stream.read_cached(offset, stream.next_offset, 1 << 20).release()  # type: ignore[union-attr]


async def with_topics(world: GrowthWorld, count: int) -> None:
    """Open topics of one partition each, with a config of their own."""
    await world.create_topics(count, configs={"retention.ms": str(7 * DAY_MS)})
    await world.opened(count)


async def a_week(world: GrowthWorld, partitions: int) -> None:
    """What retention sees of it: of objects that compaction has made larger, 21 for each stream."""
    await with_topics(world, partitions)
    for _ in range(21):
        await world.upload()
        world.clock.now_ms += DAY_MS // 3


async def in_worlds(prepare: Callable[[GrowthWorld], Coroutine[Any, Any, Work]]) -> Longest:
    """`measure` in a world of its own for each repetition."""
    async with AsyncExitStack() as stack:

        async def prepared() -> Work:
            await stack.aclose()
            return await prepare(await stack.enter_async_context(growth_world()))

        return await measure(prepared)
