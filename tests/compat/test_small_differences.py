"""What clients and tools meet now and then, one by one: what Apache Kafka answers there is what is answered here.

The differential test compares whole conversations with recorded ones; here each matter has a name.
"""

import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.compat.differential import Conversation
from tests.compat.questions import Ask, create, fetch, idempotent, produce, producer_id
from tests.support.process import Broker

TOPIC, BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP = 2, 4, 8, 16, 32
SET, DELETE, APPEND, SUBTRACT = range(4)
INVALID_REQUEST, INVALID_CONFIG, NOT_LEADER, REQUEST_TIMED_OUT, UNKNOWN_SERVER_ERROR = 42, 40, 6, 7, -1


@pytest.fixture
def asked(broker: Broker, topic: str) -> Iterator[Conversation]:
    conversation = Conversation(broker.address, {"topic": topic, "group": f"group-{topic}"}, settle_s=0)
    yield conversation
    conversation.close()


def altered(
    asked: Conversation, name: str, value: str | None, operation: int = SET, *, kind: int = TOPIC, of: str = "$topic"
) -> int:
    """The code of one alteration."""
    configs = [{"name": name, "config_operation": operation, "value": value}]
    resources = [{"resource_type": kind, "resource_name": of, "configs": configs}]
    (answer,) = asked.ask_raw(Ask("INCREMENTAL_ALTER_CONFIGS", 1, {"resources": resources}))["responses"]
    return int(answer["error_code"])


def shown(asked: Conversation, *names: str, kind: int = TOPIC, of: str = "$topic") -> dict[str, str | None]:
    """The values of a resource by name; of all its configurations where none is named."""
    keys = list(names) or None
    resources = [{"resource_type": kind, "resource_name": of, "configuration_keys": keys}]
    (answer,) = asked.ask_raw(Ask("DESCRIBE_CONFIGS", 4, {"resources": resources}))["results"]
    assert answer["error_code"] == 0, answer
    return {each["name"]: each["value"] for each in answer["configs"]}


def made(asked: Conversation, **fields: Any) -> Any:
    (result,) = asked.ask_raw(create(**fields))["topics"]
    return result


# Values of configurations.


def test_an_empty_cleanup_policy_is_taken_and_shown(asked: Conversation) -> None:
    assert made(asked, configs=[{"name": "cleanup.policy", "value": ""}])["error_code"] == 0
    assert shown(asked, "cleanup.policy") == {"cleanup.policy": ""}
    assert altered(asked, "cleanup.policy", "delete") == 0
    assert altered(asked, "cleanup.policy", "delete", SUBTRACT) == 0
    assert shown(asked, "cleanup.policy") == {"cleanup.policy": ""}
    assert altered(asked, "cleanup.policy", "compact", APPEND) == 0
    assert shown(asked, "cleanup.policy") == {"cleanup.policy": "compact"}


def test_a_policy_that_is_named_twice_is_one(asked: Conversation) -> None:
    assert made(asked, configs=[{"name": "cleanup.policy", "value": "delete,delete"}])["error_code"] == 0
    assert shown(asked, "cleanup.policy") == {"cleanup.policy": "delete"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("message.downconversion.enable", "true"),
        ("remote.storage.enable", "true"),
        ("min.compaction.lag.ms", "9223372036854775807"),
        ("no.such", "1"),
    ],
)
def test_what_has_no_meaning_is_refused(asked: Conversation, name: str, value: str) -> None:
    """The lag alone is taken; with a smaller greatest one it makes no sense."""
    made(asked, configs=[{"name": "max.compaction.lag.ms", "value": "1000"}])
    assert altered(asked, name, value) == INVALID_CONFIG


def test_a_key_that_nobody_knows_can_be_deleted(asked: Conversation) -> None:
    """Who migrates gets rid of message.format.version."""
    made(asked)
    assert altered(asked, "message.format.version", None, DELETE) == 0
    assert altered(asked, "no.such", None, DELETE) == 0


@pytest.mark.parametrize(("name", "of"), [("broker.id", "1"), ("log.dirs", ""), ("no.such", "1"), ("no.such", "")])
def test_what_a_broker_could_not_apply_is_refused_and_not_shown(asked: Conversation, name: str, of: str) -> None:
    assert altered(asked, name, "7", kind=BROKER, of=of) in (INVALID_CONFIG, INVALID_REQUEST)
    assert shown(asked, kind=BROKER, of=of).get(name) != "7"


@pytest.mark.parametrize(
    ("kind", "name", "keys"),
    [
        (GROUP, "a-group", {"consumer.session.timeout.ms", "consumer.heartbeat.interval.ms"}),
        (BROKER_LOGGER, "1", set()),
        (CLIENT_METRICS, "a-subscription", {"interval.ms", "match", "metrics"}),
    ],
)
def test_configs_of_every_kind_of_resource_are_described(
    asked: Conversation, kind: int, name: str, keys: set[str]
) -> None:
    assert keys <= set(shown(asked, kind=kind, of=name))


# Topics.


def test_a_topic_that_could_not_be_made_has_an_empty_list_of_configs(asked: Conversation) -> None:
    assert made(asked)["error_code"] == 0
    again = made(asked)
    assert (again["error_code"], again["configs"]) == (36, [])


def led(asked: Conversation, partitions: int) -> bool:
    """Whether the topic has so many partitions by now; -1 for a topic that is gone."""
    body = {"topics": [{"name": "$topic"}], "allow_auto_topic_creation": False}
    (topic,) = asked.ask_raw(Ask("METADATA", 9, body))["topics"]
    if partitions < 0:
        return bool(topic["error_code"] == 3)
    return topic["error_code"] == 0 and len(topic["partitions"]) == partitions


