"""Recorded frames of real clients and of Apache Kafka: our codecs read all of them, and write the same bytes.

So a mistake that reader and writer of one codec share shows. The batches in them are what real clients make; every
request is also sent to a broker, which answers each one.
"""

import contextlib
import socket

import pytest

from automq.partition.records_work import prepare
from automq.partition.validation import AppendRules
from automq.protocol.apis import APIS, ApiKey, encode_request, encode_response
from automq.protocol.codec import decode, decode_whole
from automq.protocol.connection import parse_head
from automq.protocol.messages.header import ResponseHeader
from automq.protocol.produce_codec import parse_produce_request
from automq.protocol.records import RecordBatch, batches_in, records_in
from automq.server.network.dispatch import DispatchTable
from tests.compat.client_frames import Exchange, clients, recorded
from tests.support.kio_oracle import kio_bytes, kio_read, to_kio
from tests.support.process import Broker

EXPECTED = {
    "aiokafka",
    "java-2.8.2",
    "java-3.9.1",
    "java-4.3.1",
    "kafka-python",
    "kafkajs-2.2.4",
    "librdkafka",
}
ALL = [(client, number, exchange) for client in clients() for number, exchange in enumerate(recorded(client))]
IDS = [f"{client}-{exchange.api.name}-{exchange.version}-{number}" for client, number, exchange in ALL]
each = pytest.mark.parametrize("exchange", [exchange for _, _, exchange in ALL], ids=IDS)
GROUPED = {ApiKey.JOIN_GROUP, ApiKey.SYNC_GROUP, ApiKey.HEARTBEAT, ApiKey.LEAVE_GROUP}
SENT_BYTES_MAX = 1 << 20


def body_at(exchange: Exchange) -> int:
    """Where the request's body begins."""
    return parse_head(memoryview(bytearray(exchange.request))).body_offset


def test_every_client_was_recorded() -> None:
    assert set(clients()) == EXPECTED
    asked = {exchange.api for _, _, exchange in ALL}
    assert asked >= {ApiKey.PRODUCE, ApiKey.FETCH, ApiKey.LIST_OFFSETS, ApiKey.METADATA, ApiKey.OFFSET_COMMIT, *GROUPED}
    assert len({(exchange.api, exchange.version) for _, _, exchange in ALL}) > 50


@each
def test_request_of_a_real_client_is_read_and_written_as_it_was(exchange: Exchange) -> None:
    api = APIS[exchange.api]
    data = memoryview(bytearray(exchange.request))
    head = parse_head(data)
    assert (head.api.key, head.version) == (exchange.api, exchange.version)
    request = decode_whole(api.request_class, exchange.version, data, head.body_offset)
    theirs = kio_read(api.request_class, exchange.version, exchange.request[head.body_offset :])

    assert theirs == to_kio(request, type(theirs))
    assert kio_bytes(request, exchange.version) == exchange.request[head.body_offset :]
    written = encode_request(api, exchange.version, head.correlation_id, head.client_id, request)
    assert bytes(written)[4:] == exchange.request


@each
def test_answer_of_apache_kafka_is_read_and_written_as_it_was(exchange: Exchange) -> None:
    api = APIS[exchange.api]
    data = memoryview(bytearray(exchange.response))
    header, offset = decode(ResponseHeader, api.response_header_version(exchange.version), data)
    answer = decode_whole(api.response_class, exchange.version, data, offset)
    theirs = kio_read(api.response_class, exchange.version, exchange.response[offset:])

    assert theirs == to_kio(answer, type(theirs))
    assert bytes(encode_response(api, exchange.version, header.correlation_id, answer))[4:] == exchange.response


@each
def test_batches_of_real_clients_are_taken_and_read(exchange: Exchange) -> None:
    if exchange.api is not ApiKey.PRODUCE:
        return
    data = memoryview(bytearray(exchange.request))
    request = parse_produce_request(data, body_at(exchange), exchange.version)
    for topic in request.topic_data:
        for asked in topic.partition_data:
            assert asked.records is not None
            (batch,) = batches_in(asked.records)
            prepared = RecordBatch(prepare(asked.records, AppendRules(), 2_000_000_000_000))
            read = list(records_in(prepared, decompressed_bytes_max=SENT_BYTES_MAX))
            assert len(read) == batch.record_count
            assert max(record.timestamp for record in read) == prepared.max_timestamp == batch.max_timestamp


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Broker:
    running = Broker(tmp_path_factory.mktemp("frames"))
    running.start()
    yield running
    running.stop()


@pytest.mark.parametrize("client", sorted(EXPECTED))
def test_every_recorded_request_is_answered(broker: Broker, client: str) -> None:
    host, port = broker.address.rsplit(":", 1)
    served = DispatchTable().api_versions
    for exchange in recorded(client):
        api = APIS[exchange.api]
        with contextlib.ExitStack() as stack:
            line = stack.enter_context(socket.create_connection((host, int(port)), timeout=30))
            line.sendall(len(exchange.request).to_bytes(4, "big") + exchange.request)
            frame = stack.enter_context(line.makefile("rb"))
            size = frame.read(4)
            if exchange.api not in served:
                assert not size
                continue
            assert len(size) == 4, f"{exchange.api.name} version {exchange.version}: the connection was closed"
            data = memoryview(frame.read(int.from_bytes(size, "big")))
        assert data[:4] == exchange.request[4:8]
        _, offset = decode(ResponseHeader, api.response_header_version(exchange.version), data)
        decode_whole(api.response_class, exchange.version, data, offset)
