"""Who may connect: limits, what they come from, and how often the log says so."""

import logging
import resource

import pytest

from automq.runtime.budget import ByteBudget
from automq.server.network.admission import (
    CONNECTION_BYTES,
    LOG_INTERVAL_S,
    RESERVE_MIN,
    Admission,
    ConnectionLimits,
    connection_limits,
    raise_descriptor_limit,
)

MANY = 2**31 - 1


def limits(*, asked: int = MANY, descriptors: int | None = None, memory: int = 1 << 40) -> tuple[int, str]:
    found = connection_limits(
        asked=asked, descriptors=descriptors, memory_bytes=memory, per_host_max=MANY, per_host_overrides={}
    )
    return found.connections_max, found.limited_by


def an_admission(**settings: object) -> Admission:
    return Admission(ConnectionLimits(**{"connections_max": 100, **settings}), ByteBudget(1 << 20))


def test_b4_few_descriptors_leave_a_reserve_for_the_store() -> None:
    assert limits(descriptors=256) == (256 - RESERVE_MIN, "descriptors")
    assert limits(descriptors=1 << 20) == ((1 << 20) - 1024, "descriptors")
    assert limits(descriptors=10) == (1, "descriptors")


def test_the_least_limit_counts() -> None:
    assert limits(asked=7, descriptors=1000) == (7, "max.connections")
    assert limits(memory=50 * CONNECTION_BYTES, descriptors=1000) == (50, "automq.memory.bytes")


def test_f10_soft_limit_becomes_the_hard_one() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(before[0], 512), before[1]))
        raised = raise_descriptor_limit()
        assert raised == (None if before[1] == resource.RLIM_INFINITY else before[1])
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[1] == before[1]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_connections_beyond_the_limit_are_refused_until_one_leaves() -> None:
    admission = an_admission(connections_max=2)

    assert [admission.admit("a", 0.0) for _ in range(3)] == [True, True, False]
    admission.leave("a")
    assert admission.admit("b", 0.0)
    assert admission.refused == {"max.connections": 1, "max.connections.per.ip": 0}


def test_one_address_does_not_take_all() -> None:
    admission = an_admission(per_host_max=2, per_host_overrides={"10.0.0.7": 3, "2001:db8::1": 0})

    assert [admission.admit("10.0.0.1", 0.0) for _ in range(3)] == [True, True, False]
    assert [admission.admit("10.0.0.7", 0.0) for _ in range(4)] == [True, True, True, False]
    assert [admission.admit("::ffff:10.0.0.7", 0.0) for _ in range(4)] == [True, True, True, False]
    assert not admission.admit("2001:0db8::0001", 0.0)
    assert admission.admit("10.0.0.2", 0.0)
    assert admission.refused["max.connections.per.ip"] == 4


def test_every_connection_is_counted_and_forgotten() -> None:
    account = ByteBudget(1 << 20)
    admission = Admission(ConnectionLimits(connections_max=100), account)
    for _ in range(5):
        admission.admit("a", 0.0)
    assert account.used == 5 * CONNECTION_BYTES

    for _ in range(5):
        admission.leave("a")
    assert (account.used, admission.count, admission._by_host) == (0, 0, {})


def test_refusals_are_logged_now_and_then_with_their_number(caplog: pytest.LogCaptureFixture) -> None:
    admission = an_admission(connections_max=0)
    with caplog.at_level(logging.WARNING):
        for tick in range(1000):
            admission.admit("10.0.0.9", tick * 2 * LOG_INTERVAL_S / 1000)

    lines = [vars(record) for record in caplog.records]
    assert [line["closed"] for line in lines] == [1, 500]
    assert (lines[0]["limit"], lines[0]["setting"], lines[0]["host"]) == (0, "max.connections", "10.0.0.9")
