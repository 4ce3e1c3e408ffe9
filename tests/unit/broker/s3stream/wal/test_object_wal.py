"""The WAL on object storage: when slots are sent, in what order they count, and what a taken slot means."""

import asyncio
from dataclasses import replace

import pytest

from automq.ids import BrokerEpoch
from automq.s3stream.model import BrokerFenced, FencedBy, StorageFull, StoreDamaged, StreamClosed
from automq.s3stream.ports import StoreUnavailable
from automq.s3stream.settings import StorageSettings
from automq.s3stream.store.memory import MemoryStore
from automq.s3stream.stream import Stream
from tests.support.engine import SMALL, Engine, HeldStore, Ledger, a_fence, append, durable, keys_of, slot_key

pytestmark = pytest.mark.looptime

INTERVAL_S = SMALL.wal_interval_ms / 1000


def an_engine(settings: StorageSettings = SMALL) -> tuple[Engine, Stream, HeldStore]:
    ledger = Ledger()
    held = HeldStore(MemoryStore())
    engine = Engine(ledger, held, settings=settings)
    engine.storage.start()
    return engine, engine.storage.open_stream(ledger.create_stream(1)), held


def creates(store: HeldStore) -> list[str]:
    return [key for name, key in store.calls if name == "create"]


async def test_after_silence_a_slot_is_sent_at_the_end_of_the_turn() -> None:
    engine, stream, store = an_engine()
    positions = [append(stream) for _ in range(5)]
    started = asyncio.get_running_loop().time()

    await durable(engine.storage, positions[-1])

    assert positions == [0] * 5
    assert creates(store) == [slot_key(0)]
    assert asyncio.get_running_loop().time() == started


async def test_under_load_slots_are_paced_to_the_interval() -> None:
    engine, stream, store = an_engine()
    started = asyncio.get_running_loop().time()
    for _ in range(20):
        append(stream)
        await asyncio.sleep(INTERVAL_S / 4)
    await durable(engine.storage, stream.last_position)

    elapsed = asyncio.get_running_loop().time() - started
    assert 4 <= len(creates(store)) <= elapsed / INTERVAL_S + 2


STEADY = replace(
    SMALL, arena_bytes=16 * 256 * 1024, upload_bytes=2 * 1024 * 1024, upload_interval_ms=3_600_000, wal_inflight=8
)
"""Arenas of 256 KiB, and no upload that closes a slot."""


async def test_slots_of_an_interval_are_not_cut_by_the_end_of_an_arena() -> None:
    """50 KB an interval: after five slots 16 KB of an arena are left, which would be a slot and a PUT of their own."""
    engine, stream, store = an_engine(STEADY)
    for _ in range(30):
        for _ in range(50):
            append(stream, size=900)
        await asyncio.sleep(INTERVAL_S)
    await durable(engine.storage, stream.last_position)

    assert len(creates(store)) <= 31
    assert stream.confirmed_offset == 1500


async def test_rest_of_an_arena_is_used_where_no_other_is_to_be_had() -> None:
    engine, stream, store = an_engine(STEADY)
    pool = engine.storage.append.pool
    while pool.held + 1 < pool.arenas_max:
        pool.take()
    for _ in range(5):
        for _ in range(50):
            append(stream, size=900)
        await asyncio.sleep(INTERVAL_S)
    rest = engine.storage.append.wal.arena_room
    assert 0 < rest < 20_000

    append(stream, size=900)
    await durable(engine.storage, stream.last_position)

    assert stream.confirmed_offset == 251
    with pytest.raises(StorageFull):
        append(stream, size=rest)


async def test_full_slot_is_sent_at_once() -> None:
    engine, stream, store = an_engine()
    first = append(stream)
    await durable(engine.storage, first)
    while stream.last_position < 2:
        append(stream, size=10_000)
    await asyncio.sleep(0)
    await asyncio.sleep(0)

    assert creates(store) == [slot_key(0), slot_key(1)]


async def test_no_more_slots_in_flight_than_allowed_and_the_open_one_fills_up() -> None:
    engine, stream, store = an_engine()
    gate = asyncio.Event()
    store.before = lambda name, key: gate.wait()
    for _ in range(40):
        append(stream)
        await asyncio.sleep(INTERVAL_S * 3)
    assert len(creates(store)) == SMALL.wal_inflight

    gate.set()
    await durable(engine.storage, stream.last_position)

    assert len(creates(store)) == SMALL.wal_inflight + 1
    assert stream.confirmed_offset == 40


