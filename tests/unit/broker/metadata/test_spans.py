"""Spans behave like a list, whatever their chunks."""

from hypothesis import given
from hypothesis import strategies as st

from automq.ids import ObjectId, Offset
from automq.metadata import spans as module
from automq.metadata.spans import Spans
from automq.s3stream.model import ObjectSpan


def span(number: int, start: int, end: int) -> ObjectSpan:
    return ObjectSpan(
        object_id=ObjectId(number), object_size=1, start=Offset(start), end=Offset(end), size=1, max_timestamp_ms=0
    )


@given(
    gaps=st.lists(st.tuples(st.integers(0, 2), st.integers(1, 5)), max_size=400),
    cut=st.integers(0, 1500),
    window=st.tuples(st.integers(0, 1500), st.integers(0, 300)),
    limit=st.integers(1, 5),
)
def test_spans_are_a_sorted_list(gaps: list[tuple[int, int]], cut: int, window: tuple[int, int], limit: int) -> None:
    spans, plain, at = Spans(), list[ObjectSpan](), 0
    for number, (gap, length) in enumerate(gaps):
        plain.append(span(number, at + gap, at + gap + length))
        spans = spans.append(plain[-1])
        at += gap + length

    kept, dropped = spans.drop_below(Offset(cut))
    start, end = window[0], window[0] + window[1]

    assert list(spans) == plain
    assert len(spans) == len(plain)
    assert (list(kept), list(dropped)) == ([s for s in plain if s.end > cut], [s for s in plain if s.end <= cut])
    expected = [s for s in plain if s.end > start and s.start < end][:limit]
    assert list(spans.overlapping(Offset(start), Offset(end), limit=limit)) == expected
    if kept:
        assert list(kept.append(span(999, at, at + 1))) == [*kept, span(999, at, at + 1)]


def test_appending_shares_all_chunks_but_the_last() -> None:
    spans = Spans()
    for number in range(module.CHUNK * 2):
        spans = spans.append(span(number, number, number + 1))

    assert spans.append(span(999, 999, 1000))._chunks[0] is spans._chunks[0]
