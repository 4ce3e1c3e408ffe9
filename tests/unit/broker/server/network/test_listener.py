"""All connections together: limits, draining, the end."""

import asyncio
import logging
from unittest.mock import patch

import pytest

from automq.protocol.apis import ApiKey
from automq.s3stream.model import BrokerFenced
from automq.s3stream.store.memory import MemoryStore
from automq.server.network.admission import ConnectionLimits
from automq.server.network.connection import Connection
from automq.server.network.host import ListenerSettings
from automq.server.network.listener import LAST_ANSWERS_S
from tests.support.batches import build_batch
from tests.support.data_path import TOPIC, DataPath, fetch_request, produce_request
from tests.support.engine import HeldStore

pytestmark = pytest.mark.looptime


async def test_connections_are_bounded() -> None:
    path = await DataPath(listener=ListenerSettings(connections=ConnectionLimits(connections_max=2))).start()
    clients = [path.connect() for _ in range(3)]
    await asyncio.sleep(0)

    assert [client.was_lost for client in clients] == [False, False, True]
    clients[0].disconnect()
    assert not path.connect().is_closing()
    await path.close()


async def test_draining_answers_what_is_in_flight_and_starts_nothing() -> None:
    store = HeldStore(MemoryStore())
    gate = asyncio.Event()

    async def before(name: str, key: str) -> None:
        await gate.wait()

    store.before = before
    path = await DataPath(store=store).start()
    path.create_topic()
    producer, consumer = path.connect(), path.connect()
    request = produce_request(build_batch([b"v"], timestamp_ms=0))
    sent = producer.send(ApiKey.PRODUCE, 9, request)
    waiting = consumer.send(ApiKey.FETCH, 12, fetch_request(0, max_wait=60_000))
    draining = asyncio.ensure_future(path.server.drain())
    await asyncio.sleep(0.1)
    assert waiting in consumer.answers()
    assert not draining.done()
    producer.send(ApiKey.PRODUCE, 9, request)
    gate.set()
    await draining

    assert sent in producer.answers()
    assert path.partitions.get(TOPIC, 0).next_offset == 1
    await path.close()


async def test_draining_without_connections_is_done_at_once() -> None:
    path = await DataPath().start()
    await path.server.drain()
    await path.close()


async def test_connection_that_is_lost_ends_the_drain() -> None:
    store = HeldStore(MemoryStore())

    async def before(name: str, key: str) -> None:
        await asyncio.Event().wait()

    store.before = before
    path = await DataPath(store=store).start()
    path.create_topic()
    client = path.connect()
    client.send(ApiKey.PRODUCE, 9, produce_request(build_batch([b"v"], timestamp_ms=0)))
    draining = asyncio.ensure_future(path.server.drain())
    await asyncio.sleep(1)
    assert not draining.done()
    client.disconnect()
    await draining
    path.engine.storage.halt(BrokerFenced("a test"))


async def test_nobody_is_let_in_while_draining(caplog: pytest.LogCaptureFixture) -> None:
    path = await DataPath().start()
    await path.server.drain()
    client = path.connect()
    await asyncio.sleep(0)

    assert client.was_lost
    assert "are open already" not in caplog.text, "no limit was reached"
    await path.close()


async def test_a4_answers_that_are_not_taken_do_not_keep_the_drain(caplog: pytest.LogCaptureFixture) -> None:
    path = await DataPath().start()
    path.create_topic()
    stalled, reading = path.connect(), path.connect()
    await reading.call(ApiKey.PRODUCE, 9, produce_request(build_batch([b"v" * 1000], timestamp_ms=0)))
    stalled.is_slow = True
    sent = [client.send(ApiKey.FETCH, 12, fetch_request(0)) for client in (stalled, stalled, reading)]
    loop = asyncio.get_running_loop()
    start = loop.time()
    await path.server.drain()
    assert loop.time() - start < 0.1
    assert not stalled.was_lost
    with caplog.at_level(logging.INFO):
        await path.server.flush()

    assert LAST_ANSWERS_S - 0.1 < loop.time() - start < LAST_ANSWERS_S + 0.1
    await asyncio.sleep(0)
    assert (stalled.was_lost, reading.was_lost) == (True, False)
    assert sent[2] in reading.answers()
    assert "do not take their last answers" in caplog.text
    await path.close()


async def test_a4_last_answers_that_are_taken_end_the_wait() -> None:
    path = await DataPath().start()
    path.create_topic()
    client = path.connect()
    await client.call(ApiKey.PRODUCE, 9, produce_request(build_batch([b"v" * 1000], timestamp_ms=0)))
    client.is_slow = True
    client.send(ApiKey.FETCH, 12, fetch_request(0))
    await path.server.drain()
    loop = asyncio.get_running_loop()
    start = loop.time()
    loop.call_later(0.3, client.drain)
    await path.server.flush()

    assert loop.time() - start < 0.5
    assert not client.was_lost
    await path.close()


async def test_answer_that_cannot_be_sent_for_a_bug_keeps_no_other_back() -> None:
    path = await DataPath().start()
    path.create_topic()
    clients = [path.connect() for _ in range(3)]
    for client in clients:
        client.send(ApiKey.FETCH, 12, fetch_request(0, max_wait=100))

    flush = Connection.flush

    def flush_or_fail(connection: Connection) -> None:
        if connection is clients[0].connection:
            raise RuntimeError("a bug")
        flush(connection)

    errors: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context.get("exception")))
    with patch.object(Connection, "flush", flush_or_fail):
        await asyncio.sleep(0.3)

    assert [len(client.answers()) for client in clients] == [0, 1, 1]
    assert [repr(error) for error in errors] == ["RuntimeError('a bug')"]
    await path.close()
