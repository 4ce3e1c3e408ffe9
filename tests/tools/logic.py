"""What exporters and operators ask, asked as they ask it: lag in both ways, Terraform's provider, a topic operator."""

import struct

from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewPartitions, NewTopic, OffsetSpec

from tests.tools.job import JOBS, Job, Surroundings

RECORDS, COMMITTED = 1_001, 400
WAIT_S = 20


def produce(bootstrap: str, topic: str, count: int) -> None:
    producer = Producer({"bootstrap.servers": bootstrap, "log_level": 2})
    for number in range(count):
        producer.produce(topic, f"record {number}", partition=0)
    assert producer.flush(WAIT_S) == 0


def commit(bootstrap: str, group: str, topic: str, offset: int) -> None:
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": group, "enable.auto.commit": False, "log_level": 2}
    )
    consumer.commit(offsets=[TopicPartition(topic, 0, offset)], asynchronous=False)
    consumer.close()


def lag(at: Surroundings) -> str:
    """kafka_exporter and kminion ask the admin API; Burrow and kminion's other mode read `__consumer_offsets`."""
    admin = AdminClient({"bootstrap.servers": at.bootstrap, "log_level": 2})
    admin.create_topics([NewTopic("orders", 1)])["orders"].result(WAIT_S)
    produce(at.bootstrap, "orders", RECORDS)
    commit(at.bootstrap, "billing", "orders", 7)
    commit(at.bootstrap, "billing", "orders", COMMITTED)
    key = TopicPartition("orders", 0)

    groups = {listed.group_id for listed in admin.list_consumer_groups().result(WAIT_S).valid}
    assert "billing" in groups, groups
    asked = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions("billing")])
    (by_admin,) = asked["billing"].result(WAIT_S).topic_partitions
    end = admin.list_offsets({key: OffsetSpec.latest()})[key].result(WAIT_S).offset
    assert end - by_admin.offset == RECORDS - COMMITTED

    by_topic = committed_in_topic(at)
    assert by_topic["billing", "orders", 0] == by_admin.offset == COMMITTED
    return f"lag {end - by_admin.offset} by the admin API and by __consumer_offsets"


def committed_in_topic(at: Surroundings) -> dict[tuple[str, str, int], int]:
    """The newest offset of every group, decoded apart from the product's own code."""
    consumer = Consumer({"bootstrap.servers": at.bootstrap, "group.id": "exporter", "enable.auto.commit": False})
    topic = "__consumer_offsets"
    partitions = consumer.list_topics(topic, timeout=WAIT_S).topics[topic].partitions
    ends = {index: consumer.get_watermark_offsets(TopicPartition(topic, index), WAIT_S)[1] for index in partitions}
    consumer.assign([TopicPartition(topic, index, 0) for index in partitions])
    found: dict[tuple[str, str, int], int] = {}
    seen = 0
    while seen < sum(ends.values()):
        message = consumer.poll(at.left_s)
        assert message is not None, f"{seen} of {sum(ends.values())} records"
        assert message.error() is None, message.error()
        seen += 1
        key, value = message.key(), message.value()
        (version,) = struct.unpack_from(">h", key)
        if version in (0, 1) and value is not None:
            group, position = text(key, 2)
            name, position = text(key, position)
            (index,) = struct.unpack_from(">i", key, position)
            found[group, name, index] = struct.unpack_from(">hq", value)[1]
    consumer.close()
    return found


def text(data: bytes, position: int) -> tuple[str, int]:
    (length,) = struct.unpack_from(">h", data, position)
    return data[position + 2 : position + 2 + length].decode(), position + 2 + length


def topic_config(admin: AdminClient, topic: str) -> dict[str, str]:
    """What is set for the topic itself: the providers compare these."""
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
    entries = admin.describe_configs([resource])[resource].result(WAIT_S)
    return {name: entry.value for name, entry in entries.items() if not entry.is_default and entry.source == 1}


def terraform(at: Surroundings) -> str:
    """The provider reads back what it created, and replaces (deletes!) a topic whose replication factor differs."""
    admin = AdminClient({"bootstrap.servers": at.bootstrap, "log_level": 2})
    wanted = {"cleanup.policy": "delete", "retention.ms": "86400000", "max.message.bytes": "1048588"}
    for factor in (1, 3):
        name = f"terraform-{factor}"
        admin.create_topics([NewTopic(name, 2, factor, config=wanted)])[name].result(WAIT_S)
        produce(at.bootstrap, name, 10)
        for _ in range(2):
            topic = admin.list_topics(name, timeout=WAIT_S).topics[name]
            state = (len(topic.partitions), {len(part.replicas) for part in topic.partitions.values()})
            assert state == (2, {factor}), f"drift: the provider would replace {name}: {state}"
            assert topic_config(admin, name) == wanted, topic_config(admin, name)
        admin.create_partitions([NewPartitions(name, 4)])[name].result(WAIT_S)
        topic = admin.list_topics(name, timeout=WAIT_S).topics[name]
        assert {len(part.replicas) for part in topic.partitions.values()} == {factor}
        consumer = Consumer({"bootstrap.servers": at.bootstrap, "group.id": "state", "log_level": 2})
        assert consumer.get_watermark_offsets(TopicPartition(name, 0), WAIT_S) == (0, 10)
        consumer.close()
    return "no drift of factor, partitions, configs; the records are there"


def topic_operator(at: Surroundings) -> str:
    """Strimzi's: describes a topic, compares replicas, alters configs one by one, and adds partitions."""
    admin = AdminClient({"bootstrap.servers": at.bootstrap, "log_level": 2})
    admin.create_topics([NewTopic("managed", 1, 3, config={"retention.ms": "1000"})])["managed"].result(WAIT_S)
    resource = ConfigResource(ConfigResource.Type.TOPIC, "managed", set_config={"retention.ms": "2000"})
    topic = admin.list_topics("managed", timeout=WAIT_S).topics["managed"]
    factors = {len(part.replicas) for part in topic.partitions.values()}
    assert factors == {3}, f"Ready=False, replication factor change not supported: {factors}"
    admin.alter_configs([resource])[resource].result(WAIT_S)
    assert topic_config(admin, "managed") == {"retention.ms": "2000"}
    admin.create_partitions([NewPartitions("managed", 3)])["managed"].result(WAIT_S)
    at.until(
        lambda: len(admin.list_topics("managed", timeout=WAIT_S).topics["managed"].partitions) == 3, "three partitions"
    )
    admin.delete_topics(["managed"])["managed"].result(WAIT_S)
    at.until(lambda: "managed" not in admin.list_topics(timeout=WAIT_S).topics, "the topic is gone")
    return "created, compared, altered, grown and deleted"


JOBS += [Job("lag", lag), Job("terraform", terraform), Job("topic-operator", topic_operator)]
