"""The writer of the metadata log, alone and against another."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from automq.ids import ControllerEpoch
from automq.metadata import log as module
from automq.metadata.claim import claim_next_epoch
from automq.metadata.loader import LogLoader
from automq.metadata.log import AppendTooLarge, MetadataLog
from automq.metadata.log_format import LogPosition, decode_slot, encode_fence, log_folder, slot_key
from automq.metadata.records import FeatureLevelSet, MetadataRecord
from automq.replicated.machine import LogBusy, LogFailed, LogFenced
from automq.runtime.entropy import SeededEntropy
from automq.s3stream.model import StoreDamaged
from automq.s3stream.ports import Buffer
from tests.support.metadata_worlds import CLUSTER, NODE, FlakyStore, World
from tests.support.sim_loop import SimLoop, run_world

FIRST = ControllerEpoch(1)


def fact(number: int) -> MetadataRecord:
    return FeatureLevelSet(name="fact", level=number)


class LogWorld(World):
    def __init__(self) -> None:
        super().__init__()
        assert isinstance(self.store, FlakyStore)
        self.flaky = self.store
        self.lost: list[LogFenced] = []
        self.damages: list[StoreDamaged] = []
        self.log = self.open(FIRST, record_number=0)

    def open(self, epoch: ControllerEpoch, *, record_number: int) -> MetadataLog:
        return MetadataLog(
            store=self.store,
            cluster_id=CLUSTER,
            epoch=epoch,
            record_number=record_number,
            entropy=SeededEntropy(f"log {epoch}"),
            tasks=self.tasks,
            patience=self.patience(),
            on_fenced=self.lost.append,
            on_damaged=self.damages.append,
            now=lambda: asyncio.get_running_loop().time(),
        )

    async def facts(self) -> list[list[int]]:
        """The levels in every slot, slot by slot."""
        found = []
        for sequence, info in enumerate(await self.flaky.inner.list(log_folder(CLUSTER))):
            slot = decode_slot(CLUSTER, LogPosition(FIRST, sequence), await self.flaky.inner.get(info.key))
            found.append([record.level for record in slot.records if isinstance(record, FeatureLevelSet)])
        return found


@pytest.fixture
async def world() -> AsyncIterator[LogWorld]:
    made = LogWorld()
    yield made
    made.log.close()
    await made.close()


async def test_appends_of_one_turn_share_a_slot_and_those_of_its_flight_the_next(world: LogWorld) -> None:
    first = [world.log.append([fact(1)]), world.log.append([fact(2), fact(3)])]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    second = [world.log.append([fact(4)]), world.log.append([fact(5)])]
    await asyncio.gather(*first, *second)

    assert await world.facts() == [[1, 2, 3], [4, 5]]
    assert (world.log.durable, world.log.record_number) == (LogPosition(FIRST, 1), 5)


async def test_an_append_is_never_split(world: LogWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GROUP_BYTES_MAX", 20)
    appends = [world.log.append([fact(1)]), world.log.append([fact(2)] * 9), world.log.append([fact(3)])]
    await asyncio.gather(*appends)

    assert await world.facts() == [[1], [2] * 9, [3]]


async def test_one_change_that_fits_no_slot_is_refused_before_it_is_taken(
    world: LogWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "APPEND_BYTES_MAX", 30)
    with pytest.raises(AppendTooLarge):
        world.log.append([fact(1)] * 9)
    await world.log.append([fact(2)])

    assert await world.facts() == [[2]]


@pytest.mark.looptime
@pytest.mark.parametrize("fate", ["lost", "refused", "conflict"])
async def test_an_unknown_outcome_is_asked_again_with_the_same_bytes(world: LogWorld, fate: str) -> None:
    world.flaky.fates.append(fate)
    await world.log.append([fact(1)])
    await world.log.append([fact(2)])

    assert await world.facts() == [[1], [2]]
    assert world.lost == []
    assert world.store_errors[0] is not None
    assert world.store_errors[-1] is None


@pytest.mark.looptime
async def test_a_store_that_is_down_for_an_hour_is_waited_out(world: LogWorld) -> None:
    world.flaky.is_down = True
    append = world.log.append([fact(1)])
    await asyncio.sleep(3600)
    assert not append.done()

    world.flaky.is_down = False
    await append
    assert await world.facts() == [[1]]


async def test_a_slot_of_another_writer_fences_for_good(world: LogWorld) -> None:
    await world.log.append([fact(1)])
    position = LogPosition(FIRST, 1)
    body = encode_fence(CLUSTER, position, first_record=1, fencer=ControllerEpoch(2), nonce=bytes(16))
    await world.flaky.inner.create(slot_key(CLUSTER, position), body)
    appends = [world.log.append([fact(2)]), world.log.append([fact(3)])]

    results = await asyncio.gather(*appends, world.log.append([fact(4)]), return_exceptions=True)
    results.extend(await asyncio.gather(world.log.append([fact(5)]), return_exceptions=True))

    assert [type(result) for result in results] == [LogFenced] * 4
    assert len(world.lost) == 1
    assert len(await world.flaky.inner.list(log_folder(CLUSTER))) == 2


async def test_an_idle_writer_finds_its_fence_by_looking(world: LogWorld) -> None:
    await world.log.append([fact(1)])
    await world.log.poll_fence()
    assert world.lost == []

    position = LogPosition(FIRST, 1)
    body = encode_fence(CLUSTER, position, first_record=1, fencer=ControllerEpoch(2), nonce=bytes(16))
    await world.flaky.inner.create(slot_key(CLUSTER, position), body)
    writes = len(world.flaky.writes)
    await world.log.poll_fence()
    await world.log.poll_fence()

    assert len(world.lost) == 1
    assert len(world.flaky.writes) == writes
    with pytest.raises(LogFenced):
        await world.log.append([fact(2)])


@pytest.mark.looptime
async def test_a_look_proves_that_nobody_has_taken_over_while_a_slow_append_is_on_its_way(world: LogWorld) -> None:
    world.flaky.fates.extend(["refused"] * 5)
    append = world.log.append([fact(1)])
    await asyncio.sleep(0.01)
    assert world.log.proved_at is None
    began = asyncio.get_running_loop().time()

    assert await world.log.poll_fence()
    assert world.log.proved_at is not None
    assert world.log.proved_at >= began
    await append


async def test_looking_while_a_slot_lands_mistakes_nothing_for_a_fence(world: LogWorld) -> None:
    looking = asyncio.ensure_future(world.log.poll_fence())
    await asyncio.sleep(0)
    await world.log.append([fact(1)])
    await looking
    await asyncio.gather(world.log.append([fact(2)]), world.log.poll_fence())

    assert world.lost == []


@pytest.mark.looptime
async def test_a_fence_found_by_looking_is_not_answered_past_while_an_append_is_on_its_way(world: LogWorld) -> None:
    """Found by simulation: the look was dismissed because a write had begun, and answers went out until that ended."""
    position = LogPosition(FIRST, 0)
    body = encode_fence(CLUSTER, position, first_record=0, fencer=ControllerEpoch(2), nonce=bytes(16))
    await world.flaky.inner.create(slot_key(CLUSTER, position), body)
    looking = asyncio.ensure_future(world.log.poll_fence())
    await asyncio.sleep(0)
    world.flaky.fates.extend(["refused"] * 3)
    append = world.log.append([fact(1)])
    await looking

    assert len(world.lost) == 1
    assert append.done()
    with pytest.raises(LogFenced):
        await append


@pytest.mark.looptime
async def test_closing_fails_what_waits_and_what_is_on_its_way(world: LogWorld) -> None:
    world.flaky.is_down = True
    first = world.log.append([fact(1)])
    await asyncio.sleep(1)
    second = world.log.append([fact(2)])
    world.log.close()

    results = await asyncio.gather(first, second, world.log.append([fact(3)]), return_exceptions=True)
    assert [type(result) for result in results] == [LogFailed] * 3
    assert world.lost == []


FATES = st.lists(st.sampled_from(["ok", "lost", "refused", "late", "conflict"]), max_size=12)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    fates=FATES,
    counts=st.lists(st.integers(0, 4), min_size=2, max_size=4),
    delays=st.lists(st.integers(0, 20)),
)
def test_of_racing_writers_acknowledged_facts_are_kept_and_nobody_forks(
    seed: int, fates: Sequence[str], counts: Sequence[int], delays: Sequence[int]
) -> None:
    """Each writer claims, takes over, appends; a newer one comes meanwhile; late PUTs land at the end."""
    acknowledged: list[int] = []

    async def writer(world: LogWorld, number: int, count: int, delay: int) -> None:
        for _ in range(delay):
            await asyncio.sleep(0.01)
        name = f"writer {number}"
        try:
            epoch = await claim_next_epoch(
                store=world.store,
                cluster_id=CLUSTER,
                node=NODE,
                entropy=SeededEntropy(name),
                patience=world.patience(name),
            )
            loaded = await loader(world, name).take_over(epoch)
            log = world.open(epoch, record_number=loaded.image.record_number)
            for place in range(count):
                await log.append([fact(number * 100 + place)])
                acknowledged.append(number * 100 + place)
        except LogFenced:
            return

    def loader(world: LogWorld, name: str) -> LogLoader:
        return LogLoader(
            store=world.store,
            cluster_id=CLUSTER,
            entropy=SeededEntropy(name),
            patience=world.patience(name),
            tasks=world.tasks,
        )

    async def race() -> None:
        world = LogWorld()
        world.flaky.fates.extend(fates)
        pauses = [*delays, *[0] * len(counts)]
        await asyncio.gather(*(writer(world, n, count, pauses[n]) for n, count in enumerate(counts)))
        await world.flaky.land()
        found = await loader(world, "reader").read()
        told: list[int] = []
        for info in await world.flaky.inner.list(log_folder(CLUSTER)):
            position = LogPosition(ControllerEpoch(int(info.key[-41:-21])), int(info.key[-20:]))
            slot = decode_slot(CLUSTER, position, await world.flaky.inner.get(info.key))
            told.extend(record.level for record in slot.records if isinstance(record, FeatureLevelSet))
        assert set(acknowledged) <= set(told)
        for number in range(len(counts)):
            own = [level for level in told if level // 100 == number]
            assert own == sorted(own)
        assert found.image.record_number == len(told)
        await world.close()

    run_world(SimLoop(seed), race())


@pytest.mark.looptime
@pytest.mark.parametrize("limit", ["bytes", "appends"])
async def test_b17_what_waits_for_the_store_is_bounded(
    world: LogWorld, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setattr(module, "WAITING_BYTES_MAX", 48 if limit == "bytes" else 1_000_000)
    monkeypatch.setattr(module, "WAITING_APPENDS_MAX", 6 if limit == "appends" else 1_000_000)
    world.flaky.is_down = True
    taken = [world.log.append([fact(0)])]
    await asyncio.sleep(0.01)
    # A fact is 8 bytes long.
    taken += [world.log.append([fact(number)]) for number in range(1, 7)]
    with pytest.raises(LogBusy, match="try again later"):
        world.log.append([fact(7)])

    world.flaky.is_down = False
    await asyncio.gather(*taken)
    # What was refused left nothing behind, and there is room again.
    await world.log.append([fact(999)])
    assert sum(await world.facts(), []) == [*range(7), 999]


async def test_b17_one_large_change_is_taken_where_nothing_waits(
    world: LogWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WAITING_BYTES_MAX", 10)
    await world.log.append([fact(1)] * 9)
    assert world.log.record_number == 9


@pytest.mark.looptime
async def test_slot_on_its_way_may_arrive_after_the_close(world: LogWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that is broken off may leave half a slot where the store keeps half a request."""
    create = world.flaky.create

    async def slow(key: str, body: Sequence[Buffer]) -> None:
        await asyncio.sleep(0.5)
        await create(key, body)

    monkeypatch.setattr(world.flaky, "create", slow)
    done = world.log.append([fact(1)])
    await asyncio.sleep(0.1)
    world.log.close()
    await world.log.drain(1.0)
    await world.tasks.close()

    assert isinstance(done.exception(), LogFailed), "nobody was told that it is durable"
    assert await world.facts() == [[1]]


