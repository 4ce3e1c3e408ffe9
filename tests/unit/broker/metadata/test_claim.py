"""Claims: dense, each given once, whatever the store forgets."""

import asyncio
import logging
from collections.abc import Sequence

import pytest

from automq.ids import ControllerEpoch
from automq.metadata.claim import (
    Claim,
    ClaimantAddress,
    claim_next_epoch,
    decode_claim,
    encode_claim,
    highest_claim,
    read_claim,
)
from automq.metadata.log_format import claim_key
from automq.metadata.refusal import StoreUnsuitable
from automq.metadata.sealed import seal
from automq.replicated.machine import LogFenced
from automq.runtime.entropy import SeededEntropy
from automq.s3stream.model import CorruptData, StoreDamaged
from automq.s3stream.ports import Buffer, ObjectInfo
from automq.s3stream.store.memory import MemoryStore
from tests.support.metadata_worlds import CLUSTER, NODE, FlakyStore, World

pytestmark = pytest.mark.looptime


async def claim(world: World, name: str) -> ControllerEpoch:
    return await claim_next_epoch(
        store=world.store,
        cluster_id=CLUSTER,
        node=NODE,
        entropy=SeededEntropy(name),
        patience=world.patience(name),
    )


async def test_nobody_has_claimed_a_new_cluster() -> None:
    world = World()
    assert await highest_claim(world.store, CLUSTER, world.patience()) == 0


async def test_claimants_at_once_get_an_epoch_each() -> None:
    world = World()
    epochs = await asyncio.gather(*(claim(world, f"claimant {number}") for number in range(5)))
    assert sorted(epochs) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("fate", ["lost", "refused", "conflict"])
async def test_a_claim_whose_answer_was_lost_is_one_claim(fate: str) -> None:
    world = World()
    assert isinstance(world.store, FlakyStore)
    world.store.fates.append(fate)
    assert await claim(world, "first") == 1
    assert await claim(world, "second") == 2


async def test_k4_strangers_among_the_claims_are_no_claims() -> None:
    world = World()
    assert await claim(world, "first") == 1
    for name in ("notes.txt~", "00000000000000000009.bak", "9"):
        await world.store.put(f"{CLUSTER}/meta/claims/{name}", [b""])
    assert await claim(world, "second") == 2


class Hiding(MemoryStore):
    """Its listings show nothing, at the first `times`."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.left = times
        self.requests = 0

    async def list(self, prefix: str, *, start_after: str = "", limit: int = 1_000_000) -> list[ObjectInfo]:
        self.requests += 1
        self.left -= 1
        return [] if self.left >= 0 else await super().list(prefix, start_after=start_after, limit=limit)

    async def create(self, key: str, body: Sequence[Buffer]) -> None:
        self.requests += 1
        await super().create(key, body)


async def test_k5_a_claim_that_one_listing_hides_is_passed_by() -> None:
    world = World(Hiding(0))
    for name in ("first", "second", "third"):
        await claim(world, name)
    store = world.store
    assert isinstance(store, Hiding)
    store.left = 1
    assert await claim(world, "fourth") == 4


async def test_k5_a_store_that_hides_its_claims_is_refused_after_a_few_quiet_tries(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = Hiding(0)
    world = World(store)
    for number in range(40):
        await claim(world, f"claimant {number}")
    caplog.set_level(logging.WARNING)
    store.left, store.requests = 1_000_000, 0
    started = asyncio.get_running_loop().time()

    with pytest.raises(StoreUnsuitable, match="listings do not show"):
        await claim(world, "the next")
    assert asyncio.get_running_loop().time() - started > 2
    assert store.requests < 20
    assert any("no listing shows it" in record.message for record in caplog.records)


class Overwriting(MemoryStore):
    """Takes every create for a put: it ignores the condition."""

    async def create(self, key: str, body: Sequence[Buffer]) -> None:
        await self.put(key, body)


async def test_case_23_a_store_that_creates_twice_is_refused_at_the_claim() -> None:
    world = World(Overwriting())
    with pytest.raises(StoreUnsuitable, match="created twice"):
        await claim(world, "first")
    assert [info.key for info in await world.store.list("")] == [claim_key(CLUSTER, ControllerEpoch(1))]


@pytest.mark.parametrize("fate", ["refused", "conflict"])
async def test_the_proof_waits_for_an_answer(fate: str) -> None:
    world = World()
    assert isinstance(world.store, FlakyStore)
    world.store.fates.extend(["ok", fate, fate])
    assert await claim(world, "first") == 1


async def test_f1_claim_that_is_half_of_ours_is_damage_and_not_somebody_elses() -> None:
    world = World()
    assert isinstance(world.store, FlakyStore)
    key = claim_key(CLUSTER, ControllerEpoch(1))

    world.store.fates.append("half")
    with pytest.raises(StoreDamaged, match="half a PUT") as caught:
        await claim(world, "first")
    assert caught.value.key == key


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"node": 1}', b'{"node": "x", "nonce": "y"}'])
def test_what_is_no_claim_is_damage(data: bytes) -> None:
    with pytest.raises(CorruptData):
        decode_claim("a/claim", data)


async def test_claim_names_where_other_brokers_find_the_claimant() -> None:
    world = World()
    epoch = await claim_next_epoch(
        store=world.store,
        cluster_id=CLUSTER,
        node=NODE,
        entropy=SeededEntropy("one"),
        patience=world.patience(),
        where=ClaimantAddress("broker-1.example", 9190),
    )

    found = await read_claim(world.store, CLUSTER, epoch, world.patience())

    assert found is not None
    assert (found.node, found.where) == (NODE, ClaimantAddress("broker-1.example", 9190))


@pytest.mark.parametrize(
    "data",
    [b'{"node": 1, "nonce": "n"}', seal({"node": 1, "nonce": "n", "owner": "me", "recordNumber": 7})],
    ids=["without a checksum", "without a version"],
)
def test_claims_of_former_versions_name_no_address(data: bytes) -> None:
    found = decode_claim("a/claim", data)

    assert (found.node, found.nonce, found.where) == (1, "n", None)


def test_claim_without_address_is_read_back() -> None:
    claim = Claim(NODE, "n", "me", 7)
    assert decode_claim("a/claim", encode_claim(claim)) == claim


async def test_in_a_contest_one_wins_and_nobody_claims_above_it() -> None:
    world = World()

    async def contest(name: str) -> ControllerEpoch | None:
        try:
            return await claim_next_epoch(
                store=world.store,
                cluster_id=CLUSTER,
                node=NODE,
                entropy=SeededEntropy(name),
                patience=world.patience(name),
                is_contest=True,
            )
        except LogFenced:
            return None

    won = await asyncio.gather(*(contest(f"candidate {number}") for number in range(5)))
    late = await contest("late")

    assert [epoch for epoch in won if epoch is not None] == [1]
    assert late is None
    assert await highest_claim(world.store, CLUSTER, world.patience()) == 1
