"""Pure: configurations of groups and of client metrics: Kafka's names and defaults of what is not served here.

Each is accepted at its default alone: a value that has no effect is refused, not stored.
"""

from collections.abc import Mapping
from typing import Final

from automq.metadata.config_types import INT_MAX, Check, ConfigDefinition, ConfigType, any_list, boolean, one_of, whole

_POSITIVE: Final = whole(1, INT_MAX)
_ANY_COUNT: Final = whole(0, INT_MAX)


def _of_group(
    name: str, kind: ConfigType, default: str | int, check: Check, *, has_broker_default: bool = True
) -> ConfigDefinition:
    protocol = name.partition(".")[0]
    return ConfigDefinition(
        name=name,
        type=kind,
        default=str(default),
        check=check,
        doc=f"Groups of the {protocol} protocol are not served yet.",
        synonyms=(f"group.{name}" if has_broker_default else name,),
        neutral=str(default),
    )


def _of_metrics(name: str, kind: ConfigType, default: str | int, check: Check) -> ConfigDefinition:
    doc = "Metrics of clients are not collected."
    return ConfigDefinition(name=name, type=kind, default=str(default), check=check, doc=doc, neutral=str(default))


_INT, _STRING, _LIST = ConfigType.INT, ConfigType.STRING, ConfigType.LIST
_ISOLATION: Final = one_of("read_committed", "read_uncommitted")

GROUP_CONFIGS: Final[Mapping[str, ConfigDefinition]] = {
    definition.name: definition
    for definition in (
        _of_group("consumer.assignment.interval.ms", _INT, 1000, _ANY_COUNT),
        _of_group("consumer.heartbeat.interval.ms", _INT, 5000, _POSITIVE),
        _of_group("consumer.session.timeout.ms", _INT, 45_000, _POSITIVE),
        _of_group("share.assignment.interval.ms", _INT, 1000, _ANY_COUNT),
        _of_group("share.auto.offset.reset", _STRING, "latest", any_list, has_broker_default=False),
        _of_group("share.delivery.count.limit", _INT, 5, whole(2, 10)),
        _of_group("share.heartbeat.interval.ms", _INT, 5000, _POSITIVE),
        _of_group("share.isolation.level", _STRING, "read_uncommitted", _ISOLATION, has_broker_default=False),
        _of_group("share.partition.max.record.locks", _INT, 2000, whole(100, 10_000)),
        _of_group("share.record.lock.duration.ms", _INT, 30_000, whole(1000, 3_600_000)),
        _of_group("share.renew.acknowledge.enable", ConfigType.BOOLEAN, "true", boolean, has_broker_default=False),
        _of_group("share.session.timeout.ms", _INT, 45_000, _POSITIVE),
        _of_group("streams.assignment.interval.ms", _INT, 1000, _ANY_COUNT),
        _of_group("streams.heartbeat.interval.ms", _INT, 5000, _POSITIVE),
        _of_group("streams.initial.rebalance.delay.ms", _INT, 3000, _ANY_COUNT),
        _of_group("streams.num.standby.replicas", _INT, 0, _ANY_COUNT),
        _of_group("streams.session.timeout.ms", _INT, 45_000, _POSITIVE),
    )
}
"""By name, in alphabetical order. The classic protocol's settings are its members' own."""

CLIENT_METRICS_CONFIGS: Final[Mapping[str, ConfigDefinition]] = {
    definition.name: definition
    for definition in (
        _of_metrics("interval.ms", _INT, 300_000, whole(100, 3_600_000)),
        _of_metrics("match", _LIST, "", any_list),
        _of_metrics("metrics", _LIST, "", any_list),
    )
}
