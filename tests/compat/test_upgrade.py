"""Data written by an earlier commit open, serve every acknowledged record, and go on; on a folder and on a bucket."""

import json
import pathlib
from collections.abc import Iterator

import boto3
import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec

from tests.support import old_data, s3_server
from tests.support.old_data import GROUP, Promised, Recorder, value_hash
from tests.support.process import Broker

COMMITS = sorted(path.name.removesuffix(".tar.xz") for path in old_data.FOLDER.glob("*.tar.xz"))
READ_S = 60


@pytest.fixture(params=COMMITS)
def commit(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["file", "s3"])
def store(
    request: pytest.FixtureRequest, commit: str, tmp_path: pathlib.Path
) -> Iterator[tuple[Promised, dict[str, object]]]:
    """What was promised, and the settings of a broker on a copy of the data."""
    folder = tmp_path / "broker/store"
    folder.mkdir(parents=True)
    promised = old_data.unpack(commit, folder)
    if request.param == "file":
        yield promised, {}
        return
    with s3_server.run_s3_server() as server:
        bucket = server.make_bucket()
        client = boto3.client(
            "s3",
            endpoint_url=server.endpoint,
            region_name=s3_server.REGION,
            aws_access_key_id=s3_server.ACCESS_KEY,
            aws_secret_access_key=s3_server.SECRET_KEY,
        )
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not path.name.startswith("."):
                client.put_object(Bucket=bucket, Key=f"old/{path.relative_to(folder)}", Body=path.read_bytes())
        client.close()
        credentials = s3_server.write_credentials(tmp_path / "credentials")
        uri = f"s3://{bucket}/old?endpoint={server.endpoint}&region={s3_server.REGION}"
        yield promised, {"automq__storage__uri": uri, "automq__storage__credentials__dir": credentials}


def read_all(broker: Broker, promised: Promised) -> dict[str, dict[int, dict[int, str]]]:
    """Every record from the beginning, as hashes by offset."""
    consumer = Consumer({"bootstrap.servers": broker.address, "group.id": "nobody", "enable.auto.commit": False})
    partitions = [
        TopicPartition(topic, partition, OFFSET_BEGINNING)
        for topic, parts in promised.records.items()
        for partition in parts
    ]
    ends = {
        (entry.topic, entry.partition): consumer.get_watermark_offsets(entry, timeout=20)[1] for entry in partitions
    }
    consumer.assign(partitions)
    found: dict[str, dict[int, dict[int, str]]] = {}
    missing = {place for place, end in ends.items() if end}
    for _ in range(READ_S * 10):
        if not missing:
            break
        for message in consumer.consume(500, timeout=0.1):
            assert message.error() is None, message.error()
            topic, partition, offset, value = message.topic(), message.partition(), message.offset(), message.value()
            assert topic is not None
            assert partition is not None
            assert offset is not None
            assert value is not None
            found.setdefault(topic, {}).setdefault(partition, {})[offset] = value_hash(value)
            if offset + 1 >= ends[topic, partition]:
                missing.discard((topic, partition))
    consumer.close()
    assert not missing, f"not read to their ends in {READ_S} s: {missing}"
    return found


def check(broker: Broker, promised: Promised) -> None:
    found = read_all(broker, promised)
    for topic, parts in promised.records.items():
        start = promised.starts.get(topic, 0)
        for partition, records in parts.items():
            kept = {offset: digest for offset, digest in records.items() if offset >= start}
            assert {offset: found[topic][partition].get(offset) for offset in kept} == kept, (topic, partition)
            assert sorted(found[topic][partition])[0] >= start


def test_old_data_open_serve_every_record_and_go_on(
    store: tuple[Promised, dict[str, object]], tmp_path: pathlib.Path
) -> None:
    promised, settings = store
    broker = Broker(tmp_path / "broker", **settings)
    try:
        broker.start()
        admin = AdminClient({"bootstrap.servers": broker.address})
        assert admin.list_topics(timeout=20).cluster_id == promised.cluster_id
        assert "gone" not in admin.list_topics(timeout=20).topics
        (start,) = admin.list_offsets({TopicPartition("trimmed", 0): OffsetSpec.earliest()}).values()
        assert start.result(20).offset == promised.starts["trimmed"]
        check(broker, promised)

        group = Consumer({"bootstrap.servers": broker.address, "group.id": GROUP})
        places = [TopicPartition(name.split("/")[0], int(name.split("/")[1])) for name in promised.committed]
        committed = {f"{entry.topic}/{entry.partition}": entry.offset for entry in group.committed(places, timeout=20)}
        assert committed == promised.committed
        group.close()

        recorder = Recorder(broker.address)
        for number in range(1000, 1030):
            recorder.send("plain", number % 3, number)
            recorder.send("trimmed", 0, number)
        recorder.producer.flush(20)
        assert len(recorder.acknowledged) == 60
        # And once more, after another unclean end: both formats lie in the store now.
        broker.kill()
        broker.start()
        records = {
            topic: {index: dict(kept) for index, kept in parts.items()} for topic, parts in promised.records.items()
        }
        for topic, partition, offset, digest in recorder.acknowledged:
            assert offset not in records[topic][partition], "an offset was given twice"
            records[topic][partition][offset] = digest
        check(
            broker,
            Promised(
                records=records,
                starts=promised.starts,
                committed=promised.committed,
                cluster_id=promised.cluster_id,
            ),
        )
    finally:
        broker.stop()


def test_older_broker_refuses_newer_data_by_name_and_leaves_no_trace(commit: str, tmp_path: pathlib.Path) -> None:
    broker = Broker(tmp_path / "broker")
    try:
        broker.start()
        recorder = Recorder(broker.address)
        admin = AdminClient({"bootstrap.servers": broker.address})
        admin.create_topics([NewTopic("t", 1)])["t"].result(20)
        recorder.send("t", 0, 1)
        recorder.producer.flush(20)
        broker.kill()
        store = tmp_path / "broker/store"
        before = {
            path: path.read_bytes() for path in store.rglob("*") if path.is_file() and not path.name.startswith(".")
        }

        ended = old_data.run_old(commit, broker.folder / "broker.properties", tmp_path / "source")

        assert ended.returncode == 3, ended.stderr
        assert json.loads(ended.stderr.splitlines()[-1])["reason"] == "StoreFormatTooNew"
        after = {
            path: path.read_bytes() for path in store.rglob("*") if path.is_file() and not path.name.startswith(".")
        }
        assert after == before
    finally:
        broker.stop()
