"""Every request is told of: what is counted is what a server saw."""

import asyncio
import os
import pathlib
from collections import Counter

import pytest

from automq.runtime.clock import SystemClock
from automq.runtime.entropy import SeededEntropy
from automq.s3stream.ports import ObjectExists, StoreError, StoreUnavailable
from automq.s3stream.store import doctor, s3, s3_bulk, s3_tries
from automq.s3stream.store.requests import Operation, Purpose, ReportsRequests, Request, RequestOutcome
from automq.s3stream.store.s3 import S3Store
from tests.support.fault_proxy import Fault, FaultProxy, Reply, Seen
from tests.support.s3_server import write_credentials


def name_of(seen: Seen) -> str:
    """Amazon's name of a request, by its documentation of the API."""
    path, _, query = seen.path.partition("?")
    has_key = path.strip("/").count("/") > 0
    names = {part.partition("=")[0] for part in query.split("&")}
    if seen.method == "POST":
        return (
            "DeleteObjects"
            if "delete" in names
            else "CreateMultipartUpload"
            if "uploads" in names
            else "CompleteMultipartUpload"
        )
    if seen.method == "GET":
        return "GetObject" if has_key else "ListMultipartUploads" if "uploads" in names else "ListObjectsV2"
    if seen.method == "DELETE":
        return "AbortMultipartUpload" if "uploadId" in names else "DeleteObject"
    return "UploadPart" if "partNumber" in names else "PutObject"


@pytest.fixture
def counted(store: S3Store) -> list[Request]:
    requests: list[Request] = []
    assert isinstance(store, ReportsRequests)
    store.on_request(requests.append)
    return requests


async def mixed_workload(store: S3Store, proxy: FaultProxy) -> None:
    """Pages, parts, batches, tries, losses and refusals."""
    for number in range(5):
        await store.create(f"id/wal/{number}", [os.urandom(1000)])
    proxy.expect(Fault.LOST, Reply(503, "SlowDown"))
    await store.put("id/meta/a", [b"12345"])
    with pytest.raises(ObjectExists):
        await store.create("id/wal/0", [b"x"])
    proxy.expect(Fault.DROPPED, method="GET")
    assert len(await store.list("id/wal/")) == 5
    proxy.expect(Fault.SLOW_DOWN, part="partNumber=2")
    await store.create_bulk("id/data/1", [os.urandom(s3_bulk.SINGLE_PUT_BYTES_MAX), b"tail"])
    proxy.expect(*[Fault.SLOW_DOWN] * s3_tries.TRIES, part="partNumber=1")
    with pytest.raises(StoreUnavailable):
        await store.put("id/data/2", [os.urandom(s3_bulk.SINGLE_PUT_BYTES_MAX + 1)])
    proxy.expect(Fault.HALF, Reply(500, "InternalError"), method="GET")
    await store.get_range("id/data/1", 5, 10)
    await store.get("id/data/1")
    assert await store.get_range("id/meta/a", 100, 200) == b""
    with pytest.raises(StoreError):
        await store.get("id/data/none")
    await store.time_ms()
    await store.list_uploads("")
    proxy.expect(Reply(400, "MissingContentMD5"), method="POST", part="delete")
    await store.delete([f"id/wal/{number}" for number in range(3)])
    await store.delete(["id/wal/4"])


async def test_requests_that_are_counted_are_those_that_a_server_saw(
    store: S3Store, proxy: FaultProxy, counted: list[Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "PAGE_KEYS_MAX", 2)

    await mixed_workload(store, proxy)

    assert Counter(request.operation.value for request in counted) == Counter(map(name_of, proxy.seen))
    sent = sum(request.sent_bytes for request in counted if request.outcome is RequestOutcome.SUCCESS)
    assert sent == sum(len(seen.body) for seen in proxy.seen if seen.fault is None and 200 <= seen.status < 300)
    outcomes = Counter(request.outcome for request in counted)
    assert outcomes[RequestOutcome.NO_ANSWER] == sum(
        seen.fault in (Fault.LOST, Fault.DROPPED, Fault.HALF) for seen in proxy.seen
    )
    assert outcomes[RequestOutcome.FAILED] == sum(seen.status >= 500 for seen in proxy.seen)
    assert outcomes[RequestOutcome.REFUSED] == sum(300 <= seen.status < 500 for seen in proxy.seen)
    read = sum(request.received_bytes for request in counted if request.operation == "GetObject")
    assert read == 5 + s3_bulk.SINGLE_PUT_BYTES_MAX + 4


async def test_purposes_are_those_of_the_keys(store: S3Store, proxy: FaultProxy, counted: list[Request]) -> None:
    await mixed_workload(store, proxy)

    found = {(request.operation.value, request.purpose) for request in counted}
    assert {purpose for operation, purpose in found if operation == "GetObject"} == {Purpose.READ, Purpose.METADATA}
    assert {purpose for operation, purpose in found if operation == "UploadPart"} == {Purpose.UPLOAD}
    assert {purpose for operation, purpose in found if operation == "PutObject"} == {Purpose.WAL, Purpose.METADATA}
    assert ("DeleteObjects", Purpose.WAL) in found
    assert ("ListObjectsV2", Purpose.WAL) in found


async def test_requests_of_the_doctor_are_counted_as_its_own(
    store: S3Store, proxy: FaultProxy, counted: list[Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    # A slow machine is no slow store.
    monkeypatch.setattr(doctor, "SECONDS_MAX", 60.0)
    # moto looks for the key and stores it in two steps: of two creators at once both may win.
    monkeypatch.setattr(doctor, "RACERS", 1)

    report = await doctor.run_doctor(store, name="it", clock=SystemClock(), entropy=SeededEntropy(1))

    assert report.suitable, report.failures
    # The look for strange keys goes over the whole prefix, whose keys are not the doctor's.
    others = {request.operation for request in counted if request.purpose is not Purpose.DOCTOR}
    assert others <= {Operation.LIST_OBJECTS}
    whole = Counter(map(name_of, proxy.seen))
    assert Counter(request.operation.value for request in counted) - whole <= Counter(PutObject=2)


async def test_request_that_is_cancelled_is_counted(store: S3Store, proxy: FaultProxy, counted: list[Request]) -> None:
    arrived = asyncio.Event()
    proxy.hold(part="id/wal/0", until=asyncio.Event(), arrived=arrived)
    creating = asyncio.ensure_future(store.create("id/wal/0", [b"x"]))
    await arrived.wait()
    creating.cancel()
    with pytest.raises(asyncio.CancelledError):
        await creating

    assert [(request.operation.value, request.outcome) for request in counted] == [
        ("PutObject", RequestOutcome.NO_ANSWER)
    ]


async def test_credentials_that_are_refused_cost_a_request(
    store: S3Store, proxy: FaultProxy, counted: list[Request], tmp_path: pathlib.Path
) -> None:
    await store.create("id/wal/0", [b"x"])
    proxy.expect(Fault.EXPIRED)
    write_credentials(tmp_path / "credentials", access_key="rotated")

    await store.create("id/wal/1", [b"x"])

    assert [request.outcome.value for request in counted] == ["success", "refused", "success"]
