"""All directed schedules, and how one is run."""

import asyncio
import contextlib
from typing import Any

from tests.sim import coverage, memory
from tests.sim.broker_schedules import SCHEDULES as BROKER_SCHEDULES
from tests.sim.broker_world import BrokerWorld
from tests.sim.cluster_schedules import SCHEDULES as CLUSTER_SCHEDULES
from tests.sim.commit_schedules import SCHEDULES as COMMIT_SCHEDULES
from tests.sim.commit_world import CommitWorld
from tests.sim.compaction_schedules import SCHEDULES as COMPACTION_SCHEDULES
from tests.sim.damage_schedules import SCHEDULES as DAMAGE_SCHEDULES
from tests.sim.damage_world import DamageWorld
from tests.sim.limit_schedules import SCHEDULES as LIMIT_SCHEDULES
from tests.sim.metadata_schedules import SCHEDULES as METADATA_SCHEDULES
from tests.sim.metadata_world import MetadataWorld
from tests.sim.release_schedules import SCHEDULES as RELEASE_SCHEDULES
from tests.sim.upload_schedules import SCHEDULES as UPLOAD_SCHEDULES
from tests.sim.wal_schedules import SCHEDULES as WAL_SCHEDULES
from tests.sim.world import logs_to
from tests.support.sim_loop import run_world

# Simulated: a story that does not end is a finding, not a hang.
STORY_S_MAX = 1200.0

STORIES = {
    **BROKER_SCHEDULES,
    **CLUSTER_SCHEDULES,
    **WAL_SCHEDULES,
    **LIMIT_SCHEDULES,
    **UPLOAD_SCHEDULES,
    **COMPACTION_SCHEDULES,
}
COMMITS = {**COMMIT_SCHEDULES, **RELEASE_SCHEDULES}
NAMES = (*METADATA_SCHEDULES, *COMMITS, *STORIES, *DAMAGE_SCHEDULES)
assert len(set(NAMES)) == len(NAMES)


def run_schedule(name: str) -> list[str]:
    """The violations of a directed schedule. Call it in a process that ends (`tests.sim.isolation`)."""
    world, story = make_schedule(name)
    memory.watch()

    async def main() -> None:
        if isinstance(world, BrokerWorld):
            world.watching = asyncio.ensure_future(memory.look_on(world.cluster))
        async with asyncio.timeout(STORY_S_MAX):
            await story(world)
            await world.check()

    try:
        with logs_to(world.cluster) if isinstance(world, BrokerWorld) else contextlib.nullcontext():
            run_world(world.loop, main())
    except Exception as error:  # noqa: BLE001 - a story that cannot be told to its end is a finding
        world.violations.append(f"{type(error).__name__}: {error}")
    return world.violations


def run_counted(name: str) -> tuple[list[str], dict[str, int]]:
    """The violations of a directed schedule, and what it has reached."""
    coverage.watch()
    return run_schedule(name), coverage.counts()


def make_schedule(name: str) -> tuple[Any, Any]:
    """A fresh world, and what is to happen in it."""
    if name in METADATA_SCHEDULES:
        return MetadataWorld(name), METADATA_SCHEDULES[name]
    if name in COMMITS:
        return CommitWorld(name), COMMITS[name]
    if name in DAMAGE_SCHEDULES:
        story, settings = DAMAGE_SCHEDULES[name]
        return DamageWorld(name, settings=settings), story
    story, settings = STORIES[name]
    return BrokerWorld(name, settings=settings), story
