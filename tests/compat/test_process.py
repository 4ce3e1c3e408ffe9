"""The broker as a process: exit codes, probes, signals, and how two of them meet."""

import json
import pathlib
import re
import signal
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from tests.support.broker_processes import Place, readyz
from tests.support.process import free_port


@pytest.fixture
def place(tmp_path: pathlib.Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    made.end()


def test_probes_tell_of_a_serving_broker_and_sigterm_ends_it_with_0(place: Place) -> None:
    port = free_port()
    process = place.broker(http_port=port)

    body = place.until_ready(port)

    assert (body["reason"], body["nodeId"], body["version"]) == (None, 1, "0.1.0")
    assert re.fullmatch(r"[A-Za-z0-9_-]{22}", body["clusterId"])
    assert readyz(port)[0] == 200
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/livez") as live:
        assert live.status == 200
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as metrics:
        assert b"automq_" in metrics.read()
    process.popen.send_signal(signal.SIGTERM)
    assert process.wait() == 0, process.text


def test_restart_finds_the_same_cluster(place: Place) -> None:
    port = free_port()
    first = place.broker(http_port=port)
    cluster_id = place.until_ready(port)["clusterId"]
    first.popen.kill()
    first.wait()

    place.broker(http_port=port, automq__cluster__id=cluster_id)

    assert place.until_ready(port)["clusterId"] == cluster_id


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"node__id": None}, "node.id"),
        ({"no__such__setting": 1}, "no.such.setting"),
        ({"automq__wal__type": "block"}, "automq.wal.type"),
        ({"automq__storage__uri": "ftp://somewhere"}, "automq.storage.uri"),
    ],
)
def test_invalid_settings_end_with_2(place: Place, settings: dict[str, object], key: str) -> None:
    message = place.folder / "termination-message"

    process = place.broker(http_port=free_port(), automq__termination__message__path=message, **settings)

    assert process.wait() == 2, process.text
    assert process.last_line["reason"] == "InvalidSettings"
    assert key in process.last_line["message"]
    assert json.loads(message.read_text()) == process.last_line


def test_wrong_command_line_ends_with_2(place: Place) -> None:
    process = place.run("broker")

    assert process.wait() == 2
    assert process.last_line["reason"] == "InvalidSettings"


def test_taken_listener_address_ends_with_4(place: Place) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        process = place.broker(http_port=free_port(), listeners=f"PLAINTEXT://{address}")
        assert process.wait() == 4, process.text
    assert process.last_line["reason"] == "AddressInUse"
    assert address in process.last_line["message"]
    assert not (place.folder / "store").exists(), "the store was touched"


def test_taken_http_address_ends_with_4(place: Place) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        process = place.broker(http_port=taken.getsockname()[1])
        assert process.wait() == 4, process.text
    assert process.last_line["reason"] == "AddressInUse"


def test_mistaken_second_start_leaves_the_first_alone(place: Place) -> None:
    port = free_port()
    first = place.broker(http_port=port)
    place.until_ready(port)

    second = place.broker(http_port=port)

    assert second.wait() == 4
    assert readyz(port)[1]["state"] == "Serving"
    assert first.popen.poll() is None


def test_foreign_data_in_the_prefix_is_refused(place: Place) -> None:
    (place.folder / "store").mkdir()
    (place.folder / "store/precious").write_text("mine")

    process = place.broker(http_port=free_port())

    assert process.wait() == 3, process.text
    assert process.last_line["reason"] == "StoreUnsuitable"
    assert [path.name for path in (place.folder / "store").iterdir()] == ["precious"]


def test_named_cluster_is_never_formatted(place: Place) -> None:
    process = place.broker(http_port=free_port(), automq__cluster__id="AAAAAAAAAAAAAAAAAAAAAA")

    assert process.wait() == 3, process.text
    assert process.last_line["reason"] == "StoreClusterMissing"


