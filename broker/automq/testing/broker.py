"""A broker that a test started, with what tests want of it: topics, records, an end and a new start."""

import contextlib
import pathlib
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, Protocol

from automq.cli.admin import create_topics, delete_topics
from automq.cli.client import KafkaClient
from automq.cli.receiving import Reader, Start
from automq.cli.sending import Outgoing, Sender
from automq.protocol.records import Record
from automq.server.config.setting import parse_address
from automq.testing.errors import BrokerDidNotStart

TEST_SETTINGS: Final[Mapping[str, str]] = {
    "group.initial.rebalance.delay.ms": "0",
    "offsets.topic.num.partitions": "1",
    "automq.http.address": "127.0.0.1:0",
    "automq.arena.bytes": str(64 * 1024 * 1024),
}
"""Of every broker that is started for a test, unless the test says otherwise."""

__all__ = ["BrokerDidNotStart", "Host", "TestBroker", "start_broker"]


class Host(Protocol):
    """Where a broker runs."""

    def start(self) -> str:
        """Returns the bootstrap address once it serves. Raises BrokerDidNotStart."""
        ...

    def stop(self) -> None:
        """A clean end; idempotent."""
        ...

    def kill(self) -> None:
        """An end without any tidying, where the host can do that."""
        ...


class TestBroker:
    """A broker that serves. `bootstrap` is what clients are configured with."""

    __test__ = False  # pytest would take it for a class of tests

    def __init__(self, host: Host) -> None:
        self._host = host
        self.bootstrap = host.start()

    def create_topic(self, name: str, *, partitions: int = 1, configs: Mapping[str, str] | None = None) -> str:
        """Create a topic; its name. Raises CommandFailed."""
        with self._client() as client:
            create_topics(
                client,
                [name],
                partitions=partitions,
                replication_factor=1,
                configs=configs or {},
                if_not_exists=False,
            )
        return name

    def delete_topic(self, name: str) -> None:
        """Delete a topic. Raises CommandFailed."""
        with self._client() as client:
            delete_topics(client, [name], if_exists=False)

    def produce(
        self,
        topic: str,
        values: Sequence[bytes | str | None],
        *,
        key: bytes | None = None,
        partition: int | None = None,
    ) -> None:
        """Append a record for each value, acknowledged on return. Raises CommandFailed."""
        records = [
            Outgoing(key=key, value=value.encode() if isinstance(value, str) else value, partition=partition)
            for value in values
        ]
        with self._client() as client:
            Sender(client, topic).send(records)

    def consume(self, topic: str, *, partition: int | None = None) -> list[Record]:
        """Everything that is in a topic now, oldest first in each partition. Raises CommandFailed."""
        with self._client() as client:
            reader = Reader(client, topic, Start(is_earliest=True, partition=partition), on_gap=lambda _text: None)
            records: list[Record] = []
            while not reader.is_at_end:
                records += [record for _, record in reader.read()]
            return records

    def stop(self) -> None:
        """End it cleanly. Its data stay until the test ends."""
        self._host.stop()

    def kill(self) -> None:
        """End it as `kill -9` does. Not for a broker in a thread."""
        self._host.kill()

    def start(self) -> None:
        """Start it again after `stop` or `kill`, at the same address, with the same data."""
        self.bootstrap = self._host.start()

    def _client(self) -> KafkaClient:
        return KafkaClient(parse_address(self.bootstrap))


@contextlib.contextmanager
def start_broker(
    *,
    in_process: bool = False,
    data_folder: pathlib.Path | None = None,
    settings: Mapping[str, str] | None = None,
    bytecode_folder: pathlib.Path | None = None,
) -> Iterator[TestBroker]:
    """A broker that serves, ended with the block. Raises BrokerDidNotStart.

    `in_process` runs it in a thread with its data in memory, else it is a process with its data in `data_folder`, or in
    a folder that is removed at the end. `settings` are the broker's own (docs/broker.md), over those of a test. The
    process keeps its bytecode in `bytecode_folder` where PYTHONDONTWRITEBYTECODE forbids it any other place, so that
    only the first of many compiles itself.
    """
    texts = {**TEST_SETTINGS, **(settings or {})}
    with contextlib.ExitStack() as stack:
        host: Host
        if in_process:
            from automq.testing.thread import ThreadHost

            host = ThreadHost(texts)
        else:
            from automq.testing.process import ProcessHost

            folder = data_folder or pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="automq-")))
            host = ProcessHost(texts, folder, bytecode_folder=bytecode_folder)
        stack.callback(host.stop)
        yield TestBroker(host)


Factory = Callable[..., TestBroker]
"""Starts a broker with settings of its own: `start_broker`'s arguments."""
