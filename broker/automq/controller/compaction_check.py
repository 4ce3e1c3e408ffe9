"""Pure: may these objects take the place of those ranges. Its clauses, in order; nothing is decided on a guess.

    whole request   its broker is fenced or superseded                                          BrokerFenced
                    all outputs are committed already                                           the same answer again
                    an output is neither prepared nor committed                                 ObjectRefused
                    too many ranges for one change of the metadata                              CommitTooLarge
    each range      its stream is deleted                                                       left out
                    spans of it lie wholly below the trim point by now                          left out of the range
                    what is left of it is not exactly what the image shows there                CompactionRefused
                    else                                                                        replaced
    sources         those that nothing refers to any more                                       destroyed, same append

What was trimmed or deleted meanwhile makes a job smaller; anything else that changed makes it worthless, never wrong.
"""

from collections import Counter
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Final

from automq.controller.brokers import check_alive
from automq.controller.commit_check import RANGES_MAX
from automq.ids import BrokerEpoch, NodeId, ObjectId, Offset, StreamId
from automq.metadata.image import MetadataImage
from automq.metadata.packed_ranges import StreamRange, pack_in_turns
from automq.metadata.records import CompactedObject, MetadataRecord, ObjectsCompacted, ObjectsDestroyed
from automq.replicated.machine import Decision
from automq.s3stream.model import CommitTooLarge, ObjectRefused, ObjectSpan

# Spans looked at in one turn of the event loop: a few milliseconds' work.
SPANS_A_TURN: Final = 300


class CompactionRefused(Exception):
    """A span that was to be replaced is not what the image shows: the job is worthless, and was not carried out."""


@dataclass(frozen=True, slots=True)
class CompactedRange:
    """Offsets of one stream in an output, and the neighbouring spans they are to replace, as the planner saw them."""

    stream: StreamId
    spans: Sequence[ObjectSpan]
    size: int = 0
    """Bytes of its blocks in the output; 0: as many as the spans have."""
    position: int = 0
    """Where in the output they begin; 0: it is not known."""


@dataclass(frozen=True, slots=True)
class CompactedOutput:
    """One object that was written. A stream has at most one range in it."""

    object_id: ObjectId
    size: int
    ranges: Sequence[CompactedRange]


@dataclass(frozen=True, slots=True, kw_only=True)
class CompactionRequest:
    """What (node, epoch) asks to record."""

    node: NodeId
    epoch: BrokerEpoch
    generation: int
    outputs: Sequence[CompactedOutput]


@dataclass(frozen=True, slots=True, kw_only=True)
class CompactionResult:
    """What became of it."""

    replaced_ranges: int
    destroyed: Sequence[ObjectId]


def judge_compaction(
    image: MetadataImage, request: CompactionRequest, *, now_ms: int
) -> Generator[int | None, None, Decision[MetadataRecord, CompactionResult]]:
    """The whole check, in turns: nothing may be decided or applied between two of them.

    Raises BrokerFenced, ObjectRefused, CommitTooLarge, CompactionRefused.
    """
    check_alive(image, request.node, request.epoch)
    if is_repeated(image, request):
        return Decision((), CompactionResult(replaced_ranges=0, destroyed=()))
    check_outputs(image, request)
    released = Counter[ObjectId]()
    compacted: list[CompactedObject] = []
    judged = replaced = 0
    for output in request.outputs:
        ranges: list[StreamRange] = []
        for item in output.ranges:
            left = spans_left(image, item)
            if left:
                check_as_named(image, item.stream, left)
                ranges.append(range_of(item, left))
                released.update(span.object_id for span in left)
            judged += 1 + len(item.spans)
            if judged >= SPANS_A_TURN:
                judged = 0
                yield None
        replaced += len(ranges)
        packed = yield from pack_in_turns(ranges)
        compacted.append(CompactedObject(object_id=output.object_id, size=output.size, ranges=packed))
    destroyed = superfluous(image, released)
    records: list[MetadataRecord] = [
        ObjectsCompacted(
            node=request.node, epoch=request.epoch, generation=request.generation, objects=tuple(compacted)
        )
    ]
    if destroyed:
        records.append(ObjectsDestroyed(objects=tuple(destroyed), at_ms=now_ms))
    return Decision(records, CompactionResult(replaced_ranges=replaced, destroyed=destroyed))


def is_repeated(image: MetadataImage, request: CompactionRequest) -> bool:
    """Clause: the reply was lost; all of it is recorded together, so one output speaks for all."""
    return any(output.object_id in image.committed for output in request.outputs)


def check_outputs(image: MetadataImage, request: CompactionRequest) -> None:
    """Clause: an expired id may be another's garbage by now. Raises ObjectRefused, CommitTooLarge."""
    for output in request.outputs:
        if output.object_id not in image.prepared:
            raise ObjectRefused(f"object {output.object_id} is not prepared any more: the job took too long")
    ranges = sum(len(output.ranges) for output in request.outputs)
    if ranges > RANGES_MAX:
        raise CommitTooLarge(ranges=ranges, ranges_max=RANGES_MAX)


def spans_left(image: MetadataImage, item: CompactedRange) -> Sequence[ObjectSpan]:
    """Clause: what was deleted or trimmed meanwhile is left out; the stream refers to it no more."""
    stream = image.stream(item.stream)
    if stream is None:
        return ()
    return [span for span in item.spans if span.end > stream.start]


def check_as_named(image: MetadataImage, stream: StreamId, named: Sequence[ObjectSpan]) -> None:
    """Clause: what is replaced is named exactly as it is, object by object and offset by offset. Raises otherwise."""
    found = list(image.spans(stream, named[0].start, named[-1].end, limit=len(named) + 1))
    if found != list(named):
        raise CompactionRefused(
            f"stream {stream} is not held as the job saw it: {len(found)} spans in "
            f"[{named[0].start}, {named[-1].end}), {len(named)} were to be replaced"
        )
    if any(before.end != after.start for before, after in zip(named, named[1:], strict=False)):
        raise CompactionRefused(f"stream {stream} has a hole in [{named[0].start}, {named[-1].end})")


def range_of(item: CompactedRange, left: Sequence[ObjectSpan]) -> StreamRange:
    """The one range that holds what is `left` of its spans. In the output all of them lie: it counts whole."""
    return StreamRange(
        item.stream,
        Offset(left[0].start),
        Offset(left[-1].end),
        item.size or sum(span.size for span in left),
        max(span.max_timestamp_ms for span in left),
        item.position,
    )


def superfluous(image: MetadataImage, released: Counter[ObjectId]) -> Sequence[ObjectId]:
    """Clause: a source goes in the append that replaces the last of its ranges. A checkpoint still refers to it."""
    return sorted(object_id for object_id, count in released.items() if image.committed[object_id].references == count)
