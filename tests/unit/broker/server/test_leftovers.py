"""What has come and gone is gone: topics, groups, connections and their failures leave nothing in a busy broker.

Nothing here relies on the search for cycles, and no test waits for a time.
"""

import asyncio
from collections import Counter

from automq.protocol.apis import ApiKey
from automq.protocol.messages.admin import (
    CreatableTopic,
    CreatableTopicConfig,
    CreateTopicsRequest,
    DeleteTopicsRequest,
)
from automq.protocol.messages.group import (
    FindCoordinatorRequest,
    HeartbeatRequest,
    JoinGroupRequest,
    JoinGroupRequestProtocol,
    LeaveGroupRequest,
    MemberIdentity,
    SyncGroupRequest,
    SyncGroupRequestAssignment,
)
from automq.protocol.messages.group_admin import DeleteGroupsRequest
from automq.protocol.messages.offset import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from automq.s3stream.storage import Storage
from tests.support.batches import build_batch
from tests.support.data_path import MemoryTransport, fetch_request, produce_request
from tests.support.leftovers import alive, grown, no_search_for_cycles
from tests.support.served import Served, served

SETTLED_ROUNDS = 2
ROUNDS = 8
TOPICS = GROUPS = CLIENTS = 5

KEPT_FOR_A_WHILE = (
    # Objects wait for their grace period and for the sweep; the metadata log for the next snapshot.
    "automq.s3stream.store.memory.MemoryStore",
    # Deleted groups are tombstones until two whole checkpoints have let them go.
    "automq.replicated.entries.Entries",
    "automq.replicated.entries._Mark",
    "automq.replicated.sharded_entries.ShardedEntries",
    # A client that only went away may come back to its session: there are a thousand at most, and they pin nothing.
    "automq.partition.fetch_session.FetchSession",
    "automq.partition.fetch_session.FetchSessions",
    "automq.partition.fetch_session.FetchTarget",
    # The newest thousand are remembered.
    "automq.metadata.configs.TopicConfig",
    # Ids of objects prepared ahead, and when the newest were taken: sixteen at most, for five minutes.
    "automq.s3stream.upload.id_reserve.IdReserve",
    # Loads of what was open at the last measurement, seconds ago: with the next they go (`test_load`), with a heartbeat
    # the controller's (`test_known_loads`).
    "automq.controller.model.BrokerLoad",
    "automq.controller.model.PartitionLoad",
    "automq.partition.load.PartitionLoads",
    "automq.partition.load.PartitionRate",
    "automq.partition.load._Rate",
    "automq.partition.traffic.PartitionTraffic",
    # In the context of a cancelled timer, which asyncio keeps until there are a hundred of them.
    "automq.server.network.started.Started",
)


async def a_round(world: Served, number: int) -> None:
    """Topics with producers and readers, groups with a member, clients that leave in the middle of something."""
    names = [f"topic-{number}-{index}" for index in range(TOPICS)]
    client = world.connect()
    configs = [CreatableTopicConfig(name="retention.ms", value=str(60_000 + number))]
    topics = [CreatableTopic(name=name, num_partitions=2, replication_factor=1, configs=configs) for name in names]
    created = await client.call(ApiKey.CREATE_TOPICS, 7, CreateTopicsRequest(topics=topics, timeout=30_000))
    assert [result.error_code for result in created.topics] == [0] * TOPICS
    for index, name in enumerate(names):
        ours = build_batch(
            [b"v" * 50] * 3, timestamp_ms=1, producer_id=number * 1000 + index, producer_epoch=0, base_sequence=0
        )
        answer = await client.call(
            ApiKey.PRODUCE, 9, produce_request(ours, build_batch([b"v"], timestamp_ms=1), topic=name)
        )
        assert not any(part.error_code for topic in answer.responses for part in topic.partition_responses)
        await a_reader(world, name)
    await commits(world, names[0], number)
    for index in range(GROUPS):
        await a_member(world, f"group-{number}-{index}")
    await engine(world).upload.flush()
    await client.call(ApiKey.DELETE_TOPICS, 5, DeleteTopicsRequest(topic_names=names, timeout=30_000))
    # Clients go on for a while: refused, and refused again.
    for name in names:
        await client.call(ApiKey.PRODUCE, 9, produce_request(build_batch([b"v"], timestamp_ms=1), topic=name))
        await client.call(ApiKey.FETCH, 11, fetch_request(0, topic=name))
    gone(client)


async def a_reader(world: Served, name: str) -> None:
    """Reads in a session that it never ends, waits for more, and goes."""
    reader = world.connect()
    answer = await reader.call(ApiKey.FETCH, 11, fetch_request(0, 0, topic=name, session_epoch=0))
    assert [len(part.records or b"") > 0 for topic in answer.responses for part in topic.partitions] == [True, True]
    reader.send(ApiKey.FETCH, 11, fetch_request(3, 1, topic=name, max_wait=60_000, min_bytes=1000))
    gone(reader)


