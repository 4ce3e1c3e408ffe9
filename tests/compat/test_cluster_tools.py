"""Kafka's own tools move partitions among three real brokers.

What each tool prints is Kafka's business; what is judged is that it is content, and who leads afterwards. Everything
happens on one cluster, as every call costs a JVM.
"""

import json
import os
import pathlib
import re
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.cluster_processes import Member, Members, until
from tests.support.process import TESTBED, Kafka

WAIT_S = 120
pytestmark = [
    pytest.mark.skipif(not Kafka.built(), reason="SKIPPED: Apache Kafka is not built in the testbed"),
    pytest.mark.timeout(900),
]


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Members]:
    folder = tmp_path_factory.mktemp("cluster")
    made = Members(
        *[
            Member(
                folder,
                node,
                f"file://{folder}/store",
                automq__memory__bytes=128 * 1024 * 1024,
                automq__balancer__enable="false",
                # Nobody is killed here; on a crowded machine a process may be silent for seconds.
                automq__broker__session__timeout__ms=30_000,
            )
            for node in (1, 2, 3)
        ]
    )
    try:
        made.start()
        yield made
    finally:
        made.end()


def tool(members: Members, name: str, *arguments: str, asked: int = 2, is_well: bool = True) -> str:
    """What it prints."""
    address = members.by_node[asked].address
    command = [str(TESTBED / "kafka/bin" / name), "--bootstrap-server", address, *arguments]
    environment = {**os.environ, "TESTBED_JVM": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert (done.returncode == 0) == is_well, done.stdout + done.stderr
    return done.stdout + done.stderr


def leaders(members: Members, topic: str) -> list[int]:
    """By partition, as every broker says; empty while they do not agree."""
    said = [member.led_by(topic) for member in members.all]
    return [said[0][topic, index] for index in range(len(said[0]))] if all(each == said[0] for each in said) else []


def until_led(members: Members, topic: str, *expected: int) -> None:
    until(lambda: leaders(members, topic) == list(expected), WAIT_S, what=f"{topic} is led by {expected}")


def plan_of(topic: str, *replicas: list[int]) -> dict[str, Any]:
    return {
        "version": 1,
        "partitions": [
            {"topic": topic, "partition": index, "replicas": each, "log_dirs": ["any"] * len(each)}
            for index, each in enumerate(replicas)
        ],
    }


def test_topics_are_made_with_the_leaders_that_kafka_topics_asks_for(members: Members) -> None:
    tool(members, "kafka-topics", "--create", "--topic", "assigned", "--replica-assignment", "3:1,1:2,2:3")

    until_led(members, "assigned", 3, 1, 2)
    described = tool(members, "kafka-topics", "--describe", "--topic", "assigned", asked=3)
    assert re.findall(r"Leader: (\d)\s+Replicas: ([\d,]+)", described) == [("3", "3,1"), ("1", "1,2"), ("2", "2,3")]
    refused = tool(members, "kafka-topics", "--create", "--topic", "no", "--replica-assignment", "9", is_well=False)
    assert "InvalidReplicaAssignment" in refused


def test_kafka_reassign_partitions_generates_executes_verifies_lists_and_rolls_back(
    members: Members, tmp_path: pathlib.Path
) -> None:
    tool(members, "kafka-topics", "--create", "--topic", "moved", "--replica-assignment", "1,1,1")
    topics, plan, rollback = tmp_path / "topics.json", tmp_path / "plan.json", tmp_path / "rollback.json"
    topics.write_text(json.dumps({"version": 1, "topics": [{"topic": "moved"}]}))
    name = "kafka-reassign-partitions"

    generated = tool(members, name, "--generate", "--topics-to-move-json-file", str(topics), "--broker-list", "2,3")
    found = [json.loads(line) for line in generated.splitlines() if line.startswith("{")]
    assert [each["replicas"] for each in found[0]["partitions"]] == [[1], [1], [1]]
    wanted = [each["replicas"][0] for each in sorted(found[1]["partitions"], key=lambda each: each["partition"])]
    assert set(wanted) == {2, 3}

    plan.write_text(json.dumps(found[1]))
    executed = tool(members, name, "--execute", "--reassignment-json-file", str(plan))
    until_led(members, "moved", *wanted)
    verified = tool(members, name, "--verify", "--reassignment-json-file", str(plan), asked=1)
    assert verified.count("is completed") == 3
    assert "No partition reassignments found" in tool(members, name, "--list")

    rollback.write_text(next(line for line in executed.splitlines() if line.startswith("{")))
    tool(members, name, "--execute", "--reassignment-json-file", str(rollback), asked=3)
    until_led(members, "moved", 1, 1, 1)
    cancelled = tool(members, name, "--cancel", "--reassignment-json-file", str(rollback), "--preserve-throttles")
    assert "None of the specified partition moves are active" in cancelled


def test_a_move_to_a_broker_that_is_not_there_is_refused(members: Members, tmp_path: pathlib.Path) -> None:
    """A replica list of brokers that are not there is refused with Kafka's code."""
    tool(members, "kafka-topics", "--create", "--topic", "kept", "--replica-assignment", "1")
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps(plan_of("kept", [9])))
    refused = tool(
        members, "kafka-reassign-partitions", "--execute", "--reassignment-json-file", str(plan), is_well=False
    )

    assert "Unknown broker id 9" in refused
    assert leaders(members, "kept") == [1]


def test_kafka_leader_election_gives_partitions_back_to_their_first_replicas(members: Members) -> None:
    tool(members, "kafka-topics", "--create", "--topic", "elected", "--replica-assignment", "2:1,2:1")
    until_led(members, "elected", 2, 2)
    assert members.by_node[2].stop() == 0
    until(lambda: 2 not in members.by_node[1].led_by("elected").values(), WAIT_S, what="broker 2 leads nothing")
    members.by_node[2].start()
    until(members.are_serving, WAIT_S, what="broker 2 serves again")

    arguments = ("--election-type", "preferred", "--topic", "elected", "--partition")
    for index in ("0", "1"):
        tool(members, "kafka-leader-election", *arguments, index, asked=1)
    until_led(members, "elected", 2, 2)
