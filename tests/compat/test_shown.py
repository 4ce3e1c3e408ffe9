"""What is accepted is what is shown: every field of CreateTopics, by every API and client that shows it.

A tool that compares what it asked for with what there is, and replaces or refuses what differs, finds no difference.
Apache Kafka's own tools are asked where the testbed has them.
"""

import asyncio
import json
import os
import pathlib
import re
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from confluent_kafka import TopicCollection
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewPartitions, NewTopic
from kafka import KafkaAdminClient

from tests.compat.differential import Conversation
from tests.compat.questions import Ask
from tests.support.process import TESTBED, TESTBED_HOME, Broker, Kafka

JAVA = pytest.mark.skipif(not Kafka.built(), reason="SKIPPED: Apache Kafka is not built in the testbed")
CONFIGS = {
    "cleanup.policy": "compact,delete",
    "compression.type": "zstd",
    "delete.retention.ms": "1000",
    "file.delete.delay.ms": "2000",
    "flush.messages": "5",
    "max.message.bytes": "200000",
    "message.timestamp.type": "LogAppendTime",
    "min.cleanable.dirty.ratio": "0.25",
    "min.insync.replicas": "2",
    "preallocate": "true",
    "retention.bytes": "123456789",
    "retention.ms": "86400000",
    "segment.bytes": "2000000",
    "segment.ms": "3600000",
    "unclean.leader.election.enable": "true",
}
REASSIGN = pathlib.Path(__file__).parent / "Reassign.java"
WAIT_S = 20
TOOL_S = 120


@pytest.fixture
def asked(broker: Broker) -> Iterator[Conversation]:
    conversation = Conversation(broker.address, {}, settle_s=0)
    yield conversation
    conversation.close()


@pytest.fixture
def admin(broker: Broker) -> AdminClient:
    return AdminClient({"bootstrap.servers": broker.address})


