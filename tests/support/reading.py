"""A data path and its consumer: what tests of fetches begin with."""

from typing import Any

from automq.ids import Offset
from automq.protocol.apis import ApiKey
from automq.protocol.messages.fetch import FetchResponse, PartitionData
from tests.support.batches import build_batch, parse_batches
from tests.support.data_path import TOPIC, DataPath, MemoryTransport, fetch_request, produce_request

VERSION = 12


async def a_path(partitions: int = 1, **fields: Any) -> tuple[DataPath, MemoryTransport]:
    path = await DataPath(**fields).start()
    path.create_topic(partitions=partitions)
    return path, path.connect()


async def put(client: MemoryTransport, *values: bytes, partition: int = 0) -> None:
    """One batch a value."""
    for value in values:
        request = produce_request(build_batch([value], timestamp_ms=0), partition=partition)
        await client.call(ApiKey.PRODUCE, 9, request)


def parts(response: FetchResponse) -> list[PartitionData]:
    return [partition for topic in response.responses for partition in topic.partitions]


def values(partition: PartitionData) -> list[bytes]:
    assert partition.records is not None
    return [value for batch in parse_batches(partition.records) for value in batch.values]


async def fetch(client: MemoryTransport, *offsets: int, version: int = VERSION, **fields: Any) -> list[PartitionData]:
    return parts(await client.call(ApiKey.FETCH, version, fetch_request(*offsets, **fields)))


async def fill(path: DataPath, client: MemoryTransport, *, partition: int = 0) -> int:
    """Write until the first records are in objects alone; how many batches that took."""
    count = 0
    while count < 20 or path.partitions.get(TOPIC, partition).read_cached(Offset(0), 1) is not None:
        await put(client, b"%05d" % count + bytes(20_000), partition=partition)
        count += 1
        if count % 5 == 0:
            await path.engine.storage.upload.flush()
        assert count < 500
    return count
