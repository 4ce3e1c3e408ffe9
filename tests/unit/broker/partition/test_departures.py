"""Partitions that change hands between two brokers, under producers: nothing is lost, doubled, reordered."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from automq.ids import NodeId
from automq.metadata.move_records import MoveCause
from automq.partition.parking import PARKED_S
from automq.protocol.apis import ApiKey
from automq.protocol.errors import ApiError, ErrorCode
from automq.protocol.messages.produce import PartitionProduceResponse
from automq.protocol.records import Record, RecordBatch, build_batch
from automq.s3stream.ports import NotController
from tests.support.data_path import MemoryTransport, produce_request
from tests.support.engine import SMALL
from tests.support.moving_world import TOPIC, MovingBroker, MovingWorld

pytestmark = pytest.mark.looptime

VERSION = 10
FIRST, SECOND = NodeId(1), NodeId(2)
SLOW_UPLOADS = replace(SMALL, upload_interval_ms=3_600_000)


def a_batch(value: bytes = b"v", *, producer: int = -1, sequence: int = -1) -> bytearray:
    fields: dict[str, Any] = {}
    if producer >= 0:
        fields = {"producer_id": producer, "producer_epoch": 0, "base_sequence": sequence}
    return build_batch([Record(key=b"k", value=value)], **fields)


def outcome_of(response: Any) -> PartitionProduceResponse:
    found: PartitionProduceResponse = response.responses[0].partition_responses[0]
    return found


async def produce(client: MemoryTransport, batch: bytearray | None = None, *, index: int = 0) -> Any:
    request = produce_request(batch or a_batch(), topic=TOPIC, partition=index)
    return await client.call(ApiKey.PRODUCE, VERSION, request)


async def values(broker: MovingBroker, index: int = 0) -> list[bytes]:
    """All that can be read, in order."""
    partition = broker.partition(index)
    found: list[bytes] = []
    async for data in partition.read_batches(partition.log_start_offset, partition.high_watermark):
        batch = RecordBatch(memoryview(bytes(data)))
        assert batch.base_offset == len(found)
        found.append(bytes(batch.view))
    return found


class HeldReleases:
    """Commits of a broker that release something wait for `gate`; `fails` so many tries first."""

    def __init__(self, broker: MovingBroker) -> None:
        self.gate = asyncio.Event()
        self.arrived = asyncio.Event()
        self.fails = 0
        self._commit = broker.objects.commit
        broker.objects.commit = self.commit  # type: ignore[method-assign]

    async def commit(self, request: Any) -> Any:
        if request.releasing:
            self.arrived.set()
            await self.gate.wait()
            if self.fails:
                self.fails -= 1
                raise NotController("away")
        return await self._commit(request)


async def test_a_partition_moves_and_its_records_and_producers_with_it() -> None:
    world = await MovingWorld(settings=SLOW_UPLOADS).start()
    client = world.brokers[FIRST].connect()
    for sequence in range(5):
        assert outcome_of(await produce(client, a_batch(producer=7, sequence=sequence))).base_offset == sequence
    await world.moved(SECOND)
    assert world.leader() == SECOND
    assert len(await values(world.brokers[SECOND])) == 5

    other = world.brokers[SECOND].connect()
    again = outcome_of(await produce(other, a_batch(producer=7, sequence=4)))
    assert (again.error_code, again.base_offset) == (0, 4)
    skipping = outcome_of(await produce(other, a_batch(producer=7, sequence=9)))
    assert skipping.error_code == ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
    assert outcome_of(await produce(other, a_batch(producer=7, sequence=5))).base_offset == 5
    await world.close()


async def test_the_old_leader_names_the_new_one_and_its_endpoint() -> None:
    world = await MovingWorld().start()
    await world.moved(SECOND)
    answer = await produce(world.brokers[FIRST].connect())
    outcome = outcome_of(answer)
    assert outcome.error_code == ErrorCode.NOT_LEADER_OR_FOLLOWER
    assert outcome.current_leader is not None
    assert (outcome.current_leader.leader_id, outcome.current_leader.leader_epoch) == (2, 1)
    (endpoint,) = answer.node_endpoints
    assert (endpoint.node_id, endpoint.host, endpoint.port) == (2, "broker-2", 9092)
    await world.close()


async def test_what_comes_while_sealed_waits_and_is_told_of_the_new_leader() -> None:
    world = await MovingWorld().start()
    held = HeldReleases(world.brokers[FIRST])
    client = world.brokers[FIRST].connect()
    await produce(client)
    await world.wish(SECOND)
    await held.arrived.wait()
    parked = client.send(ApiKey.PRODUCE, VERSION, produce_request(a_batch()))
    await asyncio.sleep(PARKED_S / 2)
    assert client.answers() == {}
    held.gate.set()
    answer = await client.answer(parked)
    outcome = outcome_of(answer)
    assert outcome.error_code == ErrorCode.NOT_LEADER_OR_FOLLOWER
    assert outcome.current_leader is not None
    assert outcome.current_leader.leader_id == 2
    assert [endpoint.node_id for endpoint in answer.node_endpoints] == [2]
    assert world.brokers[SECOND].partition().next_offset == 1
    await world.close()


async def test_nobody_waits_for_longer_than_the_bound_and_the_seal_stays() -> None:
    """However long the controller is away: the release was sent, so nothing is appended."""
    world = await MovingWorld().start()
    first = world.brokers[FIRST]
    held = HeldReleases(first)
    client, other = first.connect(), first.connect()
    await produce(client)
    await world.wish(SECOND)
    await held.arrived.wait()
    started = asyncio.get_running_loop().time()
    outcome = outcome_of(await produce(client))
    waited = asyncio.get_running_loop().time() - started
    assert outcome.error_code == ErrorCode.NOT_LEADER_OR_FOLLOWER
    assert waited <= PARKED_S + 0.05
    # Who comes later is refused at once.
    started = asyncio.get_running_loop().time()
    assert outcome_of(await produce(other)).error_code == ErrorCode.NOT_LEADER_OR_FOLLOWER
    assert asyncio.get_running_loop().time() - started < 0.05
    await asyncio.sleep(100)
    assert first.partition().next_offset == 1
    held.fails = 3
    held.gate.set()
    await world.until(lambda: world.leader() == SECOND)
    await world.close()


async def test_a_cancel_in_the_image_lifts_the_seal_and_what_was_parked_is_appended_in_order() -> None:
    world = await MovingWorld().start()
    first = world.brokers[FIRST]
    held = HeldReleases(first)
    clients = [first.connect() for _ in range(4)]
    await produce(clients[0])
    await world.wish(SECOND)
    await held.arrived.wait()
    asked = [client.send(ApiKey.PRODUCE, VERSION, produce_request(a_batch())) for client in clients]
    late = clients[0].send(ApiKey.PRODUCE, VERSION, produce_request(a_batch()))
    await asyncio.sleep(PARKED_S / 5)
    await world.wish(None)
    offsets = [outcome_of(await client.answer(number)) for client, number in zip(clients, asked, strict=True)]
    assert [outcome.base_offset for outcome in offsets] == [1, 2, 3, 4]
    assert outcome_of(await clients[0].answer(late)).base_offset == 5
    # The release that was under way arrives after the cancel: it is void.
    held.gate.set()
    await first.storage.upload.flush()
    assert world.leader() == FIRST
    assert outcome_of(await produce(clients[0])).base_offset == 6
    assert len(await values(first)) == 7
    await world.close()


async def test_after_a_refusal_a_producer_that_is_not_known_begins_with_what_was_refused() -> None:
    world = await MovingWorld().start()
    first = world.brokers[FIRST]
    held = HeldReleases(first)
    client = first.connect()
    await world.wish(SECOND)
    await held.arrived.wait()
    refused = outcome_of(await produce(client, a_batch(producer=9, sequence=0)))
    assert refused.error_code == ErrorCode.NOT_LEADER_OR_FOLLOWER
    await world.wish(None)
    held.gate.set()
    await world.until(lambda: first.partition().parking is None)
    skipping = outcome_of(await produce(client, a_batch(producer=9, sequence=1)))
    assert skipping.error_code == ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
    assert outcome_of(await produce(client, a_batch(producer=9, sequence=0))).base_offset == 0
    assert outcome_of(await produce(client, a_batch(producer=9, sequence=1))).base_offset == 1
    await world.close()


async def test_the_new_leader_lets_producers_wait_until_it_has_opened() -> None:
    world = await MovingWorld().start()
    held = HeldReleases(world.brokers[FIRST])
    second = world.brokers[SECOND].connect()
    assert outcome_of(await produce(second)).error_code == ErrorCode.NOT_LEADER_OR_FOLLOWER
    await world.wish(SECOND)
    await held.arrived.wait()
    early = second.send(ApiKey.PRODUCE, VERSION, produce_request(a_batch()))
    await asyncio.sleep(0.2)
    assert second.answers() == {}
    held.gate.set()
    assert outcome_of(await second.answer(early)).base_offset == 0
    await world.close()


async def test_the_new_leader_lets_nobody_wait_for_longer_than_a_second() -> None:
    world = await MovingWorld().start()
    held = HeldReleases(world.brokers[FIRST])
    second = world.brokers[SECOND].connect()
    await world.wish(SECOND)
    await held.arrived.wait()
    started = asyncio.get_running_loop().time()
    assert outcome_of(await produce(second)).error_code == ErrorCode.NOT_LEADER_OR_FOLLOWER
    assert 0.9 <= asyncio.get_running_loop().time() - started <= 1.1
    held.gate.set()
    await world.until(lambda: world.leader() == SECOND)
    await world.close()


async def test_readers_go_on_while_the_partition_is_sealed() -> None:
    world = await MovingWorld().start()
    first = world.brokers[FIRST]
    held = HeldReleases(first)
    await produce(first.connect())
    await world.wish(SECOND)
    await held.arrived.wait()
    assert len(await values(first)) == 1
    held.gate.set()
    await world.until(lambda: world.leader() == SECOND)
    with pytest.raises(ApiError):
        first.partition()
    await world.close()


async def test_a_target_that_is_fenced_meanwhile_leaves_the_partition_where_it_is() -> None:
    world = await MovingWorld().start()
    first = world.brokers[FIRST]
    held = HeldReleases(first)
    client = first.connect()
    await produce(client)
    await world.wish(SECOND)
    await held.arrived.wait()
    parked = client.send(ApiKey.PRODUCE, VERSION, produce_request(a_batch()))
    await asyncio.sleep(0.01)
    us = (FIRST, first.epoch)
    await world.controller.fence_broker(SECOND, world.brokers[SECOND].epoch, recoverer=us)
    assert outcome_of(await client.answer(parked)).base_offset == 1
    held.gate.set()
    await first.storage.upload.flush()
    assert world.leader() == FIRST
    await world.close()


async def test_many_partitions_go_together_and_come_back() -> None:
    world = await MovingWorld(settings=SLOW_UPLOADS).start(partitions=20)
    client = world.brokers[FIRST].connect()
    indexes = range(20)
    for index in indexes:
        assert outcome_of(await produce(client, index=index)).error_code == 0
    before = world.metadata.image.record_number
    await world.moved(SECOND, *indexes)
    # The wish, an upload before the seal (prepared, committed), ids ahead, the last commit.
    assert world.metadata.image.record_number - before <= 7
    await world.moved(FIRST, *indexes)
    for index in indexes:
        assert outcome_of(await produce(client, index=index)).base_offset == 1
    await world.close()


async def test_draining_moves_everything_away_and_keeps_it_away() -> None:
    world = await MovingWorld().start(partitions=6, nodes=3)
    first = world.brokers[FIRST]
    assert await first.client.stop_broker(FIRST, first.epoch)
    await world.until(lambda: FIRST not in world.metadata.image.leader_counts)
    assert dict(world.metadata.image.leader_counts) == {SECOND: 3, NodeId(3): 3}
    assert not world.metadata.image.moves
    await world.close()


async def test_draining_goes_on_where_a_target_has_died() -> None:
    world = await MovingWorld().start(nodes=3)
    first = world.brokers[FIRST]
    held = HeldReleases(first)
    assert await first.client.stop_broker(FIRST, first.epoch)
    await held.arrived.wait()
    (move,) = world.metadata.image.moves.values()
    assert move.cause is MoveCause.DRAIN
    await world.controller.fence_broker(*move.target, recoverer=(FIRST, first.epoch))
    held.gate.set()
    await world.until(lambda: FIRST not in world.metadata.image.leader_counts)
    assert world.leader() not in (FIRST, move.target[0])
    await world.close()


async def test_there_and_back_under_an_idempotent_producer() -> None:
    """Batches in flight, refused and sent again to whoever leads: each once, in order."""
    world = await MovingWorld(settings=SLOW_UPLOADS).start()
    clients = {node: broker.connect() for node, broker in world.brokers.items()}
    acknowledged: list[int] = []
    is_over = False

    async def producer() -> None:
        leader, sequence = FIRST, 0
        while not is_over:
            outcome = outcome_of(await produce(clients[leader], a_batch(producer=3, sequence=sequence)))
            if outcome.error_code == ErrorCode.NOT_LEADER_OR_FOLLOWER:
                leader = world.leader()
                await asyncio.sleep(0.005)
                continue
            assert outcome.error_code == 0
            acknowledged.append(outcome.base_offset)
            sequence += 1

    producing = asyncio.ensure_future(producer())
    for _ in range(10):
        for target in (SECOND, FIRST):
            await world.moved(target)
            count = len(acknowledged)
            await world.until(lambda count=count: len(acknowledged) > count + 3)
    is_over = True
    await producing
    assert acknowledged == list(range(len(acknowledged)))
    assert len(await values(world.brokers[FIRST])) == len(acknowledged)
    await world.close()
