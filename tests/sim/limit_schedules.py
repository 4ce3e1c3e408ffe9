"""Directed schedules in which memory runs out: many write, the store takes nothing, a reader stalls."""

import asyncio

from automq.protocol.apis import ApiKey
from automq.protocol.errors import ErrorCode
from automq.protocol.messages.fetch import FetchPartition, FetchRequest, FetchTopic
from automq.protocol.messages.group import FindCoordinatorRequest
from automq.protocol.messages.offset import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from automq.protocol.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from tests.sim.actors import Reader
from tests.sim.broker_schedules import hold
from tests.sim.broker_world import ASIDE, GROUP, TOPIC, BrokerWorld
from tests.sim.sizes import KIB, SLOT_BYTES, Sizes
from tests.support.batches import BadBatch, build_batch, parse_batches
from tests.support.client import SimClient
from tests.support.cluster import Incarnation

ARENAS = 8
RECORD_BYTES = 1500
BATCH_RECORDS = 30
# A slot of one such batch takes a page: nothing smaller fits behind it in an arena that is full of them.
PAGE_BATCH_BYTES = 3000


def small_memory(world: BrokerWorld, **storage: int) -> None:
    """From now on brokers are started with half a MiB of arenas."""
    world.cluster.tuning = {"storage": {"arena_bytes": ARENAS * SLOT_BYTES, "upload_bytes": 2 * SLOT_BYTES, **storage}}


async def write(world: BrokerWorld, size: int) -> None:
    """About so many bytes to partition 0, acknowledged when this returns."""
    world.producers[0].sizes = Sizes(record_bytes=RECORD_BYTES)
    await world.produce(size // (BATCH_RECORDS * RECORD_BYTES), records=BATCH_RECORDS)


async def memory_runs_out(world: BrokerWorld) -> None:
    """Three times what memory holds is written, and read from its beginning, which is not in memory any more."""
    small_memory(world, block_cache_bytes=64 * KIB, cold_read_bytes=64 * KIB)
    await world.broker()
    await write(world, 3 * ARENAS * SLOT_BYTES)
    process, client = world.client("reader")
    reader = Reader(client, world.dice, world.history, name="reader", topic=TOPIC)
    while await process.spawn(reader.step()):
        pass


async def store_takes_nothing(world: BrokerWorld) -> None:
    """Many write while no slot becomes durable, until memory is full. Then a group commits; then the store is back."""
    small_memory(world)
    first = await world.broker()
    process, client = world.client("committer")
    while await process.spawn(commit(client, first, world, offset=1)):
        await asyncio.sleep(0.1)
    writers = world.client("writers")[1]
    hold(world, first, "/wal/")
    connection = await writers.connection(world.address_of(first))
    answers = [
        connection.send(ApiKey.PRODUCE, 9, "writers", aside(PAGE_BATCH_BYTES))
        for _ in range(2 * ARENAS * SLOT_BYTES // PAGE_BATCH_BYTES)
    ]
    await asyncio.sleep(2)
    committing = process.spawn(commit(client, first, world, offset=2))
    await asyncio.sleep(2)
    world.calm()
    world.cluster.store.release_held()
    if code := await committing:
        world.cluster.violation(f"a group's commit was refused with {code.name} because producers had filled memory")
    for sent in answers:
        answer = await writers.answer(world.address_of(first), ApiKey.PRODUCE, 9, sent)
        if code := ErrorCode(answer.responses[0].partition_responses[0].error_code):
            world.cluster.violation(f"a produce was refused with {code.name}: it was let in without room")
            break


async def reader_that_stalls(world: BrokerWorld) -> None:
    """A client asks for much and does not read; its answers wait, and what they are made of is wanted for others."""
    small_memory(world)
    first = await world.broker()
    await write(world, 5 * SLOT_BYTES)
    _, client = world.client("staller")
    address = world.address_of(first)
    connection = await client.connection(address)
    connection.pause()
    answers = [connection.send(ApiKey.FETCH, 12, "staller", everything(5 * SLOT_BYTES)) for _ in range(3)]
    await asyncio.sleep(0.5)
    # What it was announced is evicted by now, and must come from objects.
    await write(world, 2 * ARENAS * SLOT_BYTES)
    connection.resume()
    for sent in answers:
        answer = await client.answer(address, ApiKey.FETCH, 12, sent)
        position = 0
        try:
            for batch in parse_batches(answer.responses[0].partitions[0].records or b""):
                position = world.history.read(0, position, batch, reader="staller")
        except BadBatch as error:
            world.cluster.violation(f"a reader that stalled was sent garbage: {error}")


def aside(size: int) -> ProduceRequest:
    """One batch of so many bytes, to a topic whose records nobody counts."""
    data = PartitionProduceData(index=0, records=memoryview(build_batch([bytes(size)], timestamp_ms=0)))
    return ProduceRequest(acks=-1, timeout=9000, topic_data=[TopicProduceData(name=ASIDE, partition_data=[data])])


def everything(size: int) -> FetchRequest:
    """So many bytes of partition 0, from its beginning."""
    partition = FetchPartition(partition=0, fetch_offset=0, partition_max_bytes=size, current_leader_epoch=-1)
    return FetchRequest(
        max_wait=100, min_bytes=1, max_bytes=size, topics=[FetchTopic(topic=TOPIC, partitions=[partition])]
    )


async def commit(client: SimClient, made: Incarnation, world: BrokerWorld, *, offset: int) -> ErrorCode:
    """Commit as one who is no member: what the broker says. Whoever looks for the coordinator makes its topic."""
    await client.call(world.address_of(made), ApiKey.FIND_COORDINATOR, 3, FindCoordinatorRequest(key=GROUP))
    request = OffsetCommitRequest(
        group_id=GROUP,
        generation_id_or_member_epoch=-1,
        member_id="",
        topics=[
            OffsetCommitRequestTopic(
                name=TOPIC,
                partitions=[
                    OffsetCommitRequestPartition(partition_index=0, committed_offset=offset, committed_metadata="")
                ],
            )
        ],
    )
    answer = await client.call(world.address_of(made), ApiKey.OFFSET_COMMIT, 7, request)
    return ErrorCode(answer.topics[0].partitions[0].error_code)


SCHEDULES = {
    "memory_runs_out": (memory_runs_out, {}),
    "store_takes_nothing": (store_takes_nothing, {}),
    "reader_that_stalls": (reader_that_stalls, {}),
}
