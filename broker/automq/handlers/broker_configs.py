"""What handlers know of this broker's settings: shown by DescribeConfigs, and defaults of topics that are made."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from automq.metadata.configs import ConfigType


class ConfigSource(enum.IntEnum):
    """Where a value comes from, as DescribeConfigs numbers it."""

    UNKNOWN = 0
    DYNAMIC_TOPIC = 1
    DYNAMIC_BROKER = 2
    DYNAMIC_DEFAULT_BROKER = 3
    STATIC_BROKER = 4
    DEFAULT = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerConfig:
    """One static setting of this broker, in the words of DescribeConfigs."""

    name: str
    value: str | None
    source: ConfigSource
    type: ConfigType
    doc: str
    is_sensitive: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerConfigs:
    """The settings that handlers need, typed, and all of them for DescribeConfigs, by name."""

    entries: Mapping[str, BrokerConfig]
    topic_defaults: Mapping[str, str]
    """What was set of the broker-wide defaults of topic configs, under the broker's names (`log.retention.ms`)."""
    auto_create_topics: bool = True
    delete_topics: bool = True
    partitions_default: int = 1
    replication_factor_default: int = 1
