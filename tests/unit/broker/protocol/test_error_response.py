"""Every served API has an error answer in every version."""

import dataclasses
import uuid
from typing import Any

import pytest

from automq.protocol.apis import APIS, ApiKey, encode_response
from automq.protocol.error_response import error_response_in_parts
from automq.protocol.messages.admin import DeleteTopicsRequest, DeleteTopicState
from automq.protocol.messages.fetch import ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic
from automq.protocol.messages.transaction_admin import DescribeProducersRequest, TopicRequest
from automq.protocol.schema import Scalar, wire_of
from automq.server.network.dispatch import SYNCHRONOUS_APIS, DispatchTable
from automq.steps import at_once

SERVED = [
    (key, version) for key in DispatchTable().routes if key not in SYNCHRONOUS_APIS for version in APIS[key].versions
]
VALUES = {Scalar.STRING: "x", Scalar.UUID: uuid.UUID(int=7), Scalar.BINARY: b"", Scalar.BOOLEAN: False}


def filled(kind: type, version: int) -> Any:
    """A request in which every array has one element."""
    made = kind()
    for field in dataclasses.fields(kind):
        wire = wire_of(field)
        if wire.is_in(version) and wire.is_array:
            element = VALUES.get(wire.kind, 3) if isinstance(wire.kind, Scalar) else filled(wire.kind, version)
            setattr(made, field.name, [element])
    return made


def codes(value: Any, version: int) -> list[int]:
    """Every error code that `version` says of `value`."""
    found: list[int] = []
    for field in dataclasses.fields(value):
        wire = wire_of(field)
        if not wire.is_in(version):
            continue
        if field.name == "error_code":
            found.append(getattr(value, field.name))
        elif wire.is_array and isinstance(wire.kind, type):
            for part in getattr(value, field.name) or []:
                found.extend(codes(part, version))
    return found


@pytest.mark.parametrize(("key", "version"), SERVED, ids=lambda value: str(int(value)))
def test_b11_every_api_has_an_error_answer_in_every_version(key: int, version: int) -> None:
    api = APIS[key]
    request = filled(api.request_class, version)
    response = at_once(error_response_in_parts(api.response_class, request, version, code=42, message="no"))
    assert encode_response(api, version, 1, response)
    assert codes(response, version) == [42]


def test_parts_keep_the_names_they_were_asked_by() -> None:
    asked = ListOffsetsRequest(
        topics=[ListOffsetsTopic(name="t", partitions=[ListOffsetsPartition(partition_index=n) for n in (0, 4)])]
    )
    response: Any = at_once(
        error_response_in_parts(APIS[ApiKey.LIST_OFFSETS].response_class, asked, 5, code=3, message=None)
    )
    (topic,) = response.topics
    assert (topic.name, [(part.partition_index, part.error_code) for part in topic.partitions]) == (
        "t",
        [(0, 3), (4, 3)],
    )


def test_parts_that_are_bare_values_become_the_key() -> None:
    asked = DescribeProducersRequest(topics=[TopicRequest(name="t", partition_indexes=[2])])
    response: Any = at_once(
        error_response_in_parts(APIS[ApiKey.DESCRIBE_PRODUCERS].response_class, asked, 0, code=3, message="no")
    )
    (part,) = response.topics[0].partitions
    assert (part.partition_index, part.error_code, part.error_message) == (2, 3, "no")


@pytest.mark.parametrize("version", [5, 6])
def test_deletions_are_named_by_either_field(version: int) -> None:
    asked = DeleteTopicsRequest(topic_names=["a"], topics=[DeleteTopicState(name="a")])
    response: Any = at_once(
        error_response_in_parts(APIS[ApiKey.DELETE_TOPICS].response_class, asked, version, code=7, message=None)
    )
    assert [(part.name, part.error_code) for part in response.responses] == [("a", 7)]
