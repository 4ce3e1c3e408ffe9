"""Real clients as their users use them: produce, consume in a group, rebalance, commit, administer."""

import asyncio
import threading
import time
from collections.abc import Callable

import kafka
import kafka.admin
import kafka.codec
import kafka.structs
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.structs import TopicPartition as AioTopicPartition
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

from tests.support.process import Broker

RECORDS = 200


def create(broker: Broker, topic: str, partitions: int = 3, **config: str) -> AdminClient:
    admin = AdminClient({"bootstrap.servers": broker.address})
    admin.create_topics([NewTopic(topic, partitions, 1, config=config)])[topic].result(20)
    return admin


def produce_librdkafka(broker: Broker, topic: str, count: int = RECORDS, **settings: object) -> None:
    producer = Producer({"bootstrap.servers": broker.address, "enable.idempotence": True, **settings})
    for number in range(count):
        producer.produce(topic, str(number), key=str(number % 7), headers={"n": str(number)})
    assert producer.flush(30) == 0


def read_librdkafka(broker: Broker, topic: str, group: str, count: int, **settings: object) -> list[str]:
    consumer = Consumer({
        "bootstrap.servers": broker.address, "group.id": group, "auto.offset.reset": "earliest",
        "enable.auto.commit": False, "check.crcs": True, **settings,
    })  # fmt: skip
    consumer.subscribe([topic])
    values: list[str] = []
    deadline = time.monotonic() + 30
    while len(values) < count and time.monotonic() < deadline:
        for message in consumer.consume(500, 0.2):
            assert message.error() is None, message.error()
            values.append(message.value().decode())
    consumer.commit(asynchronous=False)
    consumer.close()
    return values


