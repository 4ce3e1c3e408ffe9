"""Erasing a cluster, and what an erase that did not end leaves behind."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from automq.ids import ClusterId
from automq.metadata import erase as module
from automq.metadata.cluster import ClusterKey, erasing_key
from automq.metadata.erase import Erasure, erase, erase_owned
from automq.metadata.lease import lease_key
from automq.metadata.log_format import claim_folder, log_folder
from automq.metadata.refusal import ClusterRunning, StoreClusterMissing, StoreOwnedByAnother
from automq.runtime.entropy import SeededEntropy
from automq.s3stream.model import CorruptData, DataMissing, StoreDamaged
from automq.s3stream.ports import ObjectInfo, ObjectNotFound
from automq.s3stream.store.layout import CLUSTER_KEY
from tests.support.metadata_worlds import CLUSTER, FlakyStore, LoopClock, World

pytestmark = pytest.mark.looptime

LEFT_BY_A_DOCTOR = "doctor/1700000000000-0a1b/left"


class EraseWorld(World):
    def __init__(self) -> None:
        super().__init__()
        assert isinstance(self.store, FlakyStore)
        self.flaky = self.store
        self.progress: list[int] = []

    async def make(self) -> None:
        key = ClusterKey(cluster_id=CLUSTER, format_version=1, verdict={})
        await self.flaky.inner.create(CLUSTER_KEY, [key.encode()])
        controller, _ = await self.started("maker", owner="uid")
        await controller.close()
        for number in range(25):
            await self.flaky.inner.put(f"{CLUSTER}/data/{number}", [b"x"])
        await self.flaky.inner.put(LEFT_BY_A_DOCTOR, [b"x"])

    async def erase(self, *, owner: str | None = "uid", cluster_id: str = CLUSTER) -> int:
        return await erase(
            store=self.store,
            cluster_id=ClusterId(cluster_id),
            owner=owner,
            clock=LoopClock(),
            entropy=SeededEntropy("erase"),
            tasks=self.tasks,
            patience=self.patience(),
            on_progress=self.progress.append,
        )

    async def erase_owned(self, owner: str) -> Erasure:
        return await erase_owned(
            store=self.store,
            owner=owner,
            clock=LoopClock(),
            entropy=SeededEntropy("erase"),
            tasks=self.tasks,
            patience=self.patience(),
            on_progress=self.progress.append,
        )

    async def keys(self) -> list[str]:
        return [info.key for info in await self.flaky.inner.list("")]


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[EraseWorld]:
    monkeypatch.setattr(module, "DELETES_AT_ONCE", 10)
    made = EraseWorld()
    await made.make()
    yield made
    await made.close()


async def test_everything_of_the_cluster_goes_and_nothing_else(world: EraseWorld) -> None:
    before = len(await world.keys())
    assert await world.erase() == before
    assert await world.keys() == [LEFT_BY_A_DOCTOR]
    assert world.progress == sorted(world.progress)


async def test_the_cluster_key_goes_last(world: EraseWorld) -> None:
    await world.erase()
    assert world.flaky.writes[-1] == CLUSTER_KEY


@pytest.mark.parametrize("owner", [None, "stranger"])
async def test_only_its_owner_erases_it(world: EraseWorld, owner: str | None) -> None:
    before = await world.keys()
    with pytest.raises(StoreOwnedByAnother, match="uid"):
        await world.erase(owner=owner)
    assert await world.keys() == before


async def test_another_id_erases_nothing(world: EraseWorld) -> None:
    before = await world.keys()
    with pytest.raises(StoreClusterMissing):
        await world.erase(cluster_id="another")
    assert await world.keys() == before


async def test_where_there_is_none_nothing_is_erased(world: EraseWorld) -> None:
    await world.flaky.inner.delete([CLUSTER_KEY])
    with pytest.raises(StoreClusterMissing):
        await world.erase()


async def test_an_erase_that_did_not_end_is_finished_by_its_owner_alone(world: EraseWorld) -> None:
    class Crash(Exception):
        pass

    def crash(count: int) -> None:
        raise Crash

    with pytest.raises(Crash):
        await erase(
            store=world.store,
            cluster_id=CLUSTER,
            owner="uid",
            clock=LoopClock(),
            entropy=SeededEntropy("erase"),
            tasks=world.tasks,
            patience=world.patience(),
            on_progress=crash,
        )
    # Not even the metadata log has to be there any more.
    for info in await world.flaky.inner.list(f"{CLUSTER}/meta/"):
        await world.flaky.inner.delete([info.key])
    with pytest.raises(StoreOwnedByAnother):
        await world.erase(owner="stranger")
    await world.erase()

    assert await world.keys() == [LEFT_BY_A_DOCTOR]
    with pytest.raises(ObjectNotFound):
        await world.store.get(CLUSTER_KEY)


async def test_op13_owner_erases_without_knowing_the_id(world: EraseWorld) -> None:
    before = len(await world.keys())
    assert await world.erase_owned("uid") == Erasure(cluster_id=CLUSTER, keys=before)
    assert await world.keys() == [LEFT_BY_A_DOCTOR]


async def test_op13_erase_by_owner_happens_twice_as_once(world: EraseWorld) -> None:
    await world.erase_owned("uid")
    again = await world.erase_owned("uid")
    assert (again.cluster_id, again.keys) == (None, 0)
    assert again.kept == "the prefix is empty"


async def test_op13_erase_by_owner_leaves_what_another_owns(world: EraseWorld) -> None:
    before = await world.keys()
    done = await world.erase_owned("stranger")
    assert done.keys == 0
    assert done.kept is not None
    assert "belongs to uid" in done.kept
    assert await world.keys() == before


async def test_op13_erase_by_owner_leaves_what_nobody_owns() -> None:
    world = EraseWorld()
    key = ClusterKey(cluster_id=CLUSTER, format_version=1, verdict={})
    await world.flaky.inner.create(CLUSTER_KEY, [key.encode()])
    done = await world.erase_owned("uid")
    assert done.kept is not None
    assert "belongs to nobody" in done.kept
    assert await world.keys() == [CLUSTER_KEY]
    await world.close()


async def test_op13_erase_by_owner_never_concludes_from_a_missing_cluster_key(world: EraseWorld) -> None:
    await world.flaky.inner.delete([CLUSTER_KEY])
    before = await world.keys()
    with pytest.raises(DataMissing, match="nothing was erased"):
        await world.erase_owned("uid")
    assert await world.keys() == before


async def test_op13_erase_by_owner_finishes_what_did_not_end(world: EraseWorld) -> None:
    await world.flaky.inner.put(erasing_key(CLUSTER), [b'{"owner": "uid"}'])
    for info in await world.flaky.inner.list(f"{CLUSTER}/meta/"):
        await world.flaky.inner.delete([info.key])
    assert (await world.erase_owned("uid")).cluster_id == CLUSTER
    assert await world.keys() == [LEFT_BY_A_DOCTOR]


STRANGE = ("meta/claims/", "meta/log/notes.txt~", "meta/claims/.DS_Store", "data/My Photo (1).jpg", "wal/größe", "x")


async def test_k4_strangers_in_the_folder_are_erased_too(world: EraseWorld) -> None:
    for name in STRANGE:
        world.flaky.inner.place(f"{CLUSTER}/{name}", b"")
    await world.erase()
    assert await world.keys() == [LEFT_BY_A_DOCTOR]


async def test_k4_an_erase_that_did_not_end_meets_strangers(world: EraseWorld) -> None:
    await world.flaky.inner.put(erasing_key(CLUSTER), [b'{"owner": "uid"}'])
    for name in STRANGE:
        world.flaky.inner.place(f"{CLUSTER}/{name}", b"")
    await world.erase()
    assert await world.keys() == [LEFT_BY_A_DOCTOR]


async def test_k5_what_arrives_while_it_is_erased_goes_too(world: EraseWorld) -> None:
    """A PUT that was on its way lands after the listing that showed nothing."""
    listed = world.flaky.list
    empty = 0

    async def late(prefix: str, *, start_after: str = "", limit: int = 1_000_000) -> list[ObjectInfo]:
        nonlocal empty
        found = await listed(prefix, start_after=start_after, limit=limit)
        if [info.key for info in found] == [erasing_key(CLUSTER)]:
            empty += 1
            if empty == 1:
                await world.flaky.inner.put(f"{CLUSTER}/data/late", [b"x"])
        return found

    world.flaky.list = late  # type: ignore[method-assign]
    await world.erase()
    assert await world.keys() == [LEFT_BY_A_DOCTOR]
    assert empty == 3


async def test_k5_one_empty_listing_is_no_empty_folder(world: EraseWorld) -> None:
    listed = world.flaky.list
    calls = 0

    async def lying(prefix: str, *, start_after: str = "", limit: int = 1_000_000) -> list[ObjectInfo]:
        nonlocal calls
        calls += prefix == f"{CLUSTER}/"
        return [] if calls == 3 else await listed(prefix, start_after=start_after, limit=limit)

    world.flaky.list = lying  # type: ignore[method-assign]
    await world.erase()
    assert await world.keys() == [LEFT_BY_A_DOCTOR]


@pytest.mark.parametrize("owner", ["uid", "stranger"])
async def test_f2_a_cluster_whose_lease_is_renewed_is_not_erased(world: EraseWorld, owner: str) -> None:
    async def renew() -> None:
        for number in range(100):
            await world.flaky.inner.put(lease_key(CLUSTER), [str(number).encode()])
            await asyncio.sleep(5)

    renewing = world.tasks.spawn(renew(), name="renew")
    await asyncio.sleep(1)
    before = await world.keys()
    expected = ClusterRunning if owner == "uid" else StoreOwnedByAnother
    with pytest.raises(expected):
        await world.erase(owner=owner)
    assert await world.keys() == before
    renewing.cancel()
    await world.erase()
    assert await world.keys() == [LEFT_BY_A_DOCTOR]


async def test_f2_a_cluster_that_begins_to_run_is_not_erased(world: EraseWorld) -> None:
    """Its first renewal comes while the lease is watched."""
    await world.flaky.inner.delete([lease_key(CLUSTER)])
    erasing = asyncio.ensure_future(world.erase())
    await asyncio.sleep(5)
    await world.flaky.inner.put(lease_key(CLUSTER), [b"1"])
    with pytest.raises(ClusterRunning):
        await erasing


async def test_the_cluster_key_alone_is_what_an_erase_left(world: EraseWorld) -> None:
    await world.flaky.inner.delete([info.key for info in await world.flaky.inner.list(f"{CLUSTER}/")])
    assert await world.erase() == 1
    assert await world.keys() == [LEFT_BY_A_DOCTOR]


@pytest.mark.parametrize("marker", [b"", b"{", b"{}", b'{"owner": 7}', b"[]", b"\xff"])
async def test_a_damaged_marker_is_damage(world: EraseWorld, marker: bytes) -> None:
    await world.flaky.inner.put(erasing_key(CLUSTER), [marker])
    before = await world.keys()
    with pytest.raises(CorruptData, match="erasing"):
        await world.erase()
    assert await world.keys() == before


async def test_f8_a_cluster_whose_log_is_damaged_is_erased_by_whoever_claimed_it_last(world: EraseWorld) -> None:
    slots = [info.key for info in await world.flaky.inner.list(log_folder(CLUSTER))]
    await world.flaky.inner.put(slots[0], [b"damaged"])
    before = await world.keys()
    with pytest.raises(StoreOwnedByAnother, match="uid"):
        await world.erase(owner="stranger")
    assert await world.keys() == before
    await world.erase(owner="uid")
    assert await world.keys() == [LEFT_BY_A_DOCTOR]


async def test_a_damaged_cluster_whose_claims_name_nobody_is_left_alone(world: EraseWorld) -> None:
    """They are of a version that did not write owners into claims."""
    slots = [info.key for info in await world.flaky.inner.list(log_folder(CLUSTER))]
    await world.flaky.inner.put(slots[0], [b"damaged"])
    for info in await world.flaky.inner.list(claim_folder(CLUSTER)):
        await world.flaky.inner.put(info.key, [b'{"node": 1, "nonce": "n"}'])
    with pytest.raises(StoreDamaged):
        await world.erase(owner="uid")


async def test_f8_a_cluster_whose_log_is_gone_is_not_nobodys(world: EraseWorld) -> None:
    await world.flaky.inner.delete([info.key for info in await world.flaky.inner.list(log_folder(CLUSTER))])
    with pytest.raises(StoreOwnedByAnother, match="uid"):
        await world.erase(owner=None)
    await world.erase(owner="uid")
    assert await world.keys() == [LEFT_BY_A_DOCTOR]
