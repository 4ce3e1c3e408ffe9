"""A connection: order, back-pressure, refusals, the end."""

import asyncio
import logging
import struct
from typing import Any

import pytest

from automq.ids import Offset
from automq.protocol.apis import APIS, ApiKey, encode_request
from automq.protocol.codec import decode_whole
from automq.protocol.errors import ErrorCode
from automq.protocol.messages.discovery import (
    ApiVersionsRequest,
    ApiVersionsResponse,
)
from automq.protocol.messages.fetch import ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic
from automq.server.network import connection as connection_module
from automq.server.network.outbox import UNSENT_S_MAX
from tests.support.batches import build_batch, parse_batches
from tests.support.data_path import TOPIC, DataPath, MemoryTransport, fetch_request, produce_request
from tests.support.gated_path import Gate, a_path

pytestmark = pytest.mark.looptime


def produce(value: bytes = b"v", *, partition: int = 0) -> Any:
    return produce_request(build_batch([value], timestamp_ms=0), partition=partition)


def list_offsets() -> ListOffsetsRequest:
    asked = ListOffsetsPartition(partition_index=0, timestamp=-1)
    return ListOffsetsRequest(replica_id=-1, topics=[ListOffsetsTopic(name=TOPIC, partitions=[asked])])


async def test_answers_come_in_the_order_of_the_requests() -> None:
    path, client = await a_path()
    sent = [
        client.send(ApiKey.PRODUCE, 9, produce()),
        client.send(ApiKey.LIST_OFFSETS, 7, list_offsets()),
        client.send(ApiKey.FETCH, 12, fetch_request(0)),
        client.send(ApiKey.API_VERSIONS, 3, ApiVersionsRequest(client_software_name="a", client_software_version="1")),
        client.send(ApiKey.PRODUCE, 9, produce()),
    ]
    await client.answer(sent[-1])

    assert client.order == sent
    await path.close()


async def test_produce_requests_overlap() -> None:
    gate = Gate()
    path, client = await a_path(store=gate.store)
    sent = [client.send(ApiKey.PRODUCE, 9, produce()) for _ in range(5)]
    await asyncio.sleep(0.1)
    assert path.partitions.get(TOPIC, 0).next_offset == 5
    gate.open.set()
    await client.answer(sent[-1])

    assert client.order == sent
    await path.close()


async def test_other_requests_wait_for_those_before_them() -> None:
    gate = Gate()
    path, client = await a_path(store=gate.store)
    client.send(ApiKey.PRODUCE, 9, produce())
    listed = client.send(ApiKey.LIST_OFFSETS, 7, list_offsets())
    await asyncio.sleep(0.1)
    assert not client.is_reading()
    gate.open.set()

    assert (await client.answer(listed)).topics[0].partitions[0].offset == 1
    assert client.is_reading()
    await path.close()


async def test_nothing_starts_before_a_request_that_runs_alone_is_answered() -> None:
    path, client = await a_path()
    fetched = client.send(ApiKey.FETCH, 12, fetch_request(0, max_wait=500))
    client.send(ApiKey.PRODUCE, 9, produce())
    await asyncio.sleep(0.4)
    assert path.partitions.get(TOPIC, 0).next_offset == 0
    await client.answer(fetched)
    await asyncio.sleep(0.1)

    assert path.partitions.get(TOPIC, 0).next_offset == 1
    await path.close()


async def test_answers_that_become_ready_together_leave_in_one_write() -> None:
    gate = Gate()
    path, client = await a_path(store=gate.store)
    writes: list[int] = []
    write = client.write

    def counted(data: bytes | bytearray | memoryview) -> None:
        writes.append(len(data))
        write(data)

    client.write = counted  # type: ignore[method-assign]
    sent = [client.send(ApiKey.PRODUCE, 9, produce()) for _ in range(5)]
    gate.open.set()
    await client.answer(sent[-1])

    assert len(writes) == 1
    await path.close()


async def test_requests_in_flight_are_bounded() -> None:
    gate = Gate()
    path, client = await a_path(store=gate.store, in_flight_max=3)
    sent = [client.send(ApiKey.PRODUCE, 9, produce()) for _ in range(5)]
    await asyncio.sleep(0.1)
    assert path.partitions.get(TOPIC, 0).next_offset == 3
    gate.open.set()
    await client.answer(sent[-1])

    assert path.partitions.get(TOPIC, 0).next_offset == 5
    await path.close()


async def test_many_small_requests_do_not_hold_the_loop_in_one_turn() -> None:
    path, client = await a_path()
    frame = encode_request(APIS[ApiKey.PRODUCE], 9, 7, "test", produce())
    client.feed(frame * 200)

    assert path.partitions.get(TOPIC, 0).next_offset == connection_module.FRAMES_PER_TURN_MAX
    await asyncio.sleep(0.1)
    assert path.partitions.get(TOPIC, 0).next_offset == 200
    assert len(client.frames()) == 200
    await path.close()


