"""Arenas: bounded, held while anybody needs the bytes, recycled as a whole."""

import random

import pytest

from automq.ids import Offset
from automq.runtime.budget import ByteBudget
from automq.s3stream.arena import PAGE_BYTES, Arena, ArenaPool, ReadResult


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


def test_memory_of_its_own_takes_the_place_of_arenas_and_goes() -> None:
    account = ByteBudget(0)
    pool = ArenaPool(arenas_max=4, arena_bytes=PAGE_BYTES, account=account)
    arenas = [pool.take() for _ in range(3)]
    for arena in arenas:
        assert arena is not None
        arena.release()
    assert account.used == 3 * PAGE_BYTES

    own = pool.take_own(2 * PAGE_BYTES + 1)
    assert own is not None
    assert (own.units, own.size, pool.held, pool.room_bytes) == (3, 3 * PAGE_BYTES, 3, PAGE_BYTES)
    assert account.used == 4 * PAGE_BYTES
    assert pool.take_own(PAGE_BYTES + 1) is None
    assert pool.take() is not None
    assert pool.take() is None

    own.release()
    assert account.used == PAGE_BYTES
    assert (pool.held, pool.allocated) == (1, 1)


@pytest.mark.parametrize("seed", range(20))
def test_arenas_and_memory_of_its_own_together_stay_within_the_pool(seed: int) -> None:
    draw = random.Random(seed)
    account = ByteBudget(0)
    pool = ArenaPool(arenas_max=8, arena_bytes=PAGE_BYTES, account=account)
    held: list[Arena] = []
    cached: list[Arena] = []

    def evict() -> bool:
        if not cached:
            return False
        cached.pop(0).forget()
        return True

    pool.evict = evict
    for _ in range(400):
        match draw.randint(0, 3):
            case 0:
                arena = pool.take()
                held += [arena] if arena is not None else []
            case 1:
                arena = pool.take_own(draw.randint(1, 4 * PAGE_BYTES))
                held += [arena] if arena is not None else []
            case 2 if held:
                held.pop(draw.randrange(len(held))).release()
            case _ if held:
                arena = held.pop(draw.randrange(len(held)))
                arena.cache()
                arena.release()
                cached.append(arena)
        used = sum(arena.units for arena in held)
        assert pool.held == used
        assert pool.room_bytes == (8 - used) * PAGE_BYTES
        assert used <= pool.allocated <= 8
        assert account.used <= 8 * PAGE_BYTES
