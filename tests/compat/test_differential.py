"""Our answers are Apache Kafka's, field by field, but for the differences that are named with their reason."""

import json
import pathlib
from collections.abc import Iterator

import pytest

from tests.compat.differential import (
    OUR_RETENTION,
    QUESTIONS,
    RETENTION,
    SETTINGS,
    converse,
    differences,
    recorded,
)
from tests.compat.named_differences import DIFFERENCES
from tests.compat.retention_questions import RETENTION_QUESTIONS
from tests.support.process import Broker


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """As the Kafka that was asked is set up; questions that restart it do so between others."""
    running = Broker(tmp_path_factory.mktemp("broker"), **SETTINGS)
    running.start()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def retaining_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """Applies retention twice a second."""
    running = Broker(tmp_path_factory.mktemp("retaining"), **SETTINGS, **RETENTION, **OUR_RETENTION)
    running.start()
    yield running
    running.stop()


@pytest.mark.parametrize("name", QUESTIONS)
def test_answers_are_those_of_apache_kafka(request: pytest.FixtureRequest, name: str) -> None:
    fixture = "retaining_broker" if name in RETENTION_QUESTIONS else "broker"
    broker: Broker = request.getfixturevalue(fixture)
    answers = converse(broker.address, name, "test", restart=broker.restart)
    found = differences(json.loads(json.dumps(answers)), recorded(name))
    expected = {path: reason for (question, path), reason in DIFFERENCES.items() if question == name}

    assert {path: pair for path, pair in found.items() if path not in expected} == {}
    assert {path: reason for path, reason in expected.items() if path not in found} == {}, "differs no longer"


def test_differences_are_named_of_questions_that_are_asked() -> None:
    assert {question for question, _ in DIFFERENCES} <= set(QUESTIONS)


def test_every_question_was_asked_of_kafka() -> None:
    golden = pathlib.Path(__file__).parents[1] / "golden/differential"
    assert {path.stem for path in golden.glob("*.json")} == set(QUESTIONS)
