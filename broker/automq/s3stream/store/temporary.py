"""Files that are written before they get their names, and files of deleted objects that are written again.

Each process has a folder of its own, `.tmp/<token>/`, below the store's root, and holds a lock in it for as long as it
lives: a folder whose lock can be had belongs to a dead process and is swept.

Files of deleted objects are kept and used again. A new file costs its blocks and an inode, and on some file systems
(ext4 without a journal) the search for an inode grows with what was lately deleted: five times the whole write was
seen. The rules that make it safe:

- a file is used again only after its old name is gone for good (its folder is synced);
- never one that has another name as well, somebody's backup for instance;
- whoever reads an object looks afterwards whether its name still means the same, unchanged file.
"""

import errno
import fcntl
import itertools
import os
from bisect import bisect_left, insort
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from automq.runtime.entropy import Entropy
from automq.s3stream.store.os_calls import OsCalls

FOLDER: Final = ".tmp"
_LOCK: Final = "lock"
# A trim after some uploads of 1,000 slots; and no more disk than an upload threshold or two.
SPARE_FILES_MAX: Final = 5000
SPARE_BYTES_MAX: Final = 128 << 20
# An object's file is not worth keeping: large, and created a few times a minute.
SPARE_FILE_BYTES_MAX: Final = 4 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Temporary:
    """A path of our own to write to."""

    path: str
    size: int
    """Length of the file that is there already, to be written again; 0 when there is none."""


class TemporaryFiles:
    """This process's folder. `open`, `close` and `discard` block; everything else belongs to the event loop."""

    def __init__(self, root: str, *, calls: OsCalls, entropy: Entropy) -> None:
        self._above = f"{root}/{FOLDER}"
        self._calls = calls
        self._entropy = entropy
        self._folder = ""
        self._lock = -1
        self._numbers = itertools.count()
        self._spares: dict[int, list[str]] = {}
        self._lengths: list[int] = []
        """The keys of `_spares`, sorted."""
        self._spare_files = 0
        self._spare_bytes = 0

    @property
    def is_open(self) -> bool:
        """Whether the folder is there and ours."""
        return self._lock != -1

    def open(self) -> None:
        """Make the folder, take its lock, and sweep those of dead processes. Idempotent."""
        if self.is_open:
            return
        try:
            self._calls.make_folder(self._above)
        except FileExistsError:
            pass
        while not self.is_open:
            self._try_open(f"{self._above}/{self._entropy.token(8).hex()}")
        self._sweep()

    def close(self) -> None:
        """Remove the folder and everything in it. Idempotent."""
        lock, self._lock = self._lock, -1
        self._forget_spares()
        if lock != -1:
            self._remove(self._folder)
            os.close(lock)

    def forget(self) -> None:
        """The folder is gone: open another before the next use."""
        lock, self._lock = self._lock, -1
        self._forget_spares()
        if lock != -1:
            os.close(lock)

    def new_name(self) -> str:
        """A path that no file has."""
        assert self.is_open
        return f"{self._folder}/{next(self._numbers)}"

    def take(self, size: int) -> Temporary:
        """A file for a body of `size` bytes: a spare of that length, a longer one, a shorter one, or a new one."""
        assert self.is_open
        if not self._lengths:
            return Temporary(path=self.new_name(), size=0)
        index = min(bisect_left(self._lengths, size), len(self._lengths) - 1)
        length = self._lengths[index]
        paths = self._spares[length]
        path = paths.pop()
        if not paths:
            del self._spares[length], self._lengths[index]
        self._spare_files -= 1
        self._spare_bytes -= length
        return Temporary(path=path, size=length)

    def keeper(self) -> Callable[[int], str | None]:
        """Says where a deleted object's file of a given length is to be moved, None if it is not worth keeping.

        For one batch of deletes, in any thread.
        """
        room_files, room_bytes = SPARE_FILES_MAX - self._spare_files, SPARE_BYTES_MAX - self._spare_bytes

        def keep(size: int) -> str | None:
            nonlocal room_files, room_bytes
            # The folder may be gone by now: it is forgotten while deletes run in another thread.
            if not self.is_open or not 0 < size <= min(SPARE_FILE_BYTES_MAX, room_bytes) or not room_files:
                return None
            room_files -= 1
            room_bytes -= size
            return f"{self._folder}/{next(self._numbers)}"

        return keep

    def keep(self, spares: Iterable[tuple[str, int]]) -> None:
        """Files in our folder, whose old names are gone for good, may be written again."""
        if not self.is_open:
            return
        for path, size in spares:
            paths = self._spares.get(size)
            if paths is None:
                paths = self._spares[size] = []
                insort(self._lengths, size)
            paths.append(path)
            self._spare_files += 1
            self._spare_bytes += size

    def take_spares(self) -> list[str]:
        """Paths of all spares, to be discarded: the disk is full."""
        paths = [path for spares in self._spares.values() for path in spares]
        self._forget_spares()
        return paths

    def discard(self, path: str) -> None:
        """Remove a file that is there perhaps."""
        try:
            self._calls.unlink(path)
        except OSError as error:
            if error.errno != errno.ENOENT and self.is_open:
                raise

    def _forget_spares(self) -> None:
        self._spares.clear()
        self._lengths.clear()
        self._spare_files = self._spare_bytes = 0

    def _try_open(self, folder: str) -> None:
        try:
            self._calls.make_folder(folder)
            lock = os.open(f"{folder}/{_LOCK}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except (FileExistsError, FileNotFoundError):
            # Taken, or swept by another process before it was locked.
            return
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            ours = os.fstat(lock).st_nlink > 0
        except BlockingIOError:
            ours = False
        if ours:
            self._folder, self._lock = folder, lock
        else:
            os.close(lock)

    def _sweep(self) -> None:
        for name in sorted(os.listdir(self._above)):
            folder = f"{self._above}/{name}"
            if folder == self._folder:
                continue
            try:
                lock = os.open(f"{folder}/{_LOCK}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            except OSError:
                # No folder, or not ours to touch.
                continue
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._remove(folder)
            except BlockingIOError:
                pass
            finally:
                os.close(lock)

    def _remove(self, folder: str) -> None:
        try:
            for name in sorted(os.listdir(folder)):
                self.discard(f"{folder}/{name}")
            self._calls.remove_folder(folder)
        except FileNotFoundError:
            pass
