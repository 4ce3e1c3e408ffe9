"""The client programs of a simulation: producers, readers and an administrator. Each runs in a process of its own."""

import asyncio
import random
from collections.abc import Sequence

from automq.protocol.apis import ApiKey
from automq.protocol.errors import ErrorCode
from automq.protocol.messages.admin import (
    DeleteRecordsPartition,
    DeleteRecordsRequest,
    DeleteRecordsResponse,
    DeleteRecordsTopic,
)
from automq.protocol.messages.fetch import PartitionData
from automq.protocol.messages.produce import (
    PartitionProduceData,
    PartitionProduceResponse,
    ProduceRequest,
    TopicProduceData,
)
from tests.sim.history import History, Sent, padded
from tests.sim.sizes import Sizes
from tests.support.batches import BadBatch, build_batch, parse_batches
from tests.support.client import EARLIEST, Address, CallFailed, ErrorAnswered, SimClient

PIPELINE_MAX = 5
"""Kafka's promise for idempotent producers: so many batches of a partition may be unanswered."""
RETRIABLE = frozenset(
    {
        ErrorCode.NOT_LEADER_OR_FOLLOWER,
        ErrorCode.LEADER_NOT_AVAILABLE,
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode.REQUEST_TIMED_OUT,
        ErrorCode.NETWORK_EXCEPTION,
        ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
        ErrorCode.COORDINATOR_NOT_AVAILABLE,
        ErrorCode.NOT_COORDINATOR,
        ErrorCode.KAFKA_STORAGE_ERROR,
        ErrorCode.FENCED_LEADER_EPOCH,
        ErrorCode.UNKNOWN_LEADER_EPOCH,
        ErrorCode.NOT_CONTROLLER,
        ErrorCode.BROKER_NOT_AVAILABLE,
        ErrorCode.UNKNOWN_TOPIC_ID,
    }
)


async def until_done(attempt, *, dice: random.Random, history: History, what: str):
    """Try `attempt()` until it works; an error that clients do not retry is a violation."""
    while True:
        try:
            return await attempt()
        except CallFailed:
            pass
        except ErrorAnswered as error:
            if error.code not in RETRIABLE:
                history.violation(f"{what} was refused with {error.code.name}")
        await asyncio.sleep(dice.uniform(0.05, 0.5))


