"""A Produce of very many partitions is appended and answered as any other, in turns."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from automq.handlers import wide_produce
from automq.ids import NodeId, Offset
from automq.partition.partition import Partition
from automq.protocol import produce_codec
from automq.protocol.apis import APIS, ApiKey, encode_request
from automq.protocol.errors import ErrorCode
from automq.protocol.messages.produce import PartitionProduceResponse, ProduceRequest, ProduceResponse, TopicProduceData
from automq.protocol.records import Record, build_batch
from automq.runtime.ledger import Account
from automq.s3stream.model import BrokerFenced
from automq.security.authorizer import Operation, Resource, ResourceType
from automq.security.session import Session
from tests.support.batches import parse_batches
from tests.support.data_path import TOPIC, DataPath, MemoryTransport, produce_request
from tests.support.engine import SMALL
from tests.support.gated_path import Gate
from tests.support.turns import LIMIT_MS, measure

pytestmark = pytest.mark.looptime

VERSION = 9
MANY = 40
"""Partitions of requests that are wide where the limit is `LIMIT`."""
LIMIT = 10
ROOMY = replace(SMALL, arena_bytes=64 << 20, upload_bytes=32 << 20, upload_interval_ms=3_600_000)
"""Nothing is uploaded."""


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few partitions are very many."""
    monkeypatch.setattr(produce_codec, "NARROW_ELEMENTS_MAX", LIMIT)
    monkeypatch.setattr(wide_produce, "SLICE", 3)


class SlowPace:
    """Turns that take a millisecond each."""

    async def spend(self, _part_us: int) -> None:
        await asyncio.sleep(0.001)


