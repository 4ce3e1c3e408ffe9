"""Every API in every version that we list is answered in that version's own form, with and without anything to say."""

import dataclasses
from typing import Any

import pytest

from automq.protocol.apis import APIS, ApiKey
from automq.protocol.schema import wire_of
from tests.compat.differential import Conversation
from tests.compat.questions import Ask
from tests.support.process import Broker

TOPIC, GROUP = "every-version", "every-group"

# What makes an answer say something, by API: names that exist. Fields that a version lacks are left out below.
SOMETHING: dict[str, dict[str, Any]] = {
    "METADATA": {"topics": [{"name": TOPIC}]},
    "LIST_OFFSETS": {"topics": [{"name": TOPIC, "partitions": [{"partition_index": 0, "timestamp": -1}]}]},
    "OFFSET_FOR_LEADER_EPOCH": {"topics": [{"topic": TOPIC, "partitions": [{"partition": 0, "leader_epoch": 0}]}]},
    "OFFSET_COMMIT": {
        "group_id": GROUP,
        "topics": [{"name": TOPIC, "partitions": [{"partition_index": 0, "committed_offset": 1}]}],
    },
    "FIND_COORDINATOR": {"key": GROUP, "key_type": 0},
    "DESCRIBE_GROUPS": {"groups": [GROUP]},
    "DESCRIBE_CONFIGS": {"resources": [{"resource_type": 2, "resource_name": TOPIC, "configuration_keys": None}]},
    "CREATE_TOPICS": {"topics": [{"name": TOPIC, "num_partitions": 1, "replication_factor": 1}], "timeout": 1000},
    "DELETE_RECORDS": {"topics": [{"name": TOPIC, "partitions": [{"partition_index": 0, "offset": 0}]}]},
}


def listed(broker: Broker) -> list[tuple[str, int]]:
    conversation = Conversation(broker.address, {}, settle_s=0)
    answer = conversation.ask_raw(Ask("API_VERSIONS", 0, {}))
    conversation.close()
    return [
        (ApiKey(row["api_key"]).name, version)
        for row in answer["api_keys"]
        for version in range(row["min_version"], row["max_version"] + 1)
        if version in APIS[row["api_key"]].versions
    ]


def fitting(body: dict[str, Any], api: str, version: int) -> dict[str, Any]:
    """The body as far as the version has its fields."""
    fields = {item.name: wire_of(item) for item in dataclasses.fields(APIS[ApiKey[api]].request_class)}
    return {name: value for name, value in body.items() if fields[name].is_in(version)}


@pytest.mark.parametrize("with_body", [False, True], ids=["empty", "something"])
def test_every_listed_version_is_answered_in_its_form(broker: Broker, with_body: bool) -> None:
    silent = []
    for api, version in listed(broker):
        if api in ("JOIN_GROUP", "SASL_HANDSHAKE") or (api == "PRODUCE" and version < 3):
            continue
        # With acks=0, which is the default, Produce has no answer.
        body = {"acks": -1} if api == "PRODUCE" else SOMETHING.get(api, {}) if with_body else {}
        conversation = Conversation(broker.address, {}, settle_s=0)
        if conversation.ask(Ask(api, version, fitting(body, api, version))) == "closed":
            silent.append((api, version))
        conversation.close()
    assert silent == []
