"""What snapshots hold, and what they let go."""

import asyncio
from collections.abc import Sequence

import pytest

from automq.ids import ControllerEpoch
from automq.metadata import snapshots as snapshots_module
from automq.metadata.image import EMPTY
from automq.metadata.log import MetadataLog
from automq.metadata.log_format import (
    LogPosition,
    encode_fence,
    log_folder,
    slot_key,
    snapshot_folder,
    snapshot_key,
)
from automq.metadata.records import ConfigChanged, FeatureLevelSet
from automq.metadata.replay import replay_all
from automq.metadata.snapshot_format import BLOCK_BYTES, decode_snapshot
from automq.metadata.snapshots import Snapshots, superfluous_slots
from automq.runtime.budget import BorrowingBudget, ByteBudget
from automq.runtime.entropy import SeededEntropy
from automq.s3stream.model import FormatTooNew, StoreDamaged
from automq.s3stream.ports import Buffer, ObjectInfo
from automq.s3stream.store.listing import Listed
from tests.support.metadata_worlds import CLUSTER, World

FACTS = [FeatureLevelSet(name=f"fact {number}", level=number) for number in range(500)]


@pytest.fixture
async def made() -> tuple[World, MetadataLog, Snapshots]:
    world = World()
    patience, entropy = world.patience(), SeededEntropy("log")
    log = MetadataLog(
        store=world.store,
        cluster_id=CLUSTER,
        epoch=ControllerEpoch(1),
        record_number=0,
        entropy=entropy,
        tasks=world.tasks,
        patience=patience,
        on_fenced=lambda error: None,
        on_damaged=lambda error: None,
    )
    return world, log, Snapshots(store=world.store, cluster_id=CLUSTER, log=log, entropy=entropy, patience=patience)


async def test_a_snapshot_is_named_after_the_slot_it_includes(made: tuple[World, MetadataLog, Snapshots]) -> None:
    world, log, snapshots = made
    await log.append(FACTS)
    image = replay_all(EMPTY, FACTS)
    assert await snapshots.write(image)

    position = LogPosition(ControllerEpoch(1), 0)
    slot = decode_snapshot(CLUSTER, position, await world.store.get(snapshot_key(CLUSTER, position)))
    assert replay_all(EMPTY, slot.records).with_record_number(slot.first_record) == image


async def test_what_is_not_durable_or_half_a_slot_is_not_written(made: tuple[World, MetadataLog, Snapshots]) -> None:
    world, log, snapshots = made
    assert not await snapshots.write(EMPTY)
    await log.append(FACTS[:2])
    assert not await snapshots.write(replay_all(EMPTY, FACTS[:1]))
    assert not await snapshots.write(replay_all(EMPTY, FACTS[:3]))
    assert await world.store.list(snapshot_folder(CLUSTER)) == []


@pytest.mark.looptime
async def test_an_outage_is_waited_out(made: tuple[World, MetadataLog, Snapshots]) -> None:
    world, log, snapshots = made
    await log.append(FACTS)
    world.store.is_down = True  # type: ignore[attr-defined]
    writing = world.tasks.spawn(snapshots.write(replay_all(EMPTY, FACTS)), name="snapshot")
    await asyncio.sleep(7200)
    world.store.is_down = False  # type: ignore[attr-defined]
    assert await writing


def test_fences_and_newest_slots_are_never_superfluous() -> None:
    def info(epoch: int, sequence: int, size: int) -> Listed[LogPosition]:
        position = LogPosition(ControllerEpoch(epoch), sequence)
        return Listed(position, ObjectInfo(slot_key(CLUSTER, position), size))

    fence = len(
        encode_fence(
            CLUSTER, LogPosition(ControllerEpoch(1), 0), first_record=0, fencer=ControllerEpoch(2), nonce=bytes(16)
        )[0]
    )
    slots = [info(1, 0, 500), info(1, 1, fence), info(1, 2, 500), info(1, 3, 500), info(2, 0, 500), info(2, 1, 500)]
    doomed = superfluous_slots(slots, boundary=LogPosition(ControllerEpoch(2), 1))
    assert doomed == [slots[number].info.key for number in (0, 2, 4)]


async def some_snapshots(made: tuple[World, MetadataLog, Snapshots], count: int) -> None:
    """One after each slot."""
    _, log, snapshots = made
    for number in range(1, count + 1):
        await log.append(FACTS[number - 1 : number])
        assert await snapshots.write(replay_all(EMPTY, FACTS[:number]))


