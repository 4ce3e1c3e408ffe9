"""A round of retention over many partitions: bounded turns, and no more work than there is to forget."""

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import pytest

from automq.metadata.records import StreamTrimmed
from automq.s3stream.stream import Stream
from tests.support.growth_world import GrowthWorld, growth_world
from tests.support.turns import LIMIT_MS, check_turns

DAY_MS = 86_400_000
CONFIGS: dict[str, str | None] = {"retention.ms": str(7 * DAY_MS)}
PARTITIONS = 1_000


async def a_week(world: GrowthWorld, *, partitions: int = PARTITIONS, uploads: int = 21) -> None:
    """Uploads of eight hours, so to speak; the oldest is as old as anything may be."""
    await world.create_topics(partitions, configs=CONFIGS)
    await world.opened(partitions)
    for _ in range(uploads):
        await world.upload()
        world.clock.now_ms += 7 * DAY_MS // uploads


async def test_b1_a_round_that_finds_nothing_is_bounded_turns() -> None:
    async with AsyncExitStack() as stack:

        async def prepare() -> Callable[[], Awaitable[object]]:
            world = await stack.enter_async_context(growth_world())
            await a_week(world)
            return world.partitions.retain

        longest = await check_turns(prepare, limit_ms=LIMIT_MS / 2)
        assert longest.cpu_ms < PARTITIONS * 0.1 * 3


async def test_b1_a_round_in_which_everybody_forgets_is_bounded_turns() -> None:
    async with AsyncExitStack() as stack:

        async def prepare() -> Callable[[], Awaitable[object]]:
            world = await stack.enter_async_context(growth_world())
            await a_week(world)
            world.clock.now_ms += DAY_MS // 3

            async def work() -> None:
                await world.partitions.retain()
                assert {partition.log_start_offset for partition in world.partitions.all()} == {1}

            return work

        await check_turns(prepare, limit_ms=LIMIT_MS / 2)


async def test_b1_no_segment_is_made_beyond_the_first_that_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    async with growth_world() as world:
        await a_week(world, partitions=10)
        taken = 0
        segments = Stream.segments

        def counted(self: Stream):  # type: ignore[no-untyped-def]
            nonlocal taken
            for segment in segments(self):
                taken += 1
                yield segment

        monkeypatch.setattr(Stream, "segments", counted)
        await world.partitions.retain()
        assert taken == 10

        world.clock.now_ms += DAY_MS
        trims = []
        world.metadata.subscribe(
            lambda change: trims.extend(record for record in change.records if isinstance(record, StreamTrimmed))
        )
        await world.partitions.retain()
        assert {trim.start for trim in trims} == {3}
        assert len(trims) == 10
        # Three that go and one that stays.
        assert taken == 10 + 10 * 4


async def test_a_partition_that_is_lost_meanwhile_puts_off_itself_alone() -> None:
    async with growth_world() as world:
        await a_week(world, partitions=5)
        world.clock.now_ms += DAY_MS
        lost = world.partitions.all()[2]
        lost._stream.lose(ConnectionError("gone"))
        await world.partitions.retain()
        others = [partition.log_start_offset for partition in world.partitions.all()]
        assert others == [3, 3, 3, 3]


async def test_a_round_says_how_many_objects_hold_a_partition_at_most() -> None:
    async with growth_world() as world:
        await a_week(world, partitions=3)
        held = {len(stream.held.objects) for stream in world.metadata.image.streams.values()}
        assert held == {max(held)} != {0}
        await world.partitions.retain()
        assert world.partitions._ranges_metric._value.get() == max(held)

        world.clock.now_ms += DAY_MS
        await world.partitions.retain()
        await world.partitions.retain()
        assert world.partitions._ranges_metric._value.get() == max(held) - 3
