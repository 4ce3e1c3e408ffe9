"""Large commands of a real controller keep the event loop for bounded turns, and are one change each."""

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import pytest

from automq.controller.model import ConfigAlteration, ConfigChange, ControllerSettings, PartitionsSpec, TopicSpec
from automq.controller.topics import PARTITIONS_MAX
from automq.metadata.change import MetadataChange
from automq.metadata.image import TOPIC_RESOURCE
from automq.protocol.errors import ApiError, ErrorCode
from tests.support.controller_world import ControllerWorld, controller_world
from tests.support.turns import check_turns

Work = Callable[[ControllerWorld], Awaitable[object]]


NAMES = [f"topic-{number}" for number in range(10_000)]
SPECS = [TopicSpec(name=name, partitions=1) for name in NAMES]
CHANGE = ConfigChange(name="retention.ms", operation=0, value="1000")
ALTERATIONS = [ConfigAlteration(resource_type=TOPIC_RESOURCE, resource_name=name, changes=[CHANGE]) for name in NAMES]
NO_SNAPSHOTS = ControllerSettings(snapshot_records=10**9, snapshot_bytes=10**9)


async def create(world: ControllerWorld) -> None:
    results = await world.controller.create_topics(SPECS)
    assert results[-1].error is None


async def create_wide(world: ControllerWorld) -> None:
    await world.controller.create_topics([TopicSpec(name="wide", partitions=PARTITIONS_MAX - 1)])


async def grow(world: ControllerWorld) -> None:
    (result,) = await world.controller.create_partitions([PartitionsSpec(name="wide", count=PARTITIONS_MAX)])
    assert result.error is None


async def alter(world: ControllerWorld) -> None:
    await world.controller.alter_configs(ALTERATIONS)


async def delete(world: ControllerWorld) -> None:
    await world.controller.delete_topics(NAMES)
    assert not world.metadata.image.topic_map


@pytest.mark.parametrize(
    "steps",
    [(create,), (create_wide,), (create_wide, grow), (create, alter), (create, delete)],
    # By name: an address would differ between the processes that share the tests.
    ids=lambda steps: "-".join(step.__name__ for step in steps),
)
async def test_b6_ten_thousand_topics_in_one_request_are_bounded_turns(steps: tuple[Work, ...]) -> None:
    async with AsyncExitStack() as stack:

        async def prepare() -> Callable[[], Awaitable[object]]:
            world = await stack.enter_async_context(controller_world(settings=NO_SNAPSHOTS))
            for step in steps[:-1]:
                await step(world)
            changes: list[MetadataChange] = []
            world.metadata.subscribe(changes.append)

            async def work() -> None:
                await steps[-1](world)
                assert len(changes) == 1

            return work

        await check_turns(prepare)


async def test_what_does_not_fit_into_one_change_is_refused_whole() -> None:
    numbers = "retention.ms retention.bytes segment.ms segment.bytes max.message.bytes flush.ms flush.messages"
    configs = dict.fromkeys(numbers.split(), "1048576") | {"leader.replication.throttled.replicas": "0:1," * 20 + "1:1"}
    specs = [TopicSpec(name=f"{number:a>249}", partitions=1, configs=configs) for number in range(10_000)]
    async with controller_world() as world:
        with pytest.raises(ApiError) as caught:
            await world.controller.create_topics(specs)
        assert caught.value.code == ErrorCode.POLICY_VIOLATION
        assert not world.metadata.image.topic_map
        await world.controller.create_topics([TopicSpec(name="t", partitions=1)])
