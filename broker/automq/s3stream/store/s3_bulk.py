"""Large bodies on their way to S3: one PUT, or a multipart upload whose parts go up a few at a time.

Each request is tried again by itself: what was sent well is not sent again for one part that failed. An upload that
cannot be completed is aborted, so that its parts are not paid for; those of a process that died are found by
`list_uploads`.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from automq.runtime.workers import Workers
from automq.s3stream.ports import (
    Buffer,
    ObjectExists,
    ObjectNotFound,
    StoreConflict,
    StoreError,
    StoreRefused,
    StoreUnavailable,
    StoreUnsupported,
)
from automq.s3stream.store.s3_checksums import ARGUMENTS, Checksum, parts_of
from automq.s3stream.store.s3_tries import TRIES, S3Requests

# Above this a body goes up in parts, if nothing else is said: uploads leave bandwidth and memory to producers.
SINGLE_PUT_BYTES_MAX: Final = 16 << 20
# Parts cost requests, and small ones go up no faster.
PART_BYTES: Final = 12 << 20
PARTS_INFLIGHT_MAX: Final = 3
# The least that S3 takes as a part that is not the last.
PART_BYTES_MIN: Final = 5 << 20
# S3's own limit of parts in one upload.
PARTS_MAX: Final = 10_000
ABORT_SECONDS: Final = 5.0


class BulkWriter:
    """Writes bodies of any size. Names are whole: the prefix and the key."""

    def __init__(
        self,
        requests: S3Requests,
        *,
        checksum: Checksum,
        workers: Workers,
        single_put_bytes_max: int = SINGLE_PUT_BYTES_MAX,
    ) -> None:
        """Bodies up to `single_put_bytes_max` are one request."""
        self._requests = requests
        self._single_put_bytes_max = single_put_bytes_max
        self._checksum = checksum
        self._workers = workers
        self._completes_if_absent = True
        """Until the store says that it knows no condition on completing an upload."""

    async def put(
        self,
        name: str,
        body: Sequence[Buffer],
        *,
        if_absent: bool,
        in_parts_of: int | None = None,
        checks_existence: bool = True,
    ) -> None:
        """Write the concatenation of `body`; with `if_absent`, raise ObjectExists where there is an object already.

        With `checks_existence`, a multipart upload looks for that object before it begins.
        """
        checks_existence = checks_existence and if_absent
        size = sum(len(buffer) for buffer in body)
        part_bytes = in_parts_of or max(PART_BYTES, -(-size // PARTS_MAX))
        if in_parts_of is None and size <= self._single_put_bytes_max:
            views = await self._workers.run(lambda: [memoryview(buffer) for buffer in body if len(buffer)])
            await self._put_whole(name, views, if_absent=if_absent)
            return
        parts = await self._workers.run(lambda: parts_of([memoryview(buffer) for buffer in body], part_bytes))
        for _ in range(TRIES - 1):
            try:
                await self._put_parts(name, parts, if_absent=if_absent, checks_existence=checks_existence)
                return
            except (StoreConflict, ObjectNotFound):
                # Somebody was at the key, or the upload is gone: it was completed, and the answer lost, or aborted.
                continue
        await self._put_parts(name, parts, if_absent=if_absent, checks_existence=checks_existence)

    async def _put_whole(self, name: str, body: Sequence[memoryview], *, if_absent: bool) -> None:
        headers = {"If-None-Match": "*"} if if_absent else {}
        what = f"put {self._requests.place(name)}"

        async def put() -> None:
            await self._requests.send(what, name, body, checksum=self._checksum, query={}, headers=headers)

        await self._requests.retrying(what, put)

    async def _put_parts(
        self, name: str, parts: Sequence[Sequence[memoryview]], *, if_absent: bool, checks_existence: bool
    ) -> None:
        if checks_existence and await self._exists(name):
            # Asked before anything is sent, and for stores that know no condition on completing an upload.
            raise ObjectExists(f"put {self._requests.place(name)}: the key is taken")
        async with self._upload(name) as upload_id:
            sent: list[dict[str, Any]] = [{} for _ in parts]
            numbers = iter(range(len(parts)))

            async def lane(numbers: Iterator[int]) -> None:
                try:
                    for number in numbers:
                        sent[number] = await self._send_part(name, upload_id, number + 1, parts[number])
                finally:
                    # After a failure nobody begins another part.
                    deque(numbers, maxlen=0)

            outcomes = await asyncio.gather(*(lane(numbers) for _ in range(PARTS_INFLIGHT_MAX)), return_exceptions=True)
            for outcome in outcomes:
                if outcome is not None:
                    raise outcome
            await self._complete(name, upload_id, sent, if_absent=if_absent)

    @asynccontextmanager
    async def _upload(self, name: str) -> AsyncIterator[str]:
        arguments = {"ChecksumAlgorithm": "CRC32C"} if self._checksum is Checksum.CRC32C else {}

        async def begin() -> str:
            answer = await self._requests.ask("create_multipart_upload", about=name, Key=name, **arguments)
            return str(answer["UploadId"])

        upload_id = await self._requests.retrying(f"put {self._requests.place(name)}", begin)
        try:
            yield upload_id
        except BaseException:
            await self.abort(name, upload_id)
            raise

    async def abort(self, name: str, upload_id: str) -> None:
        """Try to remove the parts of an upload; what cannot be removed now is found by a listing of uploads."""

        async def abort() -> None:
            await self._requests.ask("abort_multipart_upload", about=name, Key=name, UploadId=upload_id)

        try:
            async with asyncio.timeout(ABORT_SECONDS):
                await self._requests.once(f"abort {self._requests.place(name)}", abort)
        except (StoreError, TimeoutError):
            pass

    async def _send_part(self, name: str, upload_id: str, number: int, part: Sequence[memoryview]) -> dict[str, Any]:
        what = f"put part {number} of {self._requests.place(name)}"

        async def send() -> dict[str, Any]:
            query = {"partNumber": number, "uploadId": upload_id}
            sent = await self._requests.send(what, name, part, checksum=self._checksum, query=query, headers={})
            described: dict[str, Any] = {"PartNumber": number, "ETag": sent.answer.headers.get("etag", "")}
            if self._checksum is Checksum.CRC32C:
                described[ARGUMENTS[self._checksum]] = sent.checksum
            return described

        return await self._requests.retrying(what, send)

    async def _complete(self, name: str, upload_id: str, parts: Sequence[dict[str, Any]], *, if_absent: bool) -> None:
        async def complete(**condition: str) -> None:
            await self._requests.ask(
                "complete_multipart_upload",
                about=name,
                Key=name,
                UploadId=upload_id,
                MultipartUpload={"Parts": list(parts)},
                **condition,
            )

        async def request_again(**condition: str) -> None:
            # Not on a conflict: an upload that met one must be begun anew.
            what = f"complete {self._requests.place(name)}"
            await self._requests.retrying(what, lambda: complete(**condition), again_on=(StoreUnavailable,))

        if not if_absent or not self._completes_if_absent:
            await request_again()
            return
        try:
            await request_again(IfNoneMatch="*")
        except (StoreUnsupported, StoreRefused):
            # It may be the condition that is not known; the key was looked for before.
            await request_again()
            self._completes_if_absent = False

    async def _exists(self, name: str) -> bool:
        async def probe() -> bool:
            await self._requests.read(name, 0, 1)
            return True

        try:
            return await self._requests.retrying(f"get {self._requests.place(name)}", probe)
        except ObjectNotFound:
            return False