class Producer:
    """An idempotent producer: batches of a partition are pipelined, and sent again in order until acknowledged."""

    def __init__(
        self,
        client: SimClient,
        dice: random.Random,
        history: History,
        *,
        name: str,
        topic: str,
        partitions: Sequence[int],
    ) -> None:
        self.stopping = False
        self.sizes = Sizes()
        self.batch_records_max = 30
        self.pause_s = (0.05, 1.2)
        self.base_timestamp_ms = 1_700_000_000_000
        self.tolerated: frozenset[ErrorCode] = frozenset()
        """Answers besides the retriable ones that are no violation."""
        self.refused_with: dict[int, ErrorCode] = {}
        """The newest refusal of each partition."""
        self._client = client
        self._dice = dice
        self._history = history
        self._name = name
        self._topic = topic
        self._partitions = partitions
        self._producer = (-1, -1)

    async def run(self) -> None:
        """Produce until told to stop, and then until everything sent is acknowledged."""
        await self._init()
        await asyncio.gather(*(self._run_lane(partition) for partition in self._partitions))

    def hurry(self) -> None:
        """Outages have cost time: what is still missing to a seed's worth comes quickly."""
        self.batch_records_max, self.pause_s = self.sizes.batch_records_max, (0.02, 0.2)

    async def run_once(self) -> None:
        """One batch to every partition, acknowledged when this returns."""
        for partition in self._partitions:
            await self.send(partition, 3)

    async def send(self, partition: int, records: int) -> None:
        """One batch, acknowledged when this returns."""
        if self._producer == (-1, -1):
            await self._init()
        await self._deliver(partition, [self._history.send(self._name, partition, records)])

    async def _init(self) -> None:
        self._producer = await until_done(
            self._client.init_producer_id, dice=self._dice, history=self._history, what="InitProducerId"
        )

    async def _run_lane(self, partition: int) -> None:
        dice = self._dice
        while not self.stopping:
            batches = [
                self._history.send(self._name, partition, dice.randint(1, self.batch_records_max))
                for _ in range(dice.choice((1, 1, 2, 3, PIPELINE_MAX)))
            ]
            await self._deliver(partition, batches)
            await asyncio.sleep(dice.uniform(*self.pause_s))

    async def _deliver(self, partition: int, batches: list[Sent]) -> None:
        requests = {id(sent): self._request(partition, sent) for sent in batches}
        while waiting := [sent for sent in batches if not sent.acknowledged]:
            try:
                address = await self._client.leader(self._topic, partition)
                connection = await self._client.connection(address)
            except CallFailed:
                self._client.forget_leader(self._topic, partition)
                await asyncio.sleep(self._dice.uniform(0.1, 0.6))
                continue
            for sent in waiting:
                sent.tries += 1
            answers = [connection.send(ApiKey.PRODUCE, 9, self._name, requests[id(sent)]) for sent in waiting]
            failed = False
            for sent, answer in zip(waiting, answers, strict=True):
                try:
                    response = await self._client.answer(address, ApiKey.PRODUCE, 9, answer)
                except CallFailed:
                    failed = True
                    continue
                failed |= not self._judge(sent, response.responses[0].partition_responses[0], waiting, address)
            if failed:
                self._client.forget_leader(self._topic, partition)
                await asyncio.sleep(self._dice.uniform(0.1, 0.6))

    def _request(self, partition: int, sent: Sent) -> ProduceRequest:
        batch = build_batch(
            [padded(value, self.sizes.record_bytes) for value in sent.values],
            timestamp_ms=self.base_timestamp_ms + sent.first,
            producer_id=self._producer[0],
            producer_epoch=self._producer[1],
            base_sequence=sent.first,
        )
        data = PartitionProduceData(index=partition, records=memoryview(batch))
        return ProduceRequest(
            acks=-1, timeout=6000, topic_data=[TopicProduceData(name=self._topic, partition_data=[data])]
        )

    def _judge(self, sent: Sent, answer: PartitionProduceResponse, waiting: list[Sent], address: Address) -> bool:
        code = ErrorCode(answer.error_code)
        if code is ErrorCode.NONE:
            self._history.acknowledge(sent, answer.base_offset, by=address)
            return True
        if code is ErrorCode.DUPLICATE_SEQUENCE_NUMBER:
            self._history.acknowledge(sent, None)
            return True
        self.refused_with[sent.partition] = code
        earlier_open = any(not other.acknowledged for other in waiting[: waiting.index(sent)])
        if code is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER and (earlier_open or self._history.is_stale(address)):
            return False
        if code not in RETRIABLE and code not in self.tolerated:
            self._history.violation(f"{sent.lane} {sent.first}: produce was refused with {code.name}")
        return False


