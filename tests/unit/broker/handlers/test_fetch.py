"""Fetch: what is answered, and how long it waits."""

import asyncio
from dataclasses import replace

import pytest

from automq.handlers.fetch import COLD_WAIT_S, FetchSettings
from automq.ids import NodeId, Offset, TopicId
from automq.protocol.apis import ApiKey
from automq.protocol.errors import ErrorCode
from automq.protocol.messages.fetch import PartitionData
from automq.s3stream.model import BrokerFenced
from automq.s3stream.store.memory import MemoryStore
from automq.server.network.host import ListenerSettings
from tests.support.batches import build_batch
from tests.support.data_path import TOPIC, MemoryTransport, fetch_request, produce_request
from tests.support.engine import HeldStore
from tests.support.reading import VERSION, a_path, fetch, fill, parts, put, values

pytestmark = pytest.mark.looptime


@pytest.mark.parametrize("version", range(4, 13))
async def test_records_come_back_in_every_version(version: int) -> None:
    path, client = await a_path()
    await put(client, b"a", b"b")
    (partition,) = await fetch(client, 0, version=version)

    assert values(partition) == [b"a", b"b"]
    assert (partition.error_code, partition.high_watermark, partition.last_stable_offset) == (0, 2, 2)
    assert partition.aborted_transactions is None
    await path.close()


@pytest.mark.parametrize("version", range(13, 19))
async def test_records_come_back_by_topic_id(version: int) -> None:
    path, client = await a_path()
    topic = path.metadata.image.topic(TOPIC)
    assert topic is not None
    await put(client, b"a")
    (partition,) = await fetch(client, 0, version=version, topic=topic)

    assert values(partition) == [b"a"]
    unknown = replace(topic, topic_id=TopicId(type(topic.topic_id)(int=1)))
    (partition,) = await fetch(client, 0, version=version, topic=unknown)
    assert partition.error_code == ErrorCode.UNKNOWN_TOPIC_ID
    await path.close()


async def test_read_committed_has_an_empty_list_of_aborted_transactions() -> None:
    path, client = await a_path()
    await put(client, b"a")
    (partition,) = await fetch(client, 0, isolation_level=1)

    assert (partition.aborted_transactions, values(partition)) == ([], [b"a"])
    await path.close()


async def test_only_durable_records_are_read() -> None:
    store = HeldStore(MemoryStore())
    gate = asyncio.Event()

    async def before(name: str, key: str) -> None:
        await gate.wait()

    store.before = before
    path, client = await a_path(store=store)
    path.connect().send(ApiKey.PRODUCE, 9, produce_request(build_batch([b"a"], timestamp_ms=0)))
    (partition,) = await fetch(client, 0)

    assert (values(partition), partition.high_watermark) == ([], 0)
    (partition,) = await fetch(client, 1)
    assert partition.error_code == 0
    gate.set()
    await path.close()


@pytest.mark.parametrize("offset", [-1, 3])
async def test_offset_that_is_not_there_is_out_of_range(offset: int) -> None:
    path, client = await a_path()
    await put(client, b"a", b"b")
    (partition,) = await fetch(client, offset, max_wait=10_000)

    assert (partition.error_code, partition.high_watermark) == (ErrorCode.OFFSET_OUT_OF_RANGE, -1)
    await path.close()


async def test_offset_below_the_start_is_out_of_range() -> None:
    path, client = await a_path()
    await put(client, b"a", b"b")
    await path.partitions.get(TOPIC, 0).delete_records(1)

    assert (await fetch(client, 0))[0].error_code == ErrorCode.OFFSET_OUT_OF_RANGE
    (partition,) = await fetch(client, 1)
    assert (values(partition), partition.log_start_offset) == ([b"b"], 1)
    await path.close()


@pytest.mark.parametrize("limit", ["max_bytes", "partition_max_bytes"])
async def test_who_wants_no_byte_is_given_the_first_batch(limit: str) -> None:
    path, client = await a_path()
    await put(client, b"a", b"b")
    (partition,) = await fetch(client, 0, max_wait=10_000, **{limit: 0})

    assert values(partition) == [b"a"]
    await path.close()


async def test_replica_that_is_not_known_is_refused() -> None:
    path, client = await a_path()
    await put(client, b"a")
    topic = path.metadata.image.topic(TOPIC)
    assert topic is not None
    asked = fetch_request(0, max_wait=10_000, topic=topic)
    asked.replica_id = 7
    (by_name,) = parts(await client.call(ApiKey.FETCH, 12, asked))
    asked.replica_id = -1
    asked.replica_state.replica_id = 7
    (by_id,) = parts(await client.call(ApiKey.FETCH, 17, asked))

    assert [by_name.error_code, by_id.error_code] == [ErrorCode.NOT_LEADER_OR_FOLLOWER] * 2
    await path.close()


