"""What the loop does for an OffsetCommit of a thousand partitions, from its bytes to those of its answer."""

import asyncio
import time
from collections.abc import Iterator

import uvloop

from automq.protocol.apis import APIS, ApiKey, encode_request
from automq.protocol.messages.group import FindCoordinatorRequest
from automq.protocol.messages.offset import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from tests.bench.report import Row, at_most
from tests.support.served import served

PARTITIONS = 1_000
VERSION = 9
GOAL_MS = 3.0


async def _measure(runs: int) -> float:
    """CPU milliseconds of one; the fastest tenth of the runs, as neighbours only ever add."""
    async with served() as world:
        await world.create("wide", PARTITIONS)
        client = world.connect()
        while (await client.call(ApiKey.FIND_COORDINATOR, 3, FindCoordinatorRequest(key="group"))).error_code:
            await asyncio.sleep(0.01)
        partitions = [OffsetCommitRequestPartition(partition_index=n, committed_offset=n) for n in range(PARTITIONS)]
        request = OffsetCommitRequest(
            group_id="group",
            generation_id_or_member_epoch=-1,
            member_id="",
            topics=[OffsetCommitRequestTopic(name="wide", partitions=partitions)],
        )
        while (await client.call(ApiKey.OFFSET_COMMIT, VERSION, request)).topics[0].partitions[0].error_code:
            # Until the group's shard is loaded.
            await asyncio.sleep(0.01)
        frame = encode_request(APIS[ApiKey.OFFSET_COMMIT], VERSION, 1, "bench", request)
        times = []
        for _ in range(runs):
            began = time.process_time()
            client.feed(frame)
            while not client.frames():
                await asyncio.sleep(0.001)
            times.append((time.process_time() - began) * 1e3)
        answer = await client.call(ApiKey.OFFSET_COMMIT, VERSION, request)
        assert not any(partition.error_code for partition in answer.topics[0].partitions), "it was refused"
    return sorted(times)[len(times) // 10]


def rows(*, quick: bool) -> Iterator[Row]:
    """The row of the group."""
    value = uvloop.run(_measure(20 if quick else 200))
    yield at_most(f"OffsetCommit of {PARTITIONS:,} partitions", value, "ms", GOAL_MS)
