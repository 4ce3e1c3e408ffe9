"""More connections than a process may open, against a real one: those that are there and the store go on."""

import contextlib
import pathlib
import socket
import struct
from collections.abc import Iterator

import pytest

from automq.protocol.apis import ApiKey
from automq.protocol.messages.admin import CreatableTopic, CreateTopicsRequest
from automq.server.network.admission import RESERVE_MIN
from tests.support.batches import build_batch
from tests.support.data_path import produce_request
from tests.support.process import Broker
from tests.support.raw_client import RawClient

DESCRIPTORS = 256


@pytest.fixture
def broker(tmp_path: pathlib.Path) -> Iterator[Broker]:
    broker = Broker(tmp_path / "broker")
    broker.descriptors = DESCRIPTORS
    broker.start()
    yield broker
    broker.stop()


def is_open(client: socket.socket) -> bool:
    """Whether the broker has kept it: it answers a request."""
    client.settimeout(10)
    try:
        client.sendall(struct.pack(">ihhih", 10, ApiKey.API_VERSIONS, 0, 1, -1))
        return bool(client.recv(1))
    except OSError:
        return False


def test_b4_more_clients_than_descriptors_leave_the_store_its_own(broker: Broker) -> None:
    host, port = broker.address.rsplit(":", 1)
    with contextlib.ExitStack() as stack:
        first = RawClient(broker.address)
        clients = [stack.enter_context(socket.create_connection((host, int(port)), timeout=10)) for _ in range(400)]
        kept = sum(map(is_open, clients))
        assert kept == DESCRIPTORS - RESERVE_MIN - 1

        created = first.call(
            ApiKey.CREATE_TOPICS,
            5,
            CreateTopicsRequest(topics=[CreatableTopic(name="orders", num_partitions=3, replication_factor=1)]),
        )
        assert [topic.error_code for topic in created.topics] == [0]
        answer = first.call(ApiKey.PRODUCE, 9, produce_request(build_batch([b"v"], timestamp_ms=0)))
        assert answer.responses[0].partition_responses[0].error_code == 0
        first.close()

    assert broker.metric("automq_connections_over_limit_total", setting="max.connections") == 400 - kept
    log = (broker.folder / "broker.log").read_text()
    assert "connections are taken" in log
    assert f"{DESCRIPTORS - RESERVE_MIN}" in log
    assert log.count("connections closed: there are too many") == 1
