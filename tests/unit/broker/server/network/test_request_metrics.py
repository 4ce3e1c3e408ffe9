"""Requests by API: how long, where the time went, what went wrong."""

import asyncio
from typing import Any

import pytest

from automq.protocol.apis import ApiKey
from automq.protocol.errors import ErrorCode
from automq.protocol.messages.discovery import MetadataRequest, MetadataRequestTopic
from automq.runtime.telemetry import Metrics
from automq.s3stream.store.memory import MemoryStore
from automq.server.network.request_metrics import CAUSES, EXPECTED_ERRORS, PHASES, RequestMetrics
from tests.support.batches import build_batch
from tests.support.data_path import DataPath, fetch_request, produce_request
from tests.support.engine import HeldStore


def value(metrics: Metrics, name: str, **labels: str) -> float:
    found = metrics.registry.get_sample_value(name, labels)
    assert found is not None, (name, labels)
    return found


def test_requests_are_counted_by_api_and_latency() -> None:
    metrics = Metrics()
    requests = RequestMetrics(metrics)
    for seconds in (0.0001, 0.003, 0.003, 100.0):
        requests.answered(ApiKey.FETCH, seconds)
    requests.bytes_in = 10
    requests.bytes_out = 20
    requests.refused["malformed"] += 1
    lines = metrics.render().decode().splitlines()

    assert requests.count(ApiKey.FETCH) == 4
    for line in (
        'automq_request_seconds_bucket{api="Fetch",le="0.0005"} 1.0',
        'automq_request_seconds_bucket{api="Fetch",le="0.005"} 3.0',
        'automq_request_seconds_bucket{api="Fetch",le="60.0"} 3.0',
        'automq_request_seconds_bucket{api="Fetch",le="+Inf"} 4.0',
        'automq_request_seconds_count{api="Fetch"} 4.0',
        "automq_network_in_bytes_total 10.0",
        "automq_network_out_bytes_total 20.0",
        'automq_connections_refused_total{cause="malformed"} 1.0',
    ):
        assert line in lines


def test_series_are_there_before_their_first_event() -> None:
    metrics = Metrics()
    RequestMetrics(metrics, [ApiKey.PRODUCE, ApiKey.FETCH, ApiKey.HEARTBEAT])

    for api in ("Produce", "Fetch", "Heartbeat"):
        assert value(metrics, "automq_request_seconds_count", api=api) == 0
        assert value(metrics, "automq_request_errors_total", api=api, error="UNKNOWN_SERVER_ERROR") == 0
        for phase in PHASES:
            assert value(metrics, "automq_request_phase_seconds_total", api=api, phase=phase) == 0
    for phase in PHASES:
        assert value(metrics, "automq_data_request_phase_seconds_count", api="Produce", phase=phase) == 0
    assert value(metrics, "automq_request_errors_total", api="Produce", error="MESSAGE_TOO_LARGE") == 0
    for cause in CAUSES:
        assert value(metrics, "automq_connections_refused_total", cause=cause) == 0
    assert "JoinGroup" not in metrics.render().decode(), "what is not served has no series"
    assert all(isinstance(code, ErrorCode) for codes in EXPECTED_ERRORS.values() for code in codes)


def test_requests_that_neither_queued_nor_were_taken_late_count_as_short() -> None:
    metrics = Metrics()
    requests = RequestMetrics(metrics)
    requests.answered(ApiKey.PRODUCE, 0.2, 10, worked_s=0.1)
    requests.queued(ApiKey.PRODUCE, 2.0)
    requests.sent(ApiKey.PRODUCE, 3.0)

    def phase(name: str, phase: str, **labels: str) -> float:
        return value(metrics, f"automq_data_request_phase_seconds_{name}", api="Produce", phase=phase, **labels)

    for name in PHASES:
        assert phase("count", name) == 10
    assert phase("bucket", "queued", le="0.0005") == 9
    assert phase("sum", "worked") == pytest.approx(1.0)
    assert phase("sum", "waited") == pytest.approx(1.0)
    assert phase("sum", "sent") == pytest.approx(3.0)


async def a_path(**options: Any) -> DataPath:
    path = await DataPath(**options).start()
    path.create_topic()
    return path


def phase_s(path: DataPath, api: str, phase: str) -> float:
    return value(path.engine.metrics, "automq_request_phase_seconds_total", api=api, phase=phase)


@pytest.mark.looptime
async def test_long_poll_is_waiting_and_not_work() -> None:
    path = await a_path()
    client = path.connect()
    await client.call(ApiKey.FETCH, 12, fetch_request(0, max_wait=1_500))

    assert phase_s(path, "Fetch", "waited") == pytest.approx(1.5, abs=0.2)
    assert phase_s(path, "Fetch", "worked") < 0.1
    assert phase_s(path, "Fetch", "queued") == 0
    await path.close()


