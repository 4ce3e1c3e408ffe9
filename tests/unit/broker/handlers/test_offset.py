"""Offset requests in every version: topics by name and by id, and errors in their places."""

import uuid
from dataclasses import replace

import pytest

from automq.coordinators.group.coordinator import OFFSETS_TOPIC, GroupCoordinator
from automq.handlers.offset import HANDLERS, handle_offset_commit, handle_offset_delete, handle_offset_fetch
from automq.protocol.codec import encode
from automq.protocol.errors import ApiError, ErrorCode
from automq.protocol.messages.offset import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
    OffsetDeleteRequest,
    OffsetDeleteRequestPartition,
    OffsetDeleteRequestTopic,
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopic,
    OffsetFetchRequestTopics,
)
from tests.support.coordinator_world import a_coordinator
from tests.support.handler_world import context_of, image_of, topic_id

IMAGE = image_of({OFFSETS_TOPIC: 2, "t": 2}, internal=[OFFSETS_TOPIC])
UNKNOWN = uuid.UUID(int=99)


def a_topic(version: int, name: str, *partitions: OffsetCommitRequestPartition) -> OffsetCommitRequestTopic:
    if version >= 10:
        found = UNKNOWN if name == "unknown" else topic_id(name)
        return OffsetCommitRequestTopic(topic_id=found, partitions=list(partitions))
    return OffsetCommitRequestTopic(name=name, partitions=list(partitions))


def an_offset(index: int, offset: int = 5) -> OffsetCommitRequestPartition:
    return OffsetCommitRequestPartition(partition_index=index, committed_offset=offset, committed_metadata="m")


async def commit(groups: GroupCoordinator, version: int = 9, **fields: object) -> list[tuple[str, int, ErrorCode]]:
    request = OffsetCommitRequest(
        group_id="g",
        topics=[
            a_topic(version, "t", an_offset(0), an_offset(7), an_offset(1)),
            a_topic(version, "unknown", an_offset(0)),
        ],
        **fields,  # type: ignore[arg-type]
    )
    response = await handle_offset_commit(context_of(IMAGE, version=version, groups=groups), request)
    encode(response, version)
    names = {topic_id("t"): "t", UNKNOWN: "unknown"}
    return [
        (
            names.get(topic.topic_id, "?") if version >= 10 else topic.name,
            part.partition_index,
            ErrorCode(part.error_code),
        )
        for topic in response.topics
        for part in topic.partitions
    ]


