"""An answer that is lost, and the operation repeated: each operation, each adapter.

Where there is a wire, the first answer is thrown away on it. A folder and memory have none: the operation is done, its
result forgotten, and it is done again, as by a process that died in between.
"""

import os
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from automq.runtime.entropy import SeededEntropy
from automq.s3stream.ports import ObjectExists, StoreUnavailable, UnfinishedUpload
from automq.s3stream.store.conditional import create_once
from automq.s3stream.store.s3 import S3Store
from tests.contract.conftest import Adapter
from tests.support.fault_proxy import Fault, FaultProxy

LARGE = [os.urandom(17 << 20)]


async def repeated(
    adapter: Adapter, operation: Callable[[], Awaitable[Any]], *, method: str, fault: Fault, part: str = ""
) -> Any:
    """The result of `operation` whose first answer was lost, or whose first request was."""
    if adapter.proxy is None:
        if fault is Fault.LOST:
            await operation()
        return await operation()
    await adapter.store.list("warm", limit=1)
    adapter.proxy.expect(fault, method=method, part=part)
    result = await operation()
    assert [seen.fault for seen in adapter.proxy.seen].count(fault) == 1
    return result


faults = pytest.mark.parametrize("fault", [Fault.LOST, Fault.DROPPED])


@faults
async def test_get(adapter: Adapter, fault: Fault) -> None:
    await adapter.store.put("a/0", [b"0123456789"])

    assert await repeated(adapter, lambda: adapter.store.get("a/0"), method="GET", fault=fault) == b"0123456789"


@faults
async def test_get_range(adapter: Adapter, fault: Fault) -> None:
    await adapter.store.put("a/0", [b"0123456789"])

    found = await repeated(adapter, lambda: adapter.store.get_range("a/0", 2, 4), method="GET", fault=fault)

    assert bytes(found) == b"23"


@faults
@pytest.mark.parametrize(
    ("body", "method", "part"),
    [([b"small"], "PUT", ""), (LARGE, "PUT", "partNumber=1"), (LARGE, "POST", "uploads"), (LARGE, "POST", "uploadId")],
)
async def test_put(adapter: Adapter, fault: Fault, body: list[bytes], method: str, part: str) -> None:
    await repeated(adapter, lambda: adapter.store.put("a/0", body), method=method, fault=fault, part=part)

    assert await adapter.store.get("a/0") == b"".join(body)
    assert [info.key for info in await adapter.store.list("")] == ["a/0"]


@faults
async def test_create(adapter: Adapter, fault: Fault) -> None:
    async def create() -> None:
        await create_once(adapter.store, "a/0", [b"ours"], decode=bytes, entropy=SeededEntropy(1))

    await repeated(adapter, create, method="PUT", fault=fault)

    assert await adapter.store.get("a/0") == b"ours"


@faults
@pytest.mark.parametrize(("body", "method", "part"), [([b"small"], "PUT", ""), (LARGE, "POST", "uploadId")])
async def test_create_bulk(adapter: Adapter, fault: Fault, body: list[bytes], method: str, part: str) -> None:
    """Its caller compares what is there, as it may be its own."""

    async def create() -> None:
        try:
            await adapter.store.create_bulk("a/0", body)
        except ObjectExists:
            assert fault is Fault.LOST
            assert await adapter.store.get("a/0") == b"".join(body)

    await repeated(adapter, create, method=method, fault=fault, part=part)

    assert await adapter.store.get("a/0") == b"".join(body)


@faults
async def test_k3_delete_of_one_key(adapter: Adapter, fault: Fault) -> None:
    await adapter.store.put("a/0", [b"x"])

    await repeated(adapter, lambda: adapter.store.delete(["a/0"]), method="DELETE", fault=fault)

    assert await adapter.store.list("") == []


async def test_k3_delete_of_one_key_where_a_missing_one_is_a_404(adapter: Adapter) -> None:
    await adapter.store.put("a/0", [b"x"])
    if adapter.proxy is not None:
        adapter.proxy.expect(Fault.LOST, Fault.GONE, method="DELETE")

    await adapter.store.delete(["a/0"])

    assert await adapter.store.list("") == []


@faults
async def test_k3_delete_of_several_keys(adapter: Adapter, fault: Fault) -> None:
    for number in range(3):
        await adapter.store.put(f"a/{number}", [b"x"])

    await repeated(adapter, lambda: adapter.store.delete(["a/0", "a/1"]), method="POST", fault=fault, part="delete")

    assert [info.key for info in await adapter.store.list("")] == ["a/2"]


@faults
async def test_list(adapter: Adapter, fault: Fault) -> None:
    await adapter.store.put("a/0", [b"x"])

    found = await repeated(adapter, lambda: adapter.store.list("a/"), method="GET", fault=fault, part="prefix")

    assert [info.key for info in found] == ["a/0"]


@faults
async def test_time(adapter: Adapter, fault: Fault) -> None:
    found = await repeated(adapter, adapter.store.time_ms, method="GET", fault=fault, part="prefix")

    assert found is None or found > 1_700_000_000_000


@faults
async def test_uploads_are_listed_and_aborted(adapter: Adapter, fault: Fault) -> None:
    uploads: list[UnfinishedUpload] = []
    if isinstance(adapter.store, S3Store):
        name = adapter.store._prefix + "a/0"
        await adapter.store._requests.ask("create_multipart_upload", about=name, Key=name)
        found = await repeated(
            adapter, lambda: adapter.store.list_uploads("a/0"), method="GET", fault=fault, part="uploads"
        )
        # By its whole key: MinIO finds it by nothing less.
        uploads = list(found)
        assert [upload.key for upload in uploads] == ["a/0"]
        assert adapter.proxy is not None
        adapter.proxy.seen.clear()
        await repeated(adapter, lambda: adapter.store.abort_uploads(uploads), method="DELETE", fault=fault)
    await adapter.store.abort_uploads(uploads)

    assert list(await adapter.store.list_uploads("a/0")) == []


async def test_lost_creation_is_an_unknown_outcome(adapter: Adapter) -> None:
    proxy: FaultProxy | None = adapter.proxy
    if proxy is None:
        return
    proxy.expect(Fault.LOST)
    with pytest.raises(StoreUnavailable):
        await adapter.store.create("a/0", [b"ours"])

    assert len(proxy.puts) == 1


async def test_close_raises_no_error_of_the_store(adapter: Adapter) -> None:
    await adapter.store.put("a/0", [b"x"])
    if adapter.proxy is not None:
        await adapter.proxy.close()

    await adapter.store.close()
    await adapter.store.close()
