"""Sans-I/O: bytes of a connection in, whole frames out.

A frame is an int32 size and as many bytes. All connections of an event loop share one receive buffer: what a read
brings is consumed before the next read of any connection, so an idle connection owns no buffer at all. What is left
over is kept aside: a few bytes are copied out and put back in front of the next read; the frame too big for that gets a
buffer of its own, taken from a pool and given back as soon as the frame is consumed. The size is checked before
anything is allocated, and the memory of a big buffer becomes real only as its bytes arrive (anonymous mmap).

    def buffer_updated(self, count):           def get_buffer(self, hint):
        reader.buffer_updated(count)               return reader.get_buffer()
        while not paused:
            frame = reader.next_frame()
            if frame is None:
                return
            handle(frame)
        reader.retain()

A frame is a writable view. It is valid until the next call of any method of the reader, and not after control has
returned to the event loop.
"""

import mmap
import struct
from collections.abc import Callable
from functools import partial
from typing import Final

from automq.core import match_fetch, scan_produce
from automq.core.produce_frame import Scanned

SIZE_STRUCT: Final = struct.Struct(">i")
_SIZE = SIZE_STRUCT.unpack_from

SIZE_BYTES: Final = 4
FRAME_BYTES_MIN: Final = 10
"""Key, version, correlation id and the length of a client id: no request is shorter."""

KIB: Final = 1024
MIB: Final = 1024 * KIB
SHARED_BYTES: Final = 256 * KIB
"""One read: larger ones were not faster, and this much stays in a core's own cache."""

SHORT_BYTES_MAX: Final = SHARED_BYTES // 2
"""A frame up to this size is completed in the shared buffer; a larger one gets a buffer of its own."""

OWN_BYTES_MIN: Final = 256 * KIB
SPARE_BUFFER_BYTES_MAX: Final = 2 * MIB
"""Buffers up to this size are kept for the next frame; a fresh one costs page faults, a kept one memory."""

SPARE_BYTES_MAX: Final = 16 * MIB

LATE_BYTES_MAX: Final = 4 * KIB


class FrameRefused(Exception):
    """The size in front of a frame cannot be; nothing behind it can be understood."""

    def __init__(self, size: int, *, frame_bytes_max: int) -> None:
        super().__init__(f"a frame of {size} bytes; {FRAME_BYTES_MIN} to {frame_bytes_max} are accepted")
        self.size = size


class ReceiveBuffers:
    """What the connections of one event loop share: the buffer everyone reads into, and spare ones for big frames."""

    def __init__(
        self,
        *,
        shared_bytes: int = SHARED_BYTES,
        spare_buffer_bytes_max: int = SPARE_BUFFER_BYTES_MAX,
        spare_bytes_max: int = SPARE_BYTES_MAX,
        on_spare: Callable[[int], None] = lambda _bytes: None,
    ) -> None:
        """`on_spare` is called with how many bytes the spare buffers have become more, or fewer (negative)."""
        assert shared_bytes >= 64
        self.shared = memoryview(mmap.mmap(-1, shared_bytes))
        self._spare_buffer_bytes_max = spare_buffer_bytes_max
        self._spare_bytes_max = spare_bytes_max
        self._on_spare = on_spare
        self._spare: dict[int, list[memoryview]] = {}
        self.spare_bytes = 0

    def take(self, size: int) -> memoryview:
        """A buffer of at least `size` bytes, a power of two."""
        rounded = buffer_bytes(size)
        spare = self._spare.get(rounded)
        if spare:
            self._count_spare(-rounded)
            return spare.pop()
        return memoryview(mmap.mmap(-1, rounded))

    def release(self, buffer: memoryview) -> None:
        """Keep `buffer` for the next `take`, or let it go if it is big or enough are kept."""
        size = len(buffer)
        if size <= self._spare_buffer_bytes_max and self.spare_bytes + size <= self._spare_bytes_max:
            self._count_spare(size)
            self._spare.setdefault(size, []).append(buffer)

    def _count_spare(self, difference: int) -> None:
        self.spare_bytes += difference
        self._on_spare(difference)


def buffer_bytes(size: int) -> int:
    """Size of the buffer for a frame that takes `size` bytes with its own size."""
    return max(OWN_BYTES_MIN, 1 << (size - 1).bit_length())


