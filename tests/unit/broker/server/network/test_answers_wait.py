"""Answers wait while nothing shows that the broker is not fenced; checked in the turn that hands them over."""

import asyncio

import pytest

from automq.controller.contact import Contact
from automq.protocol.apis import ApiKey
from automq.protocol.messages.discovery import ApiVersionsRequest
from automq.protocol.records import Record, build_batch
from tests.support.data_path import DataPath, MemoryTransport, fetch_request, produce_request

pytestmark = pytest.mark.looptime

SESSION_S = 3.0
BATCH = build_batch([Record(key=b"k", value=b"v", timestamp=7)])


async def begin() -> tuple[DataPath, Contact, MemoryTransport]:
    path = await DataPath().start()
    path.create_topic()
    contact = Contact(session_s=SESSION_S, metadata=path.metadata, clock=path.clock)
    path.server.contact = contact
    contact.prove(path.clock.boottime())
    return path, contact, path.connect()


async def test_a_read_waits_for_a_proof_and_is_answered_then() -> None:
    path, contact, client = await begin()
    await client.call(ApiKey.PRODUCE, 9, produce_request(BATCH))
    await client.call(ApiKey.FETCH, 12, fetch_request(0))
    await asyncio.sleep(SESSION_S)

    asked = client.send(ApiKey.FETCH, 12, fetch_request(0))
    await asyncio.sleep(10)
    assert client.written == b""

    contact.prove(path.clock.boottime())
    answer = await client.answer(asked)
    assert answer.responses[0].partitions[0].high_watermark == 1
    await path.close()


async def test_an_answer_that_becomes_ready_too_late_waits_too() -> None:
    path, contact, client = await begin()
    asked = client.send(ApiKey.FETCH, 12, fetch_request(0, max_wait=2000))
    await asyncio.sleep(1.9)
    path.server.contact.fresh_until = path.clock.boottime()
    await asyncio.sleep(5)
    assert client.written == b""
    contact.prove(path.clock.boottime())
    assert (await client.answer(asked)).responses[0].partitions[0].high_watermark == 0
    await path.close()


async def test_answers_leave_in_order_and_those_of_clients_that_left_are_forgotten() -> None:
    path, contact, client = await begin()
    await asyncio.sleep(SESSION_S + 1)
    gone = path.connect()
    gone.send(ApiKey.API_VERSIONS, 3, ApiVersionsRequest())
    asked = [client.send(ApiKey.FETCH, 12, fetch_request(0))]
    asked += [client.send(ApiKey.PRODUCE, 9, produce_request(BATCH)) for _ in range(3)]
    await asyncio.sleep(1)
    assert client.written == gone.written == b""
    gone.disconnect()

    contact.prove(path.clock.boottime())
    await client.answer(asked[-1])
    assert client.order == asked
    assert gone.written == b""
    assert not contact._waiting
    await path.close()


async def test_a_proof_that_is_too_old_lets_nothing_go() -> None:
    path, contact, client = await begin()
    await asyncio.sleep(20)
    asked = client.send(ApiKey.API_VERSIONS, 3, ApiVersionsRequest())
    contact.prove(path.clock.boottime() - SESSION_S)
    await asyncio.sleep(1)
    assert client.written == b""
    contact.prove(path.clock.boottime() - SESSION_S + 0.5)
    assert (await client.answer(asked)).throttle_time == 0
    await path.close()


async def test_whoever_is_fenced_meanwhile_answers_nothing_any_more() -> None:
    path, contact, client = await begin()
    await asyncio.sleep(SESSION_S + 1)
    client.send(ApiKey.FETCH, 12, fetch_request(0))
    await asyncio.sleep(1)
    path.server.close()
    contact.prove(path.clock.boottime())
    await asyncio.sleep(1)
    assert client.written == b""
    assert client.was_lost
    await path.close()


async def test_only_what_the_requests_own_write_proves_is_exempt() -> None:
    path, contact, client = await begin()
    producer = {"producer_id": 7, "producer_epoch": 0, "base_sequence": 0}
    first = build_batch([Record(key=b"k", value=b"v", timestamp=7)], **producer)
    await asyncio.sleep(SESSION_S + 1)

    # A batch that is appended is acknowledged: it is durable, whoever the broker is by now.
    answer = await client.call(ApiKey.PRODUCE, 9, produce_request(first))
    assert answer.responses[0].partition_responses[0].base_offset == 0
    # The same again was there already, and one out of order is refused: both tell of what the broker knows.
    duplicate = client.send(ApiKey.PRODUCE, 9, produce_request(first))
    await asyncio.sleep(1)
    behind = client.send(ApiKey.PRODUCE, 9, produce_request(BATCH))
    await asyncio.sleep(1)
    assert client.written == b""
    gap = build_batch([Record(key=b"k", value=b"v", timestamp=7)], **{**producer, "base_sequence": 9})
    refused = path.connect()
    asked = refused.send(ApiKey.PRODUCE, 9, produce_request(gap))
    unknown = path.connect()
    unknown.send(ApiKey.PRODUCE, 9, produce_request(BATCH, topic="nowhere"))
    await asyncio.sleep(1)
    assert refused.written == unknown.written == b""

    contact.prove(path.clock.boottime())
    assert (await client.answer(duplicate)).responses[0].partition_responses[0].base_offset == 0
    await asyncio.sleep(1)
    assert client.order[-1] == behind or behind in client.answers()
    assert (await refused.answer(asked)).responses[0].partition_responses[0].error_code != 0
    await path.close()
