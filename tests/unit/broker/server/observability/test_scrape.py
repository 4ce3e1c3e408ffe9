"""`/metrics` of a big broker: others are not kept waiting while it is scraped."""

import asyncio
import time

from automq.coordinators.group.model import CommittedOffset, OffsetStored
from automq.coordinators.group.shard import GroupShard
from automq.ids import NodeId
from automq.runtime.telemetry import Metrics
from automq.s3stream.store.memory import MemoryStore
from automq.server.broker import Broker
from automq.server.lifecycle.states import Lifecycle, State
from automq.server.observability.probes import Probes
from tests.support.quiet_platform import QuietNetwork, quiet_broker

TOPICS, GROUPS, PARTITIONS = 1_000, 400, 250
TURN_S_MAX = 0.010


class Transport(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.is_closed = False

    def write(self, data: object) -> None:
        assert isinstance(data, bytes)
        self.written += data

    def close(self) -> None:
        self.is_closed = True

    abort = close

    def is_closing(self) -> bool:
        return self.is_closed


async def serving(**texts: str) -> "tuple[Broker, asyncio.Task[None]]":
    broker = quiet_broker(MemoryStore(), network=QuietNetwork(), **texts)
    task = asyncio.ensure_future(broker.run())
    while broker.lifecycle.state is not State.SERVING:
        await asyncio.sleep(0.01)
    return broker, task


async def longest_turn_s(work: "asyncio.Future[bytes]") -> float:
    """CPU of the longest turn of the loop while `work` goes on: other processes do not count."""
    longest = 0.0
    while not work.done():
        began = time.thread_time()
        await asyncio.sleep(0)
        longest = max(longest, time.thread_time() - began)
    return longest


async def test_scrape_of_ten_thousand_partitions_takes_short_turns() -> None:
    """A thousand topics of ten partitions, four hundred groups with a hundred thousand offsets, all with metrics."""
    broker, task = await serving(automq__metrics__topics__max="1000", automq__metrics__groups__max="400")
    components = broker._components
    assert components is not None
    assert components.partitions is not None
    assert components.groups is not None
    for number in range(TOPICS):
        for _ in range(10):
            components.partitions.traffic.of(f"topic-{number}").in_bytes += 1
    shard = GroupShard()
    components.groups.metrics._sources = lambda: [shard]
    for number in range(GROUPS):
        for partition in range(PARTITIONS):
            stored = CommittedOffset(offset=1, leader_epoch=None, metadata="", commit_ms=0)
            shard.replay(OffsetStored(f"group-{number}", "orders", partition, stored))
        shard._group_or_new(f"group-{number}")
    turns = []
    for _ in range(3):
        work = asyncio.ensure_future(broker.metrics.render_in_turns())
        turns.append(await longest_turn_s(work))
        page = work.result().decode()
    broker.stop()
    await task

    assert page.count("automq_topic_in_bytes_total{") == TOPICS + 1
    assert page.count("automq_group_lag{") == GROUPS
    # The best of three: a collection of garbage is nobody's turn.
    assert min(turns) <= TURN_S_MAX, turns


async def test_scrape_is_answered_whole_and_twice_at_once() -> None:
    broker, task = await serving()
    transports = []
    for _ in range(2):
        connection, transport = broker._probes.protocol(), Transport()
        connection.connection_made(transport)
        connection.data_received(b"GET /metrics HTTP/1.1\r\nHost: here\r\n\r\n")
        connection.data_received(b"more that is not looked at")
        transports.append(transport)
    while not all(transport.is_closed for transport in transports):
        await asyncio.sleep(0.001)
    broker.stop()
    await task

    for transport in transports:
        head, _, body = transport.written.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK")
        assert f"Content-Length: {len(body)}".encode() in head
        assert b"automq_ready 1.0" in body


async def test_client_that_leaves_during_a_scrape_harms_nobody() -> None:
    broker, task = await serving()
    connection, transport = broker._probes.protocol(), Transport()
    connection.connection_made(transport)
    connection.data_received(b"GET /metrics HTTP/1.1\r\n\r\n")
    transport.close()
    connection.connection_lost(None)
    await asyncio.sleep(0.1)
    assert transport.written == b""
    assert b"automq_ready 1.0" in await broker.metrics.render_in_turns()
    broker.stop()
    await task


def test_without_tasks_the_page_is_written_at_once() -> None:
    """Before a loop has anything to run tasks on."""
    metrics = Metrics()
    metrics.gauge("automq_level", "Level.")
    probes = Probes(lifecycle=Lifecycle(), metrics=metrics, node=NodeId(1), cluster_id=lambda: None)

    assert b"automq_level 0.0" in probes.answer(b"GET /metrics HTTP/1.1\r\n\r\n")[2]
