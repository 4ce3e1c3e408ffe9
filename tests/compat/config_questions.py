"""Questions of the differential test about configurations of every kind of resource: described, altered, listed."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tests.compat.questions import Ask, Step, create

TOPIC, BROKER, LOGGER, METRICS, GROUP = 2, 4, 8, 16, 32
SET, DELETE, APPEND, SUBTRACT = range(4)

ODD_VALUES: Mapping[str, Sequence[str | None]] = {
    "cleanup.policy": ("compact, delete", " delete ", "delete,delete", "", ",", "delete,", "Delete", None),
    "retention.ms": ("-1", "-2", "0", " 5 ", "5.0", "+7", "0x10", "9223372036854775808", "", "-", None, "07"),
    "max.message.bytes": ("0", "-1", "2147483647", "2147483648", "1.5", ""),
    "preallocate": ("TRUE", " false ", "yes", "1", "", None),
    "compression.type": ("zstd", "ZSTD", " gzip ", "none", "uncompressed", "", None),
    "min.cleanable.dirty.ratio": ("0", "1", "1.01", "-0.1", "NaN", "Infinity", ".5", "5e-1", "0.50", "0.5f", "", "1,0"),
    "message.timestamp.type": ("LogAppendTime", "logappendtime", ""),
    "compression.gzip.level": ("-1", "0", "9", "10"),
    "compression.lz4.level": ("0", "17", "18"),
    "compression.zstd.level": ("22", "23", "-131072", "-131073"),
    "segment.bytes": ("1048576", "1048575", "14"),
    "segment.index.bytes": ("3", "4"),
    "segment.ms": ("0", "1"),
    "retention.bytes": ("-1", "-2", "-9223372036854775808", "-9223372036854775809"),
    "local.retention.ms": ("-2", "-1", "-3", "604800001"),
    "local.retention.bytes": ("-2", "-1", "5"),
    "min.insync.replicas": ("0", "1", "3"),
    "leader.replication.throttled.replicas": ("*", "0:1", "0:1,1:1", "0", "0:x", "", "a:b", "*,0:1"),
    "follower.replication.throttled.replicas": ("*", "0:1:2", " 0:1 "),
    "remote.storage.enable": ("true", "false"),
    "remote.log.copy.disable": ("true", "false"),
    "remote.log.delete.on.disable": ("true", "false"),
    "flush.ms": ("0", "-1"),
    "flush.messages": ("0", "1"),
    "file.delete.delay.ms": ("-1", "0"),
    "index.interval.bytes": ("-1", "0"),
    "delete.retention.ms": ("-1", "0"),
    "min.compaction.lag.ms": ("-1", "0"),
    "max.compaction.lag.ms": ("0", "1"),
    "segment.jitter.ms": ("-1", "0"),
    "unclean.leader.election.enable": ("true", "maybe"),
    "message.timestamp.before.max.ms": ("-1", "0"),
    "message.timestamp.after.max.ms": ("-1", "0"),
    "message.downconversion.enable": ("true",),
    "message.format.version": ("3.0",),
    "Retention.ms": ("5",),
    " retention.ms": ("5",),
    "": ("5",),
}  # fmt: skip


def alter_one(
    kind: int, name: str, key: str, value: str | None, operation: int = SET, *, validate_only: bool = False
) -> Ask:
    return alter_many(kind, name, [(key, value, operation)], validate_only=validate_only)


def alter_many(
    kind: int, name: str, changes: Sequence[tuple[str, str | None, int]], *, validate_only: bool = False
) -> Ask:
    configs = [{"name": key, "config_operation": operation, "value": value} for key, value, operation in changes]
    resource = {"resource_type": kind, "resource_name": name, "configs": configs}
    return Ask("INCREMENTAL_ALTER_CONFIGS", 1, {"resources": [resource], "validate_only": validate_only})


def replace_all(kind: int, name: str, configs: Mapping[str, str | None], *, validate_only: bool = False) -> Ask:
    entries = [{"name": key, "value": value} for key, value in configs.items()]
    resource = {"resource_type": kind, "resource_name": name, "configs": entries}
    return Ask("ALTER_CONFIGS", 2, {"resources": [resource], "validate_only": validate_only})


def describe(kind: int, name: str, keys: Sequence[str] | None = None, version: int = 4, **more: Any) -> Ask:
    resource = {"resource_type": kind, "resource_name": name, "configuration_keys": keys}
    return Ask("DESCRIBE_CONFIGS", version, {"resources": [resource], **more})


def listed(*kinds: int, version: int = 1) -> Ask:
    return Ask("LIST_CONFIG_RESOURCES", version, {"resource_types": list(kinds)} if version else {})


def twice(ask: Ask) -> Ask:
    """The same resource two times in one request."""
    return replace(ask, body={**ask.body, "resources": ask.body["resources"] * 2})


TWO_VALUES = {
    "resource_type": 2,
    "resource_name": "$topic",
    "configs": [{"name": "retention.ms", "value": value} for value in ("1", "2")],
}

CONFIG_QUESTIONS: Mapping[str, Sequence[Step]] = {
    **{
        f"values-of-{number:02}": [
            create(),
            *(
                step
                for value in values
                for step in (alter_one(TOPIC, "$topic", key, value), describe(TOPIC, "$topic", [key]))
            ),
            create("$other", configs=[{"name": key, "value": values[0]}]),
        ]
        for number, (key, values) in enumerate(ODD_VALUES.items())
    },
    "topic-configs": [
        create(configs=[{"name": "retention.ms", "value": "1000"}]),
        describe(TOPIC, "$topic", include_synonyms=True),
        *(describe(TOPIC, "$topic", ["retention.ms", "no.such", "retention.ms"], version) for version in (1, 2, 3, 4)),
        describe(TOPIC, "$topic", []),
        describe(TOPIC, "$topic", ["retention.ms"], include_synonyms=True),
        describe(TOPIC, ""),
        describe(TOPIC, "with space"),
        alter_many(TOPIC, "$topic", []),
        alter_many(TOPIC, "$topic", [("retention.ms", "1", SET), ("retention.ms", "2", SET)]),
        alter_many(TOPIC, "$topic", [("retention.ms", "1", SET), ("no.such", "2", SET)]),
        alter_many(TOPIC, "$topic", [("retention.ms", "1", 4), ("cleanup.policy", "compact", SET)]),
        alter_many(TOPIC, "$topic", [("retention.ms", "1", -1)]),
        alter_one(TOPIC, "$topic", "retention.ms", "77", validate_only=True),
        describe(TOPIC, "$topic", ["retention.ms"]),
        alter_one(TOPIC, "$topic", "cleanup.policy", "compact", APPEND),
        alter_one(TOPIC, "$topic", "cleanup.policy", "compact", APPEND),
        describe(TOPIC, "$topic", ["cleanup.policy"]),
        alter_one(TOPIC, "$topic", "cleanup.policy", "delete,compact", SUBTRACT),
        describe(TOPIC, "$topic", ["cleanup.policy"]),
        alter_one(TOPIC, "$topic", "cleanup.policy", "delete", SUBTRACT),
        alter_one(TOPIC, "$topic", "cleanup.policy", "nothing", APPEND),
        alter_one(TOPIC, "$topic", "cleanup.policy", None, APPEND),
        alter_one(TOPIC, "$topic", "no.such", None, DELETE),
        alter_one(TOPIC, "$topic", "no.such", "x", DELETE),
        alter_one(TOPIC, "$topic", "no.such", "x", APPEND),
        alter_many(TOPIC, "$topic", [("min.compaction.lag.ms", "5", SET), ("max.compaction.lag.ms", "4", SET)]),
        replace_all(TOPIC, "$topic", {"retention.ms": None}),
        replace_all(TOPIC, "$topic", {"no.such": "1"}),
        replace_all(TOPIC, "$topic", {}, validate_only=True),
        describe(TOPIC, "$topic", ["retention.ms"]),
        replace_all(TOPIC, "$topic", {"retention.bytes": "5"}),
        describe(TOPIC, "$topic", ["retention.ms", "retention.bytes"]),
        replace_all(TOPIC, "", {"retention.bytes": "5"}),
        alter_one(TOPIC, "", "retention.bytes", "5"),
        alter_one(TOPIC, "with space", "retention.bytes", "5"),
    ],
    "group-configs": [
        describe(GROUP, "$group"),
        describe(GROUP, "$group", include_synonyms=True),
        describe(GROUP, ""),
        describe(GROUP, "$group", ["consumer.session.timeout.ms", "no.such"]),
        alter_one(GROUP, "$group", "consumer.session.timeout.ms", "50000"),
        describe(GROUP, "$group", ["consumer.session.timeout.ms"], include_synonyms=True),
        alter_one(GROUP, "$group", "consumer.session.timeout.ms", "1"),
        alter_one(GROUP, "$group", "consumer.session.timeout.ms", "soon"),
        alter_one(GROUP, "$group", "consumer.session.timeout.ms", "600000"),
        alter_one(GROUP, "$group", "consumer.heartbeat.interval.ms", "6000"),
        alter_one(GROUP, "$group", "consumer.heartbeat.interval.ms", "1"),
        alter_one(GROUP, "$group", "consumer.heartbeat.interval.ms", "15000", validate_only=True),
        alter_one(GROUP, "$group", "share.auto.offset.reset", "earliest"),
        alter_one(GROUP, "$group", "share.auto.offset.reset", "by_duration:PT1H"),
        alter_one(GROUP, "$group", "share.auto.offset.reset", "by_duration:soon"),
        alter_one(GROUP, "$group", "share.isolation.level", "read_committed"),
        alter_one(GROUP, "$group", "share.isolation.level", "chaos"),
        alter_one(GROUP, "$group", "streams.num.standby.replicas", "1"),
        alter_one(GROUP, "$group", "retention.ms", "1"),
        alter_one(GROUP, "$group", "no.such", None, DELETE),
        alter_one(GROUP, "$group", "consumer.session.timeout.ms", "50000", APPEND),
        alter_one(GROUP, "$group", "consumer.session.timeout.ms", None),
        alter_one(GROUP, "", "consumer.session.timeout.ms", "50000"),
        listed(GROUP),
        describe(GROUP, "$group"),
        alter_one(GROUP, "$group", "consumer.session.timeout.ms", None, DELETE),
        describe(GROUP, "$group", ["consumer.session.timeout.ms"]),
        replace_all(GROUP, "$other", {"consumer.heartbeat.interval.ms": "7000"}),
        describe(GROUP, "$other", ["consumer.heartbeat.interval.ms"]),
        replace_all(GROUP, "$other", {}),
        replace_all(GROUP, "$group", {}),
        listed(GROUP),
    ],
    "client-metrics-configs": [
        describe(METRICS, "$group"),
        describe(METRICS, ""),
        alter_one(METRICS, "$group", "interval.ms", "1000"),
        alter_one(METRICS, "$group", "interval.ms", "99"),
        alter_one(METRICS, "$group", "interval.ms", "3600001"),
        alter_one(METRICS, "$group", "interval.ms", "soon"),
        alter_one(METRICS, "$group", "metrics", "org.apache.kafka.producer."),
        alter_one(METRICS, "$group", "metrics", "org.apache.kafka.consumer.", APPEND),
        alter_one(METRICS, "$group", "match", "client_id=a.*"),
        alter_one(METRICS, "$group", "match", "client_software_name=x,client_id=b"),
        alter_one(METRICS, "$group", "match", "no_such=a"),
        alter_one(METRICS, "$group", "match", "client_id=("),
        alter_one(METRICS, "$group", "match", "client_id"),
        alter_one(METRICS, "$group", "no.such", "1"),
        alter_one(METRICS, "", "interval.ms", "1000"),
        describe(METRICS, "$group"),
        describe(METRICS, "$group", include_synonyms=True),
        describe(METRICS, "$group", ["interval.ms"]),
        listed(METRICS),
        listed(version=0),
        replace_all(METRICS, "$group", {"interval.ms": "2000"}),
        describe(METRICS, "$group"),
        replace_all(METRICS, "$group", {}),
        listed(METRICS),
    ],
    "broker-configs": [
        describe(BROKER, "", include_synonyms=True),
        describe(BROKER, "7"),
        describe(BROKER, "one"),
        describe(BROKER, "-1"),
        describe(BROKER, "1", ["log.retention.ms", "message.max.bytes"], include_synonyms=True),
        alter_one(BROKER, "", "log.retention.ms", "3600000"),
        describe(BROKER, "", include_synonyms=True),
        describe(BROKER, "1", ["log.retention.ms"], include_synonyms=True),
        create(),
        describe(TOPIC, "$topic", ["retention.ms"], include_synonyms=True),
        alter_one(BROKER, "1", "log.retention.ms", "1800000"),
        describe(BROKER, "1", ["log.retention.ms"], include_synonyms=True),
        describe(TOPIC, "$topic", ["retention.ms"], include_synonyms=True),
        alter_one(BROKER, "1", "log.retention.ms", "soon"),
        alter_one(BROKER, "1", "log.retention.ms", None),
        alter_one(BROKER, "1", "log.retention.ms", None, DELETE),
        alter_one(BROKER, "", "log.retention.ms", None, DELETE),
        describe(BROKER, "", include_synonyms=True),
        alter_one(BROKER, "", "log.cleanup.policy", "compact", APPEND),
        describe(BROKER, "", include_synonyms=True),
        alter_one(BROKER, "", "log.cleanup.policy", "delete", SUBTRACT),
        describe(BROKER, "", include_synonyms=True),
        alter_one(BROKER, "", "log.cleanup.policy", None, DELETE),
        alter_one(BROKER, "", "log.dirs", "/somewhere"),
        alter_one(BROKER, "1", "log.dirs", "/somewhere"),
        alter_one(BROKER, "", "no.such", "1"),
        alter_one(BROKER, "1", "no.such", "1"),
        alter_one(BROKER, "", "no.such", None, DELETE),
        alter_one(BROKER, "1", "no.such", None, DELETE),
        alter_one(BROKER, "", "message.max.bytes", "-1"),
        alter_one(BROKER, "", "num.io.threads", "8"),
        alter_one(BROKER, "", "max.connections", "100000"),
        alter_one(BROKER, "", "max.connections", None, DELETE),
        alter_one(BROKER, "7", "log.retention.ms", "1"),
        alter_one(BROKER, "one", "log.retention.ms", "1"),
        alter_one(BROKER, "", "log.retention.ms", "5", validate_only=True),
        replace_all(BROKER, "", {"log.retention.ms": "7200000"}),
        describe(BROKER, "", include_synonyms=True),
        replace_all(BROKER, "", {}),
        describe(BROKER, ""),
        listed(BROKER),
    ],
    "read-only-broker-configs": [
        alter_one(BROKER, name, key, "1", validate_only=True)
        for key in (
            "controller.quorum.fetch.max.bytes",
            "group.consumer.heartbeat.interval.ms",
            "group.share.delivery.count.limit",
            "group.streams.max.size",
            "log.cleaner.enable",
            "log.flush.scheduler.interval.ms",
            "log.initial.task.delay.ms",
            "remote.log.storage.system.enable",
            "sasl.oauthbearer.scope",
            "share.coordinator.threads",
            "ssl.principal.mapping.rules",
        )
        for name in ("", "1")
    ],
    "logger-configs": [
        describe(LOGGER, "7"),
        describe(LOGGER, ""),
        describe(LOGGER, "1", ["no.such.logger"]),
        alter_one(LOGGER, "1", "no.such.logger", "DEBUG"),
        alter_one(LOGGER, "1", "no.such.logger", "LOUD"),
        alter_one(LOGGER, "", "no.such.logger", "DEBUG"),
        alter_one(LOGGER, "7", "no.such.logger", "DEBUG"),
        replace_all(LOGGER, "1", {"no.such.logger": "DEBUG"}),
        listed(LOGGER),
    ],
    "config-resources": [
        create(),
        describe(0, "x"),
        describe(1, "x"),
        describe(64, "x"),
        describe(-1, "x"),
        alter_one(0, "x", "a", "b"),
        alter_one(3, "x", "a", "b"),
        alter_one(64, "x", "a", "b"),
        replace_all(0, "x", {"a": "b"}),
        replace_all(64, "x", {"a": "b"}),
        Ask("DESCRIBE_CONFIGS", 4, {"resources": []}),
        Ask("INCREMENTAL_ALTER_CONFIGS", 1, {"resources": []}),
        twice(describe(TOPIC, "$topic", ["retention.ms"])),
        twice(alter_many(TOPIC, "$topic", [])),
        Ask("ALTER_CONFIGS", 2, {"resources": [TWO_VALUES]}),
        listed(0),
        listed(64),
        listed(GROUP, GROUP),
    ],
}
