"""The blocking half of the file store: keys are paths, and what is acknowledged is on the disk.

A create is durable when it returns because of this order, which a test asserts call by call:

    write → sync the file → link it to its name → sync the folder → (acknowledge)

and before the first link into a folder, the chain of its parents is made and synced, whoever made it: a predecessor
may have died between making a folder and syncing its parent.
"""

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from automq.s3stream.ports import Buffer, ObjectExists, ObjectInfo, ObjectNotFound, StoreUnavailable
from automq.s3stream.store.body_writer import BodyWriter, BouncePool, wants_direct
from automq.s3stream.store.keys import InvalidKey
from automq.s3stream.store.os_calls import OsCalls
from automq.s3stream.store.temporary import Temporary

# Folders known to be durable; more than a broker ever writes to at once.
SYNCED_FOLDERS_MAX: Final = 16384
# A folder may vanish between making it and linking into it, when a sweep finds it empty.
LINK_ATTEMPTS: Final = 5
# A read that meets a file being used again looks once more.
READ_ATTEMPTS: Final = 5


class Folder:
    """Objects as files below `root`. Methods block and may be called by several threads at once."""

    def __init__(self, root: str, *, calls: OsCalls) -> None:
        self.root = root
        self._calls = calls
        self._bounces = BouncePool()
        self._direct = True
        self._synced: set[str] = set()

    def open(self) -> None:
        """Make the root if its parent is there. Raises FileNotFoundError."""
        parent = os.path.dirname(self.root) or "/"
        try:
            self._calls.make_folder(self.root)
        except FileExistsError:
            pass
        self._calls.sync_folder(parent)

    def create(self, key: str, body: Sequence[Buffer], temporary: Temporary) -> None:
        """Create if absent, durable when this returns. Raises ObjectExists."""
        fd = self._write(body, temporary)
        try:
            self._link(temporary.path, key)
        finally:
            self._calls.close(fd)
            self._discard(temporary.path)

    def replace(self, key: str, body: Sequence[Buffer], temporary: Temporary) -> None:
        """Create or overwrite, durable when this returns."""
        self._calls.close(self._write(body, temporary))
        path, folder = self._place(key)
        try:
            self._into(folder, lambda: self._calls.rename(temporary.path, path))
        except IsADirectoryError:
            self._discard(temporary.path)
            raise InvalidKey(f"{key} is a folder of other keys") from None
        except BaseException:
            self._discard(temporary.path)
            raise
        self._calls.sync_folder(folder)

    def read(self, key: str, start: int, end: int | None) -> bytes:
        """Bytes [start, end) of the object, shorter where it ends. Raises ObjectNotFound."""
        path = f"{self.root}/{key}"
        for _ in range(READ_ATTEMPTS):
            try:
                data = _read_if_unchanged(path, start, end)
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                self.check_bucket()
                raise ObjectNotFound(f"file://{self.root} has no {key}") from None
            if data is not None:
                return data
        raise StoreUnavailable(f"{path} changed while it was read, {READ_ATTEMPTS} times over; try again")

    def delete(self, keys: Sequence[str], keep: Callable[[int], str | None]) -> list[tuple[str, int]]:
        """Remove the keys. `keep` names a path for a file worth keeping; those kept are returned with their lengths."""
        kept: list[tuple[str, int]] = []
        # Dicts, to sync in the order of the keys.
        kept_from: dict[str, None] = {}
        touched: dict[str, None] = {}
        for key in keys:
            path, folder = self._place(key)
            touched[folder] = None
            try:
                found = os.lstat(path)
                spare = keep(found.st_size) if found.st_nlink == 1 else None
                if spare is None:
                    self._calls.unlink(path)
                else:
                    self._calls.rename(path, spare)
                    kept.append((spare, found.st_size))
                    kept_from[folder] = None
            except (FileNotFoundError, NotADirectoryError):
                continue
        for folder in kept_from:
            # The old name is gone for good before other bytes may appear under it.
            self._calls.sync_folder(folder)
        for folder in touched:
            self._remove_if_empty(folder)
        return kept

    def list(self, prefix: str, start_after: str, limit: int) -> list[ObjectInfo]:
        """Keys with `prefix` after `start_after`, in byte order."""
        found: list[ObjectInfo] = []
        if limit <= 0 or any(not part or part.startswith(".") for part in prefix.split("/")[:-1]):
            return found
        for info in self._walk(prefix[: prefix.rfind("/") + 1], prefix, start_after):
            found.append(info)
            if len(found) == limit:
                break
        if not found:
            self.check_bucket()
        return found

    def time_ms(self) -> int:
        """The file system's own clock, a file server's for instance: it stamps the root."""
        os.utime(self.root)
        return os.stat(self.root).st_mtime_ns // 1_000_000

    def check_bucket(self) -> None:
        """Raises FileNotFoundError when the root's parent is missing: then nothing can be said about any key."""
        os.stat(os.path.dirname(self.root) or "/")

    def _place(self, key: str) -> tuple[str, str]:
        path = f"{self.root}/{key}"
        return path, path[: path.rindex("/")]

    def _write(self, body: Sequence[Buffer], temporary: Temporary) -> int:
        """A descriptor of the file, whose content is durable. The file is removed when that fails."""
        try:
            if self._direct and wants_direct(body):
                try:
                    return self._write_file(body, temporary, direct=True)
                except OSError as error:
                    if error.errno != errno.EINVAL:
                        raise
                    # A file system without O_DIRECT, or with larger pages: not asked for again.
                    self._direct = False
                    self._discard(temporary.path)
                    temporary = Temporary(path=temporary.path, size=0)
            return self._write_file(body, temporary, direct=False)
        except BaseException:
            self._discard(temporary.path)
            raise

    def _write_file(self, body: Sequence[Buffer], temporary: Temporary, *, direct: bool) -> int:
        fd, existing_bytes = self._open(temporary, direct=direct)
        try:
            writer = BodyWriter(self._calls, fd, direct=direct, existing_bytes=existing_bytes, bounces=self._bounces)
            try:
                writer.write_synced(body)
            finally:
                writer.release()
        except BaseException:
            self._calls.close(fd)
            raise
        return fd

    def _open(self, temporary: Temporary, *, direct: bool) -> tuple[int, int]:
        if temporary.size:
            fd = self._calls.open_again(temporary.path, direct=direct)
            found = os.fstat(fd)
            if found.st_nlink == 1:
                return fd, found.st_size
            # It has another name: somebody's backup must not change.
            self._calls.close(fd)
            self._calls.unlink(temporary.path)
        return self._calls.open_new(temporary.path, direct=direct), 0

    def _link(self, source: str, key: str) -> None:
        path, folder = self._place(key)
        try:
            self._into(folder, lambda: self._calls.link(source, path))
        except FileExistsError:
            if os.path.isdir(path):
                raise InvalidKey(f"{key} is a folder of other keys") from None
            # Whoever is told that the key is taken may take its body for durable: an earlier try of ours, whose
            # folder could not be synced, included.
            self._calls.sync_folder(folder)
            raise ObjectExists(f"file://{self.root} already has {key}") from None
        self._calls.sync_folder(folder)

    def _into(self, folder: str, name: Callable[[], None]) -> None:
        """Give a file a name in `folder`, which is made durable first."""
        for attempt in range(LINK_ATTEMPTS):
            self._ensure_folder(folder)
            try:
                name()
                return
            except NotADirectoryError:
                self._synced.discard(folder)
                raise InvalidKey(f"{folder} is a key; nothing can lie below it") from None
            except FileNotFoundError:
                if attempt == LINK_ATTEMPTS - 1:
                    raise
                self._synced.clear()

    def _ensure_folder(self, folder: str) -> None:
        if folder == self.root or folder in self._synced:
            return
        parent = folder[: folder.rindex("/")]
        self._ensure_folder(parent)
        try:
            self._calls.make_folder(folder)
        except FileExistsError:
            pass
        except NotADirectoryError:
            raise InvalidKey(f"{parent} is a key; nothing can lie below it") from None
        self._calls.sync_folder(parent)
        if len(self._synced) >= SYNCED_FOLDERS_MAX:
            self._synced.clear()
        self._synced.add(folder)

    def _remove_if_empty(self, folder: str) -> None:
        """Folders that this process does not write to go with their last key; an object store has none either."""
        while folder != self.root and folder not in self._synced:
            try:
                self._calls.remove_folder(folder)
            except OSError:
                return
            folder = folder[: folder.rindex("/")]

    def _discard(self, path: str) -> None:
        try:
            self._calls.unlink(path)
        except OSError:
            # It never was, or the disk fails: a sweep will find it.
            pass

    def _walk(self, folder: str, prefix: str, start_after: str) -> Iterator[ObjectInfo]:
        """`folder` is empty or ends with a slash. A folder sorts as its keys do: as its name and a slash."""
        try:
            with os.scandir(f"{self.root}/{folder}") as entries:
                names = [(entry.name + "/" if entry.is_dir(follow_symlinks=False) else entry.name) for entry in entries]
        except (FileNotFoundError, NotADirectoryError):
            return
        for name in sorted(names):
            key = folder + name
            if name.endswith("/"):
                outside = not (key.startswith(prefix) or prefix.startswith(key))
                behind = start_after >= key and not start_after.startswith(key)
                # A name that begins with a dot is no key's: ours for temporary files, or a file manager's.
                if not outside and not behind and not name.startswith("."):
                    yield from self._walk(key, prefix, start_after)
            elif key.startswith(prefix) and key > start_after and not name.startswith("."):
                try:
                    found = os.lstat(f"{self.root}/{key}")
                    yield ObjectInfo(key, found.st_size, found.st_mtime_ns // 1_000_000)
                except FileNotFoundError:
                    continue


def _read_if_unchanged(path: str, start: int, end: int | None) -> bytes | None:
    """The bytes; None when the name came to mean something else meanwhile."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        found = os.fstat(fd)
        stop = found.st_size if end is None else min(end, found.st_size)
        data = os.pread(fd, stop - start, start) if start < stop else b""
        while len(data) < stop - start:
            more = os.pread(fd, stop - start - len(data), start + len(data))
            if not more:
                return None
            data += more
    finally:
        os.close(fd)
    now = os.stat(path)
    same = (found.st_ino, found.st_dev, found.st_size, found.st_mtime_ns) == (
        now.st_ino,
        now.st_dev,
        now.st_size,
        now.st_mtime_ns,
    )
    return data if same else None
