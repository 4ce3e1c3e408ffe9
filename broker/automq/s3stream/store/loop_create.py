"""Creates that never leave the event loop: the way of WAL slots, hundreds a second.

Only what does not wait is done here: the body is whole pages, the file is a spare at least as long, the folder is known
and durable. Everything else, and whatever goes wrong here before the file has its name, is `folder.Folder`'s on a
worker. The order is the same: write and sync → link → sync the folder → (acknowledge).
"""

import asyncio
import errno
import os
from collections.abc import Sequence
from typing import Final

from automq.s3stream.ports import Buffer, ObjectExists
from automq.s3stream.store.body_writer import is_whole_pages
from automq.s3stream.store.kernel_io import KernelIo
from automq.s3stream.store.keys import InvalidKey
from automq.s3stream.store.os_calls import OsCalls
from automq.s3stream.store.temporary import Temporary

# Folders that are created into: the WAL's, the metadata log's, a few objects'.
FOLDERS_MAX: Final = 16
# A step on the loop that took longer did wait: for a journal, for a file server. Workers do the next ones.
STEP_SECONDS_MAX: Final = 0.02
REST_CREATES: Final = 200


class NotHere(Exception):
    """This create is a worker's. Nothing has happened but that the spare may hold other bytes."""


class LoopCreates:
    """Creates in flight, and the descriptors of the folders they go to."""

    def __init__(self, root: str, *, calls: OsCalls, kernel: KernelIo) -> None:
        self._root = root
        self._calls = calls
        self._kernel = kernel
        self._folders: dict[str, int] = {}
        self._stale: list[int] = []
        """Descriptors of folders that are gone, which other creates may still be using."""
        self._pending: dict[asyncio.Future[None], None] = {}
        self._refused = False
        self._rest = 0
        """Creates that workers are to do before the loop does one again."""

    def takes(self, folder: str, body: Sequence[Buffer], temporary: Temporary, size: int) -> bool:
        """Whether this create can be done here."""
        if self._rest:
            self._rest -= 1
            return False
        return temporary.size >= size > 0 and folder in self._folders and not self._refused and is_whole_pages(body)

    def learn(self, folder: str) -> None:
        """`folder` exists and is durable: later creates may go there from here."""
        if folder in self._folders:
            return
        if len(self._folders) >= FOLDERS_MAX:
            if self._pending:
                return
            self._forget_folders()
        try:
            self._folders[folder] = os.open(f"{self._root}/{folder}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            # It went again, or we are out of descriptors: creates go through workers.
            pass

    async def create(self, folder: str, key: str, body: Buffer, temporary: Temporary) -> None:
        """Create if absent, durable when this returns. Raises ObjectExists, OSError, NotHere.

        A cancelled caller is told so when nothing of it is in flight any more.
        """
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        create = _Create(
            done, memoryview(body), source=temporary.path, target=f"{self._root}/{key}", folder_fd=self._folders[folder]
        )
        create.start(self._calls, self._kernel)
        self._judge(create.step_s)
        self._pending[done] = None
        done.add_done_callback(self._on_done)
        try:
            await asyncio.shield(done)
            self._judge(create.step_s)
        except asyncio.CancelledError:
            while not done.done():
                try:
                    await asyncio.wait([done])
                except asyncio.CancelledError:
                    # We are being cancelled already.
                    pass
            raise
        except NotHere:
            self._refused = self._refused or create.is_refused
            if create.is_homeless and folder in self._folders:
                self._stale.append(self._folders.pop(folder))
            raise

    def _judge(self, step_s: float) -> None:
        if step_s > STEP_SECONDS_MAX:
            self._rest = REST_CREATES

    def _on_done(self, done: asyncio.Future[None]) -> None:
        del self._pending[done]
        # Whoever waited has been told, or was cancelled and will not ask.
        done.exception()

    async def close(self) -> None:
        """Wait for what is in flight; let go of descriptors."""
        while self._pending:
            await asyncio.wait(list(self._pending))
        self._forget_folders()
        self._kernel.close()

    def _forget_folders(self) -> None:
        for fd in (*self._folders.values(), *self._stale):
            os.close(fd)
        self._folders.clear()
        self._stale.clear()


class _Create:
    """One create on its way; each step begins when the kernel says that the one before is over."""

    def __init__(
        self, done: asyncio.Future[None], view: memoryview, *, source: str, target: str, folder_fd: int
    ) -> None:
        self._done = done
        self._view = view
        self._source = source
        self._target = target
        self._folder_fd = folder_fd
        self._fd = -1
        self._is_taken = False
        self.step_s = 0.0
        """How long the loop stood still in the last step."""
        self.is_refused = False
        """The file system does not do this kind of writing."""
        self.is_homeless = False
        """The folder is not there any more."""

    def start(self, calls: OsCalls, kernel: KernelIo) -> None:
        """Raises NotHere, OSError."""
        self._calls, self._kernel = calls, kernel
        began = self._done.get_loop().time()
        size = len(self._view)
        try:
            self._fd = calls.open_again(self._source, direct=True)
        except OSError:
            raise NotHere from None
        try:
            found = os.fstat(self._fd)
            if found.st_nlink != 1 or found.st_size < size:
                raise NotHere
            if found.st_size > size:
                # Before the write, whose sync makes the length durable as well.
                calls.truncate(self._fd, size)
            if not kernel.write_synced(self._fd, self._view, self._on_written):
                raise NotHere
        except BaseException:
            calls.close(self._fd)
            raise
        self.step_s = self._done.get_loop().time() - began

    def _on_written(self, result: int) -> None:
        if result != len(self._view):
            # A short write or an error: a worker writes it all again, and reports what it meets.
            self.is_refused = -result in (errno.EINVAL, errno.EOPNOTSUPP)
            self._calls.close(self._fd)
            self._done.set_exception(NotHere())
            return
        began = self._done.get_loop().time()
        try:
            self._calls.link(self._source, self._target, folder_fd=self._folder_fd)
        except FileExistsError:
            # Synced all the same: it may be our own earlier try, whose folder could not be synced.
            self._is_taken = True
        except OSError:
            self.is_homeless = True
            self._calls.close(self._fd)
            self._done.set_exception(NotHere())
            return
        self.step_s = self._done.get_loop().time() - began
        if not self._kernel.sync(self._folder_fd, self._on_synced):
            self._on_synced(self._sync_here())

    def _sync_here(self) -> int:
        """The kernel takes no request: wait for the disk. Never seen; our own request has just made room."""
        try:
            os.fsync(self._folder_fd)
        except OSError as error:
            return -(error.errno or errno.EIO)
        return 0

    def _on_synced(self, result: int) -> None:
        if result < 0:
            self._done.set_exception(OSError(-result, os.strerror(-result), self._target))
        elif not self._is_taken:
            self._done.set_result(None)
        elif os.path.isdir(self._target):
            self._done.set_exception(InvalidKey(f"{self._target} is a folder of other keys"))
        else:
            self._done.set_exception(ObjectExists(f"{self._target} is already there"))
        self._calls.close(self._fd)
        try:
            self._calls.unlink(self._source)
        except OSError:
            # A sweep will find it.
            pass
