"""Taking a log over, and reading it while it moves."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from automq.ids import ControllerEpoch
from automq.metadata.claim import claim_next_epoch, highest_claim
from automq.metadata.loader import LogLoader, fence_counts
from automq.metadata.log import MetadataLog
from automq.metadata.log_format import (
    Kind,
    LogPosition,
    claim_key,
    decode_slot,
    encode_slot,
    log_folder,
    parse_slot_key,
    slot_key,
    snapshot_folder,
)
from automq.metadata.records import FORMAT_LEVEL, FeatureLevelSet, FormatLevelRaised, encode_record
from automq.metadata.replay import MetadataMachine
from automq.metadata.snapshots import Snapshots
from automq.replicated.machine import LogFenced
from automq.runtime.entropy import SeededEntropy
from automq.s3stream.model import FormatTooNew, StoreDamaged
from tests.support.metadata_worlds import CLUSTER, NODE, FlakyStore, World


class Writer:
    """A controller reduced to its log."""

    def __init__(self, world: "LoaderWorld", name: str) -> None:
        self.world = world
        self.entropy = SeededEntropy(name)
        self.patience = world.patience(name)
        self.loader = LogLoader(
            store=world.store,
            cluster_id=CLUSTER,
            entropy=self.entropy,
            patience=self.patience,
            tasks=world.tasks,
        )
        self.epoch = ControllerEpoch(0)
        self.lost: list[LogFenced] = []

    async def claim(self) -> "Writer":
        self.epoch = await claim_next_epoch(
            store=self.world.store, cluster_id=CLUSTER, node=NODE, entropy=self.entropy, patience=self.patience
        )
        return self

    async def take_over(self) -> "Writer":
        loaded = await self.loader.take_over(self.epoch)
        self.machine = MetadataMachine(loaded.image)
        self.log = MetadataLog(
            store=self.world.store,
            cluster_id=CLUSTER,
            epoch=self.epoch,
            record_number=loaded.image.record_number,
            entropy=self.entropy,
            tasks=self.world.tasks,
            patience=self.patience,
            on_fenced=self.lost.append,
            on_damaged=lambda error: None,
        )
        self.snapshots = Snapshots(
            store=self.world.store,
            cluster_id=CLUSTER,
            log=self.log,
            entropy=self.entropy,
            patience=self.patience,
        )
        return self

    async def write(self, count: int) -> None:
        """`count` slots of one record."""
        for _ in range(count):
            record = FeatureLevelSet(name="fact", level=self.machine.record_number)
            self.machine.replay(record)
            await self.log.append([record])

    async def snapshot(self) -> None:
        assert await self.snapshots.write(self.machine.image)


class LoaderWorld(World):
    def __init__(self) -> None:
        super().__init__()
        assert isinstance(self.store, FlakyStore)
        self.flaky = self.store

    async def writer(self, name: str) -> Writer:
        return await (await Writer(self, name).claim()).take_over()

    async def slots(self) -> list[str]:
        found = []
        for info in await self.flaky.inner.list(log_folder(CLUSTER)):
            position = parse_slot_key(info.key)
            assert position is not None
            slot = decode_slot(CLUSTER, position, await self.flaky.inner.get(info.key))
            found.append(f"{position}{' fence' if slot.kind is Kind.FENCE else ''}")
        return found


@pytest.fixture
async def world() -> AsyncIterator[LoaderWorld]:
    made = LoaderWorld()
    yield made
    await made.close()


async def test_an_empty_log_is_an_empty_image(world: LoaderWorld) -> None:
    writer = await world.writer("a")
    assert (writer.epoch, writer.machine.record_number) == (1, 0)
    assert await world.slots() == []


async def test_claims_are_dense_and_stay(world: LoaderWorld) -> None:
    epochs = [(await Writer(world, name).claim()).epoch for name in "abc"]
    assert epochs == [1, 2, 3]
    assert await highest_claim(world.store, CLUSTER, world.patience()) == 3


async def test_every_lower_epoch_is_fenced_before_slot_0(world: LoaderWorld) -> None:
    first = await world.writer("a")
    await first.write(2)
    await Writer(world, "dies between claim and fence").claim()
    third = await world.writer("c")

    assert third.machine.image == first.machine.image
    assert await world.slots() == ["1/0", "1/1", "1/2 fence", "2/0 fence"]
    with pytest.raises(LogFenced):
        await first.write(1)
    await third.write(1)
    assert first.lost
    assert third.lost == []


async def test_a_fence_that_is_there_is_not_written_again(world: LoaderWorld) -> None:
    await (await world.writer("a")).write(1)
    await world.writer("b")
    third = await world.writer("c")

    assert await world.slots() == ["1/0", "1/1 fence", "2/0 fence"]
    assert third.machine.record_number == 1


async def test_a_claimant_that_was_overtaken_is_fenced_at_its_first_slot(world: LoaderWorld) -> None:
    await (await world.writer("a")).write(1)
    slow = await Writer(world, "slow").claim()
    await (await world.writer("fast")).write(1)
    await slow.take_over()

    with pytest.raises(LogFenced):
        await slow.write(1)


async def test_a_claimant_older_than_the_newest_snapshot_gives_up(world: LoaderWorld) -> None:
    slow = await Writer(world, "slow").claim()
    fast = await world.writer("fast")
    await fast.write(1)
    await fast.snapshot()

    with pytest.raises(LogFenced):
        await slow.take_over()


async def test_a_race_lost_for_the_fence_is_one_slot_more_to_read(world: LoaderWorld) -> None:
    first = await world.writer("a")
    await first.write(1)
    second = await Writer(world, "b").claim()
    original = second.loader._win

    async def slow_win(position: LogPosition, record_number: int, fencer: ControllerEpoch) -> bool:
        second.loader._win = original  # type: ignore[method-assign]
        await first.write(1)
        return await original(position, record_number, fencer)

    second.loader._win = slow_win  # type: ignore[method-assign]
    await second.take_over()

    assert second.machine.image == first.machine.image
    assert await world.slots() == ["1/0", "1/1", "1/2 fence"]


async def test_reading_changes_nothing(world: LoaderWorld) -> None:
    first = await world.writer("a")
    await first.write(3)
    writes = len(world.flaky.writes)
    loaded = await first.loader.read()

    assert loaded.image == first.machine.image
    assert len(world.flaky.writes) == writes


async def test_snapshots_let_old_slots_go_and_keep_fences(world: LoaderWorld) -> None:
    first = await world.writer("a")
    await first.write(4)
    await first.snapshot()
    await first.write(2)
    second = await world.writer("b")
    await second.write(1)
    await second.snapshot()

    assert await world.slots() == ["1/3", "1/4", "1/5", "1/6 fence", "2/0"]
    await second.write(1)
    await second.snapshot()
    assert await world.slots() == ["1/6 fence", "2/0", "2/1"]
    assert len(await world.flaky.list(snapshot_folder(CLUSTER))) == 2
    third = await world.writer("c")
    assert third.machine.image == second.machine.image


async def test_a_fence_in_a_trimmed_slot_is_void_and_loading_begins_anew(world: LoaderWorld) -> None:
    first = await world.writer("a")
    await first.write(1)
    second = await Writer(world, "b").claim()
    original = second.loader._win

    async def late_win(position: LogPosition, record_number: int, fencer: ControllerEpoch) -> bool:
        second.loader._win = original  # type: ignore[method-assign]
        for _ in range(3):
            await first.write(2)
            await first.snapshot()
        return await original(position, record_number, fencer)

    second.loader._win = late_win  # type: ignore[method-assign]
    await second.take_over()

    assert second.machine.image == first.machine.image
    assert await world.slots() == ["1/1 fence", "1/4", "1/5", "1/6", "1/7 fence"]
    assert (await (await Writer(world, "c").claim()).take_over()).machine.image == first.machine.image


async def test_a_slot_that_is_missing_for_good_is_damage_that_names_the_key(world: LoaderWorld) -> None:
    first = await world.writer("a")
    await first.write(3)
    missing = slot_key(CLUSTER, LogPosition(ControllerEpoch(1), 1))
    await world.flaky.inner.delete([missing])

    with pytest.raises(StoreDamaged) as caught:
        await first.loader.read()
    assert caught.value.key == missing


async def test_record_numbers_that_do_not_follow_are_damage(world: LoaderWorld) -> None:
    first = await world.writer("a")
    await first.write(1)
    position = LogPosition(ControllerEpoch(1), 1)
    record = encode_record(FeatureLevelSet(name="fact", level=9))
    body = encode_slot(CLUSTER, position, first_record=5, encoded=[record], nonce=bytes(16))
    await world.flaky.inner.create(slot_key(CLUSTER, position), body)

    with pytest.raises(StoreDamaged) as caught:
        await world.writer("b")
    assert caught.value.key == slot_key(CLUSTER, position)


async def test_a_slot_of_a_newer_program_is_left_alone(world: LoaderWorld) -> None:
    first = await world.writer("a")
    await first.write(1)
    position = LogPosition(ControllerEpoch(1), 1)
    body = encode_slot(CLUSTER, position, first_record=1, encoded=[b"\x92\x7a\x01"], nonce=bytes(16))
    await world.flaky.inner.create(slot_key(CLUSTER, position), body)
    before = len(world.flaky.writes)

    with pytest.raises(FormatTooNew):
        await first.loader.read()
    assert len(world.flaky.writes) == before


@pytest.mark.looptime
async def test_an_outage_while_loading_is_waited_out(world: LoaderWorld) -> None:
    await (await world.writer("a")).write(5)
    world.flaky.is_down = True
    loading = asyncio.ensure_future(world.writer("b"))
    await asyncio.sleep(600)
    assert not loading.done()

    world.flaky.is_down = False
    assert (await loading).machine.record_number == 5


def test_a_void_fence_does_not_count() -> None:
    assert fence_counts(is_highest=True, is_loaded_newest=False)
    assert fence_counts(is_highest=False, is_loaded_newest=True)
    assert not fence_counts(is_highest=False, is_loaded_newest=False)


async def test_a_fence_is_found_in_a_log_longer_than_a_listing(
    world: LoaderWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("automq.metadata.loader.WINDOW", 3)
    monkeypatch.setattr("automq.metadata.loader.READS", 2)
    first = await world.writer("a")
    await first.write(8)
    second = await world.writer("b")
    third = await world.writer("c")

    assert third.machine.image == second.machine.image == first.machine.image


async def test_what_was_read_before_the_claim_is_not_read_again(world: LoaderWorld) -> None:
    first = await world.writer("a")
    await first.write(5)
    second = Writer(world, "b")
    known = await second.loader.read()
    await first.write(2)
    await second.claim()
    reads: list[str] = []
    original = world.flaky.get

    async def get(key: str) -> bytes:
        reads.append(key)
        return await original(key)

    world.flaky.get = get  # type: ignore[method-assign]
    loaded = await second.loader.take_over(second.epoch, known)

    assert loaded.image == first.machine.image
    assert [key.rpartition("/")[2] for key in reads] == [f"{5:020d}", f"{6:020d}"]
    assert await world.slots() == [*(f"1/{number}" for number in range(7)), "1/7 fence"]


async def test_what_was_read_is_dropped_for_a_newer_snapshot(world: LoaderWorld) -> None:
    first = await world.writer("a")
    await first.write(2)
    second = Writer(world, "b")
    known = await second.loader.read()
    for _ in range(3):
        await first.write(2)
        await first.snapshot()
    await second.claim()
    assert (await second.loader.take_over(second.epoch, known)).image == first.machine.image


async def test_an_epoch_that_was_read_without_a_fence_is_fenced_all_the_same(world: LoaderWorld) -> None:
    """Claimants have died between claim and fence before the log is read."""
    first = await world.writer("a")
    await first.write(2)
    await Writer(world, "dies").claim()
    third = Writer(world, "c")
    known = await third.loader.read()
    assert known.resume == LogPosition(ControllerEpoch(1), 2)
    await third.claim()
    await third.loader.take_over(third.epoch, known)
    assert await world.slots() == ["1/0", "1/1", "1/2 fence", "2/0 fence"]
    with pytest.raises(LogFenced):
        await first.write(1)


async def test_b12_a_damaged_snapshot_is_reported_once_and_falls_back(
    world: LoaderWorld, caplog: pytest.LogCaptureFixture
) -> None:
    first = await world.writer("a")
    for _ in range(3):
        await first.write(2)
        await first.snapshot()
    await first.write(1)
    newest = (await world.flaky.inner.list(snapshot_folder(CLUSTER)))[-1].key
    data = bytearray(await world.flaky.inner.get(newest))
    data[-1] ^= 1
    await world.flaky.inner.put(newest, [bytes(data)])

    loaded = await first.loader.read()
    assert loaded.image == first.machine.image
    assert [damage.key for damage in loaded.damaged] == [newest]
    assert [record.__dict__["key"] for record in caplog.records if record.levelname == "ERROR"] == [newest]


async def test_epochs_without_a_claim_are_gone_on_above(world: LoaderWorld, caplog: pytest.LogCaptureFixture) -> None:
    for name in "abc":
        await (await world.writer(name)).write(1)
    for epoch in (2, 3):
        await world.flaky.inner.delete([claim_key(CLUSTER, ControllerEpoch(epoch))])
    loaded = await Writer(world, "d").loader.read()
    assert (loaded.newest_epoch, loaded.image.record_number) == (3, 3)
    assert any("no claim" in record.message for record in caplog.records)


async def test_a_level_of_a_newer_program_is_left_alone(world: LoaderWorld) -> None:
    first = await world.writer("a")
    await first.log.append([FormatLevelRaised(level=FORMAT_LEVEL)])
    await first.loader.read()
    await first.log.append([FormatLevelRaised(level=FORMAT_LEVEL + 1)])
    with pytest.raises(FormatTooNew, match="upgrade"):
        await first.loader.read()


async def test_an_epoch_that_only_a_fence_names_is_not_given_again(world: LoaderWorld) -> None:
    """Its controller died before its first slot, and its claim was removed."""
    await (await world.writer("a")).write(1)
    await world.writer("b")
    await world.flaky.inner.delete([claim_key(CLUSTER, ControllerEpoch(2))])
    assert (await Writer(world, "c").loader.read()).newest_epoch == 2
