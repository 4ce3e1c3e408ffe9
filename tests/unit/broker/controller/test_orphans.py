"""What is swept from the bucket, and what is not."""

import dataclasses
import uuid
from collections.abc import Sequence

import pytest
from prometheus_client import CollectorRegistry, Counter

from automq.controller.orphans import Orphans, Swept, Verdict, is_old, judge_object, judge_slot
from automq.ids import BrokerEpoch, ClusterId, NodeId, ObjectId, StreamId, TopicId
from automq.metadata.image import EMPTY, MetadataImage
from automq.metadata.records import (
    BrokerFenced,
    BrokerRegistered,
    MetadataRecord,
    NewPartition,
    ObjectCommitted,
    ObjectsDeleted,
    ObjectsDestroyed,
    ObjectsPrepared,
    PartitionsCreated,
    RecordedRange,
    TopicCreated,
    UnplacedRange,
    WalDamaged,
    WalRecovered,
)
from automq.metadata.replay import replay_all
from automq.replicated.machine import LogFenced
from automq.s3stream.model import DataMissing
from automq.s3stream.objects.format import object_key
from automq.s3stream.ports import StoreRefused, UnfinishedUpload
from automq.s3stream.store.memory import MemoryStore
from automq.s3stream.wal.format import SlotId, SlotKind, encode_fence, seal_slot

pytestmark = pytest.mark.looptime
CLUSTER = ClusterId("abcdefghijklmnopqrstuv")
NODE = NodeId(1)
HOUR_MS = 3_600_000
TOPIC = TopicId(uuid.UUID(int=1))


def e(number: int) -> BrokerEpoch:
    return BrokerEpoch(number)


def registered(epoch: int) -> MetadataRecord:
    return BrokerRegistered(node=NODE, epoch=e(epoch), rack=None, endpoints=())


def fenced(epoch: int) -> MetadataRecord:
    return BrokerFenced(node=NODE, epoch=e(epoch), recoverer_node=NODE, recoverer_epoch=e(4))


UNPLACED = UnplacedRange(
    stream=StreamId(1),
    epoch=0,
    start=0,
    end=5,
    expected=9,
    first_slot=3,
    end_slot=4,  # type: ignore[arg-type]
)
BASE: MetadataImage = replay_all(
    EMPTY,
    [
        *map(registered, (1, 2, 3, 4)),
        *map(fenced, (1, 2, 3)),
        # 1 is recovered, 2 pinned with something that could not be placed; 3 is being recovered.
        WalRecovered(node=NODE, epoch=e(1)),
        WalDamaged(node=NODE, epoch=e(2), key="k", reason="r", at_ms=1, unplaced=(UNPLACED,)),
        TopicCreated(topic_id=TOPIC, name="t", is_internal=False, replication_factor=1),
        PartitionsCreated(topic_id=TOPIC, partitions=(NewPartition(index=0, stream=StreamId(1), leader=NODE),)),
        ObjectsPrepared(first=ObjectId(1), count=5, node=NODE, epoch=e(4), expires_ms=1),
        ObjectCommitted(
            object_id=ObjectId(1),
            size=9,
            node=NODE,
            epoch=e(4),
            trim_to=0,
            ranges=(RecordedRange(StreamId(1), 0, 5, 9, 0, False),),  # type: ignore[arg-type]
        ),
        ObjectsDestroyed(objects=(ObjectId(2), ObjectId(3)), at_ms=1),
        ObjectsDeleted(objects=(ObjectId(2),)),
    ],
)
"""Objects: 1 is committed, 2 deleted, 3 destroyed, 4 and 5 prepared, 6 comes next. Epoch 5 comes next."""


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (1, Verdict.KNOWN),
        (2, Verdict.ORPHAN),
        (3, Verdict.KNOWN),
        (4, Verdict.KNOWN),
        (5, Verdict.KNOWN),
        (6, Verdict.AHEAD),
        (2**40, Verdict.AHEAD),
    ],
)
def test_only_what_was_destroyed_and_deleted_is_an_orphan(number: int, expected: Verdict) -> None:
    assert judge_object(BASE, ObjectId(number)) is expected


@pytest.mark.parametrize(
    ("epoch", "expected"),
    [
        (1, Verdict.ORPHAN),
        (2, Verdict.KNOWN),
        (3, Verdict.KNOWN),
        (4, Verdict.KNOWN),
        (5, Verdict.AHEAD),
    ],
)
def test_only_slots_of_a_log_that_is_recovered_whole_are_orphans(epoch: int, expected: Verdict) -> None:
    assert judge_slot(BASE, slot(epoch, 3)) is expected


