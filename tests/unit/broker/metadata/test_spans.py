"""Spans behave like a plain list, however they were extended, trimmed and replaced; old ones stay as they are."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from automq.ids import ObjectId, Offset, StreamId
from automq.metadata.packed_ranges import PackedRanges, StreamRange, pack
from automq.metadata.spans import NOTHING_HELD, Holding, NotAsNamed, Spans, extended, is_cover
from automq.s3stream.model import ObjectSpan

STREAM = StreamId(7)
OTHER = StreamId(9)


@dataclass(frozen=True)
class Held:
    """An object, with a range of another stream beside."""

    size: int
    ranges: PackedRanges


def held(span: ObjectSpan) -> Held:
    beside = StreamRange(OTHER, Offset(0), Offset(5), 50, 3)
    return Held(
        span.object_size, pack([StreamRange(STREAM, span.start, span.end, span.size, span.max_timestamp_ms), beside])
    )


def span(object_id: int, start: int, end: int, *, size: int = 10, timestamp: int = 0) -> ObjectSpan:
    return ObjectSpan(
        object_id=ObjectId(object_id),
        object_size=1000 + object_id,
        start=Offset(start),
        end=Offset(end),
        size=size,
        max_timestamp_ms=timestamp,
    )


@dataclass
class World:
    """One stream, and a plain list of what it should be."""

    objects: dict[ObjectId, Held] = field(default_factory=dict)
    holding: Holding = NOTHING_HELD
    plain: list[ObjectSpan] = field(default_factory=list)
    next_object: int = 1
    end: int = 0

    @property
    def spans(self) -> Spans:
        return Spans(STREAM, self.holding, self.objects)

    def append(self, gap: int, length: int, *, size: int = 10, timestamp: int = 0) -> None:
        made = span(self.next_object, self.end + gap, self.end + gap + length, size=size, timestamp=timestamp)
        self.next_object += 1
        self.end = made.end
        self.plain.append(made)
        self.holding = extended(
            self.holding, made.object_id, StreamRange(STREAM, made.start, made.end, made.size, made.max_timestamp_ms)
        )
        self.objects[made.object_id] = held(made)

    def replace(self, first: int, count: int, cuts: list[int]) -> None:
        """`cuts` say where, in the room of the spans that are replaced, those of the new objects meet."""
        named = self.plain[first : first + count]
        borders = sorted({named[0].start, *(c for c in cuts if named[0].start < c < named[-1].end), named[-1].end})
        by = []
        for start, end in zip(borders, borders[1:], strict=False):
            by.append(span(self.next_object, start, end, size=7))
            self.next_object += 1
        assert is_cover(named, by)
        before = self.spans
        self.holding = before.replaced(named, by)
        if len(by) == 1:
            (only,) = by
            whole = StreamRange(STREAM, only.start, only.end, only.size, only.max_timestamp_ms)
            assert before.replaced_by(only.object_id, whole) == (self.holding, [span.object_id for span in named])
        self.objects.update({made.object_id: held(made) for made in by})
        self.plain[first : first + count] = by

    def check(self) -> None:
        assert list(self.spans) == self.plain
        assert list(reversed(self.spans)) == self.plain[::-1]
        assert len(self.spans) == len(self.plain)
        assert self.holding.stored_bytes == sum(item.size for item in self.plain)
        assert self.holding.stored_offsets == sum(item.end - item.start for item in self.plain)


class SpansMachine(RuleBasedStateMachine):
    """Everything that happens to a stream's spans, in any order, beside a list."""

    @initialize(count=st.sampled_from((0, 3, 300)))
    def begin(self, count: int) -> None:
        self.world = World()
        for number in range(count):
            self.world.append(0, 1 + number % 3, size=number % 5, timestamp=number % 7)

    @rule(gap=st.integers(0, 2), length=st.integers(1, 300), size=st.integers(0, 70_000), skipped=st.integers(0, 300))
    def append(self, gap: int, length: int, size: int, skipped: int) -> None:
        self.world.next_object += skipped
        self.world.append(gap, length, size=size)

    @rule(data=st.data())
    def trim(self, data: st.DataObject) -> None:
        world = self.world
        offset = data.draw(st.integers(0, world.end + 1))
        before = (world.spans, list(world.plain))
        world.holding, dropped = world.spans.without_below(Offset(offset))
        assert list(dropped) == [item.object_id for item in world.plain if item.end <= offset]
        world.plain = [item for item in world.plain if item.end > offset]
        assert list(before[0]) == before[1]

    @precondition(lambda self: self.world.plain)
    @rule(data=st.data())
    def replace(self, data: st.DataObject) -> None:
        world = self.world
        first = data.draw(st.integers(0, len(world.plain) - 1))
        count = data.draw(st.integers(1, len(world.plain) - first))
        room = st.integers(world.plain[first].start, world.plain[first + count - 1].end)
        world.replace(first, count, data.draw(st.lists(room, max_size=3)))

    @precondition(lambda self: self.world.plain)
    @rule(data=st.data(), change=st.sampled_from(("object", "start", "end", "size", "order", "missing", "more")))
    def refuse(self, data: st.DataObject, change: str) -> None:
        world = self.world
        first = data.draw(st.integers(0, len(world.plain) - 1))
        named = world.plain[first : first + data.draw(st.integers(1, 3))]
        place = data.draw(st.integers(0, len(named) - 1))
        wrong = named[place]
        if change == "order":
            named.reverse()
        elif change == "missing":
            del named[place]
        elif change == "more":
            named.append(span(1 << 30, named[-1].end, named[-1].end + 1))
        else:
            named[place] = span(
                wrong.object_id + (change == "object"),
                wrong.start + (change == "start"),
                wrong.end + (change == "end"),
                size=wrong.size + (change == "size"),
                timestamp=wrong.max_timestamp_ms,
            )
        if (
            not named
            or named == world.plain[first : first + len(named)]
            or named == world.plain[first + 1 :][: len(named)]
        ):
            return
        with pytest.raises(NotAsNamed) as raised:
            world.spans.replaced(named, [span(1 << 31, named[0].start, named[-1].end)])
        assert list(raised.value.named) == named

    @rule(data=st.data(), limit=st.integers(1, 5))
    def look(self, data: st.DataObject, limit: int) -> None:
        world = self.world
        start = data.draw(st.integers(0, world.end + 1))
        end = start + data.draw(st.integers(0, 100))
        expected = [item for item in world.plain if item.end > start and item.start < end]
        assert list(world.spans.overlapping(Offset(start), Offset(end), limit=limit)) == expected[:limit]
        assert list(world.spans.above(Offset(start))) == [item for item in world.plain if item.end > start]

    @invariant()
    def is_the_list(self) -> None:
        if hasattr(self, "world"):
            self.world.check()


