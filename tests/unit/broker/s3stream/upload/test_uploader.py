"""Uploads: durable first, committed in order, trimmed after the record, tried again for ever."""

import asyncio

import pytest

from automq.ids import NodeId, ObjectId, Offset
from automq.metadata.records import StreamsDeleted
from automq.s3stream.model import (
    KEPT,
    BrokerFenced,
    CheckpointPiece,
    CommitRequest,
    CommitResult,
    CommitTooLarge,
    StoreDamaged,
    StreamClosed,
    StreamFenced,
)
from automq.s3stream.objects.format import object_key
from automq.s3stream.ports import StoreUnavailable
from automq.s3stream.store.memory import MemoryStore
from automq.s3stream.stream import Stream
from automq.s3stream.upload import parts
from tests.support.engine import (
    CLUSTER,
    NODE,
    Engine,
    HeldStore,
    Incarnation,
    Ledger,
    a_piece,
    append,
    durable,
    keys_of,
    read_all,
    slot_key,
)

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
    upload = asyncio.ensure_future(engine.storage.upload.flush())
    await asyncio.sleep(10)
    assert engine.ledger.commits == []

    gate.set()
    await upload

    assert [commit.trim_to for commit in engine.ledger.commits] == [1]
    await asyncio.sleep(1)
    assert await keys_of(store.inner, "wal") == []


async def test_commits_are_made_in_order_though_uploads_overtake() -> None:
    engine, stream, store = an_engine()
    gate = asyncio.Event()
    puts: list[str] = []

    async def before(name: str, key: str) -> None:
        if name == "create_bulk":
            puts.append(key)
            if len(puts) == 1:
                await gate.wait()

    store.before = before
    append(stream)
    first = asyncio.ensure_future(engine.storage.upload.flush())
    await asyncio.sleep(1)
    append(stream)
    second = asyncio.ensure_future(engine.storage.upload.flush())
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
        if name == "create_bulk" and outage:
            raise outage.pop()

    store.before = before
    engine.objects.unavailable = 7
    append(stream)

    await engine.storage.upload.flush()

    assert (outage, engine.objects.unavailable, engine.ledger.streams[stream.stream_id].end) == ([], 0, 1)


async def test_refused_object_is_uploaded_again_under_a_new_id() -> None:
    engine, stream, store = an_engine()

    async def after(name: str, key: str) -> None:
        if name == "create_bulk" and engine.ledger.image.next_object == 2:
            engine.ledger.expire_prepared()

    store.after = after
    append(stream)

    await engine.storage.upload.flush()

    assert [commit.object_ids for commit in engine.ledger.commits] == [(2,)]
    assert engine.ledger.streams[stream.stream_id].end == 1


async def test_refused_range_loses_the_stream_and_never_trims_past_its_slots() -> None:
    engine, stream, store = an_engine()
    other = engine.storage.open_stream(engine.ledger.create_stream(2))
    lost: list[str] = []
    stream.on_lost = lambda: lost.append("lost")
    append(stream)
    engine.ledger.quarantine(stream.stream_id)
    await engine.storage.upload.flush()

    assert lost == ["lost"]
    with pytest.raises(StreamFenced):
        append(stream)
    append(other)
    await engine.storage.upload.flush()
    assert [commit.trim_to for commit in engine.ledger.commits] == [1, 0]
    assert slot_key(0) in [info.key for info in await store.list("")]


async def test_refused_range_of_a_stream_that_has_another_owner_frees_its_slots() -> None:
    engine, stream, store = an_engine()
    append(stream)
    engine.ledger.reopen(stream.stream_id, owner=NodeId(NODE + 1))

    await engine.storage.upload.flush()
    await asyncio.sleep(1)

    assert await keys_of(store.inner, "wal") == []


async def test_deleted_stream_is_dropped_without_a_word() -> None:
    engine, stream, store = an_engine()
    append(stream)
    engine.ledger.record(StreamsDeleted(streams=(stream.stream_id,)))
    stream.close()

    await engine.storage.upload.flush()
    await asyncio.sleep(1)

    assert await keys_of(store.inner, "wal") == []
    assert engine.crashes == []


