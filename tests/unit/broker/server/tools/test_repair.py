"""What a person gives up is checked, recorded whole, and never decided twice."""

import pytest

from automq.ids import ClusterId, Offset
from automq.metadata.cluster import read_cluster_key
from automq.metadata.image import MetadataImage
from automq.metadata.lease import lease_key
from automq.metadata.loader import LogLoader
from automq.metadata.patience import Patience
from automq.metadata.refusal import ClusterRunning, StoreClusterMissing
from automq.runtime.entropy import SeededEntropy
from automq.runtime.tasks import Tasks
from automq.s3stream.model import StreamQuarantined
from automq.s3stream.objects.format import object_folder
from automq.s3stream.ports import ObjectStorage
from automq.s3stream.store.memory import MemoryStore
from automq.s3stream.wal.format import slot_prefix
from automq.server.tools.examination import Examination
from automq.server.tools.findings import Report, Severity
from automq.server.tools.repair import LostOffsets, Named, RepairRefused, parse_lost_offsets, parse_slot
from automq.server.tools.repairer import Repairer
from tests.support.lived_prefix import (
    TOPIC,
    consume,
    everything,
    expected_records,
    filled,
    lived_prefix,
    produce,
    serving,
)
from tests.support.metadata_worlds import LoopClock

pytestmark = pytest.mark.looptime

NO_UPLOADS = {"automq__upload__interval__ms": "600000"}


async def examined(store: ObjectStorage) -> Report:
    entropy = SeededEntropy(5)
    tasks = Tasks("test", on_crash=lambda _name, _error: None)
    patience = Patience(entropy=entropy, on_store=lambda _error: None)
    try:
        return await Examination(
            store=store, name="memory:", entropy=entropy, tasks=tasks, patience=patience, deep=True
        ).run()
    finally:
        await tasks.close()


def lost(start: int, end: int, *, topic: str = TOPIC, partition: int = 0) -> Named:
    offsets = LostOffsets(topic=topic, partition=partition, start=Offset(start), end=Offset(end))
    return Named(offsets=[offsets])


async def a_store() -> MemoryStore:
    store = MemoryStore()
    await filled(store, await lived_prefix())
    return store


async def repaired(store: ObjectStorage, named: Named, *, dry_run: bool = False) -> list[str]:
    tasks = Tasks("test", on_crash=lambda _name, _error: None)
    repairer = Repairer(
        store=store,
        name="memory:",
        clock=LoopClock(),
        entropy=SeededEntropy(3),
        tasks=tasks,
        on_store=lambda _error: None,
    )
    try:
        return list(await repairer.run(named, by="eve@here", dry_run=dry_run))
    finally:
        await tasks.close()


async def image_of(store: ObjectStorage) -> MetadataImage:
    found = await read_cluster_key(store)
    assert found is not None
    entropy = SeededEntropy(4)
    tasks = Tasks("test", on_crash=lambda _name, _error: None)
    patience = Patience(entropy=entropy, on_store=lambda _error: None)
    loader = LogLoader(store=store, cluster_id=found.cluster_id, entropy=entropy, patience=patience, tasks=tasks)
    image = (await loader.read()).image
    await tasks.close()
    return image


async def test_lost_offsets_are_recorded_with_who_gave_them_up() -> None:
    store = await a_store()
    before = await image_of(store)
    (line,) = await repaired(store, lost(3, 5))
    assert f"[3, 5) of {TOPIC}-0 are lost" in line
    after = await image_of(store)
    topic = after.topic(TOPIC)
    assert topic is not None
    ((stream, (record,)),) = after.lost_ranges.items()
    assert stream == topic.partitions[0].stream
    assert (record.start, record.end, record.by) == (3, 5, "eve@here")
    assert after.streams[stream].end == before.streams[stream].end
    assert await repaired(store, lost(3, 5)) == []


async def test_dry_run_says_the_same_and_touches_nothing() -> None:
    store = await a_store()
    before = await everything(store)
    (line,) = await repaired(store, lost(3, 5), dry_run=True)
    assert "are lost" in line
    assert await everything(store) == before


@pytest.mark.parametrize(
    ("named", "why"),
    [
        (lost(3, 5, topic="nowhere"), "no partition nowhere-0"),
        (lost(3, 5, partition=9), "no partition"),
        (lost(9_000, 9_001), "do not lie in or behind"),
        (Named(repaired=["some/key"]), "known are: none"),
        (Named(slots=[parse_slot(f"other/wal/{1:010d}/{1:010d}/{0:020d}")]), "another cluster"),
    ],
)
async def test_what_cannot_be_given_up_is_refused_and_nothing_is_touched(named: Named, why: str) -> None:
    store = await a_store()
    before = await everything(store)
    with pytest.raises(RepairRefused, match=why):
        await repaired(store, named)
    assert await everything(store) == before


async def test_slot_of_a_log_that_is_recovered_is_refused() -> None:
    store = await a_store()
    image = await image_of(store)
    found = await read_cluster_key(store)
    assert found is not None
    slot = parse_slot(f"{found.cluster_id}/wal/{1:010d}/{10**6:010d}/{0:020d}")
    assert (slot.node, slot.epoch) not in image.wals
    with pytest.raises(RepairRefused, match="no log that is left to recover"):
        await repaired(store, Named(slots=[slot]))


