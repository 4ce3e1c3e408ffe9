"""Pure: every configuration of topics, which broker-wide values are its defaults, and what holds for a topic now.

Precedence: topic override > dynamic value of the leading broker > of all brokers > its settings > Kafka's default.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from immutables import Map

from automq.ids import NodeId
from automq.metadata.config_types import (
    INT_MAX,
    LONG_MAX,
    Check,
    ConfigDefinition,
    ConfigType,
    boolean,
    either,
    list_of,
    one_of,
    ratio,
    split_list,
    throttled_replicas,
    whole,
)
from automq.metadata.image import (
    BALANCER_PAUSED_CONFIG,
    BROKER_RESOURCE,
    DRAINING_CONFIG,
    TOPIC_RESOURCE,
    MetadataImage,
)

__all__ = [
    "DYNAMIC_BROKER_CONFIGS",
    "LIST_CONFIGS",
    "NO_DEFAULTS",
    "TOPIC_CONFIGS",
    "ConfigDefinition",
    "ConfigType",
    "TopicConfig",
    "Inherited",
    "broker_layers",
    "effective_topic_config",
    "inherited_values",
    "topic_config_of",
]

MINUTE_MS: Final = 60_000
HOUR_MS: Final = 60 * MINUTE_MS
DAY_MS: Final = 24 * HOUR_MS
GIB: Final = 1024**3


def _define(
    name: str,
    kind: ConfigType,
    default: str | int,
    check: Check,
    synonyms: Sequence[str],
    doc: str,
    scales: Mapping[str, int] | None = None,
    *,
    neutral: str | None = None,
) -> ConfigDefinition:
    return ConfigDefinition(
        name=name,
        type=kind,
        default=str(default),
        check=check,
        doc=doc,
        synonyms=tuple(synonyms),
        scales=scales or {},
        neutral=neutral,
    )


_BOOLEAN, _STRING, _INT = ConfigType.BOOLEAN, ConfigType.STRING, ConfigType.INT
_LONG, _DOUBLE, _LIST = ConfigType.LONG, ConfigType.DOUBLE, ConfigType.LIST
_INT0, _INT1 = whole(0, INT_MAX), whole(1, INT_MAX)
_LONG0, _LONG1, _LONG_1 = whole(0, LONG_MAX), whole(1, LONG_MAX), whole(-1, LONG_MAX)
_GZIP = either(whole(1, 9), one_of("-1"), "Value must be between 1 and 9 or equal to -1")
_LOCAL = whole(-2, LONG_MAX)
_CODECS = one_of("uncompressed", "zstd", "lz4", "snappy", "gzip", "producer")
_HOURS: Final = {"log.retention.minutes": MINUTE_MS, "log.retention.hours": HOUR_MS, "log.roll.hours": HOUR_MS}
_JITTER: Final = {"log.roll.jitter.hours": HOUR_MS}

_DEFINITIONS: Final[Sequence[ConfigDefinition]] = (
    _define("cleanup.policy", _LIST, "delete", list_of("compact", "delete"), ["log.cleanup.policy"],
            "Whether old records go by age and size (delete), by key (compact), both, or never (empty). Merging by key "
            "does not happen yet."),
    _define("compression.gzip.level", _INT, -1, _GZIP, ["compression.gzip.level"],
            "Level used when the broker compresses with gzip."),
    _define("compression.lz4.level", _INT, 9, whole(1, 17), ["compression.lz4.level"],
            "Level used when the broker compresses with lz4."),
    _define("compression.type", _STRING, "producer", _CODECS, ["compression.type"],
            "The compression that stored batches have; `producer` keeps what was sent."),
    _define("compression.zstd.level", _INT, 3, whole(-131072, 22), ["compression.zstd.level"],
            "Level used when the broker compresses with zstd."),
    _define("delete.retention.ms", _LONG, DAY_MS, _LONG0, ["log.cleaner.delete.retention.ms"],
            "How long a compacted topic keeps the marker of a deleted key."),
    _define("file.delete.delay.ms", _LONG, MINUTE_MS, _LONG0, ["log.segment.delete.delay.ms"],
            "Kept for clients that set it; there are no files to delete."),
    _define("flush.messages", _LONG, LONG_MAX, _LONG1, ["log.flush.interval.messages"],
            "Kept for clients that set it; every acknowledged record is durable."),
    _define("flush.ms", _LONG, LONG_MAX, _LONG0, ["log.flush.interval.ms", "log.flush.scheduler.interval.ms"],
            "Kept for clients that set it; every acknowledged record is durable."),
    _define("follower.replication.throttled.replicas", _LIST, "", throttled_replicas, [],
            "Kept for tools that set it; nothing is replicated between brokers."),
    _define("index.interval.bytes", _INT, 4096, _INT0, ["log.index.interval.bytes"],
            "Kept for clients that set it; the index has an entry a block."),
    _define("leader.replication.throttled.replicas", _LIST, "", throttled_replicas, [],
            "Kept for tools that set it; nothing is replicated between brokers."),
    _define("local.retention.bytes", _LONG, -2, _LOCAL, ["log.local.retention.bytes"],
            "Kept for clients that set it; all records are in the object store."),
    _define("local.retention.ms", _LONG, -2, _LOCAL, ["log.local.retention.ms"],
            "Kept for clients that set it; all records are in the object store."),
    _define("max.compaction.lag.ms", _LONG, LONG_MAX, _LONG1, ["log.cleaner.max.compaction.lag.ms"],
            "How long a record may stay uncompacted."),
    _define("max.message.bytes", _INT, 1_048_588, _INT0, ["message.max.bytes"],
            "Largest batch of records that is accepted; at most what one slot of the write-ahead log carries."),
    _define("message.timestamp.after.max.ms", _LONG, HOUR_MS, _LONG0, ["log.message.timestamp.after.max.ms"],
            "How far ahead of the broker's clock a record's timestamp may be, when producers set it."),
    _define("message.timestamp.before.max.ms", _LONG, LONG_MAX, _LONG0, ["log.message.timestamp.before.max.ms"],
            "How far behind the broker's clock a record's timestamp may be, when producers set it."),
    _define("message.timestamp.type", _STRING, "CreateTime", one_of("CreateTime", "LogAppendTime"),
            ["log.message.timestamp.type"], "Whose clock a record's timestamp is: the producer's or the broker's."),
    _define("min.cleanable.dirty.ratio", _DOUBLE, "0.5", ratio, ["log.cleaner.min.cleanable.ratio"],
            "The share of records not yet compacted from which on compaction is worth its cost."),
    _define("min.compaction.lag.ms", _LONG, 0, _LONG0, ["log.cleaner.min.compaction.lag.ms"],
            "How long a record is safe from compaction."),
    _define("min.insync.replicas", _INT, 1, _INT1, ["min.insync.replicas"],
            "Stored and shown; never refuses a write, because the object store replicates."),
    _define("preallocate", _BOOLEAN, "false", boolean, ["log.preallocate"],
            "Kept for clients that set it; there are no files."),
    _define("remote.log.copy.disable", _BOOLEAN, "false", boolean, [],
            "Kept for clients that set it; all records are in the object store."),
    _define("remote.log.delete.on.disable", _BOOLEAN, "false", boolean, [],
            "Kept for clients that set it; all records are in the object store."),
    _define("remote.storage.enable", _BOOLEAN, "false", boolean, [],
            "There is no second tier: all records are in the object store.", neutral="false"),
    _define("retention.bytes", _LONG, -1, whole(-(2**63), LONG_MAX), ["log.retention.bytes"],
            "How many bytes a partition keeps before the oldest records go; -1 means no limit."),
    _define("retention.ms", _LONG, 7 * DAY_MS, _LONG_1,
            ["log.retention.ms", "log.retention.minutes", "log.retention.hours"],
            "How long records are kept; -1 means for ever.", _HOURS),
    _define("segment.bytes", _INT, GIB, whole(1024**2, INT_MAX), ["log.segment.bytes"],
            "Kept for clients that set it; objects have sizes of their own."),
    _define("segment.index.bytes", _INT, 10 * 1024**2, whole(4, INT_MAX), ["log.index.size.max.bytes"],
            "Kept for clients that set it; indexes have the size they need."),
    _define("segment.jitter.ms", _LONG, 0, _LONG0, ["log.roll.jitter.ms", "log.roll.jitter.hours"],
            "Kept for clients that set it; objects have an age of their own.", _JITTER),
    _define("segment.ms", _LONG, 7 * DAY_MS, _LONG1, ["log.roll.ms", "log.roll.hours"],
            "Kept for clients that set it; objects have an age of their own.", _HOURS),
    _define("unclean.leader.election.enable", _BOOLEAN, "false", boolean, ["unclean.leader.election.enable"],
            "Kept for clients that set it; an election cannot lose records."),
)  # fmt: skip

TOPIC_CONFIGS: Final[Mapping[str, ConfigDefinition]] = {definition.name: definition for definition in _DEFINITIONS}
"""By name, in alphabetical order."""

LIST_CONFIGS: Final = frozenset(name for name, definition in TOPIC_CONFIGS.items() if definition.type == _LIST)

# The only synonym in the same unit that Kafka does not let anybody alter.
_READ_AT_START: Final = frozenset({"log.flush.scheduler.interval.ms"})

DYNAMIC_BROKER_CONFIGS: Final[Mapping[str, ConfigDefinition]] = {
    DRAINING_CONFIG: _define(
        DRAINING_CONFIG, _BOOLEAN, "false", boolean, [], "Everything is moved away from this broker, nothing to it."
    ),
    BALANCER_PAUSED_CONFIG: _define(
        BALANCER_PAUSED_CONFIG, _BOOLEAN, "false", boolean, [], "No partition is moved to even out what brokers carry."
    ),
    **{
        synonym: ConfigDefinition(
            name=synonym,
            type=definition.type,
            default=definition.default,
            check=definition.check,
            doc=definition.doc,
            synonyms=definition.synonyms,
            scales=definition.scales,
            neutral=definition.neutral,
        )
        for definition in _DEFINITIONS
        for synonym in definition.synonyms
        if synonym not in definition.scales and synonym not in _READ_AT_START
    },
}
"""What AlterConfigs may set of a broker: the broker-wide defaults of topics, and whether a broker is drained. Of all
brokers: whether the balancer pauses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicConfig:
    """What holds for one topic, typed."""

    values: Mapping[str, str]
    """Every topic config, by name, as text."""
    is_compacted: bool
    is_deleted: bool
    """Whether retention by time and size applies."""
    compression_type: str
    compression_gzip_level: int
    compression_lz4_level: int
    compression_zstd_level: int
    max_message_bytes: int
    message_timestamp_type: str
    message_timestamp_before_max_ms: int
    message_timestamp_after_max_ms: int
    min_insync_replicas: int
    retention_bytes: int | None
    """None: no limit."""
    retention_ms: int | None
    """None: for ever."""
    segment_bytes: int


