"""An administrator: topics come and go, grow and are configured, and some records are lost on the way on purpose.

What was acknowledged must be there: a created topic exists until somebody asks to delete it, a deleted one stays away,
a configuration is what was set last.
"""

import asyncio
import random
from dataclasses import dataclass

from automq.protocol.apis import ApiKey
from automq.protocol.errors import ErrorCode
from automq.protocol.messages.admin import (
    DeleteTopicsRequest,
    DeleteTopicState,
    DescribeConfigsRequest,
    DescribeConfigsResource,
    IncrementalAlterableConfig,
    IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResource,
)
from automq.protocol.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from tests.sim.actors import RETRIABLE
from tests.sim.history import History
from tests.support.batches import build_batch
from tests.support.client import CallFailed, ErrorAnswered, SimClient

TOPIC_RESOURCE = 2
SET = 0


@dataclass(slots=True)
class SideTopic:
    """What is known of a topic."""

    name: str
    created: bool = False
    seen: bool = False
    delete_asked: bool = False
    deleted: bool = False
    retention_ms: int | None = None
    retention_asked: int | None = None


class Administrator:
    """Makes changes one after the other, each until it is answered, and remembers what must be true."""

    def __init__(self, client: SimClient, dice: random.Random, history: History) -> None:
        self.stopping = False
        self.topics: list[SideTopic] = []
        self._client = client
        self._dice = dice
        self._history = history

    async def run(self) -> None:
        """Change something every second or so, until told to stop."""
        while True:
            await asyncio.sleep(self._dice.uniform(0.1, 2.5))
            if self.stopping:
                return
            if self._dice.random() < 0.3:
                await self._look()
            alive = [topic for topic in self.topics if topic.created and not topic.delete_asked]
            if len(alive) < 2 or self._dice.random() < 0.3:
                await self._create()
                continue
            topic = self._dice.choice(alive)
            await self._dice.choice((self._delete, self._configure, self._produce))(topic)

    async def check(self) -> None:
        """Compare the cluster with what was acknowledged."""
        names = [topic.name for topic in self.topics]
        if not names:
            return
        response = await self._until_done(lambda: self._client.refresh(names))
        there = {topic.name for topic in response.topics if topic.error_code == ErrorCode.NONE}
        for topic in self.topics:
            if topic.created and not topic.delete_asked and topic.name not in there:
                self._history.violation(f"topic {topic.name} was created and is missing")
            if topic.seen and not topic.delete_asked and topic.name not in there:
                self._history.violation(f"topic {topic.name} was seen and is missing")
            if topic.deleted and topic.name in there:
                self._history.violation(f"topic {topic.name} was deleted and is there")
            if topic.name in there and topic.retention_ms is not None and topic.retention_ms == topic.retention_asked:
                found = await self._until_done(lambda topic=topic: self._retention_of(topic))
                if found != str(topic.retention_ms):
                    self._history.violation(f"{topic.name}: retention.ms was set to {topic.retention_ms}, is {found}")

    async def _look(self) -> None:
        """What metadata show is durable, whether its creation was answered or not."""
        try:
            response = await self._client.refresh([topic.name for topic in self.topics])
        except CallFailed:
            return
        there = {topic.name for topic in response.topics if topic.error_code == ErrorCode.NONE}
        for topic in self.topics:
            topic.seen |= topic.name in there

    async def _until_done(self, attempt):
        while True:
            try:
                return await attempt()
            except CallFailed:
                pass
            except ErrorAnswered as error:
                if error.code not in RETRIABLE:
                    self._history.violation(f"the administrator was refused with {error.code.name}")
                    return None
            await asyncio.sleep(self._dice.uniform(0.1, 0.5))

    async def _create(self) -> None:
        topic = SideTopic(f"side-{len(self.topics)}")
        self.topics.append(topic)
        partitions = self._dice.randint(1, 3)
        await self._until_done(lambda: self._client.create_topic(topic.name, partitions, {}))
        topic.created = True

    async def _delete(self, topic: SideTopic) -> None:
        topic.delete_asked = True
        request = DeleteTopicsRequest(topics=[DeleteTopicState(name=topic.name)], timeout=5000)

        async def attempt() -> None:
            response = await self._client.call(self._client.any_address(), ApiKey.DELETE_TOPICS, 6, request)
            code = response.responses[0].error_code
            # An earlier try whose answer was lost has done it.
            if code not in (ErrorCode.NONE, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION):
                raise ErrorAnswered(code)
            topic.deleted = code == ErrorCode.NONE

        await self._until_done(attempt)

    async def _configure(self, topic: SideTopic) -> None:
        value = self._dice.randint(3_600_000, 9_000_000)
        topic.retention_asked = value
        change = IncrementalAlterableConfig(name="retention.ms", config_operation=SET, value=str(value))
        resource = IncrementalAlterConfigsResource(
            resource_type=TOPIC_RESOURCE, resource_name=topic.name, configs=[change]
        )

        async def attempt() -> None:
            response = await self._client.call(
                self._client.any_address(),
                ApiKey.INCREMENTAL_ALTER_CONFIGS,
                1,
                IncrementalAlterConfigsRequest(resources=[resource]),
            )
            if response.responses[0].error_code:
                raise ErrorAnswered(response.responses[0].error_code)

        await self._until_done(attempt)
        topic.retention_ms = value

    async def _retention_of(self, topic: SideTopic) -> str | None:
        resource = DescribeConfigsResource(
            resource_type=TOPIC_RESOURCE, resource_name=topic.name, configuration_keys=["retention.ms"]
        )
        response = await self._client.call(
            self._client.any_address(), ApiKey.DESCRIBE_CONFIGS, 4, DescribeConfigsRequest(resources=[resource])
        )
        if response.results[0].error_code:
            raise ErrorAnswered(response.results[0].error_code)
        return response.results[0].configs[0].value

    async def _produce(self, topic: SideTopic) -> None:
        """Records that nobody will miss: they make the topic's deletion worth something."""
        batch = build_batch([b"side"] * 5, timestamp_ms=1_700_000_000_000)
        data = PartitionProduceData(index=0, records=memoryview(batch))
        request = ProduceRequest(
            acks=-1, timeout=3000, topic_data=[TopicProduceData(name=topic.name, partition_data=[data])]
        )
        try:
            await self._client.call(await self._client.leader(topic.name, 0), ApiKey.PRODUCE, 9, request)
        except CallFailed:
            self._client.forget_leader(topic.name, 0)