@pytest.mark.parametrize("version", [4, 12, 13, 18])
async def test_isolation_level_that_is_none_is_refused_as_a_whole(version: int) -> None:
    path, client = await a_path()
    topic = path.metadata.image.topic(TOPIC)
    assert topic is not None
    response = await client.call(ApiKey.FETCH, version, fetch_request(0, topic=topic, isolation_level=7))

    assert [part.error_code for part in parts(response)] == [ErrorCode.UNKNOWN_SERVER_ERROR] * (version < 13)
    if version >= 7:
        assert response.error_code == ErrorCode.UNKNOWN_SERVER_ERROR
    await path.close()


async def test_session_is_told_that_its_topic_was_deleted_and_made_again() -> None:
    path, client = await a_path()
    topic = path.metadata.image.topic(TOPIC)
    assert topic is not None
    opened = await client.call(ApiKey.FETCH, 16, fetch_request(0, topic=topic, session_epoch=0))

    async def error(epoch: int) -> int:
        request = fetch_request(session_id=opened.session_id, session_epoch=epoch, max_wait=10_000)
        (partition,) = parts(await client.call(ApiKey.FETCH, 16, request))
        return partition.error_code

    image = path.metadata.image
    path.publish(
        replace(image, topic_map=image.topic_map.delete(topic.topic_id), topic_ids=image.topic_ids.delete(TOPIC))
    )
    assert await error(1) == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    again = replace(path.create_topic("another"), name=TOPIC)
    image = path.metadata.image
    path.publish(
        replace(
            image,
            topic_map=image.topic_map.set(again.topic_id, again),
            topic_ids=image.topic_ids.delete("another").set(TOPIC, again.topic_id),
        )
    )

    assert await error(2) == ErrorCode.INCONSISTENT_TOPIC_ID
    await path.close()


async def test_error_is_answered_without_waiting() -> None:
    path, client = await a_path()
    sent = client.send(ApiKey.FETCH, VERSION, fetch_request(0, 0, max_wait=10_000))
    answered = client.answers()

    assert [partition.error_code for partition in parts(answered[sent])] == [0, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION]
    await path.close()


async def test_partition_that_is_lost_ends_the_wait() -> None:
    path, client = await a_path()
    sent = client.send(ApiKey.FETCH, VERSION, fetch_request(0, max_wait=10_000))
    path.engine.storage.halt(BrokerFenced("a test"))

    assert parts(await client.answer(sent))[0].error_code == ErrorCode.NOT_LEADER_OR_FOLLOWER


async def test_other_leader_is_named() -> None:
    path, client = await a_path()
    topic = path.create_topic("theirs", leader=NodeId(9))
    response = await client.call(ApiKey.FETCH, 16, fetch_request(0, topic=topic, max_wait=10_000))

    (partition,) = parts(response)
    assert partition.error_code == ErrorCode.NOT_LEADER_OR_FOLLOWER
    assert (partition.current_leader.leader_id, response.node_endpoints[0].host) == (9, "there")
    await path.close()


async def test_first_batch_is_given_however_large_and_no_other() -> None:
    path, client = await a_path(partitions=2)
    for index in range(2):
        await put(client, b"x" * 1000, b"y" * 1000, partition=index)
    first, second = await fetch(client, 0, 0, max_bytes=10, partition_max_bytes=10)

    assert (values(first), values(second)) == ([b"x" * 1000], [])
    await path.close()


async def test_limit_of_a_partition_is_kept() -> None:
    path, client = await a_path(partitions=2)
    for index in range(2):
        await put(client, b"x" * 1000, b"y" * 1000, partition=index)
    first, second = await fetch(client, 0, 0, partition_max_bytes=1500)

    assert (len(values(first)), len(values(second))) == (1, 1)
    await path.close()


async def test_answer_is_bounded_whatever_is_asked_for() -> None:
    settings = ListenerSettings(fetch=FetchSettings(response_bytes_max=3000))
    path, client = await a_path(listener=settings)
    await put(client, *[b"x" * 1000] * 5)
    (partition,) = await fetch(client, 0)

    assert len(values(partition)) == 2
    await path.close()


async def test_leader_epoch_of_the_client_is_checked() -> None:
    path, client = await a_path()
    request = fetch_request(0, max_wait=10_000)
    request.topics[0].partitions[0].current_leader_epoch = 3
    (partition,) = parts(await client.call(ApiKey.FETCH, VERSION, request))

    assert partition.error_code == ErrorCode.UNKNOWN_LEADER_EPOCH
    await path.close()


