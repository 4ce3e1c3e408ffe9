"""A store in an S3 bucket: Amazon's, MinIO's, Ceph's.

`create` is one conditional PUT, asked once: its unknown outcomes are the caller's (`conditional.create_once`).
Everything else may be done twice, and is tried again here. Credentials that the store refuses are read again before it
is said so.
"""

import asyncio
import email.utils
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeVar

import obstore

from automq.runtime.backoff import Backoff
from automq.runtime.entropy import Entropy
from automq.runtime.workers import Workers
from automq.s3stream.ports import (
    Buffer,
    ObjectExists,
    ObjectInfo,
    ObjectNotFound,
    StoreCredentialsRejected,
    StoreUnavailable,
    UnfinishedUpload,
)
from automq.s3stream.store.keys import check_deletable, check_key
from automq.s3stream.store.s3_clients import S3Clients, S3Place, translated
from automq.s3stream.store.s3_credentials import AmbientCredentials, CredentialSource, FolderCredentials
from automq.s3stream.store.s3_errors import Answer, error_of

T = TypeVar("T")
Infos = list[ObjectInfo]
Uploads = list[UnfinishedUpload]

# Tries of operations that may be done twice; about a second altogether.
TRIES: Final = 3
# Of one request through aiobotocore, body and all: a connection that swallows what is sent has no other end.
EXACT_TIMEOUT_S: Final = 30.0
# S3's own limit of keys in one delete, and in one page of a listing.
DELETE_KEYS_MAX: Final = 1000
PAGE_KEYS_MAX: Final = 1000
# Above this a body goes up in parts, a few at a time: uploads leave bandwidth and memory to producers.
SINGLE_PUT_BYTES_MAX: Final = 16 << 20
PART_BYTES: Final = 8 << 20
PARTS_INFLIGHT_MAX: Final = 3
# The least that S3 takes as a part that is not the last.
PART_BYTES_MIN: Final = 5 << 20


