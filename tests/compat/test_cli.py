"""The command line on a broker of ours, and on Apache Kafka where the testbed has it."""

import io
import json
import pathlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer

from automq.cli.app import run
from automq.cli.sending import murmur2
from tests.support.process import Broker, Kafka

Cli = Callable[..., Any]


@pytest.fixture(scope="module", params=["automq", "kafka"])
def bootstrap(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("cli")
    if request.param == "kafka" and not Kafka.built():
        pytest.skip("the testbed's Apache Kafka is not built here")
    server: Broker | Kafka = Broker(folder) if request.param == "automq" else Kafka(folder)
    server.start()
    yield server.address
    server.stop()


class Ended(Exception):
    """A command failed: its code and what it said."""


@pytest.fixture
def cli(bootstrap: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Run a command; what it wrote to standard output. Raises Ended."""

    def call(*arguments: str, stdin: bytes = b"") -> str:
        monkeypatch.setattr(sys, "argv", ["automq", *arguments, "-b", bootstrap])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit_:
            run()
        shown = capsys.readouterr()
        if exit_.value.code:
            raise Ended(exit_.value.code, json.loads(shown.err.strip().splitlines()[-1]))
        return shown.out

    return call


def loaded(cli: Cli, *arguments: str) -> Any:
    return json.loads(cli(*arguments, "--json"))


def when_led(cli: Cli, topic: str) -> Any:
    """The partitions of a topic, as soon as each has a leader that answers both questions of a row: Kafka is not there
    when it says created, and a leader that appears between the two questions answers only the second.
    """
    deadline = time.monotonic() + 20
    while True:
        rows = loaded(cli, "topics", topic)
        if all(None not in (row["earliest"], row["latest"]) for row in rows) or time.monotonic() > deadline:
            return rows
        time.sleep(0.2)


def when(ask: Callable[[], Any], holds: Callable[[Any], bool]) -> Any:
    """The first answer that holds: a broker of Kafka learns of a change after the answer that made it."""
    deadline = time.monotonic() + 60
    while True:
        answer = ask()
        if holds(answer) or time.monotonic() > deadline:
            return answer
        time.sleep(0.2)


def refusal(cli: Cli, *arguments: str) -> str:
    """What a command fails with; nothing when it does not."""
    try:
        cli(*arguments)
    except Ended as error:
        return str(error)
    return ""


def create(cli: Cli, topic: str, *arguments: str) -> None:
    """A topic that each broker knows and leads."""
    cli("topics", "create", topic, *arguments)
    when(lambda: refusal(cli, "topics", topic), lambda why: not why)
    when_led(cli, topic)


def configs(cli: Cli, topic: str) -> dict[str, dict[str, str]]:
    return {row["config"]: row for row in loaded(cli, "topics", "config", topic)}


def test_topics_are_created_shown_and_deleted(cli: Cli) -> None:
    assert cli("topics", "create", "orders", "-p", "3", "-c", "retention.ms=1000") == "orders created\n"
    when(lambda: refusal(cli, "topics", "orders"), lambda why: not why)
    (topic,) = [row for row in loaded(cli, "topics") if row["topic"] == "orders"]
    assert (topic["partitions"], topic["internal"], len(topic["id"])) == (3, False, 22)
    rows = when_led(cli, "orders")
    assert [(row["partition"], row["earliest"], row["latest"], row["records_max"]) for row in rows] == [
        (0, 0, 0, 0),
        (1, 0, 0, 0),
        (2, 0, 0, 0),
    ]
    with pytest.raises(Ended, match="already exists"):
        cli("topics", "create", "orders")
    assert cli("topics", "create", "orders", "--if-not-exists") == "orders exists already\n"

    assert cli("topics", "delete", "orders") == "orders deleted\n"
    with pytest.raises(Ended, match="UNKNOWN_TOPIC_OR_PARTITION"):
        cli("topics", "delete", "orders")
    assert cli("topics", "delete", "orders", "--if-exists") == "orders does not exist\n"
    assert "there is no topic orders" in when(lambda: refusal(cli, "topics", "orders"), bool)


def test_topic_that_cannot_be_made_fails_with_the_brokers_sentence(cli: Cli) -> None:
    with pytest.raises(Ended, match="INVALID_CONFIG: .*retention.ms"):
        cli("topics", "create", "odd", "-c", "retention.ms=soon")
    with pytest.raises(Ended, match="INVALID_TOPIC_EXCEPTION"):
        cli("topics", "create", "no/such")


def test_configs_are_shown_set_and_deleted(cli: Cli) -> None:
    create(cli, "tuned")
    before = configs(cli, "tuned")
    assert before["cleanup.policy"] == {"config": "cleanup.policy", "value": "delete", "source": "default"}

    cli("topics", "config", "tuned", "--set", "retention.ms=5000", "--set", "cleanup.policy=compact")
    after = when(lambda: configs(cli, "tuned"), lambda found: found["retention.ms"]["source"] == "topic")
    assert [row["source"] for row in list(after.values())[:2]] == ["topic", "topic"]
    assert (after["retention.ms"]["value"], after["cleanup.policy"]["value"]) == ("5000", "compact")

    cli("topics", "config", "tuned", "--delete", "retention.ms")
    again = when(lambda: configs(cli, "tuned"), lambda found: found["retention.ms"]["source"] != "topic")
    assert again["retention.ms"]["value"] == before["retention.ms"]["value"]
    with pytest.raises(Ended, match="INVALID_CONFIG"):
        cli("topics", "config", "tuned", "--set", "no.such=1")
    with pytest.raises(Ended, match="UNKNOWN_TOPIC_OR_PARTITION"):
        cli("topics", "config", "absent")


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_what_is_produced_is_consumed(cli: Cli, codec: str) -> None:
    topic = f"lines-{codec}"
    lines = b"".join(b"line %d\n" % number for number in range(2_500))
    create(cli, topic, "-p", "1")
    cli("produce", topic, "-z", codec, stdin=lines)

    assert cli("consume", topic, "--from-beginning", "--exit-at-end").encode() == lines
    assert cli("consume", topic, "--from-beginning", "-n", "2") == "line 0\nline 1\n"
    assert cli("consume", topic, "--offset", "2498", "-e") == "line 2498\nline 2499\n"
    assert cli("consume", topic, "-e") == ""


def test_a_topic_is_made_by_producing_where_the_broker_does_so(cli: Cli) -> None:
    cli("produce", "made-on-the-way", stdin=b"hello\n")
    assert cli("consume", "made-on-the-way", "-f", "-e") == "hello\n"


def test_keys_headers_and_nulls_come_back_as_json(cli: Cli) -> None:
    create(cli, "rich", "-p", "4")
    cli("produce", "rich", "-k", ":", "-H", "source=test", "-p", "2", stdin=b"k1:v1\nk2:v:2\n")
    cli("produce", "rich", "--json", "-p", "3", stdin=b'{"key": "gone", "value": null}\n{"value_base64": "/w=="}\n')

    records = [json.loads(line) for line in cli("consume", "rich", "-f", "-e", "--json").splitlines()]
    records.sort(key=lambda record: (record["partition"], record["offset"]))
    assert [(r["partition"], r["offset"], r["key"]) for r in records] == [
        (2, 0, "k1"),
        (2, 1, "k2"),
        (3, 0, "gone"),
        (3, 1, None),
    ]
    assert records[1]["value"] == "v:2"
    assert records[0]["headers"] == [{"name": "source", "value": "test"}]
    assert (records[2]["value"], records[3]["value_base64"]) == (None, "/w==")
    # What consume writes, produce reads.
    copied = "\n".join(json.dumps(record) for record in records).encode()
    create(cli, "copy", "-p", "4")
    cli("produce", "copy", "--json", stdin=copied)
    again = [json.loads(line) for line in cli("consume", "copy", "-f", "-e", "--json").splitlines()]
    assert sorted((r["partition"], r["offset"], r["key"]) for r in again if r["key"]) == [
        (2, 0, "k1"),
        (2, 1, "k2"),
        (3, 0, "gone"),
    ]


def test_keys_go_where_javas_producer_and_librdkafkas_murmur2_send_them(cli: Cli, bootstrap: str) -> None:
    create(cli, "keyed", "-p", "7")
    keys = [f"key-{number}" for number in range(40)]
    cli("produce", "keyed", "-k", ":", stdin="".join(f"{key}:ours\n" for key in keys).encode())
    producer = Producer({"bootstrap.servers": bootstrap, "partitioner": "murmur2"})
    for key in keys:
        producer.produce("keyed", key=key, value="theirs")
    producer.flush(30)
    del producer

    seen: dict[str, set[int]] = {}
    for line in cli("consume", "keyed", "-f", "-e", "--json").splitlines():
        record = json.loads(line)
        seen.setdefault(record["key"], set()).add(record["partition"])
    assert set(seen) == set(keys)
    assert all(len(partitions) == 1 for partitions in seen.values())
    # From Kafka's own test.
    assert murmur2(b"21") == (-973932308) & 0xFFFFFFFF
    assert murmur2(b"a-little-bit-long-string") == (-985981536) & 0xFFFFFFFF


def test_wrong_input_names_its_line_and_what_was_before_it_is_sent(cli: Cli) -> None:
    create(cli, "partly", "-p", "1")
    with pytest.raises(Ended, match="line 2 has no ':'"):
        cli("produce", "partly", "-k", ":", stdin=b"a:1\nb\n")
    with pytest.raises(Ended, match="line 1 is no record in JSON"):
        cli("produce", "partly", "--json", stdin=b"[1]\n")
    with pytest.raises(Ended, match="no partition 9; it has 1"):
        cli("produce", "partly", "-p", "9", stdin=b"x\n")
    with pytest.raises(Ended, match="there is no topic absent"):
        cli("consume", "absent", "-e")


def commit(bootstrap: str, group: str, topic: str, count: int) -> None:
    """Read `count` records as a member of `group`, and commit."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    consumer.subscribe([topic])
    for _ in range(count):
        message = consumer.poll(60)
        assert message is not None
        assert message.error() is None, message.error()
    consumer.commit(asynchronous=False)
    consumer.close()


def test_groups_are_shown_and_reset(cli: Cli, bootstrap: str) -> None:
    create(cli, "read", "-p", "1")
    cli("produce", "read", stdin=b"".join(b"%d\n" % number for number in range(10)))
    commit(bootstrap, "readers", "read", 4)
    row = next(row for row in loaded(cli, "groups") if row["group"] == "readers")
    assert (row["state"], row["members"]) == ("Empty", 0)
    (row,) = loaded(cli, "groups", "readers")
    assert (row["committed"], row["latest"], row["lag"]) == (4, 10, 6)

    (dry,) = loaded(cli, "groups", "reset", "readers", "--to-latest", "--dry-run")
    assert (dry["before"], dry["after"]) == (4, 10)
    assert loaded(cli, "groups", "readers")[0]["committed"] == 4
    for arguments, expected in [
        (["--to-latest"], 10),
        (["--shift-by", "-3"], 7),
        (["--to-offset", "5"], 5),
        (["--to-offset", "99"], 10),
        (["--to-time", "2001-01-01"], 0),
        (["--to-time", "2099-01-01T00:00:00"], 10),
        (["--to-earliest", "--topic", "read:0"], 0),
    ]:
        cli("groups", "reset", "readers", *arguments)
        assert loaded(cli, "groups", "readers")[0]["committed"] == expected, arguments
    with pytest.raises(Ended, match="no topic or partition read:7"):
        cli("groups", "reset", "readers", "--to-latest", "-t", "read:7")
    with pytest.raises(Ended, match="name one of"):
        cli("groups", "reset", "readers", "--to-latest", "--to-earliest")
    with pytest.raises(Ended, match="there is no group absent"):
        cli("groups", "absent")


def test_group_with_members_is_not_reset(cli: Cli, bootstrap: str) -> None:
    create(cli, "busy")
    cli("produce", "busy", stdin=b"x\n")
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "at-work", "auto.offset.reset": "earliest"})
    consumer.subscribe(["busy"])
    assert consumer.poll(60) is not None
    with pytest.raises(Ended, match="has members; stop them"):
        cli("groups", "reset", "at-work", "--topic", "busy", "--to-latest")
    consumer.close()


