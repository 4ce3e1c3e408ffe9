"""Damage of a lived prefix, one kind a row: what is noticed, and before the claim; what is served all the same."""

import asyncio
import json
import pathlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import pytest

from automq.ids import BrokerEpoch, ClusterId, ControllerEpoch, NodeId, ObjectId
from automq.metadata.claim import Claim
from automq.metadata.cluster import Prefix
from automq.metadata.evidence import Traces, check_layout, check_tail
from automq.metadata.image import MetadataImage
from automq.metadata.lease import LeaseContent, lease_key
from automq.metadata.loader import Loaded
from automq.metadata.log_format import (
    LogPosition,
    claim_folder,
    claim_key,
    log_folder,
    snapshot_folder,
    snapshot_key,
)
from automq.metadata.patience import Patience
from automq.runtime.entropy import SeededEntropy
from automq.runtime.tasks import Tasks
from automq.runtime.workers import InlineWorkers
from automq.s3stream.model import StoreDamaged
from automq.s3stream.objects.format import object_key
from automq.s3stream.ports import ObjectStorage
from automq.s3stream.store.doctor import DoctorReport
from automq.s3stream.store.file import FileStore
from automq.s3stream.store.layout import CLUSTER_KEY
from automq.s3stream.store.memory import MemoryStore
from automq.s3stream.wal.format import SlotId
from automq.server.lifecycle.states import Reason, Refused
from tests.support.lived_prefix import (
    below,
    cluster_of,
    consume,
    everything,
    expected_records,
    filled,
    lived_prefix,
    produce,
    serving,
    slot_between_snapshots,
    slots,
    slots_after,
    snapshots,
)
from tests.support.metadata_worlds import LoopClock

pytestmark = pytest.mark.looptime

EPOCH = ControllerEpoch(3)
"""The last controller's: every slot that is still needed is its own, and both snapshots are of such slots."""
Bodies = dict[str, bytes]
Damage = Callable[[Bodies], None]


def flip(bodies: Bodies, key: str, position: int = -3) -> None:
    data = bytearray(bodies[key])
    data[position] ^= 0x10
    bodies[key] = bytes(data)


def remove(bodies: Bodies, keys: Iterable[str]) -> None:
    for key in list(keys):
        del bodies[key]


def as_before_checksums(bodies: Bodies) -> None:
    """What the first version of the format wrote: no checksums, no claim of epoch 0."""
    cluster_id = cluster_of(bodies)
    for key in (CLUSTER_KEY, lease_key(cluster_id), *below(bodies, claim_folder(cluster_id))):
        fields = json.loads(bodies[key])
        for name in ("crc32c", "recordNumber", "owner"):
            fields.pop(name, None)
        bodies[key] = json.dumps(fields).encode()
    del bodies[claim_key(cluster_id, ControllerEpoch(0))]


def _cluster_brace(bodies: Bodies) -> None:
    bodies[CLUSTER_KEY] = bodies[CLUSTER_KEY].rstrip()[:-1]


def _cluster_empty(bodies: Bodies) -> None:
    bodies[CLUSTER_KEY] = b""


def _cluster_removed(bodies: Bodies) -> None:
    del bodies[CLUSTER_KEY]


def _cluster_other_id(bodies: Bodies) -> None:
    bodies[CLUSTER_KEY] = bodies[CLUSTER_KEY].replace(cluster_of(bodies).encode(), b"X" * 22)


def _cluster_other_id_without_checksum(bodies: Bodies) -> None:
    as_before_checksums(bodies)
    _cluster_other_id(bodies)


def _all_claims_removed(bodies: Bodies) -> None:
    remove(bodies, below(bodies, claim_folder(cluster_of(bodies))))


def _middle_slot_flipped(bodies: Bodies) -> None:
    flip(bodies, slots(bodies)[-2])


def _newest_slot_flipped(bodies: Bodies) -> None:
    flip(bodies, slots(bodies)[-1])


