"""A real controller, in virtual time, and brokers that speak or fall silent."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from automq.controller.damage import Damage
from automq.controller.link import Answer
from automq.controller.model import BrokerLoad, ControllerSettings, HeartbeatAnswer, PartitionLoad
from automq.controller.requests import Heartbeat, UnregisterBroker
from automq.controller.service import Controller
from automq.controller.serving import answer
from automq.ids import BrokerEpoch, NodeId, StreamId
from automq.metadata.image import MetadataImage
from automq.metadata.publisher import MetadataPublisher
from automq.metadata.records import WalDescriptor
from automq.protocol.errors import ApiError, ErrorCode
from automq.s3stream.model import RecoveredLog
from tests.support.metadata_worlds import NODE, FlakyStore, World

pytestmark = pytest.mark.looptime

OTHER, THIRD, FOURTH = NodeId(2), NodeId(3), NodeId(4)
SESSION_S = 3.0


class Cluster:
    """A controller with its own broker, and others that send heartbeats as long as they are `alive`."""

    controller: Controller
    published: MetadataPublisher

    def __init__(self) -> None:
        self.world = World()
        self.alive: dict[NodeId, BrokerEpoch] = {}
        self.answers: dict[NodeId, HeartbeatAnswer] = {}
        self.load = BrokerLoad()
        self._speaking: list[asyncio.Task[None]] = []

    async def begin(self) -> None:
        """In the test itself: only there time is virtual."""
        self.controller, self.published = await self.world.started("first")
        await self.join(NODE, speaks=False)

    @property
    def image(self) -> MetadataImage:
        return self.published.image

    async def join(self, node: NodeId, *, wal: WalDescriptor | None = None, speaks: bool = True) -> BrokerEpoch:
        where = WalDescriptor() if wal is None else wal
        registration = await self.controller.register_broker(node, rack=None, endpoints=(), wal=where)
        for log in registration.wals:
            await self.controller.wal_recovered(log.node, log.epoch, recoverer=(node, registration.epoch))
        await self.controller.open_streams(node, registration.epoch)
        if speaks:
            self.alive[node] = registration.epoch
            self._speaking.append(self.world.tasks.spawn(self._speak(node, registration.epoch), name=f"broker {node}"))
        return registration.epoch

    async def _speak(self, node: NodeId, epoch: BrokerEpoch) -> None:
        while self.alive.get(node) == epoch:
            self.answers[node] = await self.heartbeat(node, epoch)
            await asyncio.sleep(1)

    async def heartbeat(self, node: NodeId, epoch: BrokerEpoch) -> HeartbeatAnswer:
        found = await self.ask(Heartbeat(node, epoch, self.load, 0))
        assert isinstance(found.value, HeartbeatAnswer)
        return found.value

    async def ask(self, request: Heartbeat | UnregisterBroker) -> Answer:
        return await answer(self.controller, request)

    def fall_silent(self, *nodes: NodeId) -> None:
        for node in nodes:
            del self.alive[node]

    def is_fenced(self, node: NodeId) -> bool:
        return self.image.broker_map[node].fenced


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    made = Cluster()
    yield made
    made.alive.clear()
    await made.world.close()
    assert made.world.crashes == []


async def test_a_silent_broker_is_fenced_after_a_session_and_somebody_recovers_its_log(cluster: Cluster) -> None:
    await cluster.begin()
    epoch = await cluster.join(OTHER)
    third = await cluster.join(THIRD)
    await asyncio.sleep(10)
    assert not cluster.is_fenced(OTHER)
    cluster.fall_silent(OTHER)
    await asyncio.sleep(SESSION_S - 1.1)
    assert not cluster.is_fenced(OTHER)
    await asyncio.sleep(1.5)
    assert cluster.is_fenced(OTHER)
    assert not cluster.is_fenced(THIRD)
    assert cluster.image.wals[OTHER, epoch].recoverer in ((THIRD, third), (NODE, cluster.image.broker_map[NODE].epoch))


async def test_where_a_broker_is_alone_nobody_looks_and_nothing_is_written(cluster: Cluster) -> None:
    await cluster.begin()
    writes = cluster.world.store.writes  # type: ignore[attr-defined]
    before = [key for key in writes if "lease" not in key]
    await asyncio.sleep(600)
    assert [key for key in writes if "lease" not in key] == before
    assert not cluster.is_fenced(NODE)


async def test_an_answer_says_how_old_the_proof_is_and_what_is_durable(cluster: Cluster) -> None:
    await cluster.begin()
    epoch = await cluster.join(OTHER, speaks=False)
    found = await cluster.heartbeat(OTHER, epoch)
    assert not found.is_fenced
    assert found.record_number == cluster.image.record_number
    assert found.proof_age_s is not None
    assert found.proof_age_s < 0.1
    assert found.session_s == SESSION_S
    await asyncio.sleep(2.5)
    # An idle controller looks for a fence once a second: its proof is never much older.
    again = await cluster.heartbeat(OTHER, epoch)
    assert again.proof_age_s is not None
    assert again.proof_age_s <= 1.0


async def test_heartbeats_wait_for_no_append(cluster: Cluster) -> None:
    """While the store takes nothing they are answered all the same, with a proof that grows old."""
    await cluster.begin()
    epoch = await cluster.join(OTHER)
    store = cluster.world.store
    assert isinstance(store, FlakyStore)
    store.is_down = True
    stuck = cluster.world.tasks.spawn(cluster.controller.allocate_producer_ids(OTHER, epoch), name="stuck")
    await asyncio.sleep(5)
    assert not stuck.done()
    found = await cluster.heartbeat(OTHER, epoch)
    assert found.proof_age_s is not None
    assert found.proof_age_s >= 4
    store.is_down = False
    await stuck
    assert not cluster.is_fenced(OTHER)


async def test_a_broker_that_is_not_the_current_incarnation_is_told_so(cluster: Cluster) -> None:
    await cluster.begin()
    first = await cluster.join(OTHER, speaks=False)
    second = await cluster.join(OTHER, speaks=False)
    assert (await cluster.heartbeat(OTHER, first)).is_fenced
    assert not (await cluster.heartbeat(OTHER, second)).is_fenced
    assert (await cluster.heartbeat(FOURTH, first)).is_fenced


async def test_when_most_fall_silent_the_controller_first_proves_that_it_leads(cluster: Cluster) -> None:
    await cluster.begin()
    for node in (OTHER, THIRD, FOURTH):
        await cluster.join(node)
    await asyncio.sleep(2)
    cluster.fall_silent(OTHER, THIRD, FOURTH)
    await asyncio.sleep(SESSION_S + 1)
    assert not any(map(cluster.is_fenced, (OTHER, THIRD, FOURTH)))
    await asyncio.sleep(SESSION_S)
    assert all(map(cluster.is_fenced, (OTHER, THIRD, FOURTH)))


async def test_a_controller_that_is_cut_off_with_most_silent_fences_nobody(cluster: Cluster) -> None:
    await cluster.begin()
    for node in (OTHER, THIRD):
        await cluster.join(node)
    store = cluster.world.store
    assert isinstance(store, FlakyStore)
    cluster.fall_silent(OTHER, THIRD)
    store.is_down = True
    await asyncio.sleep(30)
    assert not cluster.is_fenced(OTHER)
    store.is_down = False
    # By the time the store is back they speak again.
    for node in (OTHER, THIRD):
        await cluster.heartbeat(node, cluster.image.broker_map[node].epoch)
    await asyncio.sleep(0.5)
    assert not cluster.is_fenced(OTHER)
    assert not cluster.is_fenced(THIRD)


async def test_a_new_controller_gives_everybody_a_whole_session(cluster: Cluster) -> None:
    await cluster.begin()
    await cluster.join(OTHER)
    await cluster.join(THIRD)
    cluster.fall_silent(OTHER)
    await asyncio.sleep(SESSION_S - 0.8)
    second, published = await cluster.world.started("second")
    speaking = dict(cluster.alive)
    await cluster.controller.close()
    cluster.controller, cluster.published = second, published
    assert speaking == cluster.alive
    await asyncio.sleep(SESSION_S - 0.5)
    assert not cluster.is_fenced(OTHER)
    await asyncio.sleep(1)
    assert cluster.is_fenced(OTHER)
    assert not cluster.is_fenced(THIRD)


async def test_a_recoverer_that_falls_silent_is_replaced(cluster: Cluster) -> None:
    await cluster.begin()
    logs = {node: await cluster.join(node) for node in (OTHER, THIRD, FOURTH)}
    cluster.load = BrokerLoad(in_bytes_per_second=1_000)
    await asyncio.sleep(2)
    cluster.fall_silent(OTHER)
    await asyncio.sleep(SESSION_S + 0.5)
    log = OTHER, logs[OTHER]
    first = cluster.image.wals[log].recoverer
    assert first == (NODE, cluster.image.broker_map[NODE].epoch), "of whom no load is known"
    await cluster.controller.fence_broker(*log, recoverer=(THIRD, logs[THIRD]))
    cluster.fall_silent(THIRD)
    await asyncio.sleep(SESSION_S + 0.5)
    assert cluster.is_fenced(THIRD)
    now = cluster.image.wals[log].recoverer
    assert now is not None
    assert now[0] in (NODE, FOURTH)


async def test_what_a_heartbeat_says_nothing_of_is_as_before(cluster: Cluster) -> None:
    await cluster.begin()
    await cluster.join(OTHER)
    heaviest = [PartitionLoad(StreamId(7), 5, 3)]
    cluster.load = BrokerLoad(in_bytes_per_second=5, heaviest=heaviest)
    await asyncio.sleep(1.5)
    cluster.load = BrokerLoad(in_bytes_per_second=6)
    await asyncio.sleep(1.5)
    told = cluster.controller.members.around.loads[OTHER]
    assert told == BrokerLoad(in_bytes_per_second=6, heaviest=heaviest)
    cluster.load = BrokerLoad(heaviest=[])
    await asyncio.sleep(1.5)
    assert cluster.controller.members.around.loads[OTHER].heaviest == []


async def test_a_log_out_of_reach_is_named_and_gets_its_recoverer_when_one_comes(cluster: Cluster) -> None:
    await cluster.begin()
    volume = WalDescriptor("block", "vol-1", 3)
    epoch = await cluster.join(OTHER, wal=volume)
    await cluster.join(THIRD)
    cluster.fall_silent(OTHER)
    await asyncio.sleep(SESSION_S + 1)
    assert cluster.image.wals[OTHER, epoch].recoverer == (OTHER, epoch)
    told = cluster.controller.damage_summary()
    assert told is not None
    assert "broker 2" in told
    assert "vol-1" in told
    fourth = await cluster.join(FOURTH, wal=volume)
    await asyncio.sleep(0.5)
    assert cluster.image.wals[OTHER, epoch].recoverer == (FOURTH, fourth)
    assert cluster.controller.damage_summary() is None


async def code_of(cluster: Cluster, node: NodeId, epoch: BrokerEpoch | None) -> ErrorCode:
    found = await cluster.ask(UnregisterBroker(node, epoch))
    if found.error is None:
        return ErrorCode.NONE
    assert isinstance(found.error, ApiError)
    return found.error.code


async def test_a_node_that_lives_is_not_forgotten_and_one_that_is_gone_is_ended_first(cluster: Cluster) -> None:
    await cluster.begin()
    epoch = await cluster.join(OTHER)
    assert await code_of(cluster, OTHER, epoch) is ErrorCode.INVALID_REQUEST
    assert await code_of(cluster, OTHER, None) is ErrorCode.INVALID_REQUEST
    assert await code_of(cluster, OTHER, BrokerEpoch(99)) is ErrorCode.STALE_BROKER_EPOCH
    assert await code_of(cluster, FOURTH, epoch) is ErrorCode.BROKER_ID_NOT_REGISTERED
    assert not cluster.is_fenced(OTHER)

    cluster.fall_silent(OTHER)
    forgetting = cluster.world.tasks.spawn(code_of(cluster, OTHER, epoch), name="forget")
    await asyncio.sleep(1.5)
    assert cluster.is_fenced(OTHER), "sooner than its session ends"
    recoverer = cluster.image.wals[OTHER, epoch].recoverer
    assert recoverer is not None
    assert not forgetting.done()
    await cluster.controller.wal_recovered(OTHER, epoch, recoverer=recoverer, recovered=RecoveredLog(fence=0))
    assert await forgetting is ErrorCode.NONE
    assert cluster.image.broker(OTHER) is None


async def test_forgetting_may_be_asked_again_where_it_took_too_long(cluster: Cluster) -> None:
    await cluster.begin()
    epoch = await cluster.join(OTHER, speaks=False)
    assert await code_of(cluster, OTHER, epoch) is ErrorCode.REQUEST_TIMED_OUT
    recoverer = cluster.image.wals[OTHER, epoch].recoverer
    assert recoverer is not None
    await cluster.controller.wal_recovered(OTHER, epoch, recoverer=recoverer)
    assert await code_of(cluster, OTHER, epoch) is ErrorCode.NONE
    assert await code_of(cluster, OTHER, epoch) is ErrorCode.BROKER_ID_NOT_REGISTERED


@pytest.mark.parametrize("with_epoch", [True, False])
async def test_forgetting_a_node_whose_log_is_damaged_names_the_damage_at_once(
    cluster: Cluster, with_epoch: bool
) -> None:
    await cluster.begin()
    epoch = await cluster.join(OTHER)
    cluster.fall_silent(OTHER)
    await asyncio.sleep(SESSION_S + 1)
    recoverer = cluster.image.wals[OTHER, epoch].recoverer
    assert recoverer is not None
    found = Damage(key="c/wal/2/2/7", reason="corrupt WAL slot")
    asked = cluster.world.tasks.spawn(
        cluster.ask(UnregisterBroker(OTHER, epoch if with_epoch else None)), name="forget"
    )
    await asyncio.sleep(0.5)
    began = asyncio.get_running_loop().time()
    await cluster.controller.quarantine_wal(OTHER, epoch, recoverer=recoverer, found=found)
    if not with_epoch:
        asked = cluster.world.tasks.spawn(cluster.ask(UnregisterBroker(OTHER, None)), name="forget")
    error = (await asked).error
    assert isinstance(error, ApiError)
    assert error.code is ErrorCode.INVALID_REQUEST
    assert all(part in str(error) for part in ("c/wal/2/2/7", "corrupt WAL slot", f"epoch {epoch}", "automq repair"))
    assert asyncio.get_running_loop().time() - began < 1, "no time-out"
    assert cluster.image.broker(OTHER) is not None


async def test_forgetting_a_node_whose_log_nobody_reaches_names_its_volume(cluster: Cluster) -> None:
    await cluster.begin()
    epoch = await cluster.join(OTHER, wal=WalDescriptor("block", "vol-1", 3), speaks=False)
    error = (await cluster.ask(UnregisterBroker(OTHER, epoch))).error
    assert isinstance(error, ApiError)
    assert error.code is ErrorCode.REQUEST_TIMED_OUT
    assert "vol-1" in str(error)


def test_the_session_is_kafkas_idea_of_three_seconds() -> None:
    assert ControllerSettings().session_timeout_ms == 3_000
