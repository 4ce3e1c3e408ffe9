"""Handles messages.admin for configs: describe and alter, of topics and brokers."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from automq.controller.configs import CONFIGS_MAX
from automq.controller.model import ConfigAlteration, ConfigChange
from automq.controller.topics import check_name
from automq.handlers.config_views import ViewOptions, all_brokers_view, broker_view, default_view, topic_view
from automq.handlers.context import Handler, RequestContext
from automq.handlers.deadline import FAILURES, within
from automq.handlers.errors import error_code_of, error_message_of
from automq.handlers.read_only_configs import READ_ONLY_CONFIGS
from automq.metadata.configs import DYNAMIC_BROKER_CONFIGS
from automq.metadata.group_configs import CLIENT_METRICS_CONFIGS, GROUP_CONFIGS
from automq.metadata.image import (
    BROKER_LOGGER_RESOURCE,
    BROKER_RESOURCE,
    CLIENT_METRICS_RESOURCE,
    GROUP_RESOURCE,
    TOPIC_RESOURCE,
)
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
from automq.runtime.turns import Pace, free_in_turns, in_turns, map_in_turns
from automq.steps import Steps

# The requests have no time-out of their own; clients give up after 30 s by default.
ALTERATION_TIMEOUT_MS: Final = 25_000

_LISTED: Final = frozenset(
    {TOPIC_RESOURCE, BROKER_RESOURCE, BROKER_LOGGER_RESOURCE, CLIENT_METRICS_RESOURCE, GROUP_RESOURCE}
)
_ALTERED: Final = _LISTED - {BROKER_LOGGER_RESOURCE}
"""What AlterConfigs, the old way, may be about."""

# About how long a resource takes, a config of it, an answer and a name.
RESOURCE_US: Final = 4
CONFIG_US: Final = 2
ANSWER_US: Final = 3
NAME_US: Final = 2

Resource = tuple[int, str]
AlteredResource = AlterConfigsResource | IncrementalAlterConfigsResource


async def handle_describe_configs(context: RequestContext, request: DescribeConfigsRequest) -> DescribeConfigsResponse:
    """One result a resource, from the durable image."""
    results: list[DescribeConfigsResult] = []
    pace = Pace()
    for resource in request.resources:
        options = ViewOptions(
            keys=None if resource.configuration_keys is None else frozenset(resource.configuration_keys),
            synonyms=request.include_synonyms,
            documentation=request.include_documentation,
        )
        result = DescribeConfigsResult(
            error_message="", resource_type=resource.resource_type, resource_name=resource.resource_name
        )
        try:
            result.configs = _described(context, resource, options)
        except ApiError as refused:
            result.error_code, result.error_message = refused.code, refused.message
        results.append(result)
        await pace.spend(RESOURCE_US + CONFIG_US * len(result.configs))
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
        _check_described_broker(context, name, f"expected {services.node} or empty string, but received {name}")
        return broker_view(image, services.broker_configs, services.node, options)
    if resource.resource_type == BROKER_LOGGER_RESOURCE:
        if not name:
            raise ApiError(ErrorCode.INVALID_REQUEST, "Broker id must not be empty")
        _check_described_broker(context, name, f"expected {services.node} but received {name}")
        return []
    if resource.resource_type == GROUP_RESOURCE:
        if not name:
            raise ApiError(ErrorCode.INVALID_REQUEST, "Group name must not be empty")
        return default_view(GROUP_CONFIGS, options)
    if resource.resource_type == CLIENT_METRICS_RESOURCE:
        if not name:
            raise ApiError(ErrorCode.INVALID_REQUEST, "Client metrics subscription name must not be empty")
        return default_view(CLIENT_METRICS_CONFIGS, options)
    raise ApiError(ErrorCode.INVALID_REQUEST, f"Unsupported resource type: {resource.resource_type}")


_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,10}")


def _check_described_broker(context: RequestContext, name: str, expected: str) -> None:
    """A broker describes itself alone, as Kafka's: of another it knows the configuration but not the settings."""
    if _NUMBER.fullmatch(name) is None:
        raise ApiError(ErrorCode.INVALID_REQUEST, f"Broker id must be an integer, but it is: {name}")
    if int(name) != context.services.node:
        raise ApiError(ErrorCode.INVALID_REQUEST, f"Unexpected broker id, {expected}")


