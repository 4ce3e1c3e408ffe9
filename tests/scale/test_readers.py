"""Many readers: what an append, a wait and an answer cost is counted, in calls and bytes, never in time."""

import asyncio
import sys
from collections import Counter
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from automq.handlers.wide_fetch import SLICE
from automq.ids import Offset
from automq.protocol.apis import ApiKey
from automq.s3stream.stream import Stream
from tests.support.batches import build_batch
from tests.support.data_path import TOPIC, DataPath, MemoryTransport, fetch_request
from tests.support.reading import VERSION, parts, put, values

pytestmark = pytest.mark.looptime

CLIENTS = 1000
PARTITIONS = 10_000
WIDE = 1000
"""Partitions of a wide consumer."""


READING = (
    "partition/purgatory.py",
    "partition/partition.py",
    "handlers/fetch.py",
    "handlers/delayed_fetch.py",
    "s3stream/stream.py",
    "s3stream/cache/log_cache.py",
)


class Calls:
    """Calls of functions of the product, by name, made while it is entered."""

    def __init__(self) -> None:
        self.by_name: Counter[str] = Counter()
        self.by_file: Counter[str] = Counter()

    def __enter__(self) -> "Calls":
        sys.setprofile(self._count)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _count(self, frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and "/broker/automq/" in frame.f_code.co_filename:
            self.by_name[frame.f_code.co_qualname] += 1
            self.by_file[frame.f_code.co_filename.rpartition("/broker/automq/")[2]] += 1


async def a_wide_path(partitions: int) -> DataPath:
    path = await DataPath().start()
    path.create_topic(partitions=partitions)
    while len(path.partitions.all()) < partitions:
        await asyncio.sleep(0.01)
    return path


def park_wide(path: DataPath, clients: int, **fields: Any) -> list[tuple[MemoryTransport, int]]:
    """So many consumers that wait at the first `WIDE` partitions."""
    waiting = []
    for _ in range(clients):
        client = path.connect()
        request = fetch_request(*[0] * WIDE, max_wait=60_000, **fields)
        waiting.append((client, client.send(ApiKey.FETCH, VERSION, request)))
    return waiting


def append(path: DataPath, partition: int, size: int = 100) -> Callable[[], None]:
    """An append, whose acknowledgement comes when the loop turns."""
    found = path.partitions.get(TOPIC, partition)
    batch = build_batch([b"x" * size], timestamp_ms=0)
    return lambda: void(found.append(memoryview(bytearray(batch))))


def void(_: object) -> None:
    """What was returned is not wanted."""


async def test_a5_an_append_costs_the_same_however_many_partitions_a_waiter_has() -> None:
    path = await a_wide_path(WIDE)
    costs = []
    for clients in (0, 20):
        waiting = park_wide(path, clients, min_bytes=1_000_000, partition_max_bytes=1_000_000)
        await asyncio.sleep(0.1)
        with Calls() as calls:
            for partition in range(50):
                append(path, partition)()
                await asyncio.sleep(0.01)
        # What an append costs its readers; connections are looked at once a second besides.
        costs.append(sum(calls.by_file[name] for name in READING))
        assert calls.by_name["FetchHandler._collect_of"] == calls.by_name["FetchHandler._rooms_of"] == 0
        assert all(not client.answers() for client, _ in waiting)

    # However many partitions and consumers; the consumers themselves are visited in one loop, without a call.
    assert 0 < (costs[1] - costs[0]) / 50 <= 10
    await path.close()


async def test_a5_results_are_built_once_for_an_answer() -> None:
    path = await a_wide_path(WIDE)
    ((client, sent),) = park_wide(path, 1, min_bytes=50 * 160)
    await asyncio.sleep(0.1)
    with Calls() as calls:
        for partition in range(60):
            append(path, partition)()
            await asyncio.sleep(0.01)

    found = [partition for partition in parts(client.answers()[sent]) if partition.records]
    assert len(found) > 40
    # Some partitions at a time.
    assert calls.by_name["FetchHandler._collect_of"] == -(-WIDE // SLICE)
    assert calls.by_name["Partition.measure_cached"] == len(found)
    await path.close()


async def test_session_of_many_partitions_costs_what_changed() -> None:
    path = await a_wide_path(WIDE)
    client = path.connect()
    opened = await client.call(ApiKey.FETCH, VERSION, fetch_request(*[0] * WIDE, session_epoch=0))
    await put(path.connect(), b"a", partition=7)
    with Calls() as calls:
        request = fetch_request(session_id=opened.session_id, session_epoch=1, max_wait=500)
        changed = await client.call(ApiKey.FETCH, VERSION, request)

    assert [(partition.partition_index, values(partition)) for partition in parts(changed)] == [(7, [b"a"])]
    assert calls.by_name["FetchHandler._read"] == 1
    assert calls.by_name["PartitionManager.find"] == 0
    await path.close()


async def test_many_waiters_of_many_partitions_are_woken_by_their_own_alone() -> None:
    path = await a_wide_path(PARTITIONS)
    waiting: list[tuple[MemoryTransport, int]] = []
    for number in range(CLIENTS):
        client = path.connect()
        request = fetch_request(0, max_wait=60_000)
        request.topics[0].partitions[0].partition = number * (PARTITIONS // CLIENTS)
        waiting.append((client, client.send(ApiKey.FETCH, VERSION, request)))
    await asyncio.sleep(0.1)
    with Calls() as calls:
        append(path, 500)()
        append(path, 501)()
        await asyncio.sleep(0.1)

    assert [number for number, (client, sent) in enumerate(waiting) if sent in client.answers()] == [50]
    assert calls.by_name["FetchHandler.answer"] == 1
    assert len(path.partitions.purgatory) == CLIENTS - 1
    assert len(path.partitions.purgatory._ticks) == 1
    await path.close()


async def test_waiting_consumers_hold_nothing_of_the_log() -> None:
    path = await a_wide_path(1)
    await put(path.connect(), b"x" * 1000)
    await path.engine.storage.upload.flush()
    held = path.engine.storage.append.pool.held
    for _ in range(CLIENTS):
        path.connect().send(ApiKey.FETCH, VERSION, fetch_request(1, max_wait=60_000))
    await asyncio.sleep(0.1)

    assert isinstance(path.partitions.get(TOPIC, 0)._stream, Stream)
    assert path.engine.storage.append.pool.held == held
    assert len(path.partitions.purgatory) == CLIENTS
    await path.close()


async def test_a2_consumers_that_do_not_read_hold_no_arena_and_their_account_is_kept() -> None:
    path = await a_wide_path(1)
    producer = path.connect()
    await put(producer, *[bytes(5_000)] * 20)
    for _ in range(CLIENTS):
        client = path.connect()
        client.is_slow = True
        client.send(ApiKey.FETCH, VERSION, fetch_request(0, partition_max_bytes=100_000))
    await asyncio.sleep(0.1)
    account = path.server.pins.budget
    assert 0 < account.used <= account.limit
    await path.engine.storage.upload.flush()

    pool = path.engine.storage.append.pool
    # That which is being filled.
    assert pool.held <= 1
    evicted = path.partitions.get(TOPIC, 0)
    while evicted.read_cached(Offset(0), 1) is not None:
        await put(producer, *[bytes(20_000)] * 5)
        await path.engine.storage.upload.flush()
    assert 0 < account.used <= account.limit
    for connection in list(path.server._connections):
        connection.close()
    await asyncio.sleep(0.1)
    assert account.used == 0
    await path.close()
