"""Handles messages.offset: committed offsets.

From version 10 on OffsetCommit and OffsetFetch name topics by id; the coordinator knows them by name. A topic that the
image does not have is answered here.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from automq.handlers.access import refusal, require
from automq.handlers.context import Handler, RequestContext
from automq.ids import TopicId
from automq.protocol.errors import ApiError, ErrorCode
from automq.protocol.messages.offset import (
    OffsetCommitRequest,
    OffsetCommitRequestTopic,
    OffsetCommitResponse,
    OffsetCommitResponsePartition,
    OffsetCommitResponseTopic,
    OffsetDeleteRequest,
    OffsetDeleteRequestTopic,
    OffsetDeleteResponse,
    OffsetDeleteResponsePartition,
    OffsetDeleteResponseTopic,
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopics,
    OffsetFetchResponse,
    OffsetFetchResponseGroup,
    OffsetFetchResponsePartition,
    OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
)
from automq.protocol.schema import Message
from automq.runtime.turns import Pace, free_in_turns, in_turns, map_in_turns
from automq.security.authorizer import Operation, ResourceType
from automq.steps import Steps

_TOPIC_IDS_SINCE: Final = 10
_GROUP_ERRORS_SINCE: Final = 9
_BATCHED_SINCE: Final = 8
_TOP_LEVEL_ERROR_SINCE: Final = 2
NO_OFFSET: Final = -1
# About how long a topic of an answer takes, and a partition.
TOPIC_US: Final = 5
PARTITION_US: Final = 2
GROUP_US: Final = 40
PARTITIONS_A_PART: Final = 500


async def handle_offset_commit(context: RequestContext, request: OffsetCommitRequest) -> OffsetCommitResponse:
    """Commits of topics that exist; every partition is answered in the order of the request."""
    response, pace = OffsetCommitResponse(), Pace()
    known: list[tuple[OffsetCommitRequestTopic, OffsetCommitResponseTopic]] = []
    for topic in request.topics:
        error = _resolve(context, topic)
        await pace.spend(TOPIC_US)
        answer = OffsetCommitResponseTopic(name=topic.name, topic_id=topic.topic_id)
        response.topics.append(answer)
        known_partitions = []
        count = _partitions_of(context, topic.name)
        for partition in topic.partitions:
            index = partition.partition_index
            code = error
            if code is ErrorCode.NONE and not 0 <= index < count:
                code = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            if code is ErrorCode.NONE:
                known_partitions.append(partition)
            answer.partitions.append(OffsetCommitResponsePartition(partition_index=index, error_code=code))
            await pace.spend(PARTITION_US)
        asked, topic.partitions = topic.partitions, known_partitions
        if len(known_partitions) < len(asked):
            await free_in_turns(asked)
        if known_partitions:
            known.append((topic, answer))
    all_topics, request.topics = request.topics, await map_in_turns(lambda each: each[0], known, part_us=PARTITION_US)
    await free_in_turns(all_topics)
    if request.topics:
        await _commit_known(context, request, known)
    return response


async def _commit_known(
    context: RequestContext,
    request: OffsetCommitRequest,
    known: list[tuple[OffsetCommitRequestTopic, OffsetCommitResponseTopic]],
) -> None:
    """Commit, and put the outcome of each partition into its answer."""
    failure: ErrorCode | None = None
    committed = OffsetCommitResponse()
    try:
        committed = await context.services.groups.offset_commit(
            request, knows_group_errors=context.version >= _GROUP_ERRORS_SINCE
        )
    except ApiError as error:
        failure = error.code
    pace = Pace()
    for position, (_topic, answer) in enumerate(known):
        # Answered in the order of the request, those that there are; the others have their errors already.
        outcomes = iter(committed.topics[position].partitions) if failure is None else None
        for partition in answer.partitions:
            if partition.error_code == ErrorCode.NONE:
                partition.error_code = next(outcomes).error_code if outcomes is not None else failure or ErrorCode.NONE
            await pace.spend(PARTITION_US)
    for topic in committed.topics:
        await free_in_turns(topic.partitions)


def _resolve(context: RequestContext, topic: OffsetCommitRequestTopic | OffsetFetchRequestTopics) -> ErrorCode:
    """Give `topic` its name and id from the image; what there is to say if it has none."""
    image = context.services.metadata.image
    if context.version >= _TOPIC_IDS_SINCE:
        found = image.topic_by_id(TopicId(topic.topic_id))
        if found is None:
            return ErrorCode.UNKNOWN_TOPIC_ID
        topic.name = found.name
        return ErrorCode.NONE
    found = image.topic(topic.name)
    if found is None:
        return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    topic.topic_id = found.topic_id
    return ErrorCode.NONE


def _partitions_of(context: RequestContext, name: str) -> int:
    """How many the topic has; 0 when there is none."""
    topic = context.services.metadata.image.topic(name)
    return 0 if topic is None else len(topic.partitions)


async def handle_offset_fetch(context: RequestContext, request: OffsetFetchRequest) -> OffsetFetchResponse:
    """One group, or from version 8 on several. No offset is ever unstable without transactions."""
    if context.version >= _BATCHED_SINCE:
        answer, pace = OffsetFetchResponse(), Pace()
        for group in request.groups:
            answer.groups.append(await _fetch(context, group))
            await pace.spend(GROUP_US)
        return answer
    group = OffsetFetchRequestGroup(group_id=request.group_id, topics=None)
    if request.topics is not None:
        group.topics = await map_in_turns(
            lambda topic: OffsetFetchRequestTopics(name=topic.name, partition_indexes=topic.partition_indexes),
            request.topics,
            part_us=TOPIC_US,
        )
    fetched = await _fetch(context, group)
    if fetched.error_code and context.version < _TOP_LEVEL_ERROR_SINCE:
        fetched.topics = await in_turns(_failed_topics(group, fetched.error_code))
    await free_in_turns(group.topics or [])
    response, pace = OffsetFetchResponse(error_code=fetched.error_code), Pace()
    fetched.topics.reverse()
    while fetched.topics:
        answered = fetched.topics.pop()
        topic = OffsetFetchResponseTopic(name=answered.name)
        response.topics.append(topic)
        for first in range(0, len(answered.partitions), PARTITIONS_A_PART):
            part = answered.partitions[first : first + PARTITIONS_A_PART]
            for partition in part:
                topic.partitions.append(
                    OffsetFetchResponsePartition(
                        partition_index=partition.partition_index,
                        committed_offset=partition.committed_offset,
                        committed_leader_epoch=partition.committed_leader_epoch,
                        metadata=partition.metadata,
                        error_code=partition.error_code,
                    )
                )
            await pace.spend(PARTITION_US * len(part))
        await pace.spend(TOPIC_US)
    return response


async def _fetch(context: RequestContext, request: OffsetFetchRequestGroup) -> OffsetFetchResponseGroup:
    try:
        require(context, Operation.DESCRIBE, (ResourceType.GROUP, request.group_id))
    except ApiError as error:
        return OffsetFetchResponseGroup(group_id=request.group_id, error_code=error.code)
    asked, refused = request.topics, list[tuple[OffsetFetchRequestTopics, ErrorCode]]()
    if asked is not None:
        request.topics, refused = await _answerable(context, asked)
    try:
        response = await context.services.groups.offset_fetch(request)
    except ApiError as error:
        await free_in_turns(refused)
        return OffsetFetchResponseGroup(group_id=request.group_id, error_code=error.code)
    finally:
        # Whole again: it is freed in turns by whoever decoded it.
        request.topics = asked
    pace = Pace()
    if asked is None:
        has_ids, answers = context.version >= _TOPIC_IDS_SINCE, []
        for answered in response.topics:
            if _is_seen(context, answered) and (not has_ids or _fill_topic_id(context, answered)):
                answers.append(answered)
            await pace.spend(TOPIC_US)
        found, response.topics = response.topics, answers
        await free_in_turns(found)
    for topic, code in refused:
        response.topics.append(await in_turns(_failed_topic(topic, code)))
        await pace.spend(TOPIC_US)
    await free_in_turns(refused)
    return response


async def _answerable(
    context: RequestContext, topics: Sequence[OffsetFetchRequestTopics]
) -> tuple[list[OffsetFetchRequestTopics], list[tuple[OffsetFetchRequestTopics, ErrorCode]]]:
    """Those that the group is asked for, and those that are answered with an error."""
    known: list[OffsetFetchRequestTopics] = []
    refused: list[tuple[OffsetFetchRequestTopics, ErrorCode]] = []
    has_ids, pace = context.version >= _TOPIC_IDS_SINCE, Pace()
    for topic in topics:
        code = _resolve(context, topic) if has_ids else ErrorCode.NONE
        if not code and not _is_seen(context, topic):
            code = refusal((ResourceType.TOPIC, "")).code
        if code:
            refused.append((topic, code))
        else:
            known.append(topic)
        await pace.spend(TOPIC_US)
    return known, refused


def _is_seen(context: RequestContext, topic: OffsetFetchRequestTopics | OffsetFetchResponseTopics) -> bool:
    return context.allows(Operation.DESCRIBE, (ResourceType.TOPIC, topic.name))


def _fill_topic_id(context: RequestContext, topic: OffsetFetchResponseTopics) -> bool:
    """Whether the topic still exists, and so has an id to be named by."""
    found = context.services.metadata.image.topic(topic.name)
    if found is not None:
        topic.topic_id = found.topic_id
    return found is not None


def _failed_topics(request: OffsetFetchRequestGroup, code: int) -> Steps[list[OffsetFetchResponseTopics]]:
    failed: list[OffsetFetchResponseTopics] = []
    for topic in request.topics or ():
        answer = yield from _failed_topic(topic, code)
        failed.append(answer)
    return failed


def _failed_topic(topic: OffsetFetchRequestTopics, code: int) -> Steps[OffsetFetchResponseTopics]:
    answer = OffsetFetchResponseTopics(name=topic.name, topic_id=topic.topic_id)
    for index in topic.partition_indexes:
        answer.partitions.append(
            OffsetFetchResponsePartitions(
                partition_index=index, committed_offset=NO_OFFSET, metadata="", error_code=code
            )
        )
        yield PARTITION_US
    yield TOPIC_US
    return answer


async def handle_offset_delete(context: RequestContext, request: OffsetDeleteRequest) -> OffsetDeleteResponse:
    """Deletes offsets of topics that no member of the group reads; unknown partitions are told beside the others."""
    known: list[OffsetDeleteRequestTopic] = []
    unknown: dict[str, list[OffsetDeleteResponsePartition]] = {}
    pace = Pace()
    for topic in request.topics:
        partitions = []
        count = _partitions_of(context, topic.name)
        for part in topic.partitions:
            if 0 <= part.partition_index < count:
                partitions.append(part)
            else:
                code = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
                unknown.setdefault(topic.name, []).append(
                    OffsetDeleteResponsePartition(partition_index=part.partition_index, error_code=code)
                )
            await pace.spend(PARTITION_US)
        await pace.spend(TOPIC_US)
        if partitions:
            known.append(OffsetDeleteRequestTopic(name=topic.name, partitions=partitions))
    try:
        # Whatever is known of the partitions, the group must be there.
        response = await context.services.groups.offset_delete(
            OffsetDeleteRequest(group_id=request.group_id, topics=known)
        )
        if response.error_code:
            return response
        for done in response.topics:
            done.partitions = unknown.pop(done.name, []) + done.partitions
        for name, refused in unknown.items():
            response.topics.append(OffsetDeleteResponseTopic(name=name, partitions=refused))
            await pace.spend(TOPIC_US)
        return response
    finally:
        await free_in_turns(unknown, known)


HANDLERS: Final[Mapping[type[Message], Handler]] = {
    OffsetCommitRequest: handle_offset_commit,
    OffsetFetchRequest: handle_offset_fetch,
    OffsetDeleteRequest: handle_offset_delete,
}
