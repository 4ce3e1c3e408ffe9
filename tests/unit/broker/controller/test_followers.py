"""Brokers that follow the controller: what they are given, and who of them counts as there."""

import asyncio

import pytest

from automq.controller.followers import LIVE_S, WAIT_S_MAX, Followers
from automq.ids import ControllerEpoch, NodeId
from automq.metadata.log_format import LogPosition
from automq.replicated.machine import LogFailed
from tests.support.metadata_worlds import LoopClock

pytestmark = pytest.mark.looptime

TWO, THREE = NodeId(2), NodeId(3)


def begun() -> Followers:
    made = Followers(LoopClock())
    made.begin(10)
    return made


def append(followers: Followers, sequence: int, first: int) -> None:
    followers.on_durable(LogPosition(ControllerEpoch(1), sequence), first, first + 1, [b"a", b"b"])


async def test_follower_is_given_what_comes_while_it_waits() -> None:
    followers = begun()
    asking = asyncio.ensure_future(followers.follow(TWO, 10, 1.0))
    await asyncio.sleep(0.1)
    append(followers, 0, 10)

    (slot,) = (await asking).slots

    assert (slot.epoch, slot.sequence, slot.body) == (1, 0, b"ab")


async def test_nothing_new_is_answered_in_time_and_says_that_the_controller_is_there() -> None:
    followers = begun()
    began = asyncio.get_running_loop().time()

    followed = await followers.follow(TWO, 10, 60.0)

    assert (list(followed.slots), followed.is_behind) == ([], False)
    assert asyncio.get_running_loop().time() - began == pytest.approx(WAIT_S_MAX)


async def test_what_was_appended_before_anybody_followed_is_read_from_the_bucket_and_the_rest_is_given() -> None:
    followers = begun()
    append(followers, 0, 10)
    assert (await followers.follow(TWO, 10, 0.0)).is_behind
    append(followers, 1, 11)
    assert [slot.sequence for slot in (await followers.follow(TWO, 11, 0.0)).slots] == [1]


async def test_who_has_not_asked_for_a_while_is_not_there() -> None:
    followers = begun()
    await followers.follow(THREE, 10, 0.0)
    await followers.follow(TWO, 10, 0.0)
    assert followers.live() == [2, 3]
    await asyncio.sleep(LIVE_S + 0.1)
    assert followers.live() == []


async def test_successor_is_named_at_once_to_whoever_waits() -> None:
    followers = begun()
    asking = asyncio.ensure_future(followers.follow(TWO, 10, 1.0))
    await asyncio.sleep(0)
    followers.name_successor(TWO)
    assert (await asking).successor == TWO
    assert (await followers.follow(THREE, 10, 1.0)).successor == TWO


async def test_a_lost_claim_answers_nobody_any_more() -> None:
    followers = begun()
    asking = asyncio.ensure_future(followers.follow(TWO, 10, 1.0))
    await asyncio.sleep(0)
    followers.fail(LogFailed("over"))
    with pytest.raises(LogFailed):
        await asking
    with pytest.raises(LogFailed):
        await Followers(LoopClock()).follow(TWO, 0, 1.0)
