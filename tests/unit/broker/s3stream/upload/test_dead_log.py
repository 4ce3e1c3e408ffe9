"""Where a dead broker's log ends: holes that are none, slots that the store lost, damage, and what people gave up."""

import asyncio
from collections.abc import Sequence

import pytest
from crc32c import crc32c
from hypothesis import given, settings
from hypothesis import strategies as st

from automq.ids import BrokerEpoch, Offset, StreamId
from automq.s3stream.model import CorruptData, DataMissing, FormatTooNew, SlotsLost, StoreDamaged
from automq.s3stream.recovery import IN_FLIGHT_MAX
from automq.s3stream.store.memory import MemoryStore
from automq.s3stream.wal.format import SlotId, SlotKind, seal_slot
from tests.support.engine import (
    CLUSTER,
    NODE,
    SMALL,
    Engine,
    HeldStore,
    Ledger,
    a_fence,
    append,
    durable,
    keys_of,
    read_all,
    slot_key,
)
from tests.support.sim_loop import SimLoop

pytestmark = pytest.mark.looptime

STREAM = StreamId(1)


def slot_id(sequence: int) -> SlotId:
    return SlotId(cluster_id=CLUSTER, node=NODE, epoch=BrokerEpoch(1), sequence=sequence)


async def a_dead_engine(slots: int = 6, *, never_landed: int | None = None) -> tuple[Engine, HeldStore]:
    """One batch of one record in each slot; with `never_landed`, nothing from there on was acknowledged."""
    ledger = Ledger()
    store = HeldStore(MemoryStore())
    engine = Engine(ledger, store)

    async def hold(name: str, key: str) -> None:
        if never_landed is not None and key == slot_key(never_landed):
            await asyncio.Event().wait()

    store.before = hold
    engine.storage.start()
    stream = engine.storage.open_stream(ledger.create_stream(STREAM))
    for _ in range(slots):
        append(stream)
        if never_landed is None:
            await durable(engine.storage, stream.last_position)
        await asyncio.sleep(SMALL.wal_interval_ms / 1000 * 3)
    await engine.die()
    store.before = HeldStore(store).before
    return engine, store


async def in_the_first_version(store: HeldStore) -> None:
    """Every slot as an older program wrote it: without a mark."""
    for info in await store.inner.list(f"{CLUSTER}/wal/"):
        data = bytearray(await store.inner.get(info.key))
        body = int.from_bytes(data[72:76], "big")
        data[4] = 1
        data[50:52] = bytes(2)
        headers = b"".join(data[80 + at : 80 + at + 44] for at in range(0, body, 144))
        data[76:80] = crc32c(bytes(data[:76]), crc32c(headers)).to_bytes(4, "big")
        await store.inner.put(info.key, [data])


IN_A_HEADER, IN_A_BATCH = 90, 130


async def flip(store: HeldStore, sequence: int, at: int = IN_A_HEADER) -> None:
    """One bit of a slot."""
    data = bytearray(await store.inner.get(slot_key(sequence)))
    data[at] ^= 1
    await store.inner.put(slot_key(sequence), [data])


async def recovered_end(dead: Engine, store: HeldStore, *, lost: Sequence[SlotsLost] = (), epoch: int = 2) -> int:
    """Recover it; how many records there are."""
    successor = Engine(dead.ledger, store, epoch=epoch)
    await successor.storage.recover(*dead.me, dead.ledger.fence(dead.me, successor.me), lost=lost)
    await asyncio.sleep(0.1)
    assert successor.crashes == []
    dead.ledger.reopen(STREAM)
    stream = successor.storage.open_stream(STREAM)
    assert await read_all(stream) == list(range(stream.next_offset))
    return stream.next_offset


