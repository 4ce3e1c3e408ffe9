"""Uploads: durable first, committed in order, trimmed after the record, tried again for ever."""

import asyncio

import pytest

from automq.ids import NodeId, Offset
from automq.replicated.machine import LogFailed, LogFenced
from automq.s3stream.model import BrokerFenced, StreamFenced
from automq.s3stream.ports import StoreUnavailable
from automq.s3stream.store.memory import MemoryStore
from automq.s3stream.stream import Stream
from tests.support.engine import NODE, Engine, HeldStore, Ledger, append, durable, keys_of, read_all, slot_key

pytestmark = pytest.mark.looptime


def an_engine() -> tuple[Engine, Stream, HeldStore]:
    ledger = Ledger()
    store = HeldStore(MemoryStore())
    engine = Engine(ledger, store)
    engine.storage.start()
    return engine, engine.storage.open_stream(ledger.create_stream(1)), store


async def test_nothing_is_uploaded_before_it_is_durable() -> None:
    engine, stream, store = an_engine()
    gate = asyncio.Event()

    async def before(name: str, key: str) -> None:
        if name == "create":
            await gate.wait()

    store.before = before
    append(stream)
    upload = asyncio.ensure_future(engine.storage.upload_now())
    await asyncio.sleep(10)
    assert engine.ledger.commits == []

    gate.set()
    await upload

    assert [commit.trim_to for commit in engine.ledger.commits] == [1]
    assert await keys_of(store.inner, "wal") == []


async def test_commits_are_made_in_order_though_uploads_overtake() -> None:
    engine, stream, store = an_engine()
    gate = asyncio.Event()
    puts: list[str] = []

    async def before(name: str, key: str) -> None:
        if name == "put":
            puts.append(key)
            if len(puts) == 1:
                await gate.wait()

    store.before = before
    append(stream)
    first = asyncio.ensure_future(engine.storage.upload_now())
    await asyncio.sleep(1)
    append(stream)
    second = asyncio.ensure_future(engine.storage.upload_now())
    await asyncio.sleep(1)
    assert len(puts) == 2
    assert engine.ledger.commits == []

    gate.set()
    await asyncio.gather(first, second)

    assert [commit.ranges[0].start for commit in engine.ledger.commits] == [0, 1]
    assert [commit.trim_to for commit in engine.ledger.commits] == [1, 2]


async def test_store_that_fails_is_asked_again_for_ever() -> None:
    engine, stream, store = an_engine()
    outage = [StoreUnavailable("no store")] * 20

    async def before(name: str, key: str) -> None:
        if name == "put" and outage:
            raise outage.pop()

    store.before = before
    engine.objects.unavailable = 7
    append(stream)

    await engine.storage.upload_now()

    assert (outage, engine.objects.unavailable, engine.ledger.streams[stream.stream_id].end) == ([], 0, 1)


async def test_refused_object_is_uploaded_again_under_a_new_id() -> None:
    engine, stream, store = an_engine()

    async def after(name: str, key: str) -> None:
        if name == "put" and engine.ledger.next_object == 2:
            engine.ledger.prepared.clear()

    store.after = after
    append(stream)

    await engine.storage.upload_now()

    assert [commit.object_id for commit in engine.ledger.commits] == [2]
    assert engine.ledger.streams[stream.stream_id].end == 1


async def test_refused_range_loses_the_stream_and_never_trims_past_its_slots() -> None:
    engine, stream, store = an_engine()
    other = engine.storage.open_stream(engine.ledger.create_stream(2))
    lost: list[str] = []
    stream.on_lost = lambda: lost.append("lost")
    append(stream)
    engine.ledger.reopen(stream.stream_id)
    await engine.storage.upload_now()

    assert lost == ["lost"]
    with pytest.raises(StreamFenced):
        append(stream)
    append(other)
    await engine.storage.upload_now()
    assert [commit.trim_to for commit in engine.ledger.commits] == [1, 0]
    assert slot_key(0) in [info.key for info in await store.list("")]


async def test_refused_range_of_a_stream_that_has_another_owner_frees_its_slots() -> None:
    engine, stream, store = an_engine()
    append(stream)
    engine.ledger.reopen(stream.stream_id, owner=NodeId(NODE + 1))

    await engine.storage.upload_now()

    assert await keys_of(store.inner, "wal") == []


async def test_deleted_stream_is_dropped_without_a_word() -> None:
    engine, stream, store = an_engine()
    append(stream)
    del engine.ledger.streams[stream.stream_id]
    stream.close()

    await engine.storage.upload_now()

    assert await keys_of(store.inner, "wal") == []
    assert engine.crashes == []


async def test_fenced_commit_fences_the_engine() -> None:
    engine, stream, store = an_engine()
    append(stream)
    await durable(engine.storage, 0)
    engine.ledger.fence(engine.me, (NodeId(2), engine.me[1]))

    with pytest.raises(BrokerFenced):
        await engine.storage.upload_now()
    with pytest.raises(BrokerFenced):
        stream.read_cached(Offset(0), Offset(1), 100)
    assert len(engine.fences) == 1


async def test_lost_answer_of_a_commit_is_no_second_commit() -> None:
    engine, stream, store = an_engine()
    judge = engine.ledger.judge
    answers = [1]

    def lose_first(request, committer):  # type: ignore[no-untyped-def]
        result = judge(request, committer)
        if answers.pop() if answers else 0:
            raise StoreUnavailable("no answer")
        return result

    engine.ledger.judge = lose_first  # type: ignore[method-assign]
    append(stream)
    await engine.storage.upload_now()

    assert len(engine.ledger.commits) == 1
    assert await read_all(stream) == [0]


async def test_fence_ends_uploads_that_are_being_retried() -> None:
    engine, stream, store = an_engine()

    async def before(name: str, key: str) -> None:
        if name == "put":
            raise StoreUnavailable("no store")

    store.before = before
    append(stream)
    upload = asyncio.ensure_future(engine.storage.upload_now())
    await asyncio.sleep(1)

    engine.storage.halt(BrokerFenced("a newer incarnation took over"))
    with pytest.raises(BrokerFenced):
        await upload
    calls = len(store.calls)
    await asyncio.sleep(100)

    assert len(store.calls) == calls
    assert len(engine.tasks) == 0


async def test_metadata_log_that_is_reloaded_is_asked_again() -> None:
    engine, stream, _ = an_engine()
    judge = engine.ledger.judge
    failures: list[Exception] = [LogFailed("the log was closed")]

    def fail_first(request, committer):  # type: ignore[no-untyped-def]
        if failures:
            raise failures.pop()
        return judge(request, committer)

    engine.ledger.judge = fail_first  # type: ignore[method-assign]
    append(stream)
    await engine.storage.upload_now()
    assert len(engine.ledger.commits) == 1

    failures.append(LogFenced("another controller"))
    append(stream)
    with pytest.raises(BrokerFenced):
        await engine.storage.upload_now()
