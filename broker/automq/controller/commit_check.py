"""Pure: may these objects be committed, and what of them. The last line of defence against two owners of one stream.

Each clause is a function of its own; `judge` is their order. All of it looks at the image before the commit, and for
several ranges of one stream at the ranges judged before. A commit is the objects of a block: one record, or nothing.

    whole commit    more ranges than fit into one slot of the metadata log                      CommitTooLarge
                    a broker that is fenced, or a recoverer that the fence does not name        BrokerFenced
                    the newest commit of this log once more                                     the same answer again
                    one of the objects is not prepared                                          ObjectRefused, T stays
    each range      its stream is deleted                                                       DROPPED
                    the committing broker does not own the stream at the range's epoch          REFUSED
                    its stream is quarantined because of another incarnation's log              REFUSED
                    it lies wholly below the trim point                                         CLIPPED, the end moves
                    what is left above the trim point does not begin at the stream's end        REFUSED
                    a part of it lies below the trim point                                      CLIPPED, the end moves
                    else                                                                        ACCEPTED
    T               moves, unless a range was refused that was not written at a former epoch of its stream
    each release    see `release_check`
"""

from collections.abc import Generator, Iterable, Sequence
from typing import Final

import msgspec

from automq.controller.brokers import check_alive
from automq.controller.release_check import is_same, judge_releases
from automq.ids import Offset, StreamId
from automq.metadata.checkpoint_refs import newest_ref
from automq.metadata.committed_object import CommittedRanges
from automq.metadata.image import MetadataImage, StreamImage
from automq.metadata.records import CommittedObject, MetadataRecord, ObjectsCommitted, RecordedRange, WalTrimmed
from automq.replicated.machine import Decision
from automq.s3stream.model import (
    BrokerFenced,
    CommitRange,
    CommitRequest,
    CommitResult,
    CommitTooLarge,
    ObjectRefused,
    RangeVerdict,
)
from automq.steps import at_once

# A range takes at most 57 bytes of a record; a slot of the metadata log holds 7 MiB.
RANGES_MAX: Final = 100_000
# Judged in one turn of the event loop: a few milliseconds' work.
RANGES_A_TURN: Final = 500
RANGE_US: Final = 4


class Judgement(msgspec.Struct, frozen=True, gc=False):
    """One range's verdict, and what to record of it."""

    verdict: RangeVerdict
    recorded: RecordedRange | None


def judge(image: MetadataImage, request: CommitRequest) -> Decision[MetadataRecord, CommitResult]:
    """The whole check. Raises CommitTooLarge, BrokerFenced, ObjectRefused."""
    return at_once(judge_in_turns(image, request))


def judge_in_turns(
    image: MetadataImage, request: CommitRequest
) -> Generator[int | None, None, Decision[MetadataRecord, CommitResult]]:
    """As `judge`, so many ranges a turn: nothing may be decided or applied between two of them."""
    check_size(request)
    check_committer(image, request)
    if request.objects or request.releasing:
        if is_repeated(image, request):
            return Decision((), repeated_result(image, request))
        check_prepared(image, request)
    verdicts: list[RangeVerdict] = []
    refused: list[CommitRange] = []
    objects: list[CommittedObject] = []
    ends: dict[StreamId, Offset] = {}
    for committed in request.objects:
        ranges = CommittedRanges()
        for item in committed.ranges:
            judgement = judge_range(image, request, item, ends.get(item.stream))
            recorded = judgement.recorded
            if recorded is not None:
                end = ends.get(item.stream)
                if end is None:
                    end = image.streams[item.stream].end
                ends[item.stream] = recorded.end if recorded.end > end else end
                ranges.add(recorded, position=item.position)
            if judgement.verdict is RangeVerdict.REFUSED:
                refused.append(item)
            verdicts.append(judgement.verdict)
            if not len(verdicts) % RANGES_A_TURN:
                yield None
        yield RANGE_US * (len(committed.ranges) % RANGES_A_TURN)
        done = yield from ranges.finish_in_turns(object_id=committed.object_id, size=committed.size)
        objects.append(done)
    trim_to = position_after(image, request, refused)
    streams = tuple(item.stream for item in refused)
    records = _records(image, request, objects, streams, trim_to)
    released: tuple[bool, ...] = ()
    if request.releasing:
        yield RANGE_US * len(request.releasing)
        releases = judge_releases(image, request, ends, frozenset(streams))
        records = [*records, releases]
        released = _released(request, [(each.stream, each.move) for each in releases.released])
    return Decision(records, CommitResult(verdicts=verdicts, trimmed_to=trim_to, released=released))