async def check_refused(dead: Engine, store: HeldStore, error: type[StoreDamaged], *, key: str) -> str:
    """Recovery stops; nothing is deleted, nothing new is fenced, however often it is tried."""
    before = [(info.key, info.size) for info in await store.inner.list(f"{CLUSTER}/wal/")]
    for epoch in (2, 3):
        successor = Engine(dead.ledger, store, epoch=epoch)
        with pytest.raises(error) as caught:
            await successor.storage.recover(*dead.me, dead.ledger.fence(dead.me, successor.me))
        await asyncio.sleep(1)
    assert caught.value.key == key
    assert [(info.key, info.size) for info in await store.inner.list(f"{CLUSTER}/wal/")] == before
    assert not [call for call in store.calls if call[0] == "delete"]
    return str(caught.value)


@pytest.mark.parametrize("missing", [0, 1, 3, 4])
async def test_f2_acknowledged_slot_that_is_missing_is_damage(missing: int) -> None:
    dead, store = await a_dead_engine()
    await store.inner.delete([slot_key(missing)])

    message = await check_refused(dead, store, DataMissing, key=slot_key(missing))

    assert f"may have been acknowledged, as {slot_key(5)} shows" in message


async def test_f2_first_slots_at_t_that_are_missing_are_damage() -> None:
    dead, store = await a_dead_engine()
    dead.ledger.trim_log(dead.me, 2)
    await store.inner.delete([slot_key(n) for n in (0, 1, 2, 3)])

    await check_refused(dead, store, DataMissing, key=slot_key(2))


async def test_slots_below_t_may_be_missing() -> None:
    dead, store = await a_dead_engine()
    dead.ledger.trim_log(dead.me, 3)
    dead.ledger.change(STREAM, end=Offset(3))
    await store.inner.delete([slot_key(n) for n in (0, 2)])

    successor = Engine(dead.ledger, store, epoch=2)
    await successor.storage.recover(*dead.me, dead.ledger.fence(dead.me, successor.me))

    assert dead.ledger.streams[STREAM].end == 6


@pytest.mark.parametrize("landed", [1, 3, 5])
async def test_hole_of_a_slot_that_was_on_its_way_ends_the_log(landed: int) -> None:
    dead, store = await a_dead_engine(never_landed=6 - landed)
    hole = 6 - landed

    assert await recovered_end(dead, store) == hole

    assert await keys_of(store.inner, "wal") == [slot_key(hole)[23:]]


async def test_f2_what_nobody_can_notice_is_the_end_that_is_lost_with_nothing_behind_it() -> None:
    dead, store = await a_dead_engine()
    await store.inner.delete([slot_key(4), slot_key(5)])

    assert await recovered_end(dead, store) == 4


async def test_f2_slot_that_is_missing_below_a_fence_is_damage() -> None:
    dead, store = await a_dead_engine()
    await store.inner.create(slot_key(6), [a_fence(6)])
    await store.inner.delete([slot_key(5)])

    await check_refused(dead, store, DataMissing, key=slot_key(5))


async def test_f1_damaged_slot_that_was_acknowledged_says_so() -> None:
    dead, store = await a_dead_engine()
    await flip(store, 2)

    message = await check_refused(dead, store, CorruptData, key=slot_key(2))

    assert f"it may have been acknowledged, as {slot_key(5)} shows" in message


@pytest.mark.parametrize("body", [b"", b"AQWS", None])
async def test_f1_damaged_slot_that_nothing_vouches_for_is_left_to_a_person(body: bytes | None) -> None:
    dead, store = await a_dead_engine()
    whole = await store.inner.get(slot_key(5))
    await store.inner.put(slot_key(5), [whole[:200] if body is None else body])

    message = await check_refused(dead, store, CorruptData, key=slot_key(5))

    assert "`automq repair` may end the log there" in message


async def test_f2_hole_below_a_slot_that_tells_nothing_is_damage() -> None:
    dead, store = await a_dead_engine()
    await store.inner.delete([slot_key(4)])
    await store.inner.put(slot_key(5), [b""])

    await check_refused(dead, store, DataMissing, key=slot_key(4))


