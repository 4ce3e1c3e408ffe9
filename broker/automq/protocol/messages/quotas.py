"""Client quotas.

Structs that carry the same name in several messages of this module but differ have names of their own here:
`AlterEntryData` (`EntryData` of AlterClientQuotasRequest), `AlterEntryResult` (`EntryData` of
AlterClientQuotasResponse).
"""

from dataclasses import dataclass

from automq.protocol.schema import Message, array, boolean, float64, int8, int16, int32, string


@dataclass(slots=True, kw_only=True)
class ComponentData:
    entity_type: str = string()
    match_type: int = int8()
    match: str | None = string(nullable_since=0, default=None)


@dataclass(slots=True, kw_only=True)
class DescribeClientQuotasRequest(Message):
    """DescribeClientQuotas (key 48) request, versions 0 to 1."""

    API_KEY = 48
    VERSIONS = range(2)
    FLEXIBLE_SINCE = 1

    components: list[ComponentData] = array(ComponentData)
    strict: bool = boolean()


@dataclass(slots=True, kw_only=True)
class EntityData:
    entity_type: str = string()
    entity_name: str | None = string(nullable_since=0, default=None)


@dataclass(slots=True, kw_only=True)
class ValueData:
    key: str = string()
    value: float = float64()


@dataclass(slots=True, kw_only=True)
class EntryData:
    entity: list[EntityData] = array(EntityData)
    values: list[ValueData] = array(ValueData)


@dataclass(slots=True, kw_only=True)
class DescribeClientQuotasResponse(Message):
    """DescribeClientQuotas (key 48) response, versions 0 to 1."""

    API_KEY = 48
    VERSIONS = range(2)
    FLEXIBLE_SINCE = 1

    throttle_time: int = int32()
    error_code: int = int16()
    error_message: str | None = string(nullable_since=0, default=None)
    entries: list[EntryData] | None = array(EntryData, nullable_since=0)


@dataclass(slots=True, kw_only=True)
class OpData:
    key: str = string()
    value: float = float64()
    remove: bool = boolean()


@dataclass(slots=True, kw_only=True)
class AlterEntryData:
    entity: list[EntityData] = array(EntityData)
    ops: list[OpData] = array(OpData)


@dataclass(slots=True, kw_only=True)
class AlterClientQuotasRequest(Message):
    """AlterClientQuotas (key 49) request, versions 0 to 1."""

    API_KEY = 49
    VERSIONS = range(2)
    FLEXIBLE_SINCE = 1

    entries: list[AlterEntryData] = array(AlterEntryData)
    validate_only: bool = boolean()


@dataclass(slots=True, kw_only=True)
class AlterEntryResult:
    error_code: int = int16()
    error_message: str | None = string(nullable_since=0, default=None)
    entity: list[EntityData] = array(EntityData)


@dataclass(slots=True, kw_only=True)
class AlterClientQuotasResponse(Message):
    """AlterClientQuotas (key 49) response, versions 0 to 1."""

    API_KEY = 49
    VERSIONS = range(2)
    FLEXIBLE_SINCE = 1

    throttle_time: int = int32()
    entries: list[AlterEntryResult] = array(AlterEntryResult)