def _released(request: CommitRequest, accepted: Iterable[tuple[StreamId, int]]) -> tuple[bool, ...]:
    """The answer to each release of the request."""
    known = frozenset(accepted)
    return tuple((release.stream, release.move) in known for release in request.releasing)


def check_size(request: CommitRequest) -> None:
    """Clause: what would not fit into one slot is refused before anything is decided. Raises CommitTooLarge."""
    ranges = sum(len(committed.ranges) for committed in request.objects) + len(request.releasing)
    if ranges > RANGES_MAX:
        raise CommitTooLarge(ranges=ranges, ranges_max=RANGES_MAX)


def check_committer(image: MetadataImage, request: CommitRequest) -> None:
    """Clause: from the fence on, only the recoverer that the fence record names may commit. Raises BrokerFenced."""
    wal = image.wals.get((request.node, request.epoch))
    if wal is None or wal.recoverer != request.recoverer:
        raise BrokerFenced(
            f"broker {request.node} at epoch {request.epoch} may not commit"
            + (f" by {request.recoverer}" if request.recoverer else "")
            + f": {'its log is recovered' if wal is None else f'it is fenced, {wal.recoverer} recovers it'}"
        )
    if request.recoverer is not None:
        check_alive(image, *request.recoverer)


def is_repeated(image: MetadataImage, request: CommitRequest) -> bool:
    """Clause: what is committed already is a success; the reply was lost. Whatever became of the objects since."""
    wal = image.wals[request.node, request.epoch]
    if not is_same(request.releasing, (*wal.newest_released, *wal.newest_unreleased)):
        return False
    # A move is released, or found void, once: without objects that alone tells.
    return not request.objects or wal.newest_objects == request.object_ids


def repeated_result(image: MetadataImage, request: CommitRequest) -> CommitResult:
    """The answer that was lost."""
    wal = image.wals[request.node, request.epoch]
    refused = wal.newest_refused
    return CommitResult(
        verdicts=[
            RangeVerdict.DROPPED
            if image.stream(item.stream) is None
            else RangeVerdict.REFUSED
            if item.stream in refused
            else RangeVerdict.ACCEPTED
            for item in request.ranges
        ],
        trimmed_to=wal.trim_to,
        released=_released(request, [(named.stream, named.move) for named in wal.newest_released]),
    )


def check_prepared(image: MetadataImage, request: CommitRequest) -> None:
    """Clause: with an object that is expired, destroyed or unknown nothing is committed, and no T moved.

    Raises ObjectRefused.
    """
    ids = request.object_ids
    unprepared = [object_id for object_id in ids if object_id not in image.prepared]
    if unprepared or len(set(ids)) < len(ids):
        raise ObjectRefused(f"of objects {ids} {unprepared or 'one twice'} cannot be committed: upload under new ids")


