"""Pure: reading around what a person gave up, and saying what damage hides."""

from collections.abc import Sequence
from typing import TypeVar

from automq.ids import Offset
from automq.s3stream.model import StoreDamaged

Damaged = TypeVar("Damaged", bound=StoreDamaged)


def pass_over(lost: Sequence[tuple[Offset, Offset]], start: Offset, end: Offset) -> Offset | None:
    """Where the range that was given up and holds `start` ends, at most `end`; None when there is none."""
    after = past_lost(lost, start)
    return None if after == start else min(after, end)


def past_lost(lost: Sequence[tuple[Offset, Offset]], offset: Offset) -> Offset:
    """`offset`, or the end of what was given up around it."""
    for lost_start, lost_end in lost:
        if lost_start <= offset < lost_end:
            offset = lost_end
    return offset


def before_lost(lost: Sequence[tuple[Offset, Offset]], start: Offset, end: Offset) -> Offset:
    """How far a read from `start` may go: to `end`, or to the next range that was given up."""
    return min([end, *(lost_start for lost_start, _ in lost if lost_start > start)])


def hides(error: Damaged, start: Offset, end: Offset) -> Damaged:
    """`error`, which is why offsets [start, end) cannot be read."""
    error.hidden = (start, end)
    return error
