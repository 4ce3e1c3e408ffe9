"""What DescribeConfigs shows."""

from automq.handlers.broker_configs import BrokerConfig, BrokerConfigs, ConfigSource
from automq.handlers.config_views import ViewOptions, all_brokers_view, broker_view, topic_view
from automq.metadata.configs import TOPIC_CONFIGS, ConfigType
from automq.metadata.image import BROKER_RESOURCE, TOPIC_RESOURCE
from tests.support.handler_world import NODE, image_of, override

PLAIN = BrokerConfigs(entries={}, topic_defaults={})
ALL = ViewOptions(keys=None, synonyms=True, documentation=True)


def only(*keys: str) -> ViewOptions:
    return ViewOptions(keys=keys, synonyms=True, documentation=False)


def test_topic_without_overrides_shows_every_default() -> None:
    entries = topic_view(image_of({"a": 1}), PLAIN, NODE, "a", ALL)

    assert [entry.name for entry in entries] == list(TOPIC_CONFIGS)
    assert all(entry.config_source == ConfigSource.DEFAULT for entry in entries)
    assert {entry.name: entry.value for entry in entries} == {
        name: definition.default for name, definition in TOPIC_CONFIGS.items()
    }
    assert all(entry.documentation for entry in entries)


def test_layers_stand_above_each_other() -> None:
    image = image_of(
        {"a": 1},
        override(TOPIC_RESOURCE, "a", max__message__bytes="4"),
        override(BROKER_RESOURCE, "", message__max__bytes="3"),
    )
    static = BrokerConfigs(entries={}, topic_defaults={"message.max.bytes": "2"})

    (entry,) = topic_view(image, static, NODE, "a", only("max.message.bytes"))

    assert (entry.value, entry.config_source) == ("4", ConfigSource.DYNAMIC_TOPIC)
    assert [(synonym.name, synonym.value, synonym.source) for synonym in entry.synonyms] == [
        ("max.message.bytes", "4", ConfigSource.DYNAMIC_TOPIC),
        ("message.max.bytes", "3", ConfigSource.DYNAMIC_DEFAULT_BROKER),
        ("message.max.bytes", "2", ConfigSource.STATIC_BROKER),
        ("message.max.bytes", "1048588", ConfigSource.DEFAULT),
    ]


def test_synonym_in_another_unit_is_converted() -> None:
    static = BrokerConfigs(entries={}, topic_defaults={"log.retention.hours": "2"})

    (entry,) = topic_view(image_of({"a": 1}), static, NODE, "a", only("retention.ms"))

    assert (entry.value, entry.config_source) == ("7200000", ConfigSource.STATIC_BROKER)
    assert [synonym.value for synonym in entry.synonyms] == ["2", "168"]


def test_broker_shows_fixed_and_alterable_settings() -> None:
    secret = BrokerConfig(
        name="secret", value="x", source=ConfigSource.STATIC_BROKER, type=ConfigType.PASSWORD, doc="", is_sensitive=True
    )
    node = BrokerConfig(name="node.id", value="1", source=ConfigSource.STATIC_BROKER, type=ConfigType.INT, doc="who")
    static = BrokerConfigs(entries={"node.id": node, "secret": secret}, topic_defaults={})
    image = image_of({}, override(BROKER_RESOURCE, "1", log__retention__ms="5"))

    entries = {entry.name: entry for entry in broker_view(image, static, NODE, ALL)}

    assert (entries["node.id"].value, entries["node.id"].read_only) == ("1", True)
    assert entries["secret"].value is None
    assert (entries["log.retention.ms"].value, entries["log.retention.ms"].config_source) == (
        "5",
        ConfigSource.DYNAMIC_BROKER,
    )
    assert not entries["log.retention.ms"].read_only
    assert list(entries) == sorted(entries)


def test_all_brokers_show_only_what_was_altered() -> None:
    image = image_of({}, override(BROKER_RESOURCE, "", log__retention__ms="5"))

    (entry,) = all_brokers_view(image, ALL)

    assert (entry.name, entry.value, entry.config_source) == (
        "log.retention.ms",
        "5",
        ConfigSource.DYNAMIC_DEFAULT_BROKER,
    )