def _middle_slot_removed(bodies: Bodies) -> None:
    remove(bodies, [slots(bodies)[-2]])


def _newest_slot_removed(bodies: Bodies) -> None:
    remove(bodies, [slots(bodies)[-1]])


def _newest_3_slots_removed(bodies: Bodies) -> None:
    remove(bodies, slots(bodies)[-3:])


def _tail_removed_and_no_lease(bodies: Bodies) -> None:
    """The snapshot of the tail is gone, too; an object is left that no record prepared."""
    cluster_id = cluster_of(bodies)
    older, newer = snapshots(bodies)
    remove(bodies, slots_after(bodies, older))
    remove(bodies, [snapshot_key(cluster_id, newer), lease_key(cluster_id)])


def _log_removed(bodies: Bodies) -> None:
    cluster_id = cluster_of(bodies)
    remove(bodies, [*below(bodies, log_folder(cluster_id)), *below(bodies, snapshot_folder(cluster_id))])


def _log_and_data_removed(bodies: Bodies) -> None:
    """Nothing but claims and the lease are left."""
    cluster_id = cluster_of(bodies)
    _log_removed(bodies)
    remove(bodies, [*below(bodies, f"{cluster_id}/wal/"), *below(bodies, f"{cluster_id}/data/")])


def _meta_removed(bodies: Bodies) -> None:
    remove(bodies, below(bodies, f"{cluster_of(bodies)}/meta/"))


def _folder_removed(bodies: Bodies) -> None:
    remove(bodies, below(bodies, f"{cluster_of(bodies)}/"))


def _both_snapshots_flipped(bodies: Bodies) -> None:
    for key in below(bodies, snapshot_folder(cluster_of(bodies))):
        flip(bodies, key)


def _newest_snapshot_flipped(bodies: Bodies) -> None:
    flip(bodies, below(bodies, snapshot_folder(cluster_of(bodies)))[-1])


def _snapshot_flipped_and_slot_before_it_removed(bodies: Bodies) -> None:
    _newest_snapshot_flipped(bodies)
    remove(bodies, [slot_between_snapshots(bodies)])


def _snapshot_flipped_and_all_after_the_older_removed(bodies: Bodies) -> None:
    """The slots do not reach as far as the snapshot that does not decode."""
    older, _ = snapshots(bodies)
    _newest_snapshot_flipped(bodies)
    remove(bodies, slots_after(bodies, older))
    remove(bodies, [lease_key(cluster_of(bodies))])


