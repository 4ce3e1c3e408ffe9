"""What becomes of a fenced incarnation: it begins anew, waits for its successor, or ends."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable

import pytest

from automq.controller.brokers import register_broker
from automq.controller.failover import NOTHING_KNOWN, fence_dead
from automq.ids import BrokerEpoch, ControllerEpoch, NodeId
from automq.metadata.image import EMPTY, MetadataImage
from automq.metadata.lease import LeaseContent
from automq.metadata.records import BrokerUnregistered
from automq.metadata.replay import replay_all
from automq.runtime.tasks import Tasks
from automq.s3stream.model import StoreDamaged
from automq.s3stream.store.memory import MemoryStore
from automq.server.after_fence import GONE_S, AfterFence, Fate, Former, MayRejoin, fate_of
from automq.server.lifecycle.states import Reason, Refused
from tests.support.metadata_worlds import CLUSTER, LoopClock, SeededEntropy

pytestmark = pytest.mark.looptime

US, OTHER = NodeId(1), NodeId(2)
HELD = ControllerEpoch(7)


def registered(image: MetadataImage, node: NodeId, drawn: bytes = b"") -> MetadataImage:
    return replay_all(image, register_broker(image, node, rack=None, endpoints=(), incarnation=drawn).records)


def fenced(image: MetadataImage, node: NodeId) -> MetadataImage:
    return replay_all(image, fence_dead(image, [(node, image.broker_map[node].epoch)], NOTHING_KNOWN))


BOTH = registered(registered(EMPTY, US), OTHER)
OURS = BOTH.broker_map[US].epoch
SILENT = fenced(BOTH, US)
SUPERSEDED = registered(BOTH, US)


def test_the_metadata_tell_what_became_of_an_incarnation() -> None:
    assert fate_of(BOTH, US, OURS) is Fate.OPEN
    assert fate_of(SILENT, US, OURS) is Fate.ALONE
    assert fate_of(SUPERSEDED, US, OURS) is Fate.SUPERSEDED
    assert fate_of(registered(SILENT, US), US, OURS) is Fate.SUPERSEDED
    assert fate_of(fenced(SUPERSEDED, US), US, OURS) is Fate.SUCCESSOR_FENCED
    assert fate_of(replay_all(SILENT, [BrokerUnregistered(node=US)]), US, OURS) is Fate.FORGOTTEN
    assert fate_of(EMPTY, US, OURS) is Fate.FORGOTTEN
    # Fenced before it knew of a registration: which of them would be its own?
    for image in (EMPTY, BOTH, SILENT, SUPERSEDED):
        assert fate_of(image, US, None) is Fate.OPEN
        assert fate_of(image, US, None, b"drawn") is Fate.OPEN


def test_a_registration_whose_answer_was_lost_is_known_by_what_was_drawn_for_it() -> None:
    first = registered(BOTH, US, b"drawn")
    assert fate_of(first, US, None, b"drawn") is Fate.OPEN
    assert fate_of(fenced(first, US), US, None, b"drawn") is Fate.ALONE
    # Of a process that begins anew: what it knows is its former epoch.
    assert fate_of(fenced(first, US), US, OURS, b"drawn") is Fate.ALONE
    newer = registered(first, US, b"newer")
    assert fate_of(newer, US, None, b"drawn") is Fate.SUPERSEDED
    assert fate_of(fenced(newer, US), US, None, b"drawn") is Fate.SUCCESSOR_FENCED


class Aftermath:
    """A fenced process that looks at a log whose image the test sets, and at a lease that is renewed while wanted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, epoch: BrokerEpoch | None = OURS) -> None:
        self.image = BOTH
        self.damages = 0
        self.looks = 0
        self.is_renewed = True
        self.stop_asked = asyncio.Event()
        self.crashes: list[BaseException] = []
        self.leases: list[LeaseContent] = []
        self.tasks = Tasks("after", on_crash=lambda _name, error: self.crashes.append(error))
        self.store = MemoryStore()
        self.after = AfterFence(
            store=self.store,
            cluster_id=CLUSTER,
            node=US,
            epoch=epoch,
            incarnation=b"",
            held_epoch=HELD,
            clock=LoopClock(),
            entropy=SeededEntropy("after"),
            tasks=self.tasks,
        )
        monkeypatch.setattr(self.after._loader, "read", self._read)
        monkeypatch.setattr(self.after._loader, "read_on", self._read)

    async def _read(self, _known: object = None) -> object:
        self.looks += 1
        if self.damages:
            self.damages -= 1
            raise StoreDamaged("the metadata log is damaged", key="k")
        return _Read(self.image)

    def begin(self) -> "asyncio.Task[None]":
        _ = self.tasks.spawn(self._renew(), name="renew")
        waiting = self.after.wait("fenced", known=None, stop_asked=self.stop_asked, on_lease=self.leases.append)
        return asyncio.ensure_future(waiting)

    async def _renew(self) -> None:
        for renewal in range(10_000):
            if self.is_renewed:
                await self.store.put(f"{CLUSTER}/meta/lease", [b"%d" % renewal])
            await asyncio.sleep(1)


