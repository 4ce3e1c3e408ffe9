"""TCP proxies between brokers, and between brokers and their store, that cut and slow down what passes.

Every broker has an entrance of its own for the other brokers, and a way of its own to the store. Who comes in at an
entrance is told from the process that holds the other end of the connection, so that each pair of brokers, and each
direction of it, can be cut alone. What a cut holds back is delivered late, or never where it ends with `reset`.
"""

import asyncio
import contextlib
import os
import pathlib
import random
import socket
import struct
import threading
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Any

CHUNK_BYTES = 1 << 16
LOOK_S = 0.02
NO_LINGER = struct.pack("ii", 1, 0)
STORE = 0
"""The store's place among node ids."""
BUSY_BODY = b"<Error><Code>SlowDown</Code><Message>injected by a test</Message></Error>"
BUSY_ANSWER = b"HTTP/1.1 503 Slow Down\r\nContent-Type: application/xml\r\nContent-Length: %d\r\n\r\n%s" % (
    len(BUSY_BODY),
    BUSY_BODY,
)


@dataclass(frozen=True, slots=True)
class Trouble:
    """What happens to the connections of one pair."""

    is_refused: bool = False
    """New connections are closed at once, and open ones when it begins."""
    holds_requests: bool = False
    """Nothing passes from who connects to who listens."""
    holds_answers: bool = False
    """Nothing passes the other way."""
    delay_s: float = 0.0
    """Each piece of data comes so much later."""
    busy_share: float = 0.0
    """Of the requests, by HTTP, that are answered 503."""


HEALTHY = Trouble()
SILENCE = Trouble(holds_requests=True, holds_answers=True)


@dataclass(eq=False, slots=True)
class Connection:
    """One connection through a proxy, from `source` to `target`."""

    source: int
    target: int
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    def close(self) -> None:
        """What was taken is delivered yet."""
        for writer in self.writers:
            writer.close()

    def reset(self) -> None:
        for writer in self.writers:
            with contextlib.suppress(OSError):  # closed already
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
            writer.transport.abort()


class Wires:
    """All proxies of a run, in a thread of their own. Its methods are called from outside of it."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice
        self._loop = asyncio.new_event_loop()
        self._troubles: dict[tuple[int, int], Trouble] = {}
        self._connections: set[Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._servers: list[asyncio.Server] = []
        self._thread = threading.Thread(target=self._loop.run_forever, name="wires", daemon=True)
        self._thread.start()
        self.pids: Callable[[], dict[int, int]] = dict
        """Node id of each broker process that runs."""

    def close(self) -> None:
        """Ends all connections."""
        self._call(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def entrance(self, target: int, target_port: int, port: int) -> None:
        """Listen on `port` for the other brokers, for broker `target`, which listens on `target_port`."""
        self._call(self._listen(port, self._node_of, target, target_port))

    def way_to_store(self, source: int, store_port: int, port: int) -> None:
        """Listen on `port` for broker `source`; the store listens on `store_port`."""
        self._call(self._listen(port, lambda _: source, STORE, store_port))

    def begin(self, trouble: Trouble, pairs: Iterable[tuple[int, int]]) -> None:
        """From now on for connections of these (source, target)."""
        wanted = set(pairs)

        async def change() -> None:
            self._troubles.update(dict.fromkeys(wanted, trouble))
            if trouble.is_refused or trouble.busy_share:
                self._reset(wanted)

        self._call(change())

    def end(self, pairs: Iterable[tuple[int, int]], *, reset: bool) -> None:
        """All is well again; with `reset` what is open breaks, and what was held back is lost."""
        wanted = set(pairs)

        async def change() -> None:
            busy = {pair for pair in wanted if self._troubles.get(pair, HEALTHY).busy_share}
            if reset:
                self._reset(wanted)
            self._reset(busy)
            for pair in wanted:
                self._troubles.pop(pair, None)

        self._call(change())

    def _call(self, what: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(what, self._loop).result(60)

    async def _close(self) -> None:
        for server in self._servers:
            server.close()
        for task in self._tasks:
            task.cancel()
        self._reset({(each.source, each.target) for each in self._connections})
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _reset(self, pairs: set[tuple[int, int]]) -> None:
        for connection in list(self._connections):
            if (connection.source, connection.target) in pairs:
                connection.reset()

    def _node_of(self, writer: asyncio.StreamWriter) -> int:
        """Who connected; -1 for a process that has ended meanwhile."""
        return owner_of(writer.get_extra_info("peername")[1], self.pids())

    async def _listen(
        self, port: int, source_of: Callable[[asyncio.StreamWriter], int], target: int, target_port: int
    ) -> None:
        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connection = Connection(source_of(writer), target, [writer])
            task = self._loop.create_task(self._serve(connection, reader, target_port))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        self._servers.append(await asyncio.start_server(accept, "127.0.0.1", port))

    def _trouble(self, connection: Connection) -> Trouble:
        return self._troubles.get((connection.source, connection.target), HEALTHY)

    async def _serve(self, connection: Connection, reader: asyncio.StreamReader, target_port: int) -> None:
        self._connections.add(connection)
        try:
            trouble = self._trouble(connection)
            if trouble.is_refused:
                return
            if self._dice.random() < trouble.busy_share:
                await self._answer_busy(connection, reader)
                return
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", target_port)
            connection.writers.append(far_writer)
            near_writer = connection.writers[0]
            pumps = [
                self._loop.create_task(self._pump(connection, reader, far_writer, is_answer=False)),
                self._loop.create_task(self._pump(connection, far_reader, near_writer, is_answer=True)),
            ]
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
        except OSError:
            pass
        finally:
            connection.close()
            self._connections.discard(connection)

    async def _pump(
        self, connection: Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_answer: bool
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(CHUNK_BYTES):
                if delay_s := self._trouble(connection).delay_s:
                    await asyncio.sleep(delay_s)
                while self._holds(connection, is_answer=is_answer):
                    await asyncio.sleep(LOOK_S)
                writer.write(data)
                await writer.drain()

    def _holds(self, connection: Connection, *, is_answer: bool) -> bool:
        trouble = self._trouble(connection)
        return trouble.holds_answers if is_answer else trouble.holds_requests

    async def _answer_busy(self, connection: Connection, reader: asyncio.StreamReader) -> None:
        """One request, read whole: a client that is not listened to sees a broken connection and no 503."""
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            head = await reader.readuntil(b"\r\n\r\n")
            fields = dict(line.lower().partition(b": ")[::2] for line in head.split(b"\r\n")[1:])
            writer = connection.writers[0]
            if fields.get(b"expect") == b"100-continue":
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            await reader.readexactly(int(fields.get(b"content-length", b"0")))
            writer.write(BUSY_ANSWER)
            await writer.drain()
            writer.close()
            await writer.wait_closed()


def owner_of(port: int, pids: dict[int, int]) -> int:
    """The node whose process has a connection that begins at this port of 127.0.0.1; -1 when none has it."""
    local = f"0100007F:{port:04X}"
    with open("/proc/net/tcp") as table:
        inodes = {row[9] for row in map(str.split, table) if row[1] == local}
    wanted = {f"socket:[{inode}]" for inode in inodes}
    for node, pid in pids.items():
        with contextlib.suppress(OSError):
            for descriptor in pathlib.Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(OSError):
                    if os.readlink(descriptor) in wanted:
                        return node
    return -1
