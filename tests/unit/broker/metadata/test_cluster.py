"""Who may run a prefix; and erasing one."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest

from automq.controller.model import ControllerSettings
from automq.ids import BrokerEpoch, ClusterId, ControllerEpoch, NodeId
from automq.metadata.cluster import (
    ClusterKey,
    OpenedCluster,
    Prefix,
    decode_cluster_key,
    erasing_key,
    new_cluster_id,
    weaknesses_of,
)
from automq.metadata.lease import lease_key
from automq.metadata.log_format import claim_key
from automq.metadata.refusal import StoreClusterMissing, StoreOwnedByAnother, StoreUnsuitable
from automq.runtime.entropy import SeededEntropy
from automq.s3stream.model import CorruptData, FormatTooNew
from automq.s3stream.store.doctor import CheckResult, DoctorReport, Outcome
from automq.s3stream.store.layout import CLUSTER_KEY
from tests.support import golden
from tests.support.metadata_worlds import CLUSTER, FlakyStore, LoopClock, World


class PrefixWorld(World):
    def __init__(self) -> None:
        super().__init__()
        assert isinstance(self.store, FlakyStore)
        self.flaky = self.store
        self.suitable = True
        self.check_name = "create-if-absent"
        self.examined = 0

    async def examine(self) -> DoctorReport:
        self.examined += 1
        check = CheckResult(
            name=self.check_name,
            required=True,
            outcome=Outcome.PASSED if self.suitable else Outcome.FAILED,
            detail="2 of 8 won",
            consequence="somebody has work",
        )
        return DoctorReport(store="memory", suitable=self.suitable, checks=(check,), latencies=(), seconds=0.1)

    async def open(
        self, *, cluster_id: str | None = None, owner: str | None = None, adopt: str | None = None
    ) -> OpenedCluster:
        prefix = Prefix(
            store=self.store,
            examine=self.examine,
            clock=LoopClock(),
            entropy=SeededEntropy("prefix"),
            tasks=self.tasks,
            patience=self.patience(),
        )
        return await prefix.open_or_format(cluster_id=cluster_id, owner=owner, adopt=adopt)

    async def make(self, *, owner: str | None = None) -> None:
        """A cluster with the tests' id, run once by `owner`."""
        key = ClusterKey(cluster_id=CLUSTER, format_version=1, verdict={})
        await self.flaky.inner.create(CLUSTER_KEY, [key.encode()])
        controller, _ = await self.started("maker", owner=owner)
        await controller.register_broker(1, rack=None, endpoints=())  # type: ignore[arg-type]
        await controller.close()
        self.flaky.writes.clear()


@pytest.fixture
async def world() -> AsyncIterator[PrefixWorld]:
    made = PrefixWorld()
    yield made
    await made.close()


def test_cluster_key_keeps_its_text() -> None:
    key = ClusterKey(cluster_id=CLUSTER, format_version=1, verdict={"suitable": True})
    golden.check_text("metadata/cluster.json", key.encode().decode())
    assert decode_cluster_key(key.encode()) == key


@pytest.mark.parametrize(
    "verdict", [{}, {"suitable": True}, {"checks": 5}, {"checks": [7]}, {"checks": [{"required": False}]}]
)
def test_a_verdict_without_failures_has_no_weaknesses(verdict: dict[str, Any]) -> None:
    assert weaknesses_of(verdict) == ""


async def test_f1_what_the_doctor_required_in_vain_is_said_at_every_start(world: PrefixWorld) -> None:
    world.suitable, world.check_name = False, "half a PUT is not stored"

    weaknesses = [(await world.open()).weaknesses for _ in range(2)]

    assert weaknesses == ["half a PUT is not stored: 2 of 8 won, so somebody has work"] * 2


def test_a_cluster_key_from_before_there_were_checksums_is_read() -> None:
    data = (golden.GOLDEN_FOLDER / "metadata/cluster_without_checksum.json").read_bytes()
    expected = ClusterKey(cluster_id=CLUSTER, format_version=1, verdict={"suitable": True}, has_checksum=False)
    assert decode_cluster_key(data) == expected


