"""Handles messages.admin for topics: create, delete, grow."""

import itertools
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from automq.controller.model import PartitionsSpec, TopicResult, TopicSpec
from automq.handlers.access import refusal
from automq.handlers.config_views import created_topic_configs
from automq.handlers.context import Handler, RequestContext
from automq.handlers.deadline import FAILURES, within
from automq.handlers.errors import error_code_of, error_message_of
from automq.ids import NodeId, TopicId
from automq.metadata.configs import TOPIC_CONFIGS
from automq.protocol.errors import ApiError, ErrorCode
from automq.protocol.messages.admin import (
    CreatableTopic,
    CreatableTopicResult,
    CreatePartitionsRequest,
    CreatePartitionsResponse,
    CreatePartitionsTopic,
    CreatePartitionsTopicResult,
    CreateTopicsRequest,
    CreateTopicsResponse,
    DeletableTopicResult,
    DeleteTopicsRequest,
    DeleteTopicsResponse,
)
from automq.protocol.schema import ZERO_UUID, Message
from automq.runtime.turns import Pace, counted_in_turns, free_in_turns, in_turns, map_in_turns
from automq.security.authorizer import Operation, Resource, ResourceType
from automq.steps import Steps

# About how long a topic takes or a list of replicas, and one that was made, with its configs.
SPEC_US: Final = 4
NAME_US: Final = 1
CREATED_US: Final = 150


async def handle_create_topics(context: RequestContext, request: CreateTopicsRequest) -> CreateTopicsResponse:
    """One result a topic. Any replication factor is taken and shown back: the object store replicates."""
    answers: dict[str, CreatableTopicResult] = {}
    specs: list[TopicSpec] = []
    pace = Pace()
    for topic in request.topics:
        try:
            specs.append(await in_turns(_spec(topic)))
        except ApiError as refused:
            answers[topic.name] = _not_created(topic.name, refused)
        await pace.spend(SPEC_US)
    creation = context.services.controller.create_topics(specs, validate_only=request.validate_only)
    configs: dict[str, Mapping[str, str | None]] = {}
    for spec in specs:
        configs[spec.name] = spec.configs
        await pace.spend(NAME_US)
    try:
        for result in await within(request.timeout, creation):
            answers[result.name] = _created(context, result, configs[result.name])
            await pace.spend(SPEC_US if result.error is not None else CREATED_US)
    except FAILURES as error:
        for spec in specs:
            answers[spec.name] = _not_created(spec.name, error)
            await pace.spend(SPEC_US)
    names = await counted_in_turns((topic.name for topic in request.topics), part_us=NAME_US)
    response = CreateTopicsResponse(topics=await map_in_turns(answers.__getitem__, names, part_us=NAME_US))
    await free_in_turns(answers, configs, specs, names)
    return response


def _spec(topic: CreatableTopic) -> Steps[TopicSpec]:
    """What the controller is asked. Raises ApiError for what it cannot be asked."""
    configs: dict[str, str | None] = {}
    for config in topic.configs:
        configs[config.name] = config.value
        yield NAME_US
    if not topic.assignments:
        return TopicSpec(
            name=topic.name,
            partitions=None if topic.num_partitions == -1 else topic.num_partitions,
            replication_factor=None if topic.replication_factor == -1 else topic.replication_factor,
            configs=configs,
        )
    for what, number in (("numPartitions", topic.num_partitions), ("replication factor", topic.replication_factor)):
        if number != -1:
            message = f"A manual partition assignment was specified, but {what} was not set to -1."
            raise ApiError(ErrorCode.INVALID_REQUEST, message)
    assignments: dict[int, Sequence[NodeId]] = {}
    for entry in topic.assignments:
        assignments[entry.partition_index] = [NodeId(node) for node in entry.broker_ids]
        yield SPEC_US
    if len(assignments) != len(topic.assignments):
        raise ApiError(ErrorCode.INVALID_REPLICA_ASSIGNMENT, "A partition is assigned twice.")
    return TopicSpec(name=topic.name, assignments=assignments, configs=configs)


def _created(context: RequestContext, result: TopicResult, configs: Mapping[str, str | None]) -> CreatableTopicResult:
    if result.error is not None:
        return _not_created(result.name, result.error)
    services = context.services
    overrides = {name: TOPIC_CONFIGS[name].canonical(value) for name, value in configs.items() if value is not None}
    return CreatableTopicResult(
        name=result.name,
        topic_id=ZERO_UUID if result.topic_id is None else result.topic_id,
        num_partitions=result.partitions,
        replication_factor=result.replication_factor,
        configs=created_topic_configs(services.metadata.image, services.broker_configs, services.node, overrides),
    )


def _not_created(name: str, error: Exception) -> CreatableTopicResult:
    return CreatableTopicResult(
        name=name, error_code=error_code_of(error), error_message=error_message_of(error), configs=[]
    )