async def test_fenced_commit_fences_the_engine() -> None:
    engine, stream, store = an_engine()
    append(stream)
    await durable(engine.storage, 0)
    engine.ledger.fence(engine.me, (NodeId(2), engine.me[1]))

    with pytest.raises(BrokerFenced):
        await engine.storage.upload.flush()
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
    await engine.storage.upload.flush()

    assert len(engine.ledger.commits) == 1
    assert await read_all(stream) == [0]


async def test_fence_ends_uploads_that_are_being_retried() -> None:
    engine, stream, store = an_engine()

    async def before(name: str, key: str) -> None:
        if name == "create_bulk":
            raise StoreUnavailable("no store")

    store.before = before
    append(stream)
    upload = asyncio.ensure_future(engine.storage.upload.flush())
    await asyncio.sleep(1)

    engine.storage.halt(BrokerFenced("a newer incarnation took over"))
    with pytest.raises(BrokerFenced):
        await upload
    calls = len(store.calls)
    await asyncio.sleep(100)

    assert len(store.calls) == calls
    assert len(engine.tasks) == 0


async def test_b8_slow_deletes_do_not_hold_up_commits() -> None:
    """Deletes of half a minute, everything else healthy."""
    engine, stream, store = an_engine()

    async def before(name: str, key: str) -> None:
        if name == "delete":
            await asyncio.sleep(30)

    store.before = before
    started = asyncio.get_running_loop().time()
    for _ in range(50):
        append(stream)
        await engine.storage.upload.flush()

    assert asyncio.get_running_loop().time() - started < 1
    assert len(engine.ledger.commits) == 50
    await asyncio.sleep(100)
    # One delete was on its way; one more made up for all the commits meanwhile.
    assert len([name for name, _ in store.calls if name == "delete"]) == 2
    assert await keys_of(store.inner, "wal") == []


async def test_f5_b2_streams_that_are_never_trimmed_share_no_object_with_those_that_are() -> None:
    engine, stream, store = an_engine()
    kept = engine.storage.open_stream(engine.ledger.create_stream(2))
    engine.ledger.classes[kept.stream_id] = KEPT
    for each in (stream, kept):
        append(each)

    await engine.storage.upload.flush()

    (commit,) = engine.ledger.commits
    assert [[item.stream for item in found.ranges] for found in commit.objects] == [
        [kept.stream_id],
        [stream.stream_id],
    ]
    assert commit.trim_to == 1
    assert len(await keys_of(store.inner, "data")) == 2


async def test_b2_retention_frees_a_topics_objects_whatever_a_group_commits_meanwhile() -> None:
    engine, stream, store = an_engine()
    group = engine.storage.open_stream(engine.ledger.create_stream(2))
    engine.ledger.classes[group.stream_id] = KEPT
    for _ in range(6):
        for each in (stream, group):
            append(each)
        await engine.storage.upload.flush()
    of_topic = {number for number, held in engine.ledger.objects.items() if held[0].stream == stream.stream_id}
    await stream.trim(Offset(5))

    assert len(of_topic) == 6
    assert set(engine.ledger.image.unreferenced) == of_topic - {max(of_topic)}


async def test_f5_kill_between_the_objects_of_one_upload_loses_and_doubles_nothing() -> None:
    engine, stream, store = an_engine()
    kept = engine.storage.open_stream(engine.ledger.create_stream(2))
    engine.ledger.classes[kept.stream_id] = KEPT
    for each in (stream, kept):
        append(each)
    await durable(engine.storage, kept.last_position)
    judge = engine.ledger.judge

    def first_only(request: CommitRequest, committer: Incarnation) -> CommitResult:
        if engine.ledger.commits:
            raise StoreUnavailable("killed before the answer")
        return judge(request, committer)

    engine.ledger.judge = first_only  # type: ignore[method-assign]
    uploading = asyncio.ensure_future(engine.storage.upload.flush())
    await asyncio.sleep(1)
    assert len(engine.ledger.commits) == 1
    uploading.cancel()
    await engine.die()

    engine.ledger.judge = judge  # type: ignore[method-assign]
    successor = Engine(engine.ledger, store, epoch=2)
    await successor.recover(engine)
    for each in (stream, kept):
        assert await read_all(successor.storage.open_stream(each.stream_id)) == [0]
        held = [
            found for ranges in engine.ledger.objects.values() for found in ranges if found.stream == each.stream_id
        ]
        assert [(span.start, span.end) for span in held] == [(0, 1)]