def test_no_flipped_bit_of_a_cluster_key_names_another_cluster() -> None:
    """It is damage, or a key whose checksum is not seen: then claims and folders decide, and they are another id's."""
    data = ClusterKey(cluster_id=CLUSTER, format_version=1, verdict={}).encode()
    for position in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[position // 8] ^= 1 << position % 8
        try:
            found = decode_cluster_key(bytes(flipped))
        except (CorruptData, FormatTooNew):
            continue
        assert (found.cluster_id, found.format_version) == (CLUSTER, 1)


def test_cluster_ids_have_22_characters_and_begin_with_none_that_options_do() -> None:
    entropy = SeededEntropy(1)
    ids = [new_cluster_id(entropy) for _ in range(500)]
    assert all(len(found) == 22 and found[0] not in "-_" for found in ids)
    assert len(set(ids)) == 500


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"{}", b'{"formatVersion": 1}', b'{"formatVersion": "x"}'])
def test_a_damaged_cluster_key_is_corruption(data: bytes) -> None:
    with pytest.raises(CorruptData):
        decode_cluster_key(data)


async def test_an_empty_prefix_becomes_a_cluster_with_the_doctors_verdict(world: PrefixWorld) -> None:
    opened = await world.open(owner="me")
    key = decode_cluster_key(await world.store.get(CLUSTER_KEY))

    assert (opened.formatted, opened.cluster_id, opened.recorded_owner) == (True, key.cluster_id, None)
    assert key.verdict["suitable"] is True
    assert world.flaky.writes == [claim_key(key.cluster_id, ControllerEpoch(0)), CLUSTER_KEY]

    again = await world.open()
    assert (again.formatted, again.cluster_id) == (False, opened.cluster_id)
    assert world.examined == 1


async def test_what_a_doctor_left_behind_does_not_count(world: PrefixWorld) -> None:
    await world.flaky.inner.put("doctor/1700000000000-0a1b/race", [b"x"])
    assert (await world.open()).formatted


async def test_foreign_data_is_left_alone(world: PrefixWorld) -> None:
    await world.flaky.inner.put("photos/cat.jpg", [b"x"])
    with pytest.raises(StoreUnsuitable, match="photos/cat.jpg"):
        await world.open()
    assert world.flaky.writes == []


async def test_an_unsuitable_store_is_not_formatted(world: PrefixWorld) -> None:
    world.suitable = False
    with pytest.raises(StoreUnsuitable, match="create-if-absent: 2 of 8 won"):
        await world.open()
    assert world.flaky.writes == []


@pytest.mark.parametrize("settings", [{"cluster_id": str(CLUSTER)}, {"adopt": str(CLUSTER)}])
async def test_a_named_cluster_is_never_made_in_silence(world: PrefixWorld, settings: dict[str, str]) -> None:
    with pytest.raises(StoreClusterMissing, match=CLUSTER):
        await world.open(**settings)
    assert (world.flaky.writes, world.examined) == ([], 0)


async def test_anothers_cluster_is_not_the_named_one(world: PrefixWorld) -> None:
    await world.make()
    with pytest.raises(StoreClusterMissing, match=CLUSTER):
        await world.open(cluster_id="somebodyelsescluster00")


async def test_a_race_for_an_empty_prefix_makes_one_cluster(world: PrefixWorld) -> None:
    world.flaky.fates.append("lost")
    first, second = await asyncio.gather(world.open(), world.open())
    assert first.cluster_id == second.cluster_id


async def test_a_newer_format_is_left_alone(world: PrefixWorld) -> None:
    await world.flaky.inner.put(CLUSTER_KEY, [json.dumps({"formatVersion": 2, "new": "words"}).encode()])
    with pytest.raises(FormatTooNew):
        await world.open()
    assert world.flaky.writes == []


@pytest.mark.parametrize("owner", [None, "stranger"])
async def test_a_stranger_is_refused_and_told_the_cluster_id(world: PrefixWorld, owner: str | None) -> None:
    await world.make(owner="uid")
    with pytest.raises(StoreOwnedByAnother, match=CLUSTER):
        await world.open(owner=owner)
    with pytest.raises(StoreOwnedByAnother):
        await world.open(owner=owner, adopt="another cluster's id..")
    assert world.flaky.writes == []


