"""What snapshots hold, and what they let go."""

import asyncio

import pytest

from automq.ids import ControllerEpoch
from automq.metadata.image import EMPTY
from automq.metadata.log import MetadataLog
from automq.metadata.log_format import (
    LogPosition,
    decode_snapshot,
    encode_fence,
    slot_key,
    snapshot_folder,
    snapshot_key,
)
from automq.metadata.records import FeatureLevelSet
from automq.metadata.replay import replay_all
from automq.metadata.snapshots import Snapshots, superfluous_slots
from automq.runtime.entropy import SeededEntropy
from automq.s3stream.ports import ObjectInfo
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
