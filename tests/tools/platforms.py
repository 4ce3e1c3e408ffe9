"""What runs on Kafka: Connect, MirrorMaker 2, Streams, Karapace."""

import collections
import hashlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from tests.support.process import free_port
from tests.tools.clients import JAVA
from tests.tools.job import FETCH_S, HERE, JOBS, Job, Skipped, Surroundings, call, fetched, jars

KAFKA = "4.3.1"
PLATFORM = [f"org.apache.kafka:{name}:{KAFKA}" for name in ("connect-runtime", "connect-file", "connect-mirror")]
STREAMS = [f"org.apache.kafka:kafka-streams:{KAFKA}"]
LINES = 3_000
WAIT_S = 20


@contextmanager
def running(at: Surroundings, name: str, *command: object) -> Iterator[subprocess.Popen[bytes]]:
    """A program in the background; its log is part of a failure."""
    log = at.folder / f"{name}.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [str(word) for word in command], stdin=subprocess.PIPE, stdout=out, stderr=out, cwd=at.folder
        )
    try:
        yield process
    except BaseException as error:
        error.add_note(f"{name} said: {log.read_text(errors='replace')[-2500:]}")
        raise
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert process.stdin is not None
        process.stdin.close()


def properties(path: pathlib.Path, **values: object) -> pathlib.Path:
    """`__` in a keyword stands for a dot."""
    path.write_text("".join(f"{name.replace('__', '.')}={value}\n" for name, value in values.items()))
    return path


def connect(at: Surroundings) -> str:
    """A file into a topic and out of it, by a distributed worker with its internal topics."""
    port = free_port()
    source, sink = at.folder / "source.txt", at.folder / "sink.txt"
    source.write_text("".join(f"line {number}\n" for number in range(LINES)))
    strings = "org.apache.kafka.connect.storage.StringConverter"
    worker = properties(
        at.folder / "worker.properties",
        bootstrap__servers=at.bootstrap,
        group__id="connect",
        key__converter=strings,
        value__converter=strings,
        config__storage__topic="connect-configs",
        offset__storage__topic="connect-offsets",
        status__storage__topic="connect-status",
        config__storage__replication__factor=3,
        offset__storage__replication__factor=3,
        status__storage__replication__factor=3,
        offset__storage__partitions=2,
        status__storage__partitions=1,
        offset__flush__interval__ms=500,
        listeners=f"HTTP://127.0.0.1:{port}",
        plugin__discovery="service_load",
    )
    cli = "org.apache.kafka.connect.cli.ConnectDistributed"
    file = "org.apache.kafka.connect.file.FileStream"
    with running(at, "connect", *JAVA, "-cp", at.prepared, cli, worker):
        at.until(lambda: rest(port, "/connectors") is not None, "the worker answers")
        for name, config in {
            "in": {"connector.class": f"{file}SourceConnector", "file": str(source), "topic": "lines"},
            "out": {"connector.class": f"{file}SinkConnector", "file": str(sink), "topics": "lines"},
        }.items():
            body = {"name": name, "config": {**config, "tasks.max": "1"}}
            at.until(partial(rest, port, "/connectors", body), f"connector {name} is taken")
        at.until(lambda: sink.exists() and sink.stat().st_size >= source.stat().st_size, "the sink has every line")
    assert sink.read_bytes() == source.read_bytes()
    return f"{LINES} lines through a topic, the files are identical"


def rest(port: int, path: str, body: Any = None) -> Any:
    """The answer; None while there is none."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data=data, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return json.load(answer)
    except (urllib.error.URLError, OSError):
        return None


def digest(bootstrap: str, topic: str, ends: dict[int, int], left_s: Callable[[], float]) -> str:
    """md5 over partition, offset, key, value, timestamp and headers of everything below `ends`."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "digest", "enable.auto.commit": False})
    consumer.assign([TopicPartition(topic, index, 0) for index in ends])
    found: dict[tuple[int, int], tuple[object, ...]] = {}
    while len(found) < sum(ends.values()):
        message = consumer.poll(left_s())
        assert message is not None, f"{len(found)} of {sum(ends.values())}"
        assert message.error() is None, message.error()
        what = (message.key(), message.value(), message.timestamp(), message.headers())
        found[message.partition(), message.offset()] = what
    consumer.close()
    return hashlib.md5(repr(sorted(found.items())).encode(), usedforsecurity=False).hexdigest()