@pytest.fixture
def slow(small: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is time between two slices."""
    monkeypatch.setattr(wide_produce, "Pace", SlowPace)


def a_batch(*contents: bytes, key: bytes | None = b"k", **fields: Any) -> bytearray:
    return build_batch([Record(key=key, value=value) for value in contents or (b"v",)], **fields)


async def a_path(partitions: int = MANY, **fields: Any) -> tuple[DataPath, MemoryTransport]:
    path = await DataPath(**fields).start()
    path.create_topic(partitions=partitions)
    while len(path.partitions.all()) < partitions:
        await asyncio.sleep(0.01)
    return path, path.connect()


def wide_request(*contents: bytes, partitions: int = MANY, **fields: Any) -> ProduceRequest:
    return produce_request(*[a_batch(*contents)] * partitions, **fields)


def outcomes(response: ProduceResponse) -> list[PartitionProduceResponse]:
    return [partition for topic in response.responses for partition in topic.partition_responses]


def ends(path: DataPath, partitions: int = MANY) -> list[int]:
    return [path.partitions.get(TOPIC, index).next_offset for index in range(partitions)]


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(5_000):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it never happened")


async def until_idle(path: DataPath, tasks: int) -> None:
    """Nothing of a request is left."""
    await until(lambda: len(path.tasks) == tasks and not path.server.receiving.copies.used)
    assert not path.server.produce.watch.watched


class MostAllowed:
    """Every topic may be written to but "secret"."""

    def authorize(self, session: Session, operation: Operation, resource: Resource) -> bool:
        return resource[1] != "secret"

    def authorize_every(self, session: Session, operation: Operation, kind: ResourceType) -> bool:
        return False


def each_kind(path: DataPath) -> list[TopicProduceData]:
    """What is appended, and what is refused for each reason there is."""
    corrupt = a_batch()
    corrupt[-1] ^= 1

    def sent_by(producer_id: int, sequence: int, epoch: int = 1) -> bytearray:
        return a_batch(producer_id=producer_id, producer_epoch=epoch, base_sequence=sequence)

    def topic(name: str, *batches: bytearray, partition: int = 0) -> TopicProduceData:
        known = path.metadata.image.topic(name)
        return produce_request(*batches, topic=name if known is None else known, partition=partition).topic_data[0]

    orders = [a_batch(), a_batch(b"1", b"2"), corrupt, bytearray(b"short"), bytearray(), a_batch(bytes(30_000))]
    parts = [
        topic(TOPIC, *orders, *[a_batch()] * 30),
        topic("theirs", a_batch(), a_batch()),
        topic("secret", *[a_batch()] * 7),
        topic("nowhere", a_batch(), a_batch()),
        topic("compact", a_batch(), a_batch(b"1", b"2", key=None)),
        topic("stamped", a_batch(), a_batch()),
        topic("packed", a_batch(b"a" * 500), a_batch(b"b" * 500), a_batch(bytes(900_000))),
        topic("limited", a_batch(bytes(2_000)), a_batch()),
        # One partition again and again: in this order.
        *[topic("orders", sent_by(5, number), partition=39) for number in (0, 1, 1, 9)],
        topic("orders", sent_by(5, 2, epoch=0), a_batch(), a_batch(), partition=39),
    ]
    parts[0].partition_data[7].records = None
    return parts


async def answer_to_each_kind(version: int, acks: int, has_rules: bool) -> tuple[Any, list[int]]:
    path = await DataPath().start()
    if has_rules:
        path.server.services = replace(path.services, authorizer=MostAllowed())
    path.create_topic(partitions=MANY)
    path.create_topic("theirs", leader=NodeId(9))
    path.create_topic("secret", partitions=5)
    path.create_topic("compact", partitions=2, configs={"cleanup.policy": "compact"})
    path.create_topic("stamped", partitions=2, configs={"message.timestamp.type": "LogAppendTime"})
    path.create_topic("packed", partitions=3, configs={"compression.type": "gzip"})
    path.create_topic("limited", partitions=2, configs={"max.message.bytes": "1000"})
    await until(lambda: len(path.partitions.all()) == MANY + 14)
    tasks = len(path.tasks)
    client = path.connect()
    request = ProduceRequest(acks=acks, timeout=30_000, topic_data=each_kind(path))
    answer = await client.call(ApiKey.PRODUCE, version, request)
    await until_idle(path, tasks)
    found = [partition.next_offset for partition in path.partitions.all()]
    for outcome in outcomes(answer):
        # It may be a millisecond later.
        outcome.log_append_time = min(outcome.log_append_time, 0)
    await path.close()
    return answer, found


@pytest.mark.parametrize("version", [3, 5, 8, 9, 10, 13])
@pytest.mark.parametrize("has_rules", [False, True])
async def test_answer_is_that_of_a_request_that_is_not_wide(
    version: int, has_rules: bool, small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    wide = await answer_to_each_kind(version, -1, has_rules)
    monkeypatch.setattr(produce_codec, "NARROW_ELEMENTS_MAX", 1 << 30)
    narrow = await answer_to_each_kind(version, -1, has_rules)

    assert wide == narrow
    codes = {outcome.error_code for outcome in outcomes(wide[0])}
    assert codes >= {
        ErrorCode.NONE, ErrorCode.CORRUPT_MESSAGE, ErrorCode.INVALID_RECORD, ErrorCode.NOT_LEADER_OR_FOLLOWER,
        ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER, ErrorCode.INVALID_PRODUCER_EPOCH, ErrorCode.MESSAGE_TOO_LARGE,
    }  # fmt: skip
    assert (ErrorCode.TOPIC_AUTHORIZATION_FAILED in codes) == has_rules
    if version >= 10:
        assert [node.node_id for node in wide[0].node_endpoints] == [9]


@pytest.mark.parametrize("version", [3, 9, 13])
async def test_acks_that_there_are_not_are_refused_as_well(
    version: int, small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    wide = await answer_to_each_kind(version, 2, False)
    monkeypatch.setattr(produce_codec, "NARROW_ELEMENTS_MAX", 1 << 30)

    assert wide == await answer_to_each_kind(version, 2, False)
    assert {outcome.error_code for outcome in outcomes(wide[0])} == {ErrorCode.INVALID_REQUIRED_ACKS}
    assert sum(wide[1]) == 0


@pytest.mark.parametrize("size", [10, 20_000])
async def test_requests_behind_it_are_appended_behind_it(size: int, slow: None) -> None:
    path, client = await a_path(storage=ROOMY)
    tasks = len(path.tasks)
    # 20,000 make a frame of its own, which stays where it is; the other one is copied, with the next request behind it.
    last = MANY - 1
    sent = []
    for number in range(3):
        sent.append(client.send(ApiKey.PRODUCE, VERSION, wide_request(b"%d" % number * size)))
        sent.append(client.send(ApiKey.PRODUCE, VERSION, produce_request(a_batch(b"then"), partition=last)))
    found: dict[int, Any] = {}
    while len(found) < len(sent):
        found |= client.answers()
        await asyncio.sleep(0.001)

    assert client.order == sent
    bases = [outcomes(found[correlation_id])[-1].base_offset for correlation_id in sent]
    assert bases == [0, 1, 2, 3, 4, 5]
    assert ends(path) == [*[3] * last, 6]
    reader = path.partitions.get(TOPIC, last)
    assert contents(reader) == [b"0" * size, b"then", b"1" * size, b"then", b"2" * size, b"then"]
    await until_idle(path, tasks)
    await path.close()


def contents(partition: Partition) -> list[bytes]:
    """Of every record, from the first on."""
    buffers = partition.cached_buffers(Offset(0), partition.high_watermark, 1 << 20, buffers_max=100)
    assert buffers is not None
    return [value for batch in parse_batches(b"".join(buffers)) for value in batch.values]


@pytest.mark.parametrize("size", [10, 20_000])
@pytest.mark.parametrize("acks", [-1, 0])
async def test_all_of_it_is_appended_though_its_client_is_gone(size: int, acks: int, slow: None) -> None:
    path, client = await a_path()
    received = path.engine.memory[Account.RECEIVE]
    tasks, before = len(path.tasks), received.used
    client.send(ApiKey.PRODUCE, VERSION, wide_request(b"v" * size, acks=acks))
    await until(lambda: sum(ends(path)) >= 3)
    assert sum(ends(path)) < MANY
    client.disconnect()
    # The frame's memory: its own, or a copy.
    assert received.used >= MANY * size
    assert bool(path.server.receiving.copies.used) == (size == 10)
    await until_idle(path, tasks)

    assert ends(path) == [1] * MANY
    # But for the buffer that is kept for the next frame.
    assert received.used - path.server.buffers.spare_bytes <= before
    # And others are served as ever.
    other = path.connect()
    assert outcomes(await other.call(ApiKey.PRODUCE, VERSION, wide_request()))[-1].base_offset == 1
    await path.close()


async def test_no_answer_to_acks_0_and_the_next_request_goes_on(slow: None) -> None:
    path, client = await a_path()
    tasks = len(path.tasks)
    client.send(ApiKey.PRODUCE, VERSION, wide_request(acks=0))
    behind = client.send(ApiKey.PRODUCE, VERSION, produce_request(a_batch(), partition=MANY - 1))

    assert outcomes(await client.answer(behind))[0].base_offset == 1
    assert client.order == [behind]
    await until_idle(path, tasks)
    await path.close()


async def test_error_with_acks_0_closes_the_connection(slow: None) -> None:
    path, client = await a_path()
    tasks = len(path.tasks)
    client.send(ApiKey.PRODUCE, VERSION, wide_request(partitions=MANY + 1, acks=0))
    await until(lambda: client.was_lost)

    assert ends(path) == [1] * MANY
    assert not client.written
    await until_idle(path, tasks)
    await path.close()


@pytest.mark.parametrize("version", [VERSION, 3])
@pytest.mark.parametrize("end", ["durable", "timeout", "fenced"])
async def test_it_is_answered_when_it_is_durable_or_that_is_given_up(version: int, end: str, small: None) -> None:
    gate = Gate()
    path, client = await a_path(store=gate.store)
    tasks = len(path.tasks)
    sent = client.send(ApiKey.PRODUCE, version, wide_request(partitions=MANY + 1, timeout=3_000))
    await asyncio.sleep(2)
    assert client.answers() == {}
    if end == "durable":
        gate.open.set()
    elif end == "fenced":
        path.engine.storage.halt(BrokerFenced("a test"))
    found = outcomes(await client.answer(sent))

    code = {
        "durable": ErrorCode.NONE,
        "timeout": ErrorCode.REQUEST_TIMED_OUT,
        "fenced": ErrorCode.NOT_LEADER_OR_FOLLOWER,
    }[end]
    base = 0 if end == "durable" else -1
    assert [(one.error_code, one.base_offset) for one in found] == [
        *[(code, base)] * MANY, (ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, -1)
    ]  # fmt: skip
    gate.open.set()
    await until_idle(path, tasks)
    await asyncio.sleep(1)
    assert client.answers() == {}
    await path.close()


async def test_partition_that_is_sealed_in_the_middle_parks_its_batch(slow: None) -> None:
    path, client = await a_path()
    last = path.partitions.get(TOPIC, MANY - 1)
    sent = client.send(ApiKey.PRODUCE, VERSION, wide_request())
    await until(lambda: sum(ends(path)) >= 3)
    last.seal()
    await until(lambda: sum(ends(path)) == MANY - 1)
    await asyncio.sleep(0.1)
    assert client.answers() == {}
    last.unseal()
    assert outcomes(await client.answer(sent))[-1].error_code == ErrorCode.NONE
    assert ends(path) == [1] * MANY
    await path.close()


async def test_partition_that_is_closed_in_the_middle_has_another_leader(slow: None) -> None:
    path, client = await a_path()
    topic = path.metadata.image.topic(TOPIC)
    assert topic is not None
    sent = client.send(ApiKey.PRODUCE, 10, wide_request())
    await until(lambda: sum(ends(path)) >= 3)
    moved = [*topic.partitions[:-1], replace(topic.partitions[-1], leader=NodeId(9))]
    path.replace_topic(replace(topic, partitions=tuple(moved)))
    response = await client.answer(sent)

    assert [one.error_code for one in outcomes(response)] == [0] * (MANY - 1) + [ErrorCode.NOT_LEADER_OR_FOLLOWER]
    assert outcomes(response)[-1].current_leader.leader_id == 9
    assert [node.node_id for node in response.node_endpoints] == [9]
    await path.close()


class Throttled:
    """Every request is to be followed by a second of silence."""

    def throttle_ms(self, session: Session, api_key: int, size: int) -> int:
        return 1000


async def test_client_is_throttled_once_and_told(slow: None) -> None:
    path = await DataPath().start()
    path.create_topic(partitions=MANY)
    await until(lambda: len(path.partitions.all()) == MANY)
    path.server.services = replace(path.services, quotas=Throttled())
    client = path.connect()
    loop = asyncio.get_running_loop()
    began = loop.time()
    sent = client.send(ApiKey.PRODUCE, VERSION, wide_request())
    behind = client.send(ApiKey.PRODUCE, VERSION, produce_request(a_batch()))

    assert (await client.answer(sent)).throttle_time == 1000
    assert loop.time() - began < 0.9
    assert (await client.answer(behind)).throttle_time == 1000
    assert 1 <= loop.time() - began < 1.5
    await path.close()


async def test_drain_waits_for_it(slow: None) -> None:
    path, client = await a_path()
    sent = client.send(ApiKey.PRODUCE, VERSION, wide_request())
    await until(lambda: sum(ends(path)) >= 3)
    assert sum(ends(path)) < MANY
    behind = client.send(ApiKey.PRODUCE, VERSION, produce_request(a_batch()))
    await path.server.drain()

    assert [one.error_code for one in outcomes(client.answers()[sent])] == [0] * MANY
    assert behind not in client.order
    assert ends(path) == [1] * MANY
    await path.close()


async def test_end_of_the_broker_in_the_middle_leaves_nothing(slow: None) -> None:
    path, client = await a_path()
    client.send(ApiKey.PRODUCE, VERSION, wide_request())
    await until(lambda: sum(ends(path)) >= 3)
    assert path.server.receiving.copies.used
    await path.close()
    assert not path.server.receiving.copies.used


async def test_request_that_is_not_well_formed_closes_its_connection_and_appends_nothing(small: None) -> None:
    path, client = await a_path()
    tasks = len(path.tasks)
    frame = encode_request(APIS[ApiKey.PRODUCE], VERSION, 1, "test", wide_request())
    body = frame[4:-40]
    client.feed(len(body).to_bytes(4, "big") + body)
    await until(lambda: client.was_lost)

    assert sum(ends(path)) == 0
    await until_idle(path, tasks)
    await path.close()


async def test_requests_up_to_the_limit_have_no_task_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    path, client = await a_path(3)
    tasks = len(path.tasks)
    client.send(ApiKey.PRODUCE, VERSION, wide_request(partitions=3))
    assert len(path.tasks) == tasks
    assert ends(path, 3) == [1] * 3
    monkeypatch.setattr(produce_codec, "NARROW_ELEMENTS_MAX", 2)
    client.send(ApiKey.PRODUCE, VERSION, wide_request(partitions=3))
    assert len(path.tasks) == tasks + 1
    await until(lambda: ends(path, 3) == [2] * 3)
    await path.close()


WIDE = 3_000
"""In one turn they take above 20 ms."""


@pytest.mark.parametrize("version", [VERSION, 3])
async def test_turns_of_thousands_of_partitions_are_bounded(version: int) -> None:
    gate = Gate()
    # Nothing else is done meanwhile: no upload.
    path, _ = await a_path(WIDE, store=gate.store, storage=ROOMY)
    gate.open.set()
    # All appended; a third of them refused, with a message; one partition a topic; and the time-out of all of them.
    corrupt = a_batch()
    corrupt[-1] ^= 1
    mixed = produce_request(*[a_batch(), a_batch(), corrupt] * (WIDE // 3))
    topics = wide_request(partitions=WIDE)
    topics.topic_data = [
        TopicProduceData(name=TOPIC, partition_data=[one]) for one in topics.topic_data[0].partition_data
    ]
    requests = [wide_request(partitions=WIDE), mixed, topics, wide_request(partitions=WIDE, timeout=100)]
    for number, request in enumerate(requests):
        frame = encode_request(APIS[ApiKey.PRODUCE], version, 1, "test", request)
        if number == len(requests) - 1:
            gate.open.clear()

        async def prepare(frame: bytes = frame) -> Callable[[], Awaitable[None]]:
            client = path.connect()

            async def work() -> None:
                asyncio.get_running_loop().call_soon(client.feed, frame)
                while len(client.written) < 4 or len(client.written) < 4 + int.from_bytes(client.written[:4], "big"):
                    await asyncio.sleep(0.001)
                client.disconnect()

            return work

        longest = await measure(prepare)
        assert longest.turn_ms <= LIMIT_MS, (number, longest)
        assert longest.turns > 10
    gate.open.set()
    await path.close()
