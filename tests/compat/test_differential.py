"""Our answers are Apache Kafka's, field by field, but for the differences that are named here with their reason."""

import json
from collections.abc import Iterator

import pytest

from tests.compat.differential import QUESTIONS, converse, differences, recorded
from tests.support.process import Broker

NOT_ALL_SERVED = "transactions, share groups, KIP-848 and security are not served yet"
ELR = "Kafka writes min.insync.replicas as a cluster-wide default when it keeps eligible leader replicas"
SENTENCE = "Kafka says nothing, or less, where there is a sentence"
DUPLICATE = "Kafka gives the batch's own timestamp for a duplicate, of a topic with the producer's times"
SEEN = "the greatest timestamp is that of the records readers see; Kafka answers a deleted one"
CUT = "Kafka cuts the batch off that passes the limit; only whole batches are given"
NEGATIVE = "Kafka fails on a negative limit"
ORDER = "partitions are answered in the order of the request; Kafka puts the unknown ones first"
NONE = "Kafka says the word NONE where there is no error"


def _reasons() -> Iterator[tuple[tuple[str, str], str]]:
    for field in ("api_keys", "supported_features", "finalized_features", "finalized_features_epoch"):
        yield ("client-name", f"0.{field}"), NOT_ALL_SERVED
    for question, steps in {
        "create-topic-checks": (0, 10),
        "create-topic-validate-only": (0,),
        "grow-topic": (0,),
        "delete-topic": (0,),
        "produce-checks": (0,),
        "produce-too-large": (0,),
        "idempotent-producer": (0,),
        "idempotent-producer-first-sequence": (0,),
        "fetch-checks": (0,),
        "list-offsets": (0,),
        "offset-for-leader-epoch": (0,),
        "delete-records": (0,),
        "group-life": (1,),
        "offset-commit-checks": (1,),
        "configs": (0,),
        "list-offsets-of-a-trimmed-log": (0,),
        "fetch-limits": (0,),
        "metadata-versions": (0,),
        "offset-fetch-versions": (1,),
    }.items():
        for step in steps:
            yield (question, f"{step}.topics.0.configs.21.config_source"), ELR
    for question, step in (
        ("produce-checks", (5, 6, 7)),
        ("produce-too-large", (1,)),
        ("idempotent-producer", (6, 9, 10)),
    ):
        for number in step:
            yield (question, f"{number}.responses.0.partition_responses.0.error_message"), SENTENCE
    yield ("grow-topic", "4.results.0.error_message"), SENTENCE
    yield ("delete-topic", "2.responses.0.error_message"), SENTENCE
    yield ("configs", "9.results.0.error_message"), SENTENCE
    for number in (4, 5):
        yield ("idempotent-producer", f"{number}.responses.0.partition_responses.0.log_append_time"), DUPLICATE
    for question in (
        "group-life",
        "group-join-checks",
        "group-join-old-version",
        "static-member",
        "offset-commit-checks",
        "describe-groups-states",
        "offset-fetch-versions",
    ):
        yield (question, "0.error_message"), NONE
    for field in ("timestamp", "offset"):
        yield ("list-offsets-of-a-trimmed-log", f"77.topics.0.partitions.0.{field}"), SEEN
    yield ("fetch-limits", "7.responses.0.partitions.0.records"), CUT
    for field in ("error_code", "high_watermark", "last_stable_offset", "log_start_offset", "records"):
        yield ("fetch-limits", f"8.responses.0.partitions.0.{field}"), NEGATIVE
    for step in (2, 3, 4, 5):
        for place in (0, 1):
            for field in ("partition_index", "error_code"):
                yield ("offset-fetch-versions", f"{step}.topics.0.partitions.{place}.{field}"), ORDER


DIFFERENCES = dict(_reasons())
"""(question, path in its answers): why we answer otherwise. Everything else must be equal."""


@pytest.mark.parametrize("name", QUESTIONS)
def test_answers_are_those_of_apache_kafka(broker: Broker, name: str) -> None:
    ours = json.loads(json.dumps(converse(broker.address, name, "test")))
    found = differences(ours, recorded(name))
    expected = {path: reason for (question, path), reason in DIFFERENCES.items() if question == name}

    assert {path: pair for path, pair in found.items() if path not in expected} == {}
    assert {path: reason for path, reason in expected.items() if path not in found} == {}, "differs no longer"


def test_differences_are_named_of_questions_that_are_asked() -> None:
    assert {question for question, _ in DIFFERENCES} <= set(QUESTIONS)
