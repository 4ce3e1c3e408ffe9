"""The records of one partition in one answer: announced with their exact size, taken when the socket takes them.

Nothing is pinned in the log cache. What has been evicted in the meantime is read from objects, in pieces; such a piece
is kept while it is being sent, if there is room (`reader_pins`). The bytes are those that were announced, or none:
every piece must begin at the batch that follows the last one, end where the answer says, and go on within a batch that
has the same checksum. Anything else ends the connection (`RecordsChanged`).
"""

import struct
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Final

from automq.core import find_batch
from automq.handlers.reader_pins import ReaderPins
from automq.ids import Offset
from automq.partition.replica import Readable
from automq.protocol.connection import Buffer
from automq.security.session import Session

# What is read from objects at once for an answer that is under way: one data block.
PIECE_BYTES: Final = 512 * 1024

# Of a batch's header: base offset, checksum, last offset delta.
_unpack_head = struct.Struct(">q9xI2xi").unpack_from


class RecordsChanged(Exception):
    """What was announced is not what is there any more: trimmed away, or another owner's by now."""


def client_of(session: Session) -> str:
    """Whose turn it is when objects are read: all connections of a client have one together."""
    return f"{session.client_host} {session.client_id}"


class RecordRange:
    """Whole batches of a partition, from one base offset to the end of the last one."""

    __slots__ = (
        "_checksum",
        "_end",
        "_left",
        "_loaded",
        "_next",
        "_partition",
        "_peeked",
        "_pins",
        "_session",
        "_skip",
    )

    def __init__(
        self,
        partition: Readable,
        *,
        start: Offset,
        end: Offset,
        size: int,
        pins: ReaderPins,
        session: Session,
        loaded: Sequence[memoryview] = (),
    ) -> None:
        """`start` is a batch's base offset; `loaded` are its first batches, where they are no views of arenas."""
        self._partition = partition
        self._pins = pins
        self._session = session
        self._next = start
        """Base offset of the batch that is sent next."""
        self._end = end
        self._left = size
        self._skip = 0
        """Bytes of that batch that are sent already; its checksum must be this then."""
        self._checksum = 0
        self._loaded = loaded
        self._peeked: Sequence[memoryview | bytes] = ()

    def __len__(self) -> int:
        """Bytes that are not sent yet."""
        return self._left

    def peek(self, bytes_max: int, buffers_max: int) -> tuple[Sequence[Buffer], int] | None:
        """The next bytes and how many, good for this turn of the loop: at least a batch, then as many as fit.

        What is loaded is no more than `PIECE_BYTES` and may be thousands of batches: of these, too, never more than
        `buffers_max` and one. None when they have to be loaded first. Raises RecordsChanged.
        """
        batches: Sequence[memoryview | bytes] | None = self._loaded
        buffers_max = max(buffers_max, 1)
        if batches:
            batches = batches if len(batches) <= buffers_max else batches[:buffers_max]
        else:
            batches = self._partition.cached_buffers(self._next, self._end, bytes_max, buffers_max=buffers_max)
            if batches is None:
                return None
        size = self._check(batches)
        self._peeked = batches
        if not self._skip:
            return batches, size
        return [memoryview(batches[0])[self._skip :], *batches[1:]], size

    def advance(self, sent: int) -> None:
        """The first `sent` bytes of what was peeked have left; they are not all that is left."""
        batches, self._peeked = self._peeked, ()
        self._left -= sent
        sent += self._skip
        # Hundreds of batches at a time.
        ends = list(accumulate(map(len, batches)))
        number = bisect_right(ends, sent)
        if number:
            sent -= ends[number - 1]
        if number < len(batches):
            # A buffer may hold many batches.
            begin = find_batch(batches[number], sent)
            sent -= begin
            base_offset, self._checksum, _ = _head_of(batches[number], begin)
            self._next = Offset(base_offset)
        elif number:
            self._next = Offset(_end_of(batches[-1]))
        self._skip = sent
        if self._loaded:
            self._loaded = self._loaded[number:]
            self.pin()

    async def load(self) -> None:
        """Make the next bytes ready to be peeked at. Raises RecordsChanged, StreamError, StoreError."""
        size = min(PIECE_BYTES, self._left + self._skip)
        async with self._pins.reading(client_of(self._session), size):
            read = await self._partition.read(self._next, size)
        if not read.is_pinned:
            self._loaded = [batch for batch in read.batches if _head_of(batch)[0] < self._end]
        read.release()

    # What is kept in memory.

    @property
    def pinned_bytes(self) -> int:
        """Bytes of objects that are kept for this."""
        return sum(map(len, self._loaded))

    def unpin(self) -> None:
        """Release them: they can be loaded again."""
        self._loaded = ()

    def pin(self) -> None:
        """What is loaded is not sent in this turn: keep it if there is room."""
        if self._loaded:
            self._pins.keep(self)
        else:
            self._pins.forget(self)

    def close(self) -> None:
        """Nothing more of it is wanted."""
        self._loaded = self._peeked = ()
        self._pins.forget(self)

    def _check(self, batches: Sequence[memoryview | bytes]) -> int:
        """Bytes of `batches` that are to be sent. Raises RecordsChanged where they do not go on as announced."""
        if not batches:
            raise RecordsChanged(f"{self._partition.name} has nothing at offset {self._next} any more")
        base_offset, checksum, _ = _head_of(batches[0])
        if base_offset != self._next or (self._skip and checksum != self._checksum):
            raise RecordsChanged(f"{self._partition.name} has other records at offset {self._next} than announced")
        size = sum(map(len, batches)) - self._skip
        if size > self._left or (size < self._left and _end_of(batches[-1]) >= self._end):
            raise RecordsChanged(f"{self._partition.name} has {size} bytes from offset {self._next}, not {self._left}")
        return size


def _end_of(batches: Buffer) -> int:
    """The offset behind the last of whole batches."""
    try:
        return _head_of(batches, find_batch(batches, len(batches) - 1))[2]
    except ValueError as error:
        raise RecordsChanged(f"what is there is no batch: {error}") from None


def _head_of(batch: Buffer, start: int = 0) -> tuple[int, int, int]:
    """Base offset, checksum, and the offset behind the batch that begins there."""
    base_offset, checksum, last_offset_delta = _unpack_head(batch, start)
    return base_offset, checksum, base_offset + last_offset_delta + 1
