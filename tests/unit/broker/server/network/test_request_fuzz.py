"""Well-formed random requests to a running broker, every API and version: always an answer, or a logged close.

An answer is never UNKNOWN_SERVER_ERROR (but where Kafka gives that), the broker logs no error and goes on.
A longer run: `REQUESTS=20000 python -m pytest tests/unit/broker/server/network/test_request_fuzz.py`.
"""

import asyncio
import dataclasses
import logging
import os
import random
from typing import Any

import pytest

from automq.protocol.apis import APIS, ApiKey
from automq.protocol.errors import ErrorCode
from automq.protocol.messages.discovery import MetadataRequest
from automq.protocol.records import Record, build_batch
from automq.protocol.schema import wire_of
from automq.server.network.dispatch import DispatchTable
from tests.support import messages
from tests.support.served import Served, served
from tests.unit.broker.handlers.test_access import codes

pytestmark = [pytest.mark.looptime]

REQUESTS = int(os.environ.get("REQUESTS", "150"))
SEEDS = range(8)
PAIRS = [(ApiKey(key), version) for key in DispatchTable().api_versions for version in APIS[key].versions]
"""Every API in every version; the seeds share them, and each asks its share at least once."""
PATIENCE_S = 700
"""More than the longest wait that a request of the test can ask for."""

NAMES = ["orders", "orders", "other", "none", "", "a/b", "__consumer_offsets", "billing", "1", "7", "ü" * 100]
KEYS = ["retention.ms", "cleanup.policy", "no.such", "", "compression.type", "max.message.bytes"]
KAFKAS_UNKNOWN = {ApiKey.FETCH: "an isolation level that does not exist is UNKNOWN_SERVER_ERROR in Kafka, too"}


def telling(request: Any, version: int, source: random.Random, world: Served) -> Any:
    """Names, ids, times and records that mean something to the broker, in most of the fields that have them."""
    if isinstance(request, list):
        return [telling(item, version, source, world) for item in request]
    if isinstance(request, str):
        return source.choice(NAMES)
    if not dataclasses.is_dataclass(request):
        return request
    topic = world.services.metadata.image.topic("orders")
    for field in dataclasses.fields(request):
        if not wire_of(field).is_in(version):
            continue
        name = field.name
        value = getattr(request, name)
        if source.random() < 0.3 and not name.endswith(("timeout", "wait")):
            continue
        if name.endswith(("timeout", "wait", "timeout_ms", "wait_ms")) and isinstance(value, int):
            value = source.choice([0, 1, -1, 1000, 300_000])
        elif isinstance(value, memoryview):
            value = source.choice([value, memoryview(build_batch([Record(value=b"v", timestamp=0)]))])
        elif name == "topic_id" and topic is not None:
            value = topic.topic_id
        elif name in ("configuration_keys",) or (name == "name" and hasattr(request, "value")):
            value = source.choice(KEYS) if isinstance(value, str) else value
        elif name == "acks":
            value = source.choice([1, -1, -1, 0, 2])
        elif "partition" in name and isinstance(value, int):
            value = source.choice([0, 0, 1, -1, 5, 2**31 - 1])
        elif isinstance(value, list | str) or dataclasses.is_dataclass(value):
            value = telling(value, version, source, world)
        setattr(request, name, value)
    return request


async def exchange(world: Served, key: ApiKey, version: int, request: Any) -> Any:
    """The answer; None when the connection was closed instead, or when there is none to come."""
    client = world.connect()
    sent = client.send(key, version, request)
    deadline = asyncio.get_running_loop().time() + PATIENCE_S
    while asyncio.get_running_loop().time() < deadline:
        found = client.answers()
        if sent in found:
            client.disconnect()
            return found[sent]
        if client.was_lost:
            return None
        if key == ApiKey.PRODUCE and request.acks == 0 and not client.connection._queue:
            client.disconnect()
            return None
        await asyncio.sleep(0.01 if asyncio.get_running_loop().time() < deadline - PATIENCE_S + 1 else 5)
    raise AssertionError(f"no answer to {key.name} version {version}: {request}")


@pytest.mark.parametrize("seed", SEEDS)
async def test_b11_every_well_formed_request_is_answered_or_its_connection_closed_with_a_line(
    seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "automq")
    source = random.Random(seed)
    asked = PAIRS[seed :: len(SEEDS)]
    async with served(group__initial__rebalance__delay__ms="0") as world:
        await world.create("orders", 3)
        await world.create("other")
        answered = dict.fromkeys((key for key, _ in asked), 0)
        for number in range(max(REQUESTS, len(asked))):
            key, version = asked[number % len(asked)]
            api = APIS[key]
            request = telling(messages.random_message(api.request_class, version, source), version, source, world)
            lines = len(caplog.records)
            answer = await exchange(world, key, version, request)
            new = [record for record in caplog.records[lines:] if record.levelno >= logging.ERROR]
            assert new == [], (key.name, version, request)
            if answer is None:
                told = [line.getMessage() for line in caplog.records[lines:]]
                is_silent = key == ApiKey.PRODUCE and request.acks == 0
                assert is_silent or any("closed" in line for line in told), (key.name, version, request, told)
                continue
            answered[key] += 1
            if key not in KAFKAS_UNKNOWN:
                assert ErrorCode.UNKNOWN_SERVER_ERROR not in codes(answer), (key.name, version, request, answer)
        alive = await world.connect().call(ApiKey.METADATA, 12, MetadataRequest(topics=None))
        assert alive.brokers
    assert sum(1 for count in answered.values() if count) > len(answered) * 0.6


def test_the_seeds_ask_every_api_in_every_version() -> None:
    asked = {pair for seed in SEEDS for pair in PAIRS[seed :: len(SEEDS)]}
    assert asked == {(key, version) for key in DispatchTable().api_versions for version in APIS[key].versions}
