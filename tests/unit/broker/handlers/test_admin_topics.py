"""Topics are created, deleted and grown."""

from collections.abc import AsyncIterator

import pytest

from automq.handlers.admin_topics import handle_create_partitions, handle_create_topics, handle_delete_topics
from automq.handlers.broker_configs import BrokerConfigs, ConfigSource
from automq.protocol.codec import encode
from automq.protocol.errors import ErrorCode
from automq.protocol.messages.admin import (
    CreatableReplicaAssignment,
    CreatableTopic,
    CreatableTopicConfig,
    CreatePartitionsRequest,
    CreatePartitionsTopic,
    CreateTopicsRequest,
    CreateTopicsResponse,
    DeleteTopicsRequest,
    DeleteTopicState,
)
from automq.protocol.messages.discovery import MetadataRequest, MetadataRequestTopic
from automq.protocol.schema import ZERO_UUID
from tests.support.controller_world import ControllerWorld, controller_world
from tests.support.handler_world import metadata_of

NO_DELETION = BrokerConfigs(entries={}, topic_defaults={}, delete_topics=False)


@pytest.fixture
async def world() -> AsyncIterator[ControllerWorld]:
    async with controller_world() as made:
        yield made


def topic(name: str, partitions: int = -1, factor: int = -1, **configs: str) -> CreatableTopic:
    entries = [CreatableTopicConfig(name=key.replace("__", "."), value=value) for key, value in configs.items()]
    return CreatableTopic(name=name, num_partitions=partitions, replication_factor=factor, configs=entries)


async def create(world: ControllerWorld, *topics: CreatableTopic, validate_only: bool = False) -> CreateTopicsResponse:
    request = CreateTopicsRequest(topics=list(topics), timeout=5000, validate_only=validate_only)
    return await handle_create_topics(world.context(7), request)


async def test_created_topic_is_answered_whole_and_visible(world: ControllerWorld) -> None:
    answer = await create(world, topic("a", 3, 2, retention__ms="5000"))

    (made,) = answer.topics
    image = world.metadata.image.topic("a")
    assert image is not None
    assert (made.error_code, made.topic_id) == (ErrorCode.NONE, image.topic_id)
    assert (made.num_partitions, made.replication_factor) == (3, 2)
    assert made.configs is not None
    configs = {config.name: (config.value, config.config_source) for config in made.configs}
    assert configs["retention.ms"] == ("5000", ConfigSource.DYNAMIC_TOPIC)
    assert configs["cleanup.policy"] == ("delete", ConfigSource.DEFAULT)


async def test_defaults_are_taken_where_numbers_are_left_out(world: ControllerWorld) -> None:
    (made,) = (await create(world, topic("a"))).topics

    assert (made.num_partitions, made.replication_factor) == (1, 1)


@pytest.mark.parametrize(
    ("wanted", "code"),
    [
        (topic("not/legal", 1, 1), ErrorCode.INVALID_TOPIC_EXCEPTION),
        (topic("a", 0, 1), ErrorCode.INVALID_PARTITIONS),
        (topic("a", -2, 1), ErrorCode.INVALID_PARTITIONS),
        (topic("a", 1, 0), ErrorCode.INVALID_REPLICATION_FACTOR),
        (topic("a", 1, 1, no__such__config="1"), ErrorCode.INVALID_CONFIG),
        (topic("a", 1, 1, retention__ms="soon"), ErrorCode.INVALID_CONFIG),
    ],
)
async def test_refused_topic_is_not_made(world: ControllerWorld, wanted: CreatableTopic, code: ErrorCode) -> None:
    (refused,) = (await create(world, wanted)).topics

    assert refused.error_code == code
    assert refused.error_message
    assert world.metadata.image.topics() == ()


async def test_topics_stand_or_fall_alone(world: ControllerWorld) -> None:
    answer = await create(world, topic("a"), topic("b", 0), topic("c"), topic("c"))

    assert [(made.name, made.error_code) for made in answer.topics] == [
        ("a", ErrorCode.NONE),
        ("b", ErrorCode.INVALID_PARTITIONS),
        ("c", ErrorCode.INVALID_REQUEST),
    ]


async def test_existing_topic_is_told(world: ControllerWorld) -> None:
    await create(world, topic("a"))

    assert (await create(world, topic("a"))).topics[0].error_code == ErrorCode.TOPIC_ALREADY_EXISTS


async def test_validation_alone_makes_nothing(world: ControllerWorld) -> None:
    (made,) = (await create(world, topic("a", 3), validate_only=True)).topics

    assert (made.error_code, made.num_partitions) == (ErrorCode.NONE, 3)
    assert world.metadata.image.topic("a") is None


async def test_assignment_and_numbers_exclude_each_other(world: ControllerWorld) -> None:
    wanted = topic("a", 1, 1)
    wanted.assignments = [CreatableReplicaAssignment(partition_index=0, broker_ids=[1])]

    assert (await create(world, wanted)).topics[0].error_code == ErrorCode.INVALID_REQUEST


async def test_assignment_by_hand_is_taken(world: ControllerWorld) -> None:
    wanted = topic("a")
    wanted.assignments = [CreatableReplicaAssignment(partition_index=i, broker_ids=[1]) for i in (1, 0)]

    assert (await create(world, wanted)).topics[0].num_partitions == 2


