"""A fetch that waits: until when, and what ends it."""

import asyncio

import pytest

from automq.handlers.fetch import FetchSettings
from automq.partition.purgatory import TICK_S
from automq.protocol.apis import ApiKey
from automq.protocol.messages.fetch import FetchRequest
from automq.s3stream.store.memory import MemoryStore
from automq.server.network.host import ListenerSettings
from tests.support.batches import build_batch
from tests.support.data_path import MemoryTransport, fetch_request, produce_request
from tests.support.engine import HeldStore
from tests.support.reading import VERSION, a_path, fill, parts, put, values

pytestmark = pytest.mark.looptime


async def test_fetch_waits_for_data() -> None:
    path, client = await a_path()
    sent = client.send(ApiKey.FETCH, VERSION, fetch_request(0, max_wait=10_000))
    await asyncio.sleep(1)
    assert client.answers() == {}
    await put(path.connect(), b"late")

    assert values(parts(await client.answer(sent))[0]) == [b"late"]
    await path.close()


async def test_fetch_waits_no_longer_than_it_said() -> None:
    path, client = await a_path()
    sent = client.send(ApiKey.FETCH, VERSION, fetch_request(0, max_wait=500))
    await asyncio.sleep(0.49)
    assert client.answers() == {}
    await asyncio.sleep(0.01 + TICK_S)

    assert values(parts(client.answers()[sent])[0]) == []
    await path.close()


async def test_fetch_waits_until_there_is_enough() -> None:
    path, client = await a_path()
    sent = client.send(ApiKey.FETCH, VERSION, fetch_request(0, max_wait=10_000, min_bytes=200))
    producer = path.connect()
    await put(producer, b"a")
    await asyncio.sleep(0.1)
    assert client.answers() == {}
    await put(producer, b"b", b"c")

    assert len(values(parts(await client.answer(sent))[0])) == 3
    await path.close()


async def time_to_answer(client: MemoryTransport, request: FetchRequest, version: int = VERSION) -> float:
    loop = asyncio.get_running_loop()
    start = loop.time()
    sent = client.send(ApiKey.FETCH, version, request)
    while sent not in client.answers():
        assert loop.time() - start < 20
        await asyncio.sleep(0.01)
    return loop.time() - start


@pytest.mark.parametrize(
    "limits",
    [
        {"min_bytes": 10_000, "partition_max_bytes": 10_000},
        {"min_bytes": 10_000, "max_bytes": 10_000},
        {"min_bytes": 100_000, "max_bytes": 10_000},
        {"min_bytes": 100_000, "partition_max_bytes": 10_000},
    ],
    ids=["partition_max_bytes", "max_bytes", "above max_bytes", "above partition_max_bytes"],
)
async def test_a1_enough_is_what_is_available_and_not_what_fits_the_answer(limits: dict[str, int]) -> None:
    path, client = await a_path()
    await put(client, *[b"x" * 2900] * 8)

    assert await time_to_answer(client, fetch_request(0, max_wait=10_000, **limits)) < 0.1
    await path.close()


async def test_a1_enough_is_no_more_than_the_largest_answer() -> None:
    path, client = await a_path(listener=ListenerSettings(fetch=FetchSettings(response_bytes_max=10_000)))
    await put(client, *[b"x" * 2900] * 8)

    assert await time_to_answer(client, fetch_request(0, max_wait=10_000, min_bytes=10_000_000)) < 0.1
    await path.close()


async def test_a1_no_more_than_partition_max_bytes_of_a_partition_is_available() -> None:
    path, client = await a_path(partitions=2)
    await put(client, *[b"x" * 2900] * 8)
    sent = client.send(
        ApiKey.FETCH, VERSION, fetch_request(0, 0, max_wait=10_000, min_bytes=8000, partition_max_bytes=5000)
    )
    await asyncio.sleep(1)
    assert client.answers() == {}
    await put(path.connect(), *[b"x" * 2900] * 2, partition=1)

    assert [len(values(partition)) for partition in parts(await client.answer(sent))] == [1, 1]
    await path.close()


async def test_reader_ahead_of_the_high_watermark_waits_for_bytes_of_its_own() -> None:
    store = HeldStore(MemoryStore())
    gate = asyncio.Event()

    async def before(name: str, key: str) -> None:
        if name in ("create", "create_bulk"):
            await gate.wait()

    store.before = before
    path, client = await a_path(store=store)
    path.connect().send(ApiKey.PRODUCE, 9, produce_request(build_batch([b"x" * 500], timestamp_ms=0)))
    sent = client.send(ApiKey.FETCH, VERSION, fetch_request(1, max_wait=10_000, min_bytes=200))
    gate.set()
    await asyncio.sleep(1)
    assert client.answers() == {}
    await put(path.connect(), b"y" * 500)

    assert values(parts(await client.answer(sent))[0]) == [b"y" * 500]
    await path.close()


async def test_drain_hastens_a_fetch_that_reads_objects() -> None:
    store = HeldStore(MemoryStore())
    path, client = await a_path(store=store)
    await fill(path, client)

    async def before(name: str, key: str) -> None:
        if name == "get_range":
            await asyncio.Event().wait()

    store.before = before
    sent = client.send(ApiKey.FETCH, VERSION, fetch_request(0, max_wait=10_000))
    await asyncio.sleep(0.1)
    loop = asyncio.get_running_loop()
    start = loop.time()
    await path.server.drain()

    assert loop.time() - start < 0.1
    assert values(parts(client.answers()[sent])[0]) == []
    await path.close()


async def test_cold_budget_is_given_back_when_the_client_is_gone() -> None:
    store = HeldStore(MemoryStore())
    path, client = await a_path(store=store)
    await fill(path, client)

    async def before(name: str, key: str) -> None:
        if name == "get_range":
            await asyncio.Event().wait()

    store.before = before
    client.send(ApiKey.FETCH, VERSION, fetch_request(0, max_wait=10_000))
    await asyncio.sleep(0.1)
    assert path.server.pins.budget.used > 0
    client.disconnect()
    await asyncio.sleep(0.01)

    assert path.server.pins.budget.used == 0
    await path.close()
