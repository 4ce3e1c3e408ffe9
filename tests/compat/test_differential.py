"""Our answers are Apache Kafka's, but for the differences that are named here with their reason."""

import json
from typing import Any

import pytest

from tests.compat.differential import converse, recorded
from tests.compat.questions import QUESTIONS
from tests.support.process import Broker

# (question, step): why we answer otherwise. Everything else must be equal.
DIFFERENCES: dict[tuple[str, int], str] = {}


@pytest.mark.parametrize("name", QUESTIONS)
def test_answers_are_those_of_apache_kafka(broker: Broker, name: str) -> None:
    ours: list[Any] = json.loads(json.dumps(converse(broker.address, name, "test")))
    theirs = recorded(name)
    for step, (our_answer, their_answer) in enumerate(zip(ours, theirs, strict=True)):
        if (name, step) in DIFFERENCES:
            assert our_answer != their_answer, f"{DIFFERENCES[name, step]}: no longer differs"
        else:
            assert our_answer == their_answer, f"step {step}: {QUESTIONS[name][step]}"
