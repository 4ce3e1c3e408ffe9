"""Recovery: fence, read, upload, commit; races lost, halves repeated, damage reported."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from automq.ids import BrokerEpoch, NodeId, ObjectId, Offset, StreamEpoch, StreamId
from automq.runtime.ledger import Account
from automq.s3stream.model import BrokerFenced, CommitRequest, CommitResult, SlotsLost, StoreDamaged
from automq.s3stream.objects.format import object_key
from automq.s3stream.ports import StoreAccessDenied, StoreUnavailable
from automq.s3stream.store.memory import MemoryStore
from automq.s3stream.upload import dead_log, parts
from automq.s3stream.wal.format import SlotId, SlotKind, decode_slot
from automq.s3stream.wal.trimmer import LONGEST_PAUSE_S
from tests.support.engine import (
    CLUSTER,
    NODE,
    SMALL,
    Engine,
    HeldStore,
    Ledger,
    LedgerObjects,
    LedgerStreams,
    append,
    durable,
    keys_of,
    read_all,
    slot_key,
)

pytestmark = pytest.mark.looptime


async def a_dead_engine(
    *, slots: int = 3, streams: int = 2, never_landed: int | None = None
) -> tuple[Engine, HeldStore]:
    """Killed with `slots` slots that no object holds: one batch a stream in each. One may still be on its way."""
    ledger = Ledger()
    store = HeldStore(MemoryStore())
    engine = Engine(ledger, store)

    async def hold(name: str, key: str) -> None:
        if never_landed is not None and key == slot_key(never_landed):
            await asyncio.Event().wait()

    store.before = hold
    engine.storage.start()
    opened = [engine.storage.open_stream(ledger.create_stream(n + 1)) for n in range(streams)]
    for _ in range(slots):
        for stream in opened:
            append(stream, count=2)
        if never_landed is None:
            await durable(engine.storage, opened[0].last_position)
        await asyncio.sleep(SMALL.wal_interval_ms / 1000 * 3)
    await engine.die()
    store.before = HeldStore(store).before
    return engine, store


async def check_recovered(engine: Engine, *, end: int) -> None:
    for stream_id in engine.ledger.streams:
        stream = engine.storage.open_stream(stream_id)
        assert stream.next_offset == end
        assert await read_all(stream) == list(range(0, end, 2))


async def swept(engine: Engine) -> None:
    """What is superfluous is deleted behind everybody's back."""
    await asyncio.sleep(0.01)
    assert engine.crashes == []


async def test_everything_acknowledged_is_readable_afterwards() -> None:
    dead, store = await a_dead_engine()
    successor = Engine(dead.ledger, store, epoch=2)

    await successor.recover(dead)

    await check_recovered(successor, end=6)
    assert [(c.node, c.epoch, c.trim_to, c.recoverer) for c in dead.ledger.commits] == [(1, 1, 3, (1, 2))]


async def test_fence_stays_and_the_rest_is_deleted() -> None:
    dead, store = await a_dead_engine()

    successor = Engine(dead.ledger, store, epoch=2)
    await successor.recover(dead)
    await swept(successor)

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
    dead, store = await a_dead_engine(slots=4, never_landed=1)
    assert await keys_of(store.inner, "wal") == [slot_key(n)[23:] for n in (0, 2, 3)]

    successor = Engine(dead.ledger, store, epoch=2)
    await successor.recover(dead)

    await check_recovered(successor, end=2)
    await swept(successor)
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
    await swept(successor)
    assert await keys_of(store.inner, "wal") == [slot_key(3)[23:]]


async def test_recovery_can_be_repeated_and_taken_over() -> None:
    dead, store = await a_dead_engine()

    async def before(name: str, key: str) -> None:
        if name == "create_bulk":
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
    await swept(second)
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
    monkeypatch.setattr(dead_log, "READS_INFLIGHT", 2)
    dead, store = await a_dead_engine(slots=8)
    successor = Engine(dead.ledger, store, epoch=2, settings=replace(SMALL, recovery_bytes=6 * 4096))

    await successor.recover(dead)

    await check_recovered(successor, end=16)
    assert [commit.trim_to for commit in dead.ledger.commits][-1] == 8
    assert len(dead.ledger.commits) > 1


