"""Objects of format version 1, as the program wrote them before blocks had heads and indexes pages."""

from collections.abc import Sequence

from crc32c import crc32c

from automq.ids import ClusterId, ObjectId, Offset, StreamId
from automq.s3stream.objects.format import (
    HEADER,
    HEADLESS,
    MAGIC,
    ROW,
    BlockKind,
    IndexEntry,
    encode_entry,
    encode_footer,
)
from automq.s3stream.objects.writer import Batch


class OldObjectWriter:
    """Used as `ObjectWriter`."""

    def __init__(self, cluster_id: ClusterId, object_id: ObjectId) -> None:
        self._cluster_id, self._object_id = cluster_id, object_id
        header = HEADER.pack(MAGIC, 1, object_id, cluster_id.encode())
        self._body = header + crc32c(header).to_bytes(4, "big")
        self._entries: list[IndexEntry] = []
        self._checkpoints: list[tuple[IndexEntry, bytes]] = []
        self.size = 0
        """Once finished."""

    def add_block(self, stream: StreamId, batches: Sequence[Batch]) -> IndexEntry:
        rows = b"".join(
            ROW.pack(base, timestamp, count, len(view), crc) for base, count, timestamp, crc, view in batches
        )
        data = rows + b"".join(bytes(view) for *_, view in batches)
        entry = IndexEntry(
            stream=stream,
            start=Offset(batches[0][0]),
            end=Offset(batches[-1][0] + batches[-1][1]),
            records=sum(batch[1] for batch in batches),
            batches=len(batches),
            position=len(self._body),
            size=len(data),
            crc=crc32c(rows),
            max_timestamp_ms=max(batch[2] for batch in batches),
            kind=BlockKind.DATA,
            layout=HEADLESS,
        )
        self._entries.append(entry)
        self._body += data
        return entry

    def add_checkpoint(self, stream: StreamId, offset: Offset, buffers: Sequence[bytes], *, crc: int) -> None:
        data = b"".join(buffers)
        entry = IndexEntry(
            stream=stream,
            start=offset,
            end=offset,
            records=0,
            batches=0,
            position=0,
            size=len(data),
            crc=crc,
            max_timestamp_ms=-1,
            kind=BlockKind.CHECKPOINT,
            layout=HEADLESS,
        )
        self._entries.append(entry)
        self._checkpoints.append((entry, data))

    def finish(self) -> list[bytes]:
        for entry, data in self._checkpoints:
            entry.position = len(self._body)
            self._body += data
        index = b"".join(map(encode_entry, self._entries))
        footer = encode_footer(self._cluster_id, self._object_id, position=len(self._body), root=index, version=1)
        body = [self._body, index, footer]
        self.size = sum(map(len, body))
        return body