@pytest.mark.looptime
async def test_close_waits_for_no_outage(world: LogWorld) -> None:
    world.flaky.is_down = True
    done = world.log.append([fact(1)])
    await asyncio.sleep(0.01)
    began = asyncio.get_running_loop().time()
    world.log.close()
    await world.log.drain(1.0)

    assert asyncio.get_running_loop().time() - began == pytest.approx(1.0, abs=0.01)
    assert isinstance(done.exception(), LogFailed)


async def test_f1_half_of_our_own_slot_is_damage_and_no_fence(world: LogWorld) -> None:
    world.flaky.fates.append("half")
    first = world.log.append([fact(1)])
    second = world.log.append([fact(2)] * 9)
    with pytest.raises(StoreDamaged, match="half a PUT"):
        await first
    with pytest.raises(StoreDamaged):
        await second

    key = slot_key(CLUSTER, LogPosition(FIRST, 0))
    kept = await world.flaky.inner.get(key)
    assert (world.lost, [damage.key for damage in world.damages]) == ([], [key])
    await asyncio.sleep(0.2)
    assert await world.flaky.inner.get(key) == kept
    assert world.crashes == []


@pytest.mark.parametrize("body", [b"", b"junk", bytes(112)])
async def test_f1_slot_that_does_not_decode_is_damage_and_no_fence(world: LogWorld, body: bytes) -> None:
    key = slot_key(CLUSTER, LogPosition(FIRST, 0))
    await world.flaky.inner.put(key, [body])
    with pytest.raises(StoreDamaged):
        await world.log.append([fact(1)])

    assert (world.lost, [damage.key for damage in world.damages]) == ([], [key])
    assert await world.flaky.inner.get(key) == body
