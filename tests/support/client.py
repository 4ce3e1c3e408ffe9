"""A minimal Kafka client on our own codec, for simulations: connections, metadata, and calls that may fail.

It behaves as real clients do where that matters to a broker: requests of one connection are pipelined, a request that
gets no answer in time costs the whole connection, leaders are looked up again after an error.
"""

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from automq.protocol.apis import APIS, ApiKey, encode_request
from automq.protocol.codec import decode_whole
from automq.protocol.errors import ErrorCode
from automq.protocol.messages.admin import (
    CreatableTopic,
    CreatableTopicConfig,
    CreateTopicsRequest,
    CreateTopicsResponse,
)
from automq.protocol.messages.discovery import MetadataRequest, MetadataRequestTopic, MetadataResponse
from automq.protocol.messages.fetch import (
    FetchableTopicResponse,
    FetchPartition,
    FetchRequest,
    FetchResponse,
    FetchTopic,
    ListOffsetsPartition,
    ListOffsetsRequest,
    ListOffsetsResponse,
    ListOffsetsTopic,
    PartitionData,
)
from automq.protocol.messages.transaction import InitProducerIdRequest, InitProducerIdResponse
from automq.protocol.schema import Message
from tests.support.network import SimNetwork, SimTransport

Address = tuple[str, int]

LATEST, EARLIEST = -1, -2


class CallFailed(Exception):
    """No answer: refused, broken off, or too late. Whether the broker did it is unknown."""


class ErrorAnswered(Exception):
    """The broker answered with an error."""

    def __init__(self, code: int) -> None:
        super().__init__(ErrorCode(code).name)
        self.code = ErrorCode(code)


class ClientConnection(asyncio.Protocol):
    """One connection: frames out, frames in, matched by correlation id."""

    def __init__(self) -> None:
        self.lost = False
        self._transport: SimTransport | None = None
        self._buffer = bytearray()
        self._pending: dict[int, asyncio.Future[bytes]] = {}
        self._next_id = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, SimTransport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        while len(buffer) >= 4:
            end = 4 + int.from_bytes(buffer[:4], "big")
            if len(buffer) < end:
                return
            frame = bytes(buffer[4:end])
            del buffer[:end]
            waiter = self._pending.pop(int.from_bytes(frame[:4], "big"), None)
            assert waiter is not None, "an answer to nothing that was asked"
            if not waiter.done():
                waiter.set_result(frame)

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self.lost = True
        pending, self._pending = self._pending, {}
        for waiter in pending.values():
            if not waiter.done():
                waiter.set_exception(CallFailed("the connection broke"))
                waiter.exception()

    def pause(self) -> None:
        """Read nothing until `resume`, as a program that is busy elsewhere."""
        assert self._transport is not None
        self._transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        assert self._transport is not None
        self._transport.resume_reading()

    def close(self) -> None:
        """Give up on everything that was asked."""
        if self._transport is not None:
            self._transport.abort()
        self.connection_lost(None)

    def send(self, key: ApiKey, version: int, client_id: str, request: Message) -> asyncio.Future[bytes]:
        """Send at once; the future is the answer's frame."""
        waiter: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        if self.lost or self._transport is None:
            waiter.set_exception(CallFailed("the connection is broken"))
            waiter.exception()
            return waiter
        self._next_id += 1
        self._pending[self._next_id] = waiter
        self._transport.write(encode_request(APIS[key], version, self._next_id, client_id, request))
        return waiter


