"""Offsets by time against a list of records: whatever was appended, trimmed, uploaded, and is not durable yet."""

import asyncio
import random

import pytest

from automq.ids import Offset
from automq.partition.partition import Partition
from automq.partition.retention_round import forget
from automq.protocol.apis import ApiKey
from automq.protocol.compression import Compression
from automq.protocol.records import Record, build_batch
from automq.runtime.ledger import Account
from automq.s3stream.store.memory import MemoryStore
from tests.support.data_path import TOPIC, DataPath, produce_request
from tests.support.engine import HeldStore, durable

pytestmark = pytest.mark.looptime


def a_batch(*timestamps: int, size: int = 20, compression: Compression = Compression.NONE) -> memoryview:
    records = [Record(key=b"k", value=b"v" * size, timestamp=timestamp) for timestamp in timestamps]
    return memoryview(build_batch(records, compression=compression))


async def a_partition() -> tuple[DataPath, Partition, "HeldWal"]:
    wal = HeldWal(MemoryStore())
    path = await DataPath(store=wal.store).start()
    path.create_topic()
    return path, path.partitions.get(TOPIC, 0), wal


class HeldWal:
    """Slots of the write-ahead log become durable only while it is open."""

    def __init__(self, inner: MemoryStore) -> None:
        self.store = HeldStore(inner)
        self.store.before = self._before
        self.open = asyncio.Event()
        self.open.set()

    async def _before(self, name: str, key: str) -> None:
        if "/wal/" in key:
            await self.open.wait()


async def put(path: DataPath, partition: Partition, *batches: memoryview) -> None:
    for batch in batches:
        partition.append(batch)
    await durable(path.engine.storage, partition.last_position)


async def test_a8_newest_is_that_of_the_durable_records_while_one_is_on_its_way() -> None:
    path, partition, wal = await a_partition()
    await put(path, partition, a_batch(50), a_batch(40))
    wal.open.clear()
    partition.append(a_batch(99))
    await asyncio.sleep(0.05)

    assert await partition.find_newest() == (50, 0)
    assert await partition.find_timestamp(60) is None
    wal.open.set()
    await durable(path.engine.storage, partition.last_position)
    assert await partition.find_newest() == (99, 2)
    await path.close()


async def test_a8_newest_after_a_trim_inside_an_object_is_not_that_of_another_object() -> None:
    path, partition, _ = await a_partition()
    await put(path, partition, a_batch(100), a_batch(50), a_batch(90))
    await path.engine.storage.upload.flush()
    await put(path, partition, a_batch(40))
    await path.engine.storage.upload.flush()
    await partition.delete_records(1)

    assert await partition.find_newest() == (90, 2)
    await path.close()


async def test_a8_newest_after_a_trim_into_what_is_only_cached() -> None:
    path, partition, _ = await a_partition()
    await put(path, partition, a_batch(100), a_batch(50), a_batch(90))
    await partition.delete_records(1)

    assert await partition.find_newest() == (90, 2)
    await path.close()


async def test_a8_retention_by_size_counts_what_a_trim_left_of_a_cached_block() -> None:
    path, partition, _ = await a_partition()
    batches = [a_batch(0, size=100) for _ in range(4)]
    await put(path, partition, *batches)
    await partition.delete_records(3)

    assert [(part.start, part.end, part.size) for part in partition._stream.segments()] == [(3, 4, len(batches[3]))]
    assert partition.uncommitted_bytes == len(batches[3])
    await path.close()


async def test_k9_newest_after_the_newest_record_was_deleted_does_not_depend_on_where_records_lie() -> None:
    path, partition, _ = await a_partition()
    await put(path, partition, a_batch(10, 90, 30, 20))
    await partition.delete_records(2)

    assert await partition.find_newest() == (30, 2)
    await path.engine.storage.upload.flush()
    assert await partition.find_newest() == (30, 2)
    await path.close()


async def test_newest_behind_a_trim_within_a_batch_that_was_committed_after_it() -> None:
    """The commit is clipped at the trim point: no batch begins there, and its timestamp is that of all its batches."""
    path, partition, _ = await a_partition()
    await put(path, partition, a_batch(90, 20), a_batch(50))
    await partition.delete_records(1)
    await path.engine.storage.upload.flush()
    for is_cached in (True, False):
        while not is_cached and path.engine.storage.append.cache.evict():
            pass
        assert await partition.find_newest() == (50, 2)
        assert await partition.find_timestamp(15) == (20, 1)
        assert await partition.find_timestamp(60) is None
    await path.close()


