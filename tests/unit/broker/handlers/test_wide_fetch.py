"""A Fetch of very many partitions is answered as any other, in turns."""

import asyncio
from typing import Any

import pytest

from automq.handlers import wide_fetch
from automq.protocol.apis import APIS, ApiKey, encode_request
from automq.protocol.errors import ErrorCode
from automq.protocol.messages.fetch import FetchRequest
from tests.support.batches import build_batch
from tests.support.data_path import DataPath, MemoryTransport, fetch_request
from tests.support.reading import TOPIC, VERSION, parts, put, values
from tests.support.turns import LIMIT_MS, measure

pytestmark = pytest.mark.looptime

WIDE = 4_000
MANY = 700
"""Partitions: more than `WIDE_TARGETS`, and more than fit `WIDE_BYTES`."""


async def a_wide_path(partitions: int = MANY) -> DataPath:
    path = await DataPath().start()
    path.create_topic(partitions=partitions)
    while len(path.partitions.all()) < partitions:
        await asyncio.sleep(0.01)
    return path


def append(path: DataPath, partition: int, value: bytes = b"late") -> None:
    """Durable when the loop turns."""
    found = path.partitions.get(TOPIC, partition)
    found.append(memoryview(bytearray(build_batch([value], timestamp_ms=0))))


def with_data(response: Any) -> dict[int, list[bytes]]:
    return {part.partition_index: values(part) for part in parts(response) if part.records}


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def is_idle(path: DataPath) -> bool:
    purgatory = path.partitions.purgatory
    return not (len(purgatory) or purgatory._watched or purgatory._ticks or purgatory._complete)


async def answered(path: DataPath, request: FetchRequest, version: int) -> Any:
    """The answer, and nothing of the client that asked is left."""
    client = path.connect()
    response = await client.call(ApiKey.FETCH, version, request)
    client.disconnect()
    return response


