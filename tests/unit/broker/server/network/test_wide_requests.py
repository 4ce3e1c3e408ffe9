"""No request keeps the event loop for long, whatever it names: every API that is served, every array that it has."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from automq.protocol.apis import APIS, ApiKey, encode_request
from automq.protocol.codec import ELEMENTS_MAX, MalformedMessage, decode_in_parts, decode_whole, encode
from automq.protocol.errors import ErrorCode
from automq.protocol.messages.admin import DeleteTopicsRequest
from automq.protocol.messages.group import FindCoordinatorRequest
from automq.protocol.messages.group_admin import ListGroupsRequest
from automq.protocol.messages.offset import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
    OffsetDeleteRequest,
    OffsetDeleteRequestPartition,
    OffsetDeleteRequestTopic,
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopics,
)
from automq.protocol.schema import Message
from automq.runtime.turns import in_turns
from automq.server.network.dispatch import HANDLER_TABLES, DispatchTable
from automq.server.network.wide_requests import PARTS_MAX, emptied, is_wide, parts_max
from automq.steps import at_once
from tests.support.data_path import MemoryTransport
from tests.support.served import Served, served
from tests.support.turns import LIMIT_MS, Longest, measure
from tests.support.wide import Path, arrays_of, wide_message

MEMORY = {"automq__memory__bytes": str(1 << 30)}
LEFT_OUT = {"ApiVersions"}
"""It names nothing."""


async def answer_to(client: MemoryTransport, frame: bytes) -> bytes:
    """The answer, not decoded: that would be a long turn of the test's."""
    loop = asyncio.get_running_loop()
    loop.call_soon(client.feed, frame)
    while len(client.written) < 4 or len(client.written) < 4 + int.from_bytes(client.written[:4], "big"):
        assert not client.was_lost, "the connection was closed"
        await asyncio.sleep(0.001)
    return bytes(client.written)


async def longest_turn(world: Served, frame: bytes) -> Longest:
    """Of a request from its arrival to its answer."""

    async def prepare() -> Callable[[], Awaitable[object]]:
        client = world.connect()

        async def work() -> None:
            await answer_to(client, frame)
            client.disconnect()

        return work

    return await measure(prepare)


def frame_of(request: Message, version: int) -> bytes:
    """A whole request."""
    assert request.API_KEY is not None
    return encode_request(APIS[request.API_KEY], version, 1, "test", request)


def wide_arrays(key: int, version: int) -> list[Path]:
    """The arrays that a request of this API has."""
    return list(arrays_of(APIS[key].request_class, version))


@pytest.mark.parametrize("table", HANDLER_TABLES, ids=lambda table: next(iter(table)).__module__.rsplit(".", 1)[-1])
async def test_ten_thousand_of_whatever_a_request_names_are_bounded_turns(table: dict[type[Message], object]) -> None:
    took: dict[str, float] = {}
    async with served(**MEMORY) as world:
        for request_class in table:
            api = APIS[request_class.API_KEY or 0]
            version = api.advertised[-1]
            for path in wide_arrays(api.key, version):
                request = wide_message(request_class, version, path, min(parts_max(api.key), PARTS_MAX) - 50)
                longest = await longest_turn(world, frame_of(request, version))
                took[f"{api.name} {'.'.join(path)}: {longest.what}"] = longest.turn_ms
    assert {what: turn_ms for what, turn_ms in took.items() if turn_ms > LIMIT_MS} == {}


def test_every_api_with_arrays_is_measured() -> None:
    keys = {cls.API_KEY for table in HANDLER_TABLES for cls in table}
    assert keys == set(DispatchTable().routes)


async def test_what_names_more_than_is_taken_is_refused_with_an_error_in_bounded_turns() -> None:
    request = FindCoordinatorRequest(key_type=0, coordinator_keys=[f"group-{n}" for n in range(PARTS_MAX + 1)])
    async with served(**MEMORY) as world:
        longest = await longest_turn(world, frame_of(request, 6))
        client = world.connect()
        frame = await answer_to(client, frame_of(request, 6))
        answer = decode_whole(APIS[ApiKey.FIND_COORDINATOR].response_class, 6, memoryview(frame)[4:], 5)
        small = FindCoordinatorRequest(key_type=0, coordinator_keys=["g"])
        client.written.clear()
        assert len(await answer_to(client, frame_of(small, 6))) < 100
    assert longest.turn_ms <= LIMIT_MS
    coordinators = answer.coordinators  # type: ignore[attr-defined]
    assert {each.error_code for each in coordinators} == {ErrorCode.INVALID_REQUEST}
    assert "at most 10000 are taken" in coordinators[0].error_message
    assert len(coordinators) == PARTS_MAX + 1


PARTITIONS = 10_000


async def wide_topics(world: Served) -> None:
    await world.create("wide", PARTITIONS)
    answer = await world.connect().call(
        ApiKey.FIND_COORDINATOR, 4, FindCoordinatorRequest(key_type=0, coordinator_keys=["g"])
    )
    assert answer.coordinators[0].error_code == 0
    # Until the group's shard is loaded.
    for _ in range(1_000):
        client = world.connect()
        answer = await client.call(ApiKey.OFFSET_COMMIT, 9, a_commit(1))
        if answer.topics[0].partitions[0].error_code == 0:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("the group is not coordinated")


