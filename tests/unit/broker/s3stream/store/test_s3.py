"""The S3 store on a bad day: answers that are lost, refused, late or somebody else's. Through a proxy, on moto."""

import asyncio
import os
import pathlib
from collections.abc import AsyncIterator

import pytest

from automq.runtime.entropy import SeededEntropy
from automq.runtime.workers import InlineWorkers
from automq.s3stream.ports import (
    AdvisoryOperations,
    BucketNotFound,
    ObjectExists,
    ObjectNotFound,
    StoreConflict,
    StoreCredentialsRejected,
    StoreUnavailable,
)
from automq.s3stream.store import s3
from automq.s3stream.store.conditional import KeyTaken, create_once
from automq.s3stream.store.s3 import S3Store
from automq.s3stream.store.uri import open_store, parse_store_uri
from tests.support.fault_proxy import Fault, FaultProxy, run_fault_proxy
from tests.support.s3_server import S3Server, write_credentials


@pytest.fixture
async def proxy(s3_server: S3Server) -> AsyncIterator[FaultProxy]:
    async with run_fault_proxy(s3_server.endpoint) as proxy:
        yield proxy


@pytest.fixture
async def store(s3_server: S3Server, proxy: FaultProxy, tmp_path: pathlib.Path) -> AsyncIterator[S3Store]:
    opened = open_at(s3_server.make_store_uri(endpoint=proxy.endpoint), write_credentials(tmp_path / "credentials"))
    yield opened
    await opened.close()


def open_at(uri: str, credentials: str) -> S3Store:
    store = open_store(
        parse_store_uri(uri), workers=InlineWorkers(), entropy=SeededEntropy(1), credentials_folder=credentials
    )
    assert isinstance(store, S3Store)
    return store


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault.CONFLICT, StoreConflict),
        (Fault.SLOW_DOWN, StoreUnavailable),
        (Fault.DROPPED, StoreUnavailable),
        (Fault.LOST, StoreUnavailable),
        (Fault.NOT_S3, StoreUnavailable),
    ],
)
async def test_create_is_asked_once_and_its_outcome_told(
    store: S3Store, proxy: FaultProxy, fault: Fault, error: type[Exception]
) -> None:
    proxy.expect(fault)

    with pytest.raises(error):
        await store.create("a/b", [b"body"])

    assert len(proxy.puts) == 1


async def test_lost_answer_of_a_create_did_create(store: S3Store, proxy: FaultProxy) -> None:
    proxy.expect(Fault.LOST)
    with pytest.raises(StoreUnavailable):
        await store.create("a/b", [b"body"])

    with pytest.raises(ObjectExists):
        await store.create("a/b", [b"body"])


async def test_create_once_gets_through_every_fault(store: S3Store, proxy: FaultProxy) -> None:
    proxy.expect(Fault.CONFLICT, Fault.SLOW_DOWN, Fault.DROPPED, Fault.LOST)
    proxy.expect(Fault.DROPPED, Fault.SLOW_DOWN, method="GET")

    await create_once(store, "a/b", [b"ours ", b"and whole"], decode=bytes, entropy=SeededEntropy(1))

    assert await store.get("a/b") == b"ours and whole"
    assert {seen.body for seen in proxy.puts} == {b"ours and whole"}


async def test_create_once_knows_anothers_object(store: S3Store, proxy: FaultProxy) -> None:
    await store.create("a/b", [b"theirs"])
    proxy.expect(Fault.CONFLICT, Fault.LOST)

    with pytest.raises(KeyTaken) as taken:
        await create_once(store, "a/b", [b"ours"], decode=bytes, entropy=SeededEntropy(1))

    assert taken.value.body == b"theirs"


async def test_reads_and_lists_and_deletes_are_tried_again(store: S3Store, proxy: FaultProxy) -> None:
    await store.create("a/b", [b"0123456789"])
    await store.create("a/c", [b"x"])

    proxy.expect(Fault.SLOW_DOWN, Fault.DROPPED, method="GET")
    assert await store.get("a/b") == b"0123456789"
    proxy.expect(Fault.HALF, method="GET")
    assert bytes(await store.get_range("a/b", 2, 6)) == b"2345"
    proxy.expect(Fault.SLOW_DOWN, Fault.DROPPED, method="GET")
    assert len(await store.list("a/")) == 2
    proxy.expect(Fault.SLOW_DOWN, method="DELETE")
    await store.delete(["a/b"])
    assert len(await store.list("a/")) == 1


async def test_put_is_tried_again(store: S3Store, proxy: FaultProxy) -> None:
    proxy.expect(Fault.SLOW_DOWN, Fault.LOST)

    await store.put("a/b", [b"body"])

    assert await store.get("a/b") == b"body"


async def test_outage_ends_in_unavailable_after_a_few_tries(store: S3Store, proxy: FaultProxy) -> None:
    proxy.expect(*[Fault.SLOW_DOWN] * 50, method="GET")

    with pytest.raises(StoreUnavailable, match="list s3://bucket.*503 SlowDown"):
        await store.list("")

    assert len(proxy.seen) == s3.TRIES


