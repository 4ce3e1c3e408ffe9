"""What metadata cost as they grow: synthetic worlds, a week old where the name says so.

Memory is measured in a process of its own: what the resident set grew by while the image was made. With compaction a
stream is held by `HELD_BY_COMPACTION` objects, whatever its age; without, by one an upload, at the default pace.
"""

import asyncio
import dataclasses
import gc
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Final

from automq.controller.model import ControllerSettings
from automq.ids import ControllerEpoch
from automq.metadata.image import MetadataImage
from automq.metadata.loader import Loaded, LogLoader
from automq.metadata.log_format import LogPosition, encode_slot, slot_key, snapshot_key
from automq.metadata.records import encode_record
from automq.metadata.snapshot_format import encode_snapshot
from automq.metadata.snapshot_records import to_records
from automq.metadata.snapshots import Snapshots
from automq.runtime.entropy import SeededEntropy
from automq.s3stream.store.memory import MemoryStore
from automq.steps import at_once
from tests.bench.report import Row, at_most
from tests.support.batches import build_batch
from tests.support.engine import SMALL
from tests.support.growth import UPLOAD_S, WEEK_S, Growth, new_cluster
from tests.support.growth_world import GrowthWorld, growth_world
from tests.support.metadata_worlds import CLUSTER, FlakyStore, World
from tests.support.turns import Longest, measure

HELD_BY_COMPACTION: Final = 200
"""Assumed: what object compaction leaves of a stream, and what has been uploaded since."""
UPLOADS_A_WEEK: Final = WEEK_S // UPLOAD_S
MEMORY_GOALS: Final = {100: 10, 1_000: 50, 10_000: 300}
NONCE: Final = bytes(16)
MIB: Final = 1 << 20
ROOMY: Final = dataclasses.replace(SMALL, arena_bytes=64 * MIB, upload_bytes=32 * MIB, upload_interval_ms=3_600_000)
"""Nothing is sealed but by us."""
MB: Final = 1e6


def metadata_growth(*, quick: bool) -> Iterator[Row]:
    """Three repetitions where time counts; the least counts."""
    for partitions, goal_mb in MEMORY_GOALS.items():
        what = f"memory of metadata, {partitions} partitions after a week"
        if partitions > 1_000 and quick:
            continue
        yield at_most(f"{what}, compacted", memory_bytes(partitions, HELD_BY_COMPACTION) / MB, "MB", goal_mb)
        if partitions <= 1_000:
            # Of more it is as much for each range, and takes minutes to make.
            yield Row(f"{what}, without compaction", memory_bytes(partitions, UPLOADS_A_WEEK) / MB, "MB")
    partitions = 1_000 if quick else 10_000
    sealed, committed = asyncio.run(seal(partitions)), asyncio.run(commit(partitions))
    what = f"one commit of {partitions} ranges"
    yield Row(f"{what}: CPU", committed.cpu_ms, "ms")
    yield at_most(f"{what}, seal included: CPU", sealed.cpu_ms + committed.cpu_ms, "ms", 150)
    yield at_most(f"{what}, seal included: longest turn", max(sealed.turn_ms, committed.turn_ms), "ms", 10)
    longest = asyncio.run(upload(partitions))
    yield Row(f"one upload of {partitions} partitions, from seal to commit: CPU", longest.cpu_ms, "ms")
    yield at_most(
        f"one upload of {partitions} partitions, from seal to commit: longest turn", longest.turn_ms, "ms", 10
    )
    longest, wall_s, size = asyncio.run(start(partitions))
    what = f"start with the metadata of {partitions} partitions after a week"
    # It waits for nothing here: what wall time is beyond CPU time, other processes of the machine took.
    yield at_most(f"{what}: CPU", longest.cpu_ms / 1000, "s", 3)
    yield Row(f"{what}: wall time", wall_s, "s")
    yield at_most(f"{what}: longest turn", longest.turn_ms, "ms", 10)
    yield Row(f"{what}: snapshot", size / MB, "MB")
    longest = asyncio.run(snapshot(partitions))
    what = f"snapshot of the metadata of {partitions} partitions after a week"
    yield Row(f"{what}: CPU", longest.cpu_ms, "ms")
    yield at_most(f"{what}: longest turn", longest.turn_ms, "ms", 10)


def memory_bytes(partitions: int, uploads: int) -> int:
    """What the resident set of a fresh process grows by when it makes such an image."""
    command = [sys.executable, "-m", "tests.bench.metadata_growth", str(partitions), str(uploads)]
    root = pathlib.Path(__file__).parents[2]
    return int(subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout)


def _print_memory(partitions: int, uploads: int) -> None:
    before = _resident_bytes()
    growth = new_cluster(partitions)
    for _ in range(uploads):
        growth.grow(1)
        _image = growth.machine.image
    gc.collect()
    print(_resident_bytes() - before)


