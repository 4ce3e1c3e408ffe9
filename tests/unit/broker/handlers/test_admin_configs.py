"""Configs are described and altered."""

from collections.abc import AsyncIterator

import pytest

from automq.controller.model import TopicSpec
from automq.handlers.admin_configs import (
    handle_alter_configs,
    handle_describe_configs,
    handle_incremental_alter_configs,
    handle_list_config_resources,
)
from automq.handlers.broker_configs import BrokerConfig, BrokerConfigs, ConfigSource
from automq.handlers.read_only_configs import READ_ONLY_CONFIGS
from automq.metadata.config_types import ConfigType
from automq.metadata.configs import DYNAMIC_BROKER_CONFIGS
from automq.protocol.errors import ErrorCode
from automq.protocol.messages import admin
from automq.protocol.messages.admin_cluster import ListConfigResourcesRequest
from tests.support.controller_world import ControllerWorld, controller_world

TOPIC, BROKER = 2, 4
SET, DELETE, APPEND, SUBTRACT = 0, 1, 2, 3


@pytest.fixture
async def world() -> AsyncIterator[ControllerWorld]:
    async with controller_world() as made:
        await made.controller.create_topics([TopicSpec(name="t", configs={"retention.ms": "1"})])
        yield made


async def described(world: ControllerWorld, kind: int, name: str) -> dict[str, tuple[str | None, int]]:
    resource = admin.DescribeConfigsResource(resource_type=kind, resource_name=name, configuration_keys=None)
    answer = await handle_describe_configs(world.context(4), admin.DescribeConfigsRequest(resources=[resource]))
    (result,) = answer.results
    assert result.error_code == ErrorCode.NONE, result.error_message
    return {config.name: (config.value, config.config_source) for config in result.configs}


async def altered(world: ControllerWorld, kind: int, name: str, *changes: tuple[str, int, str | None]) -> ErrorCode:
    configs = [
        admin.IncrementalAlterableConfig(name=key, config_operation=operation, value=value)
        for key, operation, value in changes
    ]
    resource = admin.IncrementalAlterConfigsResource(resource_type=kind, resource_name=name, configs=configs)
    request = admin.IncrementalAlterConfigsRequest(resources=[resource])
    answer = await handle_incremental_alter_configs(world.context(1), request)
    return ErrorCode(answer.responses[0].error_code)


async def test_topic_shows_its_overrides(world: ControllerWorld) -> None:
    configs = await described(world, TOPIC, "t")

    assert configs["retention.ms"] == ("1", ConfigSource.DYNAMIC_TOPIC)
    assert configs["segment.bytes"][1] == ConfigSource.DEFAULT


async def test_set_and_delete_change_single_keys(world: ControllerWorld) -> None:
    assert await altered(world, TOPIC, "t", ("max.message.bytes", SET, "9")) == ErrorCode.NONE
    assert await altered(world, TOPIC, "t", ("retention.ms", DELETE, None)) == ErrorCode.NONE

    configs = await described(world, TOPIC, "t")
    assert configs["max.message.bytes"] == ("9", ConfigSource.DYNAMIC_TOPIC)
    assert configs["retention.ms"] == ("604800000", ConfigSource.DEFAULT)


async def test_lists_are_appended_to_and_subtracted_from(world: ControllerWorld) -> None:
    await altered(world, TOPIC, "t", ("cleanup.policy", APPEND, "compact"))
    assert (await described(world, TOPIC, "t"))["cleanup.policy"][0] == "delete,compact"
    await altered(world, TOPIC, "t", ("cleanup.policy", SUBTRACT, "delete"))
    assert (await described(world, TOPIC, "t"))["cleanup.policy"][0] == "compact"


