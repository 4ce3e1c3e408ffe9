"""Following the log of others: in order, at the cost of what changed, whatever becomes of the controller."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from automq.ids import ControllerEpoch
from automq.metadata import follower as module
from automq.metadata.change import MetadataChange
from automq.metadata.follower import LogFollower, NotAnswered, SlotBytes
from automq.metadata.loader import LogLoader
from automq.metadata.log_format import LogPosition, encode_fence, slot_key
from automq.metadata.publisher import MetadataPublisher
from automq.metadata.records import FORMAT_LEVEL, FormatLevelRaised
from automq.runtime.entropy import SeededEntropy
from automq.s3stream.model import FormatTooNew, StoreDamaged
from tests.support.metadata_worlds import CLUSTER, LoopClock
from tests.unit.broker.metadata.test_loader import LoaderWorld, Writer

pytestmark = pytest.mark.looptime


class Following:
    """A follower that runs, and what it has told."""

    def __init__(self, world: LoaderWorld, name: str = "follower") -> None:
        self.world = world
        self.publisher = MetadataPublisher()
        self.changes: list[MetadataChange] = []
        self.loader = LogLoader(
            store=world.store,
            cluster_id=CLUSTER,
            entropy=SeededEntropy(name),
            patience=world.patience(name),
            tasks=world.tasks,
        )
        self.follower = LogFollower(
            loader=self.loader,
            publisher=self.publisher,
            clock=LoopClock(),
        )
        self.task: asyncio.Task[None] | None = None

    async def start(self) -> "Following":
        known = await self.loader.read()
        self.publisher.subscribe(self.changes.append)
        self.task = asyncio.ensure_future(self.follower.run(known))
        await asyncio.sleep(0.5)
        self.changes.clear()
        return self

    @property
    def records(self) -> list[int]:
        return [record.level for change in self.changes for record in change.records]  # type: ignore[union-attr]


@pytest.fixture
async def world() -> AsyncIterator[LoaderWorld]:
    made = LoaderWorld()
    yield made
    await made.tasks.close()
    assert made.crashes == []


@pytest.fixture
async def pair(world: LoaderWorld) -> AsyncIterator[tuple[Writer, Following]]:
    writer = await world.writer("a")
    await writer.write(3)
    following = Following(world)
    yield writer, following
    assert following.task is not None
    following.task.cancel()
    await asyncio.gather(following.task, return_exceptions=True)


async def test_a4_what_is_appended_shows_within_a_look_as_what_it_changed(pair: tuple[Writer, Following]) -> None:
    writer, following = pair
    await following.start()
    assert following.publisher.image.record_number == 3
    await writer.write(4)
    await asyncio.sleep(module.LOOK_INTERVAL_S + 0.1)

    assert following.publisher.image.record_number == 7
    assert following.records == [3, 4, 5, 6]
    assert following.changes[0].old.record_number == 3
    assert following.changes[-1].new is following.publisher.image
    await writer.write(1)
    await following.publisher.wait(8)
    assert following.records == [3, 4, 5, 6, 7]


async def test_who_is_told_looks_at_once(pair: tuple[Writer, Following]) -> None:
    writer, following = pair
    await following.start()
    await asyncio.sleep(0.05)
    await writer.write(1)
    began = asyncio.get_running_loop().time()
    following.follower.notify()
    await following.publisher.wait(4)
    assert asyncio.get_running_loop().time() - began < 0.1


async def test_a4_idle_it_costs_one_small_read_a_second(
    monkeypatch: pytest.MonkeyPatch, pair: tuple[Writer, Following]
) -> None:
    _writer, following = pair
    await following.start()
    counts = {"get": 0, "list": 0}
    for name in counts:
        real = getattr(following.world.store, name)

        def counted(*args: object, _real: object = real, _name: str = name, **options: object) -> object:
            counts[_name] += 1
            return _real(*args, **options)  # type: ignore[operator]

        monkeypatch.setattr(following.world.store, name, counted)
    await asyncio.sleep(100)
    assert 95 <= counts["get"] <= 101
    assert counts["list"] <= 10 * 6
    assert following.changes == []


async def test_a4_the_next_controller_is_followed_without_a_whole_load(pair: tuple[Writer, Following]) -> None:
    _writer, following = pair
    await following.start()
    second = await following.world.writer("b")
    await second.write(2)
    await following.publisher.wait(5)
    third = await Writer(following.world, "c").claim()
    # It dies between claim and fence; the second goes on.
    assert third.epoch == 3
    await asyncio.sleep(module.WHOLE_LOOK_INTERVAL_S + 1)
    await second.write(1)
    await asyncio.sleep(module.LOOK_INTERVAL_S + 0.1)
    assert following.publisher.image.record_number == 6
    fourth = await following.world.writer("d")
    await fourth.write(1)
    await following.publisher.wait(7)
    assert following.records == [3, 4, 5, 6]


async def test_a4_who_falls_behind_what_is_kept_takes_the_snapshot_as_one_change(
    pair: tuple[Writer, Following],
) -> None:
    writer, following = pair
    await following.start()
    following.world.flaky.is_down = True
    await asyncio.sleep(3)
    following.world.flaky.is_down = False
    # Between two looks: all of this, and everything before the first snapshot's slots is gone.
    await writer.write(5)
    await writer.snapshot()
    await writer.write(5)
    await writer.snapshot()
    await writer.write(1)
    while following.publisher.image.record_number < 14:
        await asyncio.sleep(0.5)

    assert [change.records for change in following.changes] in ([()], [[]])
    assert following.publisher.image.features == writer.machine.image.features
    await writer.write(1)
    await following.publisher.wait(15)
    assert following.records == [14]


async def test_a_newer_snapshot_alone_is_no_reason_to_load_it(pair: tuple[Writer, Following]) -> None:
    writer, following = pair
    await following.start()
    await writer.write(3)
    await writer.snapshot()
    await writer.write(1)
    await following.publisher.wait(7)
    assert following.records == [3, 4, 5, 6]


async def test_a_fence_in_a_trimmed_slot_is_none(pair: tuple[Writer, Following]) -> None:
    writer, following = pair
    await following.start()
    following.world.flaky.is_down = True
    await asyncio.sleep(3)
    following.world.flaky.is_down = False
    await writer.write(5)
    await writer.snapshot()
    await writer.write(5)
    await writer.snapshot()
    # Somebody who had claimed long ago, and listed before the slots were trimmed, wakes up.
    position = LogPosition(ControllerEpoch(1), 3)
    body = encode_fence(CLUSTER, position, first_record=3, fencer=ControllerEpoch(9), nonce=b"n" * 16)
    await following.world.flaky.inner.put(slot_key(CLUSTER, position), body)
    await writer.write(1)

    await following.publisher.wait(14)
    await writer.write(1)
    await following.publisher.wait(15)
    assert following.records[-1:] == [14]


async def test_a_store_that_is_away_only_makes_the_image_older(pair: tuple[Writer, Following]) -> None:
    writer, following = pair
    await following.start()
    following.world.flaky.is_down = True
    await asyncio.sleep(60)
    assert following.task is not None
    assert not following.task.done()
    assert following.publisher.image.record_number == 3
    following.world.flaky.is_down = False
    await writer.write(1)
    await following.publisher.wait(4)


async def test_damage_and_a_newer_format_end_it(world: LoaderWorld) -> None:
    writer = await world.writer("a")
    await writer.write(1)
    following = await Following(world).start()
    await world.flaky.inner.put(slot_key(CLUSTER, LogPosition(ControllerEpoch(1), 1)), [b"no slot at all"])
    assert following.task is not None
    with pytest.raises(StoreDamaged):
        await following.task

    await world.flaky.inner.delete([slot_key(CLUSTER, LogPosition(ControllerEpoch(1), 1))])
    following = await Following(world).start()
    await writer.log.append([FormatLevelRaised(level=FORMAT_LEVEL + 1)])
    assert following.task is not None
    with pytest.raises(FormatTooNew):
        await following.task
    assert following.publisher.image.record_number == 1


async def test_whole_looks_prove_once_a_second_that_nothing_was_missed_where_nobody_answers(
    pair: tuple[Writer, Following],
) -> None:
    _writer, following = pair
    proofs: list[float] = []

    async def nobody(_record_number: int) -> Sequence[SlotBytes]:
        raise NotAnswered

    following.follower = LogFollower(
        loader=following.loader,
        publisher=following.publisher,
        clock=LoopClock(),
        ask=nobody,
        on_read=proofs.append,
    )
    await following.start()
    proofs.clear()
    await asyncio.sleep(20)
    assert 18 <= len(proofs) <= 21
    following.world.flaky.is_down = True
    await asyncio.sleep(10)
    told = len(proofs)
    following.world.flaky.is_down = False
    await asyncio.sleep(20)
    assert told <= 21, "a store that cannot be read proves nothing"
    assert asyncio.get_running_loop().time() - proofs[-1] < 3