def _check_altered_broker(context: RequestContext, name: str, unexpected: str) -> None:
    if _NUMBER.fullmatch(name) is None:
        raise ApiError(ErrorCode.INVALID_REQUEST, f"Node id must be an integer, but it is: {name}")
    if int(name) != context.services.node:
        raise ApiError(ErrorCode.INVALID_REQUEST, unexpected)


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
    brokers = [str(broker.node) for broker in image.brokers() if not broker.fenced]
    names: dict[int, Iterable[str]] = {
        TOPIC_RESOURCE: (topic.name for topic in image.topics()),
        BROKER_RESOURCE: brokers,
        BROKER_LOGGER_RESOURCE: brokers,
    }
    response, pace = ListConfigResourcesResponse(), Pace()
    for kind in sorted(wanted):
        for name in names.get(kind, ()):
            response.config_resources.append(ConfigResource(resource_name=name, resource_type=kind))
            await pace.spend(NAME_US)
    return response


async def handle_alter_configs(context: RequestContext, request: AlterConfigsRequest) -> AlterConfigsResponse:
    """The old way: what is given replaces everything that was overridden."""
    pace, asked = Pace(), await _named(request.resources)
    problems = await in_turns(_problems(context, request.resources, _ALTERED))
    alterations: dict[Resource, ConfigAlteration] = {}
    for resource in request.resources:
        key = (resource.resource_type, resource.resource_name)
        await pace.spend(RESOURCE_US + min(len(resource.configs), CONFIGS_MAX) // 2)
        if len(resource.configs) > CONFIGS_MAX:
            continue
        replacement = {config.name: config.value for config in resource.configs}
        if len(replacement) < len(resource.configs):
            problems[key] = ApiError(ErrorCode.INVALID_REQUEST, "Error due to duplicate config keys")
        if key not in problems:
            alterations[key] = ConfigAlteration(resource_type=key[0], resource_name=key[1], replacement=replacement)
    responses = await _alter(context, asked, alterations, problems, request.validate_only)
    return AlterConfigsResponse(responses=responses)


async def handle_incremental_alter_configs(
    context: RequestContext, request: IncrementalAlterConfigsRequest
) -> IncrementalAlterConfigsResponse:
    """Set, delete, append to and subtract from single keys."""
    pace, asked = Pace(), await _named(request.resources)
    problems = await in_turns(_problems(context, request.resources, _LISTED))
    alterations: dict[Resource, ConfigAlteration] = {}
    for resource in request.resources:
        key = (resource.resource_type, resource.resource_name)
        await pace.spend(RESOURCE_US)
        if resource.resource_type == BROKER_LOGGER_RESOURCE and key not in problems:
            problems |= _logger_problem(key, [config.name for config in resource.configs[:1]])
        if key in problems:
            continue
        changes: list[ConfigChange] = []
        for config in resource.configs:
            changes.append(ConfigChange(name=config.name, operation=config.config_operation, value=config.value))
            await pace.spend(CONFIG_US)
        alterations[key] = ConfigAlteration(resource_type=key[0], resource_name=key[1], changes=changes)
    responses = await _alter(context, asked, alterations, problems, request.validate_only)
    return IncrementalAlterConfigsResponse(responses=responses)


async def _named(resources: Sequence[AlteredResource]) -> list[Resource]:
    return await map_in_turns(lambda each: (each.resource_type, each.resource_name), resources, part_us=NAME_US)


def _problems(
    context: RequestContext, resources: Sequence[AlteredResource], known: frozenset[int]
) -> Steps[dict[Resource, Exception]]:
    """What is wrong with a resource by itself; `known` are the kinds that the request may be about."""
    problems: dict[Resource, Exception] = {}
    seen: dict[Resource, None] = {}
    settings = _fixed_keys(context)
    for resource in resources:
        key = kind, name = resource.resource_type, resource.resource_name
        try:
            if key in seen:
                raise ApiError(ErrorCode.INVALID_REQUEST, "Each resource must appear at most once.")
            seen[key] = None
            if len(resource.configs) > CONFIGS_MAX:
                message = f"{len(resource.configs)} configs of one resource are named; at most {CONFIGS_MAX} are taken."
                raise ApiError(ErrorCode.INVALID_REQUEST, message)
            if kind == BROKER_RESOURCE:
                _check_fixed(context, settings, resource)
            _check_altered(context, kind, name, known)
        except ApiError as refused:
            problems[key] = refused
        yield RESOURCE_US + min(len(resource.configs), CONFIGS_MAX) // 8
    return problems


def _check_altered(context: RequestContext, kind: int, name: str, known: frozenset[int]) -> None:
    """Raises ApiError for a resource that cannot be altered."""
    if kind not in known:
        raise ApiError(ErrorCode.INVALID_REQUEST, f"Unknown resource type {kind}")
    node = context.services.node
    if kind == BROKER_RESOURCE and name:
        _check_altered_broker(context, name, f"Unexpected broker id, expected {node}, but received {name}")
    elif kind == BROKER_LOGGER_RESOURCE:
        _check_altered_broker(context, name, f"Unexpected node id. Expected {node}, but received {name}")
    elif kind == CLIENT_METRICS_RESOURCE and not name:
        raise ApiError(ErrorCode.INVALID_REQUEST, "Subscription name can't be empty")
    elif kind == GROUP_RESOURCE and not name:
        raise ApiError(ErrorCode.INVALID_REQUEST, "Default group resources are not allowed.")
    elif kind == TOPIC_RESOURCE:
        if not name:
            raise ApiError(ErrorCode.INVALID_REQUEST, "Default topic resources are not allowed.")
        check_name(name)


def _logger_problem(key: Resource, names: Sequence[str]) -> dict[Resource, Exception]:
    """The broker has no loggers that clients may set: the same words as for those that do not exist."""
    sentence = f"Logger {names[0]} does not exist!" if names else "There are no loggers to set here."
    return {key: ApiError(ErrorCode.INVALID_CONFIG, sentence)}


def _fixed_keys(context: RequestContext) -> frozenset[str]:
    """Settings of a broker that only its settings file can change, and Kafka's that nothing can change here."""
    entries = context.services.broker_configs.entries
    return (READ_ONLY_CONFIGS | entries.keys()) - DYNAMIC_BROKER_CONFIGS.keys()


def _check_fixed(context: RequestContext, settings: frozenset[str], resource: AlteredResource) -> None:
    """Raises ApiError for a resource with one of `settings`."""
    fixed = [config.name for config in resource.configs if config.name in settings]
    if fixed:
        sentence = f"Cannot update these configs dynamically: [{', '.join(sorted(fixed))}]"
        if context.services.broker_configs.entries.keys() & fixed:
            sentence += ". They are read when a broker starts."
        raise ApiError(ErrorCode.INVALID_REQUEST, sentence)


async def _alter(
    context: RequestContext,
    asked: list[Resource],
    alterations: dict[Resource, ConfigAlteration],
    problems: dict[Resource, Exception],
    validate_only: bool,
) -> list[AlterConfigsResourceResponse]:
    """The answers; what is given is empty afterwards."""
    outcomes: dict[Resource, Exception | None] = {}
    pace = Pace()
    # A resource that is named again is wrong as a whole.
    wanted = [alteration for key, alteration in alterations.items() if key not in problems]
    if wanted:
        change = context.services.controller.alter_configs(wanted, validate_only=validate_only)
        try:
            for result in await within(ALTERATION_TIMEOUT_MS, change):
                outcomes[result.resource_type, result.resource_name] = result.error
                await pace.spend(ANSWER_US)
        except FAILURES as error:
            for key in alterations:
                outcomes[key] = error
                await pace.spend(NAME_US)
    answers = await map_in_turns(
        lambda key: _altered(key, problems[key] if key in problems else outcomes[key]), asked, part_us=ANSWER_US
    )
    await free_in_turns(problems, alterations, outcomes, wanted, asked)
    return answers


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