def a_commit(count: int, *, offset: int = 7) -> OffsetCommitRequest:
    partitions = [
        OffsetCommitRequestPartition(partition_index=n % PARTITIONS, committed_offset=offset) for n in range(count)
    ]
    return OffsetCommitRequest(
        group_id="g",
        generation_id_or_member_epoch=-1,
        member_id="",
        topics=[OffsetCommitRequestTopic(name="wide", partitions=partitions)],
    )


async def test_offset_commit_fetch_and_delete_of_100_000_partitions_are_bounded_turns() -> None:
    indexes = [n % PARTITIONS for n in range(100_000)]
    fetch = OffsetFetchRequestTopics(name="wide", partition_indexes=indexes)
    delete = OffsetDeleteRequestTopic(
        name="wide", partitions=[OffsetDeleteRequestPartition(partition_index=n) for n in indexes]
    )
    requests: list[tuple[Message, int]] = [
        (a_commit(100_000), 9),
        (OffsetFetchRequest(groups=[OffsetFetchRequestGroup(group_id="g", topics=[fetch])]), 9),
        (OffsetDeleteRequest(group_id="g", topics=[delete]), 0),
    ]
    async with served(**MEMORY) as world:
        await wide_topics(world)
        for request, version in requests:
            longest = await longest_turn(world, frame_of(request, version))
            assert longest.turn_ms <= LIMIT_MS, (type(request).__name__, longest)
            assert longest.turns > 50


async def test_wide_commit_stores_every_partition_in_the_order_of_the_request() -> None:
    async with served(**MEMORY) as world:
        await wide_topics(world)
        client = world.connect()
        commit = a_commit(2_000)
        commit.topics[0].partitions[-1].committed_offset = 11
        commit.topics[0].partitions[-1].partition_index = 0
        commit.topics[0].partitions[700].partition_index = PARTITIONS
        answer = await client.call(ApiKey.OFFSET_COMMIT, 9, commit)
        codes = [part.error_code for part in answer.topics[0].partitions]
        assert [place for place, code in enumerate(codes) if code] == [700]
        assert codes[700] == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        topics = [OffsetFetchRequestTopics(name="wide", partition_indexes=[0, 1, 700, 1_998, 1_999])]
        asked = OffsetFetchRequest(groups=[OffsetFetchRequestGroup(group_id="g", topics=topics)])
        fetched = await client.call(ApiKey.OFFSET_FETCH, 9, asked)
        offsets = [part.committed_offset for part in fetched.groups[0].topics[0].partitions]
        assert offsets == [11, 7, -1, 7, -1]


async def test_ten_thousand_groups_are_listed_in_bounded_turns() -> None:
    async with served(**MEMORY, offsets__topic__num__partitions="1") as world:
        await wide_topics(world)
        runner = next(iter(world.services.groups._runners.values()))
        for number in range(10_000):
            runner.shard._group_or_new(f"group-{number}")
        longest = await longest_turn(world, frame_of(ListGroupsRequest(), 4))
    assert longest.turn_ms <= LIMIT_MS, longest


async def test_a_million_elements_are_decoded_and_freed_in_bounded_turns() -> None:
    names = DeleteTopicsRequest(topic_names=["t"] * ELEMENTS_MAX)
    numbers = OffsetFetchRequestTopics(name="t", partition_indexes=[1] * (ELEMENTS_MAX - 2))
    fetch = OffsetFetchRequest(groups=[OffsetFetchRequestGroup(group_id="g", topics=[numbers])])
    cases: list[tuple[type[Message], int, bytes]] = [
        (DeleteTopicsRequest, 5, encode(names, 5)),
        (OffsetFetchRequest, 9, encode(fetch, 9)),
    ]
    for request_class, version, data in cases:

        async def prepare(
            cls: type[Message] = request_class, version: int = version, data: bytes = data
        ) -> Callable[[], Awaitable[object]]:
            async def work() -> None:
                decoded, parts = await in_turns(decode_in_parts(cls, version, data))
                assert parts == ELEMENTS_MAX
                await in_turns(emptied(decoded))

            return work

        longest = await measure(prepare)
        assert longest.turn_ms <= LIMIT_MS, longest


@pytest.mark.parametrize("key", sorted(DispatchTable().routes), ids=lambda key: APIS[key].name)
def test_decoding_in_parts_gives_what_decoding_gives(key: int) -> None:
    api = APIS[key]
    for version in sorted({api.versions[0], api.versions[-1]}):
        for path in wide_arrays(key, version):
            data = encode(wide_message(api.request_class, version, path, 1_200), version)
            message, parts = at_once(decode_in_parts(api.request_class, version, data))
            assert message == decode_whole(api.request_class, version, data)
            assert parts >= 1_200
            assert is_wide(message)
            at_once(emptied(message))
            assert not is_wide(message)
            with pytest.raises(MalformedMessage):
                at_once(decode_in_parts(api.request_class, version, data[:-9]))


async def test_wide_request_that_is_not_well_formed_closes_its_connection() -> None:
    request = FindCoordinatorRequest(key_type=0, coordinator_keys=[f"group-{n}" for n in range(2_000)])
    frame = bytearray(frame_of(request, 6))
    frame[40] = 255
    async with served(**MEMORY) as world:
        client = world.connect()
        client.feed(bytes(frame))
        for _ in range(1_000):
            if client.was_lost:
                break
            await asyncio.sleep(0.001)
        assert client.was_lost
        assert world.server.receiving.decoded.used == 0


def test_how_many_things_a_request_may_name() -> None:
    assert parts_max(ApiKey.OFFSET_COMMIT) == ELEMENTS_MAX
    assert parts_max(ApiKey.FIND_COORDINATOR) == PARTS_MAX
