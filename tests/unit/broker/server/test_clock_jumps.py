"""A wall clock that jumps deletes nothing that cannot be brought back."""

import asyncio

import pytest

from automq.controller.model import TopicSpec
from automq.protocol.messages.offset import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
    OffsetFetchRequestGroup,
)
from automq.s3stream.store.memory import MemoryStore
from automq.server.lifecycle.states import State
from tests.support import quiet_platform
from tests.support.batches import build_batch
from tests.support.quiet_platform import LoopClock, quiet_broker

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]

DAY_MS = 86_400_000


@pytest.mark.parametrize("put_right", [False, True])
async def test_retention_pauses_when_wall_time_jumps(monkeypatch: pytest.MonkeyPatch, put_right: bool) -> None:
    ahead_ms = 0

    class JumpingClock(LoopClock):
        def wall_ms(self) -> int:
            return super().wall_ms() + ahead_ms

    monkeypatch.setattr(quiet_platform, "LoopClock", JumpingClock)
    broker = quiet_broker(
        MemoryStore(),
        automq__upload__interval__ms="1000",
        offsets__retention__check__interval__ms="60000",
        log__retention__check__interval__ms="60000",
    )
    running = asyncio.ensure_future(broker.run())
    while broker.lifecycle.state is not State.SERVING:
        await asyncio.sleep(0.1)
    parts = broker._components
    assert parts is not None
    assert parts.partitions is not None
    day = TopicSpec(name="day", partitions=1, configs={"retention.ms": str(DAY_MS)})
    small = TopicSpec(name="small", partitions=1, configs={"retention.bytes": "1"})
    await parts.controller.create_topics([day, small])

    async def append(topic: str) -> None:
        assert parts is not None
        assert parts.partitions is not None
        batch = build_batch([b"v"], timestamp_ms=JumpingClock().wall_ms())
        parts.partitions.get(topic, 0).append(memoryview(bytearray(batch)))
        await asyncio.sleep(3)

    await append("day")
    assert parts.groups is not None
    await parts.groups.find_coordinator("g")
    await asyncio.sleep(5)
    committed = OffsetCommitRequestPartition(partition_index=0, committed_offset=1)
    topic = OffsetCommitRequestTopic(name="day", partitions=[committed])
    commit = OffsetCommitRequest(group_id="g", generation_id_or_member_epoch=-1, topics=[topic])
    await parts.groups.offset_commit(commit, knows_group_errors=True)
    ahead_ms = 30 * DAY_MS
    await asyncio.sleep(600)
    for _ in range(3):
        await append("small")
    await asyncio.sleep(600)

    fetched = await parts.groups.offset_fetch(OffsetFetchRequestGroup(group_id="g", topics=None))
    assert [found.name for found in fetched.topics] == ["day"], "an offset is no older"
    assert parts.partitions.get("day", 0).log_start_offset == 0, "it is a few minutes old"
    assert parts.partitions.get("small", 0).log_start_offset > 0, "size asks no clock"
    if put_right:
        ahead_ms = 0
    await asyncio.sleep(3600)
    assert parts.partitions.get("day", 0).log_start_offset == (0 if put_right else 1)
    broker.stop()
    await running


@pytest.mark.parametrize("same_boot", [True, False])
async def test_restart_goes_on_with_the_time_that_its_predecessor_trusted(
    monkeypatch: pytest.MonkeyPatch, same_boot: bool
) -> None:
    ahead_ms = 0

    class JumpingClock(LoopClock):
        def wall_ms(self) -> int:
            return super().wall_ms() + ahead_ms

    monkeypatch.setattr(quiet_platform, "LoopClock", JumpingClock)
    store, paused = MemoryStore(), []
    for seed, boot_id in ((1, "boot"), (2, "boot" if same_boot else "another")):
        broker = quiet_broker(store, seed=seed, boot_id=boot_id)
        running = asyncio.ensure_future(broker.run())
        while broker.lifecycle.state is not State.SERVING:
            await asyncio.sleep(0.1)
        await asyncio.sleep(70)
        paused.append(broker.metrics.registry.get_sample_value("automq_retention_paused"))
        ahead_ms = 30 * DAY_MS
        if seed == 1:
            await asyncio.sleep(70)
            paused.append(broker.metrics.registry.get_sample_value("automq_retention_paused"))
        broker.stop()
        await running

    assert paused == [0, 1, 1 if same_boot else 0]
