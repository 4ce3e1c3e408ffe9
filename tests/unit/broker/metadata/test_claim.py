"""Claims: dense, each given once, whatever the store forgets."""

import asyncio

import pytest

from automq.ids import ControllerEpoch
from automq.metadata.claim import claim_next_epoch, highest_claim
from automq.runtime.entropy import SeededEntropy
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
