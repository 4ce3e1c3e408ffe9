"""Brokers for tests, in a thread; processes are tried in `tests/compat/test_install.py`."""

import pytest
from confluent_kafka import Consumer, Producer

from automq.cli.failures import CommandFailed
from automq.testing import BrokerDidNotStart, start_broker
from automq.testing.broker import TEST_SETTINGS, TestBroker


def test_a_real_client_works_with_a_broker_in_a_thread() -> None:
    with start_broker(in_process=True) as broker:
        broker.create_topic("orders")
        producer = Producer({"bootstrap.servers": broker.bootstrap, "enable.idempotence": True})
        producer.produce("orders", b"by a client")
        assert producer.flush(30) == 0
        consumer = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": "g", "auto.offset.reset": "earliest"})
        consumer.subscribe(["orders"])
        message = consumer.poll(30)
        consumer.close()
        del producer

        assert message is not None
        assert message.value() == b"by a client"
        assert [record.value for record in broker.consume("orders")] == [b"by a client"]


def test_two_brokers_in_one_process_know_nothing_of_each_other() -> None:
    with start_broker(in_process=True) as one, start_broker(in_process=True) as other:
        one.create_topic("only-here")
        assert one.bootstrap != other.bootstrap
        with pytest.raises(CommandFailed, match="there is no topic only-here"):
            other.consume("only-here")


def test_data_and_address_outlive_a_restart() -> None:
    with start_broker(in_process=True) as broker:
        broker.create_topic("orders", partitions=2, configs={"retention.ms": "-1"})
        broker.produce("orders", ["a", b"b", None], key=b"k", partition=1)
        before = broker.bootstrap
        broker.stop()
        broker.stop()
        broker.start()

        assert broker.bootstrap == before
        assert [record.value for record in broker.consume("orders")] == [b"a", b"b", None]


def test_broker_that_does_not_start_says_why() -> None:
    with (
        pytest.raises(BrokerDidNotStart, match="no.such is not a setting"),
        start_broker(in_process=True, settings={"no.such": "1"}),
    ):
        pass


def test_broker_in_a_thread_cannot_be_killed() -> None:
    with start_broker(in_process=True) as broker, pytest.raises(NotImplementedError, match="in_process=False"):
        broker.kill()


def test_settings_of_a_test_are_settings_of_a_broker() -> None:
    assert not TestBroker.__test__
    with start_broker(in_process=True, settings=dict(TEST_SETTINGS)) as broker:
        assert broker.bootstrap.startswith("127.0.0.1:")
