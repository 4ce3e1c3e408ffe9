"""Batches that do not fit a shared slot, and requests that take longer than a turn: what is stored, in what order, and
who is not held up.
"""

import asyncio
import random
from dataclasses import replace
from typing import Any

import pytest

from automq.handlers import produce as produce_handler
from automq.ids import BrokerEpoch, Offset
from automq.partition import large_batch, records_work
from automq.partition.partition import Partition
from automq.protocol.apis import ApiKey
from automq.protocol.compression import Compression
from automq.protocol.errors import ErrorCode
from automq.protocol.records import Record, RecordBatch, build_batch, records_in
from automq.runtime.ledger import Account
from automq.s3stream.store.memory import MemoryStore
from automq.s3stream.wal.format import Slot, parse_slot_key
from tests.support.data_path import TOPIC, DataPath, MemoryTransport, fetch_request, produce_request
from tests.support.engine import CLUSTER, SMALL, Engine, HeldStore, a_fence, durable, keys_of, slot_key
from tests.unit.broker.partition.test_time_lookup import HeldWal

pytestmark = pytest.mark.looptime

KIB = 1024
LARGE = 150 * KIB
"""Shared slots have 64 KiB in these tests, and the largest batch a quarter of 1 MiB."""
MESSAGES = {"max.message.bytes": "1000000"}


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many turns for a small batch as a large one takes."""
    monkeypatch.setattr(large_batch, "PIECE_BYTES", 4 * KIB)
    monkeypatch.setattr(large_batch, "PIECE_US", 2000)


def a_batch(size: int, *, seed: int = 0, records: int = 1, **fields: Any) -> bytearray:
    draw = random.Random(seed)
    each = [Record(key=b"k", value=draw.randbytes(size // records), timestamp=7 + n) for n in range(records)]
    return build_batch(each, **fields)


async def a_path(store: Any = None, **configs: str) -> tuple[DataPath, MemoryTransport, Partition]:
    settings = replace(SMALL, upload_bytes=1024 * KIB, upload_interval_ms=60_000)
    path = await DataPath(store=store, storage=settings).start()
    path.create_topic(configs=MESSAGES | {name.replace("_", "."): value for name, value in configs.items()})
    return path, path.connect(), path.partitions.get(TOPIC, 0)


async def produced(client: MemoryTransport, *batches: bytearray, **fields: Any) -> Any:
    answer = await client.call(ApiKey.PRODUCE, 9, produce_request(*batches, **fields))
    return answer.responses[0].partition_responses[0]


async def results_of(client: MemoryTransport, ids: list[int]) -> list[Any]:
    """Of requests that ask for one partition each, once all are answered."""
    found: dict[int, Any] = {}
    while not found.keys() >= set(ids):
        await asyncio.sleep(0.001)
        found |= client.answers()
        assert not client.was_lost
    return [found[each].responses[0].partition_responses[0] for each in ids]


async def values(path: DataPath, start: int = 0) -> list[bytes]:
    """What a reader gets, wherever it lies."""
    partition = path.partitions.get(TOPIC, 0)
    found: list[bytes] = []
    async for view in partition.read_batches(Offset(start), partition.high_watermark):
        batch = RecordBatch(memoryview(bytes(view)))
        assert batch.has_valid_crc()
        found += [record.value or b"" for record in records_in(batch, decompressed_bytes_max=1 << 26)]
    return found


def values_of(*batches: bytearray) -> list[bytes]:
    return [
        record.value or b""
        for data in batches
        for record in records_in(RecordBatch(memoryview(data)), decompressed_bytes_max=1 << 26)
    ]


async def slots(path: DataPath) -> list[Slot]:
    """The log as it lies in the store."""
    found = []
    for key in await keys_of(path.store, "/wal/"):
        slot_id = parse_slot_key(f"{CLUSTER}/{key}")
        assert slot_id is not None
        found.append(slot_id.decode(await path.store.get(slot_id.key)))
    return found


async def test_k10_large_batch_has_a_slot_of_its_own_and_is_read_hot_cold_and_after_recovery() -> None:
    path, client, partition = await a_path()
    batches = [a_batch(100, seed=1), a_batch(LARGE, seed=2), a_batch(200, seed=3), a_batch(LARGE, seed=4, records=5)]
    expected = values_of(*batches)
    for batch, base in zip(batches, (0, 1, 2, 3), strict=True):
        assert (await produced(client, batch)).base_offset == base
    assert partition.high_watermark == 8
    assert [[record.count for record in slot.records] for slot in await slots(path)] == [[1], [1], [1], [5]]
    assert await values(path) == expected

    await path.engine.die()
    await path.tasks.close()
    engine = Engine(path.ledger, path.store, epoch=2, settings=path.engine.storage.settings)
    await engine.recover(path.engine)
    again = DataPath(engine=engine, store=path.store)
    again.metadata.replace(path.metadata.image)
    await again.start()
    assert await values(again) == expected

    more = a_batch(LARGE, seed=9)
    assert (await produced(again.connect(), more)).base_offset == 8
    await engine.storage.upload.flush()
    while engine.storage.append.cache.evict():
        pass
    assert await values(again) == [*expected, *values_of(more)]
    fetched = await again.connect().call(ApiKey.FETCH, 12, fetch_request(8, partition_max_bytes=10, max_wait=1000))
    (answer,) = fetched.responses[0].partitions
    assert len(answer.records) == len(more)
    await again.close()


async def test_k10_memory_of_its_own_counts_against_the_arenas_and_goes_back() -> None:
    path, client, _ = await a_path()
    pool, account = path.engine.storage.append.pool, path.engine.storage.append.pool._account
    before = account.used
    await produced(client, a_batch(LARGE))
    assert pool.held >= 3
    assert account.used >= before + LARGE
    await path.engine.storage.upload.flush()
    while path.engine.storage.append.cache.evict():
        pass
    assert account.used <= before + 2 * pool.arena_bytes
    await path.close()


async def test_k10_requests_of_one_connection_stay_in_their_order() -> None:
    path, client, _ = await a_path()
    producer = {"producer_id": 3, "producer_epoch": 0}
    batches = [a_batch(LARGE if n % 3 == 1 else 500, seed=n, base_sequence=n, **producer) for n in range(9)]
    ids = [client.send(ApiKey.PRODUCE, 9, produce_request(batch)) for batch in batches]
    for number, each in enumerate(ids):
        answer = await client.answer(each) if number == len(ids) - 1 else None
        if answer is not None:
            assert answer.responses[0].partition_responses[0].error_code == 0
    assert client.order == ids
    assert await values(path) == values_of(*batches)
    await path.close()


async def test_k10_sequence_is_taken_after_copy_and_checks() -> None:
    path, client, partition = await a_path()
    large = a_batch(LARGE, producer_id=3, producer_epoch=0, base_sequence=0)
    sent = client.send(ApiKey.PRODUCE, 9, produce_request(large))
    await asyncio.sleep(0)
    # While the batch is being copied others append.
    assert partition.next_offset == 0
    other = path.connect()
    assert (await produced(other, a_batch(10))).base_offset == 0
    answer = await client.answer(sent)
    assert answer.responses[0].partition_responses[0].base_offset == 1

    held = path.engine.storage.append.pool.held
    again = await produced(client, bytearray(large))
    assert (again.error_code, again.base_offset) == (0, 1)
    gap = await produced(client, a_batch(LARGE, producer_id=3, producer_epoch=0, base_sequence=5))
    assert gap.error_code == ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
    assert path.engine.storage.append.pool.held == held
    await path.close()


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda batch: batch.__setitem__(-1, batch[-1] ^ 1), ErrorCode.CORRUPT_MESSAGE),
        (lambda batch: batch.__setitem__(22, batch[22] | 8), ErrorCode.CORRUPT_MESSAGE),
    ],
)
async def test_refused_large_batch_leaves_nothing(change: Any, code: ErrorCode) -> None:
    path, client, partition = await a_path()
    batch = a_batch(LARGE)
    change(batch)
    assert (await produced(client, batch)).error_code == code
    assert (partition.next_offset, path.engine.storage.append.pool.held) == (0, 0)
    await path.close()


async def test_batch_above_the_limit_is_too_large() -> None:
    path, client, _ = await a_path()
    assert (await produced(client, a_batch(300 * KIB))).error_code == ErrorCode.MESSAGE_TOO_LARGE
    path.set_configs(TOPIC, {"max.message.bytes": str(100 * KIB)})
    assert (await produced(client, a_batch(LARGE))).error_code == ErrorCode.MESSAGE_TOO_LARGE
    assert (await produced(client, a_batch(90 * KIB))).error_code == 0
    await path.close()


@pytest.mark.parametrize("configs", [{"message_timestamp_type": "LogAppendTime"}, {"compression_type": "gzip"}])
async def test_stored_large_batch_is_whole_whatever_the_topic_makes_of_it(configs: dict[str, str]) -> None:
    path, client, partition = await a_path(**configs)
    batch = a_batch(LARGE, records=3)
    batch[35:43] = (5).to_bytes(8, "big")
    RecordBatch(memoryview(batch)).stamp(max_timestamp=5, is_log_append_time=False)
    outcome = await produced(client, bytearray(batch))
    assert outcome.error_code == 0
    assert await values(path) == values_of(batch)
    read = partition.read_cached(Offset(0), 10)
    assert read is not None
    stored = RecordBatch(read.batches[0])
    assert stored.max_timestamp == (9 if "compression_type" in configs else outcome.log_append_time)
    read.release()
    await path.close()


async def test_large_batch_waits_for_room_and_is_refused_at_its_time_out() -> None:
    wal = HeldWal(MemoryStore())
    path, client, partition = await a_path(wal.store)
    wal.open.clear()
    ids = [client.send(ApiKey.PRODUCE, 9, produce_request(a_batch(LARGE, seed=n))) for n in range(8)]
    await asyncio.sleep(1)
    assert partition.next_offset < 8
    wal.open.set()
    assert (await client.answer(ids[-1])).responses[0].partition_responses[0].error_code == 0
    assert partition.high_watermark == 8
    await path.close()


async def test_partition_that_was_closed_meanwhile_takes_nothing() -> None:
    path, client, partition = await a_path()
    sent = client.send(ApiKey.PRODUCE, 9, produce_request(a_batch(LARGE)))
    await asyncio.sleep(0)
    path.partitions._drop(partition)
    answer = await client.answer(sent)
    assert answer.responses[0].partition_responses[0].error_code == ErrorCode.NOT_LEADER_OR_FOLLOWER
    assert path.engine.storage.append.pool.held == 0
    await path.close()


async def test_connection_that_is_lost_meanwhile_takes_no_memory_with_it() -> None:
    path, client, partition = await a_path()
    first = a_batch(LARGE, seed=1)
    client.send(ApiKey.PRODUCE, 9, produce_request(first))
    await asyncio.sleep(0)
    client.disconnect()
    # Somebody else reads into what the connection has given back.
    other = path.connect()
    second = a_batch(LARGE, seed=2)
    assert (await produced(other, second)).error_code == 0
    await durable(path.engine.storage, partition.last_position)
    assert sorted(await values(path)) == sorted(values_of(first, second))
    await path.close()


async def test_k10_fenced_broker_acknowledges_no_large_batch() -> None:
    store = HeldStore(MemoryStore())
    path, client, _ = await a_path(store)
    assert (await produced(client, a_batch(10))).error_code == 0
    await store.inner.put(slot_key(1), [a_fence(1)])
    outcome = await produced(client, a_batch(LARGE))
    assert outcome.error_code == ErrorCode.NOT_LEADER_OR_FOLLOWER
    assert path.engine.storage.halted is not None
    path.server.close()
    await path.tasks.close()
    await path.engine.tasks.close()


async def test_b14_a_request_of_many_batches_is_not_one_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(produce_handler, "IN_PLACE_US_MAX", 1000)
    monkeypatch.setattr(records_work, "BYTES_PER_US", 10)
    path = await DataPath().start()
    path.create_topic(partitions=20)
    client = path.connect()
    batches = [a_batch(10 * KIB, seed=n) for n in range(20)]
    sent = client.send(ApiKey.PRODUCE, 9, produce_request(*batches))
    # One was appended in the turn that the request came in, the others are not yet.
    appended = [path.partitions.get(TOPIC, index).next_offset for index in range(20)]
    assert sum(appended) == 1
    turns = 0
    while sum(path.partitions.get(TOPIC, index).next_offset for index in range(20)) < 20:
        await asyncio.sleep(0)
        turns += 1
    assert turns >= 5
    answer = await client.answer(sent)
    assert [result.error_code for result in answer.responses[0].partition_responses] == [0] * 20
    await path.close()


async def test_records_are_walked_in_turns_and_the_next_request_starts_when_they_are_appended() -> None:
    wal = HeldWal(MemoryStore())
    path, client, partition = await a_path(wal.store)
    wal.open.clear()
    batches = [a_batch(40 * KIB, seed=n, records=3000) for n in range(3)]
    ids = [client.send(ApiKey.PRODUCE, 9, produce_request(batch)) for batch in batches]
    assert partition.next_offset == 0
    for _ in range(200):
        await asyncio.sleep(0)
    # All are appended and none is durable, so none is answered.
    assert (partition.next_offset, partition.high_watermark) == (9000, 0)
    assert client.answers() == {}
    wal.open.set()
    assert (await client.answer(ids[-1])).responses[0].partition_responses[0].base_offset == 6000
    assert await values(path) == values_of(*batches)
    await path.close()


def a_dense_batch(mebibytes: int, *, kind: Compression = Compression.ZSTD, fill: bytes = b"v") -> bytearray:
    """A few kilobytes that decompress to so much."""
    each = [Record(key=b"k", value=fill * (64 * KIB), timestamp=7)] * (16 * mebibytes)
    return build_batch(each, compression=kind)


@pytest.mark.parametrize("kind", [Compression.GZIP, Compression.LZ4, Compression.ZSTD])
async def test_a3_small_batch_that_holds_much_is_a_workers_and_keeps_its_place(kind: Compression) -> None:
    path, client, partition = await a_path()
    batches = [a_dense_batch(2, kind=kind), a_batch(100, seed=1), a_dense_batch(1, kind=kind, fill=b"w")]
    ids = [client.send(ApiKey.PRODUCE, 9, produce_request(batch)) for batch in batches]
    # Nothing of it was decompressed in the turn that it came in, and nothing overtakes it.
    assert partition.next_offset == 0
    answers = await results_of(client, ids)
    assert [(answer.error_code, answer.base_offset) for answer in answers] == [(0, 0), (0, 32), (0, 33)]
    assert set(path.workers.calls) == {"content_of"}
    assert path.engine.memory[Account.RECEIVE].used == 0
    assert await values(path) == values_of(*batches)
    await path.close()


async def test_a3_bomb_is_refused_alone() -> None:
    path, client, partition = await a_path()
    path.create_topic("other")
    bomb = build_batch([Record(value=bytes(100 << 20))], compression=Compression.ZSTD)
    ids = [client.send(ApiKey.PRODUCE, 9, produce_request(batch)) for batch in (bomb, a_batch(100))]
    first, second = await results_of(client, ids)
    assert (first.error_code, second.error_code) == (ErrorCode.INVALID_RECORD, 0)
    assert "67108864" in first.error_message
    assert partition.high_watermark == 1
    assert path.engine.memory[Account.RECEIVE].used == 0
    await path.close()


async def test_a3_partition_that_was_closed_during_a_wait_takes_no_small_batch_either() -> None:
    path = await DataPath().start()
    path.create_topic(partitions=3)
    client = path.connect()
    small = [a_batch(100, seed=n) for n in range(2)]
    sent = client.send(ApiKey.PRODUCE, 9, produce_request(a_dense_batch(1), *small))
    path.partitions._drop(path.partitions.get(TOPIC, 1))
    results = (await client.answer(sent)).responses[0].partition_responses
    assert [result.error_code for result in results] == [0, ErrorCode.NOT_LEADER_OR_FOLLOWER, 0]
    await path.close()


async def test_a3_many_small_compressed_batches_are_no_one_turn() -> None:
    path = await DataPath().start()
    path.create_topic(partitions=40)
    client = path.connect()
    noise = random.Random(1).randbytes(12 * KIB)
    batches = [build_batch([Record(value=noise)], compression=Compression.ZSTD) for _ in range(40)]
    sent = client.send(ApiKey.PRODUCE, 9, produce_request(*batches))
    appended = sum(path.partitions.get(TOPIC, index).next_offset for index in range(40))
    # 12 KiB are counted as some 380 microseconds, and a turn has 1,310.
    assert appended == 4
    results = (await client.answer(sent)).responses[0].partition_responses
    assert [result.error_code for result in results] == [0] * 40
    await path.close()


@pytest.mark.parametrize("seed", range(8))
async def test_any_mixture_of_sizes_uploads_and_deaths_keeps_every_record(seed: int) -> None:
    draw = random.Random(seed)
    settings = replace(SMALL, upload_bytes=draw.choice([64, 128, 256]) * KIB)
    path = await DataPath(storage=settings).start()
    path.create_topic(configs=MESSAGES)
    client, expected = path.connect(), list[bytes]()
    for number in range(40):
        batch = a_batch(draw.choice([10, 3000, 50 * KIB, 70 * KIB, LARGE, 240 * KIB]), seed=number)
        assert (await produced(client, batch)).error_code == 0
        expected += values_of(batch)
        if draw.random() < 0.1:
            await path.engine.storage.upload.flush()
        if draw.random() < 0.1:
            await path.engine.die()
            await path.tasks.close()
            epoch = BrokerEpoch(path.engine.me[1] + 1)
            engine = Engine(path.ledger, path.store, epoch=epoch, settings=settings)
            await engine.recover(path.engine)
            again = DataPath(engine=engine, store=path.store)
            again.metadata.replace(path.metadata.image)
            path = await again.start()
            client = path.connect()
    assert await values(path) == expected
    pool = path.engine.storage.append.pool
    assert pool._account.used <= pool.arenas_max * pool.arena_bytes
    await path.close()