@pytest.mark.parametrize("recovery_bytes", [1, 6 * 4096])
async def test_a1_image_that_does_not_show_our_commits_yet_loses_nothing(
    monkeypatch: pytest.MonkeyPatch, recovery_bytes: int
) -> None:
    dead, store = await a_dead_engine(slots=8)
    before_all = dict(dead.ledger.streams)
    monkeypatch.setattr(LedgerStreams, "state", lambda _self, stream: before_all[stream])
    successor = Engine(dead.ledger, store, epoch=2, settings=replace(SMALL, recovery_bytes=recovery_bytes))

    await successor.recover(dead)

    monkeypatch.undo()
    await check_recovered(successor, end=16)
    assert dead.ledger.trimmed[dead.me] == 8
    assert len(dead.ledger.commits) > 1


async def test_a1_slots_given_up_are_passed_however_old_the_image_is(monkeypatch: pytest.MonkeyPatch) -> None:
    dead, store = await a_dead_engine(slots=8)
    before_all = dict(dead.ledger.streams)
    monkeypatch.setattr(LedgerStreams, "state", lambda _self, stream: before_all[stream])
    successor = Engine(dead.ledger, store, epoch=2, settings=replace(SMALL, recovery_bytes=1))

    recovered = await successor.storage.recover(
        *dead.me, dead.ledger.fence(dead.me, successor.me), lost=[SlotsLost(3, 5)]
    )

    assert (recovered.unplaced, recovered.given_up) == ((), 2)
    assert [end for _, _, end in dead.ledger.lost] == [10, 10]
    assert {state.end for state in dead.ledger.streams.values()} == {16}


async def test_interrupted_between_groups_goes_on_where_it_was() -> None:
    dead, store = await a_dead_engine(slots=8)
    puts = []

    async def before(name: str, key: str) -> None:
        puts.append(name)
        if puts.count("create_bulk") == 3:
            raise StoreUnavailable("no store")

    store.before = before
    with pytest.raises(StoreUnavailable):
        await Engine(dead.ledger, store, epoch=2, settings=replace(SMALL, recovery_bytes=1)).recover(dead)
    assert dead.ledger.trimmed[dead.me] == 2
    store.before = HeldStore(store).before
    successor = Engine(dead.ledger, store, epoch=3)
    await successor.recover(dead)

    await check_recovered(successor, end=16)
    await swept(successor)
    assert await keys_of(store.inner, "wal") == [slot_key(8)[23:]]


async def test_slot_deleted_while_reading_means_that_somebody_else_recovers() -> None:
    dead, store = await a_dead_engine()
    slow, fast = Engine(dead.ledger, store, epoch=2), Engine(dead.ledger, store, epoch=3)

    async def before(name: str, key: str) -> None:
        if name == "get" and key == slot_key(0):
            store.before = HeldStore(store).before
            dead.ledger.fence(slow.me, fast.me)
            await fast.recover(dead)
            await swept(fast)

    store.before = before
    with pytest.raises(BrokerFenced, match="was deleted while we recovered it"):
        await slow.recover(dead)
    await check_recovered(fast, end=6)


async def test_b16_what_does_not_fit_is_handed_back_and_its_slots_stay() -> None:
    dead, store = await a_dead_engine(slots=5)
    # The metadata say that stream 1 ends where no slot goes on: somebody lost a commit.
    dead.ledger.change(StreamId(1), end=Offset(3))

    successor = Engine(dead.ledger, store, epoch=2)
    recovered = await successor.storage.recover(*dead.me, dead.ledger.fence(dead.me, successor.me))
    await swept(successor)

    # Offsets 2 and 3 are one batch, half of which is above the stream's end.
    assert [(gap.stream, gap.start, gap.end, gap.expected) for gap in recovered.unplaced] == [(1, 2, 10, 3)]
    assert [(gap.first_slot, gap.end_slot) for gap in recovered.unplaced] == [(1, 5)]
    assert dead.ledger.trimmed[dead.me] == 1
    assert await keys_of(store.inner, "wal") == [slot_key(n)[23:] for n in (1, 2, 3, 4, 5)]
    assert dead.ledger.streams[StreamId(2)].end == 10


