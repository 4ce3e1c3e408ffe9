"""An operator of several brokers: reassigns partitions, elects preferred leaders, drains brokers and takes it back."""

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence

from automq.protocol.apis import ApiKey
from automq.protocol.errors import ErrorCode
from automq.protocol.messages.admin import (
    IncrementalAlterableConfig,
    IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResource,
)
from automq.protocol.messages.admin_cluster import (
    AlterPartitionReassignmentsRequest,
    ElectLeadersRequest,
    ReassignablePartition,
    ReassignableTopic,
)
from tests.sim.actors import RETRIABLE
from tests.sim.history import History
from tests.support.client import Address, CallFailed, ErrorAnswered, SimClient

BROKER_RESOURCE = 4
SET, DELETE = 0, 1
DRAINING = "automq.broker.draining"
# What may have become of a broker or of a move since it was asked for.
EXPECTED = RETRIABLE | {
    ErrorCode.INVALID_REPLICA_ASSIGNMENT,
    ErrorCode.NO_REASSIGNMENT_IN_PROGRESS,
    ErrorCode.REASSIGNMENT_IN_PROGRESS,
    ErrorCode.PREFERRED_LEADER_NOT_AVAILABLE,
    ErrorCode.ELECTION_NOT_NEEDED,
    ErrorCode.INVALID_CONFIG,
    ErrorCode.BROKER_ID_NOT_REGISTERED,
    ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
}


class Operator:
    """Acts every other second, as tools do: asks once, and looks later."""

    def __init__(
        self,
        client: SimClient,
        dice: random.Random,
        history: History,
        *,
        topics: Sequence[str],
        brokers: Callable[[], Mapping[int, Address]],
    ) -> None:
        self.stopping = False
        self._client, self._dice, self._history = client, dice, history
        self._topics, self._brokers = topics, brokers
        self._drained: set[int] = set()

    async def run(self) -> None:
        """Until told to stop, and then until nobody is drained any more."""
        while not self.stopping:
            await asyncio.sleep(self._dice.uniform(0.1, 2.5))
            kind = self._dice.choice(
                (self._reassign, self._reassign, self._reassign, self._cancel, self._elect, self._drain, self._undrain)
            )
            await self._once(kind)
        while self._drained:
            await self._once(self._undrain)
            await asyncio.sleep(0.2)

    async def _once(self, action) -> None:
        try:
            await action()
        except CallFailed:
            pass
        except ErrorAnswered as error:
            if error.code not in EXPECTED:
                self._history.violation(f"the operator was refused with {error.code.name}: {action.__name__}")

    def _some(self) -> list[tuple[str, int]]:
        """Some partitions of what is known."""
        known = [
            (topic, index) for topic in self._topics for index in range(self._client.partition_count.get(topic, 0))
        ]
        return self._dice.sample(known, self._dice.randint(1, len(known))) if known else []

    async def _reassign(self) -> None:
        await self._client.refresh(self._topics)
        nodes = sorted(self._brokers())
        wanted = [(*which, self._dice.sample(nodes, self._dice.randint(1, len(nodes)))) for which in self._some()]
        await self._alter(wanted)

    async def _cancel(self) -> None:
        await self._client.refresh(self._topics)
        await self._alter([(*which, None) for which in self._some()])

    async def _alter(self, wanted) -> None:
        by_topic: dict[str, list[ReassignablePartition]] = {}
        for name, index, replicas in wanted:
            partition = ReassignablePartition(partition_index=index, replicas=replicas)
            by_topic.setdefault(name, []).append(partition)
        topics = [ReassignableTopic(name=name, partitions=parts) for name, parts in by_topic.items()]
        response = await self._client.call(
            self._client.any_address(),
            ApiKey.ALTER_PARTITION_REASSIGNMENTS,
            1,
            AlterPartitionReassignmentsRequest(topics=topics, timeout=5000),
        )
        _check(response.error_code)
        for topic in response.responses:
            for part in topic.partitions:
                _check(part.error_code)

    async def _elect(self) -> None:
        response = await self._client.call(
            self._client.any_address(),
            ApiKey.ELECT_LEADERS,
            2,
            ElectLeadersRequest(election_type=0, topic_partitions=None, timeout=5000),
        )
        _check(response.error_code)

    async def _drain(self) -> None:
        nodes = sorted(self._brokers())
        if len(self._drained) + 1 < len(nodes):
            node = self._dice.choice(nodes)
            self._drained.add(node)
            await self._configure(node, SET, "true")

    async def _undrain(self) -> None:
        if self._drained:
            node = self._dice.choice(sorted(self._drained))
            await self._configure(node, DELETE, None)
            self._drained.discard(node)

    async def _configure(self, node: int, operation: int, value: str | None) -> None:
        change = IncrementalAlterableConfig(name=DRAINING, config_operation=operation, value=value)
        resource = IncrementalAlterConfigsResource(
            resource_type=BROKER_RESOURCE, resource_name=str(node), configs=[change]
        )
        # Kafka's clients send it to that very broker; whoever is lost for good takes its configuration with it.
        address = self._brokers().get(node)
        if address is None:
            self._drained.discard(node)
            return
        response = await self._client.call(
            address,
            ApiKey.INCREMENTAL_ALTER_CONFIGS,
            1,
            IncrementalAlterConfigsRequest(resources=[resource]),
        )
        _check(response.responses[0].error_code)


def _check(code: int) -> None:
    if code:
        raise ErrorAnswered(code)
