"""Handles messages.admin for configs: describe and alter, of topics and brokers."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from automq.controller.model import ConfigAlteration, ConfigChange
from automq.controller.topics import check_name
from automq.handlers.config_views import ViewOptions, all_brokers_view, broker_view, topic_view
from automq.handlers.context import Handler, RequestContext
from automq.handlers.deadline import FAILURES, within
from automq.handlers.errors import error_code_of, error_message_of
from automq.metadata.configs import DYNAMIC_BROKER_CONFIGS
from automq.metadata.image import BROKER_RESOURCE, TOPIC_RESOURCE
from automq.protocol.errors import ApiError, ErrorCode
from automq.protocol.messages.admin import (
    AlterConfigsRequest,
    AlterConfigsResource,
    AlterConfigsResourceResponse,
    AlterConfigsResponse,
    DescribeConfigsRequest,
    DescribeConfigsResource,
    DescribeConfigsResourceResult,
    DescribeConfigsResponse,
    DescribeConfigsResult,
    IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResource,
    IncrementalAlterConfigsResponse,
)
from automq.protocol.messages.admin_cluster import (
    ConfigResource,
    ListConfigResourcesRequest,
    ListConfigResourcesResponse,
)
from automq.protocol.schema import Message

# The requests have no time-out of their own; clients give up after 30 s by default.
ALTERATION_TIMEOUT_MS: Final = 25_000

BROKER_LOGGER_RESOURCE: Final = 8
CLIENT_METRICS_RESOURCE: Final = 16
GROUP_RESOURCE: Final = 32
_LISTED: Final = frozenset(
    {TOPIC_RESOURCE, BROKER_RESOURCE, BROKER_LOGGER_RESOURCE, CLIENT_METRICS_RESOURCE, GROUP_RESOURCE}
)

Resource = tuple[int, str]


async def handle_describe_configs(context: RequestContext, request: DescribeConfigsRequest) -> DescribeConfigsResponse:
    """One result a resource, from the durable image."""
    results: list[DescribeConfigsResult] = []
    for resource in request.resources:
        options = ViewOptions(
            keys=resource.configuration_keys,
            synonyms=request.include_synonyms,
            documentation=request.include_documentation,
        )
        result = DescribeConfigsResult(resource_type=resource.resource_type, resource_name=resource.resource_name)
        try:
            result.configs = _described(context, resource, options)
        except ApiError as refused:
            result.error_code, result.error_message = refused.code, refused.message
        results.append(result)
    return DescribeConfigsResponse(results=results)


def _described(
    context: RequestContext, resource: DescribeConfigsResource, options: ViewOptions
) -> list[DescribeConfigsResourceResult]:
    services = context.services
    image, name = services.metadata.image, resource.resource_name
    if resource.resource_type == TOPIC_RESOURCE:
        check_name(name)
        if image.topic(name) is None:
            raise ApiError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"Topic {name} does not exist.")
        return topic_view(image, services.broker_configs, services.node, name, options)
    if resource.resource_type == BROKER_RESOURCE:
        if not name:
            return all_brokers_view(image, options)
        _check_broker(context, name)
        return broker_view(image, services.broker_configs, services.node, options)
    if resource.resource_type in (BROKER_LOGGER_RESOURCE, CLIENT_METRICS_RESOURCE, GROUP_RESOURCE):
        if resource.resource_type == BROKER_LOGGER_RESOURCE:
            _check_broker(context, name)
        elif not name:
            raise ApiError(ErrorCode.INVALID_REQUEST, "The resource has an empty name.")
        # They exist, and nothing can be configured of them.
        return []
    raise ApiError(ErrorCode.INVALID_REQUEST, f"Unsupported resource type: {resource.resource_type}")


def _check_broker(context: RequestContext, name: str) -> None:
    node = context.services.node
    if not name.isascii() or not name.isdigit():
        raise ApiError(ErrorCode.INVALID_REQUEST, f"Broker id must be an integer, but it is: {name}")
    if int(name) != node:
        raise ApiError(
            ErrorCode.INVALID_REQUEST, f"Unexpected broker id, expected {node} or empty string, but received {name}"
        )


async def handle_list_config_resources(
    context: RequestContext, request: ListConfigResourcesRequest
) -> ListConfigResourcesResponse:
    """The resources that have configurations; without types all of them. Version 0 asked for client metrics alone."""
    wanted = frozenset(request.resource_types) or _LISTED
    if context.version == 0:
        wanted = frozenset({CLIENT_METRICS_RESOURCE})
    elif not wanted <= _LISTED:
        return ListConfigResourcesResponse(error_code=ErrorCode.UNSUPPORTED_VERSION)
    image = context.services.metadata.image
    names: dict[int, list[str]] = {
        TOPIC_RESOURCE: [topic.name for topic in image.topics()],
        BROKER_RESOURCE: [str(broker.node) for broker in image.brokers() if not broker.fenced],
        BROKER_LOGGER_RESOURCE: [str(broker.node) for broker in image.brokers() if not broker.fenced],
    }
    return ListConfigResourcesResponse(
        config_resources=[
            ConfigResource(resource_name=name, resource_type=kind)
            for kind in sorted(wanted)
            for name in names.get(kind, [])
        ]
    )


async def handle_alter_configs(context: RequestContext, request: AlterConfigsRequest) -> AlterConfigsResponse:
    """The old way: what is given replaces everything that was overridden."""
    alterations: dict[Resource, ConfigAlteration] = {}
    for resource in request.resources:
        key = (resource.resource_type, resource.resource_name)
        replacement = {config.name: config.value for config in resource.configs}
        alterations[key] = ConfigAlteration(resource_type=key[0], resource_name=key[1], replacement=replacement)
    problems = _problems(context, [(entry.resource_type, entry.resource_name) for entry in request.resources])
    problems |= _fixed_keys(context, request.resources)
    problems |= {
        (entry.resource_type, entry.resource_name): problem
        for entry in request.resources
        if (problem := _keys_problem([config.name for config in entry.configs])) is not None
    }
    return AlterConfigsResponse(responses=await _alter(context, alterations, problems, request.validate_only))


async def handle_incremental_alter_configs(
    context: RequestContext, request: IncrementalAlterConfigsRequest
) -> IncrementalAlterConfigsResponse:
    """Set, delete, append to and subtract from single keys."""
    alterations: dict[Resource, ConfigAlteration] = {}
    problems = _problems(context, [(entry.resource_type, entry.resource_name) for entry in request.resources])
    problems |= _fixed_keys(context, request.resources)
    for resource in request.resources:
        key = (resource.resource_type, resource.resource_name)
        changes = [
            ConfigChange(name=config.name, operation=config.config_operation, value=config.value)
            for config in resource.configs
        ]
        alterations[key] = ConfigAlteration(resource_type=key[0], resource_name=key[1], changes=changes)
    return IncrementalAlterConfigsResponse(
        responses=await _alter(context, alterations, problems, request.validate_only)
    )


def _problems(context: RequestContext, resources: Sequence[Resource]) -> dict[Resource, Exception]:
    """What is wrong with a resource by itself."""
    problems: dict[Resource, Exception] = {}
    for (kind, name), count in Counter(resources).items():
        if count > 1:
            problems[kind, name] = ApiError(ErrorCode.INVALID_REQUEST, "Each resource must appear at most once.")
        elif kind not in (TOPIC_RESOURCE, BROKER_RESOURCE):
            problems[kind, name] = ApiError(ErrorCode.INVALID_REQUEST, f"Unsupported resource type: {kind}")
        elif kind == BROKER_RESOURCE and name:
            try:
                _check_broker(context, name)
            except ApiError as refused:
                problems[kind, name] = refused
    return problems


def _fixed_keys(
    context: RequestContext, resources: Sequence[AlterConfigsResource | IncrementalAlterConfigsResource]
) -> dict[Resource, Exception]:
    """Settings of a broker that only its settings file can change."""
    settings = context.services.broker_configs.entries.keys() - DYNAMIC_BROKER_CONFIGS.keys()
    problems: dict[Resource, Exception] = {}
    for resource in resources:
        fixed = [config.name for config in resource.configs if config.name in settings]
        if resource.resource_type == BROKER_RESOURCE and fixed:
            problems[resource.resource_type, resource.resource_name] = ApiError(
                ErrorCode.INVALID_REQUEST,
                f"Cannot update these configs dynamically: [{', '.join(sorted(fixed))}]. They are read when a broker "
                "starts.",
            )
    return problems


def _keys_problem(names: Sequence[str]) -> ApiError | None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        return ApiError(ErrorCode.INVALID_REQUEST, f"Error due to duplicate config keys: {', '.join(twice)}")
    return None


async def _alter(
    context: RequestContext,
    alterations: Mapping[Resource, ConfigAlteration],
    problems: Mapping[Resource, Exception],
    validate_only: bool,
) -> list[AlterConfigsResourceResponse]:
    outcomes: dict[Resource, Exception | None] = dict(problems)
    wanted = [alteration for key, alteration in alterations.items() if key not in problems]
    if wanted:
        change = context.services.controller.alter_configs(wanted, validate_only=validate_only)
        try:
            outcomes |= {
                (result.resource_type, result.resource_name): result.error
                for result in await within(ALTERATION_TIMEOUT_MS, change)
            }
        except FAILURES as error:
            outcomes |= {(wish.resource_type, wish.resource_name): error for wish in wanted}
    return [_altered(key, outcomes[key]) for key in alterations]


def _altered(key: Resource, error: Exception | None) -> AlterConfigsResourceResponse:
    answer = AlterConfigsResourceResponse(resource_type=key[0], resource_name=key[1])
    if error is not None:
        answer.error_code, answer.error_message = error_code_of(error), error_message_of(error)
    return answer


HANDLERS: Final[Mapping[type[Message], Handler]] = {
    ListConfigResourcesRequest: handle_list_config_resources,
    DescribeConfigsRequest: handle_describe_configs,
    AlterConfigsRequest: handle_alter_configs,
    IncrementalAlterConfigsRequest: handle_incremental_alter_configs,
}