async def handle_delete_topics(context: RequestContext, request: DeleteTopicsRequest) -> DeleteTopicsResponse:
    """By name, or from version 6 by id; one result for each that is asked, in order."""
    asked: Iterable[tuple[str | None, uuid.UUID]] = ((state.name, state.topic_id) for state in request.topics)
    if context.version < 6:
        asked = ((name, ZERO_UUID) for name in request.topic_names)
    counts = await counted_in_turns(asked, part_us=SPEC_US)
    image, pace = context.services.metadata.image, Pace()
    keys: dict[tuple[str | None, uuid.UUID], str | TopicId] = {}
    names: dict[tuple[str | None, uuid.UUID], str] = {}
    """Of what may not be deleted the name stays unsaid."""
    results: dict[tuple[str | None, uuid.UUID], Exception | TopicResult] = {}
    for key, count in counts.items():
        problem = _deletion_problem(context, key[0], TopicId(key[1]), count)
        if problem is not None:
            results[key] = problem
        else:
            keys[key] = TopicId(key[1]) if key[0] is None else key[0]
            topic = image.topic_by_id(TopicId(key[1]))
            if topic is not None:
                names[key] = topic.name
        await pace.spend(SPEC_US)
    if keys:
        deletion = context.services.controller.delete_topics(list(keys.values()))
        try:
            outcomes: Iterable[Exception | TopicResult] = await within(request.timeout, deletion)
        except FAILURES as error:
            outcomes = itertools.repeat(error, len(keys))
        for key, outcome in zip(keys, outcomes, strict=True):
            results[key] = outcome
            await pace.spend(SPEC_US)
    response = DeleteTopicsResponse()
    for key in counts:
        name = key[0] if key[0] is not None else names.get(key)
        response.responses.append(_deleted(name, key[1], results[key]))
        await pace.spend(SPEC_US)
    await free_in_turns(results, names, keys, counts)
    return response


def _deletion_problem(context: RequestContext, name: str | None, topic_id: TopicId, count: int) -> ApiError | None:
    if not context.services.broker_configs.delete_topics:
        code = ErrorCode.INVALID_REQUEST if context.version < 3 else ErrorCode.TOPIC_DELETION_DISABLED
        return ApiError(code, "Topic deletion is disabled: delete.topic.enable is false.")
    if name is not None and topic_id != ZERO_UUID:
        return ApiError(ErrorCode.INVALID_REQUEST, "You may not specify both topic name and topic id.")
    if name is None and topic_id == ZERO_UUID:
        return ApiError(ErrorCode.INVALID_REQUEST, "Neither topic name nor id were specified.")
    if count > 1:
        what = "topic name" if name is not None else "topic id"
        return ApiError(ErrorCode.INVALID_REQUEST, f"Duplicate {what}.")
    known = context.services.metadata.image.topic_by_id(topic_id)
    resource: Resource = (ResourceType.TOPIC, name if name is not None else "" if known is None else known.name)
    if (name is not None or known is not None) and not context.allows(Operation.DELETE, resource):
        return refusal(resource)
    return None


def _deleted(name: str | None, topic_id: uuid.UUID, result: Exception | TopicResult) -> DeletableTopicResult:
    error = result.error if isinstance(result, TopicResult) else result
    if error is not None:
        known = None if error_code_of(error) is ErrorCode.UNKNOWN_TOPIC_ID else name
        return DeletableTopicResult(
            name=known, topic_id=topic_id, error_code=error_code_of(error), error_message=error_message_of(error)
        )
    assert isinstance(result, TopicResult)
    return DeletableTopicResult(name=name or result.name, topic_id=result.topic_id or topic_id)


async def handle_create_partitions(
    context: RequestContext, request: CreatePartitionsRequest
) -> CreatePartitionsResponse:
    """Topics only grow."""
    pace, specs = Pace(), []
    for topic in request.topics:
        specs.append(await in_turns(_growth(topic)))
        await pace.spend(SPEC_US)
    growth = context.services.controller.create_partitions(specs, validate_only=request.validate_only)
    answers: dict[str, Exception | None] = {}
    try:
        for result in await within(request.timeout, growth):
            answers[result.name] = result.error
            await pace.spend(SPEC_US)
    except FAILURES as error:
        for topic in request.topics:
            answers[topic.name] = error
            await pace.spend(NAME_US)
    results = await map_in_turns(lambda name: _grown(name, answers[name]), answers, part_us=SPEC_US)
    await free_in_turns(answers, specs)
    return CreatePartitionsResponse(results=results)


def _growth(topic: CreatePartitionsTopic) -> Steps[PartitionsSpec]:
    assignments: list[Sequence[NodeId]] | None = None
    if topic.assignments is not None:
        assignments = []
        for entry in topic.assignments:
            assignments.append([NodeId(node) for node in entry.broker_ids])
            yield SPEC_US
    return PartitionsSpec(name=topic.name, count=topic.count, assignments=assignments)


def _grown(name: str, error: Exception | None) -> CreatePartitionsTopicResult:
    if error is None:
        return CreatePartitionsTopicResult(name=name)
    return CreatePartitionsTopicResult(
        name=name, error_code=error_code_of(error), error_message=error_message_of(error)
    )


HANDLERS: Final[Mapping[type[Message], Handler]] = {
    CreateTopicsRequest: handle_create_topics,
    DeleteTopicsRequest: handle_delete_topics,
    CreatePartitionsRequest: handle_create_partitions,
}
