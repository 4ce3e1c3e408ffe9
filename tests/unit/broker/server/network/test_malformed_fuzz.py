"""Requests that are not well-formed, and good ones that come in pieces: an answer or a logged close, and nothing else.

Every API in every version is sent with its body cut off, with lengths and counts that are huge or negative, with bytes
changed, and with tags that nobody knows, of which only the last must be answered as if they were not there.
"""

import asyncio
import logging
import os
import random
from collections.abc import Callable

import pytest

from automq.protocol.apis import APIS, ApiKey, encode_request
from automq.protocol.messages.discovery import ApiVersionsRequest, MetadataRequest
from automq.runtime.ledger import Account
from automq.server.network.dispatch import DispatchTable
from tests.support import messages
from tests.support.data_path import MemoryTransport
from tests.support.served import Served, served
from tests.unit.broker.server.network.test_request_fuzz import PAIRS, telling

pytestmark = [pytest.mark.looptime]

ROUNDS = int(os.environ.get("ROUNDS", "2"))
PARTS = 4
"""The pairs of API and version are shared out among so many tests."""
MAY_WAIT = {ApiKey.FETCH, ApiKey.JOIN_GROUP, ApiKey.SYNC_GROUP, ApiKey.PRODUCE}
"""Long polls, whose time-outs may be anything here, and what is not answered at all."""
WAIT_S = 20.0
SIZE_BYTES = 4

Change = Callable[[bytearray, int, random.Random], None]
"""Of a frame without its size, whose body begins at an offset."""


def cut_off(frame: bytearray, body: int, source: random.Random) -> None:
    if len(frame) > body:
        del frame[source.randrange(body, len(frame)) :]


def long_length(frame: bytearray, body: int, source: random.Random) -> None:
    """Somewhere a length or a count becomes another: the largest, negative, or more than memory holds."""
    value = source.choice(
        [b"\x7f\xff\xff\xff", b"\xff\xff\xff\xfe", b"\x80\x00\x00\x00", b"\x00\xff\xff\xff", b"\xff\xff"]
    )
    varint = source.choice([b"\xff\xff\xff\xff\x0f", b"\xff\xff\xff\xff\x07", b"\x80\x80\x80\x80\x01", b"\xff" * 10])
    put = source.choice([value, varint])
    at = source.randrange(body, len(frame) + 1)
    frame[at : at + len(put)] = put


def changed_bytes(frame: bytearray, body: int, source: random.Random) -> None:
    for _ in range(source.randint(1, 4)):
        if len(frame) > body:
            frame[source.randrange(body, len(frame))] = source.randrange(256)


def longer(frame: bytearray, body: int, source: random.Random) -> None:
    frame += source.randbytes(source.choice([1, 7, 3000]))


def bad_tags(frame: bytearray, body: int, source: random.Random) -> None:
    """At the end, where a flexible request has its tags: too many, too long, or one tag twice."""
    del frame[-1:]
    frame += source.choice([b"\xff\xff\xff\xff\x07", b"\x01\x64\xff\xff\xff\xff\x07", b"\x02\x64\x00\x64\x00", b"\x01"])


CHANGES: list[Change] = [cut_off, long_length, changed_bytes, longer, bad_tags]


def sized(frame: bytes | bytearray) -> bytes:
    return len(frame).to_bytes(SIZE_BYTES, "big") + bytes(frame)


async def outcome(client: MemoryTransport, key: ApiKey) -> bytes | None:
    """The answer's frame; None when the connection is closed, or when there may be none."""
    deadline = asyncio.get_running_loop().time() + WAIT_S
    while asyncio.get_running_loop().time() < deadline:
        frames = client.frames()
        if frames:
            return frames[0]
        if client.was_lost:
            return None
        await asyncio.sleep(0.01 if asyncio.get_running_loop().time() < deadline - WAIT_S + 1 else 1)
    assert key in MAY_WAIT, f"{key.name} is neither answered nor closed"
    return None


def a_request(key: ApiKey, version: int, source: random.Random, world: Served) -> tuple[bytearray, int]:
    """A frame without its size, and where its body begins."""
    api = APIS[key]
    request = telling(messages.random_message(api.request_class, version, source), version, source, world)
    frame = bytearray(encode_request(api, version, 77, "fuzz", request))[SIZE_BYTES:]
    head = 2 + 2 + 4 + 2 + len("fuzz") + (1 if api.request_header_version(version) >= 2 else 0)
    return frame, head


