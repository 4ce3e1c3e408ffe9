"""Adapter: what is asked of a Kafka cluster about one topic. Raises AdminFailed, and nothing else."""

from collections.abc import Mapping, Sequence
from typing import Final

from automq.protocol.errors import ErrorCode
from automq.protocol.messages.admin import (
    CreatableTopic,
    CreatableTopicConfig,
    CreatePartitionsRequest,
    CreatePartitionsResponse,
    CreatePartitionsTopic,
    CreateTopicsRequest,
    CreateTopicsResponse,
    DeleteTopicsRequest,
    DeleteTopicsResponse,
    DeleteTopicState,
    DescribeConfigsRequest,
    DescribeConfigsResource,
    DescribeConfigsResponse,
    IncrementalAlterableConfig,
    IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResource,
    IncrementalAlterConfigsResponse,
)
from automq.protocol.messages.discovery import MetadataRequest, MetadataRequestTopic, MetadataResponse
from automq_operator.kafka_admin import DELETE, SET, KafkaAdmin, check
from automq_operator.topics.plan import Found

TOPIC_RESOURCE: Final = 2
OF_THE_TOPIC: Final = 1
"""Source of a config that was set for the topic itself."""
TIMEOUT_MS: Final = 4000
"""Within the time that a broker has for an answer."""

Addresses = Sequence[tuple[str, int]]


class TopicAdmin:
    """A few requests about one topic, through whichever broker answers."""

    def __init__(self, admin: KafkaAdmin) -> None:
        self._admin = admin

    async def find(self, through: Addresses, name: str) -> Found | None:
        """The topic as it is; None when there is none."""
        request = MetadataRequest(topics=[MetadataRequestTopic(name=name)], allow_auto_topic_creation=False)
        answer = await self._admin.ask(through, request, MetadataResponse)
        (topic,) = answer.topics
        if topic.error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION:
            return None
        check(topic.error_code, None)
        return Found(partitions=len(topic.partitions), configs=await self._configs(through, name))

    async def _configs(self, through: Addresses, name: str) -> Mapping[str, str]:
        resource = DescribeConfigsResource(resource_type=TOPIC_RESOURCE, resource_name=name, configuration_keys=None)
        answer = await self._admin.ask(through, DescribeConfigsRequest(resources=[resource]), DescribeConfigsResponse)
        (found,) = answer.results
        check(found.error_code, found.error_message)
        return {item.name: item.value or "" for item in found.configs if item.config_source == OF_THE_TOPIC}

    async def create(self, through: Addresses, name: str, *, partitions: int, configs: Mapping[str, str]) -> None:
        """Make it. One that somebody else made meanwhile is looked at anew."""
        topic = CreatableTopic(
            name=name,
            num_partitions=partitions,
            replication_factor=-1,
            configs=[CreatableTopicConfig(name=key, value=value) for key, value in configs.items()],
        )
        request = CreateTopicsRequest(topics=[topic], timeout=TIMEOUT_MS)
        answer = await self._admin.ask(through, request, CreateTopicsResponse)
        (result,) = answer.topics
        if result.error_code != ErrorCode.TOPIC_ALREADY_EXISTS:
            check(result.error_code, result.error_message)

    async def add_partitions(self, through: Addresses, name: str, *, total: int) -> None:
        """Until it has so many."""
        request = CreatePartitionsRequest(
            topics=[CreatePartitionsTopic(name=name, count=total, assignments=None)], timeout=TIMEOUT_MS
        )
        answer = await self._admin.ask(through, request, CreatePartitionsResponse)
        (result,) = answer.results
        check(result.error_code, result.error_message)

    async def configure(self, through: Addresses, name: str, *, set: Mapping[str, str], reset: Sequence[str]) -> None:
        """Set some configs, and give others their defaults again; both or neither."""
        configs = [IncrementalAlterableConfig(name=key, config_operation=SET, value=text) for key, text in set.items()]
        configs += [IncrementalAlterableConfig(name=key, config_operation=DELETE, value=None) for key in reset]
        resource = IncrementalAlterConfigsResource(resource_type=TOPIC_RESOURCE, resource_name=name, configs=configs)
        request = IncrementalAlterConfigsRequest(resources=[resource])
        answer = await self._admin.ask(through, request, IncrementalAlterConfigsResponse)
        for response in answer.responses:
            check(response.error_code, response.error_message)

    async def delete(self, through: Addresses, name: str) -> None:
        """With all its records. One that is not there is deleted."""
        request = DeleteTopicsRequest(topics=[DeleteTopicState(name=name)], topic_names=[name], timeout=TIMEOUT_MS)
        answer = await self._admin.ask(through, request, DeleteTopicsResponse)
        for response in answer.responses:
            if response.error_code != ErrorCode.UNKNOWN_TOPIC_OR_PARTITION:
                check(response.error_code, response.error_message)
