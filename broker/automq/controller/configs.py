"""Pure: alterations of topic and broker configurations, incremental and full, checked before anything is recorded."""

from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from typing import Final

from automq.controller.model import ConfigAlteration, ConfigChange, ConfigResult, MessageLimit
from automq.metadata.config_types import ConfigDefinition, ConfigType, split_list
from automq.metadata.configs import DYNAMIC_BROKER_CONFIGS, TOPIC_CONFIGS
from automq.metadata.group_configs import CLIENT_METRICS_CONFIGS, GROUP_CONFIGS
from automq.metadata.image import (
    BALANCER_PAUSED_CONFIG,
    BROKER_RESOURCE,
    CLIENT_METRICS_RESOURCE,
    DRAINING_CONFIG,
    GROUP_RESOURCE,
    TOPIC_RESOURCE,
    MetadataImage,
)
from automq.metadata.records import ConfigChanged, MetadataRecord
from automq.protocol.errors import ApiError, ErrorCode
from automq.replicated.machine import Decision

SET: Final = 0
DELETE: Final = 1
APPEND: Final = 2
SUBTRACT: Final = 3

ALTER_US: Final = 30
"""About how long one resource takes."""

CONFIGS_MAX: Final = 1_000
"""Of one resource: there are some sixty."""

MESSAGE_BYTES_CONFIGS: Final = ("max.message.bytes", "message.max.bytes")


def alter_configs(
    image: MetadataImage,
    alterations: Sequence[ConfigAlteration],
    *,
    message_limit: MessageLimit,
    validate_only: bool,
) -> Generator[int, None, Decision[MetadataRecord, list[ConfigResult]]]:
    """Each resource alone: what is refused changes nothing, the others are changed together. One part a resource."""
    records: list[MetadataRecord] = []
    results: list[ConfigResult] = []
    seen: dict[tuple[int, str], None] = {}
    for alteration in alterations:
        error: ApiError | None = None
        key = (alteration.resource_type, alteration.resource_name)
        try:
            if key in seen:
                raise ApiError(ErrorCode.INVALID_REQUEST, "the same resource is altered twice in one request")
            record = _alter(image, alteration, message_limit)
            if record is not None:
                records.append(record)
        except ApiError as raised:
            error = raised
        seen[key] = None
        results.append(
            ConfigResult(resource_type=alteration.resource_type, resource_name=alteration.resource_name, error=error)
        )
        yield ALTER_US
    return Decision(() if validate_only else records, results)


def _alter(image: MetadataImage, alteration: ConfigAlteration, message_limit: MessageLimit) -> ConfigChanged | None:
    definitions = _definitions(image, alteration)
    before = image.config(alteration.resource_type, alteration.resource_name)
    if alteration.replacement is not None:
        for name, value in alteration.replacement.items():
            if value is None:
                raise ApiError(ErrorCode.INVALID_REQUEST, f"Null value not supported for : {name}")
        after = {name: value for name, value in alteration.replacement.items() if value is not None}
    else:
        # What an earlier release took and this one does not know goes with the next alteration.
        after = _changed(
            {name: before[name] for name in before if name in definitions}, alteration.changes, definitions
        )
    is_of_broker = alteration.resource_type == BROKER_RESOURCE
    code = ErrorCode.INVALID_REQUEST if is_of_broker else ErrorCode.INVALID_CONFIG
    check_configs(after, definitions, message_limit=message_limit, invalid_value=code)
    if alteration.resource_type in (GROUP_RESOURCE, CLIENT_METRICS_RESOURCE):
        # They are what they are by default: there is nothing to store.
        return None
    after = canonical_configs(after, definitions)
    changes = [(name, None) for name in sorted(before) if name not in after]
    sets = [(name, value) for name, value in sorted(after.items()) if before.get(name) != value]
    if not changes and not sets:
        return None
    return ConfigChanged(
        resource_type=alteration.resource_type,
        resource_name=alteration.resource_name,
        changes=(*changes, *sets),
    )


def _definitions(image: MetadataImage, alteration: ConfigAlteration) -> Mapping[str, ConfigDefinition]:
    """What may be set of this resource. Raises ApiError for a resource that is not there."""
    kind, name = alteration.resource_type, alteration.resource_name
    if kind == TOPIC_RESOURCE:
        if image.topic(name) is None:
            raise ApiError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"The topic '{name}' does not exist.")
        return TOPIC_CONFIGS
    if kind == BROKER_RESOURCE:
        if name and not name.isdigit():
            raise ApiError(ErrorCode.INVALID_REQUEST, f"{name} is no broker id")
        # One broker drains, all of them pause.
        elsewhere = BALANCER_PAUSED_CONFIG if name else DRAINING_CONFIG
        return {key: value for key, value in DYNAMIC_BROKER_CONFIGS.items() if key != elsewhere}
    if kind == GROUP_RESOURCE:
        return GROUP_CONFIGS
    if kind == CLIENT_METRICS_RESOURCE:
        return CLIENT_METRICS_CONFIGS
    raise ApiError(ErrorCode.INVALID_REQUEST, f"Unknown resource type {kind}")


