"""A prefix in which a cluster has lived: incarnations of one broker, killed, with everything they leave behind."""

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

from automq.controller.model import ControllerSettings, TopicSpec
from automq.ids import NodeId
from automq.s3stream.ports import ObjectStorage
from automq.s3stream.store.memory import MemoryStore
from automq.server import components
from automq.server.broker import Broker
from automq.server.lifecycle import State
from tests.support.batches import build_batch, parse_batches
from tests.support.quiet_platform import quiet_broker

TOPIC = "orders"
INCARNATIONS = 3
RECORDS = 12
"""In each incarnation; a batch of one record each."""
SETTINGS = {"automq__upload__interval__ms": "500", "automq__wal__interval__ms": "20"}
SNAPSHOT_SLOTS = 6
LATE_TOPICS = 3
"""Created at last, in a metadata slot each: they are the newest, above every snapshot."""


@contextlib.contextmanager
def frequent_snapshots() -> Iterator[None]:
    """Brokers that are started meanwhile write a snapshot every few slots."""
    original = components.controller_settings

    def settings(*arguments: Any) -> ControllerSettings:
        return dataclasses.replace(original(*arguments), snapshot_slots=SNAPSHOT_SLOTS)

    components.controller_settings = settings  # type: ignore[assignment]
    try:
        yield
    finally:
        components.controller_settings = original  # type: ignore[assignment]


@contextlib.asynccontextmanager
async def serving(store: ObjectStorage, *, seed: int, **texts: str) -> AsyncIterator[Broker]:
    """A broker that serves; killed afterwards. Raises what ends it before it serves."""
    broker = quiet_broker(store, seed=seed, **{**SETTINGS, **texts})
    running = asyncio.ensure_future(broker.run())
    try:
        async with asyncio.timeout(120):
            while broker.lifecycle.state is not State.SERVING:
                if running.done():
                    running.result()
                await asyncio.sleep(0.05)
        yield broker
    finally:
        broker.stop()
        broker.stop()
        await asyncio.wait({running})


async def produce(broker: Broker, count: int, *, first: int) -> None:
    """Append records `first`, `first` + 1, ... and wait until they are acknowledged."""
    made = broker._components
    assert made is not None
    assert made.partitions is not None
    assert made.storage is not None
    partition = made.partitions.get(TOPIC, 0)
    for number in range(first, first + count):
        batch = bytearray(build_batch([b"record %d" % number], timestamp_ms=1_700_000_000_000))
        appended = partition.append(memoryview(batch))
        done: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        made.storage.when_durable(appended.position, done.set_result)
        assert await done is None
        await asyncio.sleep(0.1)


async def consume(broker: Broker) -> list[bytes]:
    """Every record, in order."""
    made = broker._components
    assert made is not None
    assert made.partitions is not None
    partition = made.partitions.get(TOPIC, 0)
    found: list[bytes] = []
    async for data in partition.read_batches(partition.log_start_offset, partition.high_watermark):
        for batch in parse_batches(bytes(data)):
            found.extend(batch.values)
    return found


def expected_records() -> list[bytes]:
    """What `consume` gives where nothing is lost."""
    return [b"record %d" % number for number in range(INCARNATIONS * RECORDS)]


async def live(store: ObjectStorage) -> None:
    """What the prefix is made by."""
    with frequent_snapshots():
        for number in range(INCARNATIONS):
            async with serving(store, seed=number + 1) as broker:
                if number == 0:
                    made = broker._components
                    assert made is not None
                    (result,) = await made.controller.create_topics([TopicSpec(name=TOPIC, partitions=1)])
                    assert result.error is None
                    assert made.epoch is not None
                    await made.controller.open_streams(NodeId(1), made.epoch)
                    await asyncio.sleep(1)
                await produce(broker, RECORDS, first=number * RECORDS)
                await asyncio.sleep(3)
                for extra in range(LATE_TOPICS if number == INCARNATIONS - 1 else 0):
                    made = broker._components
                    assert made is not None
                    await made.controller.create_topics([TopicSpec(name=f"late-{extra}", partitions=1)])
                    await asyncio.sleep(2)


async def lived_prefix() -> Mapping[str, bytes]:
    """Key by key; made once, on whatever loop runs then."""
    if not _made:
        store = MemoryStore()
        await live(store)
        _made.update(await everything(store))
    return _made


_made: dict[str, bytes] = {}


async def everything(store: ObjectStorage) -> dict[str, bytes]:
    """Whatever lies in `store`."""
    return {info.key: await store.get(info.key) for info in await store.list("")}


async def filled(store: ObjectStorage, bodies: Mapping[str, bytes]) -> None:
    """Put everything into `store`."""
    for key, body in bodies.items():
        await store.put(key, [body])