@pytest.mark.parametrize("compression", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_librdkafka_round_trip(broker: Broker, topic: str, compression: str) -> None:
    create(broker, topic)
    produce_librdkafka(broker, topic, **{"compression.type": compression})
    assert sorted(map(int, read_librdkafka(broker, topic, topic, RECORDS))) == list(range(RECORDS))


@pytest.mark.parametrize("compression", [None, "gzip", "snappy", "lz4", "zstd"])
async def test_aiokafka_round_trip(broker: Broker, topic: str, compression: str | None) -> None:
    await asyncio.to_thread(create, broker, topic)
    async with AIOKafkaProducer(
        bootstrap_servers=broker.address, enable_idempotence=True, compression_type=compression
    ) as producer:
        futures = [await producer.send(topic, str(n).encode(), headers=[("n", b"1")]) for n in range(RECORDS)]
        await asyncio.gather(*futures)
    values: list[int] = []
    async with AIOKafkaConsumer(
        topic, bootstrap_servers=broker.address, group_id=topic, auto_offset_reset="earliest", enable_auto_commit=False
    ) as consumer:
        async with asyncio.timeout(30):
            while len(values) < RECORDS:
                batches = await consumer.getmany(timeout_ms=500)
                values += [int(record.value) for records in batches.values() for record in records]
        await consumer.commit()
        committed = [await consumer.committed(AioTopicPartition(topic, index)) for index in range(3)]
    assert sorted(values) == list(range(RECORDS))
    assert sum(offset or 0 for offset in committed) == RECORDS


@pytest.mark.parametrize("compression", [None, "gzip", "snappy", "lz4", "zstd"])
def test_kafka_python_round_trip(broker: Broker, topic: str, compression: str | None) -> None:
    if compression is not None and not getattr(kafka.codec, f"has_{compression}")():
        pytest.skip(f"kafka-python has no library for {compression} here")
    create(broker, topic)
    producer = kafka.KafkaProducer(
        bootstrap_servers=broker.address, enable_idempotence=True, compression_type=compression
    )
    for future in [producer.send(topic, str(n).encode(), key=str(n % 5).encode()) for n in range(RECORDS)]:
        future.get(20)
    producer.close()
    consumer = kafka.KafkaConsumer(
        topic, bootstrap_servers=broker.address, group_id=topic, auto_offset_reset="earliest", enable_auto_commit=False
    )
    values: list[int] = []
    deadline = time.monotonic() + 30
    while len(values) < RECORDS and time.monotonic() < deadline:
        values += [int(record.value) for records in consumer.poll(500).values() for record in records]
    consumer.commit()
    committed = [consumer.committed(kafka.structs.TopicPartition(topic, index)) for index in range(3)]
    consumer.close()
    assert sorted(values) == list(range(RECORDS))
    assert sum(committed) == RECORDS


def test_committed_offsets_are_where_the_next_member_begins(broker: Broker, topic: str) -> None:
    create(broker, topic, partitions=1)
    produce_librdkafka(broker, topic, 10)
    assert len(read_librdkafka(broker, topic, "g-" + topic, 10)) == 10
    produce_librdkafka(broker, topic, 5)
    assert read_librdkafka(broker, topic, "g-" + topic, 5) == ["0", "1", "2", "3", "4"]


@pytest.mark.parametrize("strategy", ["range", "roundrobin", "cooperative-sticky"])
def test_group_rebalances_when_a_member_comes_and_goes(broker: Broker, topic: str, strategy: str) -> None:
    create(broker, topic, partitions=4)

    def member() -> Consumer:
        consumer = Consumer({
            "bootstrap.servers": broker.address, "group.id": topic, "session.timeout.ms": 6000,
            "heartbeat.interval.ms": 300, "partition.assignment.strategy": strategy,
        })  # fmt: skip
        consumer.subscribe([topic])
        return consumer

    def until(members: list[Consumer], condition: Callable[[list[set[int]]], bool]) -> None:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            for one in members:
                one.poll(0.1)
            if condition([{p.partition for p in one.assignment()} for one in members]):
                return
        raise AssertionError([one.assignment() for one in members])

    first = member()
    until([first], lambda owned: owned == [{0, 1, 2, 3}])
    second = member()
    until([first, second], lambda owned: len(owned[0]) == len(owned[1]) == 2 and owned[0] | owned[1] == {0, 1, 2, 3})
    first.close()
    until([second], lambda owned: owned == [{0, 1, 2, 3}])
    second.close()


def test_static_member_returns_without_a_rebalance(broker: Broker, topic: str) -> None:
    admin = create(broker, topic, partitions=2)

    def member() -> Consumer:
        consumer = Consumer({
            "bootstrap.servers": broker.address, "group.id": topic, "group.instance.id": "pinned",
            "session.timeout.ms": 20_000,
        })  # fmt: skip
        consumer.subscribe([topic])
        deadline = time.monotonic() + 20
        while not consumer.assignment() and time.monotonic() < deadline:
            consumer.poll(0.1)
        return consumer

    first = member()
    before = admin.describe_consumer_groups([topic])[topic].result(10)
    first.close()
    second = member()
    after = admin.describe_consumer_groups([topic])[topic].result(10)
    second.close()
    assert [member.group_instance_id for member in before.members] == ["pinned"]
    assert [member.group_instance_id for member in after.members] == ["pinned"]
    assert {p.partition for p in after.members[0].assignment.topic_partitions} == {0, 1}


def test_offsets_by_time_and_at_both_ends(broker: Broker, topic: str) -> None:
    create(broker, topic, partitions=1)
    producer = Producer({"bootstrap.servers": broker.address})
    base = int(time.time() * 1000) - 100_000
    for number in range(10):
        producer.produce(topic, str(number), timestamp=base + number * 1000)
        producer.flush(10)
    consumer = Consumer({"bootstrap.servers": broker.address, "group.id": "x"})
    found = consumer.offsets_for_times([TopicPartition(topic, 0, base + 4500)], timeout=10)
    assert found[0].offset == 5
    assert consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=10) == (0, 10)
    consumer.close()
    admin = AdminClient({"bootstrap.servers": broker.address})
    newest = admin.list_offsets({TopicPartition(topic, 0): OffsetSpec.max_timestamp()})
    assert [future.result(10).offset for future in newest.values()] == [9]


def test_delete_records_moves_the_beginning(broker: Broker, topic: str) -> None:
    admin = create(broker, topic, partitions=1)
    produce_librdkafka(broker, topic, 10, **{"linger.ms": 0})
    result = admin.delete_records([TopicPartition(topic, 0, 6)])
    assert [future.result(20).low_watermark for future in result.values()] == [6]
    consumer = Consumer({"bootstrap.servers": broker.address, "group.id": "x"})
    assert consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=10) == (6, 10)
    consumer.close()


