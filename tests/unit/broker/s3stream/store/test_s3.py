"""The S3 store on a bad day: answers that are lost, refused, late or somebody else's. Through a proxy, on moto."""

import asyncio
import pathlib

import pytest

from automq.runtime.entropy import SeededEntropy
from automq.s3stream.ports import (
    AdvisoryOperations,
    BucketNotFound,
    ObjectExists,
    ObjectNotFound,
    StoreConflict,
    StoreCredentialsRejected,
    StoreError,
    StoreRefused,
    StoreUnavailable,
    UnfinishedUpload,
)
from automq.s3stream.store import s3, s3_tries
from automq.s3stream.store.conditional import KeyTaken, create_once
from automq.s3stream.store.s3 import S3Store
from automq.s3stream.store.s3_checksums import Checksum, checksum_of
from automq.s3stream.store.s3_errors import HurtRequest
from tests.support.fault_proxy import Fault, FaultProxy, Reply, Result
from tests.support.s3_server import S3Server, write_credentials
from tests.unit.broker.s3stream.store.conftest import open_at
from tests.unit.broker.s3stream.store.s3_error_list import ERRORS


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault.CONFLICT, StoreConflict),
        (Fault.SLOW_DOWN, StoreUnavailable),
        (Fault.DROPPED, StoreUnavailable),
        (Fault.LOST, StoreUnavailable),
        (Fault.NOT_S3, StoreRefused),
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

    assert len(proxy.seen) == s3_tries.TRIES


async def test_server_that_is_not_there_is_unavailable(tmp_path: pathlib.Path) -> None:
    store = open_at("s3://bucket?endpoint=http://127.0.0.1:1", write_credentials(tmp_path / "credentials"))

    for operation in (store.create, store.put):
        with pytest.raises(StoreUnavailable, match="s3://bucket/a: no answer"):
            await operation("a", [b"x"])
    await store.close()


async def test_404_of_something_that_is_no_s3_server_is_not_an_absent_object(store: S3Store, proxy: FaultProxy) -> None:
    """Or a proxy that has lost its way would make a cluster look empty."""
    proxy.expect(*[Fault.NOT_S3] * s3_tries.TRIES, method="GET")

    with pytest.raises(StoreRefused, match="is the endpoint an S3 server"):
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
    inside = store._requests.bucket
    outside = open_at(f"s3://{inside}?endpoint={s3_server.endpoint}", write_credentials(tmp_path / "credentials"))
    await outside.put("some/prefix-2/a", [b"x"])
    await store.put("a", [b"y"])

    assert [info.key for info in await store.list("")] == ["a"]
    assert [info.key for info in await outside.list("")] == ["some/prefix-2/a", "some/prefix/a"]
    await outside.close()


async def test_f1_every_small_body_is_sent_with_its_checksum(store: S3Store, proxy: FaultProxy) -> None:
    await store.create("a/created", [b"body ", b"in two"])
    tag = await store.tag("a/created")
    await store.replace("a/created", [b"another body"], tag=tag)
    await store.put("a/put", [b"a third"])
    await store.create_bulk("a/bulk", [b"a fourth"])

    assert len(proxy.puts) == 4
    for seen in proxy.puts:
        assert seen.headers["x-amz-checksum-crc32c"] == checksum_of(Checksum.CRC32C, [seen.body])


async def test_f1_store_that_wants_content_md5_gets_it(
    s3_server: S3Server, proxy: FaultProxy, tmp_path: pathlib.Path
) -> None:
    uri = s3_server.make_store_uri(endpoint=proxy.endpoint) + "&checksum=md5"
    store = open_at(uri, write_credentials(tmp_path / "credentials"))
    await store.create("a/created", [b"body"])
    await store.put("a/put", [b"another"])
    await store.put_in_parts("a/parts", [b"in parts"])

    assert len(proxy.puts) == 3
    for seen in proxy.puts:
        assert seen.headers["content-md5"] == checksum_of(Checksum.MD5, [seen.body])
        assert "x-amz-checksum-crc32c" not in seen.headers
    await store.close()