async def test_server_that_is_not_there_is_unavailable(tmp_path: pathlib.Path) -> None:
    store = open_at("s3://bucket?endpoint=http://127.0.0.1:1", write_credentials(tmp_path / "credentials"))

    for operation in (store.create, store.put):
        with pytest.raises(StoreUnavailable, match="s3://bucket/a: no answer"):
            await operation("a", [b"x"])
    await store.close()


async def test_404_of_something_that_is_no_s3_server_is_not_an_absent_object(store: S3Store, proxy: FaultProxy) -> None:
    """Or a proxy that has lost its way would make a cluster look empty."""
    proxy.expect(*[Fault.NOT_S3] * s3.TRIES, method="GET")

    with pytest.raises(StoreUnavailable, match="is the endpoint an S3 server"):
        await store.get("cluster")


async def test_missing_bucket_is_told_by_every_operation(s3_server: S3Server, tmp_path: pathlib.Path) -> None:
    credentials = write_credentials(tmp_path / "credentials")
    store = open_at(f"s3://no-such-bucket?endpoint={s3_server.endpoint}", credentials)

    for operation in (
        store.create("a", [b"x"]),
        store.put("a", [b"x"]),
        store.get("a"),
        store.get_range("a", 0, 1),
        store.list(""),
        store.delete(["a", "b"]),
    ):
        with pytest.raises(BucketNotFound, match="make the bucket, or name another"):
            await operation
    await store.close()


async def test_credentials_that_were_rotated_are_read_again(
    store: S3Store, proxy: FaultProxy, tmp_path: pathlib.Path
) -> None:
    await store.create("a/0", [b"x"])
    write_credentials(tmp_path / "credentials", access_key="rotated", token="token")

    for number, method in enumerate(("PUT", "GET")):
        proxy.expect(Fault.EXPIRED, method=method)
        write_credentials(tmp_path / "credentials", access_key=f"rotated{number}")
        await store.create("a/1", [b"x"]) if method == "PUT" else await store.get("a/0")

    assert [seen.fault for seen in proxy.seen] == [None, Fault.EXPIRED, None, Fault.EXPIRED, None]


async def test_refused_credentials_that_are_still_the_same_are_rejected(store: S3Store, proxy: FaultProxy) -> None:
    proxy.expect(Fault.EXPIRED)

    with pytest.raises(StoreCredentialsRejected, match="ExpiredToken"):
        await store.create("a/0", [b"x"])

    assert len(proxy.seen) == 1


async def test_missing_credential_files_are_named_and_found_when_they_come(
    store: S3Store, tmp_path: pathlib.Path
) -> None:
    folder = tmp_path / "credentials"
    (folder / "secret-key").unlink()
    with pytest.raises(StoreCredentialsRejected, match=f"^{folder}/secret-key cannot be read"):
        await store.create("a/0", [b"x"])

    write_credentials(folder)

    await store.create("a/0", [b"x"])


async def test_keys_outside_the_prefix_are_not_seen(s3_server: S3Server, store: S3Store, tmp_path) -> None:
    inside = store._bucket
    outside = open_at(f"s3://{inside}?endpoint={s3_server.endpoint}", write_credentials(tmp_path / "credentials"))
    await outside.put("some/prefix-2/a", [b"x"])
    await store.put("a", [b"y"])

    assert [info.key for info in await store.list("")] == ["a"]
    assert [info.key for info in await outside.list("")] == ["some/prefix-2/a", "some/prefix/a"]
    await outside.close()


async def test_large_body_goes_up_in_parts(store: S3Store, proxy: FaultProxy) -> None:
    body = [os.urandom(s3.SINGLE_PUT_BYTES_MAX), b"tail"]

    await store.put("large", body)

    assert [len(seen.body) for seen in proxy.puts if "uploadId" in seen.path].count(s3.PART_BYTES) == 2
    assert await store.get("large") == b"".join(body)


async def test_advisory_operations_of_s3(store: S3Store) -> None:
    assert isinstance(store, AdvisoryOperations)
    await store.put("a", [b"first"])
    tag = await store.tag("a")

    assert await store.replace("a", [b"second"], tag=tag)
    assert not await store.replace("a", [b"third"], tag=tag)
    assert not await store.replace("b", [b"third"], tag=tag)
    await store.put_in_parts("c", [b"small"])

    assert await store.get("a") == b"second"
    assert await store.get("c") == b"small"
    with pytest.raises(ObjectNotFound):
        await store.tag("missing")


async def test_many_requests_at_once_need_no_more_than_the_pool(store: S3Store) -> None:
    await asyncio.gather(*(store.create(f"many/{number:03d}", [b"x"]) for number in range(100)))

    assert len(await store.list("many/")) == 100


async def test_connection_that_swallows_everything_ends_in_unavailable(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "EXACT_TIMEOUT_S", 0.2)

    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.read(-1)
        finally:
            writer.close()
            ended.set()

    ended = asyncio.Event()
    server = await asyncio.start_server(swallow, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    store = open_at(f"s3://bucket?endpoint=http://{host}:{port}", write_credentials(tmp_path / "credentials"))

    with pytest.raises(StoreUnavailable, match="no answer"):
        await store.create("a", [bytes(100)])

    await store.close()
    await ended.wait()
    server.close()
    await server.wait_closed()
    await asyncio.sleep(0)
