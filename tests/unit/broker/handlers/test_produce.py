"""Produce: what is answered, when, and what is not."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from automq.ids import NodeId, Offset, TopicId
from automq.protocol.apis import ApiKey
from automq.protocol.compression import Compression
from automq.protocol.errors import ErrorCode
from automq.protocol.messages.produce import PartitionProduceResponse, ProduceResponse
from automq.protocol.records import TRANSACTIONAL, Record, RecordBatch, build_batch
from automq.s3stream.model import BrokerFenced
from automq.s3stream.store.memory import MemoryStore
from tests.support.data_path import TOPIC, DataPath, MemoryTransport, produce_request
from tests.support.engine import HeldStore

pytestmark = pytest.mark.looptime

VERSION = 9


def a_batch(*values: bytes, key: bytes | None = b"k", kind: Compression = Compression.NONE, **fields: Any) -> bytearray:
    return build_batch([Record(key=key, value=value) for value in values or (b"v",)], compression=kind, **fields)


def idempotent(sequence: int, *, epoch: int = 0) -> bytearray:
    return a_batch(producer_id=5, producer_epoch=epoch, base_sequence=sequence)


async def a_path(**configs: str) -> tuple[DataPath, MemoryTransport]:
    path = await DataPath().start()
    path.create_topic(partitions=2, configs={name.replace("_", "."): value for name, value in configs.items()})
    return path, path.connect()


def outcomes(response: ProduceResponse) -> list[PartitionProduceResponse]:
    return [partition for topic in response.responses for partition in topic.partition_responses]


async def produce(client: MemoryTransport, *batches: bytearray, version: int = VERSION, **fields: Any) -> Any:
    (outcome, *_) = outcomes(await client.call(ApiKey.PRODUCE, version, produce_request(*batches, **fields)))
    return outcome


@pytest.mark.parametrize("version", range(3, 13))
@pytest.mark.parametrize("acks", [1, -1])
async def test_batch_is_acknowledged_with_its_offset(version: int, acks: int) -> None:
    path, client = await a_path()
    await produce(client, a_batch(b"1", b"2"), version=version)
    outcome = await produce(client, a_batch(), version=version, acks=acks)

    assert (outcome.error_code, outcome.base_offset, outcome.log_append_time) == (0, 2, -1)
    assert outcome.log_start_offset == (0 if version >= 5 else -1)
    await path.close()


async def test_topic_is_found_by_its_id() -> None:
    path, client = await a_path()
    topic = path.metadata.image.topic(TOPIC)
    assert topic is not None

    assert (await produce(client, a_batch(), version=13, topic=topic)).error_code == 0
    unknown = replace(topic, topic_id=TopicId(type(topic.topic_id)(int=1)))
    assert (await produce(client, a_batch(), version=13, topic=unknown)).error_code == ErrorCode.UNKNOWN_TOPIC_ID
    await path.close()


async def test_nothing_is_acknowledged_before_it_is_durable() -> None:
    store = HeldStore(MemoryStore())
    gate = asyncio.Event()

    async def before(name: str, key: str) -> None:
        await gate.wait()

    store.before = before
    path = await DataPath(store=store).start()
    path.create_topic()
    client = path.connect()
    sent = client.send(ApiKey.PRODUCE, VERSION, produce_request(a_batch()))
    await asyncio.sleep(1)
    assert client.answers() == {}
    gate.set()

    assert outcomes(await client.answer(sent))[0].base_offset == 0
    await path.close()


async def test_duplicate_and_refused_sequence_wait_for_what_they_were_compared_with() -> None:
    store = HeldStore(MemoryStore())
    gate = asyncio.Event()

    async def before(name: str, key: str) -> None:
        await gate.wait()

    store.before = before
    path = await DataPath(store=store).start()
    path.create_topic()
    clients = [path.connect() for _ in range(4)]
    batches = [idempotent(0, epoch=1), idempotent(0, epoch=1), idempotent(9, epoch=1), idempotent(1)]
    sent = [
        client.send(ApiKey.PRODUCE, VERSION, produce_request(batch))
        for client, batch in zip(clients, batches, strict=True)
    ]
    await asyncio.sleep(1)
    assert [client.answers() for client in clients] == [{}, {}, {}, {}]
    gate.set()
    answers = [outcomes(await client.answer(of))[0] for client, of in zip(clients, sent, strict=True)]

    assert [answer.error_code for answer in answers] == [
        0, 0, ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER, ErrorCode.INVALID_PRODUCER_EPOCH
    ]  # fmt: skip
    assert [answer.base_offset for answer in answers] == [0, 0, -1, -1]
    await path.close()


async def test_partitions_fail_alone() -> None:
    path, client = await a_path()
    corrupt = a_batch()
    corrupt[-1] ^= 1
    response = await client.call(ApiKey.PRODUCE, VERSION, produce_request(a_batch(), corrupt, a_batch()))

    assert [outcome.error_code for outcome in outcomes(response)] == [
        0, ErrorCode.CORRUPT_MESSAGE, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    ]  # fmt: skip
    assert "checksum" in outcomes(response)[1].error_message
    await path.close()


async def test_partition_without_records_is_refused() -> None:
    path, client = await a_path()
    request = produce_request(a_batch())
    request.topic_data[0].partition_data[0].records = None

    (outcome,) = outcomes(await client.call(ApiKey.PRODUCE, VERSION, request))
    assert outcome.error_code == ErrorCode.INVALID_RECORD
    await path.close()


async def test_other_leader_is_named() -> None:
    path, client = await a_path()
    path.create_topic("theirs", leader=NodeId(9))
    response = await client.call(ApiKey.PRODUCE, 10, produce_request(a_batch(), topic="theirs"))

    (outcome,) = outcomes(response)
    assert outcome.error_code == ErrorCode.NOT_LEADER_OR_FOLLOWER
    assert (outcome.current_leader.leader_id, outcome.current_leader.leader_epoch) == (9, 0)
    assert [(node.node_id, node.host, node.port) for node in response.node_endpoints] == [(9, "there", 1)]
    await path.close()


@pytest.mark.parametrize("acks", [2, -2])
async def test_unknown_acks_are_refused(acks: int) -> None:
    path, client = await a_path()

    assert (await produce(client, a_batch(), acks=acks)).error_code == ErrorCode.INVALID_REQUIRED_ACKS
    assert path.partitions.get(TOPIC, 0).next_offset == 0
    await path.close()


async def test_no_answer_to_acks_0_and_the_next_request_goes_on() -> None:
    path, client = await a_path()
    silent = client.send(ApiKey.PRODUCE, VERSION, produce_request(a_batch(), acks=0))
    outcome = await produce(client, a_batch())

    assert outcome.base_offset == 1
    assert silent not in client.order
    await path.close()


async def test_error_with_acks_0_closes_the_connection() -> None:
    path, client = await a_path()
    client.send(ApiKey.PRODUCE, VERSION, produce_request(a_batch(), topic="nobody", acks=0))
    await asyncio.sleep(0)

    assert client.is_closing()
    await path.close()


async def test_store_that_does_not_answer_means_request_timed_out() -> None:
    store = HeldStore(MemoryStore())
    gate = asyncio.Event()

    async def before(name: str, key: str) -> None:
        await gate.wait()

    store.before = before
    path = await DataPath(store=store).start()
    path.create_topic()
    client = path.connect()
    sent = client.send(ApiKey.PRODUCE, VERSION, produce_request(a_batch(), timeout=3000))
    too_large = client.send(ApiKey.PRODUCE, VERSION, produce_request(a_batch(bytes(2_000_000)), timeout=3000))
    await asyncio.sleep(2.9)
    assert sent not in client.order
    await asyncio.sleep(0.4)
    outcome = outcomes(client.answers()[sent])[0]

    assert (outcome.error_code, outcome.base_offset) == (ErrorCode.REQUEST_TIMED_OUT, -1)
    gate.set()
    await asyncio.sleep(1)
    assert client.answers().keys() <= {too_large}
    assert (await produce(client, a_batch())).base_offset == 1
    await path.close()


@pytest.mark.parametrize("timeout", [0, -1])
async def test_a_time_out_of_0_waits_for_the_store_all_the_same(timeout: int) -> None:
    store = HeldStore(MemoryStore())
    gate = asyncio.Event()

    async def before(name: str, key: str) -> None:
        await gate.wait()

    store.before = before
    path = await DataPath(store=store).start()
    path.create_topic()
    client = path.connect()
    sent = client.send(ApiKey.PRODUCE, VERSION, produce_request(a_batch(), timeout=timeout))
    # A slow bucket takes a second now and then.
    await asyncio.sleep(2)
    assert client.answers() == {}
    gate.set()
    assert outcomes(await client.answer(sent))[0].error_code == ErrorCode.NONE
    await path.close()


async def test_fenced_broker_acknowledges_nothing() -> None:
    store = HeldStore(MemoryStore())

    async def before(name: str, key: str) -> None:
        await asyncio.Event().wait()

    store.before = before
    path = await DataPath(store=store).start()
    path.create_topic()
    client = path.connect()
    sent = client.send(ApiKey.PRODUCE, VERSION, produce_request(a_batch()))
    path.engine.storage.halt(BrokerFenced("a test"))
    outcome = outcomes(await client.answer(sent))[0]

    assert (outcome.error_code, outcome.base_offset) == (ErrorCode.NOT_LEADER_OR_FOLLOWER, -1)
    assert (await produce(client, a_batch())).error_code == ErrorCode.NOT_LEADER_OR_FOLLOWER


async def test_append_time_is_answered() -> None:
    path, client = await a_path(message_timestamp_type="LogAppendTime")

    start_ms = path.clock.wall_ms()
    assert start_ms <= (await produce(client, a_batch())).log_append_time <= path.clock.wall_ms()
    await path.close()


async def test_min_insync_replicas_never_refuses() -> None:
    path, client = await a_path(min_insync_replicas="3")

    assert (await produce(client, a_batch())).error_code == 0
    await path.close()


async def test_transactional_batch_is_refused() -> None:
    path, client = await a_path()
    batch = a_batch(producer_id=1, producer_epoch=0, base_sequence=0, attributes=TRANSACTIONAL)

    assert (await produce(client, batch)).error_code == ErrorCode.INVALID_TXN_STATE
    await path.close()


async def test_zstd_needs_version_7() -> None:
    path, client = await a_path()
    outcome = await produce(client, a_batch(kind=Compression.ZSTD), version=6)

    assert outcome.error_code == ErrorCode.UNSUPPORTED_COMPRESSION_TYPE
    await path.close()


@pytest.mark.parametrize("size", [10, 20_000])
async def test_compacted_topic_takes_only_records_with_keys(size: int) -> None:
    path, client = await a_path(cleanup_policy="compact")

    assert (await produce(client, a_batch(bytes(size), key=None))).error_code == ErrorCode.INVALID_RECORD
    assert (await produce(client, a_batch(bytes(size)))).base_offset == 0
    await path.close()


@pytest.mark.parametrize("size", [10, 20_000])
async def test_topics_own_compression_is_applied(size: int) -> None:
    path, client = await a_path(compression_type="lz4")
    sent = [client.send(ApiKey.PRODUCE, VERSION, produce_request(a_batch(bytes(size)))) for _ in range(3)]
    answers = [outcomes(await client.answer(of))[0].base_offset for of in sent[-1:]]
    read = path.partitions.get(TOPIC, 0).read_cached(path.partitions.get(TOPIC, 0).log_start_offset, 10**6)

    assert answers == [2]
    assert client.order == sent
    assert read is not None
    assert [RecordBatch(batch).compression for batch in read.batches] == [Compression.LZ4] * 3
    read.release()
    await path.close()


async def test_answer_of_a_connection_that_is_gone_is_dropped() -> None:
    path, client = await a_path()
    client.send(ApiKey.PRODUCE, VERSION, produce_request(a_batch()))
    client.disconnect()
    await asyncio.sleep(1)

    assert path.partitions.get(TOPIC, 0).high_watermark == 1
    await path.close()


async def test_internal_topic_is_written_by_the_broker_alone() -> None:
    path, client = await a_path()
    topic = path.metadata.image.topic(TOPIC)
    assert topic is not None
    internal = replace(topic, is_internal=True)
    path.replace_topic(internal)
    path.set_configs(TOPIC, {"cleanup.policy": "compact"})

    assert (await produce(client, a_batch())).error_code == ErrorCode.INVALID_TOPIC_EXCEPTION
    assert path.partitions.get(TOPIC, 0).append(memoryview(a_batch()), internal=True).base_offset == 0
    await path.close()


async def test_batch_that_has_the_topics_compression_already_stays_as_it_is() -> None:
    path, client = await a_path(compression_type="lz4")
    batch = a_batch(bytes(20_000), kind=Compression.LZ4)
    await produce(client, batch)
    read = path.partitions.get(TOPIC, 0).read_cached(path.partitions.get(TOPIC, 0).log_start_offset, 10**6)

    assert read is not None
    assert bytes(read.batches[0])[21:] == bytes(batch)[21:]
    read.release()
    await path.close()


@pytest.mark.parametrize("claimed", [-1, 0])
@pytest.mark.parametrize("kind", [Compression.NONE, Compression.ZSTD])
async def test_b8_greatest_timestamp_of_the_header_is_not_believed(claimed: int, kind: Compression) -> None:
    """-1 made records unfindable by time and immune to retention, 0 had fresh ones deleted at the first check."""
    path, client = await a_path(retention_ms="60000")
    partition = path.partitions.get(TOPIC, 0)
    written_ms = path.clock.wall_ms()
    records = [Record(key=b"k", value=b"v", timestamp=written_ms + each) for each in (0, 5, 3)]
    batch = build_batch(records, compression=kind)
    RecordBatch(memoryview(batch)).stamp(max_timestamp=claimed, is_log_append_time=False)
    assert (await produce(client, batch)).error_code == 0

    assert await partition.find_timestamp(written_ms + 4) == (written_ms + 5, 1)
    assert await partition.find_newest() == (written_ms + 5, 1)
    read = partition.read_cached(Offset(0), 10)
    assert read is not None
    assert RecordBatch(read.batches[0]).max_timestamp == written_ms + 5
    read.release()
    for is_uploaded in (False, True):
        if is_uploaded:
            await path.engine.storage.upload.flush()
        assert partition.retained_from(written_ms + 5 + 60_000) == 0
        assert partition.retained_from(written_ms + 5 + 60_001) == 3
    await path.close()
