"""Members, rebalances and lag of groups, bounded and in turns."""

import asyncio

from automq.coordinators.group.group_metrics import LOOKED_AT_PER_TURN, GroupMetrics
from automq.coordinators.group.model import CommittedOffset, GroupSettings, OffsetStored
from automq.coordinators.group.shard import GroupShard
from automq.runtime.telemetry import Metrics
from tests.support.group_world import GroupWorld


def committed(shard: GroupShard, group: str, topic: str, partition: int, offset: int) -> None:
    stored = CommittedOffset(offset=offset, leader_epoch=-1, metadata="", commit_ms=0, expire_ms=None)
    shard.replay(OffsetStored(group, topic, partition, stored))
    shard._group_or_new(group)


def measured(shard: GroupShard, *, groups_max: int = 10, ends: dict[tuple[str, int], int] | None = None) -> Metrics:
    metrics = Metrics()
    known = ends or {}
    GroupMetrics(
        metrics,
        groups_max=groups_max,
        sources=lambda: [shard],
        end_offset=lambda topic, index: known.get((topic, index)),
    )
    return metrics


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


async def test_lag_is_what_is_behind_over_the_partitions_of_a_topic() -> None:
    shard = GroupShard()
    committed(shard, "billing", "orders", 0, 400)
    committed(shard, "billing", "orders", 1, 7)
    committed(shard, "billing", "elsewhere", 0, 1)
    # Committed further than the log goes: nobody is ahead of the end.
    committed(shard, "billing", "ahead", 0, 50)
    ends = {("orders", 0): 1001, ("orders", 1): 10, ("ahead", 0): 10}
    metrics = measured(shard, ends=ends)
    await metrics.render_in_turns()

    assert value(metrics, "automq_group_lag", group="billing", topic="orders") == 604
    assert value(metrics, "automq_group_lag", group="billing", topic="ahead") == 0
    assert value(metrics, "automq_group_lag", group="billing", topic="elsewhere") == 0


async def test_members_states_and_rebalances_are_shown() -> None:
    world = GroupWorld(GroupSettings(initial_rebalance_delay_ms=0))
    world.join()
    world.join()
    world.advance(0)
    metrics = measured(world.shard)
    await metrics.render_in_turns()

    assert value(metrics, "automq_group_members", group="g") == 2
    assert value(metrics, "automq_group_rebalances_total", group="g") == 1
    assert value(metrics, "automq_groups", state="CompletingRebalance") == 1
    assert value(metrics, "automq_groups", state="Stable") == 0


async def test_groups_beyond_the_limit_are_only_counted() -> None:
    shard = GroupShard()
    for number in range(8):
        committed(shard, f"g{number}", "orders", 0, 1)
    metrics = measured(shard, groups_max=3, ends={("orders", 0): 2})
    page = (await metrics.render_in_turns()).decode()

    assert page.count("automq_group_lag{") == page.count("automq_group_members{") == 3
    assert value(metrics, "automq_groups_without_metrics") == 5
    assert value(metrics, "automq_groups", state="Empty") == 8


async def test_limit_of_none_switches_them_off() -> None:
    shard = GroupShard()
    committed(shard, "g", "orders", 0, 1)
    metrics = measured(shard, groups_max=0)
    page = (await metrics.render_in_turns()).decode()

    assert "automq_group_members{" not in page
    assert value(metrics, "automq_groups_without_metrics") == 1


async def test_others_have_turns_while_many_offsets_are_counted() -> None:
    shard = GroupShard()
    for partition in range(LOOKED_AT_PER_TURN * 8):
        committed(shard, "wide", "orders", partition, 1)
    metrics = measured(shard, ends={("orders", 3): 6})
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.ensure_future(count_turns())
    await metrics.render_in_turns()
    counting.cancel()

    assert turns >= 8
    assert value(metrics, "automq_group_lag", group="wide", topic="orders") == 5


async def test_group_that_goes_while_it_is_counted_is_left_out() -> None:
    shard = GroupShard()
    for partition in range(LOOKED_AT_PER_TURN * 3):
        committed(shard, "going", "orders", partition, 1)
    committed(shard, "staying", "orders", 0, 1)
    metrics = measured(shard)
    scrape = asyncio.ensure_future(metrics.render_in_turns())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    for partition in range(LOOKED_AT_PER_TURN * 3):
        shard.replay(OffsetStored("going", "orders", partition, None))
    del shard.groups["going"]
    page = (await scrape).decode()

    assert 'automq_group_members{group="staying"}' in page
    assert 'automq_group_members{group="going"}' not in page