class S3Store:
    """Objects below the prefix of one bucket. Clients are made at the first use, on the running loop."""

    def __init__(
        self,
        place: S3Place,
        *,
        prefix: str,
        workers: Workers,
        entropy: Entropy,
        credentials_folder: str | None = None,
    ) -> None:
        """`prefix` goes before every key, with a slash in between; empty for none."""
        self._source: CredentialSource = (
            FolderCredentials(credentials_folder, workers=workers) if credentials_folder else AmbientCredentials()
        )
        self._clients = S3Clients(place, self._source)
        self._bucket = place.bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._entropy = entropy

    async def get(self, key: str) -> bytes:
        name = self._name(key)

        async def get() -> bytes:
            bulk, _ = await self._clients.bulk()
            return bytes(await (await obstore.get_async(bulk, name)).bytes_async())

        return await self._retrying(f"get {self._place(name)}", get)

    async def get_range(self, key: str, start: int, end: int) -> Buffer:
        assert 0 <= start < end
        name = self._name(key)

        async def get() -> Buffer:
            bulk, _ = await self._clients.bulk()
            try:
                return memoryview(await obstore.get_range_async(bulk, name, start=start, end=end))
            except obstore.exceptions.GenericError as error:
                if "status code: 416" in str(error):
                    return b""
                raise

        return await self._retrying(f"get {self._place(name)}", get)

    async def put(self, key: str, body: Sequence[Buffer]) -> None:
        size = sum(len(buffer) for buffer in body)
        await self._put(key, body, in_parts=size > SINGLE_PUT_BYTES_MAX, part_bytes=PART_BYTES)

    async def create(self, key: str, body: Sequence[Buffer]) -> None:
        name = self._name(key)
        content = b"".join(body)

        async def create() -> None:
            await self._ask("put_object", Key=name, Body=content, IfNoneMatch="*")

        await self._once(f"create {self._place(name)}", create)

    async def create_bulk(self, key: str, body: Sequence[Buffer]) -> None:
        size = sum(len(buffer) for buffer in body)
        await self._put(key, body, in_parts=size > SINGLE_PUT_BYTES_MAX, part_bytes=PART_BYTES, if_absent=True)

    async def delete(self, keys: Sequence[str]) -> None:
        names = [self._prefix + check_deletable(key) for key in keys]
        for first in range(0, len(names), DELETE_KEYS_MAX):
            await self._delete(names[first : first + DELETE_KEYS_MAX])

    async def list(self, prefix: str, *, start_after: str = "", limit: int = 1_000_000) -> list[ObjectInfo]:
        found: list[ObjectInfo] = []
        while len(found) < limit:
            page, is_last = await self._page(prefix, start_after, min(PAGE_KEYS_MAX, limit - len(found)))
            found.extend(page)
            if is_last:
                break
            start_after = page[-1].key
        return found

    async def time_ms(self) -> int | None:
        async def ask() -> int | None:
            answer = await self._ask("list_objects_v2", Prefix=self._prefix, MaxKeys=1)
            return _time_ms(answer["ResponseMetadata"]["HTTPHeaders"].get("date", ""))

        return await self._retrying(f"list {self._place(self._prefix)}", ask)

    async def list_uploads(self, prefix: str) -> Sequence[UnfinishedUpload]:
        found: Uploads = []
        markers: dict[str, str] = {}
        skipped = len(self._prefix)

        async def page() -> Any:
            return await self._ask("list_multipart_uploads", Prefix=self._prefix + prefix, **markers)

        while True:
            answer = await self._retrying(f"list uploads of {self._place(self._prefix + prefix)}", page)
            found.extend(
                UnfinishedUpload(entry["Key"][skipped:], entry["UploadId"], _instant_ms(entry.get("Initiated")))
                for entry in answer.get("Uploads", ())
            )
            following = {"KeyMarker": answer.get("NextKeyMarker"), "UploadIdMarker": answer.get("NextUploadIdMarker")}
            following = {name: value for name, value in following.items() if value}
            if not answer.get("IsTruncated") or not following or following == markers:
                return found
            markers = following

    async def abort_uploads(self, uploads: Sequence[UnfinishedUpload]) -> None:
        for upload in uploads:
            name = self._name(upload.key)

            async def abort(name: str = name, upload_id: str = upload.upload_id) -> None:
                await self._ask("abort_multipart_upload", Key=name, UploadId=upload_id)

            try:
                await self._retrying(f"abort an upload of {self._place(name)}", abort)
            except ObjectNotFound:
                pass

    async def close(self) -> None:
        await self._clients.close()

    async def tag(self, key: str) -> str:
        """The object's ETag."""
        name = self._name(key)

        async def read() -> str:
            # Not a HEAD: its 404 has no body, and so no code.
            bulk, _ = await self._clients.bulk()
            return (await obstore.get_async(bulk, name)).meta["e_tag"] or ""

        return await self._retrying(f"get {self._place(name)}", read)

    async def replace(self, key: str, body: Sequence[Buffer], *, tag: str) -> bool:
        """Conditional overwrite (If-Match); whether the object still had `tag`."""
        name = self._name(key)

        async def replace() -> None:
            await self._ask("put_object", Key=name, Body=b"".join(body), IfMatch=tag)

        try:
            await self._once(f"replace {self._place(name)}", replace)
        except (ObjectExists, ObjectNotFound):
            return False
        return True

    async def put_in_parts(self, key: str, body: Sequence[Buffer]) -> None:
        """A multipart upload."""
        await self._put(key, body, in_parts=True, part_bytes=PART_BYTES_MIN)

    async def refuses_damaged(self, key: str, body: Sequence[Buffer]) -> bool:
        """Put with a wrong CRC-32C; whether the store refused it."""
        name = self._name(key)
        content = b"".join(body)

        async def put() -> None:
            await self._ask("put_object", Key=name, Body=content, ChecksumCRC32C="AAAAAA==")

        try:
            await self._once(f"put {self._place(name)}", put)
        except StoreUnavailable as error:
            if "BadDigest" in str(error) or "answered 400" in str(error):
                return True
            raise
        return False

    def _name(self, key: str) -> str:
        return self._prefix + check_key(key)

    def _place(self, name: str) -> str:
        return f"s3://{self._bucket}/{name}"

    async def _put(
        self, key: str, body: Sequence[Buffer], *, in_parts: bool, part_bytes: int, if_absent: bool = False
    ) -> None:
        name = self._name(key)
        views = [memoryview(buffer) for buffer in body if len(buffer)]

        async def put() -> None:
            bulk, _ = await self._clients.bulk()
            await obstore.put_async(
                bulk,
                name,
                views if views else b"",
                use_multipart=in_parts,
                chunk_size=part_bytes,
                max_concurrency=PARTS_INFLIGHT_MAX,
                mode="create" if if_absent else "overwrite",
            )

        await self._retrying(f"put {self._place(name)}", put)

    async def _delete(self, names: Sequence[str]) -> None:
        async def delete() -> None:
            if len(names) == 1:
                await self._ask("delete_object", Key=names[0])
                return
            answer = await self._ask(
                "delete_objects", Delete={"Objects": [{"Key": name} for name in names], "Quiet": True}
            )
            for error in answer.get("Errors", ()):
                if error.get("Code") != "NoSuchKey":
                    status = 403 if error.get("Code") == "AccessDenied" else 500
                    refusal = Answer(status=status, code=error.get("Code", ""), message=error.get("Message", ""))
                    raise error_of(refusal, f"delete {self._place(error.get('Key', ''))}")

        await self._retrying(f"delete {self._place(names[0])} and {len(names) - 1} more", delete)

    async def _page(self, prefix: str, start_after: str, limit: int) -> tuple[Infos, bool]:
        """At most `limit` keys, and whether these were the last."""

        async def page() -> tuple[Infos, bool]:
            options = {"StartAfter": self._prefix + start_after} if start_after else {}
            answer = await self._ask("list_objects_v2", Prefix=self._prefix + prefix, MaxKeys=limit, **options)
            skipped = len(self._prefix)
            infos = [
                ObjectInfo(entry["Key"][skipped:], entry["Size"], _instant_ms(entry.get("LastModified")))
                for entry in answer.get("Contents", ())
            ]
            return infos, not answer.get("IsTruncated") or not infos

        return await self._retrying(f"list {self._place(self._prefix + prefix)}", page)

    async def _ask(self, operation: str, **arguments: Any) -> Any:
        client = await self._clients.exact()
        async with asyncio.timeout(EXACT_TIMEOUT_S):
            return await getattr(client, operation)(Bucket=self._bucket, **arguments)

    async def _retrying(self, what: str, operation: Callable[[], Awaitable[T]]) -> T:
        """For what may be done twice."""
        backoff = Backoff(entropy=self._entropy, first_s=0.1, max_s=1.0)
        while True:
            try:
                return await self._once(what, operation)
            except StoreUnavailable:
                if backoff.attempts == TRIES - 1:
                    raise
            await asyncio.sleep(backoff.next_s())

    async def _once(self, what: str, operation: Callable[[], Awaitable[T]]) -> T:
        """One try; a second one when the store refused credentials that have changed meanwhile: it did nothing then."""
        used = await self._source.current()
        try:
            async with translated(what):
                return await operation()
        except StoreCredentialsRejected:
            if not await self._source.refused(used):
                raise
        async with translated(what):
            return await operation()


def _instant_ms(instant: Any) -> int | None:
    """Milliseconds of a moment as botocore parsed it; None when the server did not name one."""
    return int(instant.timestamp() * 1000) if instant is not None else None


def _time_ms(date: str) -> int | None:
    """Milliseconds of an HTTP date; None when it is none."""
    try:
        return _instant_ms(email.utils.parsedate_to_datetime(date))
    except ValueError:
        return None