@pytest.mark.parametrize(
    ("put_s", "sent_after_s"), [(INTERVAL_S + 0.001, INTERVAL_S + 0.001), (10.0, INTERVAL_S + 0.002)]
)
async def test_small_slot_waits_a_moment_for_the_one_on_its_way(put_s: float, sent_after_s: float) -> None:
    engine, stream, store = an_engine(replace(SMALL, wal_eager_bytes=10_000))

    async def before(name: str, key: str) -> None:
        if key == slot_key(0):
            await asyncio.sleep(put_s)

    store.before = before
    append(stream)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    append(stream)
    started = asyncio.get_running_loop().time()
    while slot_key(1) not in creates(store):
        await asyncio.sleep(0.0005)

    assert sent_after_s <= asyncio.get_running_loop().time() - started <= sent_after_s + 0.001


async def test_slot_that_is_large_enough_waits_for_none() -> None:
    engine, stream, store = an_engine(replace(SMALL, wal_eager_bytes=10_000))
    gate = asyncio.Event()
    store.before = lambda name, key: gate.wait()
    append(stream)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    append(stream, size=12_000)
    await asyncio.sleep(INTERVAL_S * 1.5)

    assert creates(store) == [slot_key(0), slot_key(1)]


async def test_acknowledgements_keep_slot_order_when_successes_do_not() -> None:
    engine, stream, store = an_engine()
    gates = {slot_key(0): asyncio.Event()}

    async def before(name: str, key: str) -> None:
        if key in gates:
            await gates[key].wait()

    store.before = before
    acknowledged: list[int] = []
    for number in range(3):
        position = append(stream)
        engine.storage.append.when_durable(position, lambda error, number=number: acknowledged.append(number))
        await asyncio.sleep(INTERVAL_S * 3)
    assert stream.last_position == 2
    assert (acknowledged, stream.confirmed_offset) == ([], 0)

    gates[slot_key(0)].set()
    await durable(engine.storage, 2)

    assert (acknowledged, stream.confirmed_offset) == ([0, 1, 2], 3)


async def test_lost_answer_is_asked_again_with_the_same_bytes() -> None:
    engine, stream, store = an_engine()
    failures = [1]

    async def after(name: str, key: str) -> None:
        if name == "create" and failures:
            failures.pop()
            raise StoreUnavailable("no answer")

    store.after = after
    await durable(engine.storage, append(stream))

    assert creates(store) == [slot_key(0), slot_key(0)]
    assert stream.confirmed_offset == 1


async def test_taken_slot_means_fenced_whatever_else_is_in_flight() -> None:
    engine, stream, store = an_engine()
    await store.inner.create(slot_key(1), [a_fence(1)])
    gate = asyncio.Event()

    async def before(name: str, key: str) -> None:
        if key == slot_key(0):
            await gate.wait()

    store.before = before
    errors: list[Exception | None] = []
    for _ in range(2):
        engine.storage.append.when_durable(append(stream), errors.append)
        await asyncio.sleep(INTERVAL_S * 3)
    gate.set()
    await asyncio.sleep(1)

    assert [type(error) for error in errors] == [BrokerFenced] * 2
    assert stream.confirmed_offset == 0
    assert [(fenced.by, slot_key(1) in str(fenced)) for fenced in engine.fences] == [(FencedBy.WAL_SLOT, True)]
    with pytest.raises(BrokerFenced):
        append(stream)
    before_silence = len(store.calls)
    await asyncio.sleep(10)
    assert len(store.calls) == before_silence


async def test_trim_deletes_only_below_the_committed_position() -> None:
    engine, stream, store = an_engine()
    for _ in range(5):
        await durable(engine.storage, append(stream))
        await asyncio.sleep(INTERVAL_S)

    engine.storage.append.wal.trim(3)
    await asyncio.sleep(INTERVAL_S)

    assert await keys_of(store.inner, "wal") == [slot_key(n)[23:] for n in (3, 4)]