def mirror_maker(at: Surroundings) -> str:
    """From one broker to another: every field of every record, at its offset."""
    admin = AdminClient({"bootstrap.servers": at.bootstrap, "log_level": 2})
    admin.create_topics([NewTopic("mirrored", 4, config={"retention.ms": "-1"})])["mirrored"].result(WAIT_S)
    producer = Producer({"bootstrap.servers": at.bootstrap, "log_level": 2, "compression.type": "zstd"})
    ends: dict[int, int] = collections.Counter()
    for number in range(LINES):
        value = None if number % 50 == 0 else f"value {number}"
        headers = [("number", str(number).encode()), ("none", None)] if number % 3 else None
        producer.produce(
            "mirrored",
            value,
            f"key-{number}",
            partition=number % 4,
            timestamp=1_700_000_000_000 + number,
            headers=headers,
        )
        ends[number % 4] += 1
    assert producer.flush(WAIT_S) == 0
    settings = properties(
        at.folder / "mm2.properties",
        clusters="a, b",
        a__bootstrap__servers=at.bootstrap,
        b__bootstrap__servers=at.other,
        **{
            "a->b.enabled": "true",
            "b->a.enabled": "false",
            "a->b.topics": "mirrored",
            "replication.policy.class": "org.apache.kafka.connect.mirror.IdentityReplicationPolicy",
        },
        replication__factor=1,
        refresh__topics__interval__seconds=1,
        offset__flush__interval__ms=500,
        emit__heartbeats__enabled="false",
        consumer__auto__offset__reset="earliest",
        tasks__max=1,
    )
    cli = "org.apache.kafka.connect.mirror.MirrorMaker"
    target = Consumer({"bootstrap.servers": at.other, "group.id": "watch", "log_level": 0})

    def has_all() -> bool:
        known = target.list_topics(timeout=5).topics.get("mirrored")
        return (
            known is not None
            and len(known.partitions) == 4
            and all(
                target.get_watermark_offsets(TopicPartition("mirrored", index), 5)[1] >= end
                for index, end in ends.items()
            )
        )

    with running(at, "mirror-maker", *JAVA, "-cp", at.prepared, cli, settings):
        at.until(has_all, "the target has every record")
    target.close()
    left_s = lambda: at.left_s  # noqa: E731
    one, other = (digest(address, "mirrored", ends, left_s) for address in (at.bootstrap, at.other))
    assert one == other, f"md5 {one} became {other}"
    return f"{LINES} records, md5 {one} of all fields on both sides"


def streams(at: Surroundings) -> str:
    """Words are counted; every count is right."""
    admin = AdminClient({"bootstrap.servers": at.bootstrap, "log_level": 2})
    for future in admin.create_topics([NewTopic("words", 2), NewTopic("counted", 1)]).values():
        future.result(WAIT_S)
    producer = Producer({"bootstrap.servers": at.bootstrap, "log_level": 2})
    wanted: dict[str, int] = collections.Counter()
    for number in range(LINES):
        word = f"word-{number * number % 7}"
        wanted[word] += 1
        producer.produce("words", word)
    assert producer.flush(WAIT_S) == 0
    counted: dict[str, int] = {}
    consumer = Consumer({"bootstrap.servers": at.bootstrap, "group.id": "reader", "enable.auto.commit": False})
    consumer.assign([TopicPartition("counted", 0, 0)])

    def has_all() -> bool:
        message = consumer.poll(0.5)
        while message is not None and message.error() is None:
            counted[message.key().decode()] = int(message.value())
            message = consumer.poll(0.1)
        return counted == wanted

    command = [*JAVA, "-cp", at.prepared, HERE / "Count.java", at.bootstrap, at.folder / "state"]
    with running(at, "streams", *command):
        at.until(has_all, "the counts are right")
    consumer.close()
    topics = set(admin.list_topics(timeout=WAIT_S).topics)
    assert {"count-counts-changelog", "count-counts-repartition"} <= topics, topics
    return f"{LINES} words by repartition and changelog, every count right"


def karapace(at: Surroundings) -> str:
    """The schema registry registers a schema, keeps it in `_schemas` and finds it again."""
    port = free_port()
    config = at.folder / "karapace.json"
    settings = {"bootstrap_uri": at.bootstrap, "host": "127.0.0.1", "port": port, "karapace_registry": True}
    config.write_text(json.dumps({**settings, "replication_factor": 1, "log_level": "WARNING"}))
    with running(at, "karapace", at.prepared / "bin/karapace", config):
        at.until(lambda: rest(port, "/subjects") is not None, "the registry answers")
        schema = {"schema": '{"type": "record", "name": "R", "fields": [{"name": "f", "type": "string"}]}'}
        answer = at.until(partial(rest, port, "/subjects/orders-value/versions", schema), "the schema is taken")
        again = rest(port, f"/schemas/ids/{answer['id']}")
    assert json.loads(again["schema"])["name"] == "R"
    return "a schema is registered and found"


def prepare_karapace() -> pathlib.Path:
    def fetch(folder: pathlib.Path) -> None:
        uv = pathlib.Path(sys.executable).with_name("uv")
        call([uv, "venv", "--quiet", "--python", sys.executable, folder / "venv"], timeout_s=FETCH_S)
        python = folder / "venv/bin/python"
        call([uv, "pip", "install", "--quiet", "--python", python, "karapace"], timeout_s=FETCH_S)
        call([uv, "pip", "install", "--quiet", "--python", python, "setuptools<81"], timeout_s=FETCH_S)
        if not (folder / "venv/bin/karapace").exists():
            raise Skipped("the index has no karapace that is the schema registry")

    folder = fetched("karapace", "venv/bin/karapace", fetch) / "venv"
    if os.environ.get("COMPAT_KARAPACE") == "0":
        raise Skipped("COMPAT_KARAPACE=0")
    return folder


JOBS += [
    Job("connect", connect, partial(jars, f"connect-{KAFKA}", PLATFORM)),
    Job("mirror-maker-2", mirror_maker, partial(jars, f"connect-{KAFKA}", PLATFORM), brokers=2),
    Job("streams", streams, partial(jars, f"streams-{KAFKA}", STREAMS)),
    Job("karapace", karapace, prepare_karapace),
]
