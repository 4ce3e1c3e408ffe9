"""The engine as a whole: memory bounds and back-pressure, sealing, fencing, shutdown."""

import asyncio
from dataclasses import replace

import pytest

from automq.ids import Offset
from automq.runtime.ledger import Account
from automq.s3stream.cache.log_cache import BATCH_BYTES, RUN_BYTES
from automq.s3stream.model import BrokerFenced, StorageFull, StreamClosed
from automq.s3stream.settings import MIB, StorageSettings
from automq.s3stream.store.memory import MemoryStore
from automq.s3stream.stream import Stream
from tests.support.engine import SMALL, Engine, HeldStore, Ledger, a_piece, append, durable, keys_of, read_all

pytestmark = pytest.mark.looptime


def an_engine(settings: StorageSettings = SMALL) -> tuple[Engine, Stream, HeldStore]:
    ledger = Ledger()
    store = HeldStore(MemoryStore())
    engine = Engine(ledger, store, settings=settings)
    engine.storage.start()
    return engine, engine.storage.open_stream(ledger.create_stream(1)), store


def a_wide_engine(settings: StorageSettings, *, streams: int) -> tuple[Engine, list[Stream], HeldStore]:
    ledger = Ledger()
    store = HeldStore(MemoryStore())
    engine = Engine(ledger, store, settings=settings)
    engine.storage.start()
    return engine, [engine.storage.open_stream(ledger.create_stream(number + 1)) for number in range(streams)], store


def stop_writes(store: HeldStore) -> asyncio.Event:
    """The store takes no write until the event is set."""
    gate = asyncio.Event()

    async def before(name: str, key: str) -> None:
        if name in ("create", "create_bulk"):
            await gate.wait()

    store.before = before
    return gate


async def test_block_is_uploaded_when_it_is_large_enough() -> None:
    engine, stream, store = an_engine()
    while stream.next_offset * 5000 < SMALL.upload_bytes:
        append(stream, size=5000)
    await asyncio.sleep(SMALL.upload_interval_ms / 2000)

    assert len(engine.ledger.commits) == 1


async def test_block_is_uploaded_after_the_interval_however_small() -> None:
    engine, stream, store = an_engine()
    append(stream)
    await asyncio.sleep(SMALL.upload_interval_ms / 1000 - 0.01)
    assert engine.ledger.commits == []

    await asyncio.sleep(0.1)

    assert len(engine.ledger.commits) == 1


async def test_block_is_uploaded_after_so_many_slots() -> None:
    engine, stream, store = an_engine(replace(SMALL, upload_interval_ms=3_600_000, upload_slots=5))
    for number in range(14):
        append(stream)
        await durable(engine.storage, number)
    await asyncio.sleep(1)

    assert [commit.trim_to for commit in engine.ledger.commits] == [5, 10]


async def test_b3_checkpoints_go_when_their_block_is_committed_and_not_when_it_is_evicted() -> None:
    engine, stream, store = an_engine()
    stream.checkpoint_source = lambda forced: a_piece(bytes(100_000))
    for _ in range(20):
        append(stream)
        await engine.storage.upload.flush()

    held = [checkpoint for block in engine.storage.append.cache._blocks for checkpoint in block.checkpoints.values()]
    assert (len(engine.storage.append.cache._blocks), held) == (20, [])


async def test_checkpoint_is_captured_at_exactly_the_uploaded_end() -> None:
    engine, stream, store = an_engine()
    state = [0]
    stream.checkpoint_source = lambda forced: a_piece(b"state %d" % state[0])

    async def produce() -> None:
        for _ in range(400):
            append(stream, size=1500)
            state[0] = stream.next_offset
            if stream.next_offset % 7 == 0:
                await asyncio.sleep(0.003)

    await produce()
    await engine.storage.upload.flush()

    assert len(engine.ledger.commits) > 2
    for commit in engine.ledger.commits:
        (only,) = commit.objects
        end = commit.ranges[0].end
        checkpoint = await engine.storage.read.reader.checkpoint(only.object_id, only.size, stream.stream_id, end)
        assert checkpoint == b"state %d" % end