@pytest.mark.parametrize(
    ("kind", "name", "change", "code"),
    [
        (TOPIC, "none", ("retention.ms", SET, "1"), ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        (TOPIC, "t", ("no.such", SET, "1"), ErrorCode.INVALID_CONFIG),
        (TOPIC, "t", ("retention.ms", SET, "soon"), ErrorCode.INVALID_CONFIG),
        (TOPIC, "t", ("retention.ms", SET, None), ErrorCode.INVALID_REQUEST),
        (TOPIC, "t", ("retention.ms", 9, "1"), ErrorCode.INVALID_REQUEST),
        (BROKER, "7", ("log.retention.ms", SET, "1"), ErrorCode.INVALID_REQUEST),
        (BROKER, "x", ("log.retention.ms", SET, "1"), ErrorCode.INVALID_REQUEST),
        (BROKER, "1", ("log.retention.ms", SET, "soon"), ErrorCode.INVALID_REQUEST),
        (TOPIC, "", ("retention.ms", SET, "1"), ErrorCode.INVALID_REQUEST),
        (TOPIC, "a b", ("retention.ms", SET, "1"), ErrorCode.INVALID_TOPIC_EXCEPTION),
        (8, "1", ("root", SET, "DEBUG"), ErrorCode.INVALID_CONFIG),
        (8, "7", ("root", SET, "DEBUG"), ErrorCode.INVALID_REQUEST),
        (16, "s", ("interval.ms", SET, "1000"), ErrorCode.INVALID_CONFIG),
        (16, "", ("interval.ms", SET, "300000"), ErrorCode.INVALID_REQUEST),
        (32, "g", ("consumer.session.timeout.ms", SET, "1000"), ErrorCode.INVALID_CONFIG),
        (32, "g", ("no.such", SET, "1000"), ErrorCode.INVALID_CONFIG),
        (32, "", ("consumer.session.timeout.ms", SET, "45000"), ErrorCode.INVALID_REQUEST),
        (64, "x", ("a", SET, "b"), ErrorCode.INVALID_REQUEST),
    ],
)
async def test_refused_change_changes_nothing(
    world: ControllerWorld, kind: int, name: str, change: tuple[str, int, str | None], code: ErrorCode
) -> None:
    before = world.metadata.image

    assert await altered(world, kind, name, change) == code
    assert world.metadata.image is before


async def test_broker_and_all_brokers_have_layers_of_their_own(world: ControllerWorld) -> None:
    assert await altered(world, BROKER, "", ("log.retention.ms", SET, "5")) == ErrorCode.NONE
    assert await altered(world, BROKER, "1", ("log.retention.ms", SET, "6")) == ErrorCode.NONE

    assert await described(world, BROKER, "") == {"log.retention.ms": ("5", ConfigSource.DYNAMIC_DEFAULT_BROKER)}
    assert (await described(world, BROKER, "1"))["log.retention.ms"] == ("6", ConfigSource.DYNAMIC_BROKER)


async def test_full_alteration_replaces_what_was_there(world: ControllerWorld) -> None:
    config = admin.AlterableConfig(name="max.message.bytes", value="9")
    resource = admin.AlterConfigsResource(resource_type=TOPIC, resource_name="t", configs=[config])

    answer = await handle_alter_configs(world.context(2), admin.AlterConfigsRequest(resources=[resource]))

    assert [entry.error_code for entry in answer.responses] == [ErrorCode.NONE]
    assert dict(world.metadata.image.topic_config("t")) == {"max.message.bytes": "9"}


async def test_resource_or_key_given_twice_is_refused(world: ControllerWorld) -> None:
    config = admin.AlterableConfig(name="max.message.bytes", value="9")
    keys = admin.AlterConfigsResource(resource_type=TOPIC, resource_name="t", configs=[config, config])
    once = admin.AlterConfigsResource(resource_type=TOPIC, resource_name="t", configs=[config])

    for resources in ([keys], [once, once]):
        answer = await handle_alter_configs(world.context(2), admin.AlterConfigsRequest(resources=resources))
        assert [entry.error_code for entry in answer.responses] == [ErrorCode.INVALID_REQUEST] * len(resources)


@pytest.mark.parametrize(
    ("kind", "name", "value", "synonym"),
    [
        (32, "consumer.session.timeout.ms", "45000", ("group.consumer.session.timeout.ms", "45000")),
        (16, "interval.ms", "300000", None),
        (16, "match", "", None),
    ],
)
async def test_what_is_not_served_is_shown_at_its_default_and_taken_at_it_alone(
    world: ControllerWorld, kind: int, name: str, value: str, synonym: tuple[str, str] | None
) -> None:
    before = world.metadata.image
    assert await altered(world, kind, "x", (name, SET, value)) is ErrorCode.NONE
    assert world.metadata.image is before

    resource = admin.DescribeConfigsResource(resource_type=kind, resource_name="x", configuration_keys=[name])
    request = admin.DescribeConfigsRequest(resources=[resource], include_synonyms=True)
    (result,) = (await handle_describe_configs(world.context(4), request)).results
    (entry,) = result.configs
    assert (entry.value, entry.config_source) == (value, 5)
    assert [(each.name, each.value) for each in entry.synonyms] == ([] if synonym is None else [synonym])


async def test_validation_alone_changes_nothing(world: ControllerWorld) -> None:
    before = world.metadata.image
    config = admin.AlterableConfig(name="max.message.bytes", value="9")
    resource = admin.AlterConfigsResource(resource_type=TOPIC, resource_name="t", configs=[config])

    request = admin.AlterConfigsRequest(resources=[resource], validate_only=True)
    answer = await handle_alter_configs(world.context(2), request)

    assert [entry.error_code for entry in answer.responses] == [ErrorCode.NONE]
    assert world.metadata.image is before


@pytest.mark.parametrize(
    ("kind", "name", "code"),
    [
        (TOPIC, "none", ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        (TOPIC, "not/legal", ErrorCode.INVALID_TOPIC_EXCEPTION),
        (BROKER, "7", ErrorCode.INVALID_REQUEST),
        (32, "", ErrorCode.INVALID_REQUEST),
        (8, "7", ErrorCode.INVALID_REQUEST),
        (3, "what", ErrorCode.INVALID_REQUEST),
    ],
)
async def test_unknown_resource_is_told(world: ControllerWorld, kind: int, name: str, code: ErrorCode) -> None:
    resource = admin.DescribeConfigsResource(resource_type=kind, resource_name=name, configuration_keys=None)

    answer = await handle_describe_configs(world.context(4), admin.DescribeConfigsRequest(resources=[resource]))

    assert [result.error_code for result in answer.results] == [code]


async def test_setting_that_a_file_holds_cannot_be_altered(world: ControllerWorld) -> None:
    entry = BrokerConfig(name="node.id", value="1", source=ConfigSource.STATIC_BROKER, type=ConfigType.INT, doc="Id.")
    configs = BrokerConfigs(entries={"node.id": entry}, topic_defaults={})
    changes = [admin.IncrementalAlterableConfig(name="node.id", config_operation=SET, value="7")]
    resource = admin.IncrementalAlterConfigsResource(resource_type=BROKER, resource_name="1", configs=changes)

    answer = await handle_incremental_alter_configs(
        world.context(1, configs=configs), admin.IncrementalAlterConfigsRequest(resources=[resource])
    )

    (result,) = answer.responses
    assert result.error_code == ErrorCode.INVALID_REQUEST
    assert (result.error_message or "").startswith("Cannot update these configs dynamically: [node.id]")


@pytest.mark.parametrize("node", ["", "1"])
@pytest.mark.parametrize(
    "key",
    [
        "log.dirs",
        "process.roles",
        "transaction.state.log.min.isr",
        "offsets.commit.timeout.ms",
        "group.share.delivery.count.limit",
        "log.flush.scheduler.interval.ms",
        "remote.log.storage.system.enable",
        "sasl.oauthbearer.scope",
        "share.coordinator.threads",
    ],
)
async def test_key_that_kafka_reads_at_its_start_is_refused_as_kafka_does(
    world: ControllerWorld, key: str, node: str
) -> None:
    before = world.metadata.image
    changes = [admin.IncrementalAlterableConfig(name=key, config_operation=SET, value="1")]
    resource = admin.IncrementalAlterConfigsResource(resource_type=BROKER, resource_name=node, configs=changes)
    request = admin.IncrementalAlterConfigsRequest(resources=[resource])
    replacing = admin.AlterConfigsResource(
        resource_type=BROKER, resource_name=node, configs=[admin.AlterableConfig(name=key, value="1")]
    )

    answers = [
        *(await handle_incremental_alter_configs(world.context(1), request)).responses,
        *(await handle_alter_configs(world.context(2), admin.AlterConfigsRequest(resources=[replacing]))).responses,
    ]
    assert [answer.error_code for answer in answers] == [ErrorCode.INVALID_REQUEST] * 2
    assert {answer.error_message for answer in answers} == {f"Cannot update these configs dynamically: [{key}]"}
    assert world.metadata.image is before


def test_what_can_be_altered_is_not_read_only() -> None:
    assert READ_ONLY_CONFIGS.isdisjoint(DYNAMIC_BROKER_CONFIGS)
    # As many as Apache Kafka 4.3.1 refuses.
    assert len(READ_ONLY_CONFIGS) == 246


@pytest.mark.parametrize(
    ("version", "types", "listed"),
    [
        (0, [], []),
        (1, [], [("t", TOPIC), ("1", BROKER), ("1", 8)]),
        (1, [TOPIC], [("t", TOPIC)]),
        (1, [16, 32], []),
    ],
)
async def test_resources_with_configurations_are_listed(
    world: ControllerWorld, version: int, types: list[int], listed: list[tuple[str, int]]
) -> None:
    answer = await handle_list_config_resources(
        world.context(version), ListConfigResourcesRequest(resource_types=types)
    )
    assert [(found.resource_name, found.resource_type) for found in answer.config_resources] == listed
    assert answer.error_code == ErrorCode.NONE


async def test_unknown_type_of_resource_is_not_listed(world: ControllerWorld) -> None:
    answer = await handle_list_config_resources(world.context(1), ListConfigResourcesRequest(resource_types=[3]))
    assert answer.error_code == ErrorCode.UNSUPPORTED_VERSION