async def test_b13_damaged_body_is_refused_and_sent_again(store: S3Store, proxy: FaultProxy) -> None:
    proxy.expect(Fault.DAMAGED)
    await store.put("a/put", [b"body"])
    proxy.expect(Fault.DAMAGED)
    await create_once(store, "a/created", [b"body"], decode=bytes, entropy=SeededEntropy(1))

    assert [seen.fault for seen in proxy.puts] == [Fault.DAMAGED, None, Fault.DAMAGED, None]
    assert await store.get("a/put") == await store.get("a/created") == b"body"


async def test_b13_body_that_is_damaged_at_each_try_is_refused(store: S3Store, proxy: FaultProxy) -> None:
    proxy.expect(*[Fault.DAMAGED] * s3_tries.TRIES)

    with pytest.raises(HurtRequest, match="see to the network"):
        await store.put("a/put", [b"body"])

    assert await store.list("") == []


@pytest.mark.parametrize("pages", [1, 5])
async def test_k5_empty_page_is_not_the_last_one(store: S3Store, proxy: FaultProxy, pages: int) -> None:
    for number in range(3):
        await store.put(f"a/{number}", [b"x"])
    proxy.expect(*[Fault.EMPTY_PAGE] * pages, method="GET")

    assert [info.key for info in await store.list("a/")] == ["a/0", "a/1", "a/2"]


async def test_k5_listing_that_never_ends_is_unavailable(
    store: S3Store, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "EMPTY_PAGES_MAX", 7)
    proxy.expect(*[Fault.EMPTY_PAGE] * 100, method="GET")

    with pytest.raises(StoreUnavailable, match="8 pages without a key"):
        await store.list("a/")

    assert len(proxy.seen) == 8


async def test_k5_empty_page_that_leads_nowhere_is_asked_for_again(store: S3Store, proxy: FaultProxy) -> None:
    await store.put("a/0", [b"x"])
    proxy.expect(Fault.EMPTY_LAST, method="GET")

    assert [info.key for info in await store.list("a/")] == ["a/0"]

    proxy.expect(*[Fault.EMPTY_LAST] * s3_tries.TRIES, method="GET")
    with pytest.raises(StoreUnavailable, match="and not where"):
        await store.list("a/")


async def test_listing_of_many_pages_goes_on_by_the_servers_token(
    store: S3Store, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "PAGE_KEYS_MAX", 2)
    for number in range(5):
        await store.put(f"a/{number}", [b"x"])
    before = len(proxy.seen)

    listed = [info.key for info in await store.list("a/", start_after="a/0")]

    assert listed == ["a/1", "a/2", "a/3", "a/4"]
    assert ["continuation-token=" in seen.path for seen in proxy.seen[before:]] == [False, True]


async def test_k4_folder_markers_and_strangers_are_listed(
    store: S3Store, s3_server: S3Server, tmp_path: pathlib.Path
) -> None:
    """What is ours the caller knows; what erases a folder must see everything in it."""
    bucket = store._requests.bucket
    client = s3_server.client()
    for key in ("some/prefix/", "some/prefix/a/", "some/prefix/a/notes.txt~", "some/prefix/a/\u00e4 b"):
        client.put_object(Bucket=bucket, Key=key, Body=b"")
    await store.put("a/0", [b"x"])

    assert [info.key for info in await store.list("")] == ["", "a/", "a/0", "a/notes.txt~", "a/\u00e4 b"]


@pytest.mark.parametrize("answer", [Fault.GONE, Reply(404, "")])
async def test_k3_delete_of_a_missing_key_is_no_error(store: S3Store, proxy: FaultProxy, answer: Fault | Reply) -> None:
    await store.put("a/0", [b"x"])
    proxy.expect(Fault.LOST, answer, method="DELETE")

    await store.delete(["a/0"])

    assert await store.list("") == []


async def test_k3_missing_upload_is_no_error(store: S3Store, proxy: FaultProxy) -> None:
    proxy.expect(Reply(404, "NoSuchUpload"), method="DELETE")

    await store.abort_uploads([UnfinishedUpload("a/0", "some-id", None)])