async def test_b16_gap_is_found_again_after_a_kill_before_its_record() -> None:
    dead, store = await a_dead_engine(slots=5)
    dead.ledger.change(StreamId(1), end=Offset(3))
    found = []
    for epoch in (2, 3):
        engine = Engine(dead.ledger, store, epoch=epoch, settings=replace(SMALL, recovery_bytes=1))
        recovered = await engine.storage.recover(*dead.me, dead.ledger.fence(dead.me, engine.me))
        await swept(engine)
        found.append(recovered.unplaced)

    assert found[0] == found[1]
    assert [(gap.start, gap.end, gap.first_slot, gap.end_slot) for gap in found[1]] == [(2, 10, 1, 5)]
    assert set(await keys_of(store.inner, "wal")) >= {slot_key(n)[23:] for n in (1, 2, 3, 4)}


async def test_b16_refused_range_is_handed_back_and_its_slots_stay() -> None:
    dead, store = await a_dead_engine()
    # The record of the stream's last opening is lost: nobody may place what the log holds of it.
    dead.ledger.change(StreamId(1), epoch=StreamEpoch(dead.ledger.streams[StreamId(1)].epoch - 1))

    successor = Engine(dead.ledger, store, epoch=2)
    recovered = await successor.storage.recover(*dead.me, dead.ledger.fence(dead.me, successor.me))
    await swept(successor)

    assert [(gap.stream, gap.start, gap.end, gap.expected) for gap in recovered.unplaced] == [(1, 0, 6, 0)]
    assert dead.ledger.streams[StreamId(2)].end == 6
    assert await keys_of(store.inner, "wal") == [slot_key(n)[23:] for n in (0, 1, 2, 3)]


async def test_b17_log_with_more_ranges_than_a_commit_takes_is_recovered_in_parts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dead, store = await a_dead_engine(streams=7)
    monkeypatch.setattr(parts, "RANGES_MAX", 3)

    successor = Engine(dead.ledger, store, epoch=2)
    await successor.recover(dead)

    await check_recovered(successor, end=6)
    assert [(len(commit.ranges), commit.trim_to) for commit in dead.ledger.commits] == [(3, 0), (3, 0), (1, 3)]


async def test_b17_kill_between_the_parts_loses_and_doubles_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    dead, store = await a_dead_engine(streams=7)
    monkeypatch.setattr(parts, "RANGES_MAX", 3)
    first = Engine(dead.ledger, store, epoch=2)
    judge = dead.ledger.judge

    def fail_second(request: CommitRequest, committer: object) -> CommitResult:
        if len(dead.ledger.commits) == 1:
            raise StoreUnavailable("killed here")
        return judge(request, committer)  # type: ignore[arg-type]

    monkeypatch.setattr(dead.ledger, "judge", fail_second)
    with pytest.raises(StoreUnavailable):
        await first.recover(dead)
    assert dead.ledger.trimmed[dead.me] == 0
    monkeypatch.setattr(dead.ledger, "judge", judge)

    second = Engine(dead.ledger, store, epoch=3)
    await second.recover(dead)

    await check_recovered(second, end=6)
    assert [(len(commit.ranges), commit.trim_to) for commit in dead.ledger.commits] == [(3, 0), (3, 0), (1, 3)]


async def test_b17_sweep_that_fails_is_repeated_until_it_succeeds() -> None:
    dead, store = await a_dead_engine()

    async def before(name: str, key: str) -> None:
        if name == "delete" and asyncio.get_running_loop().time() < 3600:
            raise StoreAccessDenied("no deletes")

    store.before = before
    successor = Engine(dead.ledger, store, epoch=2)
    await successor.recover(dead)
    await check_recovered(successor, end=6)
    assert len(await keys_of(store.inner, "wal")) == 4

    await asyncio.sleep(3600 + LONGEST_PAUSE_S)

    assert await keys_of(store.inner, "wal") == [slot_key(3)[23:]]
    assert len([name for name, _ in store.calls if name == "delete"]) < 200