def tool(broker: Broker, name: str, *arguments: str, is_well: bool = True) -> str:
    """One of Kafka's own, which ends well, or does not; what it wrote."""
    command = [str(TESTBED / "kafka/bin" / name), "--bootstrap-server", broker.address, *arguments]
    environment = {**os.environ, "TESTBED_JVM": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"}
    ended = subprocess.run(command, capture_output=True, text=True, timeout=TOOL_S, check=False, env=environment)
    assert (ended.returncode == 0) is is_well, (command, ended.stdout, ended.stderr)
    return ended.stdout


def create(asked: Conversation, name: str, **fields: Any) -> Any:
    """The one result of CreateTopics."""
    topic = {"name": name, "num_partitions": -1, "replication_factor": -1, **fields}
    (result,) = asked.ask_raw(Ask("CREATE_TOPICS", 7, {"topics": [topic], "timeout": 10_000}))["topics"]
    return result


def shown_by_every_api(asked: Conversation, name: str, topic_id: Any) -> list[tuple[str, dict[int, list[int]]]]:
    """The replicas of each partition, and the in-sync ones, as each API says them."""
    found: list[tuple[str, dict[int, list[int]]]] = []
    for version in range(14):
        (topic,) = asked.ask_raw(Ask("METADATA", version, {"topics": [{"name": name}]}))["topics"]
        for part in ("replica_nodes", "isr_nodes"):
            found.append((f"Metadata {version}", {each["partition_index"]: each[part] for each in topic["partitions"]}))
        assert [each["offline_replicas"] for each in topic["partitions"] if each["offline_replicas"]] == []
    by_id = Ask("METADATA", 12, {"topics": [{"topic_id": topic_id, "name": None}]})
    (topic,) = asked.ask_raw(by_id)["topics"]
    found.append(("by id", {each["partition_index"]: each["replica_nodes"] for each in topic["partitions"]}))
    described = asked.ask_raw(Ask("DESCRIBE_TOPIC_PARTITIONS", 0, {"topics": [{"name": name}]}))
    (topic,) = described["topics"]
    assert topic["topic_id"] == topic_id
    for part in ("replica_nodes", "isr_nodes"):
        listed = {each["partition_index"]: each[part] for each in topic["partitions"]}
        found.append((f"DescribeTopicPartitions {part}", listed))
    return found


@pytest.mark.parametrize("factor", [1, 2, 3, 16])
def test_every_field_of_create_topics_is_shown_by_every_api(asked: Conversation, topic: str, factor: int) -> None:
    configs = [{"name": name, "value": value} for name, value in CONFIGS.items()]
    created = create(asked, topic, num_partitions=3, replication_factor=factor, configs=configs)
    assert (created["error_code"], created["num_partitions"], created["replication_factor"]) == (0, 3, factor)
    given = {each["name"]: each["value"] for each in created["configs"]}
    assert {name: given[name] for name in CONFIGS} == CONFIGS

    for api, replicas in shown_by_every_api(asked, topic, created["topic_id"]):
        assert {index: len(nodes) for index, nodes in replicas.items()} == dict.fromkeys(range(3), factor), api
    for version in range(1, 5):
        resource = {"resource_type": 2, "resource_name": topic, "configuration_keys": list(CONFIGS)}
        (result,) = asked.ask_raw(Ask("DESCRIBE_CONFIGS", version, {"resources": [resource]}))["results"]
        assert {each["name"]: each["value"] for each in result["configs"]} == CONFIGS
        # It is the topic's own, not a default.
        assert {each["config_source"] for each in result["configs"]} == {1}
    body = {"topics": [{"name": topic, "count": 5, "assignments": None}], "timeout": 5000}
    assert asked.ask_raw(Ask("CREATE_PARTITIONS", 3, body))["results"][0]["error_code"] == 0
    for api, replicas in shown_by_every_api(asked, topic, created["topic_id"]):
        assert {index: len(nodes) for index, nodes in replicas.items()} == dict.fromkeys(range(5), factor), api


def test_default_factor_and_partitions_are_shown_as_answered(asked: Conversation, topic: str) -> None:
    created = create(asked, topic)
    assert created["error_code"] == 0
    for api, replicas in shown_by_every_api(asked, topic, created["topic_id"]):
        lengths = {len(nodes) for nodes in replicas.values()}
        assert (len(replicas), lengths) == (created["num_partitions"], {created["replication_factor"]}), api


@pytest.mark.parametrize("factor", [0, -2, 17, 32_767])
def test_factor_that_cannot_be_shown_is_refused(asked: Conversation, topic: str, factor: int) -> None:
    assert create(asked, topic, num_partitions=1, replication_factor=factor)["error_code"] == 38


def test_assignment_is_shown_with_its_length(asked: Conversation, topic: str) -> None:
    rows = [{"partition_index": index, "broker_ids": [1]} for index in range(2)]
    created = create(asked, topic, assignments=rows)
    assert (created["error_code"], created["num_partitions"], created["replication_factor"]) == (0, 2, 1)
    for api, replicas in shown_by_every_api(asked, topic, created["topic_id"]):
        assert replicas == {0: [1], 1: [1]}, api


def test_length_stays_over_a_restart(tmp_path: pathlib.Path) -> None:
    running = Broker(tmp_path)
    running.start()
    try:
        conversation = Conversation(running.address, {}, settle_s=0)
        created = create(conversation, "kept", num_partitions=2, replication_factor=3)
        conversation.close()
        running.restart(True)
        conversation = Conversation(running.address, {}, settle_s=0)
        for api, replicas in shown_by_every_api(conversation, "kept", created["topic_id"]):
            assert replicas == {0: [1, 1, 1], 1: [1, 1, 1]}, api
        conversation.close()
    finally:
        running.stop()


# The same, by clients.


def test_librdkafka_kafka_python_and_aiokafka_see_the_factor(broker: Broker, admin: AdminClient, topic: str) -> None:
    admin.create_topics([NewTopic(topic, 2, 3)])[topic].result(WAIT_S)
    listed = admin.list_topics(topic, timeout=WAIT_S).topics[topic]
    assert {(len(part.replicas), len(part.isrs)) for part in listed.partitions.values()} == {(3, 3)}
    described = admin.describe_topics(TopicCollection([topic]))[topic].result(WAIT_S)
    assert {(len(part.replicas), len(part.isr)) for part in described.partitions} == {(3, 3)}

    other = KafkaAdminClient(bootstrap_servers=broker.address)
    (found,) = other.describe_topics([topic])
    assert {len(part["replica_nodes"]) for part in found["partitions"]} == {3}
    other.close()

    async def by_aiokafka() -> Any:
        client = AIOKafkaAdminClient(bootstrap_servers=broker.address)
        await client.start()
        (answer,) = await client.describe_topics([topic])
        await client.close()
        return answer

    assert {len(part["replicas"]) for part in asyncio.run(by_aiokafka())["partitions"]} == {3}


@JAVA
def test_kafkas_tools_see_the_factor_and_nothing_under_replicated(broker: Broker, admin: AdminClient) -> None:
    admin.create_topics([NewTopic("java-shown", 2, 3, config={"min.insync.replicas": "2"})])["java-shown"].result(
        WAIT_S
    )
    described = tool(broker, "kafka-topics", "--describe", "--topic", "java-shown")
    assert re.search(r"PartitionCount: 2\s+ReplicationFactor: 3", described), described
    assert len(re.findall(r"Replicas: 1,1,1\s+Isr: 1,1,1", described)) == 2, described
    for problem in ("--under-replicated-partitions", "--under-min-isr-partitions", "--unavailable-partitions"):
        assert tool(broker, "kafka-topics", "--describe", "--topic", "java-shown", problem).strip() == ""
    features = tool(broker, "kafka-features", "describe")
    for line in ("group.version", "transaction.version"):
        assert line not in features or "FinalizedVersionLevel: 0" in features, features


def reassign(broker: Broker, plan: pathlib.Path, *, is_well: bool = True) -> str:
    """Execute a plan of kafka-reassign-partitions."""
    return tool(
        broker, "kafka-reassign-partitions", "--reassignment-json-file", str(plan), "--execute", is_well=is_well
    )


def current_of(shown: str) -> str:
    """What the tool says to save for a rollback."""
    return next(line for line in shown.splitlines() if line.startswith('{"version"'))


def replicas_of(admin: AdminClient, name: str) -> list[list[int]]:
    """As Metadata shows them."""
    listed = admin.list_topics(name, timeout=WAIT_S).topics[name]
    return [listed.partitions[index].replicas for index in sorted(listed.partitions)]


def planned(name: str, replicas: list[int]) -> str:
    """A plan for two partitions, as a file for kafka-reassign-partitions has it."""
    partitions = [{"topic": name, "partition": index, "replicas": replicas} for index in range(2)]
    return json.dumps({"version": 1, "partitions": partitions})


@JAVA
def test_rollback_file_of_kafka_reassign_partitions(broker: Broker, admin: AdminClient, tmp_path: pathlib.Path) -> None:
    admin.create_topics([NewTopic("java-moved", 2, 1)])["java-moved"].result(WAIT_S)
    plan, rollback = tmp_path / "plan.json", tmp_path / "rollback.json"
    plan.write_text(planned("java-moved", [1]))
    shown = reassign(broker, plan)
    assert "Successfully started" in shown, shown
    rollback.write_text(current_of(shown))
    assert [each["replicas"] for each in json.loads(rollback.read_text())["partitions"]] == [[1], [1]]
    assert "Successfully started" in reassign(broker, rollback)
    verified = tool(broker, "kafka-reassign-partitions", "--reassignment-json-file", str(plan), "--verify")
    assert verified.count("is completed") == 2, verified
    assert "No partition reassignments found" in tool(broker, "kafka-reassign-partitions", "--list")
    assert replicas_of(admin, "java-moved") == [[1], [1]]


@JAVA
def test_rollback_with_repeats_is_taken_from_the_java_admin_client(
    broker: Broker, admin: AdminClient, tmp_path: pathlib.Path
) -> None:
    """The length changes by what somebody asks for, there and back. The tool itself refuses its own rollback file."""
    admin.create_topics([NewTopic("java-back", 2, 3)])["java-back"].result(WAIT_S)
    plan, rollback = tmp_path / "plan.json", tmp_path / "rollback.json"
    plan.write_text(planned("java-back", [1]))
    shown = reassign(broker, plan)
    assert "Successfully started" in shown, shown
    assert replicas_of(admin, "java-back") == [[1], [1]]
    verified = tool(broker, "kafka-reassign-partitions", "--reassignment-json-file", str(plan), "--verify")
    assert verified.count("is completed") == 2, verified
    rollback.write_text(current_of(shown))
    assert [each["replicas"] for each in json.loads(rollback.read_text())["partitions"]] == [[1, 1, 1]] * 2
    assert "duplicate entries" in reassign(broker, rollback, is_well=False)
    assert replicas_of(admin, "java-back") == [[1], [1]]

    jars = str(TESTBED_HOME / "kafka/lib/*")
    command = ["java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", jars, str(REASSIGN), broker.address]
    ended = subprocess.run(
        [*command, "java-back", "2", "1,1,1"], capture_output=True, text=True, timeout=TOOL_S, check=False
    )
    assert ended.returncode == 0, (ended.stdout, ended.stderr)
    assert re.findall(r"REPLICAS \d (.*)", ended.stdout) == ["1,1,1", "1,1,1"], ended.stdout
    assert replicas_of(admin, "java-back") == [[1, 1, 1]] * 2


def test_reassignment_to_the_list_that_is_shown_is_taken(asked: Conversation, topic: str) -> None:
    """Of any length, and again; and shown by every API."""
    created = create(asked, topic, num_partitions=1, replication_factor=3)
    assert created["error_code"] == 0
    for replicas in ([1, 1, 1], [1], [1, 1, 1], [1, 1, 1], [1] * 16):
        for version in range(2):
            part = {"partition_index": 0, "replicas": replicas}
            body = {"timeout": 5000, "topics": [{"name": topic, "partitions": [part]}]}
            answer = asked.ask_raw(Ask("ALTER_PARTITION_REASSIGNMENTS", version, body))
            assert (answer["error_code"], answer["responses"][0]["partitions"][0]["error_code"]) == (0, 0), answer
        for api, found in shown_by_every_api(asked, topic, created["topic_id"]):
            assert found == {0: replicas}, api
        assert asked.ask_raw(Ask("LIST_PARTITION_REASSIGNMENTS", 0, {"timeout": 5000, "topics": None}))["topics"] == []


# What administrators are told, in Apache Kafka's words where scripts match them.


def outcomes(admin: AdminClient, name: str) -> dict[str, str]:
    """Every refusal of an administrator's change: code and text."""
    topic = ConfigResource.Type.TOPIC

    def altered(key: str, value: str, operation: AlterConfigOpType, of: str = name) -> Any:
        entry = ConfigEntry(key, value, incremental_operation=operation)
        return admin.incremental_alter_configs([ConfigResource(topic, of, incremental_configs=[entry])])

    def created(wanted: NewTopic) -> Any:
        return admin.create_topics([wanted])

    put, append = AlterConfigOpType.SET, AlterConfigOpType.APPEND
    created(NewTopic(name, 2))[name].result(WAIT_S)
    created(NewTopic(f"{name}.a_b", 1))[f"{name}.a_b"].result(WAIT_S)
    asked = {
        "create twice": created(NewTopic(name, 2)),
        "create bad name": created(NewTopic("bad/name", 2)),
        "create dots": created(NewTopic("..", 2)),
        "create long": created(NewTopic("x" * 250, 2)),
        "create unknown config": created(NewTopic(f"{name}-c", 1, config={"no.such": "1"})),
        "create bad config": created(NewTopic(f"{name}-c", 1, config={"retention.ms": "abc"})),
        "create bad assignment": created(NewTopic(f"{name}-c", 1, replica_assignment=[[77]])),
        "create replicas twice": created(NewTopic(f"{name}-c", 1, replica_assignment=[[1, 1]])),
        "create colliding": created(NewTopic(f"{name}_a.b", 1)),
        "partitions fewer": admin.create_partitions([NewPartitions(name, 1)]),
        "partitions same": admin.create_partitions([NewPartitions(name, 2)]),
        "partitions of none": admin.create_partitions([NewPartitions(f"{name}-none", 3)]),
        "delete none": admin.delete_topics([f"{name}-none"]),
        "alter unknown": altered("no.such", "1", put),
        "alter bad": altered("retention.ms", "abc", put),
        "append to no list": altered("retention.ms", "1", append),
        "alter none": altered("retention.ms", "1", put, f"{name}-none"),
        "describe none": admin.describe_configs([ConfigResource(topic, f"{name}-none")]),
        "delete group of none": admin.delete_consumer_groups([f"{name}-none"]),
    }
    found = {}
    for what, futures in asked.items():
        (future,) = futures.values()
        error = future.exception(WAIT_S)
        found[what] = "no error" if error is None else f"{error.args[0].name()} {error.args[0].str()}"
        found[what] = found[what].replace(name, "NAME")
    return found


KAFKAS = {
    "create twice": "TOPIC_ALREADY_EXISTS Topic 'NAME' already exists.",
    "create bad name": "TOPIC_EXCEPTION Topic name is invalid: 'bad/name' contains one or more characters other than "
    "ASCII alphanumerics, '.', '_' and '-'",
    "create dots": "TOPIC_EXCEPTION Topic name is invalid: '..' is not allowed",
    "create long": f"TOPIC_EXCEPTION Topic name is invalid: the length of '{'x' * 250}' is longer than the max allowed "
    "length 249",
    "create unknown config": "INVALID_CONFIG Unknown topic config name: no.such",
    "create bad config": "INVALID_CONFIG Invalid value abc for configuration retention.ms: Not a number of type LONG",
    "create bad assignment": "INVALID_REPLICA_ASSIGNMENT The manual partition assignment includes broker 77, but no "
    "such broker is registered.",
    "create replicas twice": "INVALID_REPLICA_ASSIGNMENT The manual partition assignment includes the broker 1 more "
    "than once.",
    "create colliding": "TOPIC_EXCEPTION Topic 'NAME_a.b' collides with existing topic: NAME.a_b",
    "partitions fewer": "INVALID_PARTITIONS The topic NAME currently has 2 partition(s); 1 would not be an increase.",
    "partitions same": "INVALID_PARTITIONS Topic already has 2 partition(s).",
    "delete none": "UNKNOWN_TOPIC_OR_PART Broker: Unknown topic or partition",
    "alter unknown": "INVALID_CONFIG Unknown topic config name: no.such",
    "alter bad": "INVALID_CONFIG Invalid value abc for configuration retention.ms: Not a number of type LONG",
    "append to no list": "INVALID_CONFIG Can't APPEND to key retention.ms because its type is not LIST.",
    "alter none": "UNKNOWN_TOPIC_OR_PART The topic 'NAME-none' does not exist.",
}
"""As Apache Kafka 4.3.1 says them."""
OURS = {
    # Kafka says nothing beside the code.
    "partitions of none": "UNKNOWN_TOPIC_OR_PART topic NAME-none does not exist",
    "describe none": "UNKNOWN_TOPIC_OR_PART Topic NAME-none does not exist.",
    # Kafka has no coordinator before somebody commits.
    "delete group of none": "GROUP_ID_NOT_FOUND Broker: The group id does not exist",
}


def test_administrators_are_told_what_apache_kafka_tells_them(admin: AdminClient) -> None:
    assert outcomes(admin, "said") == KAFKAS | OURS
