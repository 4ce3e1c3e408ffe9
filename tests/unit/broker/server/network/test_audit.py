"""What clients change and are refused, as log lines."""

import asyncio
import logging
import struct
from collections.abc import Iterator
from typing import Any

import pytest

from automq.protocol.apis import APIS, ApiKey
from automq.protocol.errors import ErrorCode
from automq.protocol.messages import admin, group_admin, offset
from automq.protocol.messages.admin import CreatableTopicResult, DeletableTopicResult
from automq.protocol.messages.group import FindCoordinatorRequest, FindCoordinatorResponse
from automq.protocol.messages.transaction import InitProducerIdRequest, InitProducerIdResponse
from automq.protocol.schema import Message
from automq.server.network import audit
from automq.server.network.audit import Audit
from automq.steps import at_once
from tests.support.data_path import DataPath
from tests.support.handler_world import context_of, image_of


@pytest.fixture(autouse=True)
def everything(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "automq")


def answered(log: Audit, request: Message, response: Message, *, client: str | None = "terraform") -> None:
    assert request.API_KEY is not None
    context = context_of(image_of({}), version=0)
    context.session.client_id = client
    at_once(log.answered(APIS[request.API_KEY], context, request, response))


def test_created_topic_is_logged_with_who_and_what(caplog: pytest.LogCaptureFixture) -> None:
    result = CreatableTopicResult(name="orders", num_partitions=3, replication_factor=1)
    answered(Audit(), admin.CreateTopicsRequest(), admin.CreateTopicsResponse(topics=[result]))

    (line,) = caplog.records
    fields = vars(line)
    assert line.getMessage() == "topic created"
    assert (fields["target"], fields["partitions"]) == ("orders", 3)
    assert (fields["client"], fields["host"], fields["principal"]) == ("terraform", "127.0.0.1", "User:ANONYMOUS")


def test_refused_change_is_logged_with_its_error(caplog: pytest.LogCaptureFixture) -> None:
    result = CreatableTopicResult(name="orders", error_code=ErrorCode.TOPIC_ALREADY_EXISTS)
    answered(Audit(), admin.CreateTopicsRequest(), admin.CreateTopicsResponse(topics=[result]))

    (line,) = caplog.records
    assert line.getMessage() == "change refused"
    assert (vars(line)["asked"], vars(line)["error"]) == ("topic created", "TOPIC_ALREADY_EXISTS")


def test_what_is_only_validated_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    result = CreatableTopicResult(name="orders")
    request = admin.CreateTopicsRequest(validate_only=True)
    answered(Audit(), request, admin.CreateTopicsResponse(topics=[result]))

    assert caplog.records == []


def test_altered_configs_name_every_step(caplog: pytest.LogCaptureFixture) -> None:
    steps = [
        admin.IncrementalAlterableConfig(name="retention.ms", config_operation=0, value="1000"),
        admin.IncrementalAlterableConfig(name="segment.bytes", config_operation=1),
    ]
    resource = admin.IncrementalAlterConfigsResource(resource_type=2, resource_name="orders", configs=steps)
    answer = admin.AlterConfigsResourceResponse(resource_type=2, resource_name="orders")
    answered(
        Audit(),
        admin.IncrementalAlterConfigsRequest(resources=[resource]),
        admin.IncrementalAlterConfigsResponse(responses=[answer]),
    )

    (line,) = caplog.records
    assert line.getMessage() == "configs altered"
    assert vars(line)["target"] == "topic orders"
    assert vars(line)["configs"] == "set retention.ms=1000, delete segment.bytes"


