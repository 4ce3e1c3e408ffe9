"""Topics are made, grown and deleted as Kafka does it."""

import dataclasses
import uuid
from typing import Any

import pytest

from automq.controller.model import ControllerSettings, PartitionsSpec, TopicResult, TopicSpec
from automq.controller.topics import create_partitions, create_topics, delete_topics
from automq.ids import BrokerEpoch, NodeId, TopicId
from automq.metadata.image import EMPTY, MetadataImage
from automq.metadata.records import BrokerFenced, BrokerRegistered, ConfigChanged
from automq.metadata.replay import replay_all
from automq.protocol.errors import ErrorCode
from automq.steps import at_once
from tests.support.metadata_worlds import check

SETTINGS = ControllerSettings(partitions_default=3, replication_factor_default=2)
BASE = replay_all(
    EMPTY,
    [
        BrokerRegistered(node=NodeId(1), epoch=BrokerEpoch(1), rack=None, endpoints=()),
        BrokerRegistered(node=NodeId(2), epoch=BrokerEpoch(2), rack=None, endpoints=()),
    ],
)


def create(
    image: MetadataImage, *specs: TopicSpec, validate_only: bool = False
) -> tuple[MetadataImage, list[TopicResult]]:
    ids = iter(range(image.next_stream * 100, 10**6))
    decision = at_once(
        create_topics(
            image, specs, settings=SETTINGS, new_id=lambda: uuid.UUID(int=next(ids)), validate_only=validate_only
        )
    )
    after = replay_all(image, decision.records)
    check(after)
    return after, decision.response


def code(result: TopicResult) -> ErrorCode:
    return ErrorCode.NONE if result.error is None else result.error.code


def refused(image: MetadataImage, **fields: Any) -> ErrorCode:
    after, (result,) = create(image, TopicSpec(**{"name": "t", **fields}))
    assert after == image
    assert result.error is not None
    assert result.error.message
    return code(result)


def test_a_topic_has_what_was_asked_for() -> None:
    image, (result,) = create(
        BASE, TopicSpec(name="t", partitions=4, replication_factor=7, configs={"retention.ms": " 5 "}, is_internal=True)
    )
    topic = image.topic("t")

    assert topic is not None
    assert (result.partitions, result.replication_factor, result.topic_id) == (4, 7, topic.topic_id)
    assert (len(topic.partitions), topic.replication_factor, topic.is_internal) == (4, 7, True)
    assert dict(image.topic_config("t")) == {"retention.ms": "5"}
    assert sorted(part.leader for part in topic.partitions) == [1, 1, 2, 2]
    assert all(part.leader_epoch == 0 for part in topic.partitions)


def test_numbers_that_are_left_out_are_the_brokers_defaults() -> None:
    _, (result,) = create(BASE, TopicSpec(name="t"))
    assert (result.partitions, result.replication_factor) == (3, 2)


def test_streams_are_never_given_twice() -> None:
    image, _ = create(BASE, TopicSpec(name="a"), TopicSpec(name="b"))
    image = replay_all(image, at_once(delete_topics(image, ["a", "b"])).records)
    image, _ = create(image, TopicSpec(name="a"))
    topic = image.topic("a")
    assert topic is not None
    assert [part.stream for part in topic.partitions] == [7, 8, 9]


def test_only_what_is_wrong_is_refused() -> None:
    image, results = create(BASE, TopicSpec(name="a"), TopicSpec(name="b", partitions=0), TopicSpec(name="c"))
    assert [code(result) for result in results] == [ErrorCode.NONE, ErrorCode.INVALID_PARTITIONS, ErrorCode.NONE]
    assert [topic.name for topic in image.topics()] == ["a", "c"]


def test_validating_changes_nothing_and_answers_the_same() -> None:
    image, (result,) = create(BASE, TopicSpec(name="t"), validate_only=True)
    assert image == BASE
    assert (result.partitions, result.error) == (3, None)


@pytest.mark.parametrize("name", ["", ".", "..", "a" * 250, "a b", "a/b", "ä", "a\n"])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    assert refused(BASE, name=name) == ErrorCode.INVALID_TOPIC_EXCEPTION


@pytest.mark.parametrize("name", ["a" * 249, "a.b-c_D9", "__consumer_offsets"])
def test_a_name_that_is_one_is_taken(name: str) -> None:
    _, (result,) = create(BASE, TopicSpec(name=name))
    assert result.error is None


def test_the_reserved_name_is_refused() -> None:
    assert refused(BASE, name="__cluster_metadata") == ErrorCode.TOPIC_AUTHORIZATION_FAILED