async def test_produce_waits_for_room_and_everything_else_goes_on() -> None:
    gate = Gate()
    path, client = await a_path(store=gate.store)
    value = bytes(30_000)
    sent = [client.send(ApiKey.PRODUCE, 9, produce(value)) for _ in range(60)]
    await asyncio.sleep(0.1)
    taken = path.partitions.get(TOPIC, 0).next_offset
    assert taken < 60
    assert not client.is_reading()
    other = path.connect()
    listed = await other.call(ApiKey.LIST_OFFSETS, 7, list_offsets())
    assert listed.topics[0].partitions[0].offset == 0
    fetched = await other.call(ApiKey.FETCH, 12, fetch_request(0))
    assert fetched.responses[0].partitions[0].error_code == 0
    gate.open.set()
    await client.answer(sent[-1])

    assert path.partitions.get(TOPIC, 0).next_offset == 60
    assert client.order == sent
    await path.close()


async def test_client_that_takes_no_answers_is_asked_for_no_more_requests() -> None:
    path, client = await a_path()
    for _ in range(10):
        await client.call(ApiKey.PRODUCE, 9, produce(bytes(40_000)))
    client.is_slow = True
    first = client.send(ApiKey.FETCH, 12, fetch_request(0, partition_max_bytes=400_000))
    client.send(ApiKey.FETCH, 12, fetch_request(5, partition_max_bytes=400_000))
    await asyncio.sleep(0.1)

    assert not client.is_reading()
    client.drain()
    await asyncio.sleep(0.1)
    client.drain()
    answered = client.answers()
    assert answered[first].responses[0].partitions[0].records is not None
    assert client.is_reading()
    await path.close()


async def stalled(path: DataPath, count: int, **fields: Any) -> list[MemoryTransport]:
    """So many consumers that ask for what there is, and take nothing."""
    clients = []
    for _ in range(count):
        client = path.connect()
        client.is_slow = True
        client.send(ApiKey.FETCH, 12, fetch_request(0, partition_max_bytes=400_000, **fields))
        clients.append(client)
    await asyncio.sleep(0.1)
    return clients


async def test_a2_producers_go_on_however_many_consumers_do_not_read() -> None:
    path, client = await a_path()
    for _ in range(10):
        await client.call(ApiKey.PRODUCE, 9, produce(bytes(40_000)))
    readers = await stalled(path, 100)
    loop = asyncio.get_running_loop()
    for _ in range(40):
        start = loop.time()
        await client.call(ApiKey.PRODUCE, 9, produce(bytes(40_000)))
        assert loop.time() - start < 1

    assert not any(reader.was_lost for reader in readers)
    await path.engine.storage.upload.flush()
    assert path.engine.storage.append.pool.held <= 1
    await path.close()


async def test_answer_whose_records_were_evicted_meanwhile_is_completed_from_objects() -> None:
    path, client = await a_path()
    for number in range(10):
        await client.call(ApiKey.PRODUCE, 9, produce(bytes([number]) * 40_000))
    (reader,) = await stalled(path, 1)
    for _ in range(40):
        await client.call(ApiKey.PRODUCE, 9, produce(bytes(40_000)))
    await path.engine.storage.upload.flush()
    assert path.partitions.get(TOPIC, 0).read_cached(Offset(0), 1) is None
    for _ in range(20):
        reader.drain()
        await asyncio.sleep(0.1)

    (answer,) = reader.answers().values()
    records = answer.responses[0].partitions[0].records
    found = [value for batch in parse_batches(records) for value in batch.values]
    assert found == [bytes([number]) * 40_000 for number in range(len(found))]
    assert len(found) >= 9
    assert path.server.pins.budget.used == 0
    await path.close()


async def test_answer_whose_records_are_gone_ends_the_connection_with_a_line(caplog: pytest.LogCaptureFixture) -> None:
    path, client = await a_path()
    for _ in range(10):
        await client.call(ApiKey.PRODUCE, 9, produce(bytes(40_000)))
    (reader,) = await stalled(path, 1)
    for _ in range(40):
        await client.call(ApiKey.PRODUCE, 9, produce(bytes(40_000)))
    await path.engine.storage.upload.flush()
    await path.partitions.get(TOPIC, 0).delete_records(30)
    for _ in range(3):
        reader.drain()
        await asyncio.sleep(0.1)

    assert reader.was_lost
    assert "connection from client closed" in caplog.text
    await path.close()


async def test_client_that_takes_nothing_for_long_is_closed() -> None:
    path, client = await a_path()
    for _ in range(10):
        await client.call(ApiKey.PRODUCE, 9, produce(bytes(40_000)))
    (reader,) = await stalled(path, 1)
    await asyncio.sleep(UNSENT_S_MAX - 2)
    assert not reader.was_lost
    await asyncio.sleep(4)

    assert reader.was_lost
    await path.close()