class Reader:
    """Follows all partitions from their start, and tells the history of everything it gets."""

    def __init__(self, client: SimClient, dice: random.Random, history: History, *, name: str, topic: str) -> None:
        self.positions = dict.fromkeys(range(history.partitions), 0)
        self.pause_s = (0.1, 1.0)
        self.max_bytes = 250_000
        self._client = client
        self._dice = dice
        self._history = history
        self._name = name
        self._topic = topic

    async def run(self) -> None:
        """Read for ever."""
        while True:
            await self.step()
            await asyncio.sleep(self._dice.uniform(*self.pause_s))

    async def step(self) -> int:
        """One fetch of every partition; how many records came."""
        by_leader: dict[tuple[str, int], dict[int, int]] = {}
        try:
            for partition, offset in self.positions.items():
                by_leader.setdefault(await self._client.leader(self._topic, partition), {})[partition] = offset
            before = sum(self.positions.values())
            for address, positions in by_leader.items():
                epochs = {index: self._client.leader_epochs.get((self._topic, index), -1) for index in positions}
                expected = {index: self._history.expect_high_watermark(index, epochs[index]) for index in positions}
                for answer in await self._client.fetch_many(address, self._topic, positions, self.max_bytes):
                    index = answer.partition_index
                    await self._take(answer, epochs[index], expected[index])
            return sum(self.positions.values()) - before
        except CallFailed:
            pass
        except ErrorAnswered as error:
            if error.code not in RETRIABLE:
                self._history.violation(f"{self._name}: fetch was refused with {error.code.name}")
        for partition in self.positions:
            self._client.forget_leader(self._topic, partition)
        return 0

    async def _take(self, answer: PartitionData, epoch: int, at_least: int) -> None:
        partition = answer.partition_index
        code = ErrorCode(answer.error_code)
        if code is ErrorCode.OFFSET_OUT_OF_RANGE:
            await self._start_over(partition)
            return
        if code is not ErrorCode.NONE:
            raise ErrorAnswered(code)
        self._history.saw_high_watermark(partition, answer.high_watermark, epoch=epoch, at_least=at_least)
        try:
            for batch in parse_batches(answer.records or b""):
                self.positions[partition] = self._history.read(
                    partition, self.positions[partition], batch, reader=self._name
                )
        except BadBatch as error:
            self._history.violation(f"{self._name}: partition {partition}: {error}")
        if self.positions[partition] > answer.high_watermark:
            self._history.violation(
                f"{self._name}: partition {partition} was served up to {self.positions[partition]}, above the high "
                f"watermark {answer.high_watermark}"
            )

    async def _start_over(self, partition: int) -> None:
        position = self.positions[partition]
        earliest = await self._client.list_offset(self._topic, partition, EARLIEST)
        if position >= earliest:
            self._history.violation(f"{self._name}: partition {partition} does not know offset {position} any more")
        if earliest > self._history.trims[partition]:
            self._history.violation(f"{self._name}: partition {partition} begins at {earliest}; nobody deleted so much")
        self.positions[partition] = max(position, earliest)


class Trimmer:
    """Deletes the older part of a partition now and then, as DeleteRecords does."""

    def __init__(self, client: SimClient, dice: random.Random, history: History, *, topic: str, partition: int) -> None:
        self._client = client
        self._dice = dice
        self._history = history
        self._topic = topic
        self._partition = partition
        self.stopping = False

    async def run(self) -> None:
        """Delete until told to stop, and then until the last one is answered."""
        while True:
            await asyncio.sleep(self._dice.uniform(1, 8))
            if self.stopping:
                return
            end = self._history.high_watermarks[self._partition]
            target = int(end * self._dice.uniform(0, 0.7))
            if target > self._history.trims[self._partition]:
                self._history.trims[self._partition] = target
                await until_done(
                    lambda target=target: self.delete(target),
                    dice=self._dice,
                    history=self._history,
                    what="DeleteRecords",
                )
                self._history.trimmed[self._partition] = target

    async def delete(self, offset: int) -> None:
        """Ask for it once. Raises CallFailed, ErrorAnswered."""
        address = await self._client.leader(self._topic, self._partition)
        topic = DeleteRecordsTopic(
            name=self._topic,
            partitions=[DeleteRecordsPartition(partition_index=self._partition, offset=offset)],
        )
        try:
            response: DeleteRecordsResponse = await self._client.call(
                address, ApiKey.DELETE_RECORDS, 2, DeleteRecordsRequest(topics=[topic], timeout=6000)
            )
            code = response.topics[0].partitions[0].error_code
            if code and self._history.is_stale(address):
                raise CallFailed("refused by a process that has been superseded")
            if code:
                raise ErrorAnswered(code)
        except (CallFailed, ErrorAnswered):
            self._client.forget_leader(self._topic, self._partition)
            raise