def test_topic_configs_are_shown_and_changed(broker: Broker, topic: str) -> None:
    admin = create(broker, topic, **{"retention.ms": "3600000", "cleanup.policy": "compact"})
    resource = ConfigResource(ResourceType.TOPIC, topic)
    shown = admin.describe_configs([resource])[resource].result(10)
    assert (shown["retention.ms"].value, shown["cleanup.policy"].value) == ("3600000", "compact")
    assert shown["max.message.bytes"].is_default
    change = ConfigEntry("retention.ms", "7200000", incremental_operation=AlterConfigOpType.SET)
    changed = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[change])
    admin.incremental_alter_configs([changed])[changed].result(10)
    assert admin.describe_configs([resource])[resource].result(10)["retention.ms"].value == "7200000"
    wrong = ConfigResource(
        ResourceType.TOPIC,
        topic,
        incremental_configs=[ConfigEntry("no.such.config", "1", incremental_operation=AlterConfigOpType.SET)],
    )
    with pytest.raises(KafkaException) as error:
        admin.incremental_alter_configs([wrong])[wrong].result(10)
    assert error.value.args[0].code() == KafkaError.INVALID_CONFIG


def test_partitions_grow_and_topics_go(broker: Broker, topic: str) -> None:
    admin = create(broker, topic, partitions=1)
    admin.create_partitions([NewPartitions(topic, 3)])[topic].result(10)
    assert len(admin.list_topics(topic, timeout=10).topics[topic].partitions) == 3
    admin.delete_topics([topic])[topic].result(10)
    assert topic not in admin.list_topics(timeout=10).topics


def test_groups_are_listed_described_and_deleted(broker: Broker, topic: str) -> None:
    admin = create(broker, topic, partitions=1)
    produce_librdkafka(broker, topic, 3)
    read_librdkafka(broker, topic, "group-" + topic, 3)
    listed = admin.list_consumer_groups().result(10)
    assert "group-" + topic in [group.group_id for group in listed.valid]
    asked = ConsumerGroupTopicPartitions("group-" + topic, [TopicPartition(topic, 0)])
    offsets = admin.list_consumer_group_offsets([asked])["group-" + topic].result(10)
    assert [partition.offset for partition in offsets.topic_partitions] == [3]
    admin.delete_consumer_groups(["group-" + topic])["group-" + topic].result(10)
    listed = admin.list_consumer_groups().result(10)
    assert "group-" + topic not in [group.group_id for group in listed.valid]


def test_transactional_producer_is_told_that_it_cannot(broker: Broker, topic: str) -> None:
    producer = Producer({"bootstrap.servers": broker.address, "transactional.id": topic, "log_level": 0})
    with pytest.raises(KafkaException) as error:
        producer.init_transactions(10)
    assert not error.value.args[0].retriable()


def test_topic_is_made_on_first_use(broker: Broker, topic: str) -> None:
    produce_librdkafka(broker, topic, 3, **{"allow.auto.create.topics": True})
    assert len(read_librdkafka(broker, topic, topic, 3)) == 3


def test_oversize_record_is_refused_and_the_connection_lives(broker: Broker, topic: str) -> None:
    create(broker, topic, partitions=1, **{"max.message.bytes": "1000"})
    producer = Producer({"bootstrap.servers": broker.address})
    errors: list[KafkaError | None] = []
    producer.produce(topic, bytes(5000), on_delivery=lambda error, _: errors.append(error))
    producer.produce(topic, b"small", on_delivery=lambda error, _: errors.append(error))
    producer.flush(20)
    codes = [error.code() if error else 0 for error in errors]
    assert KafkaError.MSG_SIZE_TOO_LARGE in codes


def test_waiting_consumer_gets_a_record_at_once(broker: Broker, topic: str) -> None:
    """A long poll ends with the record, not with its time."""
    create(broker, topic, partitions=1)
    consumer = Consumer({"bootstrap.servers": broker.address, "group.id": "x", "fetch.wait.max.ms": 50_000})
    consumer.assign([TopicPartition(topic, 0, 0)])
    consumer.poll(0.5)
    producer = Producer({"bootstrap.servers": broker.address, "linger.ms": 0})
    threading.Timer(0.5, lambda: (producer.produce(topic, b"now"), producer.flush(5))).start()
    message = consumer.poll(40)
    consumer.close()
    assert message is not None
    assert message.value() == b"now"