@dataclasses.dataclass
class _Read:
    image: MetadataImage


Make = Callable[..., Aftermath]


@pytest.fixture
async def aftermath(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Make]:
    made: list[Aftermath] = []

    def make(epoch: BrokerEpoch | None = OURS) -> Aftermath:
        made.append(Aftermath(monkeypatch, epoch))
        return made[-1]

    yield make
    for each in made:
        await each.tasks.close()
        assert each.crashes == []


async def test_who_was_only_silent_may_begin_anew_as_soon_as_the_log_says_so(aftermath: Make) -> None:
    after = aftermath()
    waiting = after.begin()
    await asyncio.sleep(20)
    assert not waiting.done(), "nothing is recorded yet: a newer process may be about to register"
    after.image = SILENT
    with pytest.raises(MayRejoin, match="fenced") as rejoin:
        await asyncio.wait_for(waiting, 11)
    assert rejoin.value.former == Former(epoch=OURS, held_epoch=HELD)


async def test_who_was_superseded_waits_for_as_long_as_its_successor_is_there(aftermath: Make) -> None:
    after = aftermath()
    after.image = SUPERSEDED
    waiting = after.begin()
    await asyncio.sleep(3600)
    assert not waiting.done()
    assert after.looks < 600, "the log is not looked at all the time"
    after.image = fenced(SUPERSEDED, US)
    began = asyncio.get_running_loop().time()
    with pytest.raises(Refused, match="is fenced itself") as refused:
        await waiting
    assert refused.value.reason is Reason.FENCED
    assert asyncio.get_running_loop().time() - began > GONE_S


async def test_a_successor_that_registers_anew_is_waited_for_again(aftermath: Make) -> None:
    after = aftermath()
    after.image = fenced(SUPERSEDED, US)
    waiting = after.begin()
    for _ in range(3):
        await asyncio.sleep(GONE_S - 1)
        after.image = registered(after.image, US)
        await asyncio.sleep(30)
        assert not waiting.done()
        after.image = fenced(after.image, US)
    with pytest.raises(Refused):
        await asyncio.wait_for(waiting, 60)


async def test_who_was_forgotten_ends(aftermath: Make) -> None:
    after = aftermath()
    after.image = replay_all(SILENT, [BrokerUnregistered(node=US)])
    with pytest.raises(Refused, match="not registered"):
        await asyncio.wait_for(after.begin(), 5)


@pytest.mark.parametrize("epoch", [OURS, None])
async def test_where_nobody_renews_the_lease_the_process_ends(aftermath: Make, epoch: BrokerEpoch | None) -> None:
    after = aftermath(epoch)
    waiting = after.begin()
    await asyncio.sleep(60)
    assert not waiting.done()
    after.is_renewed = False
    with pytest.raises(Refused, match="no longer renews its lease"):
        await asyncio.wait_for(waiting, GONE_S + 5)


async def test_a_log_that_cannot_be_read_decides_nothing(aftermath: Make) -> None:
    after = aftermath()
    after.image, after.damages = SILENT, 3
    waiting = after.begin()
    await asyncio.sleep(25)
    assert not waiting.done()
    with pytest.raises(MayRejoin):
        await asyncio.wait_for(waiting, 20)


async def test_told_to_stop_it_stops_whatever_became_of_it(aftermath: Make) -> None:
    after = aftermath()
    waiting = after.begin()
    await asyncio.sleep(5)
    after.stop_asked.set()
    await asyncio.wait_for(waiting, 0.1)
