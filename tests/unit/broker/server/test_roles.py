"""Several brokers on one store are one cluster: who leads, who follows, and what happens when one goes."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from automq.controller.model import TopicSpec
from automq.ids import BrokerEpoch, ControllerEpoch, NodeId
from automq.metadata.claim import ClaimantAddress
from automq.metadata.log_format import parse_claim_key
from automq.s3stream.store.memory import MemoryStore
from automq.server.after_fence import Former, MayRejoin
from automq.server.broker import Broker
from automq.server.lifecycle.states import Reason, Refused, State
from automq.server.roles import Roles
from tests.support.quiet_platform import QuietNetwork, quiet_broker

pytestmark = pytest.mark.looptime


class Company:
    """Brokers on one store and one network."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.network = QuietNetwork()
        self.brokers: dict[int, Broker] = {}
        self.running: dict[int, asyncio.Task[None]] = {}
        self._seeds = 0

    def start(self, node: int, *, after: Former | None = None, port_offset: int = 0, **texts: str) -> Broker:
        self._seeds += 1
        port = node + port_offset
        made = self.brokers[node] = quiet_broker(
            self.store,
            seed=self._seeds,
            network=self.network,
            node__id=str(node),
            former=after,
            listeners=f"PLAINTEXT://here:{9090 + port}",
            automq__http__address=f"here:{9400 + port}",
            automq__internal__listener=f"here:{9200 + port}",
            **texts,
        )
        self.running[node] = asyncio.ensure_future(made.run())
        return made

    async def serving(self, *nodes: int) -> None:
        for node in nodes:
            if node not in self.brokers:
                self.start(node)
            await self.until(lambda node=node: self.brokers[node].lifecycle.state is State.SERVING)

    async def until(self, is_so: Callable[[], object], *, timeout_s: float = 60.0) -> None:
        async with asyncio.timeout(timeout_s):
            while not is_so():
                await asyncio.sleep(0.05)

    async def stop(self, node: int) -> None:
        self.brokers[node].stop()
        await self.running.pop(node)
        del self.brokers[node]

    def roles(self, node: int) -> Roles:
        parts = self.brokers[node]._components
        assert parts is not None
        return parts.roles

    def leading(self) -> list[int]:
        return [
            node
            for node, broker in self.brokers.items()
            if broker._components is not None and self.roles(node).controller is not None
        ]

    def cut(self, node: int) -> None:
        """Nobody reaches the internal listener of `node` any more, and its connections end."""
        bound = self.network.bound[9200 + node]
        bound.factory = None
        server = self.roles(node)._server
        assert server is not None
        server.close()

    def known(self, node: int) -> list[int]:
        image = self.brokers[node].image
        return [] if image is None else [int(broker.node) for broker in image.brokers() if not broker.fenced]

    async def create(self, node: int, name: str, partitions: int) -> None:
        parts = self.brokers[node]._components
        assert parts is not None
        (made,) = await parts.client.create_topics([TopicSpec(name=name, partitions=partitions)])
        assert made.error is None

    def leaders(self, node: int, name: str) -> list[int]:
        image = self.brokers[node].image
        assert image is not None
        topic = image.topic(name)
        return [] if topic is None else [int(partition.leader) for partition in topic.partitions]


@pytest.fixture
async def company() -> AsyncIterator[Company]:
    made = Company()
    yield made
    for node in list(made.brokers):
        if not made.running[node].done():
            await made.stop(node)


async def claims(company: Company) -> list[int]:
    infos = await company.store.list("", start_after="", limit=10_000)
    return [epoch for info in infos if (epoch := parse_claim_key(info.key))]


async def test_second_node_id_joins_and_the_first_stays_the_controller(company: Company) -> None:
    await company.serving(1, 2, 3)

    assert company.leading() == [1]
    assert await claims(company) == [1]
    assert [company.roles(node).leader for node in (2, 3)] == [company.roles(1).leader] * 2
    for node in (1, 2, 3):
        await company.until(lambda node=node: company.known(node) == [1, 2, 3])


async def test_topics_made_through_any_broker_spread_over_all_and_read_back_at_once(company: Company) -> None:
    await company.serving(1, 2, 3)
    await company.until(lambda: company.roles(1).controller.followers.live() == [2, 3])  # type: ignore[union-attr]

    await company.create(2, "t", 6)

    assert sorted(company.leaders(2, "t")) == [1, 1, 2, 2, 3, 3]
    await company.until(lambda: company.leaders(3, "t") == company.leaders(2, "t"))


async def test_controller_that_stops_names_a_successor_that_claims_at_once(company: Company) -> None:
    await company.serving(1, 2)
    began = asyncio.get_running_loop().time()

    await company.stop(1)
    await company.until(lambda: company.leading() == [2])

    assert asyncio.get_running_loop().time() - began < 2.0
    await company.create(2, "t", 1)
    assert company.leaders(2, "t") == [2]


async def test_controller_whose_listener_refuses_is_replaced_after_a_second_refusal(company: Company) -> None:
    await company.serving(1, 2, 3)
    await company.create(3, "before", 3)
    began = asyncio.get_running_loop().time()

    company.cut(1)
    await company.until(lambda: [node for node in company.leading() if node != 1])
    (leader,) = [node for node in company.leading() if node != 1]

    assert asyncio.get_running_loop().time() - began < 2.0
    # It is alive, learns that it is the controller no more, and follows whoever is.
    await company.until(lambda: company.leading() == [leader])
    await company.until(lambda: company.roles(1).leader == company.roles(leader).leader)
    assert company.brokers[1].lifecycle.state is State.SERVING
    await company.create(1, "after", 1)
    await company.until(lambda: all(company.leaders(node, "after") for node in (1, 2, 3)))


