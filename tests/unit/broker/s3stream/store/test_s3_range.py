"""A long range by one GET, read bit by bit: what breaks off goes on from there, and each request is told of."""

import asyncio
import os
import pathlib

import pytest

from automq.s3stream.ports import ObjectNotFound, RangeReader, StoreAccessDenied, StoreUnavailable, StoreUnsupported
from automq.s3stream.store import s3_tries
from automq.s3stream.store.requests import Operation, Request, RequestOutcome
from automq.s3stream.store.s3 import S3Store
from tests.support.fault_proxy import Fault, FaultProxy, Reply, Result, Seen

BODY = os.urandom(300_000)
PIECE = 70_000


async def read_all(reader: RangeReader, *, piece: int = PIECE) -> bytes:
    """In pieces, as far as there are any."""
    found = b""
    while True:
        buffer = bytearray(piece)
        count = await reader.read_into(memoryview(buffer))
        found += buffer[:count]
        if count < piece:
            return found


def gets(proxy: FaultProxy) -> list[Seen]:
    return [seen for seen in proxy.seen if seen.method == "GET"]


def told(store: S3Store) -> list[Request]:
    """What the store tells of GETs from now on."""
    requests: list[Request] = []
    store.on_request(lambda request: requests.append(request) if request.operation is Operation.GET_OBJECT else None)
    return requests


@pytest.mark.parametrize(("start", "end"), [(0, 300_000), (1, 299_999), (100, 101), (250_000, 400_000), (0, 70_000)])
async def test_range_is_one_request_however_it_is_read(store: S3Store, proxy: FaultProxy, start: int, end: int) -> None:
    await store.put("a", [BODY])

    assert await read_all(store.open_range("a", start, end)) == BODY[start:end]

    assert len(gets(proxy)) == 1


async def test_range_beyond_the_end_is_empty(store: S3Store, proxy: FaultProxy) -> None:
    await store.put("a", [BODY])

    reader = store.open_range("a", 300_000, 300_100)

    assert await read_all(reader) == b""
    assert await read_all(reader) == b""
    assert len(gets(proxy)) == 1


async def test_range_whose_end_was_read_asks_no_more(store: S3Store, proxy: FaultProxy) -> None:
    await store.put("a", [BODY])
    reader = store.open_range("a", 0, PIECE)
    buffer = memoryview(bytearray(PIECE))

    assert await reader.read_into(buffer) == PIECE
    assert await reader.read_into(buffer) == 0

    assert len(gets(proxy)) == 1


async def test_body_that_breaks_off_goes_on_where_it_was(store: S3Store, proxy: FaultProxy) -> None:
    await store.put("a", [BODY])
    proxy.expect(Fault.HALF, method="GET")

    assert await read_all(store.open_range("a", 0, 300_000)) == BODY

    ranges = [seen.headers["range"] for seen in gets(proxy)]
    # 150,000 bytes came; the third piece was cut, and is asked for again as a whole.
    assert ranges == ["bytes=0-299999", f"bytes={2 * PIECE}-299999"]


@pytest.mark.parametrize("fault", [Fault.SLOW_DOWN, Fault.DROPPED, Fault.LOST, Reply(500, "")])
async def test_request_that_failed_is_made_again(store: S3Store, proxy: FaultProxy, fault: Fault) -> None:
    await store.put("a", [BODY])
    proxy.expect(fault, method="GET")

    assert await read_all(store.open_range("a", 0, 300_000)) == BODY

    assert len(gets(proxy)) == 2


async def test_store_that_keeps_failing_is_unavailable_and_the_reader_can_go_on(
    store: S3Store, proxy: FaultProxy
) -> None:
    await store.put("a", [BODY])
    reader = store.open_range("a", 0, 300_000)
    proxy.expect(*[Fault.SLOW_DOWN] * s3_tries.TRIES, method="GET")

    with pytest.raises(StoreUnavailable, match=r"get s3://.*503"):
        await read_all(reader)

    assert await read_all(reader) == BODY


async def test_missing_object_is_not_found(store: S3Store) -> None:
    with pytest.raises(ObjectNotFound):
        await read_all(store.open_range("a", 0, 10))


async def test_refusal_is_raised_and_not_asked_again(store: S3Store, proxy: FaultProxy) -> None:
    proxy.expect(Reply(403, "AccessDenied"), method="GET")

    with pytest.raises(StoreAccessDenied):
        await read_all(store.open_range("a", 0, 10))

    assert len(gets(proxy)) == 1


async def test_server_that_knows_no_ranges_is_unsuitable(store: S3Store, proxy: FaultProxy) -> None:
    proxy.expect(Result("all of the object, from its beginning"), method="GET")

    with pytest.raises(StoreUnsupported, match="200 to a range"):
        await read_all(store.open_range("a", 5, 10))


async def test_credentials_that_are_refused_are_read_again(
    store: S3Store, proxy: FaultProxy, tmp_path: pathlib.Path
) -> None:
    await store.put("a", [BODY])
    proxy.expect(Fault.EXPIRED, method="GET")
    (tmp_path / "credentials/access-key").write_text("another\n")

    assert await read_all(store.open_range("a", 0, 300_000)) == BODY

    keys = ["another" in seen.headers["authorization"] for seen in gets(proxy)]
    assert keys == [False, True]


async def test_requests_are_told_when_they_are_answered_and_bytes_at_the_end(store: S3Store, proxy: FaultProxy) -> None:
    await store.put("a", [BODY])
    requests = told(store)
    proxy.expect(Fault.SLOW_DOWN, Fault.DROPPED, method="GET")
    reader = store.open_range("a", 0, 300_000)

    await reader.read_into(memoryview(bytearray(PIECE)))

    assert [(request.outcome, request.count, request.received_bytes) for request in requests] == [
        (RequestOutcome.FAILED, 1, 0),
        (RequestOutcome.NO_ANSWER, 1, 0),
        (RequestOutcome.SUCCESS, 1, 0),
    ]
    reader.close()
    reader.close()
    assert [(request.count, request.received_bytes) for request in requests[3:]] == [(0, PIECE)]


async def test_reader_that_is_cancelled_lets_its_connection_go(store: S3Store, proxy: FaultProxy) -> None:
    await store.put("a", [BODY])
    reader = store.open_range("a", 0, 300_000)
    arrived, until = asyncio.Event(), asyncio.Event()
    proxy.hold(part="/a", until=until, arrived=arrived)
    reading = asyncio.ensure_future(reader.read_into(memoryview(bytearray(PIECE))))
    await arrived.wait()

    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading

    until.set()
    assert await read_all(reader) == BODY