async def test_the_owner_is_let_in_whatever_else_it_says(world: PrefixWorld) -> None:
    await world.make(owner="uid")
    assert (await world.open(owner="uid", cluster_id=CLUSTER, adopt=CLUSTER)).recorded_owner == "uid"


async def test_an_unowned_cluster_takes_an_owner(world: PrefixWorld) -> None:
    await world.make()
    assert (await world.open(owner="uid")).recorded_owner is None


@pytest.mark.looptime
async def test_a_cluster_whose_lease_is_silent_is_adopted(world: PrefixWorld) -> None:
    await world.make(owner="uid")
    before = asyncio.get_running_loop().time()
    assert (await world.open(owner="new", adopt=CLUSTER)).recorded_owner == "uid"
    assert asyncio.get_running_loop().time() - before >= 15
    assert world.flaky.writes == []


@pytest.mark.looptime
async def test_a_cluster_whose_lease_is_renewed_is_not_adopted(world: PrefixWorld) -> None:
    await world.make(owner="uid")

    async def renew() -> None:
        for number in range(100):
            await world.flaky.inner.put(lease_key(CLUSTER), [str(number).encode()])
            await asyncio.sleep(5)

    world.tasks.spawn(renew(), name="renew")
    with pytest.raises(StoreOwnedByAnother, match="lease is renewed"):
        await world.open(owner="new", adopt=CLUSTER)


@pytest.mark.looptime
async def test_an_adopted_cluster_has_its_new_owner_recorded(world: PrefixWorld) -> None:
    await world.make(owner="uid")
    opened = await world.open(owner="new", adopt=CLUSTER)
    controller, publisher = world.controller("adopter")
    await controller.start(owner="new", recorded_owner=opened.recorded_owner)

    assert publisher.image.prefix_owner == "new"
    with pytest.raises(StoreOwnedByAnother):
        await world.open(owner="uid")


async def test_a_cluster_that_is_being_erased_is_not_opened(world: PrefixWorld) -> None:
    await world.make()
    await world.flaky.inner.put(erasing_key(CLUSTER), [b'{"owner": null}'])
    with pytest.raises(StoreUnsuitable, match="automq erase"):
        await world.open()


@pytest.mark.looptime
async def test_an_outage_is_waited_out(world: PrefixWorld) -> None:
    world.flaky.is_down = True
    opening = asyncio.ensure_future(world.open())
    await asyncio.sleep(3600)
    world.flaky.is_down = False
    assert (await opening).formatted
    assert world.store_errors[-1] is None


def test_the_tests_cluster_id_is_one() -> None:
    assert ClusterId(CLUSTER) == CLUSTER
    assert len(CLUSTER) == 22


async def test_b1_a_start_reads_every_slot_and_snapshot_once(world: PrefixWorld) -> None:
    """The owner and all else that is checked before the claim come from the log that is gone on with after it."""
    await world.make(owner="uid")
    settings = ControllerSettings(snapshot_records=15)
    before, _ = world.controller("before", settings=settings)
    await before.start(owner="uid")
    for _ in range(20):
        await before.allocate_producer_ids(NodeId(1), BrokerEpoch(1))
        await asyncio.sleep(0.1)
    await before.close()
    reads: Counter[str] = Counter()
    get = world.flaky.get

    async def counted(key: str) -> bytes:
        reads[key] += 1
        return await get(key)

    world.flaky.get = counted  # type: ignore[method-assign]
    opened = await world.open(owner="uid")
    controller, publisher = world.controller("next")
    await controller.start(
        owner="uid", recorded_owner=opened.recorded_owner, known=opened.loaded, above=opened.newest_epoch
    )

    read = {key: count for key, count in reads.items() if "/meta/log/" in key or "/meta/snapshots/" in key}
    assert any("/meta/snapshots/" in key for key in read)
    assert len(read) > 1
    assert set(read.values()) == {1}
    assert publisher.image.prefix_owner == "uid"