async def test_f2_header_of_a_damaged_slot_above_the_hole_is_believed_when_it_warns() -> None:
    dead, store = await a_dead_engine()
    await store.inner.delete([slot_key(4)])
    await flip(store, 5)

    await check_refused(dead, store, DataMissing, key=slot_key(4))


async def test_f1_half_slot_above_a_hole_of_the_last_crash_keeps_nobody_from_starting() -> None:
    dead, store = await a_dead_engine(never_landed=4)
    whole = await store.inner.get(slot_key(5))
    await store.inner.put(slot_key(5), [whole[:150]])

    assert await recovered_end(dead, store) == 4


async def test_f2_undecodable_slot_above_the_fence_is_not_swept() -> None:
    dead, store = await a_dead_engine(never_landed=3)
    await store.inner.put(slot_key(4), [b"nobody knows what this was"])

    assert await recovered_end(dead, store) == 3

    assert await keys_of(store.inner, "wal") == [slot_key(n)[23:] for n in (3, 4)]


async def test_slot_that_no_listing_showed_is_looked_for_before_it_is_damage() -> None:
    dead, store = await a_dead_engine()
    late = await store.inner.get(slot_key(2))
    await store.inner.delete([slot_key(2)])

    async def after(name: str, key: str) -> None:
        if name == "list":
            # It landed after the listing had passed its place.
            store.after = HeldStore(store).after
            await store.inner.put(slot_key(2), [late])

    store.after = after

    assert await recovered_end(dead, store) == 6


async def test_slot_of_a_newer_program_is_refused_by_name() -> None:
    dead, store = await a_dead_engine(never_landed=4)
    data = bytearray(await store.inner.get(slot_key(5)))
    data[4] = 9
    await store.inner.put(slot_key(5), [data])

    with pytest.raises(FormatTooNew):
        await recovered_end(dead, store)


async def test_log_of_an_older_program_is_recovered() -> None:
    dead, store = await a_dead_engine()
    await in_the_first_version(store)

    assert await recovered_end(dead, store) == 6


async def test_hole_in_a_log_of_an_older_program_ends_it() -> None:
    dead, store = await a_dead_engine(never_landed=4)
    await in_the_first_version(store)

    assert await recovered_end(dead, store) == 4


async def test_f2_log_of_an_older_program_that_begins_above_t_is_damage() -> None:
    dead, store = await a_dead_engine()
    await in_the_first_version(store)
    await store.inner.delete([slot_key(0)])

    await check_refused(dead, store, DataMissing, key=slot_key(0))


