"""Runs of the log cache are looked through by time in bounded turns, and what was learned of them is used again."""

from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from automq.ids import Offset, StreamEpoch, StreamId
from automq.runtime.turns import in_turns
from automq.s3stream.arena import Arena
from automq.s3stream.cache import time_lookup
from automq.s3stream.cache.log_cache import SIZE_BITS, BlockState, CacheBlock, Run, StreamTail
from automq.s3stream.cache.time_lookup import GROUP_BATCHES, _first_in_run, _greatest_in_run, _SpanReplaced
from automq.steps import at_once
from tests.support.turns import check_turns


class World:
    """One run whose batches have two offsets each, and timestamps that are counted when somebody looks."""

    def __init__(self, timestamps: list[int]) -> None:
        block = CacheBlock()
        block.arenas = [cast(Arena, None)]
        self.run = Run(StreamTail(StreamId(1), StreamEpoch(1)), block, Offset(0))
        self.timestamps: list[int] = []
        self.looks = 0
        for timestamp in timestamps:
            self.append(timestamp)

    def append(self, timestamp: int) -> None:
        index = len(self.timestamps)
        self.run.bases.append(2 * index)
        self.run.places.append(index << SIZE_BITS)
        self.timestamps.append(timestamp)
        self.run.end = Offset(2 * index + 2)

    def timestamp_of(self, _arena: Arena, position: int) -> int:
        self.looks += 1
        return self.timestamps[position]

    def first(self, timestamp: int, start: int) -> int | None:
        return at_once(_first_in_run(self.run, timestamp, Offset(start), self.timestamp_of))

    def greatest(self, start: int, end: int) -> int | None:
        return at_once(_greatest_in_run(self.run, Offset(start), Offset(end), self.timestamp_of))


TIMES = st.integers(0, 6)


@settings(deadline=None)
@given(st.lists(TIMES, min_size=1, max_size=30), st.data())
def test_is_what_looking_at_every_batch_finds(timestamps: list[int], data: Any) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time_lookup, "GROUP_BATCHES", 4)
        world = World(timestamps)
        for _ in range(6):
            if data.draw(st.booleans()):
                world.append(data.draw(TIMES))
            batches = list(enumerate(world.timestamps))
            start, end = data.draw(st.integers(0, 64)), data.draw(st.integers(0, 64))
            if start < world.run.end:
                wanted = data.draw(TIMES)
                found = [2 * index for index, time in batches if 2 * index + 2 > start and time >= wanted]
                assert world.first(wanted, start) == (found[0] if found else None)
            seen = [time for index, time in batches if start <= 2 * index < end]
            assert world.greatest(start, end) == (max(seen) if seen else None)


def test_who_asks_again_looks_at_one_group() -> None:
    world = World([1] * (GROUP_BATCHES * 100) + [2])
    assert world.first(2, 0) == 2 * GROUP_BATCHES * 100
    world.looks = 0
    assert world.first(2, 0) == 2 * GROUP_BATCHES * 100
    assert world.looks == 1
    assert world.greatest(1, world.run.end) == 2
    assert world.looks < 2 * GROUP_BATCHES


async def test_an_evicted_run_is_not_looked_at_on() -> None:
    world = World([1] * (GROUP_BATCHES * 3))
    for steps in (
        _first_in_run(world.run, 2, Offset(0), world.timestamp_of),
        _greatest_in_run(world.run, Offset(1), Offset(10**6), world.timestamp_of),
    ):
        world.run.block.state, world.run.peaks = BlockState.OPEN, None
        next(steps)
        world.run.block.state = BlockState.EVICTED
        world.looks = 0
        with pytest.raises(_SpanReplaced):
            next(steps)
        assert world.looks == 0
        with pytest.raises(_SpanReplaced):
            await in_turns(_first_in_run(world.run, 2, Offset(0), world.timestamp_of))


@pytest.mark.parametrize("newest", [False, True])
async def test_b6_half_a_million_cached_batches_are_bounded_turns(newest: bool) -> None:
    async def prepare() -> Callable[[], Awaitable[object]]:
        world = World([1] * 400_000)
        if newest:
            return lambda: in_turns(_greatest_in_run(world.run, Offset(1), Offset(10**6), world.timestamp_of))
        return lambda: in_turns(_first_in_run(world.run, 2, Offset(1), world.timestamp_of))

    await check_turns(prepare)
