"""Pure: which committed objects hold a stream, ascending, in a persistent list that is cheap to extend and to trim.

Two levels, so that a stream of 100,000 objects costs a hundred pointers a commit and not a hundred thousand.
Invariant: spans do not overlap and ascend; a span ends above its start.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Final

from automq.ids import Offset
from automq.s3stream.model import ObjectSpan

CHUNK: Final = 128


class Spans:
    """An immutable sequence of spans."""

    __slots__ = ("_chunks",)

    def __init__(self, chunks: tuple[tuple[ObjectSpan, ...], ...] = ()) -> None:
        self._chunks = chunks

    def __iter__(self) -> Iterator[ObjectSpan]:
        return (span for chunk in self._chunks for span in chunk)

    def __len__(self) -> int:
        return sum(map(len, self._chunks))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Spans) and list(self) == list(other)

    def __hash__(self) -> int:
        return hash(self._chunks)

    def __repr__(self) -> str:
        return f"Spans({list(self)!r})"

    @property
    def last(self) -> ObjectSpan | None:
        """The newest span."""
        return self._chunks[-1][-1] if self._chunks else None

    def append(self, span: ObjectSpan) -> "Spans":
        """These and one more, above all of them."""
        assert span.start < span.end
        assert self.last is None or self.last.end <= span.start
        if self._chunks and len(self._chunks[-1]) < CHUNK:
            return Spans((*self._chunks[:-1], (*self._chunks[-1], span)))
        return Spans((*self._chunks, (span,)))

    def drop_below(self, offset: Offset) -> tuple["Spans", Sequence[ObjectSpan]]:
        """Without the spans that lie wholly below `offset`, and which those were."""
        whole = bisect_right(self._chunks, offset, key=_chunk_end)
        dropped = [span for chunk in self._chunks[:whole] for span in chunk]
        if whole == len(self._chunks):
            return Spans(), dropped
        first = self._chunks[whole]
        cut = bisect_right(first, offset, key=_span_end)
        dropped.extend(first[:cut])
        return Spans((first[cut:], *self._chunks[whole + 1 :])), dropped

    def overlapping(self, start: Offset, end: Offset, *, limit: int) -> Sequence[ObjectSpan]:
        """Those that hold offsets of [start, end), ascending, at most `limit`."""
        found: list[ObjectSpan] = []
        for number in range(bisect_right(self._chunks, start, key=_chunk_end), len(self._chunks)):
            chunk = self._chunks[number]
            for place in range(bisect_right(chunk, start, key=_span_end), len(chunk)):
                if chunk[place].start >= end or len(found) == limit:
                    return found
                found.append(chunk[place])
        return found


def _chunk_end(chunk: tuple[ObjectSpan, ...]) -> Offset:
    return chunk[-1].end


def _span_end(span: ObjectSpan) -> Offset:
    return span.end
