"""Pure: up to which offset a partition's records may go, by age and by size.

Only topics whose cleanup policy is `delete` lose records; what goes is whole segments, oldest first.

A segment is as old as its newest timestamp says. A batch whose records have no timestamps is as old as its append: the
stream is given that time as a number far below all timestamps (`append_time_mark`), which lookups by time never find,
and of which the newest is the greatest, too. What was appended before there were marks has no age.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from automq.ids import Offset
from automq.s3stream.model import Segment

MARKS_START: Final = -(1 << 60)
"""The mark of the epoch's first millisecond."""


def append_time_mark(now_ms: int) -> int:
    """What stands for a timestamp where a batch that is appended now has none."""
    return MARKS_START + now_ms


def age_begins_ms(max_timestamp_ms: int) -> int | None:
    """Since when a segment ages, from its greatest timestamp or mark; None when that is unknown."""
    if max_timestamp_ms >= 0:
        return max_timestamp_ms
    return max_timestamp_ms - MARKS_START if MARKS_START <= max_timestamp_ms < MARKS_START // 2 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionRules:
    """What a topic's config says; None is no limit."""

    deletes: bool = True
    """The topic's cleanup policy is `delete`."""
    age_ms_max: int | None = None
    size_bytes_max: int | None = None


def trim_point(
    segments: Iterable[Segment],
    rules: RetentionRules,
    *,
    stored_bytes: int,
    start: Offset,
    confirmed: Offset,
    now_ms: int,
) -> Offset:
    """The new start offset; `start` when everything stays. Never above `confirmed`.

    No segment is taken beyond the first that stays; `stored_bytes` is the size of all of them.
    """
    if not rules.deletes:
        return start
    point = start
    left_bytes = stored_bytes
    for segment in segments:
        since_ms = age_begins_ms(segment.max_timestamp_ms)
        is_old = rules.age_ms_max is not None and since_ms is not None and now_ms - since_ms > rules.age_ms_max
        is_surplus = rules.size_bytes_max is not None and left_bytes - segment.size >= rules.size_bytes_max
        if segment.end > confirmed or not (is_old or is_surplus):
            break
        point = max(point, segment.end)
        left_bytes -= segment.size
    return point
