"""Large bodies: in parts, each checked and tried again by itself, and nothing is left behind."""

import asyncio
import os

import pytest

from automq.s3stream.ports import ObjectExists, StoreAccessDenied, StoreConflict, StoreRefused, StoreUnavailable
from automq.s3stream.store import s3_bulk, s3_tries
from automq.s3stream.store.s3 import S3Store
from automq.s3stream.store.s3_checksums import Checksum, checksum_of
from tests.support.fault_proxy import Fault, FaultProxy, Reply, Seen

BODY = [os.urandom(2 * s3_bulk.PART_BYTES), b"tail"]


def parts(proxy: FaultProxy) -> list[Seen]:
    return [seen for seen in proxy.puts if "partNumber" in seen.path]


def posts(proxy: FaultProxy, part: str) -> list[Seen]:
    return [seen for seen in proxy.seen if seen.method == "POST" and part in seen.path]


async def nothing_is_left(store: S3Store) -> bool:
    return not await store.list("") and not await store.list_uploads("")


async def test_large_body_goes_up_in_parts(store: S3Store, proxy: FaultProxy) -> None:
    await store.put("large", BODY)

    assert sorted(len(seen.body) for seen in parts(proxy)) == [4, s3_bulk.PART_BYTES, s3_bulk.PART_BYTES]
    assert await store.get("large") == b"".join(BODY)


async def test_f1_every_part_is_sent_with_its_checksum(store: S3Store, proxy: FaultProxy) -> None:
    await store.put("large", BODY)

    for seen in parts(proxy):
        assert seen.headers["x-amz-checksum-crc32c"] == checksum_of(Checksum.CRC32C, [seen.body])
    (completed,) = posts(proxy, "uploadId")
    for seen in parts(proxy):
        assert seen.headers["x-amz-checksum-crc32c"] in completed.body.decode()


@pytest.mark.parametrize("fault", [Fault.SLOW_DOWN, Fault.DROPPED, Fault.LOST, Fault.DAMAGED, Reply(500, "")])
async def test_part_that_failed_is_sent_again_alone(store: S3Store, proxy: FaultProxy, fault: Fault) -> None:
    proxy.expect(fault, part="partNumber=2")

    await store.put("large", BODY)

    numbers = sorted(seen.path.partition("partNumber=")[2][0] for seen in parts(proxy))
    assert numbers == ["1", "2", "2", "3"]
    assert await store.get("large") == b"".join(BODY)


async def test_upload_that_fails_is_aborted(store: S3Store, proxy: FaultProxy) -> None:
    proxy.expect(*[Fault.SLOW_DOWN] * s3_tries.TRIES, part="partNumber=2")

    with pytest.raises(StoreUnavailable, match=r"put part 2 of s3://.*503"):
        await store.put("large", BODY)

    assert await nothing_is_left(store)


async def test_upload_that_is_cancelled_is_aborted(store: S3Store, proxy: FaultProxy) -> None:
    under_way = asyncio.Event()
    proxy.hold(part="partNumber=2", until=asyncio.Event(), arrived=under_way)
    writing = asyncio.ensure_future(store.put("large", BODY))
    await under_way.wait()

    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing

    assert await nothing_is_left(store)


async def test_refusal_of_the_abort_does_not_hide_the_error(store: S3Store, proxy: FaultProxy) -> None:
    proxy.expect(Reply(400, "InvalidArgument"), part="partNumber=1")
    proxy.expect(Reply(403, "AccessDenied"), method="DELETE")

    with pytest.raises(StoreRefused, match="InvalidArgument"):
        await store.put("large", BODY)


async def test_lost_answer_to_the_completion_is_made_up_for(store: S3Store, proxy: FaultProxy) -> None:
    proxy.expect(Fault.LOST, method="POST", part="uploadId")

    await store.put("large", BODY)

    assert await store.get("large") == b"".join(BODY)


async def test_upload_that_vanished_is_begun_anew(store: S3Store, proxy: FaultProxy) -> None:
    proxy.expect(Reply(404, "NoSuchUpload"), method="POST", part="uploadId")

    await store.put("large", BODY)

    assert await store.get("large") == b"".join(BODY)
    assert len(posts(proxy, "uploads")) == 2
    assert not await store.list_uploads("")


async def test_conflict_at_the_completion_begins_anew(store: S3Store, proxy: FaultProxy) -> None:
    proxy.expect(Fault.CONFLICT, method="POST", part="uploadId")
    await store.create_bulk("large", BODY)
    assert await store.get("large") == b"".join(BODY)

    proxy.expect(*[Fault.CONFLICT] * s3_tries.TRIES, method="POST", part="uploadId")
    with pytest.raises(StoreConflict):
        await store.create_bulk("another", BODY)
    assert not await store.list_uploads("")


async def test_creation_asks_the_store_to_refuse_at_the_completion(store: S3Store, proxy: FaultProxy) -> None:
    await store.create_bulk("large", BODY)

    (completed,) = posts(proxy, "uploadId")
    assert completed.headers["if-none-match"] == "*"


async def test_creation_of_a_taken_key_sends_no_part(store: S3Store, proxy: FaultProxy) -> None:
    await store.put("large", [b"theirs"])
    await store.put("empty", [])

    for key in ("large", "empty"):
        with pytest.raises(ObjectExists):
            await store.create_bulk(key, BODY)

    assert parts(proxy) == []
    assert await store.get("large") == b"theirs"


async def test_creation_that_lost_a_race_is_refused_at_the_completion(store: S3Store, proxy: FaultProxy) -> None:
    proxy.expect(Reply(404, "NoSuchKey"), method="GET")
    await store.put("large", [b"theirs"])

    with pytest.raises(ObjectExists):
        await store.create_bulk("large", BODY)

    assert await store.get("large") == b"theirs"
    assert not await store.list_uploads("")


@pytest.mark.parametrize("answer", [Reply(501, "NotImplemented"), Reply(400, "InvalidArgument")])
async def test_store_without_a_condition_on_completions_is_asked_before(
    store: S3Store, proxy: FaultProxy, answer: Reply
) -> None:
    proxy.expect(answer, method="POST", part="uploadId")

    await store.create_bulk("large", BODY)
    await store.create_bulk("second", BODY)
    with pytest.raises(ObjectExists):
        await store.create_bulk("large", BODY)

    assert await store.get("large") == b"".join(BODY)
    conditions = [seen.headers.get("if-none-match") for seen in posts(proxy, "uploadId")]
    assert conditions == ["*", None, None]


async def test_lost_answer_to_a_creation_may_meet_its_own_object(store: S3Store, proxy: FaultProxy) -> None:
    proxy.expect(Fault.LOST)

    with pytest.raises(ObjectExists):
        await store.create_bulk("small", [b"ours"])

    assert await store.get("small") == b"ours"


async def test_refusal_of_a_part_is_told_as_it_is(store: S3Store, proxy: FaultProxy) -> None:
    proxy.expect(Reply(403, "AccessDenied"), part="partNumber=3")

    with pytest.raises(StoreAccessDenied):
        await store.put("large", BODY)

    assert await nothing_is_left(store)