def topic_config_of(values: Mapping[str, str]) -> TopicConfig:
    """The typed view of `values`, which has every topic config."""
    policies = split_list(values["cleanup.policy"])
    retention_bytes, retention_ms = int(values["retention.bytes"]), int(values["retention.ms"])
    return TopicConfig(
        values=values,
        is_compacted="compact" in policies,
        is_deleted="delete" in policies,
        compression_type=values["compression.type"],
        compression_gzip_level=int(values["compression.gzip.level"]),
        compression_lz4_level=int(values["compression.lz4.level"]),
        compression_zstd_level=int(values["compression.zstd.level"]),
        max_message_bytes=int(values["max.message.bytes"]),
        message_timestamp_type=values["message.timestamp.type"],
        message_timestamp_before_max_ms=int(values["message.timestamp.before.max.ms"]),
        message_timestamp_after_max_ms=int(values["message.timestamp.after.max.ms"]),
        min_insync_replicas=int(values["min.insync.replicas"]),
        retention_bytes=None if retention_bytes < 0 else retention_bytes,
        retention_ms=None if retention_ms < 0 else retention_ms,
        segment_bytes=int(values["segment.bytes"]),
    )


class Inherited(NamedTuple):
    """A broker-wide value that a topic falls back to."""

    layer: int
    """Its index in `broker_layers`."""
    name: str
    """The synonym that was set."""
    value: str
    """In the synonym's own unit."""