async def test_running_cluster_is_never_repaired() -> None:
    store = await a_store()
    found = await read_cluster_key(store)
    assert found is not None
    key = lease_key(ClusterId(found.cluster_id))

    class Renewed(MemoryStore):
        """Somebody renews the lease."""

        renewals = 0

        async def get(self, asked: str) -> bytes:
            body = await super().get(asked)
            if asked == key:
                self.renewals += 1
                await self.put(key, [body + b" " * (self.renewals % 2)])
            return body

    renewed = Renewed()
    await filled(renewed, await everything(store))
    before = {name: body for name, body in (await everything(renewed)).items() if name != key}
    with pytest.raises(ClusterRunning, match="repair it"):
        await repaired(renewed, lost(3, 5))
    assert {name: body for name, body in (await everything(renewed)).items() if name != key} == before


async def test_empty_prefix_has_nothing_to_repair() -> None:
    with pytest.raises(StoreClusterMissing):
        await repaired(MemoryStore(), lost(0, 1))


@pytest.mark.parametrize(
    "text", ["orders", "orders-0", "orders-0:5", "orders-0:5-5", "orders-0:7-5", "-0:1-2", "o-x:1-2"]
)
def test_offsets_are_named_as_they_are_shown(text: str) -> None:
    assert parse_lost_offsets("some-topic-12:5-9") == LostOffsets(
        topic="some-topic", partition=12, start=Offset(5), end=Offset(9)
    )
    with pytest.raises(ValueError, match="TOPIC-PARTITION|no offset"):
        parse_lost_offsets(text)


def test_key_that_is_no_slot_is_refused() -> None:
    with pytest.raises(ValueError, match="WAL slot"):
        parse_slot("c/data/0000000000000001")


async def damaged_log() -> tuple[MemoryStore, list[str]]:
    """The last incarnation was killed with records in its write-ahead log alone; the keys of those slots."""
    store = await a_store()
    async with serving(store, seed=9, **NO_UPLOADS) as broker:
        made = broker._components
        assert made is not None
        assert made.epoch is not None
        folder = slot_prefix(made.cluster_id, made.node, made.epoch)
        await produce(broker, 6, first=len(expected_records()))
    return store, sorted(info.key for info in await store.list(folder))


async def served(store: MemoryStore, *, seed: int, more: int = 0) -> tuple[list[bytes], Offset]:
    """What a broker serves of the topic after `more` records were produced, and the end."""
    async with serving(store, seed=seed, **NO_UPLOADS) as broker:
        if more:
            await produce(broker, more, first=1000)
        made = broker._components
        assert made is not None
        assert made.partitions is not None
        return await consume(broker), made.partitions.get(TOPIC, 0).high_watermark


async def test_lost_slot_is_given_up_and_everything_else_is_served() -> None:
    store, slots = await damaged_log()
    before = expected_records()
    await store.delete([slots[2]])
    with pytest.raises(StreamQuarantined):
        await served(store, seed=10, more=1)

    report = await examined(store)
    assert [finding.key for finding in report.findings if finding.severity is Severity.DAMAGE][0] == slots[2]
    await repaired(store, Named(slots=[parse_slot(slots[2])]))

    values, end = await served(store, seed=11, more=2)
    produced = [b"record %d" % number for number in range(len(before), len(before) + 6)]
    produced.pop(2)
    assert values == [*before, *produced, b"record 1000", b"record 1001"]
    assert end == len(before) + 6 + 2, "the lost record's offset is given to nobody"
    assert not (await examined(store)).is_damaged


async def test_last_slots_that_are_given_up_move_the_ends_above_all_that_they_can_have_held() -> None:
    store, slots = await damaged_log()
    before = len(expected_records())
    await store.put(slots[4], [b"no slot"])
    with pytest.raises(StreamQuarantined):
        await served(store, seed=10, more=1)

    await repaired(store, Named(ends=[parse_slot(slots[4])]))

    values, end = await served(store, seed=11, more=1)
    assert values == [b"record %d" % number for number in range(before + 4)] + [b"record 1000"]
    assert end > before + 6
    image = await image_of(store)
    topic = image.topic(TOPIC)
    assert topic is not None
    (lost_range,) = image.lost_ranges[topic.partitions[0].stream]
    assert (lost_range.start, lost_range.by) == (before + 4, "eve@here")
    assert end == lost_range.end + 1


async def test_damage_whose_offsets_were_given_up_is_damage_no_longer() -> None:
    store = await a_store()
    found = await read_cluster_key(store)
    assert found is not None
    key = min(info.key for info in await store.list(object_folder(found.cluster_id)))
    body = bytearray(await store.get(key))
    body[200] ^= 1
    await store.put(key, [bytes(body)])
    (damage,) = [finding for finding in (await examined(store)).findings if finding.severity is Severity.DAMAGE]
    (part,) = damage.affected
    assert part.end is not None

    await repaired(store, lost(part.start, part.end, topic=part.topic, partition=part.partition))

    assert not (await examined(store)).is_damaged
