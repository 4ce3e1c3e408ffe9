"""The file store's operating system, watched and made to fail: what was called in which order, what was never synced.

A kill -9 cannot show a missing fsync, because the page cache outlives the process. So the order is asserted here, call
by call.
"""

import errno
import os
import threading
from collections.abc import Callable, Sequence

from automq.s3stream.ports import Buffer
from automq.s3stream.store.os_calls import OsCalls


class RecordingOs(OsCalls):
    """Does everything for real and notes it, as (call, path). Temporary files are all called `TEMP`."""

    def __init__(self, root: str) -> None:
        self.calls: list[tuple[str, str]] = []
        self.fail: Callable[[str, str], OSError | None] = lambda call, path: None
        """Asked before each call; the error it returns is raised instead."""
        self._root = root
        self._paths: dict[int, str] = {}
        self._lock = threading.Lock()

    def open_new(self, path: str, *, direct: bool) -> int:
        self.note("open", path)
        return self._opened(super().open_new(path, direct=direct), path)

    def open_again(self, path: str, *, direct: bool) -> int:
        self.note("open again", path)
        return self._opened(super().open_again(path, direct=direct), path)

    def write(self, fd: int, buffers: Sequence[Buffer], position: int) -> int:
        self.note("write", self._paths[fd])
        return super().write(fd, buffers, position)

    def write_synced(self, fd: int, buffers: Sequence[Buffer], position: int) -> int:
        self.note("write", self._paths[fd])
        written = super().write_synced(fd, buffers, position)
        self.note("sync", self._paths[fd])
        return written

    def truncate(self, fd: int, size: int) -> None:
        self.note("truncate", self._paths[fd])
        super().truncate(fd, size)

    def sync_file(self, fd: int) -> None:
        self.note("sync", self._paths[fd])
        super().sync_file(fd)

    def sync_folder(self, path: str) -> None:
        self.note("sync folder", path)
        super().sync_folder(path)

    def link(self, source: str, target: str) -> None:
        self.note("link", target)
        super().link(source, target)

    def rename(self, source: str, target: str) -> None:
        self.note("rename", target if not self._is_temporary(target) else source)
        super().rename(source, target)

    def unlink(self, path: str) -> None:
        self.note("unlink", path)
        super().unlink(path)

    def make_folder(self, path: str) -> None:
        existed = os.path.exists(path)
        self.note("make folder" if not existed else "find folder", path)
        super().make_folder(path)

    def remove_folder(self, path: str) -> None:
        self.note("remove folder", path)
        super().remove_folder(path)

    def close(self, fd: int) -> None:
        with self._lock:
            self._paths.pop(fd, None)
        super().close(fd)

    def take(self) -> list[tuple[str, str]]:
        """What was called since the last `take`."""
        calls, self.calls = self.calls, []
        return calls

    def _opened(self, fd: int, path: str) -> int:
        with self._lock:
            self._paths[fd] = path
        return fd

    def note(self, call: str, path: str) -> None:
        """Remember a call, and fail it if a test wants."""
        name = "TEMP" if self._is_temporary(path) else os.path.relpath(path, self._root)
        with self._lock:
            self.calls.append((call, name))
        error = self.fail(call, name)
        if error is not None:
            raise error

    def _is_temporary(self, path: str) -> bool:
        return f"{self._root}/.tmp" in path


class NoDirectOs(OsCalls):
    """A file system without O_DIRECT, as on macOS or an old tmpfs."""

    def open_new(self, path: str, *, direct: bool) -> int:
        if direct:
            raise OSError(errno.EINVAL, "Invalid argument", path)
        return super().open_new(path, direct=False)


class NoSyncedWriteOs(OsCalls):
    """A system without RWF_DSYNC."""

    def write_synced(self, fd: int, buffers: Sequence[Buffer], position: int) -> int:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")


def failing(call: str, number: int, *, nth: int = 0, path: str | None = None) -> Callable[[str, str], OSError | None]:
    """For `RecordingOs.fail`: the `nth` `call` (of `path`) fails with errno `number`, once."""
    seen = 0

    def fail(called: str, name: str) -> OSError | None:
        nonlocal seen
        if called != call or (path is not None and name != path):
            return None
        seen += 1
        return OSError(number, os.strerror(number), name) if seen == nth + 1 else None

    return fail
