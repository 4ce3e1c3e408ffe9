"""How often a broker says that it is there, and what it takes from the answers."""

import asyncio
from dataclasses import dataclass, field

import pytest

from automq.controller.heartbeats import Heartbeats
from automq.controller.link import Answer, Leader
from automq.controller.model import BrokerLoad, HeartbeatAnswer
from automq.controller.requests import Request
from automq.controller.sessions import heartbeat_interval_s
from automq.ids import BrokerEpoch, NodeId
from automq.metadata.publisher import MetadataPublisher
from automq.s3stream.model import BrokerFenced
from tests.support.metadata_worlds import LoopClock

pytestmark = pytest.mark.looptime

NODE, EPOCH = NodeId(2), BrokerEpoch(5)


@dataclass
class Controller:
    """Implements `ControllerLink`: answers at once, or, so many times, not at all."""

    session_s: float | None = 3.0
    losses: int = 0
    asked_at: list[float] = field(default_factory=list)
    leader: Leader | None = None

    async def ask(self, request: Request) -> Answer:
        self.asked_at.append(asyncio.get_running_loop().time())
        if self.losses:
            self.losses -= 1
            await asyncio.Event().wait()
        answer = HeartbeatAnswer(record_number=0, proof_age_s=0.0, session_s=self.session_s)
        return Answer(record_number=0, value=answer)


@dataclass
class Speaking:
    heartbeats: Heartbeats
    sessions: list[float]
    fences: list[BrokerFenced]


def speaking(controller: Controller, *, interval_s: float) -> Speaking:
    sessions: list[float] = []
    fences: list[BrokerFenced] = []
    made = Heartbeats(
        link=controller,
        metadata=MetadataPublisher(),
        node=NODE,
        epoch=EPOCH,
        load=BrokerLoad,
        on_fenced=fences.append,
        clock=LoopClock(),
        interval_s=interval_s,
        on_session=sessions.append,
    )
    return Speaking(made, sessions, fences)


async def said_within(speaking: Speaking, seconds: float) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(seconds):
            await speaking.heartbeats.run()


@pytest.mark.parametrize("session_s", [2.0, 2.5, 3.0, 4.0, 6.0, 600.0])
def test_three_heartbeats_fit_into_every_session_and_one_a_second_is_the_least(session_s: float) -> None:
    interval_s = heartbeat_interval_s(session_s)
    assert 3 * interval_s < session_s
    assert interval_s <= 1.0


async def test_two_lost_heartbeats_in_the_shortest_session_leave_time_for_a_third() -> None:
    controller = Controller(session_s=2.0)
    found = speaking(controller, interval_s=heartbeat_interval_s(2.0))
    await said_within(found, 3.2)
    last_heard = controller.asked_at[-1]
    controller.losses = 2
    await said_within(found, 1.9)
    # Both were given up, and the third one is heard within a session of the last.
    assert controller.losses == 0
    heard = controller.asked_at[-1]
    assert 0 < heard - last_heard - 0.2 < 2.0


async def test_the_controllers_session_decides_how_often_and_never_makes_it_rarer() -> None:
    controller = Controller(session_s=2.0)
    found = speaking(controller, interval_s=1.0)
    await said_within(found, 4.1)
    assert len(controller.asked_at) == 9
    assert set(found.sessions) == {2.0}
    controller.session_s, controller.asked_at = 600.0, []
    await said_within(found, 4.4)
    assert len(controller.asked_at) == 5
    seldom = speaking(Controller(session_s=600.0), interval_s=0.25)
    await said_within(seldom, 2.1)
    assert seldom.sessions == [600.0] * 9


async def test_a_controller_of_an_older_release_says_nothing_of_its_session() -> None:
    controller = Controller(session_s=None)
    found = speaking(controller, interval_s=0.75)
    await said_within(found, 3.1)
    assert len(controller.asked_at) == 5
    assert found.sessions == []