@pytest.mark.parametrize("streams", [3, 4, 7])
async def test_b17_block_with_more_ranges_than_a_commit_takes_is_committed_in_parts(
    monkeypatch: pytest.MonkeyPatch, streams: int
) -> None:
    monkeypatch.setattr(parts, "RANGES_MAX", 3)
    engine, stream, _store = an_engine()
    opened = [stream, *(engine.storage.open_stream(engine.ledger.create_stream(n)) for n in range(2, streams + 1))]
    for each in opened:
        append(each)

    await engine.storage.upload.flush()

    commits = engine.ledger.commits
    assert [commit.trim_to for commit in commits] == [0] * (len(commits) - 1) + [1]
    assert [len(commit.ranges) for commit in commits] == [min(3, streams - at) for at in range(0, streams, 3)]
    for each in opened:
        assert await read_all(each) == [0]


async def test_b17_part_that_is_still_too_large_is_halved() -> None:
    engine, stream, _store = an_engine()
    opened = [stream, *(engine.storage.open_stream(engine.ledger.create_stream(n)) for n in range(2, 8))]
    judge = engine.ledger.judge

    def refuse_large(request: CommitRequest, committer: Incarnation) -> CommitResult:
        if len(request.ranges) > 2:
            raise CommitTooLarge(ranges=len(request.ranges), ranges_max=2)
        return judge(request, committer)

    engine.ledger.judge = refuse_large  # type: ignore[method-assign]
    for each in opened:
        append(each)

    await engine.storage.upload.flush()

    commits = [(len(commit.ranges), commit.trim_to) for commit in engine.ledger.commits]
    assert commits == [(2, 0), (2, 0), (2, 0), (1, 1)]
    assert engine.crashes == []


async def test_b17_kill_between_the_parts_loses_and_doubles_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "RANGES_MAX", 3)
    engine, stream, store = an_engine()
    opened = [stream, *(engine.storage.open_stream(engine.ledger.create_stream(n)) for n in range(2, 8))]
    for each in opened:
        append(each)
    await durable(engine.storage, 0)
    judge = engine.ledger.judge

    def hang_after_first(request: CommitRequest, committer: Incarnation) -> CommitResult:
        if engine.ledger.commits:
            raise StoreUnavailable("killed here")
        return judge(request, committer)

    engine.ledger.judge = hang_after_first  # type: ignore[method-assign]
    upload = asyncio.get_running_loop().create_task(engine.storage.upload.flush())
    await asyncio.sleep(1)
    await engine.die()
    with pytest.raises(BrokerFenced):
        await upload
    engine.ledger.judge = judge  # type: ignore[method-assign]
    assert (len(engine.ledger.commits), engine.ledger.trimmed.get(engine.me, 0)) == (1, 0)

    successor = Engine(engine.ledger, store, epoch=2)
    await successor.recover(engine)

    for each in opened:
        assert await read_all(successor.storage.open_stream(each.stream_id)) == [0]
    assert sum(len(commit.ranges) for commit in engine.ledger.commits) == 7


async def test_refused_range_of_an_earlier_part_holds_t_for_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "RANGES_MAX", 1)
    engine, stream, store = an_engine()
    other = engine.storage.open_stream(engine.ledger.create_stream(2))
    append(stream)
    append(other)
    engine.ledger.quarantine(stream.stream_id)

    await engine.storage.upload.flush()

    assert [(len(commit.ranges), commit.trim_to) for commit in engine.ledger.commits] == [(1, 0), (1, 0)]
    assert slot_key(0) in [info.key for info in await store.list("")]


