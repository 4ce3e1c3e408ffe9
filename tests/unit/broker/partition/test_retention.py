"""What age and size let go."""

from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from automq.ids import Offset
from automq.partition.retention import RetentionRules, age_begins_ms, append_time_mark, trim_point
from automq.s3stream.model import Segment

NOW_MS = 1_000_000


def segments(*sizes_and_ages: tuple[int, int]) -> list[Segment]:
    """Ten offsets each."""
    return [
        Segment(start=Offset(n * 10), end=Offset(n * 10 + 10), size=size, max_timestamp_ms=NOW_MS - age)
        for n, (size, age) in enumerate(sizes_and_ages)
    ]


def point(of: Sequence[Segment], rules: RetentionRules, *, confirmed: int = 1000) -> int:
    return trim_point(
        of,
        rules,
        stored_bytes=sum(part.size for part in of),
        start=Offset(0),
        confirmed=Offset(confirmed),
        now_ms=NOW_MS,
    )


def test_old_segments_go() -> None:
    assert point(segments((1, 500), (1, 200), (1, 50)), RetentionRules(age_ms_max=100)) == 20


def test_segment_exactly_at_the_limit_stays() -> None:
    assert point(segments((1, 100)), RetentionRules(age_ms_max=100)) == 0


def test_old_segment_behind_a_young_one_stays() -> None:
    assert point(segments((1, 50), (1, 500)), RetentionRules(age_ms_max=100)) == 0


def test_segments_go_as_long_as_enough_is_left() -> None:
    assert point(segments((10, 0), (10, 0), (10, 0)), RetentionRules(size_bytes_max=15)) == 10
    assert point(segments((10, 0), (10, 0), (10, 0)), RetentionRules(size_bytes_max=10)) == 20
    assert point(segments((10, 0), (10, 0), (10, 0)), RetentionRules(size_bytes_max=0)) == 30


def test_records_without_timestamps_have_no_age() -> None:
    ageless = [Segment(start=Offset(0), end=Offset(10), size=1, max_timestamp_ms=-1)]

    assert point(ageless, RetentionRules(age_ms_max=1)) == 0


def test_nothing_goes_without_limits() -> None:
    assert point(segments((10, 10**6)), RetentionRules()) == 0


def test_nothing_goes_from_a_topic_that_is_compacted() -> None:
    rules = RetentionRules(deletes=False, age_ms_max=1, size_bytes_max=1)

    assert point(segments((10, 10**6), (10, 10**6)), rules) == 0


def test_what_is_not_durable_stays() -> None:
    assert point(segments((1, 500), (1, 500)), RetentionRules(age_ms_max=100), confirmed=15) == 10


@given(
    st.lists(st.tuples(st.integers(0, 20), st.integers(-5, 300)), max_size=10),
    st.one_of(st.none(), st.integers(0, 200)),
    st.one_of(st.none(), st.integers(0, 100)),
)
def test_what_goes_had_to_go_and_what_stays_may_stay(
    of: list[tuple[int, int]], age_ms_max: int | None, size_bytes_max: int | None
) -> None:
    found = segments(*of)
    kept_from = point(found, RetentionRules(age_ms_max=age_ms_max, size_bytes_max=size_bytes_max)) // 10
    left = [size for size, _ in of]
    for number, (size, age) in enumerate(of):
        is_old = age_ms_max is not None and age > age_ms_max
        is_surplus = size_bytes_max is not None and sum(left[number:]) - size >= size_bytes_max
        if number < kept_from:
            assert is_old or is_surplus
        else:
            assert not is_old
            assert not is_surplus
            break


@pytest.mark.parametrize("rules", [RetentionRules(age_ms_max=100), RetentionRules(size_bytes_max=1_000_000)])
def test_b1_retention_takes_no_segment_beyond_the_first_that_stays(rules: RetentionRules) -> None:
    """A partition that trickles for a week has 60,000 of them; twelve times an hour the first is young."""
    taken: list[Segment] = []

    def lazily() -> Iterator[Segment]:
        for segment in segments((5, 200), (5, 200), *[(5, 1)] * 60_000):
            taken.append(segment)
            yield segment

    kept = RetentionRules(age_ms_max=rules.age_ms_max, size_bytes_max=rules.size_bytes_max)
    found = trim_point(lazily(), kept, stored_bytes=300_010, start=Offset(0), confirmed=Offset(10**6), now_ms=NOW_MS)

    assert (found, len(taken)) == ((20, 3) if rules.age_ms_max else (0, 1))


def test_k1_segment_without_timestamps_is_as_old_as_its_newest_append() -> None:
    marks = [append_time_mark(NOW_MS - age) for age in (500, 50)]
    parts = [Segment(start=Offset(n), end=Offset(n + 1), size=1, max_timestamp_ms=mark) for n, mark in enumerate(marks)]

    assert point(parts, RetentionRules(age_ms_max=100)) == 1
    assert max(marks) == marks[1]
    assert max(*marks, 0) == 0
    assert [age_begins_ms(mark) for mark in (*marks, -1, 0, 7)] == [NOW_MS - 500, NOW_MS - 50, None, 0, 7]
