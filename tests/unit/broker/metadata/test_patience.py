"""Operations that are tried until they succeed."""

import asyncio

import pytest

from automq.s3stream.ports import ObjectNotFound, StoreAccessDenied, StoreError
from tests.support.metadata_worlds import World

pytestmark = pytest.mark.looptime


async def test_failures_are_told_and_so_is_their_end() -> None:
    world, answers = World(), [StoreError("1"), StoreAccessDenied("2")]

    async def operation() -> str:
        if answers:
            raise answers.pop(0)
        return "done"

    assert await world.patience().retry_forever(operation) == "done"
    assert [str(error) for error in world.store_errors] == ["1", "2", "None"]


async def test_success_at_once_is_told_nobody() -> None:
    world = World()

    async def operation() -> int:
        return 1

    assert await world.patience().retry_forever(operation) == 1
    assert world.store_errors == []


async def test_a_missing_object_is_an_answer() -> None:
    world = World()

    async def operation() -> None:
        raise ObjectNotFound("key")

    with pytest.raises(ObjectNotFound):
        await world.patience().retry_forever(operation)


async def test_cancelling_gives_up() -> None:
    world = World()

    async def operation() -> None:
        raise StoreError("down")

    trying = asyncio.ensure_future(world.patience().retry_forever(operation))
    await asyncio.sleep(1000)
    trying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await trying
    # Ten seconds between two tries, at most.
    assert 100 <= len(world.store_errors) <= 250