async def test_k1_records_without_timestamps_expire_by_their_append_time() -> None:
    path, partition, _ = await a_partition()
    path.set_configs(TOPIC, {"retention.ms": "60000"})
    for is_uploaded in (False, True):
        await put(path, partition, a_batch(-1, -1))
        if is_uploaded:
            await path.engine.storage.upload.flush()
        await asyncio.sleep(30)
        now_ms = path.clock.wall_ms()
        await forget(path.engine.storage, [(partition, partition.retained_from(now_ms))])
        assert partition.log_start_offset < partition.next_offset
        await forget(path.engine.storage, [(partition, partition.retained_from(now_ms + 31_000))])
        assert partition.log_start_offset == partition.next_offset
    await path.close()


@pytest.mark.parametrize("seed", range(40))
async def test_a8_lookups_by_time_agree_with_a_list_of_records(seed: int) -> None:
    draw = random.Random(seed)
    path, partition, wal = await a_partition()
    records: list[int] = []
    for _ in range(draw.randint(5, 60)):
        match draw.randint(0, 9):
            case 0 | 1 | 2 | 3 | 4:
                timestamps = [draw.randint(0, 60) for _ in range(draw.randint(1, 6))]
                codec = draw.choice([Compression.NONE, Compression.GZIP])
                partition.append(a_batch(*timestamps, size=draw.choice([20, 20, 3000]), compression=codec))
                records += timestamps
                if wal.open.is_set():
                    await durable(path.engine.storage, partition.last_position)
            case 5:
                await partition.delete_records(draw.randint(0, partition.high_watermark))
            case 6:
                wal.open.set()
                await path.engine.storage.upload.flush()
            case 7:
                wal.open.clear()
            case 8:
                wal.open.set()
                await durable(path.engine.storage, partition.last_position)
            case _:
                while path.engine.storage.append.cache.evict():
                    pass
        await compare(partition, records, draw.randint(0, 61))
    wal.open.set()
    await path.close()


async def compare(partition: Partition, records: list[int], timestamp_ms: int) -> None:
    seen = [(time, offset) for offset, time in enumerate(records) if offset < partition.high_watermark]
    seen = seen[partition.log_start_offset :]
    newest = max(seen, key=lambda record: (record[0], -record[1]), default=None)

    assert await partition.find_newest() == newest
    first = next((record for record in seen if record[0] >= timestamp_ms), None)
    assert await partition.find_timestamp(timestamp_ms) == first
    assert partition.uncommitted_bytes <= partition._stream.stored_bytes
    assert partition._stream.stored_bytes == sum(part.size for part in partition._stream.segments())
    starts = [part.start for part in partition._stream.segments()]
    assert starts == sorted(starts)
    if partition.next_offset > partition.log_start_offset:
        *_older, newest = partition._stream.segments()
        assert next(partition._stream.segments()).start <= max(partition.log_start_offset, Offset(0))
        assert newest.end == partition.next_offset


@pytest.mark.parametrize("kind", [Compression.GZIP, Compression.LZ4, Compression.ZSTD])
async def test_a3_batch_of_few_bytes_and_many_records_is_searched_in_turns(kind: Compression) -> None:
    path, partition, _ = await a_partition()
    client = path.connect()
    batch = bytearray(a_batch(*range(1000, 5000), size=100, compression=kind))
    assert len(batch) < 64 * 1024
    answer = await client.call(ApiKey.PRODUCE, 9, produce_request(batch))
    assert answer.responses[0].partition_responses[0].error_code == 0
    path.workers.calls.clear()

    assert await partition.find_timestamp(4998) == (4998, 3998)
    assert await partition.find_newest() == (4999, 3999)
    assert set(path.workers.calls) == {"content_of"}
    assert path.engine.memory[Account.RECEIVE].used == 0
    await path.close()


async def test_k9_newest_of_records_without_timestamps_is_the_first_one_as_in_kafka() -> None:
    path, partition, _ = await a_partition()
    assert await partition.find_newest() is None
    await put(path, partition, a_batch(-1, -1), a_batch(-1))
    assert await partition.find_newest() == (-1, 0)
    await partition.delete_records(1)
    assert await partition.find_newest() == (-1, 1)
    await put(path, partition, a_batch(5))
    assert await partition.find_newest() == (5, 3)
    await partition.delete_records(4)
    assert await partition.find_newest() is None
    await path.close()