async def test_memory_limit_is_said_before_it_is_reached_and_keeps_a_reserve() -> None:
    engine, stream, store = an_engine()
    gate = stop_writes(store)
    while engine.storage.append.has_room(5000):
        append(stream, size=5000)
        await asyncio.sleep(0)
    used = stream.next_offset * 5000
    assert used > SMALL.arena_bytes * 0.7

    # What the broker itself has to write still fits.
    append(stream, size=5000)
    gate.set()
    await durable(engine.storage, stream.last_position)
    assert stream.confirmed_offset == stream.next_offset


async def test_exhausted_reserve_is_an_error_not_more_memory() -> None:
    engine, stream, store = an_engine()
    gate = stop_writes(store)
    full = False
    while not full:
        try:
            append(stream, size=5000)
        except StorageFull:
            full = True
        await asyncio.sleep(0)
    appended = stream.next_offset
    assert appended * 5000 < SMALL.arena_bytes

    gate.set()
    await asyncio.sleep(5)

    assert stream.confirmed_offset == appended
    append(stream, size=5000)


async def test_whoever_waits_for_room_is_called_when_uploads_have_made_some() -> None:
    engine, stream, store = an_engine()
    gate = stop_writes(store)
    while engine.storage.append.has_room(5000):
        append(stream, size=5000)
        await asyncio.sleep(0)
    called: list[bool] = []
    engine.storage.append.when_room(lambda: called.append(engine.storage.append.has_room(5000)))
    await asyncio.sleep(1)
    assert called == []

    gate.set()
    await asyncio.sleep(1)

    assert called == [True]


async def test_pressure_uploads_early_when_the_budget_is_smaller_than_an_upload() -> None:
    engine, stream, store = an_engine(replace(SMALL, upload_bytes=100 * MIB, upload_interval_ms=3_600_000))
    for _ in range(1000):
        if not engine.storage.append.has_room(5000):
            room = asyncio.Event()
            engine.storage.append.when_room(room.set)
            await room.wait()
        append(stream, size=5000)
        await asyncio.sleep(0.001)
    await durable(engine.storage, stream.last_position)

    assert len(engine.ledger.commits) > 3
    assert await read_all(stream, max_bytes=50_000) == list(range(1000))


async def test_many_small_blocks_do_not_pile_up_while_the_store_is_away() -> None:
    engine, stream, store = an_engine()
    gate = stop_writes(store)
    for _ in range(50):
        append(stream)
        await asyncio.sleep(SMALL.upload_interval_ms / 1000)
    assert engine.storage.append.cache.uncommitted <= 4

    gate.set()
    await engine.storage.upload.flush()
    assert stream.confirmed_offset == 50


async def test_batch_that_fits_no_slot_is_refused() -> None:
    engine, stream, store = an_engine()
    append(stream, size=engine.storage.append.append_bytes_max)

    with pytest.raises(ValueError, match="does not fit"):
        append(stream, size=engine.storage.append.append_bytes_max + 1)


async def test_fence_silences_everything() -> None:
    engine, stream, store = an_engine()
    gate = stop_writes(store)
    errors: list[Exception | None] = []
    engine.storage.append.when_durable(append(stream), errors.append)
    await asyncio.sleep(0.01)

    engine.storage.halt(BrokerFenced("a newer incarnation took over"))
    gate.set()
    await asyncio.sleep(10)

    assert [type(error) for error in errors] == [BrokerFenced]
    assert stream.confirmed_offset == 0
    for call in (
        lambda: append(stream),
        lambda: stream.read_cached(Offset(0), Offset(0), 1),
        lambda: engine.storage.open_stream(stream.stream_id),
    ):
        with pytest.raises(BrokerFenced):
            call()
    engine.storage.append.when_durable(0, errors.append)
    assert type(errors[1]) is BrokerFenced
    assert engine.fences == []


async def test_close_with_upload_leaves_nothing_to_recover() -> None:
    engine, stream, store = an_engine()
    append(stream)

    await engine.storage.close(upload=True)

    assert engine.ledger.streams[stream.stream_id].end == 1
    assert await keys_of(store.inner, "wal") == []
    with pytest.raises(StreamClosed):
        append(stream)


async def test_close_without_upload_makes_durable_what_was_appended() -> None:
    engine, stream, store = an_engine()
    told: list[Exception | None] = []
    engine.storage.append.when_durable(append(stream), told.append)

    await engine.storage.close(upload=False)

    assert told == [None]
    assert engine.ledger.commits == []
    successor = Engine(engine.ledger, store, epoch=2)
    await successor.recover(engine)
    assert await read_all(successor.storage.open_stream(stream.stream_id)) == [0]