def test_every_kind_of_change_has_its_line(caplog: pytest.LogCaptureFixture) -> None:
    log = Audit()
    deleted = DeletableTopicResult(name="orders")
    answered(log, admin.DeleteTopicsRequest(), admin.DeleteTopicsResponse(responses=[deleted]))
    grown = admin.CreatePartitionsTopicResult(name="orders")
    asked = admin.CreatePartitionsTopic(name="orders", count=9)
    answered(log, admin.CreatePartitionsRequest(topics=[asked]), admin.CreatePartitionsResponse(results=[grown]))
    part = admin.DeleteRecordsPartitionResult(partition_index=1, low_watermark=7)
    topic = admin.DeleteRecordsTopicResult(name="orders", partitions=[part])
    answered(log, admin.DeleteRecordsRequest(), admin.DeleteRecordsResponse(topics=[topic]))
    group = group_admin.DeletableGroupResult(group_id="billing")
    answered(log, group_admin.DeleteGroupsRequest(), group_admin.DeleteGroupsResponse(results=[group]))
    offsets = offset.OffsetDeleteResponseTopic(
        name="orders", partitions=[offset.OffsetDeleteResponsePartition(partition_index=2)]
    )
    answered(log, offset.OffsetDeleteRequest(group_id="billing"), offset.OffsetDeleteResponse(topics=[offsets]))
    whole = admin.AlterConfigsResource(
        resource_type=4, resource_name="", configs=[admin.AlterableConfig(name="log.retention.ms", value="1")]
    )
    response = admin.AlterConfigsResourceResponse(resource_type=4, resource_name="")
    answered(log, admin.AlterConfigsRequest(resources=[whole]), admin.AlterConfigsResponse(responses=[response]))

    assert [(line.getMessage(), vars(line)["target"]) for line in caplog.records] == [
        ("topic deleted", "orders"),
        ("partitions added", "orders"),
        ("records deleted", "orders-1"),
        ("group deleted", "billing"),
        ("offsets deleted", "billing"),
        ("configs replaced", "broker (all)"),
    ]


def test_wide_request_is_some_lines_and_a_number(caplog: pytest.LogCaptureFixture) -> None:
    results = [DeletableTopicResult(name=f"t{number}") for number in range(10_000)]
    answered(Audit(), admin.DeleteTopicsRequest(), admin.DeleteTopicsResponse(responses=results))

    assert len(caplog.records) == audit.LINES_MAX + 1
    assert vars(caplog.records[-1])["more"] == 10_000 - audit.LINES_MAX


def test_transactional_client_is_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    log = Audit()
    for _ in range(5):
        find = FindCoordinatorRequest(key_type=1, coordinator_keys=["tx"])
        answered(log, find, FindCoordinatorResponse(), client="flink")
        answered(log, InitProducerIdRequest(transactional_id="tx"), InitProducerIdResponse(), client="flink")
    answered(log, InitProducerIdRequest(transactional_id="tx"), InitProducerIdResponse(), client="streams")
    answered(log, InitProducerIdRequest(), InitProducerIdResponse(), client="idempotent")
    answered(log, FindCoordinatorRequest(key_type=0), FindCoordinatorResponse(), client="consumer")

    assert [(line.levelname, vars(line)["what"], vars(line)["client"]) for line in caplog.records] == [
        ("WARNING", "transactions", "flink"),
        ("WARNING", "transactions", "streams"),
    ]
    assert "transactional.id" in vars(caplog.records[0])["remedy"]


def test_refusals_that_are_remembered_are_bounded(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "CLIENTS_MAX", 3)
    log = Audit()
    for number in (1, 2, 3, 1, 4, 2):
        log.refuse("Vote is not served here", client_id=f"c{number}", host="h", remedy="none")

    # 2 was the oldest when 4 came.
    assert [vars(line)["client"] for line in caplog.records] == ["c1", "c2", "c3", "c4", "c2"]


@pytest.mark.asyncio
@pytest.mark.looptime
async def test_api_that_is_not_served_is_told_of_once_with_the_clients_name(caplog: pytest.LogCaptureFixture) -> None:
    path = await DataPath().start()
    for name in (b"kafdrop", b"kafdrop", b"kminion"):
        path.connect().feed(struct.pack(">ihhih", 10 + len(name), ApiKey.SASL_HANDSHAKE, 1, 1, len(name)) + name)
    await asyncio.sleep(0)

    lines = [line for line in caplog.records if line.getMessage() == "refused"]
    assert [(vars(line)["what"], vars(line)["client"]) for line in lines] == [
        ("SaslHandshake is not served here", "kafdrop"),
        ("SaslHandshake is not served here", "kminion"),
    ]
    await path.close()