def test_another_owner_is_refused_and_told_the_cluster(place: Place) -> None:
    port = free_port()
    first = place.broker(http_port=port, automq__cluster__owner="me")
    cluster_id = place.until_ready(port)["clusterId"]
    first.popen.send_signal(signal.SIGTERM)
    assert first.wait() == 0

    second = place.broker(http_port=port, automq__cluster__owner="you")

    assert second.wait() == 3, second.text
    assert second.last_line["reason"] == "StoreOwnedByAnother"
    assert cluster_id in second.last_line["message"]


def test_waiting_heals_when_the_bucket_appears(place: Place) -> None:
    port = free_port()
    process = place.broker(http_port=port, automq__storage__uri=f"file://{place.folder}/above/store")

    body = place.until_ready(port, "Waiting")
    assert body["reason"] == "BucketNotFound"
    assert readyz(port)[0] == 503
    (place.folder / "above").mkdir()

    assert place.until_ready(port)["reason"] is None
    assert process.popen.poll() is None


def test_sigterm_ends_a_waiting_broker_at_once_with_0(place: Place) -> None:
    port = free_port()
    process = place.broker(
        http_port=port,
        automq__storage__uri=f"file://{place.folder}/above/store",
        automq__shutdown__timeout__ms=600_000,
    )
    place.until_ready(port, "Waiting")

    process.popen.send_signal(signal.SIGTERM)

    assert process.wait() == 0, process.text


def test_newer_process_fences_the_older_which_stays_and_ends_when_told(place: Place) -> None:
    first_port, second_port = free_port(), free_port()
    first = place.broker(http_port=first_port, automq__shutdown__timeout__ms=600_000)
    place.until_ready(first_port)

    place.broker(http_port=second_port)
    place.until_ready(second_port)

    body = place.until_ready(first_port, "Fenced")
    assert body["reason"] == "Fenced"
    assert readyz(first_port)[0] == 503
    first.popen.send_signal(signal.SIGTERM)
    assert first.wait() == 0, first.text
    assert readyz(second_port)[1]["state"] == "Serving"


def test_fenced_process_ends_with_5_once_the_newer_one_is_gone(place: Place) -> None:
    first_port, second_port = free_port(), free_port()
    first = place.broker(http_port=first_port)
    place.until_ready(first_port)
    second = place.broker(http_port=second_port)
    place.until_ready(second_port)
    place.until_ready(first_port, "Fenced")

    second.popen.kill()

    assert first.wait() == 5, first.text
    assert first.last_line["reason"] == "Fenced"


def test_environment_gives_settings_and_strangers_only_warn(place: Place) -> None:
    port = free_port()
    process = place.broker(
        http_port=port, node__id=None, environment={"KAFKA_NODE_ID": "9", "KAFKA_PORT": "tcp://10.0.0.1:9092"}
    )

    assert place.until_ready(port)["nodeId"] == 9
    assert "KAFKA_PORT names no setting" in process.text


def test_up_prints_its_address_when_it_serves_and_ends_cleanly(place: Place) -> None:
    port = free_port()
    process = place.run("up", "--data-dir", str(place.folder / "data"), "--port", str(port))

    process.wait_for(f"bootstrap: 127.0.0.1:{port}\n")
    socket.create_connection(("127.0.0.1", port)).close()
    process.popen.send_signal(signal.SIGINT)

    assert process.wait() == 0, process.text


def test_views_show_topics_and_groups(place: Place) -> None:
    port = free_port()
    process = place.run("up", "--data-dir", str(place.folder / "data"), "--port", str(port))
    process.wait_for("bootstrap: ")
    address = f"127.0.0.1:{port}"
    producer = Producer({"bootstrap.servers": address, "log_level": 0})
    for number in range(5):
        producer.produce("seen", str(number))
    assert producer.flush(30) == 0
    consumer = Consumer({"bootstrap.servers": address, "group.id": "readers", "log_level": 0})
    consumer.commit(offsets=[TopicPartition("seen", 0, 3)], asynchronous=False)
    consumer.close()

    topics, groups, group = (
        place.run(*arguments, "-b", address) for arguments in (("topics",), ("groups",), ("groups", "readers"))
    )

    assert [view.wait() for view in (topics, groups, group)] == [0, 0, 0]
    assert "seen" in topics.text
    assert "__consumer_offsets" not in topics.text
    assert "readers" in groups.text
    assert ["readers", "seen", "0", "3", "5", "2"] in [line.split() for line in group.text.splitlines()]