async def commits(world: Served, topic: str, number: int) -> None:
    """Groups of a commit each, deleted again."""
    client = world.connect()
    groups = [f"offsets-{number}-{index}" for index in range(GROUPS)]
    for group in groups:
        await coordinated(client, group)
        part = OffsetCommitRequestPartition(partition_index=0, committed_offset=1, committed_metadata="")
        request = OffsetCommitRequest(
            group_id=group,
            generation_id_or_member_epoch=-1,
            member_id="",
            topics=[OffsetCommitRequestTopic(name=topic, partitions=[part])],
        )
        answer = await client.call(ApiKey.OFFSET_COMMIT, 8, request)
        assert [part.error_code for topic in answer.topics for part in topic.partitions] == [0]
    answer = await client.call(ApiKey.DELETE_GROUPS, 2, DeleteGroupsRequest(groups_names=groups))
    assert [result.error_code for result in answer.results] == [0] * GROUPS
    gone(client)


async def a_member(world: Served, group: str) -> None:
    """Joins, gets everything, beats, leaves; the group is deleted."""
    client = world.connect()
    await coordinated(client, group)
    asked = JoinGroupRequest(
        group_id=group,
        session_timeout=10_000,
        rebalance_timeout=10_000,
        member_id="",
        protocol_type="consumer",
        protocols=[JoinGroupRequestProtocol(name="range", metadata=b"m" * 100)],
    )
    joined = await client.call(ApiKey.JOIN_GROUP, 3, asked)
    assert joined.error_code == 0
    member = joined.member_id
    given = [SyncGroupRequestAssignment(member_id=member, assignment=b"a" * 100)]
    sync = SyncGroupRequest(group_id=group, generation_id=joined.generation_id, member_id=member, assignments=given)
    assert (await client.call(ApiKey.SYNC_GROUP, 2, sync)).error_code == 0
    beat = HeartbeatRequest(group_id=group, generation_id=joined.generation_id, member_id=member)
    assert (await client.call(ApiKey.HEARTBEAT, 2, beat)).error_code == 0
    leave = LeaveGroupRequest(group_id=group, members=[MemberIdentity(member_id=member)])
    assert (await client.call(ApiKey.LEAVE_GROUP, 3, leave)).error_code == 0
    answer = await client.call(ApiKey.DELETE_GROUPS, 2, DeleteGroupsRequest(groups_names=[group]))
    assert [result.error_code for result in answer.results] == [0]
    gone(client)


async def coordinated(client: MemoryTransport, group: str) -> None:
    """Until the group's coordinator is there."""
    async with asyncio.timeout(30):
        while True:
            found = await client.call(ApiKey.FIND_COORDINATOR, 3, FindCoordinatorRequest(key=group, key_type=0))
            probe = await client.call(ApiKey.HEARTBEAT, 2, HeartbeatRequest(group_id=group, member_id="x"))
            if found.error_code == 0 and probe.error_code not in (14, 15, 16):
                return
            await asyncio.sleep(0.01)


def is_kept(name: str) -> bool:
    """Of a class, or of what a field of it holds."""
    return any(name == kept or name.startswith(f"{kept}.") for kept in KEPT_FOR_A_WHILE)


def gone(client: MemoryTransport) -> None:
    """A real transport lets go of its protocol, too."""
    client.disconnect()
    del client.connection


def engine(world: Served) -> Storage:
    components = world.broker._components
    assert components is not None
    assert components.storage is not None
    return components.storage


async def settled(world: Served) -> Counter[str]:
    """What there is when all that was under way is done, and caches of the log are empty."""
    before: Counter[str] = Counter()
    async with asyncio.timeout(60):
        while True:
            await engine(world).upload.flush()
            while engine(world).append.cache.evict():
                pass
            now = alive()
            if now == before:
                return Counter({name: count for name, count in now.items() if not is_kept(name)})
            before = now
            await asyncio.sleep(0.05)


async def test_what_has_come_and_gone_leaves_nothing() -> None:
    settings = {
        "automq__upload__interval__ms": "3600000",
        "automq__compaction__enable": "false",
        "offsets__topic__num__partitions": "1",
        "group__initial__rebalance__delay__ms": "0",
    }
    async with served(**settings) as world:
        await world.create("stays", 2)
        with no_search_for_cycles():
            for number in range(SETTLED_ROUNDS):
                await a_round(world, number)
            before = await settled(world)
            for number in range(SETTLED_ROUNDS, SETTLED_ROUNDS + ROUNDS):
                await a_round(world, number)
            after = await settled(world)

    # Fewer than one for each of the rounds.
    leftovers = grown(before, after, by=ROUNDS - 1)
    assert not leftovers, "\n".join(f"{name}: {counts}" for name, counts in leftovers.items())
