"""A data path whose store can be held, with one client connected: for tests of connections."""

import asyncio
from collections.abc import Mapping
from typing import Any

from automq.runtime.ledger import Account
from automq.s3stream.store.memory import MemoryStore
from automq.server.network.host import ListenerSettings
from tests.support.data_path import DataPath, MemoryTransport
from tests.support.engine import HeldStore


class Gate:
    """A store that holds every write until it is opened."""

    def __init__(self) -> None:
        self.store = HeldStore(MemoryStore())
        self.open = asyncio.Event()
        self.store.before = self._before

    async def _before(self, name: str, key: str) -> None:
        if name in ("create", "create_bulk"):
            await self.open.wait()


async def a_path(
    *, store: Any = None, memory: Mapping[Account, int] | None = None, **settings: Any
) -> tuple[DataPath, MemoryTransport]:
    """A topic, and a client of it; `settings` are the listener's."""
    path = await DataPath(store=store, memory=memory, listener=ListenerSettings(**settings)).start()
    path.create_topic()
    return path, path.connect()