def judge_range(
    image: MetadataImage, request: CommitRequest, item: CommitRange, end_before: Offset | None
) -> Judgement:
    """One range. `end_before` is the stream's end after earlier ranges of the same request."""
    stream = image.stream(item.stream)
    if stream is None:
        # Clause: what belongs to a deleted stream is dropped. Stream ids are never given twice.
        return Judgement(RangeVerdict.DROPPED, None)
    if not is_owned(stream, request, item) or is_quarantined(image, request, item):
        return Judgement(RangeVerdict.REFUSED, None)
    if is_wholly_trimmed(stream, item):
        return Judgement(RangeVerdict.CLIPPED, recorded_range(stream, item, start=item.end))
    start = clipped_start(stream, item)
    if not is_contiguous(stream, start=start, end=stream.end if end_before is None else end_before):
        return Judgement(RangeVerdict.REFUSED, None)
    verdict = RangeVerdict.ACCEPTED if start == item.start else RangeVerdict.CLIPPED
    return Judgement(verdict, recorded_range(stream, item, start=start))


def is_owned(stream: StreamImage, request: CommitRequest, item: CommitRange) -> bool:
    """Clause: only the owner commits, and only what it wrote at the stream's current epoch.

    A recovery commit comes for the dead owner, before the stream is opened again.
    """
    return stream.belongs_to(request.node, request.epoch) and stream.epoch == item.epoch


def is_quarantined(image: MetadataImage, request: CommitRequest, item: CommitRange) -> bool:
    """Clause: what follows the end of a stream is in the damaged log, so only from there may it be committed.

    A quarantine for another cause stops appends and refuses nothing: what was appended before it is acknowledged.
    """
    causes = image.quarantine(item.stream)
    return bool(causes) and any(cause.wal not in (None, (request.node, request.epoch)) for cause in causes)


def is_wholly_trimmed(stream: StreamImage, item: CommitRange) -> bool:
    """Clause: nothing of a range below the trim point is left; it may even be one that was committed before."""
    return item.start < stream.start and item.end <= stream.start


def clipped_start(stream: StreamImage, item: CommitRange) -> Offset:
    """Clause: below the trim point a range is clipped."""
    return max(item.start, stream.start)


def is_contiguous(stream: StreamImage, *, start: Offset, end: Offset) -> bool:
    """Clause: a range begins where the stream ends, or at the trim point when that is above: no hole, no overlap."""
    return start == max(end, stream.start)


def recorded_range(stream: StreamImage, item: CommitRange, *, start: Offset) -> RecordedRange:
    """Clause: the stream's end moves to the range's end, clipped or not: offsets are never given twice."""
    return RecordedRange(
        stream=item.stream,
        start=start,
        end=item.end,
        size=item.size,
        max_timestamp_ms=item.max_timestamp_ms,
        checkpoint=item.checkpoint if item.checkpoint and is_newest_checkpoint(stream, item) else 0,
    )


def is_newest_checkpoint(stream: StreamImage, item: CommitRange) -> bool:
    """Clause: a checkpoint replaces only an older one."""
    newest = newest_ref(stream.checkpoints)
    return newest is None or item.end >= newest[1]


def position_after(image: MetadataImage, request: CommitRequest, refused: Sequence[CommitRange]) -> int:
    """Clause: a commit with a refused range moves T only if the range's epoch is below its stream's.

    Else the log may be all that is left of the range. Epochs rise only when everything acknowledged at the lower one
    is committed: by a release, or by recovery. One that is above says that metadata were lost.
    """
    before = image.wals[request.node, request.epoch].trim_to
    for item in refused:
        stream = image.stream(item.stream)
        if stream is not None and stream.epoch <= item.epoch:
            return before
    return max(before, request.trim_to)


def _records(
    image: MetadataImage,
    request: CommitRequest,
    objects: Sequence[CommittedObject],
    refused: Sequence[StreamId],
    trim_to: int,
) -> Sequence[MetadataRecord]:
    if not request.objects:
        if trim_to == image.wals[request.node, request.epoch].trim_to:
            return ()
        return (WalTrimmed(node=request.node, epoch=request.epoch, trim_to=trim_to),)
    return (ObjectsCommitted(request.node, request.epoch, trim_to, tuple(objects), tuple(refused)),)