@pytest.mark.parametrize("part", range(PARTS))
async def test_b11_request_that_is_not_well_formed_is_answered_or_its_connection_closed_with_a_line(
    part: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "automq")
    source = random.Random(part)
    closed = answered = 0
    async with served(group__initial__rebalance__delay__ms="0") as world:
        await world.create("orders", 3)
        for key, version in PAIRS[part::PARTS] * ROUNDS:
            for change in CHANGES:
                frame, body = a_request(key, version, source, world)
                change(frame, body, source)
                lines = len(caplog.records)
                client = world.connect()
                client.feed(sized(frame))
                answer = await outcome(client, key)
                told = [line for line in caplog.records[lines:] if line.name.startswith("automq")]
                what = (key.name, version, change.__name__, frame.hex())
                assert [line.getMessage() for line in told if line.levelno >= logging.ERROR] == [], what
                if answer is not None:
                    answered += 1
                    assert answer[:4] == frame[4:8], what
                elif client.was_lost:
                    closed += 1
                    # With acks=0 an error closes, which is the answer.
                    is_unanswered = key == ApiKey.PRODUCE
                    assert is_unanswered or any("closed" in line.getMessage() for line in told), what
                client.disconnect()
        alive = await world.connect().call(ApiKey.METADATA, 12, MetadataRequest(topics=None))
        assert alive.brokers
        await asyncio.sleep(1)
        assert world.broker._components is not None
        assert world.broker._components._ledger[Account.RECEIVE].used < 64 * 1024
    assert closed > 50 < answered


@pytest.mark.parametrize("part", range(PARTS))
async def test_b11_tags_that_nobody_knows_are_passed_over(part: int) -> None:
    source = random.Random(part)
    async with served(group__initial__rebalance__delay__ms="0") as world:
        await world.create("orders", 3)
        for key, version in PAIRS[part::PARTS]:
            api = APIS[key]
            if not api.request_class.is_flexible(version) or key in MAY_WAIT:
                continue
            frame, _ = a_request(key, version, source, world)
            if frame[-1] != 0:
                continue  # it has tags that are known
            del frame[-1:]
            frame += b"\x02" + b"\xe4\x07\x03abc" + b"\xe5\x07\x00"
            client = world.connect()
            client.feed(sized(frame))
            assert await outcome(client, key) is not None, (key.name, version, frame.hex())
            client.disconnect()


def test_every_api_is_asked() -> None:
    assert {key for key, _ in PAIRS} == {ApiKey(key) for key in DispatchTable().api_versions}


@pytest.mark.parametrize("piece_bytes", [1, 3, 1000])
async def test_b11_request_that_comes_in_pieces_is_answered_as_one_that_comes_whole(piece_bytes: int) -> None:
    source = random.Random(piece_bytes)
    async with served() as world:
        await world.create("orders", 3)
        whole, slow = world.connect(), world.connect()
        for key, version in PAIRS[:: 3 if piece_bytes == 1 else 1]:
            if key not in (ApiKey.METADATA, ApiKey.LIST_OFFSETS, ApiKey.DESCRIBE_CONFIGS, ApiKey.FIND_COORDINATOR):
                continue
            frame, _ = a_request(key, version, source, world)
            data = sized(frame)
            whole.feed(data)
            expected = await outcome(whole, key)
            if expected is None:
                whole = world.connect()
                continue
            for start in range(0, len(data), piece_bytes):
                assert slow.frames() == []
                slow.feed(data[start : start + piece_bytes])
                if start % 50 == 0:
                    await asyncio.sleep(0)
            assert await outcome(slow, key) == expected


async def test_b11_half_a_request_holds_nobody_else_and_its_end_takes_it_away() -> None:
    async with served() as world:
        data = bytes(
            encode_request(
                APIS[ApiKey.API_VERSIONS],
                3,
                5,
                "half",
                ApiVersionsRequest(client_software_name="n", client_software_version="1"),
            )
        )
        halves = [world.connect() for _ in range(200)]
        for number, client in enumerate(halves):
            client.feed(data[: 1 + number % (len(data) - 1)])
        assert (await world.connect().call(ApiKey.METADATA, 12, MetadataRequest(topics=None))).brokers
        for client in halves[::2]:
            client.disconnect()
        for number, client in list(enumerate(halves))[1::2]:
            client.feed(data[1 + number % (len(data) - 1) :])
            answer = await outcome(client, ApiKey.API_VERSIONS)
            assert answer is not None
            assert int.from_bytes(answer[:4], "big") == 5