def test_an_existing_name_is_refused() -> None:
    image, _ = create(BASE, TopicSpec(name="t"))
    assert refused(image) == ErrorCode.TOPIC_ALREADY_EXISTS


def test_names_that_differ_in_dots_and_underscores_only_collide() -> None:
    image, _ = create(BASE, TopicSpec(name="a.b"))
    assert refused(image, name="a_b") == ErrorCode.INVALID_TOPIC_EXCEPTION
    _, results = create(BASE, TopicSpec(name="c.d"), TopicSpec(name="c_d"))
    assert [code(result) for result in results] == [ErrorCode.NONE, ErrorCode.INVALID_TOPIC_EXCEPTION]


def test_a_name_that_comes_twice_is_refused_once_for_both() -> None:
    image, results = create(BASE, TopicSpec(name="t"), TopicSpec(name="t"))
    assert image == BASE
    assert [code(result) for result in results] == [ErrorCode.INVALID_REQUEST]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"partitions": -5}, ErrorCode.INVALID_PARTITIONS),
        ({"replication_factor": 0}, ErrorCode.INVALID_REPLICATION_FACTOR),
        ({"partitions": 10_001}, ErrorCode.POLICY_VIOLATION),
        ({"configs": {"no.such.config": "1"}}, ErrorCode.INVALID_CONFIG),
        ({"configs": {"retention.ms": "x"}}, ErrorCode.INVALID_CONFIG),
        ({"configs": {"retention.ms": None}}, ErrorCode.INVALID_CONFIG),
        ({"configs": {"max.message.bytes": str(2**30)}}, ErrorCode.INVALID_CONFIG),
        ({"assignments": {}}, ErrorCode.INVALID_REPLICA_ASSIGNMENT),
        ({"assignments": {1: [1]}}, ErrorCode.INVALID_REPLICA_ASSIGNMENT),
        ({"assignments": {0: [1], 2: [1]}}, ErrorCode.INVALID_REPLICA_ASSIGNMENT),
        ({"assignments": {0: []}}, ErrorCode.INVALID_REPLICA_ASSIGNMENT),
        ({"assignments": {0: [1, 1]}}, ErrorCode.INVALID_REPLICA_ASSIGNMENT),
        ({"assignments": {0: [1, 2], 1: [1]}}, ErrorCode.INVALID_REPLICA_ASSIGNMENT),
        ({"assignments": {0: [9]}}, ErrorCode.INVALID_REPLICA_ASSIGNMENT),
        ({"assignments": {0: [1]}, "partitions": 1}, ErrorCode.INVALID_REQUEST),
    ],
)
def test_what_makes_no_sense_is_refused(fields: dict[str, Any], expected: ErrorCode) -> None:
    assert refused(BASE, **fields) == expected


def test_assigned_replicas_are_echoed_and_the_first_one_leads() -> None:
    assignments = {0: [NodeId(2), NodeId(8), NodeId(9)], 1: [NodeId(1), NodeId(2), NodeId(8)]}
    image, (result,) = create(BASE, TopicSpec(name="t", assignments=assignments))
    topic = image.topic("t")

    assert topic is not None
    assert (result.partitions, result.replication_factor) == (2, 3)
    assert [(part.leader, part.replicas) for part in topic.partitions] == [(2, (2, 8, 9)), (1, (1, 2, 8))]


def test_without_a_living_broker_nothing_is_placed() -> None:
    fenced = [
        BrokerFenced(node=NodeId(1), epoch=BrokerEpoch(1), recoverer_node=NodeId(2), recoverer_epoch=BrokerEpoch(2)),
        ConfigChanged(resource_type=4, resource_name="2", changes=(("automq.broker.draining", "true"),)),
    ]
    assert refused(replay_all(BASE, fenced)) == ErrorCode.BROKER_NOT_AVAILABLE


def grow(image: MetadataImage, spec: PartitionsSpec, *, validate_only: bool = False) -> tuple[MetadataImage, ErrorCode]:
    decision = at_once(create_partitions(image, [spec], settings=SETTINGS, validate_only=validate_only))
    after = replay_all(image, decision.records)
    check(after)
    (result,) = decision.response
    return after, code(result)


