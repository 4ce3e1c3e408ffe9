"""Which runs share an object, and which objects share a commit."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from automq.ids import StreamId
from automq.s3stream.model import DELETED_BY_SIZE, KEPT, CommitTooLarge, RetentionClass, deleted_class
from automq.s3stream.upload.parts import OBJECTS_MAX, in_commits, objects_of, shared_classes

MINUTE, HOUR, DAY, WEEK = (deleted_class(ms) for ms in (60_000, 3_600_000, 86_400_000, 604_800_000))


@dataclass(frozen=True)
class Piece:
    stream: StreamId
    size: int


def test_classes_are_a_factor_of_two_apart_and_none_is_that_of_what_is_kept() -> None:
    ages = [0, 59_999, 60_000, 120_000, 604_800_000, 1_209_600_000, 2**63 - 1]
    classes = [deleted_class(age) for age in ages]
    assert classes == sorted(classes)
    assert classes[0] == classes[1] == deleted_class(-1)
    assert len(set(classes)) == len(ages) - 1
    assert classes[0] > KEPT
    assert classes[-1] < DELETED_BY_SIZE


@pytest.mark.parametrize(
    ("sizes", "hosts"),
    [
        ({}, {}),
        ({KEPT: 1, WEEK: 1_000_000}, {KEPT: KEPT, WEEK: WEEK}),
        ({HOUR: 500, WEEK: 500}, {HOUR: HOUR, WEEK: WEEK}),
        # Small ones share the nearest longer one, and may do so in turn.
        ({HOUR: 10, WEEK: 990}, {HOUR: WEEK, WEEK: WEEK}),
        ({MINUTE: 10, HOUR: 10, WEEK: 980}, {MINUTE: WEEK, HOUR: WEEK, WEEK: WEEK}),
        ({MINUTE: 100, HOUR: 100, WEEK: 800}, {MINUTE: HOUR, HOUR: HOUR, WEEK: WEEK}),
        # The longest has none to share with, and never the one that is kept.
        ({HOUR: 990, WEEK: 10}, {HOUR: HOUR, WEEK: WEEK}),
        ({KEPT: 990, HOUR: 1}, {KEPT: KEPT, HOUR: HOUR}),
        # At most four objects: the least of them goes to the next longer one.
        (
            {MINUTE: 300, HOUR: 200, DAY: 250, WEEK: 300, DELETED_BY_SIZE: 300},
            {MINUTE: MINUTE, HOUR: DAY, DAY: DAY, WEEK: WEEK, DELETED_BY_SIZE: DELETED_BY_SIZE},
        ),
        (
            {KEPT: 300, MINUTE: 300, HOUR: 200, DAY: 250, WEEK: 300},
            {KEPT: KEPT, MINUTE: MINUTE, HOUR: DAY, DAY: DAY, WEEK: WEEK},
        ),
    ],
)
def test_small_classes_share_the_nearest_longer_one(
    sizes: dict[RetentionClass, int], hosts: dict[RetentionClass, RetentionClass]
) -> None:
    assert shared_classes(sizes) == hosts


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 1000)), max_size=60))
def test_nothing_shares_with_a_shorter_class_or_with_what_is_kept(pieces: list[tuple[int, int]]) -> None:
    runs = [Piece(StreamId(number), size) for number, (_, size) in enumerate(pieces)]
    classes = {StreamId(number): RetentionClass(retention) for number, (retention, _) in enumerate(pieces)}

    objects = objects_of(runs, [classes[run.stream] for run in runs])

    assert len(objects) <= OBJECTS_MAX
    assert sorted(run.stream for runs in objects for run in runs) == list(range(len(pieces)))
    longest = [max(classes[run.stream] for run in runs) for runs in objects]
    assert len(set(longest)) == len(objects)
    for runs in objects:
        assert [run.stream for run in runs] == sorted(run.stream for run in runs)
        assert len({classes[run.stream] == KEPT for run in runs}) == 1
    for runs, host in zip(objects, longest, strict=True):
        # Each in the object of the next longer class that has one of its own.
        assert not any(classes[run.stream] <= other < host for run in runs for other in longest)


@given(st.integers(1, 40), st.integers(1, 12), st.integers(1, 12), st.integers(1, 4))
async def test_commits_are_halved_until_they_fit_and_the_last_one_says_so(
    runs: int, ranges_max: int, fitting: int, classes: int
) -> None:
    commits: list[tuple[list[int], bool]] = []

    async def upload(objects, is_last):  # type: ignore[no-untyped-def]
        ranges = sum(map(len, objects))
        if ranges > fitting:
            raise CommitTooLarge(ranges=ranges, ranges_max=fitting)
        commits.append(([run.stream for runs in objects for run in runs], is_last))
        return len(commits)

    pieces = [Piece(StreamId(number), 1) for number in range(runs)]
    result = await in_commits(
        pieces, upload, class_of=lambda stream: RetentionClass(stream % classes), ranges_max=ranges_max
    )

    assert result == len(commits)
    assert sorted(stream for streams, _ in commits for stream in streams) == list(range(runs))
    assert all(0 < len(streams) <= min(ranges_max, fitting) for streams, _ in commits)
    assert [is_last for _, is_last in commits] == [False] * (len(commits) - 1) + [True]


async def test_one_range_that_is_too_large_is_an_error() -> None:
    async def upload(objects, is_last):  # type: ignore[no-untyped-def]
        raise CommitTooLarge(ranges=1, ranges_max=0)

    with pytest.raises(CommitTooLarge):
        await in_commits([Piece(StreamId(1), 1)], upload, class_of=lambda stream: KEPT)
