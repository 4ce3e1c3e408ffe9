"""Directed schedules about streams that change hands: which releases the commit check accepts."""

from collections.abc import Sequence

from automq.controller.model import Reassignment
from automq.ids import NodeId, Offset, StreamEpoch, StreamId
from automq.s3stream.model import CommitRequest, StreamRelease
from tests.sim.commit_world import CommitWorld, Puppet, RangeVerdict


async def released(world: CommitWorld, puppet: Puppet, stream: StreamId, *, move: int, end: int) -> bool:
    """`puppet` releases the stream, sealed at `end`, without committing anything of it; whether that is accepted."""
    release = StreamRelease(stream=stream, epoch=StreamEpoch(world.epoch_of(stream)), move=move, end=Offset(end))
    result = await world.controller.commit_objects(
        CommitRequest(objects=[], node=puppet.node, epoch=puppet.epoch, trim_to=0, recoverer=None, releasing=(release,))
    )
    return list(result.released) == [True]


async def moving(world: CommitWorld, stream: StreamId, replicas: Sequence[int] | None) -> int:
    """Somebody asks for it; the move's id, 0 where none is left."""
    wanted = None if replicas is None else [NodeId(node) for node in replicas]
    (result,) = await world.controller.moves.reassign([Reassignment(topic="orders", index=0, replicas=wanted)])
    assert result.error is None, result.error
    move = world.controller_image.moves.get(stream)
    return 0 if move is None else move.move


async def released_short_of_its_seal(world: CommitWorld) -> None:
    """The release of a stream arrives without what its owner has acknowledged last."""
    owner = await world.broker(1)
    await world.broker(2)
    stream = await world.stream(owner)
    owner.hold((stream, 0, 5))
    move = await moving(world, stream, [2])
    if await released(world, owner, stream, move=move, end=5):
        world.violation("a stream was released that does not end where it was sealed")
    await world.expect(RangeVerdict.ACCEPTED, await owner.commit((stream, 0, 0, 5), trim_to=1), "the owner's range")
    if not await released(world, owner, stream, move=await moving_anew(world, stream), end=5):
        world.violation("a stream was not released that ends where it was sealed")


async def moving_anew(world: CommitWorld, stream: StreamId) -> int:
    """The move is void by now, or still there."""
    move = world.controller_image.moves.get(stream)
    return move.move if move is not None else await moving(world, stream, [2])


async def released_for_a_move_that_was_given_up(world: CommitWorld) -> None:
    """A release is on its way when somebody thinks better of it, and wishes the stream to a third broker."""
    owner = await world.broker(1)
    await world.broker(2)
    await world.broker(3)
    stream = await world.stream(owner)
    former = await moving(world, stream, [2])
    await moving(world, stream, None)
    await moving(world, stream, [3])
    if await released(world, owner, stream, move=former, end=0):
        world.violation("a stream was released by a move that had been given up")


async def released_by_a_stranger(world: CommitWorld) -> None:
    """Somebody else releases what is to move."""
    owner, _target, stranger = await world.broker(1), await world.broker(2), await world.broker(3)
    stream = await world.stream(owner)
    move = await moving(world, stream, [2])
    if await released(world, stranger, stream, move=move, end=0):
        world.violation("a stream was released by a broker that does not own it")


async def released_to_one_that_stops(world: CommitWorld) -> None:
    """The target of a move has wished to stop since: nobody would open the stream there."""
    owner, target, _other = await world.broker(1), await world.broker(2), await world.broker(3)
    stream = await world.stream(owner)
    move = await moving(world, stream, [2])
    await world.controller.moves.stop_broker(*target.name)
    if await released(world, owner, stream, move=move, end=0):
        world.violation("a stream was released to a broker that stops")


SCHEDULES = {
    "released_short_of_its_seal": released_short_of_its_seal,
    "released_for_a_move_that_was_given_up": released_for_a_move_that_was_given_up,
    "released_by_a_stranger": released_by_a_stranger,
    "released_to_one_that_stops": released_to_one_that_stops,
}