@pytest.mark.parametrize("version", [4, 6, 11, 12, 16])
@pytest.mark.parametrize("wait", [0, 200])
async def test_answer_is_that_of_a_request_that_is_not_wide(
    version: int, wait: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = await a_wide_path()
    for partition in range(0, MANY, 3):
        append(path, partition, b"%d" % partition)
    await asyncio.sleep(0.1)
    # At data, at the end, above it; partitions that are not there; and a limit that data do not fit into.
    offsets = [(0, 1, 9)[n % 7 % 3] if n % 3 == 0 else (0, 5)[n % 11 == 0] for n in range(MANY + 5)]
    topic = path.partitions.get(TOPIC, 0)
    answers = []
    for is_wide in (True, False):
        if not is_wide:
            monkeypatch.setattr(wide_fetch, "WIDE_BYTES", 1 << 30)
            monkeypatch.setattr(wide_fetch, "WIDE_TARGETS", 1 << 30)
        request = fetch_request(*offsets, max_wait=wait, max_bytes=10_000)
        if version >= 13:
            request.topics[0].topic_id = topic.topic_id
            request.topics[0].topic = ""
        answers.append(await answered(path, request, version))

    assert answers[0] == answers[1]
    assert {part.error_code for part in parts(answers[0])} >= {ErrorCode.NONE, ErrorCode.OFFSET_OUT_OF_RANGE}
    assert 10 < len(with_data(answers[0])) < MANY // 3
    assert is_idle(path)
    await path.close()


class SlowPace:
    """Turns that take a millisecond each."""

    async def spend(self, _part_us: int) -> None:
        await asyncio.sleep(0.001)


@pytest.mark.parametrize("partition", [0, MANY // 2, MANY - 1])
async def test_data_that_come_in_any_turn_end_the_waiting(partition: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wide_fetch, "Pace", SlowPace)
    path = await a_wide_path()
    found = path.partitions.get(TOPIC, partition)
    while_parking = 0
    for number in range(40):
        client = path.connect()
        offset = found.high_watermark
        request = fetch_request(*[0] * partition, offset, *[0] * (MANY - 1 - partition), max_wait=60_000)
        sent = client.send(ApiKey.FETCH, VERSION, request)
        # It takes eleven milliseconds until it is parked, and an append is durable within one.
        await asyncio.sleep(number * 0.0004)
        while_parking += len(path.partitions.purgatory._watched) < MANY
        append(path, partition)
        assert with_data(await client.answer(sent)) == {partition: [b"late"]}
    assert while_parking
    assert is_idle(path)
    await path.close()


async def test_waiting_ends_in_time_and_when_there_is_enough() -> None:
    path = await a_wide_path()
    loop = asyncio.get_running_loop()
    began = loop.time()
    assert with_data(await answered(path, fetch_request(*[0] * MANY, max_wait=500), VERSION)) == {}
    assert 0.5 <= loop.time() - began < 0.7

    client = path.connect()
    sent = client.send(ApiKey.FETCH, VERSION, fetch_request(*[0] * MANY, max_wait=60_000, min_bytes=200))
    await asyncio.sleep(0.1)
    append(path, 3)
    await asyncio.sleep(1)
    assert client.answers() == {}
    for other in (4, 5, MANY - 1):
        append(path, other)
    assert {3, 4, 5} <= set(with_data(await client.answer(sent)))
    assert is_idle(path)
    await path.close()


async def test_session_of_many_partitions_is_told_what_is_new_alone() -> None:
    path = await a_wide_path()
    client = path.connect()
    opened = await client.call(ApiKey.FETCH, VERSION, fetch_request(*[0] * MANY, session_epoch=0))
    assert len(parts(opened)) == MANY
    quiet = fetch_request(session_id=opened.session_id, session_epoch=1)
    assert parts(await client.call(ApiKey.FETCH, VERSION, quiet)) == []
    sent = client.send(
        ApiKey.FETCH, VERSION, fetch_request(session_id=opened.session_id, session_epoch=2, max_wait=60_000)
    )
    await asyncio.sleep(0.2)
    append(path, MANY - 1)
    assert with_data(await client.answer(sent)) == {MANY - 1: [b"late"]}
    # All of it asked for anew, in the same session, and again what waits may be asked for once more.
    moved = fetch_request(*[0] * (MANY - 1), 1, session_id=opened.session_id, session_epoch=3)
    assert parts(await client.call(ApiKey.FETCH, VERSION, moved)) == []
    for epoch in (4, 5, 6):
        again = fetch_request(session_id=opened.session_id, session_epoch=epoch, max_wait=50)
        assert parts(await client.call(ApiKey.FETCH, VERSION, again)) == []
    assert path.server.services.fetch_sessions.partitions == MANY
    assert is_idle(path)
    await path.close()


@pytest.mark.parametrize("after", [0, 1, 3, 8, 13, 55])
async def test_nothing_is_left_of_a_client_that_is_gone(after: int) -> None:
    path = await a_wide_path()
    tasks = len(path.tasks)
    append(path, 1)
    client = path.connect()
    client.send(ApiKey.FETCH, VERSION, fetch_request(*[1] * MANY, max_wait=60_000))
    await turns(after)
    client.disconnect()
    await asyncio.sleep(0.1)

    assert is_idle(path)
    assert len(path.tasks) == tasks
    await path.close()


@pytest.mark.parametrize("after", [0, 1, 3, 8, 13, 55])
async def test_drain_hastens_it_in_any_turn(after: int) -> None:
    path = await a_wide_path()
    client = path.connect()
    sent = client.send(ApiKey.FETCH, VERSION, fetch_request(*[0] * MANY, max_wait=60_000))
    await turns(after)
    client.connection.hasten()

    assert with_data(await client.answer(sent)) == {}
    assert is_idle(path)
    await path.close()


async def test_request_that_is_not_well_formed_closes_its_connection() -> None:
    path = await a_wide_path(1)
    client = path.connect()
    frame = encode_request(APIS[ApiKey.FETCH], VERSION, 1, "test", fetch_request(*[0] * MANY))
    body = frame[4:-40]
    client.feed(len(body).to_bytes(4, "big") + body)
    await asyncio.sleep(0.1)
    assert client.was_lost
    await path.close()


async def test_requests_behind_it_are_answered_behind_it() -> None:
    path = await a_wide_path()
    client = path.connect()
    wide = [client.send(ApiKey.FETCH, VERSION, fetch_request(*[0] * MANY)) for _ in range(3)]
    narrow = client.send(ApiKey.FETCH, VERSION, fetch_request(0))
    await client.answer(wide[0])
    while narrow not in client.order:
        client.answers()
        await asyncio.sleep(0.001)
    assert client.order == [*wide, narrow]
    await path.close()


async def test_what_lies_in_objects_is_read_for_it() -> None:
    path = await a_wide_path()
    producer = path.connect()
    await put(producer, *[bytes(20_000)] * 40, partition=7)
    await path.engine.storage.upload.flush()
    while path.partitions.get(TOPIC, 7).measure_cached(0, 1) is not None:  # type: ignore[arg-type]
        await put(producer, *[bytes(20_000)] * 20, partition=8)
        await path.engine.storage.upload.flush()
    response = await answered(path, fetch_request(*[0] * MANY, max_wait=60_000), VERSION)
    assert 7 in with_data(response)
    await path.close()


async def test_who_may_read_nothing_is_refused_in_turns() -> None:
    path = await a_wide_path()
    client: MemoryTransport = path.connect()
    session = client.connection._session

    class Refusing(type(session)):  # type: ignore[misc]
        __slots__ = ()
        has_rules = True

        def allows_every(self, *_: object) -> bool:
            return False

        def allows(self, *_: object) -> bool:
            return False

        def throttle(self, *_: object) -> int:
            return 0

    session.__class__ = Refusing
    response = await client.call(ApiKey.FETCH, VERSION, fetch_request(*[0] * MANY, max_wait=60_000))
    assert [part.error_code for part in parts(response)] == [ErrorCode.TOPIC_AUTHORIZATION_FAILED] * MANY
    await path.close()


@pytest.mark.parametrize("version", [4, VERSION])
async def test_turns_of_thousands_of_partitions_are_bounded(version: int) -> None:
    # At one go an answer with data takes more than twenty milliseconds.
    path = await a_wide_path(WIDE)
    for partition in range(WIDE):
        append(path, partition, b"v" * 100)
        if partition % 500 == 0:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    for offset, wait in ((0, 0), (1, 0), (1, 100), (9, 0)):
        frame = encode_request(APIS[ApiKey.FETCH], version, 1, "test", fetch_request(*[offset] * WIDE, max_wait=wait))

        async def prepare(frame: bytes = frame) -> Any:
            client = path.connect()

            async def work() -> None:
                asyncio.get_running_loop().call_soon(client.feed, frame)
                while len(client.written) < 4 or len(client.written) < 4 + int.from_bytes(client.written[:4], "big"):
                    await asyncio.sleep(0.001)
                client.disconnect()

            return work

        longest = await measure(prepare)
        assert longest.turn_ms <= LIMIT_MS, (offset, wait, longest)
        assert longest.turns > 15
    assert is_idle(path)
    await path.close()
