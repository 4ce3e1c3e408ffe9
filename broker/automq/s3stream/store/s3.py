"""A store in an S3 bucket: Amazon's, MinIO's, Ceph's.

`create` is one conditional PUT, asked once: its unknown outcomes are the caller's (`conditional.create_once`).
Everything else may be done twice, and is tried again here. Every body travels with a checksum that the store verifies:
what is cut or damaged on its way is refused, never stored. Credentials that the store refuses are read again before it
is said so.
"""

import email.utils
from collections.abc import Callable, Sequence
from typing import Any, Final

import botocore.exceptions

from automq.runtime.entropy import Entropy
from automq.runtime.workers import Workers
from automq.s3stream.ports import (
    Buffer,
    ObjectExists,
    ObjectInfo,
    ObjectNotFound,
    RangeReader,
    StoreRefused,
    StoreUnavailable,
    StoreUnsupported,
    UnfinishedUpload,
)
from automq.s3stream.store.keys import check_deletable, check_key
from automq.s3stream.store.requests import Operation, RequestListener, RequestOutcome
from automq.s3stream.store.s3_bulk import PART_BYTES_MIN, SINGLE_PUT_BYTES_MAX, BulkWriter
from automq.s3stream.store.s3_checksums import ARGUMENTS, Checksum, checksum_of, wrong_checksum_of
from automq.s3stream.store.s3_clients import S3Clients, S3Place
from automq.s3stream.store.s3_credentials import AmbientCredentials, CredentialSource, FolderCredentials
from automq.s3stream.store.s3_range import S3RangeReader
from automq.s3stream.store.s3_tries import S3Requests

Infos = list[ObjectInfo]
Uploads = list[UnfinishedUpload]

# S3's own limit of keys in one delete, and in one page of a listing.
DELETE_KEYS_MAX: Final = 1000
PAGE_KEYS_MAX: Final = 1000
# S3 may answer a page without a key though more follow: in a bucket with versions, after many deletes.
EMPTY_PAGES_MAX: Final = 1000
# What a 404 to a delete is called: by Amazon's rules, and where the answer has no body.
_GONE: Final = frozenset({"NoSuchKey", "NoSuchUpload", "NoSuchVersion", "404", "Not Found"})


