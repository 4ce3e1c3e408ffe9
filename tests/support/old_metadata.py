"""Snapshots as earlier versions wrote them: every span a record's entry, by stream, and objects without ranges."""

from collections.abc import Iterator

from automq.metadata.image import MetadataImage
from automq.metadata.records import (
    MetadataRecord,
    ObjectRestored,
    PackedObjectRestored,
    PackedStreamRestored,
    SpanRecord,
    StreamRestored,
)
from automq.metadata.snapshot_records import to_records


def old_records(image: MetadataImage, *, spans_a_record: int = 2) -> Iterator[MetadataRecord]:
    """What format level 1 made of the image."""
    for record in to_records(image):
        if isinstance(record, PackedObjectRestored):
            yield ObjectRestored(
                object_id=record.object_id,
                size=record.size,
                node=record.node,
                epoch=record.epoch,
            )
        elif isinstance(record, PackedStreamRestored):
            spans = [
                SpanRecord(span.object_id, span.object_size, span.start, span.end, span.size, span.max_timestamp_ms)
                for span in image.spans_of(record.stream)
            ]
            for first in range(0, max(1, len(spans)), spans_a_record):
                yield StreamRestored(
                    stream=record.stream,
                    start=record.start,
                    end=record.end,
                    checkpoint_object=record.checkpoint_object,
                    checkpoint_offset=record.checkpoint_offset,
                    spans=tuple(spans[first : first + spans_a_record]),
                )
        else:
            yield record
