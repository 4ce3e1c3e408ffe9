"""The broker as a process on an S3 store: outages, credentials, buckets, and the commands that work on stores."""

import pathlib
import signal
import time
from collections.abc import Iterator

import pytest
from confluent_kafka import Producer

from tests.support.broker_processes import Place, readyz
from tests.support.process import free_port
from tests.support.s3_server import S3Server, run_s3_server, write_credentials
from tests.support.tcp_switch import tcp_switch


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with run_s3_server() as running:
        yield running


@pytest.fixture
def place(tmp_path: pathlib.Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    made.end()


def test_outage_is_told_while_serving_and_cleared_by_the_first_success(place: Place, server: S3Server) -> None:
    port = free_port()
    with tcp_switch(server.endpoint) as switch:
        uri = server.make_store_uri(endpoint=switch.endpoint)
        credentials = write_credentials(place.folder / "credentials")
        process = place.broker(http_port=port, automq__storage__uri=uri, automq__storage__credentials__dir=credentials)
        place.until_ready(port)

        switch.is_on = False
        body = place.until(port, reason="StoreUnreachable")
        assert body["state"] == "Serving"
        # Nothing can be acknowledged: a Service should not send clients here. Which ability is the first to have
        # failed for 10 s is chance; create and get alone change readiness.
        deadline = time.monotonic() + 20
        while readyz(port)[0] != 503:
            assert time.monotonic() < deadline, process.text
            time.sleep(0.05)
        switch.is_on = True

        place.until(port, state="Serving", reason=None)
        assert readyz(port)[0] == 200
        process.popen.send_signal(signal.SIGTERM)
        assert process.wait() == 0, process.text


def test_stop_does_not_wait_for_a_store_that_is_away(place: Place, server: S3Server) -> None:
    port, kafka_port = free_port(), free_port()
    with tcp_switch(server.endpoint) as switch:
        settings = {
            "listeners": f"PLAINTEXT://127.0.0.1:{kafka_port}",
            "automq__storage__uri": server.make_store_uri(endpoint=switch.endpoint),
            "automq__storage__credentials__dir": write_credentials(place.folder / "credentials"),
            "automq__shutdown__timeout__ms": 1000,
        }
        first = place.broker(http_port=port, **settings)
        place.until_ready(port)
        producer = Producer({"bootstrap.servers": f"127.0.0.1:{kafka_port}", "acks": "all", "log_level": 0})
        producer.produce("t", b"kept")
        assert producer.flush(30) == 0

        switch.is_on = False
        first.popen.send_signal(signal.SIGTERM)
        assert first.wait(20) == 0, first.text
        switch.is_on = True

        place.broker(http_port=port, **settings)
        place.until_ready(port)
        view = place.run("topics", "t", "-b", f"127.0.0.1:{kafka_port}")
        assert view.wait() == 0
        assert view.text.splitlines()[1].split()[4:6] == ["0", "1"]


def test_store_that_cannot_be_reached_is_waited_for(place: Place, server: S3Server) -> None:
    port = free_port()
    with tcp_switch(server.endpoint) as switch:
        switch.is_on = False
        uri = server.make_store_uri(endpoint=switch.endpoint)
        credentials = write_credentials(place.folder / "credentials")
        place.broker(http_port=port, automq__storage__uri=uri, automq__storage__credentials__dir=credentials)

        place.until(port, state="Waiting", reason="StoreUnreachable")
        switch.is_on = True

        assert place.until_ready(port)["reason"] is None


def test_missing_credentials_are_named_and_waited_for(place: Place, server: S3Server) -> None:
    port = free_port()
    folder = place.folder / "credentials"
    place.broker(http_port=port, automq__storage__uri=server.make_store_uri(), automq__storage__credentials__dir=folder)

    body = place.until(port, state="Waiting", reason="StoreCredentialsRejected")
    assert "access-key" in body["message"]
    write_credentials(folder)

    assert place.until_ready(port)["reason"] is None


def test_missing_bucket_is_waited_for(place: Place, server: S3Server) -> None:
    port = free_port()
    credentials = write_credentials(place.folder / "credentials")
    uri = f"s3://no-such-bucket?endpoint={server.endpoint}&region=us-east-1"

    place.broker(http_port=port, automq__storage__uri=uri, automq__storage__credentials__dir=credentials)

    assert "no-such-bucket" in place.until(port, state="Waiting", reason="BucketNotFound")["message"]


def test_records_survive_kill_9_and_erase_removes_them(place: Place, server: S3Server) -> None:
    port, kafka_port = free_port(), free_port()
    uri = server.make_store_uri()
    credentials = write_credentials(place.folder / "credentials")
    settings = {
        "listeners": f"PLAINTEXT://127.0.0.1:{kafka_port}",
        "automq__storage__uri": uri,
        "automq__storage__credentials__dir": credentials,
    }
    first = place.broker(http_port=port, **settings)
    cluster_id = place.until_ready(port)["clusterId"]
    producer = Producer({"bootstrap.servers": f"127.0.0.1:{kafka_port}", "enable.idempotence": True, "log_level": 0})
    for number in range(10):
        producer.produce("t", str(number))
    assert producer.flush(20) == 0
    first.popen.kill()
    first.wait()

    second = place.broker(http_port=port, **settings)
    place.until_ready(port)
    view = place.run("topics", "t", "-b", f"127.0.0.1:{kafka_port}")
    assert view.wait() == 0
    assert view.text.splitlines()[1].split()[:7] == ["t", "0", "1", "1", "0", "10", "10"]
    second.popen.send_signal(signal.SIGTERM)
    assert second.wait() == 0, second.text

    options = ("--credentials-dir", credentials)
    other = place.run("erase", uri, "--cluster-id", "A" * 22, *options)
    assert other.wait() == 3
    assert other.last_line["reason"] == "StoreClusterMissing"
    assert place.run("erase", uri, "--cluster-id", cluster_id, *options).wait() == 0
    third = place.broker(http_port=port, automq__cluster__id=cluster_id, **settings)
    assert third.wait() == 3
    assert third.last_line["reason"] == "StoreClusterMissing"


def test_doctor_trusts_this_store(place: Place, server: S3Server) -> None:
    credentials = write_credentials(place.folder / "credentials")

    process = place.run("doctor", server.make_store_uri(), "--credentials-dir", credentials)

    assert process.wait() == 0, process.text
    assert "suitable" in process.text