async def test_k3_404_of_something_that_is_no_s3_server_deletes_nothing(store: S3Store, proxy: FaultProxy) -> None:
    await store.put("a/0", [b"x"])
    proxy.expect(Fault.NOT_S3, method="DELETE")

    with pytest.raises((StoreRefused, StoreUnavailable)):
        await store.delete(["a/0"])


@pytest.mark.parametrize(
    "answer", [Reply(400, "MissingContentMD5"), Reply(501, "NotImplemented"), Reply(400, ""), Reply(405, "")]
)
async def test_k6_store_without_batch_deletes_gets_single_ones(
    store: S3Store, proxy: FaultProxy, answer: Reply
) -> None:
    for number in range(4):
        await store.put(f"a/{number}", [b"x"])
    proxy.expect(answer, method="POST", part="delete")

    await store.delete(["a/0", "a/1", "a/missing"])
    await store.delete(["a/2", "a/3"])

    assert await store.list("") == []
    assert [seen.method for seen in proxy.seen if seen.method in ("POST", "DELETE")] == ["POST", *["DELETE"] * 5]


async def test_k3_key_that_a_batch_leaves_is_deleted_by_itself(store: S3Store, proxy: FaultProxy) -> None:
    for number in range(3):
        await store.put(f"a/{number}", [b"x"])
    errors = "".join(
        f"<Error><Key>some/prefix/a/{number}</Key><Code>{code}</Code></Error>"
        for number, code in enumerate(("InternalError", "NoSuchKey"))
    )
    proxy.expect(Result(f"<DeleteResult>{errors}</DeleteResult>"), method="POST", part="delete")

    await store.delete(["a/0", "a/1", "a/2"])

    assert [seen.path for seen in proxy.seen if seen.method == "DELETE"] == [
        f"/{store._requests.bucket}/some/prefix/a/0"
    ]


async def test_batch_of_deletes_is_checked_by_content_md5(store: S3Store, proxy: FaultProxy) -> None:
    await store.delete(["a/0", "a/1"])

    (seen,) = proxy.seen
    assert seen.headers["content-md5"] == checksum_of(Checksum.MD5, [seen.body])
    assert not [name for name in seen.headers if name.startswith("x-amz-checksum")]


async def test_unfinished_uploads_are_listed_by_prefix_and_aborted(store: S3Store, s3_server: S3Server) -> None:
    client = s3_server.client()
    for key in ("some/prefix/a/1", "some/prefix/a/2", "some/prefix/b/1", "elsewhere"):
        client.create_multipart_upload(Bucket=store._requests.bucket, Key=key)

    uploads = await store.list_uploads("a/")
    assert [upload.key for upload in uploads] == ["a/1", "a/2"]
    assert all(upload.started_ms is not None for upload in uploads)
    await store.abort_uploads(uploads)

    assert [upload.key for upload in await store.list_uploads("")] == ["b/1"]


@pytest.mark.parametrize(("status", "code", "error"), ERRORS)
async def test_k6_each_error_of_the_list_has_its_exception_with_each_client(
    store: S3Store,
    proxy: FaultProxy,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    code: str,
    error: type[StoreError],
) -> None:
    """By aiobotocore, by obstore, and by the sender of large bodies."""
    monkeypatch.setattr(s3_tries, "TRIES", 1)
    await store.time_ms()
    for operation, method in (
        (store.create("a", [b"x"]), "PUT"),
        (store.get("a"), "GET"),
        (store.get_range("a", 0, 1), "GET"),
        (store.put("a", [b"x"]), "PUT"),
    ):
        if method == "GET" and status == s3_tries.RANGE_NOT_SATISFIABLE:
            operation.close()
            continue
        proxy.expect(*[Reply(status, code)] * 3, method=method)
        with pytest.raises(StoreError) as raised:
            await operation
        proxy.forget()
        assert type(raised.value) is error, (operation, raised.value)


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
    monkeypatch.setattr(s3_tries, "EXACT_TIMEOUT_S", 0.2)

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
