"""Lays streams' batches out as one object: a list of views, nothing copied but what is small.

Of ten thousand streams that trickle an object has tens of thousands of small pieces. They are copied together: stores
make an object or two of each buffer, and so does whoever looks for its size.

The writer works in steps of one data block, so that its caller can let the event loop turn in between.
"""

from collections.abc import Generator, Iterable, Sequence
from typing import Final

from automq.ids import ClusterId, ObjectId, Offset, StreamId
from automq.s3stream.objects.format import (
    BLOCK_HEAD_BYTES,
    ENTRY_BYTES,
    HEADER_BYTES,
    ROW,
    ROW_BYTES,
    BlockKind,
    IndexEntry,
    block_layout,
    encode_block_head,
    encode_entry,
    encode_footer,
    encode_header,
    encode_root,
)
from automq.s3stream.ports import Buffer
from automq.steps import at_once

# Small enough that a reader who wants one batch does not wait for much more, large enough that 64 bytes of index, one
# checksum and one cache entry are nothing beside it.
DATA_BLOCK_BYTES: Final = 512 * 1024

# Batches that are smaller on average are copied together: a view takes 200 bytes, and each store makes one or two more.
JOINED_BELOW_BYTES: Final = 4 * 1024
VIEW_BYTES: Final = 400
PIECE_US: Final = 5
NO_ENTRY: Final = bytes(ENTRY_BYTES)
INDEX_BYTES_A_US: Final = 2048

Batch = tuple[int, int, int, int, memoryview]
"""Base offset, count, max timestamp in ms, crc32c of the bytes, bytes."""


def writing_bytes(size: int, batches: int) -> int:
    """About what laying out `batches` of one stream, `size` bytes together, takes in memory."""
    views = size * 9 // 8 if size < JOINED_BELOW_BYTES * batches else VIEW_BYTES * batches
    # What grows in place has a reserve of an eighth.
    return views + BLOCK_HEAD_BYTES + ROW_BYTES * batches * 9 // 8 + 2 * ENTRY_BYTES


class ObjectWriter:
    """Streams must be added in ascending order; of one stream first its data, then its checkpoint.

    Checkpoints lie behind all data, so that one read fetches those of an object.
    """

    def __init__(self, cluster_id: ClusterId, object_id: ObjectId) -> None:
        self._cluster_id = cluster_id
        self._object_id = object_id
        self.body: list[Buffer] = [encode_header(cluster_id, object_id)]
        """What is to be put, in order."""
        self._joined: bytearray | None = None
        """The last buffer of the body, while more may be copied into it."""
        self._index = bytearray()
        self._newest = (0, 0, 0)
        """Stream, kind and start of the newest entry: the index is ordered by them."""
        self._layout = block_layout(cluster_id, object_id)
        self._checkpoints: list[tuple[IndexEntry, Sequence[bytes], int]] = []
        """Pieces, each with its place in the index: they lie behind all data."""
        self._position = HEADER_BYTES

    @property
    def size(self) -> int:
        """Bytes so far."""
        return self._position

    def add_block(self, stream: StreamId, batches: Iterable[Batch]) -> IndexEntry:
        """One data block: `batches` are consecutive, at least one."""
        rows = bytearray()
        views: list[memoryview] = []
        size = records = 0
        start = end = -1
        max_timestamp = -(1 << 63)
        pack = ROW.pack
        for base, count, timestamp, crc, view in batches:
            if not views:
                start = base
            else:
                assert base >= end
            end = base + count
            records += count
            if timestamp > max_timestamp:
                max_timestamp = timestamp
            length = len(view)
            size += length
            rows += pack(base, timestamp, count, length, crc)
            views.append(view)
        assert views
        entry = IndexEntry(
            stream=stream,
            start=Offset(start),
            end=Offset(end),
            records=records,
            batches=len(views),
            position=self._position,
            size=BLOCK_HEAD_BYTES + len(rows) + size,
            crc=0,
            max_timestamp_ms=max_timestamp,
            kind=BlockKind.DATA,
            layout=self._layout,
        )
        head = encode_block_head(entry, rows)
        self._in_order(entry)
        self._index += encode_entry(entry)
        if size < JOINED_BELOW_BYTES * len(views):
            self._copy(head, rows, *views)
        else:
            self._joined = None
            self.body.append(head + rows)
            self.body.extend(views)
        self._position += entry.size
        return entry

    def _copy(self, *buffers: Buffer) -> None:
        """What follows in the body, and is small."""
        joined = self._joined
        if joined is None or len(joined) >= DATA_BLOCK_BYTES:
            self._joined = joined = bytearray()
            self.body.append(joined)
        for buffer in buffers:
            joined += buffer

    def add_checkpoint(self, stream: StreamId, offset: Offset, buffers: Sequence[bytes], *, crc: int) -> None:
        """A piece of the stream's checkpoint, which describes its state at exactly `offset`; `crc` is its CRC-32C."""
        entry = IndexEntry(
            stream=stream,
            start=offset,
            end=offset,
            records=0,
            batches=0,
            position=0,
            size=sum(map(len, buffers)),
            crc=crc,
            max_timestamp_ms=-1,
            kind=BlockKind.CHECKPOINT,
            layout=self._layout,
        )
        self._checkpoints.append((entry, buffers, len(self._index)))
        self._in_order(entry)
        # Encoded once its position is known.
        self._index += NO_ENTRY

    @property
    def checkpoints(self) -> Sequence[IndexEntry]:
        """The pieces, which lie behind each other; complete once finished."""
        return [entry for entry, _, _ in self._checkpoints]

    def _in_order(self, entry: IndexEntry) -> None:
        key = (entry.stream, entry.kind, entry.start)
        assert self._newest <= key
        self._newest = key

    def finish(self) -> list[Buffer]:
        """`finish_in_turns`, at one go."""
        return at_once(self.finish_in_turns())

    def finish_in_turns(self) -> Generator[int, None, list[Buffer]]:
        """Pieces of checkpoints, index, root and footer; the whole body. One part a piece: there may be thousands."""
        for entry, buffers, place in self._checkpoints:
            entry.position = self._position
            self._position += entry.size
            if entry.size < JOINED_BELOW_BYTES:
                self._copy(*buffers)
            else:
                self._joined = None
                self.body += buffers
            self._index[place : place + ENTRY_BYTES] = encode_entry(entry)
            yield PIECE_US
        root = encode_root(self._index)
        yield len(self._index) // INDEX_BYTES_A_US
        position = self._position + len(self._index)
        footer = encode_footer(self._cluster_id, self._object_id, position=position, root=root)
        self.body += [self._index, root, footer]
        self._position = position + len(root) + len(footer)
        return self.body
