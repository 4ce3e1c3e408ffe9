"""Produce requests of the common shape, which take a shorter way: they are answered as all others are."""

import asyncio
import random
from dataclasses import replace
from typing import Any

import pytest

from automq.ids import NodeId, Offset
from automq.metadata.image import QuarantineCause
from automq.partition import appending, records_work
from automq.protocol.apis import APIS, ApiKey, encode_request
from automq.protocol.compression import Compression
from automq.protocol.errors import ErrorCode
from automq.protocol.messages.produce import PartitionProduceResponse, ProduceRequest, ProduceResponse
from automq.protocol.records import Record, build_batch
from automq.s3stream.model import BrokerFenced
from automq.s3stream.store.memory import MemoryStore
from automq.security.authorizer import Operation, Resource, ResourceType
from automq.security.session import Session
from tests.support.data_path import TOPIC, DataPath, MemoryTransport, produce_request
from tests.support.engine import SMALL, HeldStore

pytestmark = pytest.mark.looptime

VERSION = 10


def a_batch(*, key: bytes | None = b"k", **fields: Any) -> bytearray:
    return build_batch([Record(key=key, value=b"v")], **fields)


async def a_path(store: Any = None, **configs: str) -> tuple[DataPath, MemoryTransport]:
    """With a client that has produced before."""
    path = await DataPath(store=store).start()
    path.create_topic(partitions=2, configs=configs)
    client = path.connect()
    await client.call(ApiKey.PRODUCE, VERSION, produce_request(a_batch()))
    return path, client


def open_slot(path: DataPath) -> None:
    """The short way leads into a slot that is open already."""
    path.partitions.get(TOPIC, 1).append(memoryview(a_batch()))


def outcome(response: ProduceResponse) -> PartitionProduceResponse:
    return response.responses[0].partition_responses[0]


def some_request(dice: random.Random, sequence: int) -> tuple[int, ProduceRequest]:
    """Mostly of the common shape."""
    producer = {"producer_id": 5, "producer_epoch": 0, "base_sequence": sequence} if dice.random() < 0.5 else {}
    batch = build_batch(
        [Record(key=b"k", value=dice.randbytes(dice.choice((1, 100, 4000)))) for _ in range(dice.choice((1, 1, 3)))],
        compression=dice.choice((Compression.NONE,) * 5 + (Compression.LZ4,)),
        **producer,
    )
    if dice.random() < 0.1:
        batch[dice.randrange(len(batch))] ^= 1
    partition = dice.choice((0, 0, 1, 2))
    batches = [batch, a_batch()] if dice.random() < 0.1 else [batch]
    version = dice.choice((8, 9, 10, 12))
    return version, produce_request(*batches, partition=partition, acks=dice.choice((-1, 1)))


@pytest.mark.parametrize("seed", range(30))
async def test_answers_and_log_are_those_of_the_long_way(seed: int, long_ways: list[int]) -> None:
    """One client sends all of them; in another world each comes from a client that has sent nothing before."""
    dice = random.Random(seed)
    (short, client), (long, _) = await a_path(), await a_path()
    sequence = 0
    asked = 0
    for _ in range(10):
        sent = []
        for _ in range(4):
            version, request = some_request(dice, sequence)
            sequence += dice.choice((1, 1, 1, 1, 0, 3))
            before = len(long_ways)
            mine = client.send(ApiKey.PRODUCE, version, request)
            asked += len(long_ways) - before
            other = long.connect()
            sent.append((mine, other, other.send(ApiKey.PRODUCE, version, request)))
        await asyncio.sleep(1)
        answers = client.answers()
        for mine, other, theirs in sent:
            assert answers[mine] == (await other.answer(theirs))

    assert 0 < asked < 40
    for index in range(2):
        one, another = short.partitions.get(TOPIC, index), long.partitions.get(TOPIC, index)
        assert one.next_offset == another.next_offset > 0
        mine, theirs = one.read_cached(Offset(0), 1 << 30), another.read_cached(Offset(0), 1 << 30)
        assert mine is not None
        assert theirs is not None
        assert [bytes(batch) for batch in mine.batches] == [bytes(batch) for batch in theirs.batches]
        assert one._producers.entries.get(5) == another._producers.entries.get(5)
        assert one.traffic.in_bytes == another.traffic.in_bytes
        assert one.traffic.topic.in_records == another.traffic.topic.in_records
        assert one._checkpointing.tail_bytes == another._checkpointing.tail_bytes
    assert short.server.metrics.count(ApiKey.PRODUCE) == long.server.metrics.count(ApiKey.PRODUCE)
    await short.close()
    await long.close()


