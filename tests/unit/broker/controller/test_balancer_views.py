"""What the balancer tells of itself."""

from automq.controller.balancer import MOVES_MAX
from automq.controller.balancer_history import newest_moves
from automq.controller.balancer_views import view_of
from automq.controller.balancing import is_paused
from automq.controller.model import BalancerView, BrokerView
from automq.metadata.image import BROKER_RESOURCE, EMPTY
from automq.metadata.move_replay import DECIDED_KEPT_MAX
from automq.metadata.records import ConfigChanged, StreamsDeleted
from automq.metadata.replay import replay_all
from automq.metadata.snapshot_records import to_records
from tests.unit.broker.controller.test_balancing import A, B, World, cluster, told


async def view(world: World, moves_max: int = 1_000) -> BalancerView:
    return await view_of(world.balancing, world.image, enabled=True, moves_max=moves_max)


async def test_what_would_move_is_told_and_not_done() -> None:
    world = World(cluster(A, B))
    found = await view(world)
    assert world.recorded == []
    assert len(found.planned) == 5
    first = found.planned[0]
    assert (first.topic, first.source, first.target, first.at_ms, first.state) == ("t", A[0], B[0], None, "planned")
    assert "leads 2.00 of the mean number of partitions" in first.reason
    assert (found.moves, found.decided, found.moving, found.since_ms) == ([], 0, 0, 5)


async def test_what_was_moved_is_told_with_its_reason_the_newest_first() -> None:
    world = World(cluster(A, B))
    await world.balancing.step()
    found = await view(world)
    assert (found.decided, found.moving, found.planned) == (5, 5, [])
    assert {move.state for move in found.moves} == {"moving"}
    assert [move.partition for move in found.moves] == [move.index for _, move in newest_moves(world.image, 5)]
    assert all(move.reason and move.expected and move.at_ms == 5 for move in found.moves)
    gone = newest_moves(world.image, 1)[0][1].stream
    world.arrive()
    assert {move.state for move in (await view(world)).moves} == {"done"}
    world.image = replay_all(world.image, [StreamsDeleted(streams=(gone,))])
    assert [move.state for move in (await view(world)).moves] == ["elsewhere", *["done"] * 4]
    assert len((await view(world, 2)).moves) == 2
    assert (await view(world, 0)).moves == []


async def test_brokers_are_told_as_the_planner_sees_them() -> None:
    world = World(cluster(A, B))
    world.loads = {A[0]: told(of=range(10), each=1_000_000)}
    a, b = (await view(world)).brokers
    assert a == BrokerView(
        broker=A[0],
        rack=None,
        share=2.0,
        partitions=10,
        bytes_per_second=10_000_000,
        loop_busy=0.0,
        unuploaded_bytes=0,
        takes=True,
    )
    assert (b.broker, b.share, b.partitions) == (B[0], 0.0, 0)


async def test_a_thousand_moves_are_remembered() -> None:
    assert DECIDED_KEPT_MAX == 1_000
    world = World(cluster(A, B, count=4_000))
    for _ in range(30):
        await world.balancing.step()
        world.arrive()
        world.clock.now_s += 61
    found = await view(world)
    assert len(found.moves) == 1_000
    assert found.decided > 1_000
    assert sum(len(decided.moves) for decided in world.image.decisions) < 1_000 + MOVES_MAX


async def test_a_new_controller_tells_why_what_was_moved_before_it() -> None:
    world = World(cluster(A, B))
    await world.balancing.step()
    before = (await view(world)).moves
    assert before
    world.elect()
    after = await view(world)
    assert (after.moves, after.decided) == (before, 0)
    # And one that begins from a snapshot.
    world.image = replay_all(EMPTY, list(to_records(world.image)))
    assert (await view(world)).moves == before


async def test_somebody_pauses_for_all_brokers_only() -> None:
    image = cluster(A, B)
    change = ("automq.balancer.paused", "true")
    assert not is_paused(image)
    assert is_paused(replay_all(image, [ConfigChanged(BROKER_RESOURCE, "", (change,))]))
    assert not is_paused(replay_all(image, [ConfigChanged(BROKER_RESOURCE, "1", (change,))]))
