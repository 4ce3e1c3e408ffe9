"""What real clients and Apache Kafka say to each other, recorded: readers and writers that are not ours.

`python -m tests.compat.client_frames [CLIENT]...` records anew into `tests/golden/client_frames`: each client does its
work on Apache Kafka of the testbed through a proxy that listens to it. Of every API in every version that a client
speaks a few exchanges are kept.
"""

import argparse
import asyncio
import json
import pathlib
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from automq.protocol.apis import APIS, ApiKey
from tests.support.process import Kafka, free_port
from tests.tools.clients import JAVA, JAVA_CLIENTS, KAFKAJS, node_environment, prepare_kafkajs
from tests.tools.job import HERE, jars

FOLDER: Final = pathlib.Path(__file__).parents[1] / "golden/client_frames"
KEPT: Final = 3
"""Exchanges of each API and version."""
BYTES_MAX: Final = 6_000
"""Longer frames say nothing new."""
CLIENT_S: Final = 90
SETTINGS: Final[dict[str, object]] = {
    "offsets.topic.num.partitions": 1,
    # Some clients write times of long ago and read them back.
    "log.initial.task.delay.ms": 3_600_000,
}


@dataclass(frozen=True)
class Exchange:
    """One request and its answer, as they were on the wire, without their sizes."""

    api: ApiKey
    version: int
    request: bytes
    response: bytes


def recorded(client: str) -> list[Exchange]:
    """What that client was heard to say."""
    return [
        Exchange(ApiKey[each["api"]], each["version"], bytes.fromhex(each["request"]), bytes.fromhex(each["response"]))
        for each in json.loads((FOLDER / f"{client}.json").read_text())
    ]


def clients() -> list[str]:
    """Those that were recorded."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


@dataclass
class Recorder:
    """Forwards connections to Kafka and keeps what goes by."""

    target: int
    kept: dict[tuple[int, int], list[tuple[bytes, bytes]]] = field(default_factory=dict)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, to its end."""
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
        waiting: dict[int, bytes] = {}

        async def forward(
            source: asyncio.StreamReader, sink: asyncio.StreamWriter, note: Callable[[bytes], None]
        ) -> None:
            try:
                while True:
                    size = await source.readexactly(4)
                    frame = await source.readexactly(int.from_bytes(size, "big"))
                    note(frame)
                    sink.write(size + frame)
                    await sink.drain()
            except (EOFError, OSError):
                pass
            finally:
                sink.close()

        def asked(frame: bytes) -> None:
            waiting[int.from_bytes(frame[4:8], "big")] = frame

        def answered(frame: bytes) -> None:
            request = waiting.pop(int.from_bytes(frame[:4], "big"))
            self._keep(request, frame)

        await asyncio.gather(forward(reader, far_writer, asked), forward(far_reader, writer, answered))

    def _keep(self, request: bytes, response: bytes) -> None:
        kind = int.from_bytes(request[:2], "big"), int.from_bytes(request[2:4], "big")
        some = self.kept.setdefault(kind, [])
        sizes = {(len(one), len(other)) for one, other in some}
        is_new = (len(request), len(response)) not in sizes
        if kind[0] in APIS and len(some) < KEPT and is_new and len(request) + len(response) <= BYTES_MAX:
            some.append((request, response))

    def exchanges(self) -> Iterator[dict[str, Any]]:
        """As they are written down."""
        for (key, version), some in sorted(self.kept.items()):
            for request, response in some:
                yield {
                    "api": ApiKey(key).name,
                    "version": version,
                    "request": request.hex(),
                    "response": response.hex(),
                }


def librdkafka(address: str) -> None:
    """Administers, produces with every compression, reads in a group, asks for offsets."""
    from confluent_kafka import Consumer, Producer, TopicPartition
    from confluent_kafka.admin import AdminClient, ConfigResource, NewPartitions, NewTopic, OffsetSpec

    admin = AdminClient({"bootstrap.servers": address})
    admin.create_topics([NewTopic("c", 2, 1, config={"retention.ms": "-1"})])["c"].result(20)
    for compression in ("none", "gzip", "snappy", "lz4", "zstd"):
        producer = Producer({"bootstrap.servers": address, "compression.type": compression, "enable.idempotence": True})
        for number in range(20):
            producer.produce("c", f"v{number}", f"k{number}", headers=[("h", b"1"), ("n", None)], partition=number % 2)
        assert producer.flush(20) == 0
    consumer = Consumer({"bootstrap.servers": address, "group.id": "c", "auto.offset.reset": "earliest"})
    consumer.subscribe(["c"])
    seen = 0
    while seen < 100:
        seen += len(consumer.consume(100, 1.0))
    consumer.commit(asynchronous=False)
    consumer.committed([TopicPartition("c", 0)], 20)
    consumer.offsets_for_times([TopicPartition("c", 0, 1)], 20)
    consumer.close()
    key = TopicPartition("c", 0)
    admin.list_offsets({key: OffsetSpec.max_timestamp()})[key].result(20)
    resource = ConfigResource(ConfigResource.Type.TOPIC, "c")
    admin.describe_configs([resource])[resource].result(20)
    admin.create_partitions([NewPartitions("c", 3)])["c"].result(20)
    admin.list_consumer_groups().result(20)
    admin.describe_consumer_groups(["c"])["c"].result(20)
    admin.describe_cluster().result(20)
    admin.delete_records([TopicPartition("c", 0, 1)])[key].result(20)
    admin.delete_consumer_groups(["c"])["c"].result(20)
    admin.delete_topics(["c"])["c"].result(20)


