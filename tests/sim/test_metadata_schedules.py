"""Every directed schedule about the metadata log is harmless as long as all rules are kept."""

import pytest

from tests.sim.metadata_schedules import SCHEDULES
from tests.sim.metadata_world import MetadataWorld
from tests.support.sim_loop import run_world


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedule_is_harmless(name):
    world = MetadataWorld(1)

    async def main():
        await SCHEDULES[name](world)
        await world.check()

    try:
        run_world(world.loop, main())
    finally:
        world.loop.end()
    assert world.violations == []