@pytest.mark.parametrize(
    ("modified_ms", "now_ms", "expected"),
    [(0, HOUR_MS, False), (0, HOUR_MS + 1, True), (None, HOUR_MS * 9, False), (0, None, False), (9, 0, False)],
)
def test_age_is_told_by_the_store_or_not_at_all(modified_ms: int | None, now_ms: int | None, expected: bool) -> None:
    assert is_old(modified_ms, now_ms, HOUR_MS) is expected


def slot(epoch: int, sequence: int) -> SlotId:
    return SlotId(cluster_id=CLUSTER, node=NODE, epoch=e(epoch), sequence=sequence)


def data_slot(which: SlotId) -> bytes:
    data = bytearray(4096)
    seal_slot(
        memoryview(data),
        start=0,
        end=80,
        slot=which,
        kind=SlotKind.DATA,
        nonce=bytes(16),
        records=0,
        crc=0,
        durable_below=0,
    )
    return bytes(data)


class Uploading(MemoryStore):
    """A store with half uploads."""

    uploads: Sequence[UnfinishedUpload] = ()
    refuses = False

    async def list_uploads(self, prefix: str) -> Sequence[UnfinishedUpload]:
        if self.refuses:
            raise StoreRefused("not here")
        return [upload for upload in self.uploads if upload.key.startswith(prefix)]

    async def abort_uploads(self, uploads: Sequence[UnfinishedUpload]) -> None:
        self.uploads = [upload for upload in self.uploads if upload not in uploads]


class OrphanWorld:
    def __init__(self) -> None:
        self.now_ms = 0
        self.store = Uploading(now_ms=lambda: self.now_ms)
        self.image = BASE
        self.proofs = 0
        self.is_fenced = False
        self.deleted = Counter("deleted", "", ["kind"], registry=CollectorRegistry())
        self.orphans = Orphans(
            store=self.store,
            cluster_id=CLUSTER,
            image=lambda: self.image,
            prove_active=self.prove_active,
            expiry_ms=HOUR_MS,
            deleted=self.deleted,
        )

    async def prove_active(self) -> None:
        self.proofs += 1
        if self.is_fenced:
            raise LogFenced("another controller")

    async def fill(self) -> None:
        for number in (1, 2, 3, 4):
            await self.store.put(object_key(CLUSTER, ObjectId(number)), [b"x"])
        for epoch in (1, 2, 3, 4):
            await self.store.put(slot(epoch, 3).key, [data_slot(slot(epoch, 3))])
            fence = encode_fence(slot(epoch, 4), nonce=bytes(16), recoverer=(NODE, e(4)))
            await self.store.put(slot(epoch, 4).key, [fence])
        # As large as data, and none.
        await self.store.put(slot(1, 5).key, [bytes(5000)])
        await self.store.put(f"{CLUSTER}/data/notes.txt~", [b"x"])

    async def keys(self) -> list[str]:
        return [info.key for info in await self.store.list("")]

    async def sweep(self) -> Swept:
        return await self.orphans.sweep()


@pytest.fixture
async def world() -> OrphanWorld:
    made = OrphanWorld()
    await made.fill()
    return made


async def test_b17_what_nothing_refers_to_goes_and_nothing_else(world: OrphanWorld) -> None:
    before = await world.keys()
    world.now_ms = HOUR_MS + 1
    swept = await world.sweep()

    gone = [object_key(CLUSTER, ObjectId(2)), slot(1, 3).key]
    assert sorted(set(before) - set(await world.keys())) == sorted(gone)
    assert (swept.objects, swept.slots, swept.damage) == (1, 1, [])
    assert world.proofs == 0
    assert (await world.sweep()) == Swept()


async def test_b17_what_is_young_may_be_on_its_way(world: OrphanWorld) -> None:
    before = await world.keys()
    world.now_ms = HOUR_MS
    await world.sweep()
    assert await world.keys() == before


async def test_f2_an_object_of_an_unknown_id_is_damage_and_ends_the_sweep(world: OrphanWorld) -> None:
    await world.store.put(object_key(CLUSTER, ObjectId(0x16)), [b"x"])
    await world.store.put(object_key(CLUSTER, ObjectId(6)), [b"x"])
    world.now_ms = HOUR_MS + 1
    swept = await world.sweep()

    assert [error.key for error in swept.damage] == [object_key(CLUSTER, ObjectId(6))]
    assert object_key(CLUSTER, ObjectId(2)) in await world.keys()
    assert world.proofs == 1


