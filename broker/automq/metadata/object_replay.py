"""Pure: how records of streams and objects change an image's maps. Part of `metadata.replay`.

A commit changes one object and the streams that it extends, each in a constant number of steps. What older programs
wrote, range by range, becomes the same packed values.
"""

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final

from msgspec import structs

from automq.ids import BrokerEpoch, NodeId, ObjectId, Offset, StreamId
from automq.metadata import damage
from automq.metadata.checkpoint_refs import CheckpointRefs, check_refs, one_ref, unpack_refs, with_piece
from automq.metadata.committed_object import CommittedRanges, join, ranges_of
from automq.metadata.image import MetadataImage, ObjectImage, StreamImage
from automq.metadata.image_under_change import ImageUnderChange
from automq.metadata.object_ids import check_chunks
from automq.metadata.packed_ranges import NONE, PackedRanges, StreamRange, check, count_of, pack, unpack
from automq.metadata.records import (
    CommittedObject,
    CompactedObject,
    NewestCommit,
    ObjectCommitted,
    ObjectRestored,
    ObjectsCommitted,
    ObjectsCompacted,
    ObjectsDeleted,
    ObjectsDestroyed,
    ObjectsPrepared,
    PackedObjectRestored,
    PackedStreamRestored,
    StreamRestored,
    StreamTrimmed,
)
from automq.metadata.spans import Holding, Spans, extended

# Ranges applied in one turn of the event loop: a few milliseconds' work.
RANGES_A_TURN: Final = 500
# And objects that are destroyed, or forgotten.
OBJECTS_A_TURN: Final = 500
NOTHING: Final[Mapping[ObjectId, int]] = {}