def kafka_python(address: str) -> None:
    """As librdkafka's, as far as the library goes."""
    from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
    from kafka.admin import ConfigResource, ConfigResourceType, NewTopic

    admin = KafkaAdminClient(bootstrap_servers=address)
    admin.create_topics([NewTopic("p", 2, 1)])
    for compression in (None, "gzip"):
        producer = KafkaProducer(bootstrap_servers=address, compression_type=compression)
        for number in range(20):
            producer.send("p", key=b"k", value=f"v{number}".encode(), headers=[("h", b"1")])
        producer.flush(20)
        producer.close()
    consumer = KafkaConsumer("p", bootstrap_servers=address, group_id="p", auto_offset_reset="earliest")
    seen = 0
    while seen < 40:
        seen += sum(map(len, consumer.poll(1000).values()))
    consumer.commit()
    consumer.close()
    admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, "p")])
    admin.delete_topics(["p"])
    admin.close()


async def _aiokafka(address: str) -> None:
    from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
    from aiokafka.admin import AIOKafkaAdminClient, NewTopic

    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    await admin.start()
    await admin.create_topics([NewTopic("a", 2, 1)])
    for compression in (None, "gzip", "snappy", "lz4", "zstd"):
        producer = AIOKafkaProducer(bootstrap_servers=address, compression_type=compression, enable_idempotence=True)
        await producer.start()
        for number in range(10):
            await producer.send_and_wait("a", key=b"k", value=f"v{number}".encode(), headers=[("h", b"1")])
        await producer.stop()
    consumer = AIOKafkaConsumer("a", bootstrap_servers=address, group_id="a", auto_offset_reset="earliest")
    await consumer.start()
    seen = 0
    while seen < 50:
        seen += sum(map(len, (await consumer.getmany(timeout_ms=1000)).values()))
    await consumer.commit()
    await consumer.stop()
    await admin.describe_consumer_groups(["a"])
    await admin.delete_topics(["a"])
    await admin.close()


def aiokafka(address: str) -> None:
    """As librdkafka's, as far as the library goes."""
    asyncio.run(_aiokafka(address))


PYTHON: Final[dict[str, Callable[[str], None]]] = {
    "librdkafka": librdkafka,
    "aiokafka": aiokafka,
    "kafka-python": kafka_python,
}
CLIENTS: Final = (*PYTHON, *(f"java-{version}" for version in JAVA_CLIENTS), KAFKAJS.replace("@", "-"))


def command_of(client: str, address: str) -> tuple[Sequence[object], dict[str, str] | None]:
    """How it is run, and its environment."""
    if client in PYTHON:
        return [sys.executable, "-m", "tests.compat.client_frames", "--work", client, address], None
    if client.startswith("java-"):
        version = client.removeprefix("java-")
        path = jars(f"java-client-{version}", [f"org.apache.kafka:kafka-clients:{version}"])
        return [*JAVA, "-cp", path, HERE / "Client.java", address], None
    return ["node", HERE / "client.js", address], node_environment(prepare_kafkajs())


async def record(client: str) -> list[dict[str, Any]]:
    """A Kafka of its own, which tells everybody the proxy's address."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        kafka = Kafka(pathlib.Path(folder), **SETTINGS, **{"advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}"})
        recorder = Recorder(kafka.port)
        server = await asyncio.start_server(recorder.serve, "127.0.0.1", port)
        try:
            await _off_loop(kafka.start)
            command, environment = command_of(client, f"127.0.0.1:{port}")
            words = [str(word) for word in command]
            process = await asyncio.create_subprocess_exec(*words, env=environment)
            assert await asyncio.wait_for(process.wait(), CLIENT_S) == 0, client
        finally:
            server.close()
            await _off_loop(kafka.stop)
    return list(recorder.exchanges())


def _off_loop(work: Callable[[], object]) -> Awaitable[object]:
    return asyncio.get_running_loop().run_in_executor(None, work)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clients", nargs="*", help="only these")
    parser.add_argument("--work", nargs=2, metavar=("CLIENT", "ADDRESS"), help="be the client")
    options = parser.parse_args()
    if options.work:
        client, address = options.work
        PYTHON[client](address)
        return
    FOLDER.mkdir(parents=True, exist_ok=True)
    for client in options.clients or CLIENTS:
        found = asyncio.run(record(client))
        (FOLDER / f"{client}.json").write_text(json.dumps(found, indent=0) + "\n")
        print(client, len(found), "exchanges of", len({(each["api"], each["version"]) for each in found}), "kinds")


if __name__ == "__main__":
    main()