async def test_f2_more_slots_of_an_older_program_above_a_hole_than_can_be_in_flight_are_damage(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("automq.s3stream.recovery.IN_FLIGHT_MAX", 3)
    dead, store = await a_dead_engine()
    await in_the_first_version(store)
    await store.inner.delete([slot_key(1)])

    await check_refused(dead, store, DataMissing, key=slot_key(1))


async def test_log_ends_where_a_person_ended_it() -> None:
    dead, store = await a_dead_engine()
    await flip(store, 4)

    assert await recovered_end(dead, store, lost=[SlotsLost(4, None)]) == 4

    # What lies beyond stays for whoever wants to look, and the writer meets a fence should it wake up.
    assert await keys_of(store.inner, "wal") == [slot_key(n)[23:] for n in (4, 5, 6)]
    assert slot_id(6).decode(await store.inner.get(slot_key(6))).kind is SlotKind.FENCE


async def test_log_that_a_person_ended_at_a_missing_slot_is_fenced_there() -> None:
    dead, store = await a_dead_engine()
    await store.inner.delete([slot_key(4)])

    assert await recovered_end(dead, store, lost=[SlotsLost(4, None)]) == 4

    assert slot_id(4).decode(await store.inner.get(slot_key(4))).kind is SlotKind.FENCE
    assert await keys_of(store.inner, "wal") == [slot_key(n)[23:] for n in (4, 5)]


async def test_recovery_passes_over_slots_that_were_given_up_and_places_what_follows() -> None:
    dead, store = await a_dead_engine()
    await store.inner.delete([slot_key(2)])
    await flip(store, 3)
    successor = Engine(dead.ledger, store, epoch=2)

    recovered = await successor.storage.recover(
        *dead.me, dead.ledger.fence(dead.me, successor.me), lost=[SlotsLost(2, 4)]
    )

    # By record: offsets 2 and 3 are lost, and nobody gets them again.
    assert dead.ledger.lost == [(STREAM, 2, 4)]
    assert (recovered.unplaced, recovered.given_up, recovered.continued) == ((), 2, {STREAM})
    assert dead.ledger.streams[STREAM].end == 6
    assert sorted((found.start, found.end) for ranges in dead.ledger.objects.values() for found in ranges) == [
        (0, 2),
        (4, 6),
    ]


async def test_stream_that_does_not_go_on_behind_lost_slots_is_open_and_so_are_all_where_the_log_was_ended() -> None:
    dead, store = await a_dead_engine()
    await store.inner.delete([slot_key(5)])
    successor = Engine(dead.ledger, store, epoch=2)
    recovered = await successor.storage.recover(
        *dead.me, dead.ledger.fence(dead.me, successor.me), lost=[SlotsLost(5, 6)]
    )
    assert (recovered.given_up, recovered.continued, dead.ledger.lost) == (1, frozenset(), [])

    ended, store = await a_dead_engine()
    successor = Engine(ended.ledger, store, epoch=2)
    recovered = await successor.storage.recover(
        *ended.me, ended.ledger.fence(ended.me, successor.me), lost=[SlotsLost(4, None)]
    )
    # Slots 4 and 5, and as many more as can have been in flight.
    assert (recovered.given_up, recovered.continued) == (2 + IN_FLIGHT_MAX, frozenset())


async def test_recovery_may_be_repeated_after_it_put_its_fence() -> None:
    dead, store = await a_dead_engine(never_landed=4)
    for epoch in (2, 3, 4):
        assert await recovered_end(dead, store, epoch=epoch) == 4


def sealed(sequence: int, durable_below: int) -> bytes:
    """An empty data slot."""
    data = bytearray(80)
    seal_slot(
        memoryview(data),
        start=0,
        end=80,
        slot=slot_id(sequence),
        kind=SlotKind.DATA,
        nonce=bytes(16),
        records=0,
        crc=0,
        durable_below=durable_below,
    )
    return bytes(data)


@settings(max_examples=300, deadline=None)
@given(
    landed=st.lists(st.booleans(), min_size=1, max_size=12),
    lags=st.lists(st.integers(0, 4), min_size=12, max_size=12),
    vanished=st.sets(st.integers(0, 11), max_size=3),
    trimmed=st.integers(0, 4),
)
def test_f2_no_acknowledged_slot_is_ever_fenced_over(
    landed: list[bool], lags: list[int], vanished: set[int], trimmed: int
) -> None:
    """Slots land or not; the writer seals each with what it knows by then; some vanish.

    Where a mark shows that an acknowledged slot is missing, recovery stops there; where none does, it ends the log at
    the lowest missing slot, which is the acknowledged end if nothing has vanished.
    """
    acknowledged = landed.index(False) if False in landed else len(landed)
    trim_to = min(trimmed, acknowledged)
    marks: list[int] = []
    for sequence in range(len(landed)):
        marks.append(max(min(sequence, acknowledged) - lags[sequence], marks[-1] if marks else 0))
    present = [sequence for sequence, has_landed in enumerate(landed) if has_landed and sequence not in vanished]
    hole = next(sequence for sequence in range(trim_to, 13) if sequence not in present)
    noticed = any(marks[sequence] > hole for sequence in present if sequence > hole)

    async def write_and_recover() -> int:
        store = MemoryStore()
        for sequence in present:
            await store.create(slot_key(sequence), [sealed(sequence, marks[sequence])])
        ledger = Ledger()
        engine = Engine(ledger, store, epoch=2)
        ledger.fence((NODE, BrokerEpoch(1)), engine.me)
        try:
            return (await engine.storage.recover(NODE, BrokerEpoch(1), trim_to)).fence
        finally:
            await asyncio.sleep(1)

    loop = SimLoop(1)
    try:
        if noticed:
            with pytest.raises(DataMissing) as caught:
                loop.run_until_complete(write_and_recover())
            assert caught.value.key == slot_key(hole)
        else:
            assert loop.run_until_complete(write_and_recover()) == hole
    finally:
        loop.close()


async def two_streams(slots: int = 6) -> tuple[Engine, HeldStore]:
    """A batch of each of two streams in every slot."""
    ledger, store = Ledger(), HeldStore(MemoryStore())
    engine = Engine(ledger, store)
    engine.storage.start()
    streams = [engine.storage.open_stream(ledger.create_stream(number)) for number in (1, 2)]
    for _ in range(slots):
        for stream in streams:
            append(stream)
        await durable(engine.storage, streams[0].last_position)
        await asyncio.sleep(SMALL.wal_interval_ms / 1000 * 3)
    await engine.die()
    return engine, store


async def test_f8_a_flipped_bit_in_a_batch_holds_up_its_stream_from_there_and_no_other() -> None:
    dead, store = await two_streams()
    await flip(store, 2, IN_A_BATCH)
    slots = await keys_of(store.inner, "wal")
    successor = Engine(dead.ledger, store, epoch=2)

    recovered = await successor.storage.recover(*dead.me, dead.ledger.fence(dead.me, successor.me))
    await asyncio.sleep(1)

    assert {stream: state.end for stream, state in dead.ledger.streams.items()} == {1: 2, 2: 6}
    (left,) = recovered.unplaced
    assert (left.stream, left.start, left.end, left.expected, left.first_slot, left.end_slot) == (1, 2, 6, 2, 2, 6)
    assert set(slots[2:]) <= set(await keys_of(store.inner, "wal")), "what could not be placed is never deleted"


async def test_f8_a_damaged_batch_that_was_given_up_is_passed_over_and_what_follows_is_not_lost() -> None:
    dead, store = await two_streams()
    await flip(store, 2, IN_A_BATCH)
    dead.ledger.give_up(STREAM, (0, 3))
    successor = Engine(dead.ledger, store, epoch=2)

    recovered = await successor.storage.recover(*dead.me, dead.ledger.fence(dead.me, successor.me))

    assert recovered.unplaced == ()
    assert {stream: state.end for stream, state in dead.ledger.streams.items()} == {1: 6, 2: 6}


@pytest.mark.parametrize("damaged", [1, 4])
async def test_f8_what_lies_before_a_damaged_slot_is_committed(damaged: int) -> None:
    dead, store = await two_streams()
    await flip(store, damaged, IN_A_HEADER)
    successor = Engine(dead.ledger, store, epoch=2)

    with pytest.raises(CorruptData):
        await successor.storage.recover(*dead.me, dead.ledger.fence(dead.me, successor.me))

    assert {stream: state.end for stream, state in dead.ledger.streams.items()} == {1: damaged, 2: damaged}
    assert dead.ledger.trimmed[dead.me] == damaged


async def test_a_bit_that_flips_on_its_way_is_no_damage() -> None:
    dead, store = await two_streams()
    whole = await store.inner.get(slot_key(3))
    await flip(store, 3, IN_A_HEADER)
    seen: list[str] = []

    async def mend(name: str, key: str) -> None:
        if key == slot_key(3):
            seen.append(name)
            if seen.count("get") == 2:
                await store.inner.put(key, [whole])

    store.before = mend
    successor = Engine(dead.ledger, store, epoch=2)

    await successor.storage.recover(*dead.me, dead.ledger.fence(dead.me, successor.me))

    assert {stream: state.end for stream, state in dead.ledger.streams.items()} == {1: 6, 2: 6}