async def test_same_node_id_again_fences_the_former_process(company: Company) -> None:
    await company.serving(1)
    first, running = company.brokers[1], company.running[1]
    first_network, company.network = company.network, QuietNetwork()

    company.start(1)
    await company.serving(1)

    await company.until(lambda: first.lifecycle.state is State.FENCED)
    assert first.lifecycle.reason is Reason.FENCED
    first.stop()
    await running
    assert not first_network.bound


async def test_broker_that_was_silent_for_too_long_ends_as_one_that_may_begin_anew(company: Company) -> None:
    await company.serving(1, 2)
    await company.create(1, "t", 2)
    parts = company.brokers[2]._components
    assert parts is not None
    assert parts._heartbeats is not None
    epoch = parts.epoch
    # Silent, and cut off from what it would learn by asking.
    parts._heartbeats.cancel()
    await company.until(lambda: company.brokers[2].lifecycle.state is State.FENCED)

    with pytest.raises(MayRejoin):
        await asyncio.wait_for(company.running[2], 15)

    # Everything is given back: another one takes its place on the same addresses, in the same process.
    company.start(2)
    await company.serving(2)
    parts = company.brokers[2]._components
    assert parts is not None
    assert parts.epoch is not None
    assert epoch is not None
    assert parts.epoch > epoch
    assert company.known(1) == [1, 2]
    await company.until(lambda: None not in company.leaders(2, "t"))


async def test_who_begins_anew_takes_neither_claim_nor_place_from_a_newer_process_of_its_node(company: Company) -> None:
    await company.serving(1, 2)
    await company.create(1, "t", 4)
    newer, newer_running = company.brokers[1], company.running[1]
    image = newer.image
    assert image is not None
    former = Former(epoch=BrokerEpoch(image.broker_map[NodeId(1)].epoch - 1), held_epoch=ControllerEpoch(0))

    straggler = company.start(1, after=former, port_offset=50)
    running = company.running[1]
    await company.until(lambda: straggler.lifecycle.state is State.FENCED)
    await asyncio.sleep(20)

    company.brokers[1], company.running[1] = newer, newer_running
    assert newer.lifecycle.state is State.SERVING
    assert company.leading() == [1]
    assert await claims(company) == [1]
    assert straggler.lifecycle.state is State.FENCED
    straggler.stop()
    await running


@pytest.mark.parametrize("stopped", [1, 2], ids=["the controller", "another broker"])
async def test_orderly_end_is_recorded_and_leaves_no_log_to_recover(company: Company, stopped: int) -> None:
    await company.serving(1, 2)
    await company.create(1, "t", 4)
    await company.until(lambda: sorted(company.leaders(1, "t")) == [1, 1, 2, 2])
    broker, other = company.brokers[stopped], 3 - stopped

    await company.stop(stopped)
    await asyncio.sleep(0.5)

    # No session had to pass, and nobody reads the log.
    assert company.known(other) == [other]
    assert company.leaders(other, "t") == [other] * 4
    image = company.brokers[other].image
    assert image is not None
    assert [key[0] for key in image.wals] == [other]
    assert broker.lifecycle.state is State.DRAINING, "its own end is no fence"
    await company.serving(stopped)
    assert company.known(other) == [1, 2]


async def test_successor_is_nobody_that_ends_itself(company: Company) -> None:
    await company.serving(1, 2, 3)
    parts = company.brokers[2]._components
    assert parts is not None
    assert parts.epoch is not None
    assert await parts.client.stop_broker(parts.node, parts.epoch)

    await company.stop(1)

    assert company.leading() == [3]


async def test_former_controller_restarts_as_a_follower(company: Company) -> None:
    await company.serving(1, 2)
    await company.stop(1)
    await company.until(lambda: company.leading() == [2])

    await company.serving(1)

    assert company.leading() == [2]
    assert company.roles(1).leader == company.roles(2).leader


async def test_another_owner_is_refused_beside_a_cluster(company: Company) -> None:
    company.start(1, automq__cluster__owner="me")
    await company.serving(1)

    company.start(2, automq__cluster__owner="you")
    with pytest.raises(Refused) as refused:
        await company.running[2]

    assert refused.value.reason is Reason.STORE_OWNED_BY_ANOTHER
    assert company.brokers[1].lifecycle.state is State.SERVING
    del company.brokers[2]


async def test_three_that_start_at_once_on_an_empty_store_are_one_cluster(company: Company) -> None:
    for node in (1, 2, 3):
        company.start(node)
    await company.serving(1, 2, 3)

    assert len(company.leading()) == 1
    leader = company.roles(company.leading()[0]).leader
    assert [company.roles(node).leader for node in (1, 2, 3)] == [leader] * 3


async def test_b14_second_broker_takes_over_from_a_first_that_has_died_and_is_joined_by_it(company: Company) -> None:
    await company.serving(1)
    await company.stop(1)

    await company.serving(2)
    await company.serving(1)

    assert company.leading() == [2]
    assert company.roles(1).address == ClaimantAddress("here", 9201)