async def test_f1_half_of_our_own_slot_is_damage_and_no_fence() -> None:
    engine, stream, store = an_engine()

    async def keep_half(name: str, key: str) -> None:
        if name == "create" and key == slot_key(1):
            store.after = HeldStore(store).after
            whole = await store.inner.get(key)
            await store.inner.put(key, [whole[: len(whole) // 2]])
            raise StoreUnavailable("the connection ended in mid-body")

    store.after = keep_half
    errors: list[Exception | None] = []
    for _ in range(3):
        engine.storage.append.when_durable(append(stream), errors.append)
        await asyncio.sleep(INTERVAL_S * 3)
    await asyncio.sleep(1)
    kept = await store.inner.get(slot_key(1))

    assert [type(error) for error in errors] == [type(None), StoreDamaged, StoreDamaged]
    assert (engine.fences, [error.key for error in engine.damages]) == ([], [slot_key(1)])
    assert "half a PUT" in str(engine.damages[0])
    with pytest.raises(StreamClosed):
        append(stream)
    calls = len(store.calls)
    await asyncio.sleep(100)
    assert len(store.calls) == calls
    assert await store.inner.get(slot_key(1)) == kept
    assert stream.confirmed_offset == 1


@pytest.mark.parametrize("body", [b"", b"junk", bytes(4096)])
async def test_f1_slot_that_does_not_decode_is_damage_and_no_fence(body: bytes) -> None:
    engine, stream, store = an_engine()
    await store.inner.create(slot_key(0), [body])

    with pytest.raises(StoreDamaged):
        await durable(engine.storage, append(stream))

    assert (engine.fences, [error.key for error in engine.damages]) == ([], [slot_key(0)])
    assert await store.inner.get(slot_key(0)) == body


async def lose_the_answer_and_the_slot(store: HeldStore) -> None:
    """The create lands, its answer is lost, and what landed is gone before it can be read."""

    async def after(name: str, key: str) -> None:
        if name == "create":
            store.after = HeldStore(store).after
            raise StoreUnavailable("no answer")

    async def before(name: str, key: str) -> None:
        if name == "get":
            await store.inner.delete([key])

    store.after, store.before = after, before


async def test_f2_slot_that_vanishes_between_two_answers_is_damage_where_nobody_has_taken_over() -> None:
    engine, stream, store = an_engine()
    await lose_the_answer_and_the_slot(store)
    engine.objects.unavailable = 3

    with pytest.raises(StoreDamaged, match="was there a moment ago"):
        await durable(engine.storage, append(stream))

    assert (engine.fences, [error.key for error in engine.damages]) == ([], [slot_key(0)])


async def test_slot_that_vanishes_between_two_answers_is_a_fence_where_somebody_has_taken_over() -> None:
    engine, stream, store = an_engine()
    await lose_the_answer_and_the_slot(store)
    engine.ledger.fence(engine.me, (engine.me[0], BrokerEpoch(2)))

    with pytest.raises(BrokerFenced):
        await durable(engine.storage, append(stream))

    assert (len(engine.fences), engine.damages) == (1, [])


async def test_f2_every_slot_says_what_was_durable_when_it_was_sealed() -> None:
    engine, stream, store = an_engine()
    gate = asyncio.Event()

    async def before(name: str, key: str) -> None:
        if key == slot_key(2):
            await gate.wait()

    store.before = before
    for _ in range(6):
        append(stream)
        await asyncio.sleep(INTERVAL_S * 3)
    gate.set()
    await durable(engine.storage, 5)
    append(stream)
    await durable(engine.storage, 6)

    marks = [engine.storage.append.wal.slot_id(n).decode(await store.inner.get(slot_key(n))).mark for n in range(7)]
    assert marks == [0, 1, 2, 2, 2, 2, 6]


async def test_slot_bytes_are_padded_to_pages() -> None:
    engine, stream, store = an_engine()
    await durable(engine.storage, append(stream))

    data = await store.get(slot_key(0))
    assert len(data) == 4096
    assert data[80 + 44 + 100 :] == bytes(4096 - 224)


async def test_idle_wal_sends_nothing() -> None:
    engine, stream, store = an_engine()
    await durable(engine.storage, append(stream))
    await asyncio.sleep(SMALL.upload_interval_ms / 1000 + 1)
    calls = len(store.calls)

    await asyncio.sleep(3600)

    assert len(store.calls) == calls