def test_folder_in_use_is_an_error_that_names_the_process(place: Place) -> None:
    data = str(place.folder / "data")
    first = place.run("up", "--data-dir", data, "--port", str(free_port()))
    first.wait_for("bootstrap: ")

    second = place.run("up", "--data-dir", data, "--port", str(free_port()))

    assert second.wait() == 2
    assert f"in use by process {first.popen.pid}" in second.last_line["message"]


@pytest.mark.parametrize("kind", ["block", "file"])
def test_up_refuses_wal_kinds_that_do_not_exist(place: Place, kind: str) -> None:
    process = place.run("up", "--data-dir", str(place.folder / "data"), "--wal", kind)

    assert process.wait() == 2
    assert f"the {kind} write-ahead log does not exist yet" in process.last_line["message"]


def test_nothing_but_the_store_is_written(place: Place) -> None:
    home = place.folder / "home"
    home.mkdir(mode=0o500)
    port = free_port()
    process = place.broker(http_port=port, environment={"HOME": str(home), "TMPDIR": str(place.folder / "tmp")})
    before = {path.name for path in place.folder.iterdir()}
    place.until_ready(port)
    process.popen.send_signal(signal.SIGTERM)
    assert process.wait() == 0

    assert {path.name for path in place.folder.iterdir()} - before <= {"store"}
    assert list(home.iterdir()) == []


def test_production_broker_logs_its_life_and_what_clients_change(place: Place) -> None:
    """`kubectl logs` of a broker that was started, used, refused something and stopped is no empty page."""
    port, client = free_port(), free_port()
    process = place.broker(
        http_port=port, listeners=f"PLAINTEXT://127.0.0.1:{client}", automq__log__format="json", num__partitions=3
    )
    place.until_ready(port)
    admin = AdminClient({"bootstrap.servers": f"127.0.0.1:{client}", "client.id": "deployer"})
    admin.create_topics([NewTopic("orders", 2)])["orders"].result(30)
    with pytest.raises(KafkaException):
        admin.create_topics([NewTopic("orders", 2)])["orders"].result(30)
    consumer = Consumer({"bootstrap.servers": f"127.0.0.1:{client}", "group.id": "billing", "client.id": "worker"})
    consumer.subscribe(["orders"])
    process.wait_for("group is stable", 60)
    consumer.close()
    process.popen.send_signal(signal.SIGTERM)
    assert process.wait() == 0

    entries = [json.loads(line) for line in process.text.splitlines() if line.startswith("{")]
    by_message: dict[str, list[dict[str, Any]]] = {}
    for entry in entries:
        by_message.setdefault(entry["message"], []).append(entry)
    (start,) = by_message["broker starts"]
    assert start["version"] == "0.1.0"
    assert "num.partitions=3" in start["changed"]
    (ready,) = by_message["broker ready"]
    assert ready["bootstrap"] == f"127.0.0.1:{client}"
    assert [entry["target"] for entry in by_message["topic created"]] == ["orders"]
    assert by_message["topic created"][0]["client"] == "deployer"
    assert by_message["change refused"][0]["error"] == "TOPIC_ALREADY_EXISTS"
    assert {entry["group"] for entry in by_message["group rebalances"]} == {"billing"}
    assert by_message["broker stopped"][0]["state"] == "Draining"
    assert len(process.text.splitlines()) < 60, "a line for each event, not for each request"