def until(asked: Conversation, partitions: int) -> None:
    """What was asked for without waiting comes to pass."""
    deadline = time.monotonic() + 60
    while not led(asked, partitions):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_time_outs_of_0_end_the_waiting_and_not_the_change(asked: Conversation) -> None:
    """A change is under way before its time is up; records are deleted and produced whatever the time."""
    topics = [{"name": "$topic", "num_partitions": 1, "replication_factor": 1}]
    (answer,) = asked.ask_raw(Ask("CREATE_TOPICS", 7, {"topics": topics, "timeout": 0}))["topics"]
    assert answer["error_code"] == REQUEST_TIMED_OUT
    until(asked, 1)
    for number in range(3):
        answer = asked.ask_raw(Ask("PRODUCE", 9, produce({"values": ["a"]}).body | {"timeout": 0}))
        (result,) = answer["responses"][0]["partition_responses"]
        assert (result["error_code"], result["base_offset"]) == (0, number)
    grown = {"topics": [{"name": "$topic", "count": 2, "assignments": None}], "timeout": 0}
    (answer,) = asked.ask_raw(Ask("CREATE_PARTITIONS", 3, grown))["results"]
    assert answer["error_code"] == REQUEST_TIMED_OUT
    until(asked, 2)
    trimmed = {"topics": [{"name": "$topic", "partitions": [{"partition_index": 0, "offset": 2}]}], "timeout": 0}
    (answer,) = asked.ask_raw(Ask("DELETE_RECORDS", 2, trimmed))["topics"]
    (result,) = answer["partitions"]
    assert (result["error_code"], result["low_watermark"]) == (0, 2)
    asked.ask_raw(Ask("DELETE_TOPICS", 5, {"topic_names": ["$topic"], "timeout": 0}))
    until(asked, -1)


def test_bytes_that_are_not_uploaded_yet_are_in_the_log_dir(asked: Conversation) -> None:
    made(asked)
    asked.ask_raw(produce({"values": ["x" * 10_000]}))
    topics = [{"topic": "$topic", "partitions": [0]}]
    (directory,) = asked.ask_raw(Ask("DESCRIBE_LOG_DIRS", 4, {"topics": topics}))["results"]
    (found,) = directory["topics"]
    assert found["partitions"][0]["partition_size"] >= 10_000
    assert directory["total_bytes"] >= directory["usable_bytes"] >= -1


# Records.


def test_a_duplicate_has_the_append_time_of_the_first(asked: Conversation) -> None:
    made(asked, configs=[{"name": "message.timestamp.type", "value": "LogAppendTime"}])
    asked.ask_raw(producer_id())
    first, again = (asked.ask_raw(produce(idempotent(0)))["responses"][0]["partition_responses"][0] for _ in range(2))
    assert [(each["error_code"], each["base_offset"]) for each in (first, again)] == [(0, 0), (0, 0)]
    assert again["log_append_time"] == first["log_append_time"] > 0


def read(asked: Conversation, **more: Any) -> Any:
    """The one partition of a fetch, or its whole answer where it has none."""
    answer = asked.ask_raw(fetch(0, **more))
    return answer["responses"][0]["partitions"][0] if answer["responses"] else answer


def test_who_wants_no_byte_gets_the_first_batch(asked: Conversation) -> None:
    made(asked)
    asked.ask_raw(produce({"values": ["a"]}))
    assert read(asked, max_bytes=0)["records"]


def test_a_replica_that_nobody_knows_gets_nothing(asked: Conversation) -> None:
    made(asked)
    asked.ask_raw(produce({"values": ["a"]}))
    found = read(asked, replica_id=7)
    assert (found["error_code"], found["records"] or None) == (NOT_LEADER, None)


def test_an_isolation_level_that_is_none_is_refused(asked: Conversation) -> None:
    made(asked)
    asked.ask_raw(produce({"values": ["a"]}))
    assert read(asked, isolation_level=7)["error_code"] == UNKNOWN_SERVER_ERROR


# Groups.


def test_offsets_deleted_are_answered_a_topic_once(asked: Conversation) -> None:
    made(asked, num_partitions=1)
    partition = {"partition_index": 0, "committed_offset": 1, "committed_metadata": ""}
    committed = {"group_id": "$group", "topics": [{"name": "$topic", "partitions": [partition]}]}
    asked.ask(Ask("FIND_COORDINATOR", 3, {"key": "$group", "key_type": 0}))
    asked.ask(Ask("OFFSET_COMMIT", 8, committed))
    named = [{"name": "$topic", "partitions": [{"partition_index": 0}, {"partition_index": 9}]}]
    answer = asked.ask_raw(Ask("OFFSET_DELETE", 0, {"group_id": "$group", "topics": named}))
    (topic,) = answer["topics"]
    assert {each["partition_index"]: each["error_code"] for each in topic["partitions"]} == {0: 0, 9: 3}
    assert asked.ask_raw(Ask("OFFSET_DELETE", 0, {"group_id": "", "topics": []}))["error_code"] == 24


def test_the_coordinator_of_the_empty_name_is_found(asked: Conversation) -> None:
    assert asked.ask(Ask("FIND_COORDINATOR", 3, {"key": "", "key_type": 0}))["error_code"] == 0


# Versions.


def test_features_are_told_as_far_as_they_are_true(asked: Conversation) -> None:
    answer = asked.ask_raw(Ask("API_VERSIONS", 4, {"client_software_name": "a", "client_software_version": "1"}))
    supported = {each["name"]: (each["min_version"], each["max_version"]) for each in answer["supported_features"]}
    assert "group.version" in supported or supported == {}, supported
    assert {each["name"] for each in answer["finalized_features"]} <= set(supported)