async def stored(world: World, folder: str) -> list[str]:
    return [info.key.rpartition("/")[2] for info in await world.store.list(folder)]


async def spoil(world: World, sequence: int) -> None:
    key = snapshot_key(CLUSTER, LogPosition(ControllerEpoch(1), sequence))
    data = bytearray(await world.store.get(key))
    data[-1] ^= 1
    await world.store.put(key, [bytes(data)])


async def test_b12_nothing_is_deleted_on_the_strength_of_a_snapshot_that_reads_back_damaged(
    made: tuple[World, MetadataLog, Snapshots],
) -> None:
    """The store damages every snapshot but the first two."""
    world, log, snapshots = made
    told: list[StoreDamaged] = []
    snapshots._on_damage = told.append
    await some_snapshots(made, 2)
    slots = await stored(world, log_folder(CLUSTER))
    put = world.store.put

    async def damaging(key: str, body: Sequence[Buffer]) -> None:
        data = bytearray(b"".join(body))
        data[-1] ^= 1
        await put(key, [bytes(data)])

    world.store.put = damaging  # type: ignore[method-assign]
    for number in range(3, 7):
        await log.append(FACTS[number - 1 : number])
        assert await snapshots.write(replay_all(EMPTY, FACTS[:number]))

    assert set(slots) < set(await stored(world, log_folder(CLUSTER)))
    assert len(await stored(world, snapshot_folder(CLUSTER))) == 6
    assert [error.key for error in told] == [
        snapshot_key(CLUSTER, LogPosition(ControllerEpoch(1), sequence)) for sequence in range(2, 6)
    ]


async def test_b12_slots_go_below_the_older_of_two_whole_snapshots(
    made: tuple[World, MetadataLog, Snapshots],
) -> None:
    world, log, _ = made
    await some_snapshots(made, 2)
    await spoil(world, 1)
    # Another process: it has verified nothing yet.
    anew = Snapshots(
        store=world.store, cluster_id=CLUSTER, log=log, entropy=SeededEntropy("b"), patience=world.patience()
    )
    await log.append(FACTS[2:3])
    assert await anew.write(replay_all(EMPTY, FACTS[:3]))
    # The damaged one lies between the two that count.
    assert [name[-1] for name in await stored(world, snapshot_folder(CLUSTER))] == ["0", "1", "2"]
    assert [name[-1] for name in await stored(world, log_folder(CLUSTER))] == ["0", "1", "2"]
    await log.append(FACTS[3:4])
    assert await anew.write(replay_all(EMPTY, FACTS[:4]))
    assert [name[-1] for name in await stored(world, snapshot_folder(CLUSTER))] == ["2", "3"]
    assert [name[-1] for name in await stored(world, log_folder(CLUSTER))] == ["2", "3"]


async def test_a_trim_that_did_not_end_is_repeated(made: tuple[World, MetadataLog, Snapshots]) -> None:
    world, _, snapshots = made
    deleted = world.store.delete

    async def fails(keys: Sequence[str]) -> None:
        raise RuntimeError

    world.store.delete = fails  # type: ignore[method-assign]
    with pytest.raises(RuntimeError):
        await some_snapshots(made, 3)
    world.store.delete = deleted  # type: ignore[method-assign]
    await snapshots.trim()
    assert len(await stored(world, snapshot_folder(CLUSTER))) == 2


@pytest.mark.parametrize("is_lost", [False, True])
async def test_b4_what_is_held_of_a_snapshot_is_counted_until_it_is_let_go(
    made: tuple[World, MetadataLog, Snapshots], monkeypatch: pytest.MonkeyPatch, is_lost: bool
) -> None:
    world, log, _ = made
    memory = BorrowingBudget(0, ByteBudget(0))
    snapshots = Snapshots(
        store=world.store,
        cluster_id=CLUSTER,
        log=log,
        entropy=SeededEntropy("snapshots"),
        patience=world.patience(),
        memory=memory,
    )
    seen: list[tuple[str, int, int]] = []
    put = world.store.put

    async def watched(key: str, body: Sequence[Buffer]) -> None:
        seen.append((key, memory.used, sum(map(len, body))))
        if is_lost:
            raise FormatTooNew(key=key, version=9, supported=1)
        await put(key, body)

    monkeypatch.setattr(world.store, "put", watched)
    records = [ConfigChanged(2, f"topic-{number}", (("key", "v" * 100),)) for number in range(3_000)]
    await log.append(records)
    writing = snapshots.write(replay_all(EMPTY, records))
    if is_lost:
        with pytest.raises(FormatTooNew):
            await writing
    else:
        assert await writing

    ((_, counted, size),) = seen
    # But for the header and the last block.
    assert size - 2 * BLOCK_BYTES < counted <= size
    assert counted > 0
    assert memory.used == 0


