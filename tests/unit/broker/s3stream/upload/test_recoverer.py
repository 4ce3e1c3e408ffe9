"""Recovery: fence, read, upload, commit; races lost, halves repeated, damage reported."""

import asyncio

import pytest

from automq.ids import BrokerEpoch, NodeId, Offset
from automq.s3stream.model import BrokerFenced, CorruptData
from automq.s3stream.ports import StoreUnavailable
from automq.s3stream.store.memory import MemoryStore
from automq.s3stream.upload import recoverer
from automq.s3stream.wal.format import SlotId, SlotKind, decode_slot
from tests.support.engine import (
    CLUSTER,
    NODE,
    SMALL,
    Engine,
    HeldStore,
    Ledger,
    append,
    durable,
    keys_of,
    read_all,
    slot_key,
)

pytestmark = pytest.mark.looptime


async def a_dead_engine(*, slots: int = 3, streams: int = 2) -> tuple[Engine, HeldStore]:
    """Killed with `slots` slots that no object holds: one batch a stream in each."""
    ledger = Ledger()
    store = HeldStore(MemoryStore())
    engine = Engine(ledger, store)
    engine.storage.start()
    opened = [engine.storage.open_stream(ledger.create_stream(n + 1)) for n in range(streams)]
    for _ in range(slots):
        for stream in opened:
            append(stream, count=2)
        await durable(engine.storage, opened[0].last_position)
        await asyncio.sleep(SMALL.wal_interval_ms / 1000)
    await engine.die()
    return engine, store


async def check_recovered(engine: Engine, *, end: int) -> None:
    for stream_id in engine.ledger.streams:
        stream = engine.storage.open_stream(stream_id)
        assert stream.next_offset == end
        assert await read_all(stream) == list(range(0, end, 2))


async def test_everything_acknowledged_is_readable_afterwards() -> None:
    dead, store = await a_dead_engine()
    successor = Engine(dead.ledger, store, epoch=2)

    await successor.recover(dead)

    await check_recovered(successor, end=6)
    assert [(c.node, c.epoch, c.trim_to, c.recoverer) for c in dead.ledger.commits] == [(1, 1, 3, (1, 2))]


async def test_fence_stays_and_the_rest_is_deleted() -> None:
    dead, store = await a_dead_engine()

    await Engine(dead.ledger, store, epoch=2).recover(dead)

    assert await keys_of(store.inner, "wal") == [slot_key(3)[23:]]
    slot = SlotId(cluster_id=CLUSTER, node=NODE, epoch=BrokerEpoch(1), sequence=3)
    fence = decode_slot(slot, memoryview(await store.get(slot.key)))
    assert (fence.kind, fence.recoverer) == (SlotKind.FENCE, (1, 2))


async def test_empty_log_is_fenced_too() -> None:
    dead, store = await a_dead_engine(slots=0)

    await Engine(dead.ledger, store, epoch=2).recover(dead)

    assert await keys_of(store.inner, "wal") == [slot_key(0)[23:]]
    assert dead.ledger.commits == []


async def test_slots_beyond_the_fence_are_not_part_of_the_log() -> None:
    dead, store = await a_dead_engine()
    beyond = await store.get(slot_key(2))
    await store.delete([slot_key(1), slot_key(2)])
    await store.put(slot_key(2), [beyond])

    successor = Engine(dead.ledger, store, epoch=2)
    await successor.recover(dead)

    await check_recovered(successor, end=2)
    assert await keys_of(store.inner, "wal") == [slot_key(1)[23:]]


async def test_race_lost_at_the_fence_is_one_slot_more_to_read() -> None:
    dead, store = await a_dead_engine()
    late = await store.get(slot_key(2))
    await store.delete([slot_key(2)])

    async def before(name: str, key: str) -> None:
        if name == "create" and key == slot_key(2) and late:
            await store.inner.put(key, [late])

    store.before = before
    successor = Engine(dead.ledger, store, epoch=2)
    await successor.recover(dead)

    await check_recovered(successor, end=6)
    assert await keys_of(store.inner, "wal") == [slot_key(3)[23:]]


async def test_recovery_can_be_repeated_and_taken_over() -> None:
    dead, store = await a_dead_engine()

    async def before(name: str, key: str) -> None:
        if name == "put":
            raise StoreUnavailable("no store")

    store.before = before
    first = Engine(dead.ledger, store, epoch=2)
    with pytest.raises(StoreUnavailable):
        await first.recover(dead)
    store.before = HeldStore(store).before
    second = Engine(dead.ledger, store, epoch=3)
    await second.recover(dead)
    await second.storage.recover(*dead.me, dead.ledger.fence(dead.me, second.me))

    await check_recovered(second, end=6)
    assert await keys_of(store.inner, "wal") == [slot_key(3)[23:]]


