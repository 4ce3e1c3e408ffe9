"""A real broker for tests: `start_broker` for any test framework, fixtures for pytest (`automq.testing.plugin`).

The broker is the product itself on a free port, in a process of its own or in a thread of the test's process; only the
settings are those of a test: no rebalance delay, one partition of `__consumer_offsets`.
"""

from automq.testing.broker import BrokerDidNotStart, TestBroker, start_broker

__all__ = ["BrokerDidNotStart", "TestBroker", "start_broker"]
