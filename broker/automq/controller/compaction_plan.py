"""Pure: which committed objects are rewritten next, and as what.

Uploads come often and hold a little of many streams, so their number and that of the ranges in them grow with time.
Objects of one retention class and one generation (how often their bytes were rewritten) are merged when there are
enough of them: what a byte costs to keep is a rewrite a generation, and generations grow with the logarithm of time.

    candidates      small objects, and uploads whose ranges are short: a stream is read by many GETs there
    wasteful        objects that streams have mostly left (deleted topics, trimmed parts): rewritten by themselves
    outputs         by retention class and stream; a stream that is large in the job has objects of its own

A job names each span it replaces exactly as the image shows it. Spans of one stream that are no neighbours go to
different outputs: an object has at most one range of a stream. So a job may make as many objects and ranges as it takes
away, and what it made would be a job again, for ever: of anything but uploads no such job is planned.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Generator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from automq.controller.commit_check import RANGES_MAX
from automq.ids import ObjectId, Offset, StreamId
from automq.metadata.image import MetadataImage, ObjectImage
from automq.metadata.packed_ranges import count_of, first_stream, unpack
from automq.s3stream.model import ObjectSpan, RetentionClass

GENERATION_MAX: Final = 255
# Looked at in one turn of the event loop: a few milliseconds' work.
OBJECTS_A_TURN: Final = 500
SPANS_A_TURN: Final = 300
# Of an object that streams have left, so much may be left before it is rewritten for what it wastes.
WASTE_SHARE: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class CompactionSettings:
    """What a job may be."""

    sources: int = 16
    """So many objects of one generation are merged at once: a byte is rewritten once a generation."""
    object_bytes: int = 64 * 1024 * 1024
    """What outputs are filled up to; what the worker holds in memory."""
    job_bytes: int = 1024 * 1024 * 1024
    """Read by one job at most, but for one source that is larger by itself."""
    ranges_max: int = RANGES_MAX
    """Of all outputs together: what one change of the metadata carries. The rest of the sources is for the next job."""
    range_bytes: int = 1024 * 1024
    """An upload whose ranges are shorter, on the average, is merged however large it is."""


@dataclass(frozen=True, slots=True)
class PlannedRange:
    """Neighbouring spans of one stream that become one range of an output."""

    stream: StreamId
    spans: tuple[ObjectSpan, ...]


@dataclass(frozen=True, slots=True)
class PlannedOutput:
    """One object to be: its ranges, by stream."""

    ranges: tuple[PlannedRange, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CompactionPlan:
    """One job. `reason` says for people why."""

    sources: tuple[ObjectId, ...]
    outputs: tuple[PlannedOutput, ...]
    generation: int
    """Of the outputs."""
    source_bytes: int
    reason: str


@dataclass(slots=True)
class _Group:
    """Objects of one class and generation, the oldest first, until they are enough."""

    objects: list[ObjectId] = field(default_factory=list)
    size: int = 0

    def take(self) -> tuple[ObjectId, ...]:
        """All of them, and begin anew."""
        taken = tuple(self.objects)
        self.objects, self.size = [], 0
        return taken


@dataclass(frozen=True, slots=True)
class _Choice:
    """Sources of a job, the generation of its outputs, whether it has to take objects or ranges away, and why it is."""

    sources: tuple[ObjectId, ...]
    generation: int
    is_to_gain: bool
    reason: str


def plan(
    image: MetadataImage,
    *,
    class_of: Callable[[StreamId], RetentionClass],
    settings: CompactionSettings,
    excluded: Collection[ObjectId] = (),
) -> Generator[None, None, CompactionPlan | None]:
    """The next job, in turns; None when nothing is worth one. `excluded` are objects that failed a job."""
    choices = yield from _choices(image, class_of=class_of, settings=settings, excluded=excluded)
    for choice in choices:
        planned = yield from _planned(image, choice, class_of=class_of, settings=settings)
        if planned is not None:
            return planned
    return None


def _planned(
    image: MetadataImage,
    choice: _Choice,
    *,
    class_of: Callable[[StreamId], RetentionClass],
    settings: CompactionSettings,
) -> Generator[None, None, CompactionPlan | None]:
    """The job with these sources; None when it is not worth while."""
    by_row = yield from _ranges(image, choice.sources)
    outputs: list[PlannedOutput] = []
    room = settings.ranges_max
    made = replaced = 0
    for ranges in by_row:
        by_class = yield from _by_class(ranges, class_of)
        for of_class in by_class:
            for part in _cut(of_class, object_bytes=settings.object_bytes, ranges_max=settings.ranges_max):
                room -= len(part)
                if room >= 0:
                    outputs.append(PlannedOutput(tuple(part)))
                    made += 1 + len(part)
                    replaced += sum(len(item.spans) for item in part)
                yield
    # Sources of which something is left over stay.
    replaced += len(choice.sources) if room >= 0 else 0
    if not outputs or (choice.is_to_gain and made >= replaced):
        return None
    return CompactionPlan(
        sources=choice.sources,
        outputs=tuple(outputs),
        generation=min(choice.generation, GENERATION_MAX),
        source_bytes=sum(image.committed[source].size for source in choice.sources),
        reason=choice.reason,
    )


def _choices(
    image: MetadataImage,
    *,
    class_of: Callable[[StreamId], RetentionClass],
    settings: CompactionSettings,
    excluded: Collection[ObjectId],
) -> Generator[None, None, Sequence[_Choice]]:
    """What may be sources of the next job; the lowest generation first, in it the oldest."""
    groups: dict[tuple[int, RetentionClass], _Group] = defaultdict(_Group)
    complete: list[tuple[int, tuple[ObjectId, ...]]] = []
    for number, object_id in enumerate(sorted(image.committed), start=1):
        if not number % OBJECTS_A_TURN:
            yield
        found = image.committed.get(object_id)
        if found is None or not ranges_left(found) or object_id in excluded:
            continue
        if is_wasteful(image, found):
            reason = "most of it is trimmed or deleted"
            return (_Choice((object_id,), generation=found.generation, is_to_gain=False, reason=reason),)
        if not is_candidate(found, settings):
            continue
        group = groups[found.generation, class_of(first_stream(found.ranges))]
        if group.objects and group.size + found.size > settings.job_bytes:
            complete.append((found.generation, group.take()))
        group.objects.append(object_id)
        group.size += found.size
        if len(group.objects) == settings.sources:
            complete.append((found.generation, group.take()))
    complete.sort(key=lambda item: item[0])
    return [_choice_of(generation, sources) for generation, sources in complete]


def _choice_of(generation: int, sources: tuple[ObjectId, ...]) -> _Choice:
    several = f"{len(sources)} objects of generation {generation}"
    reason = several if len(sources) > 1 else "its ranges are short"
    return _Choice(sources, generation=generation + 1, is_to_gain=generation > 0, reason=reason)


def ranges_left(found: ObjectImage) -> int:
    """How many of its ranges streams still refer to: one that lives for checkpoints alone has nothing to be merged."""
    return found.references - found.checkpoints


def is_candidate(found: ObjectImage, settings: CompactionSettings) -> bool:
    """Whether it is small, or an upload of short ranges."""
    if found.size <= settings.object_bytes // 2:
        return True
    return found.generation == 0 and found.size < settings.range_bytes * count_of(found.ranges)


def is_wasteful(image: MetadataImage, found: ObjectImage) -> bool:
    """Whether streams have left most of it. Counted first, which is cheap, then weighed."""
    count = count_of(found.ranges)
    if ranges_left(found) >= count * WASTE_SHARE:
        return False
    held = sum(item.size for item in image.ranges_of(found.object_id))
    return 0 < held < sum(item.size for item in unpack(found.ranges)) * WASTE_SHARE


def _ranges(
    image: MetadataImage, sources: Sequence[ObjectId]
) -> Generator[None, None, Sequence[Sequence[PlannedRange]]]:
    """What streams hold in the sources, by stream: first everybody's first neighbours, then second ones, and so on."""
    wanted = frozenset(sources)
    reaches = dict[StreamId, tuple[Offset, Offset]]()
    for source in sources:
        for item in unpack(image.committed[source].ranges):
            start, end = reaches.get(item.stream, (item.start, item.end))
            reaches[item.stream] = min(start, item.start), max(end, item.end)
        yield
    rows: list[list[PlannedRange]] = []
    in_turn = 0
    for stream in sorted(reaches):
        for row, spans in enumerate(_neighbours(image, stream, reaches[stream], wanted)):
            if row == len(rows):
                rows.append([])
            rows[row].append(PlannedRange(stream, tuple(spans)))
            in_turn += len(spans)
        if in_turn >= SPANS_A_TURN:
            in_turn = 0
            yield
    return rows