async def test_zombie_that_wakes_up_hits_the_fence() -> None:
    ledger = Ledger()
    store = HeldStore(MemoryStore())
    zombie = Engine(ledger, store)
    zombie.storage.start()
    stream = zombie.storage.open_stream(ledger.create_stream(1))
    await durable(zombie.storage, append(stream))
    await Engine(ledger, store, epoch=2).recover(zombie)

    with pytest.raises(BrokerFenced):
        await durable(zombie.storage, append(stream))
    assert len(zombie.fences) == 1


async def test_large_log_is_committed_group_by_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recoverer, "GROUP_BYTES", 3 * 4096)
    monkeypatch.setattr(recoverer, "READS_INFLIGHT", 2)
    dead, store = await a_dead_engine(slots=8)
    successor = Engine(dead.ledger, store, epoch=2)

    await successor.recover(dead)

    await check_recovered(successor, end=16)
    assert [commit.trim_to for commit in dead.ledger.commits][-1] == 8
    assert len(dead.ledger.commits) > 1


async def test_interrupted_between_groups_goes_on_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recoverer, "GROUP_BYTES", 1)
    monkeypatch.setattr(recoverer, "READS_INFLIGHT", 2)
    dead, store = await a_dead_engine(slots=8)
    puts = []

    async def before(name: str, key: str) -> None:
        puts.append(name)
        if puts.count("put") == 3:
            raise StoreUnavailable("no store")

    store.before = before
    with pytest.raises(StoreUnavailable):
        await Engine(dead.ledger, store, epoch=2).recover(dead)
    assert dead.ledger.trimmed[dead.me] == 4
    store.before = HeldStore(store).before
    successor = Engine(dead.ledger, store, epoch=3)
    await successor.recover(dead)

    await check_recovered(successor, end=16)
    assert await keys_of(store.inner, "wal") == [slot_key(8)[23:]]


async def test_damaged_slot_of_the_run_is_reported_not_skipped() -> None:
    dead, store = await a_dead_engine()
    damaged = bytearray(await store.get(slot_key(1)))
    damaged[130] ^= 1
    await store.put(slot_key(1), [damaged])

    with pytest.raises(CorruptData) as caught:
        await Engine(dead.ledger, store, epoch=2).recover(dead)
    assert caught.value.key == slot_key(1)


async def test_slot_deleted_while_reading_means_that_somebody_else_recovers() -> None:
    dead, store = await a_dead_engine()

    async def before(name: str, key: str) -> None:
        if name == "get":
            await store.inner.delete([key])

    store.before = before
    with pytest.raises(BrokerFenced, match="somebody else"):
        await Engine(dead.ledger, store, epoch=2).recover(dead)


async def test_gap_is_reported_as_a_bug(caplog: pytest.LogCaptureFixture) -> None:
    dead, store = await a_dead_engine(streams=1)
    state = dead.ledger.streams.popitem()[1]
    dead.ledger.create_stream(1)
    slots = [await store.get(slot_key(n)) for n in range(3)]
    assert slots
    first = SlotId(cluster_id=CLUSTER, node=NODE, epoch=BrokerEpoch(1), sequence=0)
    assert decode_slot(first, memoryview(slots[0])).records[0].base_offset == 0
    # The first slot is gone and T says that it was never needed.
    await store.delete([slot_key(0)])
    dead.ledger.trimmed[dead.me] = 1

    successor = Engine(dead.ledger, store, epoch=2)
    await successor.recover(dead)

    assert "wal has a gap" in caplog.text
    assert successor.storage.open_stream(state.stream).next_offset == 0


async def test_another_node_recovers_for_the_dead_one() -> None:
    dead, store = await a_dead_engine()
    survivor = Engine(dead.ledger, store, node=NodeId(2), epoch=5)
    await survivor.storage.recover(*dead.me, dead.ledger.fence(dead.me, survivor.me))
    for stream_id in dead.ledger.streams:
        dead.ledger.reopen(stream_id, owner=NodeId(2))

    survivor.storage.start()
    stream = survivor.storage.open_stream(next(iter(dead.ledger.streams)))

    assert stream.next_offset == Offset(6)
    await durable(survivor.storage, append(stream))
