"""Memory for what connections receive: half-sent requests, those that wait, and those that become objects."""

import asyncio
import logging
import struct
from typing import Any

import pytest

from automq.protocol.apis import ApiKey
from automq.protocol.messages.discovery import (
    ApiVersionsRequest,
    MetadataRequest,
    MetadataRequestTopic,
)
from automq.runtime.ledger import Account
from tests.support.batches import build_batch
from tests.support.data_path import TOPIC, fetch_request, produce_request
from tests.support.gated_path import Gate, a_path

pytestmark = pytest.mark.looptime


def produce(value: bytes = b"v", *, partition: int = 0) -> Any:
    return produce_request(build_batch([value], timestamp_ms=0), partition=partition)


def half_sent(size: int, *, part: int) -> bytes:
    """The beginning of a Produce request."""
    head = struct.pack(">ihhih", size, ApiKey.PRODUCE, 9, 1, -1)
    return head + bytes(part - len(head))


async def test_a7_f6_half_sent_requests_are_bounded_and_others_go_on() -> None:
    path, client = await a_path(memory={Account.RECEIVE: 16 * 1024 * 1024})
    account = path.engine.memory[Account.RECEIVE]
    stalled = [path.connect() for _ in range(60)]
    for peer in stalled:
        peer.feed(half_sent(9_000_000, part=5_000_000))
    await asyncio.sleep(0.1)

    assert account.used <= account.limit
    assert sum(peer.is_reading() for peer in stalled) == 1
    before = asyncio.get_running_loop().time()
    await client.call(ApiKey.PRODUCE, 9, produce(bytes(50_000)))
    assert asyncio.get_running_loop().time() - before < 0.2
    for peer in stalled:
        peer.disconnect()
    await asyncio.sleep(0)
    assert account.used == path.server.buffers.spare_bytes
    await path.close()


async def test_a7_request_that_does_not_come_in_is_closed_and_said(caplog: pytest.LogCaptureFixture) -> None:
    path, client = await a_path()
    slow = path.connect()
    slow.feed(half_sent(9_000_000, part=5_000_000))
    await asyncio.sleep(29)
    assert not slow.was_lost
    with caplog.at_level(logging.WARNING):
        await asyncio.sleep(3)

    assert slow.was_lost
    assert not client.was_lost
    assert "a request of 9000004 bytes does not come in: 5000000 have arrived" in caplog.text
    assert b"automq_requests_stalled_total 1.0" in path.engine.metrics.render()
    await path.close()


async def test_one_byte_at_a_time_is_no_way_to_keep_a_connection() -> None:
    path, client = await a_path()
    data = half_sent(9000, part=9004)
    lost_at = None
    for second, byte in enumerate(data[:200]):
        client.feed(bytes([byte]))
        await asyncio.sleep(1)
        if client.was_lost:
            lost_at = second
            break

    assert lost_at is not None
    assert 30 <= lost_at < 35
    await path.close()


async def test_short_requests_may_come_in_slowly() -> None:
    path, client = await a_path()
    request = struct.pack(">ihhih", 10, ApiKey.API_VERSIONS, 0, 1, -1)
    for byte in request:
        client.feed(bytes([byte]))
        await asyncio.sleep(29)

    assert len(client.frames()) == 1
    await path.close()


async def test_requests_put_aside_for_want_of_room_count_as_received() -> None:
    gate = Gate()
    path, client = await a_path(store=gate.store, memory={Account.RECEIVE: 16 * 1024 * 1024})
    account = path.engine.memory[Account.RECEIVE]
    clients = [path.connect() for _ in range(40)]
    for producer in clients:
        for _ in range(30):
            producer.send(ApiKey.PRODUCE, 9, produce(bytes(50_000)))
    await asyncio.sleep(0.5)
    waiting = [producer for producer in clients if not producer.is_reading()]

    assert len(waiting) > 30
    assert 0 < account.used <= account.limit
    await client.call(ApiKey.API_VERSIONS, 0, ApiVersionsRequest())
    gate.open.set()
    for _ in range(600):
        await asyncio.sleep(0.5)
        if path.partitions.get(TOPIC, 0).high_watermark == 1200:
            break
    assert path.partitions.get(TOPIC, 0).high_watermark == 1200
    assert account.used == path.server.buffers.spare_bytes
    await path.close()


async def test_pipelined_requests_that_wait_for_one_answer_are_bounded() -> None:
    path, client = await a_path(memory={Account.RECEIVE: 16 * 1024 * 1024})
    waiting = client.send(ApiKey.FETCH, 12, fetch_request(0, max_wait=5000))
    for _ in range(20_000):
        client.send(ApiKey.API_VERSIONS, 0, ApiVersionsRequest())
    assert not client.is_reading()
    assert path.engine.memory[Account.RECEIVE].used <= 256 * 1024
    await asyncio.sleep(6)

    assert waiting in client.answers()
    for _ in range(20_000):
        if not client._incoming:
            break
        await asyncio.sleep(0.001)
        client.frames()
    assert path.engine.memory[Account.RECEIVE].used <= 256 * 1024
    await path.close()


def wide_metadata(names: int) -> MetadataRequest:
    return MetadataRequest(
        topics=[MetadataRequestTopic(name="a") for _ in range(names)], allow_auto_topic_creation=False
    )


async def test_requests_that_become_many_objects_are_answered_one_after_the_other() -> None:
    path, client = await a_path(memory={Account.RECEIVE: 16 * 1024 * 1024})
    decoded = path.server.receiving.decoded
    clients = [path.connect() for _ in range(10)]
    sent = [peer.send(ApiKey.METADATA, 9, wide_metadata(100_000)) for peer in clients]
    one = decoded.used
    assert 20 * 300_000 < one < 20 * 300_100
    assert sum(peer.is_reading() for peer in clients) == 1

    for peer, number in zip(clients, sent, strict=True):
        assert len((await peer.answer(number)).topics) > 0
        assert decoded.used <= one
    assert decoded.used == 0
    await path.close()


async def test_request_without_records_is_refused_when_it_is_very_large(caplog: pytest.LogCaptureFixture) -> None:
    path, client = await a_path(memory={Account.RECEIVE: 16 * 1024 * 1024})
    with caplog.at_level(logging.WARNING):
        client.send(ApiKey.METADATA, 9, wide_metadata(400_000))
        await asyncio.sleep(0)

    assert client.was_lost
    assert "a frame of 12000" in caplog.text
    assert "10 to 1048576 are accepted" in caplog.text
    await path.close()
