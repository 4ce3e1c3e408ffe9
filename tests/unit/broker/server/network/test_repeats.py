"""The Fetch that is sent again and again: begun in short, answered as if it were not."""

import asyncio
import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import pytest

from automq.handlers import repeated_fetch
from automq.handlers.fetch import FetchHandler
from automq.ids import BrokerEpoch
from automq.metadata.image import QuarantineCause
from automq.protocol.apis import APIS, ApiKey, encode_request
from automq.protocol.messages.fetch import ListOffsetsRequest
from automq.security.session import Session
from automq.server.network.connection import Connection
from tests.support.batches import build_batch
from tests.support.data_path import TOPIC, DataPath, MemoryTransport, fetch_request, produce_request
from tests.support.engine import NODE
from tests.support.reading import VERSION, a_path, parts, put, values

pytestmark = pytest.mark.looptime

WAIT_MS = 500


class Counted:
    """How often a request was begun in short."""

    def __init__(self) -> None:
        self.count = 0

    def wrap(self, connection: Connection) -> bool:
        is_done = ORIGINAL(connection)
        self.count += is_done
        return is_done


ORIGINAL = Connection._repeat


@pytest.fixture
def repeated() -> Iterator[Counted]:
    counted = Counted()
    with patch.object(Connection, "_repeat", lambda self: counted.wrap(self)):
        yield counted


async def poll(client: MemoryTransport, *offsets: int, session: int = 0, epoch: int = -1, **fields: Any) -> Any:
    request = fetch_request(*offsets, max_wait=WAIT_MS, session_id=session, session_epoch=epoch, **fields)
    return await client.call(ApiKey.FETCH, VERSION, request)


async def open_session(client: MemoryTransport, *offsets: int) -> int:
    session: int = (await poll(client, *offsets, epoch=0)).session_id
    assert session
    return session


@pytest.mark.parametrize("version", [12, 13, 14, 15, 16, 17, 18])
async def test_idle_consumer_with_a_session_is_answered_without_being_parsed(version: int, repeated: Counted) -> None:
    path, client = await a_path()
    topic = path.metadata.image.topic(TOPIC)
    assert topic is not None
    opening = fetch_request(0, topic=topic if version >= 13 else TOPIC, max_wait=WAIT_MS, session_epoch=0)
    session = (await client.call(ApiKey.FETCH, version, opening)).session_id
    for epoch in range(1, 6):
        request = fetch_request(max_wait=WAIT_MS, session_id=session, session_epoch=epoch)
        answer = await client.call(ApiKey.FETCH, version, request)
        assert (answer.error_code, answer.session_id, answer.responses) == (0, session, [])

    assert repeated.count == 4
    assert path.server.metrics.count(ApiKey.FETCH) == 6
    await path.close()


async def test_idle_consumer_without_a_session_is_told_the_same_each_time(repeated: Counted) -> None:
    path, client = await a_path()
    answers = [await poll(client, 0) for _ in range(4)]

    assert all(answer == answers[0] for answer in answers)
    assert repeated.count == 3
    await path.close()


async def test_what_comes_while_it_waits_again_is_given(repeated: Counted) -> None:
    path, client = await a_path()
    session = await open_session(client, 0)
    await poll(client, session=session, epoch=1)
    sent = client.send(ApiKey.FETCH, VERSION, fetch_request(max_wait=WAIT_MS, session_id=session, session_epoch=2))
    assert repeated.count == 1
    await put(path.connect(), b"late")

    assert values(parts(await client.answer(sent))[0]) == [b"late"]
    await path.close()


async def test_what_is_there_already_is_given_at_once(repeated: Counted) -> None:
    path, client = await a_path()
    session = await open_session(client, 0)
    await poll(client, session=session, epoch=1)
    await put(path.connect(), b"now")
    request = fetch_request(max_wait=WAIT_MS, session_id=session, session_epoch=2)
    sent = client.send(ApiKey.FETCH, VERSION, request)

    # In the same turn, as any request.
    assert values(parts(client.answers()[sent])[0]) == [b"now"]
    await path.close()


async def test_wrong_epoch_and_a_session_that_is_gone_are_refused(repeated: Counted) -> None:
    path, client = await a_path()
    session = await open_session(client, 0)
    await poll(client, session=session, epoch=1)
    assert (await poll(client, session=session, epoch=7)).error_code == 71
    path.services.fetch_sessions._remove(session)
    assert (await poll(client, session=session, epoch=2)).error_code == 70
    assert client.connection._queue.slots == type(client.connection._queue.slots)()
    await path.close()


