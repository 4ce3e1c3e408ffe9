"""What a client needs to be allowed, for every API: asked here before the handler runs.

A rule is about the request as a whole, or about each of the things it names: what is refused is answered with Kafka's
code, and the handler sees the rest. Handlers whose answers depend on what a client may see ask themselves, through
`RequestContext.allows`.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from automq.handlers.context import Handler, RequestContext
from automq.ids import TopicId
from automq.metadata.image import BROKER_RESOURCE, TOPIC_RESOURCE
from automq.protocol.apis import Api
from automq.protocol.error_response import error_response_in_parts
from automq.protocol.errors import ApiError, ErrorCode
from automq.protocol.messages import admin, admin_cluster, controller, fetch, group, group_admin, offset, security
from automq.protocol.messages import quotas as quota_messages
from automq.protocol.messages import transaction_admin as transactions
from automq.protocol.metadata_codec import EncodedMetadata
from automq.protocol.schema import ZERO_UUID, Message
from automq.runtime.turns import in_turns
from automq.security.authorizer import CLUSTER, Operation, Resource, ResourceType
from automq.steps import Steps

Answer = TypeVar("Answer", Message, Message | EncodedMetadata)

REFUSALS: Final[Mapping[ResourceType, tuple[ErrorCode, str]]] = {
    ResourceType.TOPIC: (ErrorCode.TOPIC_AUTHORIZATION_FAILED, "Topic authorization failed."),
    ResourceType.GROUP: (ErrorCode.GROUP_AUTHORIZATION_FAILED, "Group authorization failed."),
    ResourceType.CLUSTER: (ErrorCode.CLUSTER_AUTHORIZATION_FAILED, "Cluster authorization failed."),
    ResourceType.TRANSACTIONAL_ID: (
        ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
        "Transactional Id authorization failed.",
    ),
}

GROUP_CONFIGS: Final = 32
"""The resource type of a group in requests about configs."""


def refusal(resource: Resource) -> ApiError:
    """What a client is told that may not do what it asked of `resource`."""
    return ApiError(*REFUSALS[resource[0]])


def require(context: RequestContext, operation: Operation, resource: Resource) -> None:
    """Raises ApiError unless the client may do `operation` to `resource`."""
    if not context.allows(operation, resource):
        raise refusal(resource)


@dataclass(frozen=True, slots=True)
class Whole:
    """The request is refused as a whole."""

    operation: Operation
    resource: Callable[[Any], Resource] = lambda _request: CLUSTER


@dataclass(frozen=True, slots=True)
class Each:
    """Each of the things in the request's array `asked` is refused by itself, in the response's array `answered`."""

    asked: str
    answered: str
    check: Callable[[RequestContext, Any], None]
    """Of one thing. Raises ApiError."""


def _group(request: Any) -> Resource:
    return ResourceType.GROUP, request.group_id


def _topics(operation: Operation, *, answered: str = "topics") -> Each:
    """Topics named by `name`, or by `topic` where the API calls them that; by id where there is no name."""

    def check(context: RequestContext, topic: Any) -> None:
        name: str | None = topic.topic if hasattr(topic, "topic") else topic.name
        if not name and (topic_id := getattr(topic, "topic_id", ZERO_UUID)) != ZERO_UUID:
            found = context.services.metadata.image.topic_by_id(TopicId(topic_id))
            if found is None:
                # Nobody is told more of it than that there is no such id.
                return
            name = found.name
        require(context, operation, (ResourceType.TOPIC, name or ""))

    return Each("topics", answered, check)


def _names(asked: str, answered: str, operation: Operation, kind: ResourceType) -> Each:
    """Things named by bare strings."""
    return Each(asked, answered, lambda context, name: require(context, operation, (kind, name)))


def _may_create(context: RequestContext, topic: admin.CreatableTopic) -> None:
    if not context.allows(Operation.CREATE, CLUSTER):
        require(context, Operation.CREATE, (ResourceType.TOPIC, topic.name))


def _config_resources(operation: Operation, *, answered: str) -> Each:
    def check(context: RequestContext, resource: Any) -> None:
        if resource.resource_type == TOPIC_RESOURCE:
            require(context, operation, (ResourceType.TOPIC, resource.resource_name))
        elif resource.resource_type == GROUP_CONFIGS:
            require(context, operation, (ResourceType.GROUP, resource.resource_name))
        elif resource.resource_type >= BROKER_RESOURCE:
            require(context, operation, CLUSTER)

    return Each("resources", answered, check)


RULES: Final[Mapping[type[Message], Sequence[Whole | Each]]] = {
    # Groups.
    group.JoinGroupRequest: [Whole(Operation.READ, _group)],
    group.SyncGroupRequest: [Whole(Operation.READ, _group)],
    group.HeartbeatRequest: [Whole(Operation.READ, _group)],
    group.LeaveGroupRequest: [Whole(Operation.READ, _group)],
    group_admin.DescribeGroupsRequest: [_names("groups", "groups", Operation.DESCRIBE, ResourceType.GROUP)],
    group_admin.DeleteGroupsRequest: [_names("groups_names", "results", Operation.DELETE, ResourceType.GROUP)],
    offset.OffsetCommitRequest: [Whole(Operation.READ, _group), _topics(Operation.READ)],
    offset.OffsetDeleteRequest: [Whole(Operation.DELETE, _group), _topics(Operation.READ)],
    # Records.
    fetch.ListOffsetsRequest: [_topics(Operation.DESCRIBE)],
    fetch.OffsetForLeaderEpochRequest: [_topics(Operation.DESCRIBE)],
    admin.DeleteRecordsRequest: [_topics(Operation.DELETE)],
    transactions.DescribeProducersRequest: [_topics(Operation.READ)],
    transactions.DescribeTransactionsRequest: [
        _names("transactional_ids", "transaction_states", Operation.DESCRIBE, ResourceType.TRANSACTIONAL_ID)
    ],
    # Topics and configs.
    admin.CreateTopicsRequest: [Each("topics", "topics", _may_create)],
    admin.CreatePartitionsRequest: [_topics(Operation.ALTER, answered="results")],
    admin.DescribeConfigsRequest: [_config_resources(Operation.DESCRIBE_CONFIGS, answered="results")],
    admin.AlterConfigsRequest: [_config_resources(Operation.ALTER_CONFIGS, answered="responses")],
    admin.IncrementalAlterConfigsRequest: [_config_resources(Operation.ALTER_CONFIGS, answered="responses")],
    # The cluster.
    controller.UpdateFeaturesRequest: [Whole(Operation.ALTER)],
    controller.UnregisterBrokerRequest: [Whole(Operation.ALTER)],
    admin_cluster.ElectLeadersRequest: [Whole(Operation.ALTER)],
    admin_cluster.AlterPartitionReassignmentsRequest: [Whole(Operation.ALTER)],
    admin_cluster.ListPartitionReassignmentsRequest: [Whole(Operation.DESCRIBE)],
    admin_cluster.ListConfigResourcesRequest: [Whole(Operation.DESCRIBE_CONFIGS)],
    admin_cluster.DescribeLogDirsRequest: [Whole(Operation.DESCRIBE)],
    admin_cluster.AlterReplicaLogDirsRequest: [Whole(Operation.ALTER)],
    controller.DescribeQuorumRequest: [Whole(Operation.DESCRIBE)],
    quota_messages.DescribeClientQuotasRequest: [Whole(Operation.DESCRIBE_CONFIGS)],
    security.DescribeAclsRequest: [Whole(Operation.DESCRIBE)],
    security.CreateAclsRequest: [Whole(Operation.ALTER)],
    security.DeleteAclsRequest: [Whole(Operation.ALTER)],
    security.DescribeUserScramCredentialsRequest: [Whole(Operation.DESCRIBE)],
}
"""What is not here asks itself (Produce, Fetch and handlers that say so), or needs nothing: ApiVersions."""


# About how long one thing of a request takes to be allowed or refused.
CHECK_US: Final = 3


async def answer_allowed(
    api: Api, handler: Handler, context: RequestContext, request: Message
) -> Message | EncodedMetadata:
    """The handler's answer to what the client may ask, and refusals for the rest. Raises what the handler raises."""
    if not context.session.has_rules:
        return await handler(context, request)
    refusals: list[tuple[str, Message]] = []
    for rule in RULES.get(type(request), ()):
        if isinstance(rule, Whole):
            resource = rule.resource(request)
            if not context.allows(rule.operation, resource):
                return await in_turns(_refused(api, context, request, refusal(resource)))
            continue
        allowed, problems = await in_turns(_split(rule, context, getattr(request, rule.asked) or []))
        for error, things in problems:
            part = _with(request, rule.asked, things)
            refusals.append((rule.answered, await in_turns(_refused(api, context, part, error))))
        if problems:
            if not allowed:
                # The handler is not asked: an empty array may mean everything.
                return _merged(refusals[0][1], refusals[1:])
            request = _with(request, rule.asked, allowed)
    return _merged(await handler(context, request), refusals)


def _split(
    rule: Each, context: RequestContext, things: Sequence[Any]
) -> Steps[tuple[list[Any], list[tuple[ApiError, list[Any]]]]]:
    """What is allowed, and what is not, by its error."""
    allowed: list[Any] = []
    refused: dict[ErrorCode, tuple[ApiError, list[Any]]] = {}
    for thing in things:
        try:
            rule.check(context, thing)
        except ApiError as error:
            refused.setdefault(error.code, (error, []))[1].append(thing)
        else:
            allowed.append(thing)
        yield CHECK_US
    return allowed, list(refused.values())


def _with(request: Any, field: str, things: list[Any]) -> Any:
    return dataclasses.replace(request, **{field: things})


def _refused(api: Api, context: RequestContext, request: Message, error: ApiError) -> Steps[Message]:
    return error_response_in_parts(
        api.response_class, request, context.version, code=int(error.code), message=error.message
    )


def _merged(response: Answer, refusals: Sequence[tuple[str, Message]]) -> Answer:
    for answered, refused in refusals:
        getattr(response, answered).extend(getattr(refused, answered))
    return response