async def test_object_key_that_is_taken_by_other_bytes_stops_recovery_and_is_not_overwritten() -> None:
    dead, store = await a_dead_engine()
    key = object_key(CLUSTER, ObjectId(1))
    await store.inner.put(key, [b"an object of before the metadata were set back"])

    with pytest.raises(StoreDamaged, match="the metadata are behind") as damage:
        await Engine(dead.ledger, store, epoch=2).recover(dead)

    assert damage.value.key == key
    assert await store.inner.get(key) == b"an object of before the metadata were set back"
    assert dead.ledger.commits == []


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


async def test_b6_recovery_reads_no_more_than_its_account_and_one_slot() -> None:
    dead, store = await a_dead_engine(slots=40, streams=10)
    settings = replace(SMALL, recovery_bytes=60_000)
    successor = Engine(dead.ledger, store, epoch=2, settings=settings)
    account = successor.memory[Account.RECOVERY]
    most = 0
    reading = 0

    async def before(name: str, key: str) -> None:
        nonlocal most, reading
        most = max(most, account.used)

    store.before = before
    await successor.recover(dead)

    slot = 10 * (dead_log.RECORD_BYTES + 200)
    assert 2 * slot < most <= account.limit + 2 * slot
    assert account.used == 0
    await check_recovered(successor, end=80)


async def test_small_slots_are_read_many_at_once() -> None:
    dead, store = await a_dead_engine(slots=40, streams=1)
    reading: list[int] = [0]
    most = 0

    async def before(name: str, key: str) -> None:
        nonlocal most
        if name == "get":
            reading[0] += 1
            most = max(most, reading[0])
            await asyncio.sleep(0.01)
            reading[0] -= 1

    store.before = before
    await Engine(dead.ledger, store, epoch=2).recover(dead)

    assert most == dead_log.READS_INFLIGHT


async def test_failed_recovery_gives_its_memory_back() -> None:
    dead, store = await a_dead_engine(slots=8)
    successor = Engine(dead.ledger, store, epoch=2)

    async def before(name: str, key: str) -> None:
        if name == "create_bulk":
            raise StoreUnavailable("no store")

    store.before = before
    with pytest.raises(StoreUnavailable):
        await successor.recover(dead)

    assert successor.memory[Account.RECOVERY].used == 0


async def test_ids_are_prepared_several_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    dead, store = await a_dead_engine(slots=40)
    prepared: list[int] = []
    prepare = LedgerObjects.prepare

    async def counted(objects: LedgerObjects, count: int) -> Sequence[ObjectId]:
        prepared.append(count)
        return await prepare(objects, count)

    monkeypatch.setattr(LedgerObjects, "prepare", counted)
    successor = Engine(dead.ledger, store, epoch=2, settings=replace(SMALL, recovery_bytes=1))
    await successor.recover(dead)

    assert len(dead.ledger.commits) >= 40
    assert len(prepared) <= 8
    monkeypatch.undo()
    await check_recovered(successor, end=80)


async def test_a_log_that_is_alone_has_the_account_for_itself() -> None:
    commits: dict[int, int] = {}
    for logs in (1, 4):
        dead, store = await a_dead_engine(slots=40, streams=10)
        successor = Engine(dead.ledger, store, epoch=2, settings=replace(SMALL, recovery_bytes=120_000))
        fenced = dead.ledger.fence(dead.me, successor.me)
        await successor.storage.recover(*dead.me, fenced, share=lambda logs=logs: logs)  # type: ignore[misc]
        commits[logs] = len(dead.ledger.commits)
        await check_recovered(successor, end=80)
    assert 2 * commits[1] < commits[4]


async def test_what_others_hold_of_the_account_is_left_to_them() -> None:
    dead, store = await a_dead_engine(slots=40, streams=10)
    successor = Engine(dead.ledger, store, epoch=2, settings=replace(SMALL, recovery_bytes=120_000))
    account = successor.memory[Account.RECOVERY]
    account.charge(110_000)
    most = 0

    async def before(name: str, key: str) -> None:
        nonlocal most
        most = max(most, account.used)

    store.before = before
    await successor.recover(dead)

    slot = 10 * (dead_log.RECORD_BYTES + 200)
    assert most <= account.limit + 2 * slot
    account.release(110_000)
    assert account.used == 0