async def test_requests_in_flight_take_the_short_way_and_are_answered_in_order(long_ways: list[int]) -> None:
    path, client = await a_path()
    open_slot(path)
    sent = [
        client.send(ApiKey.PRODUCE, version, produce_request(a_batch(), a_batch()))
        if number % 5 == 4
        else client.send(ApiKey.PRODUCE, version, produce_request(a_batch()))
        for number, version in enumerate((9, 10, 12, 8, 11, 9, 10, 8, 9, 9))
    ]
    await client.answer(sent[-1])

    assert client.order[1:] == sent
    assert long_ways == [VERSION, 8, 11, 8, 9]
    await path.close()


@pytest.mark.parametrize("has_id", [True, False])
async def test_partition_that_moved_away_is_not_written_to(has_id: bool, long_ways: list[int]) -> None:
    path, client = await a_path()
    topic = path.metadata.image.topic(TOPIC)
    assert topic is not None
    version, named = (13, topic) if has_id else (12, TOPIC)
    for _ in range(2):
        open_slot(path)
        answer = await client.call(ApiKey.PRODUCE, version, produce_request(a_batch(), topic=named))
        assert outcome(answer).error_code == 0
    assert long_ways == [VERSION]
    first = topic.partitions[0]
    moved = type(first)(index=0, stream=first.stream, leader=NodeId(9), leader_epoch=type(first.leader_epoch)(9))
    path.replace_topic(
        type(topic)(
            **{name: getattr(topic, name) for name in topic.__slots__} | {"partitions": (moved, *topic.partitions[1:])}
        )
    )

    open_slot(path)
    answer = await client.call(ApiKey.PRODUCE, version, produce_request(a_batch(), topic=named))

    assert outcome(answer).error_code == ErrorCode.NOT_LEADER_OR_FOLLOWER
    await path.close()


async def held(pauses: asyncio.Event) -> tuple[DataPath, MemoryTransport]:
    """A store that waits for the event, once the first batch is stored."""
    store = HeldStore(MemoryStore())
    path, client = await a_path(store)

    async def before(name: str, key: str) -> None:
        await pauses.wait()

    store.before = before
    open_slot(path)
    return path, client


async def test_store_that_does_not_answer_means_request_timed_out(long_ways: list[int]) -> None:
    gate = asyncio.Event()
    path, client = await held(gate)
    began = asyncio.get_running_loop().time()
    sent = [client.send(ApiKey.PRODUCE, VERSION, produce_request(a_batch(), timeout=ms)) for ms in (5000, 700)]
    while not (answers := client.answers()):
        await asyncio.sleep(0.01)

    # In order: the second one's time was over long before.
    assert asyncio.get_running_loop().time() - began == pytest.approx(5, abs=0.3)
    assert [outcome(answers[of]).error_code for of in sent] == [ErrorCode.REQUEST_TIMED_OUT] * 2
    assert [outcome(answers[of]).base_offset for of in sent] == [-1, -1]
    assert long_ways == [VERSION]
    errors = path.server.metrics._by_api[ApiKey.PRODUCE].errors
    assert errors[ErrorCode.REQUEST_TIMED_OUT] == 2
    gate.set()
    answer = await client.call(ApiKey.PRODUCE, VERSION, produce_request(a_batch()))
    assert outcome(answer).base_offset == 3
    assert not path.server.produce.watch.watched
    await path.close()


async def test_fenced_broker_acknowledges_nothing(long_ways: list[int]) -> None:
    gate = asyncio.Event()
    path, client = await held(gate)
    sent = client.send(ApiKey.PRODUCE, VERSION, produce_request(a_batch()))
    path.engine.storage.halt(BrokerFenced("another took over"))

    assert outcome(await client.answer(sent)).error_code == ErrorCode.NOT_LEADER_OR_FOLLOWER
    assert long_ways == [VERSION]
    gate.set()
    await path.close()


async def test_client_that_is_gone_is_not_answered(long_ways: list[int]) -> None:
    gate = asyncio.Event()
    path, client = await held(gate)
    client.send(ApiKey.PRODUCE, VERSION, produce_request(a_batch()))
    client.disconnect()
    gate.set()
    await asyncio.sleep(1)

    assert client.written == b""
    assert path.partitions.get(TOPIC, 0).high_watermark == 2
    assert not path.server.produce.watch.watched
    assert long_ways == [VERSION]
    await path.close()


@pytest.mark.parametrize(
    "configs",
    [{"cleanup.policy": "compact"}, {"message.timestamp.type": "LogAppendTime"}, {"compression.type": "zstd"}],
    ids=str,
)
async def test_rules_of_the_topic_hold(configs: dict[str, str]) -> None:
    path, client = await a_path(**configs)
    answer = outcome(await client.call(ApiKey.PRODUCE, VERSION, produce_request(a_batch(key=None))))

    if "cleanup.policy" in configs:
        assert answer.error_code == ErrorCode.INVALID_RECORD
        assert [error.batch_index for error in answer.record_errors] == [0]
    else:
        assert answer.error_code == 0
        assert (answer.log_append_time > 0) is ("message.timestamp.type" in configs)
    await path.close()