async def test_request_without_a_session_does_not_get_the_one_it_opened_before(repeated: Counted) -> None:
    path, client = await a_path()
    await poll(client, 0, epoch=0)
    answer = await poll(client, 0, epoch=-1)

    assert repeated.count == 1
    assert (answer.session_id, [partition.partition_index for partition in parts(answer)]) == (0, [0])
    await path.close()


async def test_other_request_in_between_and_two_in_one_read_take_the_long_way(repeated: Counted) -> None:
    path, client = await a_path()
    session = await open_session(client, 0)
    await poll(client, session=session, epoch=1)
    await client.call(ApiKey.LIST_OFFSETS, 1, ListOffsetsRequest(replica_id=-1, topics=[]))
    await poll(client, session=session, epoch=2)
    assert repeated.count == 1
    frames = [
        encode_request(
            APIS[ApiKey.FETCH],
            VERSION,
            100 + epoch,
            "test",
            fetch_request(max_wait=WAIT_MS, session_id=session, session_epoch=epoch),
        )
        for epoch in (3, 4)
    ]
    client._answers |= {103: (ApiKey.FETCH, VERSION), 104: (ApiKey.FETCH, VERSION)}
    client.feed(b"".join(frames))
    assert (await client.answer(103)).error_code == 0
    assert (await client.answer(104)).error_code == 0
    assert repeated.count == 1
    await path.close()


async def test_draining_broker_begins_none(repeated: Counted) -> None:
    path, client = await a_path()
    session = await open_session(client, 0)
    await poll(client, session=session, epoch=1)
    path.server.is_draining = True
    client.send(ApiKey.FETCH, VERSION, fetch_request(max_wait=WAIT_MS, session_id=session, session_epoch=2))

    assert (repeated.count, len(path.partitions.purgatory)) == (0, 0)
    await path.close()


async def test_connection_that_is_lost_takes_its_wait_along(repeated: Counted) -> None:
    path, client = await a_path()
    session = await open_session(client, 0)
    await poll(client, session=session, epoch=1)
    client.send(ApiKey.FETCH, VERSION, fetch_request(max_wait=WAIT_MS, session_id=session, session_epoch=2))
    assert (repeated.count, len(path.partitions.purgatory)) == (1, 1)
    client.disconnect()

    assert len(path.partitions.purgatory) == 0
    await path.close()


class Quotas:
    """Everybody waits a second for each Fetch."""

    def throttle_ms(self, session: Session, api_key: int, size: int) -> int:
        return 1000 if api_key == ApiKey.FETCH else 0


async def test_client_is_muted_by_its_quota(repeated: Counted) -> None:
    path = await DataPath().start()
    path.create_topic()
    path.server.services = replace(path.services, quotas=Quotas())
    client = path.connect()
    session = await open_session(client, 0)
    for epoch in (1, 2, 3):
        answer = await poll(client, session=session, epoch=epoch)
        assert answer.throttle_time == 1000
        assert not client.is_reading()
    await path.close()


@pytest.mark.parametrize(("version", "partitions"), [(11, 1), (12, 40)])
async def test_old_versions_and_long_requests_are_not_kept(version: int, partitions: int, repeated: Counted) -> None:
    path, client = await a_path(partitions=partitions)
    for _ in range(3):
        request = fetch_request(*[0] * partitions, max_wait=WAIT_MS)
        assert len(parts(await client.call(ApiKey.FETCH, version, request))) == partitions

    assert (repeated.count, client.connection._repeats.frame_bytes) == (0, 0)
    await path.close()


async def _history(seed: int) -> list[tuple[int, bytes]]:
    """Answers of some consumers beside a producer; the same for each seed."""
    random_of = random.Random(seed)
    path, producer = await a_path(partitions=3)
    answers: list[tuple[int, bytes]] = []
    clients = [path.connect() for _ in range(3)]
    sessions = [await open_session(client, 0, 0, 0) for client in clients]
    epochs, offsets, ends = [1, 1, 1], [[0, 0, 0] for _ in clients], [0, 0, 0]
    for _ in range(40):
        number = random_of.randrange(3)
        client = clients[number]
        kind = random_of.choice(["idle"] * 7 + ["named"] * 3 + ["put", "full", "wrong"])
        if kind == "put":
            index = random_of.randrange(3)
            ends[index] += 1
            batch = build_batch([b"x" * random_of.randrange(50)], timestamp_ms=0)
            await producer.call(ApiKey.PRODUCE, 9, produce_request(batch, partition=index))
            continue
        fields: dict[str, Any] = {"max_wait": 100, "session_id": sessions[number], "session_epoch": epochs[number]}
        named: list[int] = []
        if kind == "named":
            named = list(ends)
            offsets[number] = named
        elif kind == "full":
            fields |= {"session_id": 0, "session_epoch": -1}
            named = offsets[number]
        elif kind == "wrong":
            fields["session_epoch"] += 1
        sent = client.send(ApiKey.FETCH, VERSION, fetch_request(*named, **fields))
        while sent not in client.order:
            for frame in client.frames():
                client.order.append(sent)
                answers.append((number, frame[4:].replace(sessions[number].to_bytes(4, "big"), b"SESS")))
            await asyncio.sleep(0.01)
        if kind in ("idle", "named"):
            epochs[number] += 1
    await path.close()
    return answers