def _resident_bytes() -> int:
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


async def commit(partitions: int) -> Longest:
    """From the request to the answer: judged, written, applied and published."""
    growth = grown(partitions)
    growth.machine.replay(growth.prepared())
    image, request = growth.machine.image, growth.request()

    async def prepare() -> Callable[[], Awaitable[object]]:
        store = MemoryStore()
        await put_snapshot(store, image)
        world = World(FlakyStore(store))
        controller, _publisher = world.controller("bench")
        await controller.start(owner=None, above=ControllerEpoch(1))
        return lambda: controller.commit_objects(request)

    return await measure(prepare)


async def seal(partitions: int) -> Longest:
    """One small batch of each partition: sealed, and every checkpoint captured, as bytes."""

    def work(world: GrowthWorld) -> Callable[[], Awaitable[object]]:
        async def sealed() -> None:
            world.storage.append.wal.close_slot()
            await world.storage.append.checkpoints.capture(world.storage.append.cache.seal())

        return sealed

    return await with_a_batch_each(partitions, work)


async def upload(partitions: int) -> Longest:
    """The same, then put together as an object, put, read back, committed, and published."""
    return await with_a_batch_each(partitions, lambda world: world.storage.upload.flush)


async def with_a_batch_each(partitions: int, work: Callable[[GrowthWorld], Callable[[], Awaitable[object]]]) -> Longest:
    """`measure`, where one small batch of each partition is in the log cache."""
    async with AsyncExitStack() as stack:

        async def prepare() -> Callable[[], Awaitable[object]]:
            await stack.aclose()
            world = await stack.enter_async_context(growth_world(storage_settings=ROOMY))
            await world.create_topics(partitions)
            await world.opened(partitions)
            for number, partition in enumerate(world.partitions.all()):
                partition.append(memoryview(bytearray(build_batch([b"value"] * 3, timestamp_ms=1))))
                if not number % 1000:
                    await asyncio.sleep(0.01)
            await asyncio.sleep(0.1)
            return work(world)

        return await measure(prepare)


async def start(partitions: int) -> tuple[Longest, float, int]:
    """A snapshot, and as many ranges after it as a start ever has to replay. Also the least wall time, and its size."""
    growth = grown(partitions)
    store = MemoryStore()
    size = await put_snapshot(store, growth.machine.image)
    first_record = growth.machine.record_number
    for sequence in range(1, 1 + ControllerSettings().snapshot_ranges // partitions):
        records = [encode_record(record) for record in growth.records()]
        position = LogPosition(ControllerEpoch(1), sequence)
        slot = encode_slot(CLUSTER, position, first_record=first_record, encoded=records, nonce=NONCE)
        await store.create(slot_key(CLUSTER, position), slot)
        first_record += len(records)
    walls_s: list[float] = []
    # Kept: to let an image go is no part of a start.
    loaded: list[Loaded] = []

    async def prepare() -> Callable[[], Awaitable[object]]:
        world = World(FlakyStore(store))
        loader = LogLoader(
            store=world.store,
            cluster_id=CLUSTER,
            entropy=SeededEntropy("bench"),
            patience=world.patience(),
            tasks=world.tasks,
        )

        async def work() -> None:
            begun = time.perf_counter()
            loaded.append(await loader.read())
            walls_s.append(time.perf_counter() - begun)

        return work

    longest = await measure(prepare)
    return longest, min(walls_s), size


@dataclass(frozen=True)
class DurableLog:
    """The log as snapshots see it: everything is durable."""

    durable: LogPosition
    record_number: int


async def snapshot(partitions: int) -> Longest:
    """Written, read back and checked; then the log is trimmed."""
    growth = grown(partitions)
    image = growth.machine.image

    async def prepare() -> Callable[[], Awaitable[object]]:
        world = World(FlakyStore())
        log: Any = DurableLog(LogPosition(ControllerEpoch(1), 0), image.record_number)
        snapshots = Snapshots(
            store=world.store,
            cluster_id=CLUSTER,
            log=log,
            entropy=SeededEntropy("bench"),
            patience=world.patience(),
        )
        return lambda: snapshots.write(image)

    return await measure(prepare)


def grown(partitions: int) -> Growth:
    """A week old, and compacted."""
    growth = new_cluster(partitions)
    growth.grow(HELD_BY_COMPACTION)
    return growth


async def put_snapshot(store: MemoryStore, image: MetadataImage) -> int:
    """The image as a snapshot that includes slot 0 of the first epoch; its size."""
    position = LogPosition(ControllerEpoch(1), 0)
    body = at_once(
        encode_snapshot(CLUSTER, position, record_number=image.record_number, records=to_records(image), nonce=NONCE)
    )
    await store.put(snapshot_key(CLUSTER, position), body)
    return sum(map(len, body))


if __name__ == "__main__":
    _print_memory(int(sys.argv[1]), int(sys.argv[2]))
