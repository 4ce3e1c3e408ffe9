"""Pure: alterations of topic and broker configurations, incremental and full, checked before anything is recorded."""

from collections.abc import Mapping, Sequence
from typing import Final

from automq.controller.model import ConfigAlteration, ConfigChange, ConfigResult
from automq.metadata.config_types import ConfigDefinition, ConfigType, split_list
from automq.metadata.configs import DYNAMIC_BROKER_CONFIGS, TOPIC_CONFIGS
from automq.metadata.image import BROKER_RESOURCE, DRAINING_CONFIG, TOPIC_RESOURCE, MetadataImage
from automq.metadata.records import ConfigChanged, MetadataRecord
from automq.protocol.errors import ApiError, ErrorCode
from automq.replicated.machine import Decision

SET: Final = 0
DELETE: Final = 1
APPEND: Final = 2
SUBTRACT: Final = 3

MESSAGE_BYTES_CONFIGS: Final = ("max.message.bytes", "message.max.bytes")


def alter_configs(
    image: MetadataImage,
    alterations: Sequence[ConfigAlteration],
    *,
    message_bytes_max: int,
    validate_only: bool,
) -> Decision[MetadataRecord, list[ConfigResult]]:
    """Each resource alone: what is refused changes nothing, the others are changed together."""
    records: list[MetadataRecord] = []
    results: list[ConfigResult] = []
    seen: dict[tuple[int, str], None] = {}
    for alteration in alterations:
        error: ApiError | None = None
        key = (alteration.resource_type, alteration.resource_name)
        try:
            if key in seen:
                raise ApiError(ErrorCode.INVALID_REQUEST, "the same resource is altered twice in one request")
            record = _alter(image, alteration, message_bytes_max)
            if record is not None:
                records.append(record)
        except ApiError as raised:
            error = raised
        seen[key] = None
        results.append(
            ConfigResult(resource_type=alteration.resource_type, resource_name=alteration.resource_name, error=error)
        )
    return Decision(() if validate_only else records, results)


def _alter(image: MetadataImage, alteration: ConfigAlteration, message_bytes_max: int) -> ConfigChanged | None:
    definitions = _definitions(image, alteration)
    before = image.config(alteration.resource_type, alteration.resource_name)
    if alteration.replacement is not None:
        after = {name: value for name, value in alteration.replacement.items() if value is not None}
    else:
        after = _changed(before, alteration.changes, definitions)
    check_configs(after, definitions, message_bytes_max=message_bytes_max)
    after = {name: value.strip() for name, value in after.items()}
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
    name = alteration.resource_name
    match alteration.resource_type:
        case 2:
            assert TOPIC_RESOURCE == 2
            if image.topic(name) is None:
                raise ApiError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"topic {name} does not exist")
            return TOPIC_CONFIGS
        case 4:
            assert BROKER_RESOURCE == 4
            if name and not name.isdigit():
                raise ApiError(ErrorCode.INVALID_REQUEST, f"{name} is no broker id")
            if not name:
                return {key: value for key, value in DYNAMIC_BROKER_CONFIGS.items() if key != DRAINING_CONFIG}
            return DYNAMIC_BROKER_CONFIGS
        case other:
            raise ApiError(ErrorCode.INVALID_REQUEST, f"resources of type {other} have no configuration here")


def _changed(
    before: Mapping[str, str], changes: Sequence[ConfigChange], definitions: Mapping[str, ConfigDefinition]
) -> dict[str, str]:
    """The overrides after `changes`. Raises ApiError."""
    after = dict(before)
    names = [change.name for change in changes]
    for change in changes:
        if names.count(change.name) > 1:
            raise ApiError(ErrorCode.INVALID_REQUEST, f"{change.name} is altered twice in one request")
        definition = _known(change.name, definitions)
        match change.operation:
            case 0 if change.value is not None:
                after[change.name] = change.value
            case 0:
                raise ApiError(ErrorCode.INVALID_REQUEST, f"{change.name} is set to nothing: delete it instead")
            case 1:
                after.pop(change.name, None)
            case 2 | 3:
                after[change.name] = _edited_list(definition, after.get(change.name), change)
            case other:
                raise ApiError(ErrorCode.INVALID_REQUEST, f"{other} is no operation on a configuration")
    return after


def _edited_list(definition: ConfigDefinition, before: str | None, change: ConfigChange) -> str:
    if definition.type != ConfigType.LIST:
        raise ApiError(ErrorCode.INVALID_CONFIG, f"{change.name} is no list: nothing can be appended or subtracted")
    if change.value is None:
        raise ApiError(ErrorCode.INVALID_REQUEST, f"nothing is named to append to or subtract from {change.name}")
    items = split_list(definition.default if before is None else before)
    named = split_list(change.value)
    if change.operation == APPEND:
        items.extend(item for item in named if item not in items)
    else:
        items = [item for item in items if item not in named]
    return ",".join(items)


def check_configs(
    values: Mapping[str, str | None], definitions: Mapping[str, ConfigDefinition], *, message_bytes_max: int
) -> None:
    """Every name is known and every value is one of its. Raises ApiError with INVALID_CONFIG."""
    for name in sorted(values):
        definition = _known(name, definitions)
        value = values[name]
        if value is None:
            raise ApiError(ErrorCode.INVALID_CONFIG, f"{name} has no value: leave it out to have the default")
        problem = definition.problem(value)
        if problem is not None:
            raise ApiError(ErrorCode.INVALID_CONFIG, f"{name}={value} is refused: {problem}")
        if name in MESSAGE_BYTES_CONFIGS and int(value) > message_bytes_max:
            raise ApiError(
                ErrorCode.INVALID_CONFIG,
                f"{name}={value} is refused: one slot of the write-ahead log carries at most {message_bytes_max} bytes "
                "(automq.wal.batch.bytes)",
            )


def _known(name: str, definitions: Mapping[str, ConfigDefinition]) -> ConfigDefinition:
    definition = definitions.get(name)
    if definition is None:
        raise ApiError(ErrorCode.INVALID_CONFIG, f"{name} is no configuration that can be altered here")
    return definition
