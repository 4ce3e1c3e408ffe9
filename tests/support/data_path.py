"""A broker's data path in a world of its own: engine, partitions and connections, with the image made by hand.

`MemoryTransport` is a client's end of a connection without a network: what is fed arrives at once, what the broker
writes is kept in the order it left.
"""

import asyncio
import itertools
import struct
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

from immutables import Map

from automq.handlers.broker_configs import BrokerConfigs
from automq.handlers.context import Services
from automq.handlers.producer_ids import ProducerIds
from automq.ids import NodeId, Offset, StreamEpoch, StreamId, TopicId
from automq.metadata.image import (
    TOPIC_RESOURCE,
    BrokerImage,
    Endpoint,
    MetadataImage,
    PartitionImage,
    TopicImage,
)
from automq.metadata.publisher import MetadataPublisher
from automq.partition.content_worker import ContentWorker
from automq.partition.fetch_session import FetchSessions
from automq.partition.manager import PartitionManager, PartitionSettings
from automq.protocol.apis import APIS, ApiKey, encode_request
from automq.protocol.codec import decode_whole
from automq.protocol.messages.fetch import FetchPartition, FetchRequest, FetchTopic
from automq.protocol.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from automq.protocol.schema import Message
from automq.runtime.entropy import SeededEntropy
from automq.runtime.ledger import Account
from automq.runtime.tasks import Tasks
from automq.runtime.wall_time import WallTimeGuard
from automq.runtime.workers import InlineWorkers, P, T
from automq.s3stream.settings import StorageSettings
from automq.s3stream.store.memory import MemoryStore
from automq.server.network.connection import Connection
from automq.server.network.dispatch import DispatchTable
from automq.server.network.host import ListenerSettings
from automq.server.network.listener import KafkaServer
from tests.support.engine import CLUSTER, NODE, SMALL, Engine, Ledger

TOPIC = "orders"
SIZE = struct.Struct(">i")


def _image(engine: Engine) -> MetadataImage:
    """Two brokers: this one, and another."""
    return MetadataImage(
        broker_map=Map(
            {
                NODE: BrokerImage(
                    node=NODE, epoch=engine.me[1], rack=None, endpoints=(Endpoint("CLIENT", "here", 9092),)
                ),
                NodeId(9): BrokerImage(
                    node=NodeId(9),
                    epoch=engine.me[1],
                    rack=None,
                    endpoints=(Endpoint("CLIENT", "there", 1),),
                ),
            }
        ),
    )


