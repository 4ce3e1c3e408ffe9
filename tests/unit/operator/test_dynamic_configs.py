"""The operator's list of what brokers take while they run is the broker's own."""

import pytest

from automq.metadata.configs import DYNAMIC_BROKER_CONFIGS, TOPIC_CONFIGS
from automq.metadata.image import DRAINING_CONFIG
from automq_operator import api
from automq_operator.dynamic_configs import COARSER, DEFAULTS, dynamic, same, static, unset_value

TEXTS = ["7", " 7 ", "+7", "07", "true", "TRUE", " False", "0.5", "0.50", "5e-1", "gzip", " gzip ", "delete,compact",
         "delete, compact", "delete,delete", "compact,delete", "", "-1"]  # fmt: skip


def test_the_list_and_the_defaults_are_those_of_the_broker() -> None:
    theirs = {name: item.default for name, item in DYNAMIC_BROKER_CONFIGS.items() if name != DRAINING_CONFIG}
    assert dict(DEFAULTS) == theirs
    assert DRAINING_CONFIG in api.OWNED_KEYS, "of one broker only, and the operator's business"


def test_the_coarser_settings_are_those_of_the_broker_in_its_order() -> None:
    theirs = {
        item.synonyms[0]: tuple((name, item.scales[name]) for name in item.synonyms[1:] if name in item.scales)
        for item in TOPIC_CONFIGS.values()
        if any(name in item.scales for name in item.synonyms)
    }
    assert dict(COARSER) == theirs


@pytest.mark.parametrize("name", sorted(DEFAULTS))
def test_two_texts_are_the_same_where_the_broker_shows_them_alike(name: str) -> None:
    definition = DYNAMIC_BROKER_CONFIGS[name]
    taken = [text for text in TEXTS if definition.problem(text) is None]
    for one in taken:
        for other in taken:
            alike = definition.canonical(one) == definition.canonical(other)
            assert same(one, other) == alike, (one, other)
    assert not same(None, definition.default)


def test_the_config_is_split_in_two() -> None:
    config = {"log.retention.ms": "1", "num.partitions": "3"}
    assert (dynamic(config), static(config)) == ({"log.retention.ms": "1"}, {"num.partitions": "3"})


@pytest.mark.parametrize(
    ("config", "value"),
    [
        ({}, "604800000"),
        ({"log.retention.hours": "2"}, "7200000"),
        ({"log.retention.hours": "2", "log.retention.minutes": "3"}, "180000"),
        ({"log.retention.hours": "two"}, "604800000"),
    ],
)
def test_the_value_that_means_none_is_what_would_hold_without_it(config: dict[str, str], value: str) -> None:
    assert unset_value("log.retention.ms", config) == value
