"""What a stream concludes from an object that is not there: nothing, until nobody else can have deleted it."""

import asyncio

import pytest

from automq.ids import BrokerEpoch, NodeId, ObjectId, Offset
from automq.s3stream.model import BrokerFenced, DataMissing
from automq.s3stream.objects.format import object_key
from automq.s3stream.ports import StoreUnavailable
from automq.s3stream.store.memory import MemoryStore
from automq.s3stream.stream import Stream
from tests.support.engine import CLUSTER, Engine, HeldStore, Ledger, a_piece, append, read_all

pytestmark = pytest.mark.looptime


def an_engine() -> tuple[Engine, Stream, HeldStore]:
    ledger = Ledger()
    store = HeldStore(MemoryStore())
    engine = Engine(ledger, store)
    engine.storage.start()
    return engine, engine.storage.open_stream(ledger.create_stream(1)), store


async def without_object(engine: Engine, stream: Stream, store: HeldStore) -> None:
    """Batches of two records, in one object, which is gone."""
    for number in range(4):
        append(stream, 2, timestamp_ms=number * 10)
    await engine.storage.upload.flush()
    while engine.storage.append.cache.evict():
        pass
    spans = engine.objects.spans(stream.stream_id, Offset(0), Offset(8), limit=9)
    await store.delete([object_key(CLUSTER, span.object_id) for span in spans])


async def test_f2_what_is_missing_is_no_damage_to_who_has_been_superseded() -> None:
    """Simulation seed 370: a process that was paused told consumers of damage; the other had compacted the object."""
    engine, stream, store = an_engine()
    stream.checkpoint_source = lambda forced: a_piece(b"state")
    await without_object(engine, stream, store)
    (piece,) = stream.checkpoints()
    engine.ledger.fence(engine.me, (NodeId(1), BrokerEpoch(99)))

    for read in (
        lambda: stream.read(Offset(0), stream.confirmed_offset, 1000),
        lambda: stream.find_timestamp(20),
        lambda: stream.greatest_timestamp(Offset(2)),
        lambda: stream.read_checkpoint(piece),
    ):
        with pytest.raises(BrokerFenced):
            await read()  # type: ignore[no-untyped-call]


async def test_f2_what_is_missing_is_no_damage_while_nobody_can_tell_who_deleted_it() -> None:
    engine, stream, store = an_engine()
    await without_object(engine, stream, store)

    for read in (
        lambda: stream.read(Offset(0), stream.confirmed_offset, 1000),
        lambda: stream.find_timestamp(20),
    ):
        engine.objects.unavailable = 1
        with pytest.raises(StoreUnavailable):
            await read()  # type: ignore[no-untyped-call]
        with pytest.raises(DataMissing):
            await read()  # type: ignore[no-untyped-call]


async def test_f2_an_object_that_is_gone_before_its_commit_is_uploaded_again_under_another_id() -> None:
    """Simulation seed 987: prepared objects expired while an upload was held up, and were asked for for ever."""
    engine, stream, store = an_engine()
    stream.checkpoint_source = lambda forced: a_piece(b"state")

    async def expire(name: str, key: str) -> None:
        if name == "create_bulk" and key == object_key(CLUSTER, ObjectId(1)):
            await store.inner.delete([key])

    store.after = expire
    append(stream)
    async with asyncio.timeout(60):
        await engine.storage.upload.flush()

    assert [commit.object_ids for commit in engine.ledger.commits] == [(2,)]
    assert await read_all(stream) == [0]