async def test_another_client_on_the_same_connection_is_seen() -> None:
    path, client = await a_path()
    session = client.connection._session
    for name in ("test", "other", "other", None):
        client._answers[99] = (ApiKey.PRODUCE, VERSION)
        client.feed(encode_request(APIS[ApiKey.PRODUCE], VERSION, 99, name, produce_request(a_batch())))
        assert outcome(await client.answer(99)).error_code == 0
        assert session.client_id == name
    await path.close()


def base_of(answer: ProduceResponse) -> tuple[int, int]:
    return outcome(answer).error_code, outcome(answer).base_offset


@pytest.mark.parametrize("sealed", ["partition", "stream"])
async def test_sealed_partition_takes_nothing_and_parks_what_comes(sealed: str, long_ways: list[int]) -> None:
    path, client = await a_path()
    open_slot(path)
    partition = path.partitions.get(TOPIC, 0)
    partition.stream.seal()
    if sealed == "partition":
        partition.seal()
    sent = client.send(ApiKey.PRODUCE, VERSION, produce_request(a_batch()))

    assert partition.next_offset == 1
    assert long_ways == [VERSION, VERSION]
    assert client.answers() == {}
    if sealed == "partition":
        partition.unseal()
        assert base_of(await client.answer(sent)) == (0, 1)
    await path.close()


async def test_parked_partition_bars_by_itself() -> None:
    """Its stream may not be sealed yet."""
    path, _ = await a_path()
    open_slot(path)
    partition = path.partitions.get(TOPIC, 0)
    partition.seal()
    data = memoryview(a_batch())
    assert not partition.append_received(data, 0, len(data), 0)
    assert partition.next_offset == 1
    partition.unseal()
    assert partition.append_received(data, 0, len(data), 0)
    await path.close()


async def test_quarantined_partition_takes_nothing() -> None:
    path, client = await a_path()
    open_slot(path)
    partition = path.partitions.get(TOPIC, 0)
    partition.set_causes([QuarantineCause(key="a/key", reason="damaged", at_ms=0)])

    answer = outcome(await client.call(ApiKey.PRODUCE, VERSION, produce_request(a_batch())))
    assert answer.error_code == ErrorCode.KAFKA_STORAGE_ERROR
    assert partition.next_offset == 1
    partition.set_causes([])
    open_slot(path)
    assert base_of(await client.call(ApiKey.PRODUCE, VERSION, produce_request(a_batch()))) == (0, 1)
    await path.close()


async def test_stream_that_is_lost_takes_nothing() -> None:
    path, client = await a_path()
    open_slot(path)
    partition = path.partitions.get(TOPIC, 0)
    partition.stream.lose(BrokerFenced("another took over"))

    answer = outcome(await client.call(ApiKey.PRODUCE, VERSION, produce_request(a_batch())))
    assert answer.error_code == ErrorCode.NOT_LEADER_OR_FOLLOWER
    assert partition.next_offset == 1
    await path.close()


async def test_topic_made_anew_is_found_before_the_old_one_is_known_to_be_gone(long_ways: list[int]) -> None:
    path, client = await a_path()
    open_slot(path)
    await client.call(ApiKey.PRODUCE, VERSION, produce_request(a_batch()))
    assert long_ways == [VERSION]
    old = path.partitions.get(TOPIC, 0)
    new = path.partitions.get(TOPIC, 1)
    new.name = old.name
    path.partitions.opened.add(new)

    new.append(memoryview(a_batch()))
    before = new.next_offset
    assert base_of(await client.call(ApiKey.PRODUCE, VERSION, produce_request(a_batch()))) == (0, before)
    assert old.next_offset == 2
    await path.close()


async def test_batch_of_many_records_is_walked_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    path, client = await a_path()
    for module in (appending, records_work):
        name = "RECORDS_PER_MS" if module is appending else "IN_PLACE_RECORDS_MAX"
        monkeypatch.setattr(module, name, 100)
    open_slot(path)
    partition = path.partitions.get(TOPIC, 0)
    batch = build_batch([Record(value=b"v", timestamp=7)] * 101)
    sent = client.send(ApiKey.PRODUCE, VERSION, produce_request(batch))

    assert partition.next_offset == 1
    assert base_of(await client.answer(sent)) == (0, 1)
    assert partition.next_offset == 102
    await path.close()


async def test_small_batch_that_holds_much_is_a_workers() -> None:
    path, client = await a_path()
    open_slot(path)
    batch = build_batch([Record(value=bytes(1 << 16), timestamp=7)] * 32, compression=Compression.ZSTD)
    assert len(batch) < 4096
    sent = client.send(ApiKey.PRODUCE, VERSION, produce_request(batch))

    assert path.partitions.get(TOPIC, 0).next_offset == 1
    assert base_of(await client.answer(sent)) == (0, 1)
    assert set(path.workers.calls) == {"content_of"}
    await path.close()


