"""Many connections: what each holds is counted in bytes and objects, never in time."""

import asyncio
import gc
import struct
import tracemalloc

import pytest

from automq.protocol.apis import ApiKey
from automq.protocol.messages.discovery import ApiVersionsRequest
from automq.runtime.ledger import Account
from automq.server.network.admission import CONNECTION_BYTES
from automq.server.network.connection import Connection
from automq.server.network.receiving import ALLOWANCE_BYTES
from tests.support.batches import build_batch
from tests.support.data_path import TOPIC, DataPath, produce_request

pytestmark = pytest.mark.looptime

CLIENTS = 1000
MIB = 1 << 20


def held_by_product() -> int:
    """Bytes that were allocated in the broker's code and are still there."""
    gc.collect()
    ours = tracemalloc.Filter(inclusive=True, filename_pattern="*/broker/automq/*")
    return sum(found.size for found in tracemalloc.take_snapshot().filter_traces([ours]).statistics("filename"))


async def test_idle_connection_takes_less_than_its_account_says() -> None:
    path = await DataPath().start()
    path.connect()
    tracemalloc.start()
    before = held_by_product()
    clients = [path.connect() for _ in range(CLIENTS)]
    for client in clients:
        await client.call(ApiKey.API_VERSIONS, 0, ApiVersionsRequest())
    each = (held_by_product() - before) / CLIENTS
    tracemalloc.stop()

    assert each < CONNECTION_BYTES - ALLOWANCE_BYTES
    assert path.engine.memory[Account.CONNECTIONS].used == (CLIENTS + 1) * CONNECTION_BYTES
    assert path.engine.memory[Account.RECEIVE].used == 0
    await path.close()


async def test_connections_that_have_gone_leave_nothing() -> None:
    path = await DataPath().start()
    for _ in range(CLIENTS):
        client = path.connect()
        client.feed(struct.pack(">i", 3_000_000) + bytes(100_000))
        client.disconnect()
        del client
    await asyncio.sleep(1)
    gc.collect()

    assert not [found for found in gc.get_objects() if isinstance(found, Connection)]
    assert path.engine.memory[Account.CONNECTIONS].used == 0
    assert path.engine.memory[Account.RECEIVE].used == path.server.buffers.spare_bytes
    await path.close()


@pytest.mark.parametrize("size", [200, 50_000, 1_000_000, 20_000_000])
async def test_half_sent_requests_of_any_size_hold_no_more_than_the_account(size: int) -> None:
    path = await DataPath(memory={Account.RECEIVE: 40 * MIB}).start()
    path.create_topic()
    head = struct.pack(">ihhih", size, ApiKey.PRODUCE, 9, 1, -1)
    clients = [path.connect() for _ in range(CLIENTS)]
    for client in clients:
        client.feed(head)
        # No more than one read can take before it says that it takes no more.
        client.feed(bytes(min(size * 6 // 10, 300_000)))
    held = sum(client.connection._reader.held_bytes for client in clients if size <= 2 * MIB)
    account = path.engine.memory[Account.RECEIVE]

    assert account.used <= account.limit
    assert held <= account.limit + CLIENTS * ALLOWANCE_BYTES + _untouched(clients)
    healthy = path.connect()
    await healthy.call(ApiKey.API_VERSIONS, 0, ApiVersionsRequest())
    for client in clients:
        client.disconnect()
    await asyncio.sleep(0)
    await healthy.call(ApiKey.PRODUCE, 9, produce_request(build_batch([bytes(100_000)], timestamp_ms=0)))
    await path.close()


def _untouched(clients: list) -> int:  # type: ignore[type-arg]
    """Of buffers that were made for frames that wait: no byte was written there, so there is no memory behind it."""
    return sum(
        max(0, client.connection._reader.held_bytes - client.connection._reader.unread_bytes)
        for client in clients
        if not client.is_reading()
    )


async def test_produce_requests_that_take_long_are_copied_within_a_limit() -> None:
    path = await DataPath(memory={Account.RECEIVE: 16 * MIB}).start()
    path.create_topic()
    account = path.engine.memory[Account.RECEIVE]
    batch = build_batch([b"x" * 50] * 1200, timestamp_ms=0)
    clients = [path.connect() for _ in range(100)]
    sent = [(client, client.send(ApiKey.PRODUCE, 9, produce_request(batch))) for client in clients]
    most = account.used
    assert path.server.receiving.copies.used < path.server.receiving.copies.limit + len(batch)

    for client, number in sent:
        await client.answer(number)
        most = max(most, account.used)
    assert 1_000_000 < most <= account.limit
    assert path.partitions.get(TOPIC, 0).next_offset == 120_000
    assert path.server.receiving.copies.used == 0
    await path.close()