def commit(group: str, *, member: str = "", generation: int = -1) -> Message:
    part = offset.OffsetCommitRequestPartition(partition_index=0, committed_offset=7)
    topics = [offset.OffsetCommitRequestTopic(name="orders", partitions=[part])]
    return offset.OffsetCommitRequest(
        group_id=group, member_id=member, generation_id_or_member_epoch=generation, topics=topics
    )


def test_offsets_that_no_member_commits_are_told_once_a_connection(caplog: pytest.LogCaptureFixture) -> None:
    """A reset of offsets is an administrative change; a consumer without members commits so every few seconds."""
    log = Audit()
    parts = [offset.OffsetCommitResponsePartition(partition_index=0)]
    response = offset.OffsetCommitResponse(topics=[offset.OffsetCommitResponseTopic(name="orders", partitions=parts)])
    api = APIS[ApiKey.OFFSET_COMMIT]
    connections = [context_of(image_of({}), version=8) for _ in range(2)]
    for context in connections:
        context.session.client_id = "reset-tool"
        for _ in range(3):
            at_once(log.answered(api, context, commit("billing"), response))
            at_once(log.answered(api, context, commit("billing", member="m-1", generation=3), response))
    at_once(log.answered(api, connections[0], commit("other"), response))

    assert [vars(line)["target"] for line in caplog.records] == ["billing", "billing", "other"]
    assert vars(caplog.records[0])["topics"] == "orders"
    assert vars(caplog.records[0])["client"] == "reset-tool"


def test_refused_reset_names_its_error(caplog: pytest.LogCaptureFixture) -> None:
    parts = [offset.OffsetCommitResponsePartition(partition_index=0, error_code=ErrorCode.UNKNOWN_MEMBER_ID)]
    response = offset.OffsetCommitResponse(topics=[offset.OffsetCommitResponseTopic(name="orders", partitions=parts)])
    answered(Audit(), commit("billing"), response)

    assert vars(caplog.records[0])["error"] == "UNKNOWN_MEMBER_ID"


@pytest.mark.parametrize("is_of_configs", [True, False])
def test_of_very_many_things_only_those_with_a_line_are_looked_up(is_of_configs: bool) -> None:
    looked_up = 0

    class Named(list[Any]):
        def __iter__(self) -> Iterator[Any]:
            nonlocal looked_up
            for thing in super().__iter__():
                looked_up += 1
                yield thing

    request: Any
    response: Any
    if is_of_configs:
        config = admin.IncrementalAlterableConfig(name="retention.ms", config_operation=0, value="1")
        request = admin.IncrementalAlterConfigsRequest(
            resources=[
                admin.IncrementalAlterConfigsResource(resource_type=2, resource_name=f"t{number}", configs=[config])
                for number in range(5_000)
            ]
        )
        request.resources = Named(request.resources)
        response = admin.AlterConfigsResponse(
            responses=[
                admin.AlterConfigsResourceResponse(resource_type=2, resource_name=f"t{number}")
                for number in range(5_000)
            ]
        )
        changes = list(audit._altered_configs(request, response))
        details = {"configs": "set retention.ms=1"}
    else:
        request = admin.CreatePartitionsRequest(
            topics=[
                admin.CreatePartitionsTopic(name=f"t{number}", count=3, assignments=None) for number in range(5_000)
            ]
        )
        request.topics = Named(request.topics)
        response = admin.CreatePartitionsResponse(
            results=[admin.CreatePartitionsTopicResult(name=f"t{number}") for number in range(5_000)]
        )
        changes = list(audit._grown_topics(request, response))
        details = {"partitions": 3}

    assert len(changes) == 5_000
    assert [change.details for change in changes[: audit.LINES_MAX]] == [details] * audit.LINES_MAX
    assert looked_up <= audit.LINES_MAX + 1