async def test_topics_are_deleted_by_name_and_by_id(world: ControllerWorld) -> None:
    made = {entry.name: entry.topic_id for entry in (await create(world, topic("a"), topic("b"))).topics}
    request = DeleteTopicsRequest(
        topics=[
            DeleteTopicState(name="a"),
            DeleteTopicState(topic_id=made["b"]),
            DeleteTopicState(name="none"),
            DeleteTopicState(topic_id=TOPIC_ID_OF_NOBODY),
        ],
        timeout=5000,
    )

    answer = await handle_delete_topics(world.context(6), request)

    assert [(entry.name, entry.topic_id, entry.error_code) for entry in answer.responses] == [
        ("a", made["a"], ErrorCode.NONE),
        ("b", made["b"], ErrorCode.NONE),
        ("none", ZERO_UUID, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        (None, TOPIC_ID_OF_NOBODY, ErrorCode.UNKNOWN_TOPIC_ID),
    ]
    assert world.metadata.image.topics() == ()


TOPIC_ID_OF_NOBODY = type(ZERO_UUID)(int=77)


async def test_names_are_enough_for_old_clients(world: ControllerWorld) -> None:
    await create(world, topic("a"))

    answer = await handle_delete_topics(world.context(5), DeleteTopicsRequest(topic_names=["a"], timeout=5000))

    assert [(entry.name, entry.error_code) for entry in answer.responses] == [("a", ErrorCode.NONE)]


@pytest.mark.parametrize("version", [1, 2, 3, 4, 5])
async def test_b12_an_empty_name_is_answered_in_versions_that_have_no_null(
    world: ControllerWorld, version: int
) -> None:
    answer = await handle_delete_topics(world.context(version), DeleteTopicsRequest(topic_names=[""], timeout=5000))

    assert [(entry.name, entry.error_code) for entry in answer.responses] == [
        ("", ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
    ]
    assert encode(answer, version)


async def test_b10_a_topic_of_ten_megabyte_messages_can_be_made_and_a_larger_value_names_the_limit(
    world: ControllerWorld,
) -> None:
    large, endless = topic("large", max__message__bytes="10485760"), topic("endless", max__message__bytes="67108865")

    answers = (await create(world, large, endless)).topics

    assert [entry.error_code for entry in answers] == [ErrorCode.NONE, ErrorCode.INVALID_CONFIG]
    assert "67108864 bytes here" in (answers[1].error_message or "")


@pytest.mark.parametrize(
    "states",
    [
        [DeleteTopicState(name="a"), DeleteTopicState(name="a")],
        [DeleteTopicState()],
        [DeleteTopicState(name="a", topic_id=TOPIC_ID_OF_NOBODY)],
    ],
)
async def test_unclear_deletion_is_refused(world: ControllerWorld, states: list[DeleteTopicState]) -> None:
    await create(world, topic("a"))

    answer = await handle_delete_topics(world.context(6), DeleteTopicsRequest(topics=states, timeout=5000))

    assert [entry.error_code for entry in answer.responses] == [ErrorCode.INVALID_REQUEST]
    assert world.metadata.image.topic("a") is not None


@pytest.mark.parametrize(("version", "code"), [(2, ErrorCode.INVALID_REQUEST), (3, ErrorCode.TOPIC_DELETION_DISABLED)])
async def test_deletion_can_be_switched_off(world: ControllerWorld, version: int, code: ErrorCode) -> None:
    request = DeleteTopicsRequest(topic_names=["a"], timeout=5000)

    answer = await handle_delete_topics(world.context(version, configs=NO_DELETION), request)

    assert [entry.error_code for entry in answer.responses] == [code]


async def test_topics_grow_and_never_shrink(world: ControllerWorld) -> None:
    await create(world, topic("a", 2))
    request = CreatePartitionsRequest(topics=[CreatePartitionsTopic(name="a", count=4, assignments=None)], timeout=5000)

    first = await handle_create_partitions(world.context(3), request)
    second = await handle_create_partitions(world.context(3), request)

    assert [entry.error_code for entry in first.results] == [ErrorCode.NONE]
    assert [entry.error_code for entry in second.results] == [ErrorCode.INVALID_PARTITIONS]
    image = world.metadata.image.topic("a")
    assert image is not None
    assert len(image.partitions) == 4


async def test_metadata_makes_the_topics_it_is_asked_for(world: ControllerWorld) -> None:
    request = MetadataRequest(
        topics=[MetadataRequestTopic(name="new"), MetadataRequestTopic(name="__consumer_offsets")],
        allow_auto_topic_creation=True,
    )

    answer = await metadata_of(world.context(9), request)

    assert [(entry.name, entry.error_code, len(entry.partitions)) for entry in answer.topics] == [
        ("new", ErrorCode.NONE, 1),
        ("__consumer_offsets", ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, 0),
    ]


async def test_metadata_makes_nothing_that_the_client_does_not_allow(world: ControllerWorld) -> None:
    request = MetadataRequest(topics=[MetadataRequestTopic(name="new")], allow_auto_topic_creation=False)

    answer = await metadata_of(world.context(9), request)

    assert answer.topics[0].error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert world.metadata.image.topics() == ()