LARGE = [ConfigChanged(2, f"topic-{number}", (("key", "x" * 1000),)) for number in range(100)]
PIECE = 8 * 1024


@pytest.mark.parametrize("damaged_at", [None, 200, PIECE - 1, PIECE, 5 * PIECE + 7, -1])
async def test_a_large_snapshot_is_read_back_in_pieces_none_of_which_is_kept(
    made: tuple[World, MetadataLog, Snapshots], monkeypatch: pytest.MonkeyPatch, damaged_at: int | None
) -> None:
    monkeypatch.setattr(snapshots_module, "PIECE_BYTES", PIECE)
    world, log, snapshots = made
    await log.append(LARGE)
    assert await snapshots.write(replay_all(EMPTY, LARGE))
    position = LogPosition(ControllerEpoch(1), 0)
    key = snapshot_key(CLUSTER, position)
    data = bytearray(await world.store.get(key))
    assert len(data) > 10 * PIECE
    if damaged_at is not None:
        data[damaged_at] ^= 1
        await world.store.put(key, [bytes(data)])
    told: list[StoreDamaged] = []
    memory = Watched(PIECE, ByteBudget(0))
    again = another(world, log, told, memory)
    assert await again._is_whole(position) is (damaged_at is None)
    assert [error.key for error in told] == ([] if damaged_at is None else [key])
    assert 0 < memory.peak <= PIECE
    assert memory.used == 0


@pytest.mark.parametrize("left", [0, 50, PIECE, 3 * PIECE, 3 * PIECE + 1])
async def test_a_snapshot_that_is_too_short_is_no_whole_one(
    made: tuple[World, MetadataLog, Snapshots], monkeypatch: pytest.MonkeyPatch, left: int
) -> None:
    monkeypatch.setattr(snapshots_module, "PIECE_BYTES", PIECE)
    world, log, snapshots = made
    await log.append(LARGE)
    assert await snapshots.write(replay_all(EMPTY, LARGE))
    position = LogPosition(ControllerEpoch(1), 0)
    key = snapshot_key(CLUSTER, position)
    data = await world.store.get(key)
    await world.store.put(key, [data[:left]])
    told: list[StoreDamaged] = []
    assert not await another(world, log, told, Watched(PIECE, ByteBudget(0)))._is_whole(position)
    assert len(told) == 1


async def test_a_snapshot_beyond_every_limit_is_written_and_told_of_once(
    made: tuple[World, MetadataLog, Snapshots], caplog: pytest.LogCaptureFixture
) -> None:
    """A log without snapshots would grow for ever. What it takes is the block cache's room, and is given back."""
    world, log, snapshots = made
    cache = ByteBudget(20_000)
    lent: list[int] = []
    cache.on_lent = lambda: lent.append(cache.used)
    snapshots._memory = memory = Watched(10_000, cache)
    for number in range(1, 4):
        await log.append(LARGE[(number - 1) * 30 : number * 30])
        assert await snapshots.write(replay_all(EMPTY, LARGE[: number * 30]))
    assert len(await stored(world, snapshot_folder(CLUSTER))) == 2
    assert memory.peak > 80_000
    assert max(lent) == memory.peak - 10_000
    assert (memory.used, cache.used) == (0, 0)
    told = [record for record in caplog.records if "takes more memory" in record.message]
    assert len(told) == 1
    assert vars(told[0])["limit"] == 10_000


def another(world: World, log: MetadataLog, told: list[StoreDamaged], memory: BorrowingBudget) -> Snapshots:
    """Of a process that has read none of them back yet."""
    return Snapshots(
        store=world.store,
        cluster_id=CLUSTER,
        log=log,
        entropy=SeededEntropy("again"),
        patience=world.patience(),
        on_damage=told.append,
        memory=memory,
    )


class Watched(BorrowingBudget):
    """Remembers the most that was held."""

    peak = 0

    def charge(self, size: int) -> None:
        super().charge(size)
        self.peak = max(self.peak, self.used)