def _neighbours(
    image: MetadataImage, stream: StreamId, reach: tuple[Offset, Offset], wanted: Collection[ObjectId]
) -> Iterable[Sequence[ObjectSpan]]:
    """Its spans in the wanted objects, those that follow each other without a hole together; none is beyond `reach`."""
    start, end = reach
    group: list[ObjectSpan] = []
    for span in image.spans_of(stream).above(start):
        if span.start >= end:
            break
        if span.object_id in wanted:
            if group and group[-1].end != span.start:
                yield group
                group = []
            group.append(span)
        elif group:
            yield group
            group = []
    if group:
        yield group


def _by_class(
    ranges: Sequence[PlannedRange], class_of: Callable[[StreamId], RetentionClass]
) -> Generator[None, None, Sequence[Sequence[PlannedRange]]]:
    """No output mixes retention classes, whatever the sources did before a topic's configuration changed."""
    by_class: dict[RetentionClass, list[PlannedRange]] = defaultdict(list)
    for number, planned in enumerate(ranges, start=1):
        by_class[class_of(planned.stream)].append(planned)
        if not number % SPANS_A_TURN:
            yield
    return [of_class for _, of_class in sorted(by_class.items())]


def _cut(ranges: Sequence[PlannedRange], *, object_bytes: int, ranges_max: int) -> Iterable[Sequence[PlannedRange]]:
    """Outputs of `object_bytes`, but for a single span that is larger; a large stream does not share them."""
    part: list[PlannedRange] = []
    size = 0
    for planned in ranges:
        total = sum(span.size for span in planned.spans)
        if total > object_bytes:
            for spans in _split(planned.spans, object_bytes):
                yield [PlannedRange(planned.stream, spans)]
            continue
        if part and (size + total > object_bytes or len(part) == ranges_max):
            yield part
            part, size = [], 0
        part.append(planned)
        size += total
    if part:
        yield part


def _split(spans: Sequence[ObjectSpan], object_bytes: int) -> Iterable[tuple[ObjectSpan, ...]]:
    part: list[ObjectSpan] = []
    size = 0
    for span in spans:
        if part and size + span.size > object_bytes:
            yield tuple(part)
            part, size = [], 0
        part.append(span)
        size += span.size
    yield tuple(part)
