"""How a body gets into a file: past the page cache where that is to be had, through an aligned bounce buffer otherwise.

O_DIRECT wants addresses, lengths and positions in multiples of a page. Buffers that are pages already (WAL slots) are
written where they lie; everything else is copied into a bounce buffer of bounded size. The last page is padded and the
file cut to its true length afterwards. Small bodies that are no pages take the page cache: cheaper than the padding.
"""

import ctypes
import errno
import mmap
from collections.abc import Sequence
from typing import Final

from automq.s3stream.ports import Buffer
from automq.s3stream.store.os_calls import OsCalls

PAGE_BYTES: Final = 4096
# A write costs about 25 us besides its bytes; a larger buffer would leave the processor's cache.
BOUNCE_BYTES: Final = 2 << 20
# Below this a copy through the page cache costs less than padding, cutting and syncing the cut.
UNALIGNED_DIRECT_BYTES_MIN: Final = 64 << 10


def is_page_aligned(buffer: Buffer) -> bool:
    """Whether the buffer's memory begins at a page. Read-only memory does not tell its address: no."""
    try:
        return ctypes.addressof(ctypes.c_char.from_buffer(buffer)) % PAGE_BYTES == 0
    except (TypeError, ValueError):
        return False


def wants_direct(body: Sequence[Buffer]) -> bool:
    """Whether O_DIRECT pays for this body."""
    size = sum(len(buffer) for buffer in body)
    return size >= UNALIGNED_DIRECT_BYTES_MIN or (size > 0 and is_whole_pages(body))


def is_whole_pages(body: Sequence[Buffer]) -> bool:
    """One buffer that can be written where it lies."""
    return len(body) == 1 and len(body[0]) % PAGE_BYTES == 0 and is_page_aligned(body[0])


class BouncePool:
    """Bounce buffers to be used again; as many as there were writers at once. Taken and given back by any thread."""

    def __init__(self) -> None:
        self._free: list[memoryview] = []

    def take(self) -> memoryview:
        """A page-aligned buffer of BOUNCE_BYTES."""
        try:
            return self._free.pop()
        except IndexError:
            return memoryview(mmap.mmap(-1, BOUNCE_BYTES))

    def put_back(self, buffer: memoryview) -> None:
        """The buffer is not used any more."""
        self._free.append(buffer)


class BodyWriter:
    """Writes one body into one open file from its beginning. Blocking; one thread at a time."""

    def __init__(self, calls: OsCalls, fd: int, *, direct: bool, existing_bytes: int, bounces: BouncePool) -> None:
        self._calls = calls
        self._fd = fd
        self._direct = direct
        self._existing_bytes = existing_bytes
        """Length of the file before: one that is used again may be longer than the body."""
        self._bounces = bounces
        self._bounce: memoryview | None = None
        self._filled = 0
        self._position = 0
        self._size = 0

    def write_synced(self, body: Sequence[Buffer]) -> None:
        """Write the whole body and sync it, in as few calls as this body allows."""
        if self._direct and is_whole_pages(body):
            if self._existing_bytes > len(body[0]):
                # Before the write, whose sync makes the length durable as well.
                self._existing_bytes = len(body[0])
                self._calls.truncate(self._fd, self._existing_bytes)
            if self._write_pages_synced(memoryview(body[0])):
                return
        else:
            self.write(body)
        self.finish()

    def write(self, body: Sequence[Buffer]) -> None:
        """Append `body`; nothing is durable yet."""
        for buffer in body:
            view = memoryview(buffer).cast("B")
            self._size += len(view)
            if not self._direct:
                self._write_all(view)
                continue
            if not self._filled and len(view) >= PAGE_BYTES and is_page_aligned(view):
                whole = len(view) & -PAGE_BYTES
                self._write_all(view[:whole])
                view = view[whole:]
            self._copy(view)

    def finish(self) -> None:
        """Write what is left, give the file its true length, and sync it."""
        if self._filled:
            self._flush()
        if max(self._position, self._existing_bytes) > self._size:
            self._calls.truncate(self._fd, self._size)
        self._calls.sync_file(self._fd)
        self.release()

    def release(self) -> None:
        """Give the bounce buffer back. Idempotent."""
        bounce, self._bounce = self._bounce, None
        if bounce is not None:
            self._bounces.put_back(bounce)

    def _write_pages_synced(self, view: memoryview) -> bool:
        """Whether one call wrote and synced everything; what it left is written, but not synced."""
        self._size = len(view)
        try:
            written = self._calls.write_synced(self._fd, [view], 0)
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise
            written = 0
        self._position = written
        self._write_all(view[written:])
        return written == len(view)

    def _copy(self, view: memoryview) -> None:
        end = self._filled + len(view)
        if self._bounce is not None and end < BOUNCE_BYTES:
            # Nearly always: thousands of batches to an object.
            self._bounce[self._filled : end] = view
            self._filled = end
            return
        while view:
            if self._bounce is None:
                self._bounce = self._bounces.take()
            count = min(len(view), BOUNCE_BYTES - self._filled)
            self._bounce[self._filled : self._filled + count] = view[:count]
            self._filled += count
            view = view[count:]
            if self._filled == BOUNCE_BYTES:
                self._flush()

    def _flush(self) -> None:
        assert self._bounce is not None
        end = (self._filled + PAGE_BYTES - 1) & -PAGE_BYTES
        self._bounce[self._filled : end] = bytes(end - self._filled)
        self._filled = 0
        self._write_all(self._bounce[:end])

    def _write_all(self, view: memoryview) -> None:
        while view:
            written = self._calls.write(self._fd, [view], self._position)
            if not written:
                raise OSError(errno.ENOSPC, "the file takes no more bytes")
            self._position += written
            view = view[written:]