async def test_f2_a_slot_of_an_unknown_incarnation_is_damage_and_ends_the_sweep(world: OrphanWorld) -> None:
    await world.store.put(slot(5, 0).key, [data_slot(slot(5, 0))])
    before = await world.keys()
    world.now_ms = HOUR_MS + 1
    swept = await world.sweep()
    assert [error.key for error in swept.damage] == [slot(5, 0).key]
    assert await world.keys() == before


async def test_a_fenced_controller_takes_its_successors_objects_for_nothing(world: OrphanWorld) -> None:
    await world.store.put(object_key(CLUSTER, ObjectId(6)), [b"x"])
    world.is_fenced = True
    with pytest.raises(LogFenced):
        await world.sweep()


async def test_what_was_prepared_while_it_is_listed_is_known(world: OrphanWorld) -> None:
    await world.store.put(object_key(CLUSTER, ObjectId(6)), [b"x"])

    async def prove_active() -> None:
        record = ObjectsPrepared(first=ObjectId(6), count=1, node=NODE, epoch=e(4), expires_ms=1)
        world.image = replay_all(world.image, [record])

    world.orphans._prove_active = prove_active
    assert (await world.sweep()).damage == []


async def test_a_committed_object_that_is_not_there_is_damage_and_deletes_nothing(world: OrphanWorld) -> None:
    await world.store.delete([object_key(CLUSTER, ObjectId(1))])
    before = await world.keys()
    (error,) = (await world.sweep()).damage
    assert isinstance(error, DataMissing)
    assert error.key == object_key(CLUSTER, ObjectId(1))
    assert await world.keys() == before


async def test_f2_a_fenced_controller_takes_what_its_successor_deleted_for_no_damage(world: OrphanWorld) -> None:
    await world.store.delete([object_key(CLUSTER, ObjectId(1))])
    world.is_fenced = True
    with pytest.raises(LogFenced):
        await world.sweep()


async def test_an_object_that_only_a_listing_hides_is_there(world: OrphanWorld) -> None:
    hidden = world.store.list

    async def hiding(prefix: str, *, start_after: str = "", limit: int = 1_000_000):  # type: ignore[no-untyped-def]
        found = await hidden(prefix, start_after=start_after, limit=limit)
        return [info for info in found if info.key != object_key(CLUSTER, ObjectId(1))]

    world.store.list = hiding  # type: ignore[method-assign]
    assert (await world.sweep()).damage == []


async def test_an_object_that_is_deleted_meanwhile_is_not_missing(world: OrphanWorld) -> None:
    await world.store.delete([object_key(CLUSTER, ObjectId(1))])
    read = world.store.get_range

    async def late(key: str, start: int, end: int):  # type: ignore[no-untyped-def]
        world.image = dataclasses.replace(world.image, committed=world.image.committed.delete(ObjectId(1)))
        return await read(key, start, end)

    world.store.get_range = late  # type: ignore[method-assign]
    assert (await world.sweep()).damage == []


async def test_pages_are_walked_to_their_end(world: OrphanWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("automq.controller.orphans.PAGE_KEYS", 1)
    monkeypatch.setattr("automq.controller.orphans.OBJECTS_A_TURN", 1)
    world.now_ms = HOUR_MS + 1
    swept = await world.sweep()
    assert (swept.objects, swept.slots, swept.damage) == (1, 1, [])


async def test_old_half_uploads_are_aborted(world: OrphanWorld) -> None:
    young = UnfinishedUpload(f"{CLUSTER}/data/9", "young", HOUR_MS)
    timeless = UnfinishedUpload(f"{CLUSTER}/data/9", "timeless", None)
    another = UnfinishedUpload("photos/cat", "another's", 0)
    world.store.uploads = [UnfinishedUpload(f"{CLUSTER}/data/9", "old", 0), young, timeless, another]
    world.now_ms = HOUR_MS + 1
    assert (await world.sweep()).uploads == 1
    assert world.store.uploads == [young, timeless, another]
    assert world.deleted.labels("upload")._value.get() == 1


async def test_a_store_that_lists_no_uploads_is_no_trouble(world: OrphanWorld) -> None:
    world.store.refuses = True
    assert (await world.sweep()).uploads == 0


async def test_a_store_without_a_clock_loses_nothing(world: OrphanWorld) -> None:
    world.store._now_ms = None
    before = await world.keys()
    world.now_ms = 9 * HOUR_MS
    await world.sweep()
    assert await world.keys() == before
