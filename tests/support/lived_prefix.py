"""A prefix in which a cluster has lived: incarnations of one broker, killed, with everything they leave behind."""

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

from automq.controller.model import ControllerSettings, TopicSpec
from automq.ids import ClusterId, NodeId
from automq.metadata.log_format import (
    LogPosition,
    log_folder,
    parse_slot_key,
    parse_snapshot_key,
    slot_key,
    snapshot_folder,
)
from automq.s3stream.ports import ObjectStorage
from automq.s3stream.store.layout import CLUSTER_KEY
from automq.s3stream.store.memory import MemoryStore
from automq.server import components
from automq.server.broker import Broker
from automq.server.lifecycle.states import State
from tests.support.batches import build_batch, parse_batches
from tests.support.quiet_platform import quiet_broker

TOPIC = "orders"
INCARNATIONS = 3
RECORDS = 12
"""In each incarnation; a batch of one record each."""
SETTINGS = {"automq__upload__interval__ms": "500", "automq__wal__interval__ms": "20"}
SNAPSHOT_SLOTS = 6
LATE_SLOTS = 3
"""As many topics, or more, are created at last, in a metadata slot each, until so many lie above every snapshot."""


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
        made.storage.append.when_durable(appended.position, done.set_result)
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
                if number == INCARNATIONS - 1:
                    await _create_late_topics(store, broker)


async def _create_late_topics(store: ObjectStorage, broker: Broker) -> None:
    made = broker._components
    assert made is not None
    created = 0
    while created < LATE_SLOTS or await _slots_above_snapshots(store) < LATE_SLOTS:
        await made.controller.create_topics([TopicSpec(name=f"late-{created}", partitions=1)])
        created += 1
        await asyncio.sleep(2)
    assert created <= SNAPSHOT_SLOTS


async def _slots_above_snapshots(store: ObjectStorage) -> int:
    keys = [info.key for info in await store.list("")]
    newest = max(position for position in map(parse_snapshot_key, keys) if position is not None)
    return sum(position > newest for position in map(parse_slot_key, keys) if position is not None)


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


def cluster_of(bodies: Mapping[str, bytes]) -> ClusterId:
    return ClusterId(next(key for key in bodies if key != CLUSTER_KEY).partition("/")[0])


def below(bodies: Mapping[str, bytes], folder: str) -> list[str]:
    """Keys, ascending."""
    return sorted(key for key in bodies if key.startswith(folder))


def slots(bodies: Mapping[str, bytes]) -> list[str]:
    return below(bodies, log_folder(cluster_of(bodies)))


def snapshots(bodies: Mapping[str, bytes]) -> tuple[LogPosition, LogPosition]:
    """What the older and the newer one include."""
    found = map(parse_snapshot_key, below(bodies, snapshot_folder(cluster_of(bodies))))
    older, newer = (position for position in found if position is not None)
    assert older.epoch == newer.epoch == INCARNATIONS
    return older, newer


def slots_after(bodies: Mapping[str, bytes], position: LogPosition) -> list[str]:
    return [key for key in slots(bodies) if key > slot_key(cluster_of(bodies), position)]


def slot_between_snapshots(bodies: Mapping[str, bytes]) -> str:
    """Neither snapshot's own."""
    older, newer = snapshots(bodies)
    assert newer.sequence - older.sequence > 2
    return slot_key(cluster_of(bodies), LogPosition(newer.epoch, older.sequence + 2))