@pytest.mark.parametrize("version", OffsetCommitRequest.VERSIONS)
async def test_what_exists_is_committed_and_everything_is_answered_in_order(version: int) -> None:
    async with a_coordinator(IMAGE) as groups:
        found = await commit(groups, version)
        stored = await groups.offset_fetch(OffsetFetchRequestGroup(group_id="g", topics=None))
    code = ErrorCode.UNKNOWN_TOPIC_ID if version >= 10 else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert found == [
        ("t", 0, ErrorCode.NONE),
        ("t", 7, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        ("t", 1, ErrorCode.NONE),
        ("unknown", 0, code),
    ]
    assert [(part.partition_index, part.committed_offset) for part in stored.topics[0].partitions] == [(0, 5), (1, 5)]


async def test_an_error_of_the_group_is_answered_for_every_partition() -> None:
    async with a_coordinator(IMAGE) as groups:
        found = await commit(groups, 9, generation_id_or_member_epoch=3, member_id="nobody")
        older = await commit(groups, 8, generation_id_or_member_epoch=3, member_id="nobody")
    assert [code for _, _, code in found] == [
        ErrorCode.GROUP_ID_NOT_FOUND,
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode.GROUP_ID_NOT_FOUND,
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
    ]
    assert older[0][2] is ErrorCode.ILLEGAL_GENERATION


async def test_without_a_topic_that_exists_nothing_is_committed_and_deleting_asks_for_the_group() -> None:
    async with a_coordinator(IMAGE) as groups:
        commit = await handle_offset_commit(
            context_of(IMAGE, version=9, groups=groups), OffsetCommitRequest(group_id="g", member_id="nobody")
        )
        unknown = OffsetDeleteRequestTopic(name="u", partitions=[OffsetDeleteRequestPartition(partition_index=0)])
        for group_id, code in (("none", ErrorCode.GROUP_ID_NOT_FOUND), ("", ErrorCode.INVALID_GROUP_ID)):
            request = OffsetDeleteRequest(group_id=group_id, topics=[unknown])
            with pytest.raises(ApiError) as caught:
                await handle_offset_delete(context_of(IMAGE, version=0, groups=groups), request)
            assert caught.value.code is code
    assert commit.topics == []


@pytest.mark.parametrize("version", range(1, 8))
async def test_one_group_is_fetched_by_older_versions(version: int) -> None:
    async with a_coordinator(IMAGE) as groups:
        await commit(groups)
        context = context_of(IMAGE, version=version, groups=groups)
        topics = [OffsetFetchRequestTopic(name="t", partition_indexes=[0, 7])]
        response = await handle_offset_fetch(context, OffsetFetchRequest(group_id="g", topics=topics))
        encode(response, version)
        everything = await handle_offset_fetch(context, OffsetFetchRequest(group_id="g", topics=None))
        encode(everything, version)
    assert [(part.partition_index, part.committed_offset, part.metadata) for part in response.topics[0].partitions] == [
        (0, 5, "m"),
        (7, -1, ""),
    ]
    assert [part.partition_index for part in everything.topics[0].partitions] == [0, 1]


@pytest.mark.parametrize("version", [8, 9, 10])
async def test_several_groups_are_fetched_by_newer_versions(version: int) -> None:
    async with a_coordinator(IMAGE) as groups:
        await commit(groups)
        asked = [
            OffsetFetchRequestTopics(name="t", partition_indexes=[1]),
            OffsetFetchRequestTopics(name="u", partition_indexes=[1]),
        ]
        if version >= 10:
            asked = [
                OffsetFetchRequestTopics(topic_id=topic_id("t"), partition_indexes=[1]),
                OffsetFetchRequestTopics(topic_id=UNKNOWN, partition_indexes=[1]),
            ]
        response = await handle_offset_fetch(
            context_of(IMAGE, version=version, groups=groups),
            OffsetFetchRequest(
                groups=[
                    OffsetFetchRequestGroup(group_id="g", topics=asked),
                    OffsetFetchRequestGroup(group_id="g", topics=None),
                    OffsetFetchRequestGroup(group_id="none", topics=None),
                ]
            ),
        )
        encode(response, version)
    named, everything, nothing = response.groups
    assert [part.committed_offset for topic in named.topics for part in topic.partitions] == [5, -1]
    assert named.topics[1].partitions[0].error_code == (ErrorCode.UNKNOWN_TOPIC_ID if version >= 10 else 0)
    assert [part.committed_offset for topic in everything.topics for part in topic.partitions] == [5, 5]
    if version >= 10:
        assert [topic.topic_id for topic in everything.topics] == [topic_id("t")]
    assert (nothing.topics, nothing.error_code) == ([], 0)


async def test_the_oldest_version_has_no_error_but_those_of_partitions() -> None:
    async with a_coordinator(IMAGE) as groups:
        groups.fence()
        topics = [OffsetFetchRequestTopic(name="t", partition_indexes=[0])]
        for version in (1, 2):
            response = await handle_offset_fetch(
                context_of(IMAGE, version=version, groups=groups), OffsetFetchRequest(group_id="g", topics=topics)
            )
            encode(response, version)
            found = response.topics[0].partitions[0].error_code if version == 1 else response.error_code
            assert found == ErrorCode.NOT_COORDINATOR


async def test_offsets_are_deleted_where_there_is_such_a_partition() -> None:
    async with a_coordinator(IMAGE) as groups:
        await commit(groups)
        partitions = [OffsetDeleteRequestPartition(partition_index=index) for index in (0, 7)]
        unknown = [OffsetDeleteRequestPartition(partition_index=0)]
        request = OffsetDeleteRequest(
            group_id="g",
            topics=[
                OffsetDeleteRequestTopic(name="t", partitions=partitions),
                OffsetDeleteRequestTopic(name="unknown", partitions=unknown),
            ],
        )
        context = context_of(IMAGE, version=0, groups=groups)
        response = await handle_offset_delete(context, request)
        encode(response, 0)
        left = await groups.offset_fetch(OffsetFetchRequestGroup(group_id="g", topics=None))
        request.group_id = "none"
        with pytest.raises(ApiError) as caught:
            await handle_offset_delete(context, request)
    found = {
        (topic.name, part.partition_index): ErrorCode(part.error_code)
        for topic in response.topics
        for part in topic.partitions
    }
    assert found == {
        ("t", 0): ErrorCode.NONE,
        ("t", 7): ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        ("unknown", 0): ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
    }
    assert [part.partition_index for part in left.topics[0].partitions] == [1]
    assert caught.value.code is ErrorCode.GROUP_ID_NOT_FOUND


def test_every_offset_request_is_handled() -> None:
    assert sorted(str(request.API_KEY) for request in HANDLERS) == ["47", "8", "9"]


async def test_topic_with_known_and_unknown_partitions_is_answered_once() -> None:
    async with a_coordinator(IMAGE) as groups:
        context = context_of(IMAGE, version=0, groups=groups)
        committed = OffsetCommitRequestTopic(name="t", partitions=[OffsetCommitRequestPartition(partition_index=0)])
        await handle_offset_commit(
            replace(context, version=7),
            OffsetCommitRequest(group_id="g", generation_id_or_member_epoch=-1, topics=[committed]),
        )
        parts = [OffsetDeleteRequestPartition(partition_index=index) for index in (0, 99)]
        topic = OffsetDeleteRequestTopic(name="t", partitions=parts)
        response = await handle_offset_delete(context, OffsetDeleteRequest(group_id="g", topics=[topic]))
    (answer,) = response.topics
    assert {part.partition_index: part.error_code for part in answer.partitions} == {
        0: ErrorCode.NONE,
        99: ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
    }
