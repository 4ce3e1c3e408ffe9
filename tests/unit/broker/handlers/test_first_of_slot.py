"""The first batch of a slot, which lies in its place before the slot is opened: seen from a client."""

import random
from typing import Any

import pytest

from automq.ids import Offset
from automq.protocol.apis import ApiKey
from automq.protocol.errors import ErrorCode
from automq.protocol.messages.produce import PartitionProduceResponse, ProduceResponse
from automq.protocol.records import Record, build_batch
from automq.s3stream.model import BrokerFenced
from automq.s3stream.store.memory import MemoryStore
from tests.support.batches import parse_batches
from tests.support.data_path import TOPIC, DataPath, MemoryTransport, produce_request

pytestmark = pytest.mark.looptime

VERSION = 10


def a_batch(**fields: Any) -> bytearray:
    return build_batch([Record(key=b"k", value=b"v")], **fields)


def outcome(response: ProduceResponse) -> PartitionProduceResponse:
    return response.responses[0].partition_responses[0]


def base_of(response: ProduceResponse) -> tuple[int, int]:
    """Error and base offset."""
    return outcome(response).error_code, outcome(response).base_offset


async def quiet_path(long_ways: list[int], store: Any = None) -> tuple[DataPath, MemoryTransport]:
    """With a client that has produced before, and no slot open."""
    path = await DataPath(store=store).start()
    path.create_topic()
    client = path.connect()
    await client.call(ApiKey.PRODUCE, VERSION, produce_request(a_batch()))
    assert path.engine.storage.append.wal.slot is None
    long_ways.clear()
    return path, client


async def test_first_batch_of_a_slot_takes_the_short_way_too(long_ways: list[int]) -> None:
    path, client = await quiet_path(long_ways)
    for number in range(1, 4):
        batch = build_batch([Record(value=b"%d" % number * 5000)])
        assert base_of(await client.call(ApiKey.PRODUCE, VERSION, produce_request(batch))) == (0, number)
        assert path.engine.storage.append.wal.slot is None
    read = path.partitions.get(TOPIC, 0).read_cached(Offset(1), 1 << 30)

    assert long_ways == []
    assert read is not None
    assert [each.values for batch in read.batches for each in parse_batches(bytes(batch))] == [
        (b"%d" % n * 5000,) for n in (1, 2, 3)
    ]
    await path.close()


async def test_first_batch_of_a_slot_is_recovered(long_ways: list[int]) -> None:
    store = MemoryStore()
    path, client = await quiet_path(long_ways, store=store)
    await client.call(ApiKey.PRODUCE, VERSION, produce_request(build_batch([Record(value=b"first" * 3000)])))
    assert long_ways == []
    wal = path.engine.storage.append.wal
    newest = wal.slot_id(wal.next_sequence - 1)
    (record,) = newest.decode(await store.get(newest.key)).records

    assert b"first" * 3000 in bytes(record.payload)
    await path.close()


@pytest.mark.parametrize("kind", ["damaged", "out of sequence"])
async def test_first_batch_that_is_refused_opens_no_slot(kind: str, long_ways: list[int]) -> None:
    path, client = await quiet_path(long_ways)
    if kind == "damaged":
        batch = a_batch()
        batch[-1] ^= 1
    else:
        first = a_batch(producer_id=5, producer_epoch=0, base_sequence=0)
        await client.call(ApiKey.PRODUCE, VERSION, produce_request(first))
        batch = a_batch(producer_id=5, producer_epoch=0, base_sequence=9)
    wal, end = path.engine.storage.append.wal, path.partitions.get(TOPIC, 0).next_offset
    before = wal.next_sequence
    answer = outcome(await client.call(ApiKey.PRODUCE, VERSION, produce_request(batch)))

    assert answer.error_code in (ErrorCode.CORRUPT_MESSAGE, ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER)
    assert (wal.slot, wal.next_sequence, path.partitions.get(TOPIC, 0).next_offset) == (None, before, end)
    await path.close()


async def test_first_batch_of_a_slot_that_needs_another_arena_takes_the_long_way(long_ways: list[int]) -> None:
    path, client = await quiet_path(long_ways)
    wal = path.engine.storage.append.wal
    size = wal.append_bytes_max // 2
    for number in range(1, 40):
        batch = build_batch([Record(value=random.Random(number).randbytes(size))])
        assert base_of(await client.call(ApiKey.PRODUCE, VERSION, produce_request(batch))) == (0, number)
        await path.engine.storage.upload.flush()

    assert 0 < len(long_ways) < 39
    await path.close()


async def test_first_batch_of_a_slot_is_refused_by_an_engine_that_stops(long_ways: list[int]) -> None:
    path, client = await quiet_path(long_ways)
    wal = path.engine.storage.append.wal
    assert wal.next_place(100) is not None
    wal.is_closing = True
    assert wal.next_place(100) is None
    wal.is_closing = False
    path.engine.storage.halt(BrokerFenced("fenced"))
    assert wal.next_place(100) is None
    answer = outcome(await client.call(ApiKey.PRODUCE, VERSION, produce_request(a_batch())))

    assert answer.error_code
    assert (wal.slot, long_ways) == (None, [VERSION])
    await path.close()