def test_tables_in_a_pipe_are_plain_columns(cli: Cli) -> None:
    create(cli, "piped")
    lines = cli("topics").splitlines()
    assert lines[0].split()[:3] == ["topic", "id", "partitions"]
    assert any(line.split()[0] == "piped" for line in lines)
    assert not any(character in "".join(lines) for character in "│┃━─")


def test_options_may_stand_before_the_subcommand(cli: Cli, bootstrap: str, tmp_path: pathlib.Path) -> None:
    assert cli("topics", "--bootstrap", bootstrap, "create", "early") == "early created\n"


def test_brokers_show_their_state_and_what_they_lead(cli: Cli) -> None:
    create(cli, "led", "-p", "3")
    before = sum(len(loaded(cli, "topics", topic["topic"])) for topic in loaded(cli, "topics", "--internal"))
    rows = when(lambda: loaded(cli, "brokers"), lambda rows: rows[0]["leaders"] == before)
    (broker,) = rows
    assert (broker["state"], broker["controller"], broker["rack"]) == ("online", True, "")
    assert (broker["leaders"], broker["replicas"]) == (before, before)
    assert broker["bytes"] >= 0
    assert broker["address"].rpartition(":")[2].isdigit()
    assert "online" in cli("brokers")


def test_cluster_shows_its_controller_and_nothing_that_moves(cli: Cli) -> None:
    before = loaded(cli, "cluster")
    assert before["controller"] == loaded(cli, "brokers")[0]["broker"]
    assert before["controller_epoch"] >= 0
    assert (before["brokers"], before["fenced_brokers"], before["leaderless_partitions"]) == (1, 0, 0)
    assert before["moves"] == []

    create(cli, "counted", "-p", "4")
    after = when(lambda: loaded(cli, "cluster"), lambda row: row["topics"] == before["topics"] + 1)
    assert after["partitions"] == before["partitions"] + 4
    assert after["metadata_position"] > before["metadata_position"]
    assert "controller epoch" in cli("cluster")