def test_a_topic_grows() -> None:
    image, _ = create(BASE, TopicSpec(name="t", partitions=1))
    image, outcome = grow(image, PartitionsSpec(name="t", count=3, assignments=[[NodeId(2), NodeId(1)]] * 2))
    topic = image.topic("t")
    assert topic is not None
    assert (outcome, [part.leader for part in topic.partitions]) == (ErrorCode.NONE, [1, 2, 2])
    assert grow(image, PartitionsSpec(name="t", count=5), validate_only=True) == (image, ErrorCode.NONE)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (PartitionsSpec(name="t", count=3), ErrorCode.INVALID_PARTITIONS),
        (PartitionsSpec(name="t", count=0), ErrorCode.INVALID_PARTITIONS),
        (PartitionsSpec(name="x", count=3), ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        (PartitionsSpec(name="t", count=5, assignments=[[NodeId(1), NodeId(2)]]), ErrorCode.INVALID_REPLICA_ASSIGNMENT),
        (PartitionsSpec(name="t", count=4, assignments=[[NodeId(1)]]), ErrorCode.INVALID_REPLICA_ASSIGNMENT),
        (PartitionsSpec(name="t", count=10_004), ErrorCode.POLICY_VIOLATION),
    ],
)
def test_what_is_no_growth_is_refused(spec: PartitionsSpec, expected: ErrorCode) -> None:
    image, _ = create(BASE, TopicSpec(name="t", partitions=3))
    assert grow(image, spec) == (image, expected)


def test_a_topic_that_is_named_in_two_ways_is_not_deleted() -> None:
    image, (a, _) = create(BASE, TopicSpec(name="a"), TopicSpec(name="b"))
    assert a.topic_id is not None
    decision = at_once(delete_topics(image, ["a", a.topic_id, "b"]))

    assert [topic.name for topic in replay_all(image, decision.records).topics()] == ["a"]
    refused, twice, deleted = decision.response
    assert (code(refused), code(twice), code(deleted)) == (
        ErrorCode.INVALID_REQUEST,
        ErrorCode.INVALID_REQUEST,
        ErrorCode.NONE,
    )


def test_topics_are_deleted_by_name_and_by_id() -> None:
    image, (a, b) = create(BASE, TopicSpec(name="a"), TopicSpec(name="b"))
    assert b.topic_id is not None
    unknown = TopicId(uuid.UUID(int=5))
    decision = at_once(delete_topics(image, ["a", b.topic_id, "x", unknown]))
    after = replay_all(image, decision.records)
    check(after)

    assert after.topics() == ()
    assert not after.streams
    assert [(result.name, code(result)) for result in decision.response] == [
        ("a", ErrorCode.NONE),
        ("b", ErrorCode.NONE),
        ("x", ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        ("", ErrorCode.UNKNOWN_TOPIC_ID),
    ]
    assert decision.response[0] == dataclasses.replace(a)


def test_topics_of_one_request_are_spread_over_the_brokers() -> None:
    """Each of them alone would begin at the same broker."""
    image, _ = create(BASE, *(TopicSpec(name=f"t{number}", partitions=1) for number in range(6)))
    leaders = [topic.partitions[0].leader for topic in image.topics()]
    assert sorted(leaders) == [1, 1, 1, 2, 2, 2]
    image, _ = create(image, TopicSpec(name="by-hand", assignments={0: [NodeId(1)], 1: [NodeId(1)]}))
    image, _ = create(image, TopicSpec(name="after", partitions=2))
    after = image.topic("after")
    assert after is not None
    assert [part.leader for part in after.partitions] == [2, 2]


def test_names_collide_within_a_request_with_what_exists_and_no_more_once_deleted() -> None:
    image, results = create(BASE, TopicSpec(name="a.b"), TopicSpec(name="a_b"), TopicSpec(name="ab"))
    assert [code(result) for result in results] == [ErrorCode.NONE, ErrorCode.INVALID_TOPIC_EXCEPTION, ErrorCode.NONE]
    assert refused(image, name="a_b") == ErrorCode.INVALID_TOPIC_EXCEPTION
    image = replay_all(image, at_once(delete_topics(image, ["a.b"])).records)
    check(image)
    _, (result,) = create(image, TopicSpec(name="a_b"))
    assert code(result) == ErrorCode.NONE


def test_b6_no_part_of_a_large_request_is_long() -> None:
    """Every part is a topic or a partition: what a part costs does not grow with the request or the cluster."""
    specs = [TopicSpec(name=f"n{number}", partitions=1) for number in range(5_000)]
    specs.append(TopicSpec(name="wide", partitions=5_000))
    parts = create_topics(BASE, specs, settings=SETTINGS, new_id=uuid.uuid4, validate_only=False)
    assert sum(1 for _ in parts) == 10_000 + 5_001
