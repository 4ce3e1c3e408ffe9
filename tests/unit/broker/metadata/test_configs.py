"""Topic configurations: Kafka's names, types and defaults, and what holds for a topic."""

import pytest

from automq.ids import NodeId
from automq.metadata.config_types import ConfigType
from automq.metadata.configs import (
    DYNAMIC_BROKER_CONFIGS,
    TOPIC_CONFIGS,
    effective_topic_config,
)
from automq.metadata.image import EMPTY, MetadataImage
from automq.metadata.records import ConfigChanged
from automq.metadata.replay import replay
from tests.support import golden

NODE = NodeId(1)
SENTENCES = (
    "Value",
    "Not a number of type",
    "String must be one of",
    "Expected value to be",
    "it must be the literal '*'",
)


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
        ("cleanup.policy", " ,delete"),
        ("retention.ms", "1_000"),
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
    assert problem.startswith(SENTENCES)


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
    config = effective_topic_config(EMPTY, "t", NODE)
    assert (config.retention_ms, config.retention_bytes, config.max_message_bytes) == (604_800_000, None, 1_048_588)
    assert (config.is_deleted, config.is_compacted, config.message_timestamp_type) == (True, False, "CreateTime")


def test_precedence_is_topic_then_all_brokers_then_settings_file() -> None:
    static = {"log.retention.hours": "1", "log.retention.bytes": "7"}
    assert effective_topic_config(EMPTY, "t", NODE, static).retention_ms == 3_600_000
    dynamic = changed(4, "", log_retention_ms="20")
    assert effective_topic_config(dynamic, "t", NODE, static).retention_ms == 20
    assert effective_topic_config(dynamic, "t", NODE, static).retention_bytes == 7
    topic = changed(2, "t", retention_ms="-1")
    assert effective_topic_config(topic, "t", NODE, static).retention_ms is None
    assert effective_topic_config(topic, "other", NODE, static).retention_ms == 3_600_000


def test_the_finer_unit_wins() -> None:
    static = {"log.retention.hours": "1", "log.retention.minutes": "1", "log.retention.ms": "1"}
    assert effective_topic_config(EMPTY, "t", NODE, static).values["retention.ms"] == "1"
    static.pop("log.retention.ms")
    assert effective_topic_config(EMPTY, "t", NODE, static).values["retention.ms"] == "60000"
    assert effective_topic_config(EMPTY, "t", NODE, {"log.retention.hours": "-1"}).values["retention.ms"] == "-1"


def test_b1_value_of_one_broker_is_applied_by_that_broker_only() -> None:
    image = replay(changed(4, "", log_retention_ms="20"), ConfigChanged(4, "1", (("log.retention.ms", "10"),)))
    assert effective_topic_config(image, "t", NODE).retention_ms == 10
    assert effective_topic_config(image, "t", NodeId(2)).retention_ms == 20


@pytest.mark.parametrize(
    ("policy", "flags"),
    [("compact", (True, False)), ("compact,delete", (True, True)), ("delete", (False, True)), ("", (False, False))],
)
def test_b2_policies_are_two_independent_flags(policy: str, flags: tuple[bool, bool]) -> None:
    config = effective_topic_config(changed(2, "t", cleanup_policy=policy), "t", NODE)
    assert (config.is_compacted, config.is_deleted) == flags


@pytest.mark.parametrize(
    ("name", "text", "shown"),
    [
        ("cleanup.policy", "compact, delete", "compact,delete"),
        ("cleanup.policy", "delete,delete", "delete"),
        ("cleanup.policy", "", ""),
        ("preallocate", " TRUE", "true"),
        ("retention.ms", " 5000 ", "5000"),
        ("retention.ms", "+7", "7"),
        ("min.cleanable.dirty.ratio", "1", "1.0"),
        ("compression.type", " lz4 ", "lz4"),
    ],
)
def test_k7_values_are_shown_as_kafka_shows_them(name: str, text: str, shown: str) -> None:
    assert TOPIC_CONFIGS[name].problem(text) is None
    assert TOPIC_CONFIGS[name].canonical(text) == shown


def test_k7_what_means_nothing_here_is_only_taken_at_its_neutral_value() -> None:
    assert TOPIC_CONFIGS["remote.storage.enable"].problem("False") is None
    assert "can only be false" in (TOPIC_CONFIGS["remote.storage.enable"].problem("true") or "")


def test_override_of_a_key_that_is_gone_has_no_effect() -> None:
    config = effective_topic_config(changed(2, "t", message_downconversion_enable="false"), "t", NODE)
    assert "message.downconversion.enable" not in config.values


def test_asking_again_is_answered_from_the_cache() -> None:
    image = changed(2, "t", retention_ms="5")
    assert effective_topic_config(image, "t", NODE) is effective_topic_config(image, "t", NODE)


def test_a_broker_can_be_drained_and_given_topic_defaults() -> None:
    assert DYNAMIC_BROKER_CONFIGS["automq.broker.draining"].type is ConfigType.BOOLEAN
    assert "log.retention.ms" in DYNAMIC_BROKER_CONFIGS
    assert "log.retention.hours" not in DYNAMIC_BROKER_CONFIGS