@pytest.mark.looptime
async def test_request_behind_a_long_one_is_queued() -> None:
    path = await a_path()
    client = path.connect()
    client.send(ApiKey.FETCH, 12, fetch_request(0, max_wait=1_500))
    await client.call(ApiKey.METADATA, 9, MetadataRequest(topics=[]))

    assert phase_s(path, "Metadata", "queued") == pytest.approx(1.5, abs=0.2)
    await path.close()


@pytest.mark.looptime
async def test_produce_waits_for_the_store() -> None:
    store = HeldStore(MemoryStore())

    async def before(name: str, key: str) -> None:
        await asyncio.sleep(0.7)

    path = await a_path(store=store)
    store.before = before
    client = path.connect()
    await client.call(ApiKey.PRODUCE, 9, produce_request(build_batch([b"v"], timestamp_ms=0)))

    assert phase_s(path, "Produce", "waited") >= 0.7
    assert phase_s(path, "Produce", "worked") < 0.1
    await path.close()


@pytest.mark.looptime
async def test_answer_that_is_taken_late_is_sent_for_so_long() -> None:
    path = await a_path()
    client = path.connect()
    for _ in range(10):
        await client.call(ApiKey.PRODUCE, 9, produce_request(build_batch([bytes(40_000)], timestamp_ms=0)))
    client.is_slow = True
    client.send(ApiKey.FETCH, 12, fetch_request(0))
    await asyncio.sleep(1.5)
    assert phase_s(path, "Fetch", "sent") == 0
    client.drain()
    await asyncio.sleep(0)

    assert phase_s(path, "Fetch", "sent") == pytest.approx(1.5, abs=0.2)
    await path.close()


@pytest.mark.looptime
async def test_errors_are_counted_by_api_and_code() -> None:
    path = await a_path()
    client = path.connect()

    def errors(api: str, error: str) -> float:
        return value(path.engine.metrics, "automq_request_errors_total", api=api, error=error)

    good = build_batch([b"v"], timestamp_ms=0)
    await client.call(ApiKey.PRODUCE, 9, produce_request(good))
    assert errors("Produce", "UNKNOWN_TOPIC_OR_PARTITION") == 0
    await client.call(ApiKey.PRODUCE, 9, produce_request(good, partition=77))
    await client.call(ApiKey.PRODUCE, 9, produce_request(good[:-1] + bytes([good[-1] ^ 1])))
    await client.call(ApiKey.FETCH, 12, fetch_request(10_000))
    topics = [MetadataRequestTopic(name="absent"), MetadataRequestTopic(name="gone")]
    await client.call(ApiKey.METADATA, 9, MetadataRequest(topics=topics, allow_auto_topic_creation=False))

    assert errors("Produce", "UNKNOWN_TOPIC_OR_PARTITION") == 1
    assert errors("Produce", "CORRUPT_MESSAGE") == 1
    assert errors("Fetch", "OFFSET_OUT_OF_RANGE") == 1
    assert errors("Metadata", "UNKNOWN_TOPIC_OR_PARTITION") == 2
    await path.close()


@pytest.mark.looptime
async def test_connections_are_counted_by_listener_and_cause_of_their_end() -> None:
    path = await a_path()

    def connections() -> float:
        return value(path.engine.metrics, "automq_connections", listener="CLIENT")

    clients = [path.connect(), path.connect()]
    assert connections() == 2
    clients[0].feed(b"\xff\xff\xff\xff")
    await asyncio.sleep(0)
    assert value(path.engine.metrics, "automq_connections_refused_total", cause="malformed") == 1
    assert connections() == 1
    clients[1].disconnect()
    assert connections() == 0
    await path.close()


@pytest.mark.looptime
async def test_produce_that_is_not_durable_in_time_is_an_error() -> None:
    store = HeldStore(MemoryStore())
    gate = asyncio.Event()

    async def before(name: str, key: str) -> None:
        await gate.wait()

    path = await a_path(store=store)
    store.before = before
    batch = build_batch([b"v"], timestamp_ms=0)
    answer = await path.connect().call(ApiKey.PRODUCE, 9, produce_request(batch, timeout=500))
    gate.set()

    assert answer.responses[0].partition_responses[0].error_code == ErrorCode.REQUEST_TIMED_OUT
    labels = {"api": "Produce", "error": "REQUEST_TIMED_OUT"}
    assert value(path.engine.metrics, "automq_request_errors_total", **labels) == 1
    await path.close()