@pytest.mark.parametrize(
    "data",
    [
        struct.pack(">i", 2**30),
        struct.pack(">i", -1),
        struct.pack(">i", 3) + b"abc",
        struct.pack(">ihhih", 10, 999, 0, 1, -1),
        struct.pack(">ihhih", 10, ApiKey.FETCH, 99, 1, -1),
        struct.pack(">ihhih", 10, ApiKey.PRODUCE, 2, 1, -1),
        struct.pack(">ihhih", 10, ApiKey.SASL_HANDSHAKE, 1, 1, -1),
        struct.pack(">ihhih", 12, ApiKey.PRODUCE, 7, 1, -1) + b"xx",
        struct.pack(">ihhih", 12, ApiKey.METADATA, 1, 1, -1) + b"xx",
    ],
    ids=["too large", "negative", "too small", "no api", "no version", "old produce", "not served", "produce", "other"],
)
async def test_malformed_frame_closes_the_connection_with_one_line(
    data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path, client = await a_path()
    with caplog.at_level(logging.INFO):
        client.feed(data + b"more that is never looked at")
    await asyncio.sleep(0)

    assert client.was_lost or client.is_closing()
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    await path.close()


async def test_api_versions_newer_than_ours_is_answered_in_version_0() -> None:
    path, client = await a_path()
    client.feed(struct.pack(">ihhihb", 11, ApiKey.API_VERSIONS, 9, 77, -1, 0))
    (frame,) = client.frames()
    response = decode_whole(ApiVersionsResponse, 0, memoryview(frame), 4)

    assert int.from_bytes(frame[:4], "big") == 77
    assert response.error_code == ErrorCode.UNSUPPORTED_VERSION
    listed = {api.api_key: (api.min_version, api.max_version) for api in response.api_keys}
    assert listed == {ApiKey.API_VERSIONS: (0, 4)}
    await path.close()


async def test_idle_connection_is_closed() -> None:
    path, client = await a_path(idle_ms_max=5000)
    busy = path.connect()
    for _ in range(8):
        await busy.call(ApiKey.LIST_OFFSETS, 7, list_offsets())
        await asyncio.sleep(1)

    assert client.was_lost
    assert not busy.was_lost
    await path.close()


async def test_waiting_fetch_is_not_idle() -> None:
    path, client = await a_path(idle_ms_max=5000)
    sent = client.send(ApiKey.FETCH, 12, fetch_request(0, max_wait=9000))
    await asyncio.sleep(9.1)

    assert sent in client.answers()
    await path.close()


async def test_handler_that_fails_is_answered_or_ends_the_connection(caplog: pytest.LogCaptureFixture) -> None:
    path, client = await a_path()
    path.services.groups = None  # type: ignore[assignment]
    answered = await client.call(ApiKey.HEARTBEAT, 4, APIS[ApiKey.HEARTBEAT].request_class())

    assert answered.error_code == ErrorCode.UNKNOWN_SERVER_ERROR
    assert "failed unexpectedly" in caplog.text
    await path.close()


async def test_requests_are_counted() -> None:
    path, client = await a_path()
    await client.call(ApiKey.PRODUCE, 9, produce())
    await client.call(ApiKey.LIST_OFFSETS, 7, list_offsets())

    assert path.server.metrics.count(ApiKey.PRODUCE) == 1
    text = path.engine.metrics.render().decode()
    assert 'automq_request_seconds_count{api="ListOffsets"} 1.0' in text
    assert "automq_network_in_bytes_total" in text
    await path.close()


@pytest.mark.parametrize("key", [ApiKey.PRODUCE, ApiKey.FETCH, ApiKey.LIST_OFFSETS])
async def test_b15_bytes_behind_a_request_are_ignored(key: ApiKey) -> None:
    path, client = await a_path()
    version = {ApiKey.PRODUCE: 9, ApiKey.FETCH: 12, ApiKey.LIST_OFFSETS: 7}[key]
    requests = {
        ApiKey.PRODUCE: produce_request(build_batch([b"v"], timestamp_ms=0)),
        ApiKey.FETCH: fetch_request(0),
        ApiKey.LIST_OFFSETS: ListOffsetsRequest(),
    }
    frame = bytearray(encode_request(APIS[key], version, 5, "test", requests[key]) + b"more")
    frame[:4] = (len(frame) - 4).to_bytes(4, "big")
    client.feed(bytes(frame))
    for _ in range(100):
        await asyncio.sleep(0.01)
        if frames := client.frames():
            break
    assert frames[0][:4] == (5).to_bytes(4, "big")
    assert not client.was_lost
    await path.close()