def _object_of_an_unknown_id(bodies: Bodies) -> None:
    bodies[object_key(cluster_of(bodies), ObjectId(12))] = b"x"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A damage that a start must refuse, and what its message names."""

    damage: Damage
    names: str | Callable[[Bodies], str]
    """As it is, or by what lies there before the damage."""


REFUSED = [
    Refusal(_cluster_brace, "cluster"),
    Refusal(_cluster_empty, "cluster"),
    Refusal(_cluster_removed, "write it again"),
    Refusal(_cluster_other_id, "cluster key"),
    Refusal(_cluster_other_id_without_checksum, "correct the cluster id"),
    Refusal(_all_claims_removed, "no claim"),
    Refusal(_middle_slot_flipped, lambda bodies: slots(bodies)[-2]),
    Refusal(_newest_slot_flipped, lambda bodies: slots(bodies)[-1]),
    Refusal(_middle_slot_removed, lambda bodies: slots(bodies)[-2]),
    Refusal(_newest_slot_removed, lambda bodies: slots(bodies)[-1]),
    Refusal(_newest_3_slots_removed, lambda bodies: slots(bodies)[-3]),
    Refusal(_tail_removed_and_no_lease, "no record prepared it"),
    Refusal(_log_removed, "metadata log"),
    Refusal(_log_and_data_removed, "metadata log"),
    Refusal(_meta_removed, "no claim"),
    Refusal(_folder_removed, "no claim"),
    Refusal(_both_snapshots_flipped, "corrupt metadata payload"),
    Refusal(_snapshot_flipped_and_slot_before_it_removed, slot_between_snapshots),
    Refusal(
        _snapshot_flipped_and_all_after_the_older_removed,
        lambda bodies: f"while snapshot {snapshots(bodies)[1]} exists",
    ),
    Refusal(_object_of_an_unknown_id, "no record prepared it"),
]


def a_store(kind: str, folder: pathlib.Path) -> ObjectStorage:
    if kind == "memory":
        return MemoryStore()
    return FileStore(str(folder / "store"), workers=InlineWorkers(), entropy=SeededEntropy(1))


@pytest.mark.parametrize("kind", ["memory", "file"])
@pytest.mark.parametrize("row", REFUSED, ids=lambda row: row.damage.__name__.strip("_"))
async def test_f2_damage_is_refused_before_the_claim_and_leaves_no_trace(
    row: Refusal, kind: str, tmp_path: pathlib.Path
) -> None:
    bodies = dict(await lived_prefix())
    assert len(slots_after(bodies, snapshots(bodies)[1])) >= 3, "the newest slots are in no snapshot"
    names = row.names if isinstance(row.names, str) else row.names(bodies)
    row.damage(bodies)
    store = a_store(kind, tmp_path)
    await filled(store, bodies)

    for seed in (90, 91):
        with pytest.raises(Refused) as refused:
            async with serving(store, seed=seed):
                pass
        assert refused.value.reason is Reason.STORE_DAMAGED
        assert names in refused.value.message
    assert await everything(store) == bodies
    await store.close()


def _nothing(bodies: Bodies) -> None:
    """The prefix as it was left."""


def _lease_flipped(bodies: Bodies) -> None:
    for position in range(0, len(bodies[lease_key(cluster_of(bodies))]), 3):
        flip(bodies, lease_key(cluster_of(bodies)), position)


def _lease_removed(bodies: Bodies) -> None:
    del bodies[lease_key(cluster_of(bodies))]


def _a_record_number_of_the_lease_flipped(bodies: Bodies) -> None:
    key = lease_key(cluster_of(bodies))
    number = json.loads(bodies[key])["recordNumber"]
    bodies[key] = bodies[key].replace(f'"recordNumber": {number}'.encode(), b'"recordNumber": 9999')


def _newest_claim_flipped(bodies: Bodies) -> None:
    flip(bodies, claim_key(cluster_of(bodies), EPOCH), 5)


def _newest_claim_removed(bodies: Bodies) -> None:
    del bodies[claim_key(cluster_of(bodies), EPOCH)]


def _newest_2_claims_removed(bodies: Bodies) -> None:
    _newest_claim_removed(bodies)
    del bodies[claim_key(cluster_of(bodies), ControllerEpoch(2))]


def _all_claims_but_the_oldest_removed(bodies: Bodies) -> None:
    cluster_id = cluster_of(bodies)
    remove(bodies, below(bodies, claim_folder(cluster_id))[1:])


def _version_of_the_newest_snapshot_flipped(bodies: Bodies) -> None:
    flip(bodies, below(bodies, snapshot_folder(cluster_of(bodies)))[-1], 4)


def _newest_snapshot_cut(bodies: Bodies) -> None:
    key = below(bodies, snapshot_folder(cluster_of(bodies)))[-1]
    bodies[key] = bodies[key][:50]


def _newest_snapshot_emptied(bodies: Bodies) -> None:
    bodies[below(bodies, snapshot_folder(cluster_of(bodies)))[-1]] = b""


def _newest_snapshot_removed(bodies: Bodies) -> None:
    del bodies[below(bodies, snapshot_folder(cluster_of(bodies)))[-1]]


def _older_snapshot_flipped(bodies: Bodies) -> None:
    flip(bodies, below(bodies, snapshot_folder(cluster_of(bodies)))[0])


def _slot_below_the_snapshot_flipped(bodies: Bodies) -> None:
    """The newest snapshot includes it."""
    flip(bodies, slot_between_snapshots(bodies))


def _another_clusters_late_slot(bodies: Bodies) -> None:
    """Of a cluster that was erased here."""
    bodies[f"{'Z' * 22}/wal/0000000001/0000000003/{7:020d}"] = b"x"


def _strangers(bodies: Bodies) -> None:
    cluster_id = cluster_of(bodies)
    for folder in ("", "meta/", "meta/claims/", "meta/log/", f"meta/log/{3:020d}/", "meta/snapshots/", "wal/", "data/"):
        bodies[f"{cluster_id}/{folder}notes.txt~"] = b"x"
        bodies[f"{cluster_id}/{folder}zz-copy"] = b""


SERVED = [
    _nothing,
    as_before_checksums,
    _lease_flipped,
    _lease_removed,
    _a_record_number_of_the_lease_flipped,
    _newest_claim_flipped,
    _newest_claim_removed,
    _newest_2_claims_removed,
    _all_claims_but_the_oldest_removed,
    _newest_snapshot_flipped,
    _version_of_the_newest_snapshot_flipped,
    _newest_snapshot_cut,
    _newest_snapshot_emptied,
    _newest_snapshot_removed,
    _older_snapshot_flipped,
    _slot_below_the_snapshot_flipped,
    _another_clusters_late_slot,
    _strangers,
]


@pytest.mark.parametrize("kind", ["memory", "file"])
@pytest.mark.parametrize("damage", SERVED, ids=lambda damage: damage.__name__.strip("_"))
async def test_f8_damage_of_what_is_derived_costs_nothing(damage: Damage, kind: str, tmp_path: pathlib.Path) -> None:
    bodies = dict(await lived_prefix())
    damage(bodies)
    store = a_store(kind, tmp_path)
    await filled(store, bodies)
    claimed = [3]

    for round_number, seed in enumerate((90, 91)):
        async with serving(store, seed=seed) as broker:
            made = broker._components
            assert made is not None
            claimed.append(made.controller.epoch)
            assert (await consume(broker))[: len(expected_records())] == expected_records()
            await produce(broker, 3, first=1000 + 10 * round_number)
    assert claimed == [3, 4, 5], "no epoch is given twice, and none is counted up to"
    await store.close()


async def test_k4_markers_in_every_folder_hurt_nobody() -> None:
    """As consoles make them; no file system has such keys."""
    store = MemoryStore()
    await filled(store, await lived_prefix())
    folders = {key[: match.end()] for key in await lived_prefix() for match in re.finditer("/", key)}
    for folder in folders:
        store.place(folder, b"")
        store.place(f"{folder}.DS_Store", b"Bud1")
    async with serving(store, seed=90) as broker:
        assert await consume(broker) == expected_records()


async def test_k4_a_prefix_with_nothing_but_its_own_marker_is_empty() -> None:
    store = MemoryStore()
    store.place("kafka/", b"")
    async with serving(store, seed=1) as broker:
        assert broker.cluster_id is not None


async def test_a_format_that_did_not_end_is_an_empty_prefix() -> None:
    """The claim of epoch 0 is there, the key `cluster` is not."""
    store = MemoryStore()
    await store.put(claim_key(ClusterId("Y" * 22), ControllerEpoch(0)), [b"x"])
    async with serving(store, seed=1) as broker:
        assert broker.cluster_id != "Y" * 22


async def test_a_cluster_that_was_formatted_and_never_claimed_starts() -> None:
    store = MemoryStore()
    async with serving(store, seed=1):
        pass
    bodies = await everything(store)
    cluster_id = cluster_of(bodies)
    kept = (CLUSTER_KEY, claim_key(cluster_id, ControllerEpoch(0)))
    await store.delete([key for key in bodies if key not in kept])
    async with serving(store, seed=2) as broker:
        assert broker.cluster_id == cluster_id


def traces(**found: Any) -> Traces:
    nothing: dict[str, Any] = {
        "newest_wal": None,
        "an_object": None,
        "lease": None,
        "has_log": True,
        "claimed": ControllerEpoch(5),
        "claim": None,
    }
    return Traces(cluster_id=ClusterId("c"), **{**nothing, **found})


def a_log(*, records: int = 10, next_broker_epoch: int = 4) -> Loaded:
    image = MetadataImage(record_number=records, next_broker_epoch=BrokerEpoch(next_broker_epoch))
    end = LogPosition(ControllerEpoch(5), 7)
    return Loaded(image, epochs=1, slots=1, end=end, newest_epoch=ControllerEpoch(5), resume=end)


def a_lease(records: int | None) -> LeaseContent:
    return LeaseContent(NodeId(1), ControllerEpoch(5), records)


def a_claim(records: int | None) -> Claim:
    return Claim(NodeId(1), "n", None, records)


def a_slot(epoch: int) -> SlotId:
    return SlotId(cluster_id=ClusterId("c"), node=NodeId(1), epoch=BrokerEpoch(epoch), sequence=9)


@pytest.mark.parametrize(
    ("found", "names"),
    [
        (traces(lease=a_lease(11)), "c/meta/lease names 11"),
        (traces(claim=a_claim(11)), "c/meta/claims/00000000000000000005 names 11"),
        (traces(lease=a_lease(3), claim=a_claim(12)), "claims"),
        (traces(newest_wal=a_slot(4)), "broker epoch 4, and 4 comes next"),
        (traces(newest_wal=a_slot(9)), "c/wal/0000000001/0000000009"),
    ],
)
def test_f2_what_followed_from_a_lost_tail_is_noticed(found: Traces, names: str) -> None:
    with pytest.raises(StoreDamaged, match="lost its newest slots") as caught:
        check_tail(found, a_log())
    assert names in str(caught.value)
    assert caught.value.key == "c/meta/log/00000000000000000005/00000000000000000007"


@pytest.mark.parametrize(
    "found",
    [
        traces(),
        traces(lease=a_lease(10), claim=a_claim(10), newest_wal=a_slot(3)),
        traces(lease=a_lease(None), claim=a_claim(None)),
        traces(lease=a_lease(2), claim=a_claim(1), newest_wal=a_slot(1)),
    ],
)
def test_f2_a_log_that_is_as_long_as_what_followed_from_it_is_whole(found: Traces) -> None:
    check_layout(found, [])
    check_tail(found, a_log())


async def test_f2_a_cluster_at_work_is_no_damaged_one() -> None:
    """Starts that look at a prefix while another broker registers, uploads and writes snapshots there."""
    store = MemoryStore()
    await filled(store, await lived_prefix())
    async with serving(store, seed=90) as busy:

        async def work() -> None:
            for round_number in range(20):
                await produce(busy, 2, first=1000 + 10 * round_number)

        working = asyncio.ensure_future(work())
        prefixes = 0
        while not working.done():
            opened = await a_prefix(store).open_or_format(cluster_id=None, owner=None, adopt=None)
            assert not opened.formatted
            prefixes += 1
            await asyncio.sleep(0.037)
        await working
    assert prefixes > 50


def a_prefix(store: ObjectStorage) -> Prefix:
    async def never() -> DoctorReport:
        raise AssertionError

    return Prefix(
        store=store,
        examine=never,
        clock=LoopClock(),
        entropy=SeededEntropy("looks"),
        tasks=Tasks("looks", on_crash=lambda _name, _error: None),
        patience=Patience(entropy=SeededEntropy("looks"), on_store=lambda _error: None),
    )
