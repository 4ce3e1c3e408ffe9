"""Counts and latencies of requests."""

from automq.protocol.apis import ApiKey
from automq.runtime.telemetry import Metrics
from automq.server.request_metrics import RequestMetrics


def test_requests_are_counted_by_api_and_latency() -> None:
    metrics = Metrics()
    requests = RequestMetrics(metrics)
    for seconds in (0.0001, 0.003, 0.003, 100.0):
        requests.answered(ApiKey.FETCH, seconds)
    requests.bytes_in = 10
    requests.bytes_out = 20
    requests.connections_refused = 1
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
        "automq_connections_refused_total 1.0",
    ):
        assert line in lines


def test_api_nobody_asked_for_has_no_lines() -> None:
    metrics = Metrics()
    RequestMetrics(metrics)

    assert "Heartbeat" not in metrics.render().decode()