async def test_object_whose_answer_was_lost_is_found_to_be_ours() -> None:
    engine, stream, store = an_engine()
    losses = [1, 1]

    async def after(name: str, key: str) -> None:
        if name == "create_bulk" and losses:
            losses.pop()
            raise StoreUnavailable("no answer")

    store.after = after
    append(stream)
    await engine.storage.upload.flush()

    assert [commit.object_ids for commit in engine.ledger.commits] == [(1,)]
    assert await read_all(stream) == [0]


@pytest.mark.parametrize("body", [b"another object", b"", b"x" * 5000])
async def test_f2_object_key_that_is_taken_by_other_bytes_is_damage_and_not_overwritten(body: bytes) -> None:
    engine, stream, store = an_engine()
    key = object_key(CLUSTER, ObjectId(1))
    await store.inner.put(key, [body])
    append(stream)

    with pytest.raises(StoreDamaged, match="the metadata are behind"):
        await engine.storage.upload.flush()

    assert [damage.key for damage in engine.damages] == [key]
    assert await store.inner.get(key) == body
    with pytest.raises(StreamClosed):
        append(stream)
    assert slot_key(0) in [info.key for info in await store.list("")]


async def test_checkpoint_that_the_store_damages_is_not_committed_and_is_uploaded_anew(
    caplog: pytest.LogCaptureFixture,
) -> None:
    engine, stream, store = an_engine()
    stream.checkpoint_source = lambda forced: a_piece(b"state at %d" % stream.next_offset, kept=1)

    async def flip(name: str, key: str) -> None:
        if name == "create_bulk" and engine.ledger.image.next_object == 2:
            data = bytearray(await store.inner.get(key))
            data[data.index(b"state")] ^= 1
            await store.inner.put(key, [data])

    store.after = flip
    append(stream)
    await engine.storage.upload.flush()

    assert [commit.object_ids for commit in engine.ledger.commits] == [(2,)]
    (piece,) = stream.checkpoints()
    assert await stream.read_checkpoint(piece) == b"state at 1"
    assert "checkpoint is not what was put" in caplog.text


async def test_checkpoints_of_an_object_are_read_back_in_one_request() -> None:
    engine, stream, store = an_engine()
    opened = [stream, *(engine.storage.open_stream(engine.ledger.create_stream(n)) for n in range(2, 30))]
    for each in opened:
        each.checkpoint_source = lambda forced: a_piece(bytes(500))
        append(each)
    await engine.storage.upload.flush()

    assert len([name for name, _ in store.calls if name == "get_range"]) == 1


async def test_object_without_checkpoints_is_not_read_back() -> None:
    engine, stream, store = an_engine()
    append(stream)
    await engine.storage.upload.flush()

    assert [name for name, _ in store.calls if name == "get_range"] == []


async def test_checkpoint_that_was_asked_for_goes_with_the_next_upload_of_anybody() -> None:
    engine, stream, store = an_engine()
    idle = engine.storage.open_stream(engine.ledger.create_stream(2))
    asked: list[bool] = []

    def capture(forced: bool) -> CheckpointPiece | None:
        asked.append(forced)
        return a_piece(b"state at %d" % idle.next_offset, kept=1) if forced else None

    idle.checkpoint_source = capture
    append(idle)
    await engine.storage.upload.flush()
    assert (asked, list(idle.checkpoints())) == ([False], [])

    idle.renew_checkpoint()
    await engine.storage.upload.flush()
    assert len(engine.ledger.commits) == 1, "an idle broker writes nothing"
    append(stream)
    await engine.storage.upload.flush()

    assert asked == [False, True]
    (piece,) = idle.checkpoints()
    assert (piece.offset, await idle.read_checkpoint(piece)) == (1, b"state at 1")
    assert engine.ledger.streams[idle.stream_id].end == 1