def broker_layers(
    image: MetadataImage, node: NodeId, static: Mapping[str, str]
) -> tuple[Mapping[str, str], Mapping[str, str], Mapping[str, str]]:
    """Where a broker-wide value may be set, the strongest first: for `node`, for all brokers, in its settings."""
    return image.broker_config(node), image.broker_config(None), static


def inherited_values(definition: ConfigDefinition, layers: Sequence[Mapping[str, str]]) -> list[Inherited]:
    """Every broker-wide value of `definition` that is set, the strongest first."""
    return [
        Inherited(index, synonym, layer[synonym])
        for index, layer in enumerate(layers)
        for synonym in definition.synonyms
        if synonym in layer
    ]


def _inherited(definition: ConfigDefinition, layers: Sequence[Mapping[str, str]]) -> str:
    values = inherited_values(definition, layers)
    return definition.from_synonym(values[0].name, values[0].value) if values else definition.default


NO_DEFAULTS: Final[Map[str, str]] = Map()


def effective_topic_config(
    image: MetadataImage, name: str, node: NodeId, defaults: Mapping[str, str] = NO_DEFAULTS
) -> TopicConfig:
    """What holds for topic `name` where `node` leads. Cached: asking again before something changed costs a lookup.

    `defaults` are the broker's own settings under the broker's names; hand in the same mapping every time.
    """
    static = defaults if isinstance(defaults, Map) else Map(defaults)
    of_broker, of_all = image.config(BROKER_RESOURCE, str(node)), image.config(BROKER_RESOURCE, "")
    return _effective(image.config(TOPIC_RESOURCE, name), of_broker, of_all, static)


@functools.lru_cache(maxsize=1024)
def _effective(
    overrides: Map[str, str], of_broker: Map[str, str], of_all: Map[str, str], static: Map[str, str]
) -> TopicConfig:
    layers = (of_broker, of_all, static)
    values = {name: _inherited(definition, layers) for name, definition in TOPIC_CONFIGS.items()}
    # An override of a key that this release does not know any more has no effect.
    values.update((name, overrides[name]) for name in sorted(overrides) if name in values)
    return topic_config_of(values)
