"""Configurations are altered step by step or whole."""

import uuid
from collections.abc import Mapping, Sequence

import pytest

from automq.controller.configs import alter_configs
from automq.controller.model import ConfigAlteration, ConfigChange, MessageLimit
from automq.metadata.image import EMPTY, MetadataImage
from automq.metadata.records import ConfigChanged, TopicCreated
from automq.metadata.replay import replay_all
from automq.protocol.errors import ErrorCode
from automq.steps import at_once

SET, DELETE, APPEND, SUBTRACT = range(4)
BASE = replay_all(
    EMPTY,
    [
        TopicCreated(topic_id=uuid.UUID(int=1), name="t", is_internal=False, replication_factor=1),  # type: ignore[arg-type]
        ConfigChanged(resource_type=2, resource_name="t", changes=(("retention.ms", "5"), ("segment.ms", "6"))),
    ],
)


def alter(
    image: MetadataImage, *alterations: ConfigAlteration, validate_only: bool = False
) -> tuple[MetadataImage, list[ErrorCode]]:
    decision = at_once(
        alter_configs(image, alterations, message_limit=MessageLimit(2**20), validate_only=validate_only)
    )
    codes = [ErrorCode.NONE if result.error is None else result.error.code for result in decision.response]
    return replay_all(image, decision.records), codes


def steps(*changes: tuple[str, int, str | None], name: str = "t", kind: int = 2) -> ConfigAlteration:
    made = [ConfigChange(name=key, operation=operation, value=value) for key, operation, value in changes]
    return ConfigAlteration(resource_type=kind, resource_name=name, changes=made)


def whole(values: Mapping[str, str | None], *, name: str = "t", kind: int = 2) -> ConfigAlteration:
    return ConfigAlteration(resource_type=kind, resource_name=name, replacement=values)


def test_steps_change_what_they_name() -> None:
    image, codes = alter(BASE, steps(("retention.ms", SET, " 9 "), ("segment.ms", DELETE, None)))
    assert (codes, dict(image.topic_config("t"))) == ([ErrorCode.NONE], {"retention.ms": "9"})


def test_a_replacement_is_everything() -> None:
    image, codes = alter(BASE, whole({"max.message.bytes": "7"}))
    assert (codes, dict(image.topic_config("t"))) == ([ErrorCode.NONE], {"max.message.bytes": "7"})


def test_lists_are_appended_to_and_subtracted_from_beginning_with_the_default() -> None:
    image, _ = alter(BASE, steps(("cleanup.policy", APPEND, "compact")))
    assert image.topic_config("t")["cleanup.policy"] == "delete,compact"
    again, _ = alter(image, steps(("cleanup.policy", APPEND, "compact")))
    assert again == image
    image, _ = alter(image, steps(("cleanup.policy", SUBTRACT, "delete")))
    assert image.topic_config("t")["cleanup.policy"] == "compact"


def test_what_changes_nothing_records_nothing() -> None:
    assert (
        at_once(
            alter_configs(BASE, [steps(("retention.ms", SET, "5"))], message_limit=MessageLimit(1), validate_only=False)
        ).records
        == []
    )


def test_validating_changes_nothing() -> None:
    assert alter(BASE, whole({}), validate_only=True) == (BASE, [ErrorCode.NONE])


@pytest.mark.parametrize(
    ("alteration", "expected"),
    [
        (steps(("no.such.config", SET, "1")), ErrorCode.INVALID_CONFIG),
        (steps(("retention.ms", SET, "x")), ErrorCode.INVALID_CONFIG),
        (steps(("retention.ms", APPEND, "1")), ErrorCode.INVALID_CONFIG),
        (steps(("max.message.bytes", SET, str(2**20 + 1))), ErrorCode.INVALID_CONFIG),
        (steps(("remote.storage.enable", SET, "true")), ErrorCode.INVALID_CONFIG),
        (
            steps(("min.compaction.lag.ms", SET, "6"), ("max.compaction.lag.ms", SET, "5")),
            ErrorCode.INVALID_CONFIG,
        ),
        (steps(("retention.ms", SET, None)), ErrorCode.INVALID_REQUEST),
        (steps(("cleanup.policy", APPEND, None)), ErrorCode.INVALID_REQUEST),
        (steps(("retention.ms", 7, "1")), ErrorCode.INVALID_REQUEST),
        (steps(("retention.ms", SET, "1"), ("retention.ms", DELETE, None)), ErrorCode.INVALID_REQUEST),
        (steps(("retention.ms", SET, "1"), name="x"), ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        (steps(("retention.ms", SET, "1"), kind=64), ErrorCode.INVALID_REQUEST),
        (steps(("retention.ms", SET, "1"), kind=32), ErrorCode.INVALID_CONFIG),
        (steps(("consumer.session.timeout.ms", SET, "50000"), kind=32), ErrorCode.INVALID_CONFIG),
        (steps(("interval.ms", SET, "1000"), kind=16), ErrorCode.INVALID_CONFIG),
        (steps(("log.retention.ms", SET, "soon"), kind=4, name="1"), ErrorCode.INVALID_REQUEST),
        (whole({"retention.ms": None}), ErrorCode.INVALID_REQUEST),
        (steps(("log.retention.ms", SET, "1"), kind=4, name="one"), ErrorCode.INVALID_REQUEST),
        (steps(("automq.broker.draining", SET, "true"), kind=4, name=""), ErrorCode.INVALID_CONFIG),
        (steps(("node.id", SET, "1"), kind=4, name="1"), ErrorCode.INVALID_CONFIG),
        (whole({"retention.ms": "x"}), ErrorCode.INVALID_CONFIG),
    ],
)
def test_what_makes_no_sense_is_refused(alteration: ConfigAlteration, expected: ErrorCode) -> None:
    assert alter(BASE, alteration) == (BASE, [expected])


def test_each_resource_is_altered_alone_but_none_twice() -> None:
    alterations: Sequence[ConfigAlteration] = [
        steps(("retention.ms", SET, "x")),
        steps(("log.retention.ms", SET, "1"), kind=4, name=""),
        steps(("automq.broker.draining", SET, "true"), kind=4, name="1"),
        steps(("automq.broker.draining", SET, "false"), kind=4, name="1"),
    ]
    image, codes = alter(BASE, *alterations)
    assert codes == [ErrorCode.INVALID_CONFIG, ErrorCode.NONE, ErrorCode.NONE, ErrorCode.INVALID_REQUEST]
    assert dict(image.broker_config(None)) == {"log.retention.ms": "1"}
    assert image.config(4, "1")["automq.broker.draining"] == "true"
