"""A store in a folder: `file:///FOLDER`. One file an object, one worker's turn an operation.

Nothing here touches the disk: that is `folder.Folder`'s, on a worker, because any call may wait for as long as a file
system is frozen or a file server away, and the event loop must not. Here are the limits, and what the system's errors
mean to a reader. Creates pass uploads and reads by: those share `BULK_MAX` workers' turns.
"""

import asyncio
import contextlib
import errno
import os
from collections.abc import Callable, Sequence
from typing import Final, ParamSpec, TypeVar

from automq.runtime.entropy import Entropy
from automq.runtime.workers import Workers
from automq.s3stream.ports import (
    BucketNotFound,
    Buffer,
    ObjectInfo,
    StoreAccessDenied,
    StoreError,
    StoreUnavailable,
    UnfinishedUpload,
)
from automq.s3stream.store.folder import Folder
from automq.s3stream.store.handoff import run_to_end
from automq.s3stream.store.keys import check_deletable, check_key
from automq.s3stream.store.os_calls import OsCalls
from automq.s3stream.store.temporary import TemporaryFiles

P = ParamSpec("P")
T = TypeVar("T")

# Of the four workers, two are left to creates.
BULK_MAX: Final = 2
# One turn of a worker: some 5 ms.
DELETE_BATCH_KEYS: Final = 500


class FileStore:
    """Objects as files below a folder, which is made when its parent is there."""

    def __init__(
        self,
        folder: str,
        *,
        workers: Workers,
        entropy: Entropy,
        calls: OsCalls | None = None,
    ) -> None:
        """`workers` are this store's own, four of them: a file system that hangs takes all that wait for it."""
        self._workers = workers
        self._calls = calls or OsCalls()
        self._folder = Folder(folder, calls=self._calls)
        self._temporary = TemporaryFiles(folder, calls=self._calls, entropy=entropy)
        self._opening = asyncio.Lock()
        self._bulk = asyncio.Semaphore(BULK_MAX)

    async def get(self, key: str) -> bytes:
        async with self._bulk:
            return await self._run(self._folder.read, check_key(key), 0, None)

    async def get_range(self, key: str, start: int, end: int) -> Buffer:
        assert 0 <= start < end
        async with self._bulk:
            return await self._run(self._folder.read, check_key(key), start, end)

    async def put(self, key: str, body: Sequence[Buffer]) -> None:
        if not self._temporary.is_open:
            await self._open()
        size = sum(len(buffer) for buffer in body)
        async with self._bulk:
            await self._run(self._folder.replace, check_key(key), body, self._temporary.take(size))

    async def create(self, key: str, body: Sequence[Buffer]) -> None:
        if not self._temporary.is_open:
            await self._open()
        size = len(body[0]) if len(body) == 1 else sum(len(buffer) for buffer in body)
        await self._run(self._folder.create, check_key(key), body, self._temporary.take(size))

    async def create_bulk(self, key: str, body: Sequence[Buffer]) -> None:
        if not self._temporary.is_open:
            await self._open()
        size = sum(len(buffer) for buffer in body)
        async with self._bulk:
            await self._run(self._folder.create, check_key(key), body, self._temporary.take(size))

    async def delete(self, keys: Sequence[str]) -> None:
        if not self._temporary.is_open:
            await self._open()
        for first in range(0, len(keys), DELETE_BATCH_KEYS):
            batch = [check_deletable(key) for key in keys[first : first + DELETE_BATCH_KEYS]]
            async with self._bulk:
                self._temporary.keep(await self._run(self._folder.delete, batch, self._temporary.keeper()))

    async def list(self, prefix: str, *, start_after: str = "", limit: int = 1_000_000) -> list[ObjectInfo]:
        async with self._bulk:
            return await self._run(self._folder.list, prefix, start_after, limit)

    async def time_ms(self) -> int | None:
        if not self._temporary.is_open:
            await self._open()
        async with self._bulk:
            return await self._run(self._folder.time_ms)

    async def list_uploads(self, prefix: str) -> Sequence[UnfinishedUpload]:
        return []

    async def abort_uploads(self, uploads: Sequence[UnfinishedUpload]) -> None:
        """A folder has no uploads in parts; files of dead processes are swept at the next opening."""

    async def close(self) -> None:
        """Remove this process's temporary files. Idempotent; a later operation opens the store again."""
        if self._temporary.is_open:
            # What cannot be removed is swept by the next process here.
            with contextlib.suppress(StoreError):
                await self._run(self._temporary.close)

    async def _open(self) -> None:
        async with self._opening:
            if self._temporary.is_open:
                return
            await self._run(self._open_blocking)

    def _open_blocking(self) -> None:
        self._folder.open()
        self._temporary.open()

    async def _run(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await run_to_end(self._workers, function, *args, **kwargs)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                await run_to_end(self._workers, self._discard, self._temporary.take_spares())
            raise await self._explain(error) from error

    def _discard(self, paths: Sequence[str]) -> None:
        for path in paths:
            self._temporary.discard(path)

    async def _explain(self, error: OSError) -> StoreError:
        """What the system's word means for whoever runs the broker."""
        root = self._folder.root
        parent = os.path.dirname(root) or "/"
        is_lost = error.errno == errno.ENOENT and not await run_to_end(self._workers, os.path.isdir, parent)
        match error.errno:
            case errno.ENOSPC | errno.EDQUOT:
                return StoreUnavailable(
                    f"the disk of file://{root} is full ({error.strerror}); make room, it is retried"
                )
            case errno.EACCES | errno.EPERM | errno.EROFS:
                return StoreAccessDenied(
                    f"file://{root} cannot be used: {error.strerror}: {error.filename}; "
                    "give this process's user the right to read and write there"
                )
            case errno.ENOENT if is_lost:
                return BucketNotFound(f"file://{root} lies in no folder: make {parent}, or name another")
            case errno.ENOENT:
                # Somebody removed the folder under us; it is made again.
                self._temporary.forget()
                return StoreUnavailable(f"{error.filename} vanished while it was used; it is made again")
            case _:
                return StoreUnavailable(f"file://{root} fails: {error.strerror or error}")
