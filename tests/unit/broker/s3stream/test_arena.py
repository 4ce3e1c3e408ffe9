"""Arenas: bounded, held while anybody needs the bytes, recycled as a whole."""

import pytest

from automq.ids import Offset
from automq.runtime.budget import ByteBudget
from automq.s3stream.arena import PAGE_BYTES, ArenaPool, ReadResult


def a_pool(arenas_max: int = 3) -> ArenaPool:
    return ArenaPool(arenas_max=arenas_max, arena_bytes=PAGE_BYTES, account=ByteBudget(0))


def test_memory_is_allocated_only_when_it_is_taken() -> None:
    pool = a_pool()
    assert pool.allocated == 0

    pool.take()

    assert (pool.allocated, pool.held, pool.room_bytes) == (1, 1, 2 * PAGE_BYTES)


def test_pool_gives_no_more_than_its_budget() -> None:
    pool = a_pool()
    for _ in range(3):
        assert pool.take() is not None

    assert pool.take() is None


def test_released_arena_is_used_again() -> None:
    pool = a_pool()
    arena = pool.take()
    assert arena is not None
    arena.release()

    assert pool.take() is arena
    assert pool.allocated == 1


def test_every_hold_must_be_released_before_an_arena_is_reused() -> None:
    pool = a_pool(2)
    arena, other = pool.take(), pool.take()
    assert arena is not None
    assert other is not None
    arena.hold()
    arena.release()
    assert pool.take() is None

    arena.release()

    assert pool.take() is arena


def test_cached_arena_is_evicted_only_when_room_is_needed() -> None:
    pool = a_pool(2)
    evicted = []
    arena = pool.take()
    assert arena is not None
    arena.cache()
    arena.release()
    pool.evict = lambda: evicted.append(arena.forget()) is None
    assert pool.room_bytes == 2 * PAGE_BYTES

    pool.take()
    assert not evicted
    pool.take()

    assert len(evicted) == 1


def test_making_room_is_announced() -> None:
    pool = a_pool()
    announced: list[int] = []
    arena = pool.take()
    assert arena is not None
    pool.on_room = lambda: announced.append(pool.room_bytes)

    arena.release()

    assert announced == [3 * PAGE_BYTES]


def test_release_without_hold_is_a_bug() -> None:
    arena = a_pool().take()
    assert arena is not None
    arena.release()

    with pytest.raises(AssertionError):
        arena.release()


def test_read_result_pins_its_arenas_until_released_once() -> None:
    pool = a_pool()
    arena = pool.take()
    assert arena is not None
    result = ReadResult([arena.view[:10]], start_offset=Offset(0), end_offset=Offset(1), size=10, arenas=[arena, arena])
    arena.release()
    assert pool.held == 1

    result.release()
    result.release()

    assert pool.held == 0
