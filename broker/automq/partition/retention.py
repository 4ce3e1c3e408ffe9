"""Pure: up to which offset a partition's records may go, by age and by size.

Only topics whose cleanup policy is `delete` lose records; what goes is whole segments, oldest first. A segment whose
records have no timestamps has no age.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from automq.ids import Offset
from automq.s3stream.model import Segment


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
        is_old = (
            rules.age_ms_max is not None
            and segment.max_timestamp_ms >= 0
            and now_ms - segment.max_timestamp_ms > rules.age_ms_max
        )
        is_surplus = rules.size_bytes_max is not None and left_bytes - segment.size >= rules.size_bytes_max
        if segment.end > confirmed or not (is_old or is_surplus):
            break
        point = max(point, segment.end)
        left_bytes -= segment.size
    return point