async def test_batch_above_a_shared_slot_has_one_of_its_own(long_ways: list[int]) -> None:
    store = MemoryStore()
    path = await DataPath(store=store, storage=replace(SMALL, upload_bytes=1 << 20, upload_interval_ms=60_000)).start()
    path.create_topic(partitions=2)
    client = path.connect()
    await client.call(ApiKey.PRODUCE, VERSION, produce_request(a_batch()))
    open_slot(path)
    batch = build_batch([Record(value=random.Random(1).randbytes(150 << 10), timestamp=7)])
    assert len(batch) > path.engine.storage.append.append_bytes_max
    sent = client.send(ApiKey.PRODUCE, VERSION, produce_request(batch))

    assert path.partitions.get(TOPIC, 0).next_offset == 1
    assert base_of(await client.answer(sent)) == (0, 1)
    assert long_ways == [VERSION, VERSION]
    await path.close()


async def test_topic_that_becomes_internal_or_compacted_under_a_client_has_its_rules_at_once() -> None:
    path, client = await a_path()
    path.set_configs(TOPIC, {"cleanup.policy": "compact"})
    open_slot(path)
    answer = outcome(await client.call(ApiKey.PRODUCE, VERSION, produce_request(a_batch(key=None))))
    assert answer.error_code == ErrorCode.INVALID_RECORD
    topic = path.metadata.image.topic(TOPIC)
    assert topic is not None
    path.replace_topic(replace(topic, is_internal=True))
    path.set_configs(TOPIC, {"cleanup.policy": "delete"})
    path.partitions.get(TOPIC, 1).append(memoryview(a_batch()), internal=True)
    answer = outcome(await client.call(ApiKey.PRODUCE, VERSION, produce_request(a_batch())))
    assert answer.error_code == ErrorCode.INVALID_TOPIC_EXCEPTION
    assert path.partitions.get(TOPIC, 0).next_offset == 1
    await path.close()


class EveryRequestThrottled:
    """Each makes its client wait for a second."""

    def throttle_ms(self, session: Session, api_key: int, size: int) -> int:
        return 1000


class NothingAllowed:
    """Whoever asks may do nothing."""

    def authorize(self, session: Session, operation: Operation, resource: Resource) -> bool:
        return False

    def authorize_every(self, session: Session, operation: Operation, kind: ResourceType) -> bool:
        return False


@pytest.mark.parametrize("rules", ["quotas", "authorizer"])
async def test_client_that_has_rules_is_asked_about_every_time(rules: str) -> None:
    path = await DataPath().start()
    path.create_topic(partitions=2)
    if rules == "quotas":
        path.server.services = replace(path.services, quotas=EveryRequestThrottled())
    else:
        path.server.services = replace(path.services, authorizer=NothingAllowed())
    client = path.connect()
    for _ in range(3):
        open_slot(path)
        answer = await client.call(ApiKey.PRODUCE, VERSION, produce_request(a_batch()))
        if rules == "quotas":
            assert answer.throttle_time == 1000
        else:
            assert outcome(answer).error_code == ErrorCode.TOPIC_AUTHORIZATION_FAILED
    assert path.partitions.get(TOPIC, 0).next_offset == (3 if rules == "quotas" else 0)
    await path.close()


async def test_nothing_is_taken_in_without_room_or_while_the_broker_drains(monkeypatch: pytest.MonkeyPatch) -> None:
    path, client = await a_path()
    open_slot(path)
    partition = path.partitions.get(TOPIC, 0)
    with monkeypatch.context() as patch:
        patch.setattr(path.server, "has_room", lambda _size: False)
        sent = client.send(ApiKey.PRODUCE, VERSION, produce_request(a_batch()))
        assert partition.next_offset == 1
        assert not client.is_reading()
    client.connection.proceed()
    assert base_of(await client.answer(sent)) == (0, 1)
    open_slot(path)
    path.server.is_draining = True
    client.send(ApiKey.PRODUCE, VERSION, produce_request(a_batch()))
    assert partition.next_offset == 2
    await path.close()


async def test_no_more_requests_are_in_flight_than_there_may_be() -> None:
    gate = asyncio.Event()
    path, client = await held(gate)
    in_flight_max = path.server.settings.in_flight_max
    sent = [client.send(ApiKey.PRODUCE, VERSION, produce_request(a_batch())) for _ in range(in_flight_max + 3)]

    assert path.partitions.get(TOPIC, 0).next_offset == 1 + in_flight_max
    gate.set()
    await client.answer(sent[-1])
    assert client.order[1:] == sent
    await path.close()