class S3Store:
    """Objects below the prefix of one bucket. Clients are made at the first use, on the running loop."""

    def __init__(
        self,
        place: S3Place,
        *,
        prefix: str,
        workers: Workers,
        make_senders: Callable[[], Workers],
        entropy: Entropy,
        credentials_folder: str | None = None,
        single_put_bytes_max: int = SINGLE_PUT_BYTES_MAX,
    ) -> None:
        """`prefix` goes before every key, with a slash in between; empty for none.

        Bodies above `single_put_bytes_max` go up in parts.

        `make_senders` makes the threads that large bodies are sent by; they may be blocked for as long as the store is.
        """
        source: CredentialSource = (
            FolderCredentials(credentials_folder, workers=workers) if credentials_folder else AmbientCredentials()
        )
        self._source = source
        self._prefix = f"{prefix}/" if prefix else ""
        self._checksum = place.checksum
        self._workers = workers
        self._clients = S3Clients(place, source, make_workers=make_senders)
        self._requests = S3Requests(self._clients, source, bucket=place.bucket, prefix=self._prefix, entropy=entropy)
        self._bulk = BulkWriter(
            self._requests, checksum=place.checksum, workers=workers, single_put_bytes_max=single_put_bytes_max
        )
        self._deletes_in_batches = True
        """Until the store refuses one."""

    def on_request(self, listener: RequestListener) -> None:
        """Implements `ReportsRequests`."""
        self._requests.listen(listener)

    async def get(self, key: str) -> bytes:
        name = self._name(key)
        data, _ = await self._requests.retrying(self._what("get", name), lambda: self._requests.read(name, None, None))
        return bytes(data)

    async def get_range(self, key: str, start: int, end: int) -> Buffer:
        assert 0 <= start < end
        name = self._name(key)
        data, _ = await self._requests.retrying(self._what("get", name), lambda: self._requests.read(name, start, end))
        return data

    def open_range(self, key: str, start: int, end: int) -> RangeReader:
        """Implements `StreamsRanges`."""
        assert 0 <= start < end
        return S3RangeReader(self._requests, self._name(key), start, end)

    async def put(self, key: str, body: Sequence[Buffer]) -> None:
        await self._bulk.put(self._name(key), body, if_absent=False)

    async def create(self, key: str, body: Sequence[Buffer]) -> None:
        name = self._name(key)
        await self._put_once("create", name, b"".join(body), IfNoneMatch="*")

    async def create_bulk(self, key: str, body: Sequence[Buffer]) -> None:
        await self._bulk.put(self._name(key), body, if_absent=True)

    async def delete(self, keys: Sequence[str]) -> None:
        names = [self._prefix + check_deletable(key) for key in keys]
        for first in range(0, len(names), DELETE_KEYS_MAX):
            await self._delete(names[first : first + DELETE_KEYS_MAX])

    async def list(self, prefix: str, *, start_after: str = "", limit: int = 1_000_000) -> list[ObjectInfo]:
        found: list[ObjectInfo] = []
        whole = self._prefix + prefix
        position = {"StartAfter": self._prefix + start_after} if start_after else {}
        empty_pages = 0
        while len(found) < limit:
            page, position = await self._page(whole, position, min(PAGE_KEYS_MAX, limit - len(found)))
            if page and found and page[0].key <= found[-1].key:
                raise StoreUnavailable(
                    f"{self._what('list', whole)}: a page begins before the end of the one before it"
                )
            found.extend(page)
            if not position:
                break
            empty_pages = 0 if page else empty_pages + 1
            if empty_pages > EMPTY_PAGES_MAX:
                raise StoreUnavailable(
                    f"{self._what('list', whole)}: {empty_pages} pages without a key, and each says that more follow"
                )
        return found

    async def time_ms(self) -> int | None:
        async def ask() -> int | None:
            answer = await self._requests.ask("list_objects_v2", about="", Prefix=self._prefix, MaxKeys=1)
            return _time_ms(answer["ResponseMetadata"]["HTTPHeaders"].get("date", ""))

        return await self._requests.retrying(self._what("list", self._prefix), ask)

    async def list_uploads(self, prefix: str) -> Sequence[UnfinishedUpload]:
        found: Uploads = []
        markers: dict[str, str] = {}
        whole, skipped = self._prefix + prefix, len(self._prefix)

        async def page() -> Any:
            return await self._requests.ask("list_multipart_uploads", about=whole, Prefix=whole, **markers)

        while True:
            answer = await self._requests.retrying(self._what("list uploads of", whole), page)
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
            await self._delete_one("abort_multipart_upload", name, UploadId=upload.upload_id)

    async def close(self) -> None:
        await self._clients.close()

    async def tag(self, key: str) -> str:
        """The object's ETag."""
        # Not a HEAD: its 404 has no body, and so no code.
        name = self._name(key)
        _, tag = await self._requests.retrying(self._what("get", name), lambda: self._requests.read(name, None, None))
        return tag

    async def replace(self, key: str, body: Sequence[Buffer], *, tag: str) -> bool:
        """Conditional overwrite (If-Match); whether the object still had `tag`."""
        try:
            await self._put_once("replace", self._name(key), b"".join(body), IfMatch=tag)
        except (ObjectExists, ObjectNotFound):
            return False
        return True

    async def put_in_parts(self, key: str, body: Sequence[Buffer], *, if_absent: bool = False) -> None:
        """A multipart upload; with `if_absent`, nothing but the store itself refuses it."""
        name = self._name(key)
        await self._bulk.put(name, body, if_absent=if_absent, in_parts_of=PART_BYTES_MIN, checks_existence=False)

    async def refuses_damaged(self, key: str, body: Sequence[Buffer]) -> bool:
        """Put with a wrong checksum; whether the store refused it."""
        content = b"".join(body)
        wrong = {ARGUMENTS[self._checksum]: wrong_checksum_of(self._checksum, content)}
        try:
            await self._put_once("put", self._name(key), content, **wrong)
        except StoreRefused:
            return True
        return False

    async def delete_in_batch(self, keys: Sequence[str]) -> None:
        """Remove the keys by one request. Raises StoreRefused or StoreUnsupported where there is none such."""
        left = await self._delete_batch([self._name(key) for key in keys])
        if left:
            raise StoreRefused(f"{self._what('delete', left[0])}: it is still there")

    async def put_half(self, key: str, body: Sequence[Buffer], *, if_absent: bool) -> bool:
        """What a process leaves that dies in the middle of a put (or of a create, with `if_absent`)."""
        sender, workers = await self._clients.sender()
        headers = {"If-None-Match": "*"} if if_absent else {}
        credential = await self._source.current()
        name, content = self._name(key), b"".join(body)

        async def put() -> None:
            await workers.run(
                sender.put_half, name, content, credential=credential, checksum=self._checksum, headers=headers
            )

        try:
            await self._requests.once(self._what("put", name), put)
        finally:
            self._requests.report(Operation.PUT_OBJECT, name, RequestOutcome.NO_ANSWER, sent_bytes=len(content) // 2)
        return True

    def _name(self, key: str) -> str:
        return self._prefix + check_key(key)

    def _what(self, operation: str, name: str) -> str:
        return f"{operation} {self._requests.place(name)}"

    async def _put_once(self, operation: str, name: str, content: bytes, **arguments: str) -> None:
        """One PUT of a small body, and its outcome whatever it is."""
        header = ARGUMENTS[self._checksum]
        if header not in arguments:
            if self._checksum is Checksum.CRC32C:
                arguments[header] = checksum_of(self._checksum, [content])
            else:
                arguments[header] = await self._workers.run(checksum_of, self._checksum, [content])

        async def put() -> None:
            await self._requests.ask("put_object", about=name, Key=name, Body=content, **arguments)

        await self._requests.once(self._what(operation, name), put)

    async def _delete(self, names: Sequence[str]) -> None:
        if len(names) > 1 and self._deletes_in_batches:
            try:
                names = await self._delete_batch(names)
            except (StoreRefused, StoreUnsupported):
                # Not every store knows it.
                self._deletes_in_batches = False
        for name in names:
            await self._delete_one("delete_object", name)

    async def _delete_one(self, operation: str, name: str, **arguments: str) -> None:
        """Remove one key, or one upload; that it is gone already is no error."""

        async def delete() -> None:
            try:
                await self._requests.ask(operation, about=name, Key=name, **arguments)
            except botocore.exceptions.ClientError as error:
                status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
                if status != 404 or error.response.get("Error", {}).get("Code") not in _GONE:
                    raise

        await self._requests.retrying(self._what("delete", name), delete)

    async def _delete_batch(self, names: Sequence[str]) -> Sequence[str]:
        """Remove keys by one request; those that the store says it could not remove, for reasons of their own."""
        what = f"delete {self._requests.place(names[0])} and {len(names) - 1} more"
        objects = [{"Key": name} for name in names]

        async def delete() -> Sequence[str]:
            answer = await self._requests.ask(
                "delete_objects", about=names[0], Delete={"Objects": objects, "Quiet": True}
            )
            return [
                str(error["Key"])
                for error in answer.get("Errors", ())
                if error.get("Code") not in _GONE and error.get("Key")
            ]

        return await self._requests.retrying(what, delete)

    async def _page(self, prefix: str, position: dict[str, str], limit: int) -> tuple[Infos, dict[str, str]]:
        """At most `limit` keys, and where the next page begins; nowhere after the last one."""
        what = self._what("list", prefix)

        async def page() -> tuple[Infos, dict[str, str]]:
            answer = await self._requests.ask("list_objects_v2", about=prefix, Prefix=prefix, MaxKeys=limit, **position)
            skipped = len(self._prefix)
            infos = [
                ObjectInfo(entry["Key"][skipped:], entry["Size"], _instant_ms(entry.get("LastModified")))
                for entry in answer.get("Contents", ())
            ]
            if not answer.get("IsTruncated"):
                return infos, {}
            if token := answer.get("NextContinuationToken"):
                return infos, {"ContinuationToken": token}
            if infos:
                return infos, {"StartAfter": self._prefix + infos[-1].key}
            raise StoreUnavailable(f"{what}: a page without a key says that more follow, and not where")

        return await self._requests.retrying(what, page)


def _instant_ms(instant: Any) -> int | None:
    """Milliseconds of a moment as botocore parsed it; None when the server did not name one."""
    return int(instant.timestamp() * 1000) if instant is not None else None


def _time_ms(date: str) -> int | None:
    """Milliseconds of an HTTP date; None when it is none."""
    try:
        return _instant_ms(email.utils.parsedate_to_datetime(date))
    except ValueError:
        return None
