"""What the command line changes of topics, on our own codec: works with any Kafka."""

import threading
from collections.abc import Mapping, Sequence
from typing import Final

from automq.cli.client import KafkaClient, check
from automq.cli.output import Row
from automq.protocol.errors import ErrorCode
from automq.protocol.messages.admin import (
    CreatableTopic,
    CreatableTopicConfig,
    CreateTopicsRequest,
    CreateTopicsResponse,
    DeleteTopicsRequest,
    DeleteTopicsResponse,
    DescribeConfigsRequest,
    DescribeConfigsResource,
    DescribeConfigsResponse,
    IncrementalAlterableConfig,
    IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResource,
    IncrementalAlterConfigsResponse,
)

TIMEOUT_MS: Final = 10_000
SHOWN_TRIES_MAX: Final = 20
SHOWN_RETRY_S: Final = 0.1
"""Two seconds; a value that the broker writes in another way than it was given is not waited for longer."""
TOPIC_RESOURCE: Final = 2
SET: Final = 0
DELETE: Final = 1
# Topics by name; from 6 on they are named in another field.
DELETE_BY_NAME: Final = range(1, 6)
SOURCES: Final[Mapping[int, str]] = {
    1: "topic",
    2: "broker, dynamic",
    3: "all brokers, dynamic",
    4: "broker's settings",
    5: "default",
}


def create_topics(
    client: KafkaClient,
    names: Sequence[str],
    *,
    partitions: int | None,
    replication_factor: int | None,
    configs: Mapping[str, str],
    if_not_exists: bool,
) -> set[str]:
    """Create topics; those that were. None as a number is the broker's default. Raises RequestFailed."""
    request = CreateTopicsRequest(
        topics=[
            CreatableTopic(
                name=name,
                num_partitions=-1 if partitions is None else partitions,
                replication_factor=-1 if replication_factor is None else replication_factor,
                configs=[CreatableTopicConfig(name=key, value=value) for key, value in configs.items()],
            )
            for name in dict.fromkeys(names)
        ],
        timeout=TIMEOUT_MS,
    )
    created: set[str] = set()
    for result in client.call(request, CreateTopicsResponse).topics:
        if result.error_code == ErrorCode.TOPIC_ALREADY_EXISTS and if_not_exists:
            continue
        check(result.error_code, f"topic {result.name} is not created", result.error_message)
        created.add(result.name)
    return created


def delete_topics(client: KafkaClient, names: Sequence[str], *, if_exists: bool) -> set[str]:
    """Delete topics; those that were. Raises RequestFailed."""
    request = DeleteTopicsRequest(topic_names=list(dict.fromkeys(names)), timeout=TIMEOUT_MS)
    deleted: set[str] = set()
    for result in client.call(request, DeleteTopicsResponse, versions=DELETE_BY_NAME).responses:
        if result.error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION and if_exists:
            continue
        check(result.error_code, f"topic {result.name} is not deleted", result.error_message)
        deleted.add(result.name or "")
    return deleted


def alter_topic(client: KafkaClient, name: str, changes: Mapping[str, str | None]) -> None:
    """Override configs of a topic; None returns to the default. Raises RequestFailed."""
    steps = [
        IncrementalAlterableConfig(name=key, config_operation=DELETE if value is None else SET, value=value)
        for key, value in changes.items()
    ]
    resource = IncrementalAlterConfigsResource(resource_type=TOPIC_RESOURCE, resource_name=name, configs=steps)
    request = IncrementalAlterConfigsRequest(resources=[resource])
    for result in client.call(request, IncrementalAlterConfigsResponse).responses:
        check(result.error_code, f"topic {name} is not altered", result.error_message)
    for _ in range(SHOWN_TRIES_MAX):
        shown = {row["config"]: row for row in config_rows(client, name)}
        if all(_is_shown(shown.get(key), value) for key, value in changes.items()):
            return
        threading.Event().wait(SHOWN_RETRY_S)


def _is_shown(row: Row | None, value: str | None) -> bool:
    """Whether the broker that is asked knows of the change by now; a Kafka broker learns of it a moment later."""
    if row is None or row["source"] != SOURCES[1]:
        return value is None
    return row["value"] == value


def config_rows(client: KafkaClient, name: str) -> list[Row]:
    """The effective configs of a topic, what is set for it alone first. Raises RequestFailed."""
    resource = DescribeConfigsResource(resource_type=TOPIC_RESOURCE, resource_name=name, configuration_keys=None)
    answer = client.call(DescribeConfigsRequest(resources=[resource]), DescribeConfigsResponse)
    rows: list[Row] = []
    for result in answer.results:
        check(result.error_code, f"topic {name}", result.error_message)
        for config in sorted(result.configs, key=lambda config: (config.config_source != 1, config.name)):
            source = SOURCES.get(config.config_source, str(config.config_source))
            value = "(hidden)" if config.is_sensitive else config.value
            rows.append({"config": config.name, "value": value, "source": source})
    return rows