async def test_close_can_be_cut_short_and_loses_nothing() -> None:
    engine, stream, store = an_engine()
    await durable(engine.storage, append(stream))
    gate = stop_writes(store)
    append(stream)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(engine.storage.close(upload=True), 1)
    await engine.tasks.close()
    gate.set()

    successor = Engine(engine.ledger, store, epoch=2)
    await successor.recover(engine)
    assert (await read_all(successor.storage.open_stream(stream.stream_id)))[:1] == [0]


async def test_hundreds_of_streams_share_slots_and_objects() -> None:
    engine, first, store = an_engine()
    streams = [first] + [engine.storage.open_stream(engine.ledger.create_stream(n)) for n in range(2, 300)]
    for stream in streams:
        append(stream)
    await engine.storage.upload.flush()

    assert len([1 for name, _ in store.calls if name == "create"]) <= 2
    assert len(engine.ledger.commits) == 1
    for stream in streams:
        assert await read_all(stream) == [0]


async def test_b4_index_of_trickling_streams_stays_within_its_account() -> None:
    settings = replace(SMALL, log_cache_index_bytes=40 * RUN_BYTES, upload_interval_ms=600_000)
    engine, streams, store = a_wide_engine(settings, streams=30)
    account = engine.memory[Account.LOG_CACHE_INDEX]
    most = 0
    for _ in range(20):
        for stream in streams:
            append(stream, size=10)
            most = max(most, account.used)
        await durable(engine.storage, streams[-1].last_position)
        await asyncio.sleep(1)

    assert len(engine.ledger.commits) >= 10, "uploaded early"
    assert most <= account.limit + 30 * (RUN_BYTES + BATCH_BYTES)
    assert engine.storage.append.pool.held * 2 < engine.storage.append.pool.arenas_max, "not for want of arenas"


async def test_b4_producers_wait_while_the_index_is_full_and_go_on_when_it_is_not() -> None:
    settings = replace(SMALL, log_cache_index_bytes=20 * RUN_BYTES, upload_interval_ms=600_000)
    engine, streams, store = a_wide_engine(settings, streams=30)
    gate = stop_writes(store)
    called: list[bool] = []
    for stream in streams:
        append(stream, size=10)
    assert not engine.storage.append.has_room(10)
    engine.storage.append.when_room(lambda: called.append(engine.storage.append.has_room(10)))
    await asyncio.sleep(5)
    assert called == []

    gate.set()
    await asyncio.sleep(5)

    assert called == [True]
    assert engine.memory[Account.LOG_CACHE_INDEX].used < 20 * RUN_BYTES


async def test_b3_checkpoints_that_wait_for_the_store_stop_producers() -> None:
    settings = replace(SMALL, checkpoint_bytes=50_000)
    engine, (stream,), store = a_wide_engine(settings, streams=1)
    stream.checkpoint_source = lambda forced: a_piece(bytes(60_000))
    append(stream)
    gate = stop_writes(store)
    uploading = asyncio.ensure_future(engine.storage.upload.flush())
    await asyncio.sleep(0)
    assert engine.memory[Account.CHECKPOINTS].used > 60_000
    assert not engine.storage.append.has_room(10)

    gate.set()
    await uploading
    assert engine.memory[Account.CHECKPOINTS].used == 0
    assert engine.storage.append.has_room(10)


async def test_second_upload_waits_for_the_memory_of_the_first() -> None:
    settings = replace(SMALL, upload_memory_bytes=100_000, upload_interval_ms=600_000)
    engine, (stream,), store = a_wide_engine(settings, streams=1)
    account = engine.memory[Account.UPLOADS]
    held: list[int] = []
    bulk: list[str] = []
    gate = asyncio.Event()

    async def before(name: str, key: str) -> None:
        if name == "create_bulk":
            bulk.append(key)
            held.append(account.used)
            await gate.wait()

    store.before = before
    uploads = []
    for _ in range(2):
        for _ in range(60):
            append(stream, size=1000)
        await durable(engine.storage, stream.last_position)
        uploads.append(asyncio.ensure_future(engine.storage.upload.flush()))
        await asyncio.sleep(0.1)

    assert len(bulk) == 1
    assert 60_000 < account.used <= 100_000
    gate.set()
    await asyncio.gather(*uploads)
    assert len(bulk) == 2
    assert max(held) <= 100_000
    assert account.used == 0