def _changed(
    before: Mapping[str, str], changes: Sequence[ConfigChange], definitions: Mapping[str, ConfigDefinition]
) -> dict[str, str]:
    """The overrides after `changes`. Raises ApiError."""
    after = dict(before)
    names = Counter(change.name for change in changes)
    for change in changes:
        if names[change.name] > 1:
            raise ApiError(ErrorCode.INVALID_REQUEST, "Error due to duplicate config keys")
        if change.operation == DELETE:
            # Also of a name that no release knows: tools clean up after a migration.
            after.pop(change.name, None)
            continue
        if change.operation not in (SET, APPEND, SUBTRACT):
            raise ApiError(ErrorCode.INVALID_REQUEST, f"{change.operation} is no operation on a configuration")
        if change.value is None:
            raise ApiError(ErrorCode.INVALID_REQUEST, f"Null value not supported for : {change.name}")
        if change.operation == SET:
            _known(change.name, definitions)
            after[change.name] = change.value
        else:
            after[change.name] = _edited_list(change, change.value, after.get(change.name), definitions)
    return after


def _edited_list(
    change: ConfigChange, value: str, before: str | None, definitions: Mapping[str, ConfigDefinition]
) -> str:
    definition = definitions.get(change.name)
    if definition is None or definition.type != ConfigType.LIST:
        verb = "APPEND" if change.operation == APPEND else "SUBTRACT"
        raise ApiError(ErrorCode.INVALID_CONFIG, f"Can't {verb} to key {change.name} because its type is not LIST.")
    items = split_list(definition.default if before is None else before)
    named = split_list(value)
    if change.operation == APPEND:
        items.extend(item for item in named if item not in items)
    else:
        items = [item for item in items if item not in named]
    return ",".join(items)


def check_configs(
    values: Mapping[str, str | None],
    definitions: Mapping[str, ConfigDefinition],
    *,
    message_limit: MessageLimit,
    invalid_value: ErrorCode = ErrorCode.INVALID_CONFIG,
) -> None:
    """Every name is known and every value is one of its. Raises ApiError, with `invalid_value` for a value."""
    if len(values) > CONFIGS_MAX:
        raise ApiError(ErrorCode.INVALID_REQUEST, f"{len(values)} configs are named; at most {CONFIGS_MAX} are taken")
    for name in sorted(values):
        value = values[name]
        if value is None:
            raise ApiError(ErrorCode.INVALID_CONFIG, f"Null value not supported for topic configs: {name}")
        definition = _known(name, definitions)
        problem = definition.problem(value)
        if problem is not None:
            raise ApiError(invalid_value, f"Invalid value {value} for configuration {name}: {problem}")
        if name in MESSAGE_BYTES_CONFIGS and int(value) > message_limit.bytes_max:
            raise ApiError(
                invalid_value,
                f"Invalid value {value} for configuration {name}: a batch has at most "
                f"{message_limit.bytes_max} bytes here, {message_limit.reason}",
            )
    _check_together(values)


def _check_together(values: Mapping[str, str | None]) -> None:
    """What no single value says. Raises ApiError."""
    least, most = values.get("min.compaction.lag.ms"), values.get("max.compaction.lag.ms")
    if least is not None and most is not None and int(least) > int(most):
        raise ApiError(
            ErrorCode.INVALID_CONFIG,
            f"conflict topic config setting min.compaction.lag.ms ({least}) > max.compaction.lag.ms ({most})",
        )


def canonical_configs(values: Mapping[str, str | None], definitions: Mapping[str, ConfigDefinition]) -> dict[str, str]:
    """Checked `values` as they are stored and shown."""
    return {name: definitions[name].canonical(value) for name, value in sorted(values.items()) if value is not None}


def _known(name: str, definitions: Mapping[str, ConfigDefinition]) -> ConfigDefinition:
    definition = definitions.get(name)
    if definition is None:
        if definitions is CLIENT_METRICS_CONFIGS:
            raise ApiError(ErrorCode.INVALID_REQUEST, f"Unknown client metrics configuration: {name}")
        kind = "topic" if definitions is TOPIC_CONFIGS else "group" if definitions is GROUP_CONFIGS else "broker"
        raise ApiError(ErrorCode.INVALID_CONFIG, f"Unknown {kind} config name: {name}")
    return definition