class ObjectReplay(ImageUnderChange):
    """The part of `MetadataMachine` that knows of streams, objects and what logs are still needed for."""

    def __init__(self, image: MetadataImage, *, remembers: bool = False) -> None:
        super().__init__(image, remembers=remembers)
        self._restored: dict[ObjectId, dict[StreamId, StreamRange]] = {}
        """Of a snapshot that lists ranges by stream: those of objects that are not packed yet."""

    @property
    def image(self) -> MetadataImage:
        """Everything replayed so far."""
        self._pack_restored()
        return super().image

    # Streams.

    def stream_trimmed(self, record: StreamTrimmed) -> None:
        stream = self.streams[record.stream]
        if record.start <= stream.start:
            return
        held, dropped = Spans(stream.stream, stream.held, self.committed).without_below(record.start)
        self.streams[record.stream] = structs.replace(stream, start=record.start, held=held)
        damage.trim_lost(self.lost_ranges, self.streams[record.stream])
        self._release(Counter(dropped))

    def forget_stream(self, stream_id: StreamId) -> int:
        """The stream is deleted, and refers to nothing any more. Returns how many objects had something of it."""
        stream = self.streams.pop(stream_id)
        self.lost_ranges.pop(stream_id, None)
        released = Counter(stream.held.objects)
        dropped = Counter(object_id for object_id, _ in unpack_refs(stream.checkpoints))
        self._release(released + dropped, dropped)
        return len(released) + len(dropped)

    # Objects.

    def objects_prepared(self, record: ObjectsPrepared) -> None:
        for number in range(record.first, record.first + record.count):
            object_id = ObjectId(number)
            self.prepared[object_id] = ObjectImage(
                object_id=object_id, node=record.node, epoch=record.epoch, expires_ms=record.expires_ms
            )
        self.next_object = ObjectId(max(self.next_object, record.first + record.count))

    def object_committed(self, record: ObjectCommitted) -> Iterator[None]:
        ranges = CommittedRanges()
        for recorded in record.ranges:
            ranges.add(recorded)
        objects = (ranges.finish(object_id=record.object_id, size=record.size),)
        yield from self.objects_committed(
            ObjectsCommitted(record.node, record.epoch, record.trim_to, objects, record.refused)
        )

    def objects_committed(self, record: ObjectsCommitted) -> Iterator[None]:
        for committed in record.objects:
            yield from self._commit(record.node, record.epoch, committed)
        self._move_wal(record.node, record.epoch, record.trim_to)
        ids = tuple(committed.object_id for committed in record.objects)
        self.newest_commit(NewestCommit(record.node, record.epoch, ids, record.refused))

    def newest_commit(self, record: NewestCommit) -> None:
        key = (record.node, record.epoch)
        if key in self.wals:
            wal = dataclasses.replace(
                self.wals[key],
                newest_objects=record.objects,
                newest_refused=record.refused,
                newest_released=(),
                newest_unreleased=(),
            )
            self.wals[key] = wal

    def _commit(self, node: NodeId, epoch: BrokerEpoch, committed: CommittedObject) -> Iterator[None]:
        """One object, some ranges a turn."""
        del self.prepared[committed.object_id]
        dropped = Counter[ObjectId]()
        references = checkpoints = 0
        for number, (held, kept) in enumerate(ranges_of(committed), start=1):
            references += self._extend(committed.object_id, held.stream, held, held.end, kept, dropped)
            checkpoints += kept > 0
            if not number % RANGES_A_TURN:
                yield
        for other in committed.others:
            kept = int(other.checkpoint)
            references += self._extend(committed.object_id, other.stream, None, other.end, kept, dropped)
            checkpoints += kept > 0
        self.committed[committed.object_id] = ObjectImage(
            object_id=committed.object_id,
            node=node,
            epoch=epoch,
            size=committed.size,
            references=references,
            checkpoints=checkpoints,
            ranges=PackedRanges(committed.ranges),
        )
        if references == 0:
            self.unreferenced[committed.object_id] = None
        self._release(dropped, dropped)

    def _extend(
        self,
        object_id: ObjectId,
        stream_id: StreamId,
        added: StreamRange | None,
        end: Offset,
        kept: int,
        dropped: Counter[ObjectId],
    ) -> int:
        """Move one stream's end, and say how often it now refers to the object.

        With a piece of its checkpoint so many are `kept`; `dropped` counts the others by object.
        """
        stream = self.streams[stream_id]
        references = 0
        held = stream.held
        if added is not None:
            held = extended(held, object_id, added)
            references += 1
        checkpoints = stream.checkpoints
        if kept:
            references += 1
            checkpoints, older = with_piece(checkpoints, object_id, end, kept=kept)
            if older:
                dropped.update(older)
        self.streams[stream_id] = StreamImage(
            stream=stream_id,
            topic_id=stream.topic_id,
            partition=stream.partition,
            owner=stream.owner,
            epoch=stream.epoch,
            owner_epoch=stream.owner_epoch,
            start=stream.start,
            end=max(stream.end, end),
            checkpoints=checkpoints,
            held=held,
        )
        return references

    def objects_compacted(self, record: ObjectsCompacted) -> Iterator[None]:
        """Outputs in their order: one stream may have neighbouring ranges in several of them."""
        released = Counter[ObjectId]()
        replaced = 0
        for compacted in record.objects:
            ranges = check(compacted.ranges)
            for held in unpack(ranges):
                replaced += self._replace(compacted, held, released)
                if replaced >= RANGES_A_TURN:
                    replaced = 0
                    yield
            del self.prepared[compacted.object_id]
            self.committed[compacted.object_id] = ObjectImage(
                object_id=compacted.object_id,
                node=record.node,
                epoch=record.epoch,
                size=compacted.size,
                references=count_of(ranges),
                ranges=ranges,
                generation=record.generation,
            )
            if not count_of(ranges):
                self.unreferenced[compacted.object_id] = None
        self._release(released)

    def _replace(self, compacted: CompactedObject, by: StreamRange, released: Counter[ObjectId]) -> int:
        """One stream's spans between the ends of `by`: how many. `released` counts whose they were."""
        stream = self.streams[by.stream]
        held, gone = Spans(by.stream, stream.held, self.committed).replaced_by(compacted.object_id, by)
        self.streams[by.stream] = structs.replace(stream, held=held)
        for object_id in gone:
            released[object_id] += 1
        return len(gone)

    def _release(self, released: Mapping[ObjectId, int], checkpoints: Mapping[ObjectId, int] = NOTHING) -> None:
        """So many references to each object are gone, and so many of them were pieces of checkpoints."""
        for object_id, count in released.items():
            found = self.committed[object_id]
            assert found.references >= count
            self.committed[object_id] = structs.replace(
                found,
                references=found.references - count,
                checkpoints=found.checkpoints - checkpoints.get(object_id, 0),
            )
            if found.references == count:
                self.unreferenced[object_id] = None

    def objects_destroyed(self, record: ObjectsDestroyed) -> Iterator[None]:
        for number, object_id in enumerate(record.objects, start=1):
            if not number % OBJECTS_A_TURN:
                yield
            found = self.prepared.pop(object_id, None) or self.committed.pop(object_id)
            assert found.references == 0
            self.unreferenced.pop(object_id, None)
            self.destroyed[object_id] = structs.replace(found, expires_ms=0, ranges=NONE, destroyed_ms=record.at_ms)

    def objects_deleted(self, record: ObjectsDeleted) -> Iterator[None]:
        for number, object_id in enumerate(record.objects, start=1):
            del self.destroyed[object_id]
            if not number % OBJECTS_A_TURN:
                yield

    def _move_wal(self, node: NodeId, epoch: BrokerEpoch, trim_to: int) -> None:
        wal = self.wals.get((node, epoch))
        if wal is not None and trim_to > wal.trim_to:
            self.wals[node, epoch] = dataclasses.replace(wal, trim_to=trim_to)

    # Snapshots.

    def object_restored(self, record: ObjectRestored) -> None:
        self.committed[record.object_id] = ObjectImage(
            object_id=record.object_id,
            node=record.node,
            epoch=record.epoch,
            size=record.size,
        )
        self.unreferenced[record.object_id] = None

    def stream_restored(self, record: StreamRestored) -> None:
        """Its spans may go on in a second record; an object's ranges come stream by stream."""
        stream = self.streams[record.stream]
        held = stream.held
        for span in record.spans:
            of_object = self._restored.setdefault(span.object_id, {})
            more = StreamRange(record.stream, span.start, span.end, span.size, span.max_timestamp_ms)
            before = of_object.get(record.stream)
            of_object[record.stream] = more if before is None else join(before, more)
            if before is None:
                held = extended(held, span.object_id, more)
                self._retain(span.object_id)
            else:
                held = structs.replace(
                    held,
                    stored_bytes=held.stored_bytes + more.size,
                    stored_offsets=held.stored_offsets + more.end - more.start,
                )
        checkpoints = stream.checkpoints
        if record.checkpoint_object is not None and not checkpoints:
            checkpoints = one_ref(record.checkpoint_object, Offset(record.checkpoint_offset))
            self._retain(record.checkpoint_object)
            self._count_checkpoints(checkpoints)
        self.streams[record.stream] = structs.replace(
            stream,
            start=record.start,
            end=record.end,
            checkpoints=checkpoints,
            held=held,
        )

    def packed_object_restored(self, record: PackedObjectRestored) -> None:
        self.committed[record.object_id] = ObjectImage(
            object_id=record.object_id,
            node=record.node,
            epoch=record.epoch,
            size=record.size,
            references=record.references,
            ranges=check(record.ranges),
            generation=record.generation,
        )
        if not record.references:
            self.unreferenced[record.object_id] = None

    def packed_stream_restored(self, record: PackedStreamRestored) -> None:
        stream = self.streams[record.stream]
        checkpoints = check_refs(record.checkpoints)
        if not checkpoints and record.checkpoint_object is not None:
            checkpoints = one_ref(record.checkpoint_object, record.checkpoint_offset)
        if not stream.checkpoints:
            self._count_checkpoints(checkpoints)
        self.streams[record.stream] = structs.replace(
            stream,
            start=record.start,
            end=record.end,
            checkpoints=checkpoints,
            held=Holding(
                check_chunks((*stream.held.objects.chunks, *record.objects)),
                record.stored_bytes,
                record.stored_offsets,
            ),
        )

    def _count_checkpoints(self, refs: CheckpointRefs) -> None:
        for object_id, _ in unpack_refs(refs):
            found = self.committed[object_id]
            self.committed[object_id] = structs.replace(found, checkpoints=found.checkpoints + 1)

    def _retain(self, object_id: ObjectId) -> None:
        found = self.committed[object_id]
        self.committed[object_id] = structs.replace(found, references=found.references + 1)
        self.unreferenced.pop(object_id, None)

    def _pack_restored(self) -> None:
        """Every range of a snapshot is known: pack them by object."""
        for object_id, ranges in self._restored.items():
            self.committed[object_id] = structs.replace(self.committed[object_id], ranges=pack(ranges.values()))
        self._restored.clear()