class SimClient:
    """One client program: it knows a few addresses, and learns the rest from metadata."""

    def __init__(
        self, network: SimNetwork, dice: random.Random, *, client_id: str, bootstrap: Callable[[], Sequence[Address]]
    ) -> None:
        self.client_id = client_id
        self.leaders: dict[tuple[str, int], Address] = {}
        self.leader_epochs: dict[tuple[str, int], int] = {}
        """Newest ever heard of: older metadata comes from a broker that does not know of its successor yet."""
        self.partition_count: dict[str, int] = {}
        self.call_timeout_s = 8.0
        self._network = network
        self._dice = dice
        self._bootstrap = bootstrap
        self._connections: dict[Address, ClientConnection] = {}

    async def connection(self, address: Address) -> ClientConnection:
        """An open connection to `address`. Raises CallFailed."""
        known = self._connections.get(address)
        if known is not None and not known.lost:
            return known
        made = ClientConnection()
        try:
            async with asyncio.timeout(self.call_timeout_s):
                await self._network.connect(*address, made)
        except ConnectionRefusedError as error:
            raise CallFailed(str(error)) from error
        except TimeoutError as error:
            raise CallFailed(f"no connection to {address} in {self.call_timeout_s} s") from error
        other = self._connections.get(address)
        if other is not None and not other.lost:
            made.close()
            return other
        self._connections[address] = made
        return made

    def disconnect(self, address: Address) -> None:
        """Close the connection to `address`, if any."""
        known = self._connections.pop(address, None)
        if known is not None:
            known.close()

    async def call(self, address: Address, key: ApiKey, version: int, request: Message) -> Any:
        """The response. Raises CallFailed; a late answer costs the connection."""
        connection = await self.connection(address)
        return await self.answer(address, key, version, connection.send(key, version, self.client_id, request))

    async def answer(self, address: Address, key: ApiKey, version: int, sent: asyncio.Future[bytes]) -> Any:
        """Wait for what `ClientConnection.send` returned, and decode it. Raises CallFailed."""
        try:
            async with asyncio.timeout(self.call_timeout_s):
                frame = await sent
        except TimeoutError as error:
            self.disconnect(address)
            raise CallFailed(f"{key.name}: no answer in {self.call_timeout_s} s") from error
        api = APIS[key]
        # A flexible header is the correlation id and an empty list of tags.
        body = 5 if api.response_header_version(version) else 4
        return decode_whole(api.response_class, version, frame, body)

    def any_address(self) -> Address:
        """Somebody to ask first. Raises CallFailed when there is nobody."""
        addresses = list(self._bootstrap())
        if not addresses:
            raise CallFailed("no broker is known")
        return self._dice.choice(addresses)

    async def refresh(self, topics: Sequence[str]) -> MetadataResponse:
        """Learn the leaders of `topics`. Raises CallFailed."""
        request = MetadataRequest(
            topics=[MetadataRequestTopic(name=name) for name in topics], allow_auto_topic_creation=False
        )
        response: MetadataResponse = await self.call(self.any_address(), ApiKey.METADATA, 12, request)
        addresses = {broker.node_id: (broker.host, broker.port) for broker in response.brokers}
        for topic in response.topics:
            if topic.error_code or topic.name is None:
                continue
            self.partition_count[topic.name] = len(topic.partitions)
            for partition in topic.partitions:
                where = (topic.name, partition.partition_index)
                if partition.leader_epoch < self.leader_epochs.get(where, -1):
                    continue
                self.leader_epochs[where] = partition.leader_epoch
                if partition.leader_id in addresses:
                    self.leaders[where] = addresses[partition.leader_id]
                else:
                    self.leaders.pop(where, None)
        return response

    async def leader(self, topic: str, partition: int) -> Address:
        """Who owns the partition, as far as is known. Raises CallFailed."""
        if (topic, partition) not in self.leaders:
            await self.refresh([topic])
        address = self.leaders.get((topic, partition))
        if address is None:
            raise CallFailed(f"{topic}-{partition} has no leader")
        return address

    def forget_leader(self, topic: str, partition: int) -> None:
        """Ask for metadata before the next call to it."""
        self.leaders.pop((topic, partition), None)

    async def create_topic(self, name: str, partitions: int, configs: Mapping[str, str]) -> None:
        """Create a topic; that it exists is fine. Raises CallFailed, ErrorAnswered."""
        topic = CreatableTopic(
            name=name,
            num_partitions=partitions,
            replication_factor=1,
            configs=[CreatableTopicConfig(name=key, value=value) for key, value in configs.items()],
        )
        response: CreateTopicsResponse = await self.call(
            self.any_address(), ApiKey.CREATE_TOPICS, 7, CreateTopicsRequest(topics=[topic], timeout=5000)
        )
        code = response.topics[0].error_code
        if code not in (ErrorCode.NONE, ErrorCode.TOPIC_ALREADY_EXISTS):
            raise ErrorAnswered(code)

    async def init_producer_id(self) -> tuple[int, int]:
        """A producer id and epoch. Raises CallFailed, ErrorAnswered."""
        response: InitProducerIdResponse = await self.call(
            self.any_address(), ApiKey.INIT_PRODUCER_ID, 4, InitProducerIdRequest(transaction_timeout=60000)
        )
        if response.error_code:
            raise ErrorAnswered(response.error_code)
        return response.producer_id, response.producer_epoch

    async def list_offset(self, topic: str, partition: int, timestamp: int) -> int:
        """The offset of a (special) time. Raises CallFailed, ErrorAnswered."""
        address = await self.leader(topic, partition)
        request = ListOffsetsRequest(
            replica_id=-1,
            topics=[
                ListOffsetsTopic(
                    name=topic,
                    partitions=[
                        ListOffsetsPartition(
                            partition_index=partition,
                            timestamp=timestamp,
                            current_leader_epoch=self.leader_epochs.get((topic, partition), -1),
                        )
                    ],
                )
            ],
        )
        response: ListOffsetsResponse = await self.call(address, ApiKey.LIST_OFFSETS, 5, request)
        answer = response.topics[0].partitions[0]
        if answer.error_code:
            raise ErrorAnswered(answer.error_code)
        return answer.offset

    async def fetch(
        self, topic: str, partition: int, offset: int, *, max_bytes: int = 65536, max_wait_ms: int = 500
    ) -> PartitionData:
        """What is at `offset`, waiting a while for it. Raises CallFailed, ErrorAnswered."""
        address = await self.leader(topic, partition)
        (answer,) = await self.fetch_many(address, topic, {partition: offset}, max_bytes, max_wait_ms=max_wait_ms)
        if answer.error_code:
            raise ErrorAnswered(answer.error_code)
        return answer

    async def fetch_many(
        self, address: Address, topic: str, positions: Mapping[int, int], max_bytes: int, *, max_wait_ms: int = 500
    ) -> list[PartitionData]:
        """Several partitions of one leader. Raises CallFailed, ErrorAnswered for the request as a whole."""
        partitions = [
            FetchPartition(
                partition=partition,
                fetch_offset=offset,
                partition_max_bytes=max_bytes,
                current_leader_epoch=self.leader_epochs.get((topic, partition), -1),
            )
            for partition, offset in positions.items()
        ]
        request = FetchRequest(
            max_wait=max_wait_ms,
            min_bytes=1,
            max_bytes=4 * max_bytes,
            topics=[FetchTopic(topic=topic, partitions=partitions)],
        )
        response: FetchResponse = await self.call(address, ApiKey.FETCH, 12, request)
        if response.error_code:
            raise ErrorAnswered(response.error_code)
        topics: list[FetchableTopicResponse] = response.responses
        return [partition for answered in topics for partition in answered.partitions]