@pytest.mark.parametrize("seed", range(5))
async def test_short_way_and_long_way_give_the_same_answers(seed: int, repeated: Counted) -> None:
    in_short = await _history(seed)
    assert repeated.count
    with patch.object(Connection, "_repeat", lambda _: False):
        assert await _history(seed) == in_short


async def test_who_comes_back_in_vain_is_not_looked_up_again(
    repeated: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, client = await a_path()
    session = await open_session(client, 0)
    await poll(client, session=session, epoch=1)
    monkeypatch.setattr(FetchHandler, "_rooms_of", None)
    for epoch in range(2, 6):
        assert (await poll(client, session=session, epoch=epoch)).responses == []

    assert repeated.count == 4
    await path.close()


async def test_what_came_between_two_requests_is_given_at_once_though_the_first_rests(repeated: Counted) -> None:
    path, client = await a_path()
    session = await open_session(client, 0)
    await poll(client, session=session, epoch=1)
    await poll(client, session=session, epoch=2)
    assert path.partitions.purgatory._watched
    await put(path.connect(), b"between")
    assert not path.partitions.purgatory._watched
    request = fetch_request(max_wait=WAIT_MS, session_id=session, session_epoch=3)
    sent = client.send(ApiKey.FETCH, VERSION, request)

    assert values(parts(client.answers()[sent])[0]) == [b"between"]
    await path.close()


async def test_quarantine_between_two_requests_is_told_at_once_though_the_first_rests(repeated: Counted) -> None:
    path, client = await a_path()
    session = await open_session(client, 0)
    await poll(client, session=session, epoch=1)
    cause = QuarantineCause(key="slot", reason="damaged", at_ms=0, wal=(NODE, BrokerEpoch(1)))
    path.partitions.get(TOPIC, 0).set_causes([cause])
    request = fetch_request(max_wait=WAIT_MS, session_id=session, session_epoch=2)
    sent = client.send(ApiKey.FETCH, VERSION, request)

    assert parts(client.answers()[sent])[0].error_code
    await path.close()


@pytest.mark.parametrize("does_ask", [True, False])
async def test_nothing_is_watched_for_one_that_is_gone_or_asks_for_something_else(
    repeated: Counted, does_ask: bool
) -> None:
    path, client = await a_path()
    session = await open_session(client, 0)
    await poll(client, session=session, epoch=1)
    assert path.partitions.purgatory._watched
    if does_ask:
        await poll(client, session=session, epoch=-1)
    else:
        client.disconnect()

    assert not path.partitions.purgatory._watched
    await path.close()


async def the_same_polls(dice: random.Random) -> list[Any]:
    """What a consumer of two partitions is answered, while now and then something is written."""
    path, client = await a_path(partitions=2)
    producer, offsets, has_moved, answers = path.connect(), [0, 0], False, [await poll(client, 0, 0, epoch=0)]
    for epoch in range(1, 60):
        if dice.random() < 0.2:
            await put(producer, b"%d" % epoch, partition=dice.randrange(2))
        asked = offsets if has_moved or dice.random() < 0.2 else []
        request = fetch_request(*asked, max_wait=WAIT_MS, session_id=answers[0].session_id, session_epoch=epoch)
        sent = client.send(ApiKey.FETCH, VERSION, request)
        if dice.random() < 0.2:
            await put(producer, b"late %d" % epoch, partition=dice.randrange(2))
        answer = await client.answer(sent)
        has_moved = False
        for part in parts(answer):
            if part.records:
                offsets[part.partition_index] += len(values(part))
                has_moved = True
        answers.append(answer)
    await path.close()
    return [(answer.error_code, answer.responses) for answer in answers]


@pytest.mark.parametrize("seed", range(5))
async def test_answers_with_rest_and_without_are_the_same(
    seed: int, repeated: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    resting = await the_same_polls(random.Random(seed))
    assert repeated.count > 10
    monkeypatch.setattr(repeated_fetch, "RESTING_TARGETS_MAX", 0)

    assert await the_same_polls(random.Random(seed)) == resting
    assert any(responses for _, responses in resting[1:])
