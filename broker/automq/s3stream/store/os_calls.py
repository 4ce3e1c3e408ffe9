"""The operating system's calls behind the file store: thin, so that tests can record their order and let them fail.

What only Linux has falls back here: O_DIRECT, RWF_DSYNC, and the difference between fsync and a macOS disk that has
really written (F_FULLFSYNC).
"""

import errno
import fcntl
import os
from collections.abc import Sequence
from typing import Final

from automq.s3stream.ports import Buffer

_DIRECT: Final[int] = getattr(os, "O_DIRECT", 0)
_DSYNC: Final[int] = getattr(os, "RWF_DSYNC", 0)
_FULL_SYNC: Final[int | None] = getattr(fcntl, "F_FULLFSYNC", None)
_WRITE: Final = os.O_WRONLY | os.O_CLOEXEC
# The kernel takes at most 1024 buffers in one call.
BUFFERS_MAX: Final = 1024


class OsCalls:
    """Blocking calls. Every method raises OSError as the system does."""

    def open_new(self, path: str, *, direct: bool) -> int:
        """A new, empty file for writing. Raises FileExistsError; EINVAL where `direct` is not to be had."""
        if direct and not _DIRECT:
            raise OSError(errno.EINVAL, "this system has no O_DIRECT", path)
        return os.open(path, _WRITE | os.O_CREAT | os.O_EXCL | (_DIRECT if direct else 0), 0o644)

    def open_again(self, path: str, *, direct: bool) -> int:
        """An existing file for writing."""
        return os.open(path, _WRITE | (_DIRECT if direct else 0))

    def write(self, fd: int, buffers: Sequence[Buffer], position: int) -> int:
        """Write at `position`; the number of bytes written."""
        return os.pwritev(fd, buffers[:BUFFERS_MAX], position)

    def write_synced(self, fd: int, buffers: Sequence[Buffer], position: int) -> int:
        """Write at `position`, durable with the file's length. Raises EOPNOTSUPP where that cannot be."""
        if not _DSYNC:
            raise OSError(errno.EOPNOTSUPP, "this system has no RWF_DSYNC")
        return os.pwritev(fd, buffers[:BUFFERS_MAX], position, _DSYNC)

    def truncate(self, fd: int, size: int) -> None:
        """Cut the file, or extend it with zeros."""
        os.ftruncate(fd, size)

    def sync_file(self, fd: int) -> None:
        """Content and length are durable when this returns."""
        if _FULL_SYNC is not None:
            fcntl.fcntl(fd, _FULL_SYNC)
        else:
            os.fdatasync(fd)

    def sync_folder(self, path: str) -> None:
        """The folder's entries are durable when this returns."""
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if _FULL_SYNC is not None:
                fcntl.fcntl(fd, _FULL_SYNC)
            else:
                os.fsync(fd)
        finally:
            os.close(fd)

    def link(self, source: str, target: str) -> None:
        """Give the file a second name, atomically. Raises FileExistsError, FileNotFoundError."""
        os.link(source, target)

    def rename(self, source: str, target: str) -> None:
        """Replace `target` by `source`, atomically."""
        os.replace(source, target)

    def unlink(self, path: str) -> None:
        """Take a name away."""
        os.unlink(path)

    def make_folder(self, path: str) -> None:
        """Raises FileExistsError, FileNotFoundError when its parent is missing."""
        os.mkdir(path, 0o755)

    def remove_folder(self, path: str) -> None:
        """Raises OSError unless it is there and empty."""
        os.rmdir(path)

    def close(self, fd: int) -> None:
        """Close a descriptor."""
        os.close(fd)
