"""Pure: what DescribeConfigs shows: for each key its value, where that comes from, and what it would be otherwise."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from automq.handlers.broker_configs import BrokerConfig, BrokerConfigs, ConfigSource
from automq.ids import NodeId
from automq.metadata.configs import (
    DYNAMIC_BROKER_CONFIGS,
    TOPIC_CONFIGS,
    ConfigDefinition,
    ConfigType,
    broker_layers,
    inherited_values,
)
from automq.metadata.image import MetadataImage
from automq.protocol.messages.admin import (
    CreatableTopicConfigs,
    DescribeConfigsResourceResult,
    DescribeConfigsSynonym,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewOptions:
    """What the client asked to see. No keys mean all of them."""

    keys: Collection[str] | None
    synonyms: bool
    documentation: bool

    def wants(self, name: str) -> bool:
        """Whether the key was asked for."""
        return not self.keys or name in self.keys


_Layers = Sequence[Mapping[str, str]]
"""See `metadata.configs.broker_layers`."""

_SOURCES: Final = (ConfigSource.DYNAMIC_BROKER, ConfigSource.DYNAMIC_DEFAULT_BROKER, ConfigSource.STATIC_BROKER)
"""Of each of the layers."""


def topic_view(
    image: MetadataImage, broker_configs: BrokerConfigs, node: NodeId, topic: str, options: ViewOptions
) -> list[DescribeConfigsResourceResult]:
    """Every config of one topic, with the broker-wide values of `node`, which answers."""
    overrides = image.topic_config(topic)
    layers = broker_layers(image, node, broker_configs.topic_defaults)
    return [
        _topic_entry(definition, overrides, layers, options)
        for definition in TOPIC_CONFIGS.values()
        if options.wants(definition.name)
    ]


def created_topic_configs(
    image: MetadataImage, broker_configs: BrokerConfigs, node: NodeId, overrides: Mapping[str, str]
) -> list[CreatableTopicConfigs]:
    """Every config of a topic that has just been made with `overrides`."""
    options = ViewOptions(keys=None, synonyms=False, documentation=False)
    layers = broker_layers(image, node, broker_configs.topic_defaults)
    entries = [_topic_entry(definition, overrides, layers, options) for definition in TOPIC_CONFIGS.values()]
    return [
        CreatableTopicConfigs(
            name=entry.name, value=entry.value, read_only=entry.read_only, config_source=entry.config_source
        )
        for entry in entries
    ]


def broker_view(
    image: MetadataImage, broker_configs: BrokerConfigs, node: NodeId, options: ViewOptions
) -> list[DescribeConfigsResourceResult]:
    """Every setting of one broker: its own, which are fixed, and those that can be altered while it runs."""
    layers = broker_layers(image, node, broker_configs.topic_defaults)
    entries = [
        _static_entry(config, options)
        for config in broker_configs.entries.values()
        if config.name not in DYNAMIC_BROKER_CONFIGS and options.wants(config.name)
    ]
    entries += [
        _dynamic_entry(definition, layers, options)
        for definition in DYNAMIC_BROKER_CONFIGS.values()
        if options.wants(definition.name)
    ]
    return sorted(entries, key=lambda entry: entry.name)


def all_brokers_view(image: MetadataImage, options: ViewOptions) -> list[DescribeConfigsResourceResult]:
    """What was altered for all brokers at once."""
    altered = image.broker_config(None)
    return [
        _entry(
            DYNAMIC_BROKER_CONFIGS[name],
            [DescribeConfigsSynonym(name=name, value=altered[name], source=ConfigSource.DYNAMIC_DEFAULT_BROKER)],
            options,
        )
        for name in sorted(altered)
        if name in DYNAMIC_BROKER_CONFIGS and options.wants(name)
    ]


def default_view(
    definitions: Mapping[str, ConfigDefinition], options: ViewOptions
) -> list[DescribeConfigsResourceResult]:
    """Configurations that can only be what they are."""
    return [
        _entry(definition, _default_synonym(definition, is_set=False), options)
        for definition in definitions.values()
        if options.wants(definition.name)
    ]


def _topic_entry(
    definition: ConfigDefinition, overrides: Mapping[str, str], layers: _Layers, options: ViewOptions
) -> DescribeConfigsResourceResult:
    synonyms = _synonyms(definition, layers)
    if definition.name in overrides:
        own = DescribeConfigsSynonym(
            name=definition.name, value=overrides[definition.name], source=ConfigSource.DYNAMIC_TOPIC
        )
        synonyms.insert(0, own)
    entry = _entry(definition, synonyms, options)
    if synonyms:
        # A synonym may count in another unit: hours where the topic has milliseconds.
        entry.value = (
            overrides[definition.name]
            if definition.name in overrides
            else definition.from_synonym(synonyms[0].name, synonyms[0].value or "")
        )
    return entry


def _synonyms(definition: ConfigDefinition, layers: _Layers) -> list[DescribeConfigsSynonym]:
    """The broker-wide values that a topic falls back to, the strongest first."""
    found = [
        DescribeConfigsSynonym(name=value.name, value=value.value, source=_SOURCES[value.layer])
        for value in inherited_values(definition, layers)
    ]
    return found + _default_synonym(definition, is_set=bool(found))


def _default_synonym(definition: ConfigDefinition, *, is_set: bool) -> list[DescribeConfigsSynonym]:
    """As Kafka: where the default stands at another name than the first, it is shown behind values that are set."""
    standing = definition.default_synonym
    if standing is None or (standing[0] != definition.synonyms[0] and not is_set):
        return []
    return [DescribeConfigsSynonym(name=standing[0], value=standing[1], source=ConfigSource.DEFAULT)]


def _dynamic_entry(
    definition: ConfigDefinition, layers: _Layers, options: ViewOptions
) -> DescribeConfigsResourceResult:
    name = definition.name
    synonyms = [
        DescribeConfigsSynonym(name=name, value=layer[name], source=source)
        for layer, source in zip(layers, _SOURCES, strict=True)
        if name in layer
    ]
    is_set = bool(synonyms)
    if definition.synonyms:
        synonyms += _default_synonym(definition, is_set=is_set)
    else:
        synonyms.append(DescribeConfigsSynonym(name=name, value=definition.default, source=ConfigSource.DEFAULT))
    entry = _entry(definition, synonyms, options)
    if not synonyms:
        # The default stands at another name, such as log.retention.hours.
        entry.value = None
    return entry


def _entry(
    definition: ConfigDefinition, synonyms: list[DescribeConfigsSynonym], options: ViewOptions
) -> DescribeConfigsResourceResult:
    return DescribeConfigsResourceResult(
        name=definition.name,
        value=synonyms[0].value if synonyms else definition.default,
        config_source=synonyms[0].source if synonyms else ConfigSource.DEFAULT,
        synonyms=synonyms if options.synonyms else [],
        config_type=definition.type,
        documentation=definition.doc if options.documentation else None,
    )


def _static_entry(config: BrokerConfig, options: ViewOptions) -> DescribeConfigsResourceResult:
    value = None if config.is_sensitive or config.type is ConfigType.PASSWORD else config.value
    own = DescribeConfigsSynonym(name=config.name, value=value, source=config.source)
    return DescribeConfigsResourceResult(
        name=config.name,
        value=value,
        read_only=True,
        config_source=config.source,
        is_sensitive=config.is_sensitive,
        synonyms=[own] if options.synonyms else [],
        config_type=config.type,
        documentation=config.doc if options.documentation else None,
    )