TestSpans = SpansMachine.TestCase
TestSpans.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)


def test_looking_for_the_oldest_reads_no_other() -> None:
    """Retention looks at a stream's first spans once in five minutes: what it does not take must cost nothing."""
    world = World()
    for _ in range(1000):
        world.append(0, 2)
    asked: list[ObjectId] = []

    class Counting(dict[ObjectId, Held]):
        def __getitem__(self, object_id: ObjectId) -> Held:
            asked.append(object_id)
            return super().__getitem__(object_id)

    spans = Spans(STREAM, world.holding, Counting(world.objects))
    assert next(spans.above(Offset(0))) == world.plain[0]
    assert len(set(asked)) <= 9
    asked.clear()
    assert next(spans.above(Offset(1501))) == world.plain[750]
    assert len(set(asked)) <= 9


@given(
    borders=st.lists(st.integers(0, 12), min_size=2, max_size=5), holes=st.lists(st.booleans(), min_size=4, max_size=4)
)
def test_what_leaves_an_offset_out_is_no_cover(borders: list[int], holes: list[bool]) -> None:
    """Compared offset by offset: each that was held is held once, nothing outside the first and the last is."""
    named = [span(1, 0, 3), span(2, 5, 8), span(3, 8, 12)]
    by = [
        span(10 + number, start, end)
        for number, (start, end) in enumerate(zip(borders, borders[1:], strict=False))
        if not holes[number]
    ]
    was = [offset for item in named for offset in range(item.start, item.end)]
    is_now = [offset for item in by for offset in range(item.start, item.end)]

    expected = (
        bool(by)
        and all(item.start < item.end for item in by)
        and sorted(is_now) == is_now
        and len(set(is_now)) == len(is_now)
        and set(was) <= set(is_now)
        and (is_now[0], is_now[-1]) == (was[0], was[-1])
    )
    assert is_cover(named, by) == expected


@pytest.mark.parametrize(
    "by",
    [
        [span(10, 0, 5), span(10, 5, 10)],
        [],
        [span(10, 0, 5), span(11, 5, 9)],
        [span(10, 0, 4), span(11, 5, 10)],
        [span(1, 0, 10)],
    ],
)
def test_a_swap_that_would_lose_or_double_an_offset_is_a_bug(by: list[ObjectSpan]) -> None:
    world = World()
    world.append(0, 5)
    world.append(0, 5)
    with pytest.raises(AssertionError):
        world.spans.replaced(world.plain, by)


@pytest.mark.parametrize(("start", "end"), [(1, 10), (0, 9), (3, 7), (0, 20), (10, 20)])
def test_one_range_that_does_not_end_with_spans_is_a_bug(start: int, end: int) -> None:
    world = World()
    world.append(0, 5)
    world.append(0, 5)
    with pytest.raises(AssertionError):
        world.spans.replaced_by(ObjectId(99), StreamRange(STREAM, Offset(start), Offset(end), 1, 0))
