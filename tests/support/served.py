"""A whole broker in this process, on a store in memory, that clients in memory connect to."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import cast

from automq.handlers.context import Services
from automq.protocol.messages.admin import CreatableTopic, CreatableTopicConfig, CreateTopicsRequest
from automq.s3stream.ports import ObjectStorage
from automq.s3stream.store.memory import MemoryStore
from automq.server.broker import Broker
from automq.server.lifecycle.states import State
from automq.server.network.connection import Connection
from automq.server.network.listener import KafkaServer
from tests.support.data_path import MemoryTransport
from tests.support.quiet_platform import QuietNetwork, quiet_broker

CREATE_TOPICS = 19


class Served:
    """A broker that serves."""

    def __init__(self, broker: Broker, network: QuietNetwork) -> None:
        self.broker = broker
        self._network = network

    @property
    def server(self) -> KafkaServer:
        assert self.broker._components is not None
        server = self.broker._components.server
        assert server is not None
        return server

    @property
    def services(self) -> Services:
        return self.server.services

    def connect(self) -> MemoryTransport:
        """A client."""
        factory = self._network.bound[9092].factory
        assert factory is not None
        return MemoryTransport(cast(Connection, factory()))

    async def create(self, name: str, partitions: int = 1, **configs: str) -> None:
        """A topic; `__` in a keyword stands for a dot."""
        topic = CreatableTopic(
            name=name,
            num_partitions=partitions,
            replication_factor=1,
            configs=[CreatableTopicConfig(name=key.replace("__", "."), value=value) for key, value in configs.items()],
        )
        client = self.connect()
        answer = await client.call(CREATE_TOPICS, 7, CreateTopicsRequest(topics=[topic], timeout=30_000))
        assert [result.error_code for result in answer.topics] == [0], answer
        client.disconnect()


@contextlib.asynccontextmanager
async def served(store: ObjectStorage | None = None, **settings: str) -> AsyncIterator[Served]:
    """A broker from its start to its end; `__` in a setting stands for a dot."""
    network = QuietNetwork()
    broker = quiet_broker(MemoryStore() if store is None else store, network=network, **settings)
    running = asyncio.ensure_future(broker.run())
    try:
        async with asyncio.timeout(60):
            while broker.lifecycle.state is not State.SERVING:
                assert not running.done()
                await asyncio.sleep(0.05)
        yield Served(broker, network)
    finally:
        broker.stop()
        broker.stop()
        await asyncio.wait({running})