async def test_client_whose_log_ends_elsewhere_is_told_where() -> None:
    path, client = await a_path()
    await put(client, b"a")
    request = fetch_request(1, max_wait=10_000)
    asked = request.topics[0].partitions[0]
    asked.last_fetched_epoch = 0
    asked.fetch_offset = Offset(5)
    (partition,) = parts(await client.call(ApiKey.FETCH, VERSION, request))

    assert (partition.error_code, partition.diverging_epoch.epoch, partition.diverging_epoch.end_offset) == (0, 0, 1)
    await path.close()


async def test_client_of_an_unknown_epoch_starts_over() -> None:
    path, client = await a_path()
    request = fetch_request(0)
    request.topics[0].partitions[0].last_fetched_epoch = 8
    (partition,) = parts(await client.call(ApiKey.FETCH, VERSION, request))

    assert partition.error_code == ErrorCode.OFFSET_OUT_OF_RANGE
    await path.close()


async def test_session_is_answered_with_what_changed() -> None:
    path, client = await a_path(partitions=3)
    opened = await client.call(ApiKey.FETCH, VERSION, fetch_request(0, 0, 0, session_epoch=0))
    await put(client, b"a", partition=1)
    request = fetch_request(session_id=opened.session_id, session_epoch=1)
    changed = await client.call(ApiKey.FETCH, VERSION, request)

    assert opened.session_id > 0
    assert [partition.partition_index for partition in parts(opened)] == [0, 1, 2]
    assert [(partition.partition_index, values(partition)) for partition in parts(changed)] == [(1, [b"a"])]
    assert changed.session_id == opened.session_id
    await path.close()


async def test_unknown_session_is_answered_at_the_top() -> None:
    path, client = await a_path()
    response = await client.call(ApiKey.FETCH, VERSION, fetch_request(session_id=5, session_epoch=1, max_wait=9000))

    assert (response.error_code, response.responses) == (ErrorCode.FETCH_SESSION_ID_NOT_FOUND, [])
    await path.close()


async def test_cold_records_are_read_from_objects() -> None:
    path, client = await a_path()
    count = await fill(path, client)
    found: list[bytes] = []
    while len(found) < count:
        (partition,) = await fetch(client, len(found))
        found += values(partition)

    assert [value[:5] for value in found] == [b"%05d" % number for number in range(count)]
    await path.close()


async def test_cold_and_hot_partitions_are_answered_together() -> None:
    path, client = await a_path(partitions=2)
    await fill(path, client)
    await put(client, b"hot", partition=1)
    cold, hot = await fetch(client, 0, 0, max_wait=10_000)

    assert values(cold)[0][:5] == b"00000"
    assert values(hot) == [b"hot"]
    await path.close()


async def test_store_that_is_away_keeps_nobody_from_hot_data() -> None:
    store = HeldStore(MemoryStore())
    path, client = await a_path(partitions=2, store=store)
    await fill(path, client)
    await put(client, b"hot", partition=1)

    async def before(name: str, key: str) -> None:
        if name == "get_range":
            await asyncio.Event().wait()

    store.before = before
    loop = asyncio.get_running_loop()
    start = loop.time()
    cold, hot = await fetch(client, 0, 0, max_wait=10_000)

    assert loop.time() - start < 1
    assert (values(cold), cold.error_code, values(hot)) == ([], 0, [b"hot"])
    (cold,) = await fetch_slowly(client, 0)
    assert (values(cold), cold.error_code) == ([], 0)
    await path.close()


async def fetch_slowly(client: MemoryTransport, offset: int) -> list[PartitionData]:
    sent = client.send(ApiKey.FETCH, VERSION, fetch_request(offset, max_wait=1))
    await asyncio.sleep(COLD_WAIT_S + 0.1)
    return parts(client.answers()[sent])


async def test_waiting_fetch_of_a_lost_connection_is_forgotten() -> None:
    path, client = await a_path()
    client.send(ApiKey.FETCH, VERSION, fetch_request(0, max_wait=10_000))
    assert len(path.partitions.purgatory) == 1
    client.disconnect()

    assert len(path.partitions.purgatory) == 0
    await path.close()


async def test_arenas_are_let_go_when_the_answer_has_left() -> None:
    path, client = await a_path()
    await put(client, *[b"x" * 1000] * 10)
    held = path.engine.storage.append.pool.held
    client.is_slow = True
    sent = client.send(ApiKey.FETCH, VERSION, fetch_request(0))
    client.drain()

    assert len(values(parts(client.answers()[sent])[0])) == 10
    assert path.engine.storage.append.pool.held == held
    await path.close()