class CountedWorkers(InlineWorkers):
    """Counts what it is asked to do."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    async def run(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        self.calls.append(function.__name__)
        await asyncio.sleep(0)
        return await super().run(function, *args, **kwargs)


class DataPath:
    """One broker without controller and coordinators."""

    def __init__(
        self,
        *,
        storage: StorageSettings = SMALL,
        memory: Mapping[Account, int] | None = None,
        listener: ListenerSettings | None = None,
        partitions: PartitionSettings | None = None,
        engine: Engine | None = None,
        store: Any = None,
    ) -> None:
        self.store = MemoryStore() if store is None else store
        self.engine = Engine(Ledger(), self.store, settings=storage, memory=memory) if engine is None else engine
        self.ledger = self.engine.ledger
        self.crashes: list[str] = []
        self.tasks = Tasks("data path", on_crash=lambda name, error: self.crashes.append(f"{name}: {error!r}"))
        self.metadata = MetadataPublisher(_image(self.engine))
        clock, entropy = self.engine.storage.read.clock, SeededEntropy("data path")
        self.clock = clock
        self.workers = CountedWorkers()
        contents = ContentWorker(self.workers, self.engine.memory[Account.RECEIVE])
        self.partitions = PartitionManager(
            node=NODE,
            storage=self.engine.storage,
            metadata=self.metadata,
            settings=PartitionSettings() if partitions is None else partitions,
            clock=clock,
            aging=WallTimeGuard(clock, self.engine.metrics),
            entropy=entropy,
            tasks=self.tasks,
            contents=contents,
            metrics=self.engine.metrics,
        )
        table = DispatchTable()
        self.services = Services(
            node=NODE,
            cluster_id=CLUSTER,
            clock=clock,
            entropy=entropy,
            metadata=self.metadata,
            controller=cast(Any, SimpleNamespace(leader=None)),
            partitions=self.partitions,
            groups=cast(Any, None),
            fetch_sessions=FetchSessions(),
            broker_configs=BrokerConfigs(entries={}, topic_defaults={}),
            producer_ids=cast(ProducerIds, None),
            api_versions=table.api_versions,
        )
        self.server = KafkaServer(
            table=table,
            services=self.services,
            storage=self.engine.storage,
            ledger=self.engine.memory,
            settings=ListenerSettings() if listener is None else listener,
            contents=contents,
            tasks=self.tasks,
            metrics=self.engine.metrics,
        )

    async def start(self) -> "DataPath":
        """Open what the image has and take connections."""
        self.engine.storage.start()
        await self.partitions.start()
        self.server.start()
        return self

    async def close(self) -> None:
        """End everything; a background task that crashed is an error."""
        self.server.close()
        self.partitions.close()
        await self.engine.storage.close(upload=False)
        await self.tasks.close()
        await self.engine.tasks.close()
        assert self.crashes + self.engine.crashes == []

    def create_topic(
        self, name: str = TOPIC, partitions: int = 1, *, configs: Mapping[str, str] | None = None, leader: NodeId = NODE
    ) -> TopicImage:
        """A topic in the image, with its streams in the ledger."""
        image = self.metadata.image
        first = image.next_stream
        topic = TopicImage(
            topic_id=TopicId(uuid.uuid5(uuid.NAMESPACE_URL, name)),
            name=name,
            is_internal=False,
            replication_factor=1,
            partitions=tuple(
                PartitionImage(index=index, stream=StreamId(first + index), leader=leader, leader_epoch=StreamEpoch(0))
                for index in range(partitions)
            ),
        )
        for partition in topic.partitions:
            self.ledger.create_stream(partition.stream, owner=leader)
        self.publish(
            replace(
                image,
                topic_map=image.topic_map.set(topic.topic_id, topic),
                topic_ids=image.topic_ids.set(name, topic.topic_id),
                configs=image.configs.set((TOPIC_RESOURCE, name), Map(configs)) if configs else image.configs,
                next_stream=StreamId(first + partitions),
            )
        )
        return topic

    def replace_topic(self, topic: TopicImage) -> None:
        """Another version of the topic in the image."""
        image = self.metadata.image
        self.publish(replace(image, topic_map=image.topic_map.set(topic.topic_id, topic)))

    def set_configs(self, name: str, configs: Mapping[str, str]) -> None:
        """Other configs of the topic in the image."""
        image = self.metadata.image
        self.publish(replace(image, configs=image.configs.set((TOPIC_RESOURCE, name), Map(configs))))

    def publish(self, image: MetadataImage) -> None:
        """The next image."""
        self.metadata.replace(replace(image, record_number=self.metadata.image.record_number + 1))

    def connect(self) -> "MemoryTransport":
        """A client."""
        return MemoryTransport(cast(Connection, self.server.protocol_factory("CLIENT")()))


class MemoryTransport(asyncio.Transport):
    """A client and its connection. `is_slow` keeps what is written in the transport until `drain`."""

    def __init__(self, connection: Connection) -> None:
        super().__init__({"peername": ("client", 1), "socket": None})
        self.connection = connection
        self.client_id = "test"
        self.written = bytearray()
        self.is_slow = False
        self.is_reading = lambda: self._reading  # type: ignore[method-assign]
        self.was_lost = False
        self._reading = True
        self._closing = False
        self._held = bytearray()
        self._incoming = bytearray()
        self._ids = itertools.count(1)
        self._answers: dict[int, tuple[int, int]] = {}
        self.order: list[int] = []
        """Correlation ids of the answers, as they came."""
        connection.connection_made(self)

    # The client's side.

    def send(self, key: ApiKey, version: int, request: Message) -> int:
        """Send a request; its correlation id."""
        correlation_id = next(self._ids)
        self._answers[correlation_id] = (key, version)
        self.feed(encode_request(APIS[key], version, correlation_id, self.client_id, request))
        return correlation_id

    def feed(self, data: bytes) -> None:
        """Bytes arrive."""
        self._incoming += data
        self._hand_over()

    def _hand_over(self) -> None:
        while self._incoming and self._reading and not self._closing:
            buffer = self.connection.get_buffer(-1)
            count = min(len(buffer), len(self._incoming))
            buffer[:count] = self._incoming[:count]
            del self._incoming[:count]
            self.connection.buffer_updated(count)

    def frames(self) -> list[bytes]:
        """Whole answers that came so far; they are taken away."""
        frames = []
        while len(self.written) >= 4:
            (size,) = SIZE.unpack_from(self.written)
            if len(self.written) < 4 + size:
                break
            frames.append(bytes(self.written[4 : 4 + size]))
            del self.written[: 4 + size]
        return frames

    def answers(self) -> dict[int, Any]:
        """Answers that came so far, by correlation id; they are taken away."""
        found = {}
        for frame in self.frames():
            correlation_id = int.from_bytes(frame[:4], "big", signed=True)
            key, version = self._answers.pop(correlation_id)
            api = APIS[ApiKey(key)]
            offset = 4 + api.response_header_version(version)
            found[correlation_id] = decode_whole(api.response_class, version, memoryview(frame), offset)
            self.order.append(correlation_id)
        return found

    async def answer(self, correlation_id: int) -> Any:
        """Wait for one answer; others that come before it must have been asked for."""
        for _ in range(2000):
            found = self.answers()
            if correlation_id in found:
                return found[correlation_id]
            assert not self.was_lost, "the connection was closed"
            await asyncio.sleep(0.001)
        raise AssertionError(f"no answer to request {correlation_id}")

    async def call(self, key: ApiKey, version: int, request: Message) -> Any:
        """Send, and wait for the answer."""
        return await self.answer(self.send(key, version, request))

    def disconnect(self) -> None:
        """The client is gone."""
        self._closing = True
        self._lose()

    def drain(self) -> None:
        """A slow client takes everything."""
        while self._held:
            self.written += self._held
            self._held.clear()
            self.connection.resume_writing()

    # The connection's side.

    def pause_reading(self) -> None:
        self._reading = False

    def resume_reading(self) -> None:
        self._reading = True
        asyncio.get_running_loop().call_soon(self._hand_over)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        assert high == 0

    def get_write_buffer_size(self) -> int:
        return len(self._held)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._closing:
            return
        if self.is_slow:
            self._held += data
            self.connection.pause_writing()
        else:
            self.written += data

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        self.write(b"".join(list_of_data))

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        self.abort()

    def abort(self) -> None:
        if not self._closing:
            self._closing = True
            asyncio.get_running_loop().call_soon(self._lose)

    def _lose(self) -> None:
        if not self.was_lost:
            self.was_lost = True
            self.connection.connection_lost(None)


def produce_request(
    *batches: bytes | bytearray,
    topic: TopicImage | str = TOPIC,
    acks: int = -1,
    timeout: int = 30_000,
    partition: int = 0,
) -> ProduceRequest:
    """One batch for each partition, from `partition` on."""
    return ProduceRequest(
        acks=acks,
        timeout=timeout,
        topic_data=[
            TopicProduceData(
                name=topic if isinstance(topic, str) else topic.name,
                partition_data=[
                    PartitionProduceData(index=partition + index, records=memoryview(batch))
                    for index, batch in enumerate(batches)
                ],
                **({} if isinstance(topic, str) else {"topic_id": topic.topic_id}),
            )
        ],
    )


def fetch_request(
    *offsets: int,
    topic: TopicImage | str = TOPIC,
    max_wait: int = 0,
    min_bytes: int = 1,
    max_bytes: int = 50_000_000,
    partition_max_bytes: int = 1_000_000,
    session_id: int = 0,
    session_epoch: int = -1,
    isolation_level: int = 0,
) -> FetchRequest:
    """Partitions 0, 1, ... from these offsets on."""
    return FetchRequest(
        max_wait=max_wait,
        min_bytes=min_bytes,
        max_bytes=max_bytes,
        isolation_level=isolation_level,
        session_id=session_id,
        session_epoch=session_epoch,
        topics=[
            FetchTopic(
                topic=topic if isinstance(topic, str) else topic.name,
                partitions=[
                    FetchPartition(
                        partition=index, fetch_offset=Offset(offset), partition_max_bytes=partition_max_bytes
                    )
                    for index, offset in enumerate(offsets)
                ],
                **({} if isinstance(topic, str) else {"topic_id": topic.topic_id}),
            )
        ]
        if offsets
        else [],
    )
