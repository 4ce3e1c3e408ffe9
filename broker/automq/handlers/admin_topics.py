"""Handles messages.admin for topics: create, delete, grow."""

import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
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
    DeleteTopicState,
)
from automq.protocol.schema import ZERO_UUID, Message
from automq.security.authorizer import Operation, Resource, ResourceType


async def handle_create_topics(context: RequestContext, request: CreateTopicsRequest) -> CreateTopicsResponse:
    """One result a topic. Any replication factor is taken and shown back: the object store replicates."""
    answers: dict[str, CreatableTopicResult] = {}
    specs: list[TopicSpec] = []
    for topic in request.topics:
        try:
            specs.append(_spec(topic))
        except ApiError as refused:
            answers[topic.name] = _not_created(topic.name, refused)
    creation = context.services.controller.create_topics(specs, validate_only=request.validate_only)
    configs = {spec.name: spec.configs for spec in specs}
    try:
        for result in await within(request.timeout, creation):
            answers[result.name] = _created(context, result, configs[result.name])
    except FAILURES as error:
        answers |= {spec.name: _not_created(spec.name, error) for spec in specs}
    return CreateTopicsResponse(
        topics=[answers[name] for name in dict.fromkeys(topic.name for topic in request.topics)]
    )


def _spec(topic: CreatableTopic) -> TopicSpec:
    """What the controller is asked. Raises ApiError for what it cannot be asked."""
    configs = {config.name: config.value for config in topic.configs}
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
    assignments = {entry.partition_index: [NodeId(n) for n in entry.broker_ids] for entry in topic.assignments}
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
    asked = request.topics if context.version >= 6 else [DeleteTopicState(name=name) for name in request.topic_names]
    counts = Counter((state.name, state.topic_id) for state in asked)
    problems = {key: _deletion_problem(context, key[0], TopicId(key[1]), count) for key, count in counts.items()}
    keys = {key: TopicId(key[1]) if key[0] is None else key[0] for key, problem in problems.items() if problem is None}
    image = context.services.metadata.image
    # Of what may not be deleted the name stays unsaid.
    names = {key: topic.name for key in keys if (topic := image.topic_by_id(TopicId(key[1]))) is not None}
    results: dict[tuple[str | None, uuid.UUID], Exception | TopicResult] = {
        key: problem for key, problem in problems.items() if problem is not None
    }
    if keys:
        deletion = context.services.controller.delete_topics(list(keys.values()))
        try:
            results |= dict(zip(keys, await within(request.timeout, deletion), strict=True))
        except FAILURES as error:
            results |= dict.fromkeys(keys, error)
    return DeleteTopicsResponse(
        responses=[_deleted(key[0] if key[0] is not None else names.get(key), key[1], results[key]) for key in counts]
    )


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
    growth = context.services.controller.create_partitions(
        [_growth(topic) for topic in request.topics], validate_only=request.validate_only
    )
    answers: dict[str, Exception | None]
    try:
        answers = {result.name: result.error for result in await within(request.timeout, growth)}
    except FAILURES as error:
        answers = {topic.name: error for topic in request.topics}
    return CreatePartitionsResponse(results=[_grown(name, error) for name, error in answers.items()])


def _growth(topic: CreatePartitionsTopic) -> PartitionsSpec:
    assignments: Sequence[Sequence[NodeId]] | None = None
    if topic.assignments is not None:
        assignments = [[NodeId(node) for node in entry.broker_ids] for entry in topic.assignments]
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
