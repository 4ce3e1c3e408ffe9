"""Topic configurations: Kafka's names, types and defaults, and what holds for a topic."""

import pytest

from automq.metadata.config_types import ConfigType
from automq.metadata.configs import (
    DYNAMIC_BROKER_CONFIGS,
    TOPIC_CONFIGS,
    effective_topic_config,
    inherited_topic_config,
)
from automq.metadata.image import EMPTY, MetadataImage
from automq.metadata.records import ConfigChanged
from automq.metadata.replay import replay
from tests.support import golden


def changed(kind: int, name: str, **values: str) -> MetadataImage:
    changes = tuple((key.replace("_", "."), value) for key, value in values.items())
    return replay(EMPTY, ConfigChanged(resource_type=kind, resource_name=name, changes=changes))


def test_names_types_defaults_and_synonyms_stay() -> None:
    lines = [f"{d.name} {d.type.name} {d.default!r} {' '.join(d.synonyms) or '-'}\n" for d in TOPIC_CONFIGS.values()]
    golden.check_text("metadata/topic_configs.txt", "".join(lines))


@pytest.mark.parametrize("definition", TOPIC_CONFIGS.values(), ids=lambda definition: definition.name)
def test_every_default_is_a_value(definition: object) -> None:
    found = TOPIC_CONFIGS[definition.name]  # type: ignore[attr-defined]
    assert found.problem(found.default) is None
    assert found.doc.endswith(".")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("retention.ms", "-2"),
        ("retention.ms", "soon"),
        ("retention.ms", str(2**63)),
        ("max.message.bytes", "-1"),
        ("cleanup.policy", "shred"),
        ("cleanup.policy", "delete,delete"),
        ("cleanup.policy", ""),
        ("compression.type", "zip"),
        ("compression.gzip.level", "0"),
        ("message.timestamp.type", "createtime"),
        ("min.cleanable.dirty.ratio", "1.5"),
        ("min.cleanable.dirty.ratio", "much"),
        ("preallocate", "yes"),
        ("segment.bytes", "1000"),
        ("min.insync.replicas", "0"),
        ("follower.replication.throttled.replicas", "1-2"),
    ],
)
def test_what_kafka_refuses_is_refused_with_a_reason(name: str, text: str) -> None:
    problem = TOPIC_CONFIGS[name].problem(text)
    assert problem is not None
    assert problem.startswith("it must be ")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("retention.ms", "-1"),
        ("retention.ms", " 5 "),
        ("cleanup.policy", "compact, delete"),
        ("compression.gzip.level", "-1"),
        ("compression.zstd.level", "-7"),
        ("preallocate", "TRUE"),
        ("local.retention.ms", "-2"),
        ("follower.replication.throttled.replicas", "*"),
        ("follower.replication.throttled.replicas", "0:1,1:2"),
    ],
)
def test_what_kafka_takes_is_taken(name: str, text: str) -> None:
    assert TOPIC_CONFIGS[name].problem(text) is None


def test_a_topic_without_overrides_has_kafkas_defaults() -> None:
    config = effective_topic_config(EMPTY, "t")
    assert (config.retention_ms, config.retention_bytes, config.max_message_bytes) == (604_800_000, None, 1_048_588)
    assert (config.is_deleted, config.is_compacted, config.message_timestamp_type) == (True, False, "CreateTime")


def test_precedence_is_topic_then_all_brokers_then_settings_file() -> None:
    static = {"log.retention.hours": "1", "log.retention.bytes": "7"}
    assert effective_topic_config(EMPTY, "t", static).retention_ms == 3_600_000
    dynamic = changed(4, "", log_retention_ms="20")
    assert effective_topic_config(dynamic, "t", static).retention_ms == 20
    assert effective_topic_config(dynamic, "t", static).retention_bytes == 7
    topic = changed(2, "t", retention_ms="-1")
    assert effective_topic_config(topic, "t", static).retention_ms is None
    assert effective_topic_config(topic, "other", static).retention_ms == 3_600_000


def test_the_finer_unit_wins() -> None:
    static = {"log.retention.hours": "1", "log.retention.minutes": "1", "log.retention.ms": "1"}
    assert inherited_topic_config(EMPTY, static)["retention.ms"] == "1"
    static.pop("log.retention.ms")
    assert inherited_topic_config(EMPTY, static)["retention.ms"] == "60000"
    assert inherited_topic_config(EMPTY, {"log.retention.hours": "-1"})["retention.ms"] == "-1"


@pytest.mark.parametrize("policy", ["compact", "compact,delete"])
def test_a_compacted_topic_never_loses_records_to_time_or_size(policy: str) -> None:
    config = effective_topic_config(changed(2, "t", cleanup_policy=policy), "t")
    assert (config.is_compacted, config.is_deleted) == (True, False)


def test_asking_again_is_answered_from_the_cache() -> None:
    image = changed(2, "t", retention_ms="5")
    assert effective_topic_config(image, "t") is effective_topic_config(image, "t")


def test_a_broker_can_be_drained_and_given_topic_defaults() -> None:
    assert DYNAMIC_BROKER_CONFIGS["automq.broker.draining"].type is ConfigType.BOOLEAN
    assert "log.retention.ms" in DYNAMIC_BROKER_CONFIGS
    assert "log.retention.hours" not in DYNAMIC_BROKER_CONFIGS