class FrameReader:
    """One connection's incoming bytes. Unread bytes are [start, end) of the current buffer."""

    __slots__ = ("_buffer", "_buffers", "_end", "_frame_bytes_max", "_is_own", "_shared", "_start", "read_to")

    def __init__(self, buffers: ReceiveBuffers, *, frame_bytes_max: int) -> None:
        assert frame_bytes_max >= FRAME_BYTES_MIN
        self._buffers = buffers
        self._shared = buffers.shared
        self._frame_bytes_max = frame_bytes_max
        self._buffer = buffers.shared
        self._is_own = False
        self._start = 0
        self._end = 0
        self.read_to = 0
        """How far a frame in a buffer of its own may be read; whoever counts its memory moves it on."""

    @property
    def held_bytes(self) -> int:
        """Memory this connection holds between two reads."""
        return 0 if self._buffer is self._shared else len(self._buffer)

    @property
    def unread_bytes(self) -> int:
        """Bytes that arrived and were not handed out as frames."""
        return self._end - self._start

    @property
    def frame_bytes(self) -> int:
        """Bytes of the next frame, its size included; as far as that is known."""
        return self._frame_end() - self._start

    def get_buffer(self, bytes_max: int = SHARED_BYTES) -> memoryview:
        """Where the next read goes, which brings at most `bytes_max` beyond the next frame; never empty."""
        unread = self._end - self._start
        if not unread:
            if self._is_own:
                self._use_shared()
            shared = self._buffer = self._shared
            self._start = self._end = 0
            return shared if bytes_max >= len(shared) else shared[:bytes_max]
        if self._is_own and self._start == 0 and self._end < (needed := self._frame_end()):
            # A read that was under way when reading was paused is taken in, too.
            return self._buffer[self._end : min(needed, max(self.read_to, self._end + LATE_BYTES_MAX))]
        return self._make_room(unread, bytes_max)

    def buffer_updated(self, count: int) -> None:
        """`count` bytes were written to the front of what `get_buffer` gave."""
        self._end += count
        assert self._end <= len(self._buffer)

    def next_frame(self) -> memoryview | None:
        """The next whole frame without its size, or None when more bytes are needed. Raises FrameRefused."""
        start = self._start
        unread = self._end - start
        if unread >= SIZE_BYTES:
            (size,) = _SIZE(self._buffer, start)
            if size < FRAME_BYTES_MIN or size > self._frame_bytes_max:
                raise FrameRefused(size, frame_bytes_max=self._frame_bytes_max)
            end = start + SIZE_BYTES + size
            if end <= self._end:
                self._start = end
                return self._buffer[start + SIZE_BYTES : end]
        self.retain()
        return None

    @property
    def data(self) -> memoryview:
        """Where the frames lie that `next_produce` has found."""
        return self._buffer

    def next_produce(self, client: bytes) -> Scanned | None:
        """The next frame, as `next_frame` gives it, where it is a Produce request of the common shape: what is in it.

        See `core.scan_produce`. None when it is not, and nothing has changed.
        """
        found = scan_produce(self._buffer, self._start, self._end, self._frame_bytes_max, client)
        if found is not None:
            self._start += SIZE_BYTES + found[0]
        return found

    def take_repeated(self, frame: bytes, epoch_at: int) -> tuple[int, int] | None:
        """Take the next frame, if the newest read brought nothing else, and it is `frame` (its size first) but for the
        correlation id and the four bytes at `epoch_at`: these two. None: nothing has changed.
        """
        if self._start or self._end != len(frame) or self._buffer is not self._shared:
            return None
        found = match_fetch(self._buffer, frame, epoch_at)
        if found is not None:
            self._end = 0
        return found

    def put_back(self, size: int) -> None:
        """The frame of `size` bytes that was just handed out may not start yet: it is the next one again.

        `retain` is to be called before anything else is, but for what hands it out once more.
        """
        self._start -= SIZE_BYTES + size
        assert self._start >= 0

    def detach(self) -> Callable[[], None] | None:
        """Let the frame handed out last be valid until the result is called, whatever the reader does meanwhile.

        None when that cannot be: it lies in the shared buffer, or more was read behind it. Such frames are small.
        """
        if not self._is_own or self._start != self._end:
            return None
        buffer = self._buffer
        self._is_own = False
        self._use_shared()
        return partial(self._buffers.release, buffer)

    def retain(self) -> None:
        """Keep what is unread until it is asked for: call it before control returns to the event loop.

        `next_frame` has done it when it returned None.
        """
        unread = self._end - self._start
        if not unread:
            self._use_shared()
        elif self._buffer is self._shared or (not self._is_own and 2 * self._start >= self._end):
            needed = self._frame_end() - self._start
            if needed > unread and needed > len(self._shared) // 2:
                self._move_to_own(needed)
            else:
                kept = memoryview(bytearray(self._buffer[self._start : self._end]))
                self._buffer, self._start, self._end = kept, 0, unread

    def close(self) -> None:
        """Forget what is unread and hold nothing any more."""
        self._start = self._end = 0
        self._use_shared()

    def _frame_end(self) -> int:
        """Where the frame at `start` ends, size included; as far as that is known. Checks the size."""
        start = self._start
        if self._end - start < SIZE_BYTES:
            return start + SIZE_BYTES
        size: int = _SIZE(self._buffer, start)[0]
        if size < FRAME_BYTES_MIN or size > self._frame_bytes_max:
            raise FrameRefused(size, frame_bytes_max=self._frame_bytes_max)
        return start + SIZE_BYTES + size

    def _make_room(self, unread: int, bytes_max: int) -> memoryview:
        """Move what is unread to where the next read has room behind it."""
        needed = self._frame_end() - self._start
        if needed <= unread:
            # Whole frames wait, because their consumer paused; there is still a read to be taken in.
            needed = 2 * unread
            assert needed <= 2 * (self._frame_bytes_max + len(self._shared)), "reading was not paused"
        if needed > len(self._shared) // 2:
            self._move_to_own(needed)
            # A read beyond the end of a big frame would have to be copied out again.
            return self._buffer[unread:needed]
        self._shared[:unread] = self._buffer[self._start : self._end]
        self._use_shared()
        self._end = unread
        return self._shared[unread : max(needed, unread + bytes_max)]

    def _move_to_own(self, size: int) -> None:
        """Move what is unread to the front of a buffer of this connection's own."""
        unread = self._end - self._start
        own = self._buffers.take(size)
        own[:unread] = self._buffer[self._start : self._end]
        self._use_shared()
        self._buffer, self._is_own, self._end = own, True, unread
        self.read_to = size

    def _use_shared(self) -> None:
        if self._is_own:
            self._buffers.release(self._buffer)
            self._is_own = False
        self._buffer, self._start, self._end = self._shared, 0, 0
