"""The short form of `make chaos`: a few kills under real clients; and the judge itself can find what it looks for."""

import pathlib

import pytest

from tests.chaos import beside
from tests.chaos.__main__ import run
from tests.chaos.verify import Journals, problems

LOG = {0: [(0, "a:0"), (1, "b:0"), (2, "a:1")]}
ACKED = {"a": [0, 1], "b": [0]}
CONSUMED = [(0, 0, "a:0"), (0, 1, "b:0"), (0, 2, "a:1")]


def test_nothing_is_lost_or_doubled_by_kill_9(tmp_path: pathlib.Path) -> None:
    assert run(tmp_path, kills=5, store=None, seed=1, rate=100.0) == []


def test_nothing_is_lost_beside_wide_commits_deleted_topics_and_slow_consumers(tmp_path: pathlib.Path) -> None:
    assert run(tmp_path, kills=3, store=None, seed=2, rate=60.0, is_busy=True) == []


@pytest.mark.parametrize(
    ("found", "lines", "is_right"),
    [
        ([3, 3], ["trying 3", "acked 3"], True),
        ([4, 3], ["trying 3", "acked 3", "trying 4"], True),
        ([3, 2], ["trying 3", "acked 3"], False),
        ([4, 5], ["trying 3", "acked 3", "trying 4"], False),
        ([-1, -1], [], True),
    ],
)
def test_judge_of_wide_commits(found: list[int], lines: list[str], is_right: bool) -> None:
    assert (beside.broken_commits(found, lines) == []) is is_right


@pytest.mark.parametrize(
    ("names", "lines", "is_right"),
    [
        ({"a"}, ["created a"], True),
        (set(), ["created a", "deleted a"], True),
        (set(), ["created a"], False),
        ({"a"}, ["created a", "deleted a"], False),
        ({"a"}, ["created a", "deleted a", "failed a"], True),
    ],
)
def test_judge_of_deleted_topics(names: set[str], lines: list[str], is_right: bool) -> None:
    assert (beside.broken_topics(names, lines) == []) is is_right


def test_judge_is_content_with_a_faultless_log() -> None:
    assert problems(LOG, Journals(acked=ACKED, consumed=CONSUMED)) == []


@pytest.mark.parametrize(
    ("log", "acked", "consumed", "expected"),
    [
        ({0: [(0, "a:0"), (2, "a:1")]}, {}, [(0, 0, "a:0"), (0, 2, "a:1")], "partition 0: offset 2 where 1 was due"),
        ({0: [(0, "a:0"), (1, "a:0")]}, {}, [(0, 0, "a:0"), (0, 1, "a:0")], "a:0 is there 2 times"),
        (LOG, {"a": [0, 1, 2]}, CONSUMED, "a: 1 acknowledged records are lost, the first is 2"),
        (
            {0: [(0, "a:1"), (1, "a:0")]},
            {},
            [(0, 0, "a:1"), (0, 1, "a:0")],
            "partition 0: a:0 at offset 1 comes after a:1",
        ),
        (LOG, ACKED, [*CONSUMED, (0, 3, "b:1")], "a consumer saw b:1 at 0/3, where nothing is now"),
        (LOG, ACKED, CONSUMED[:2], "the group never got 1 records, the first is 0/2"),
    ],
)
def test_judge_finds_each_broken_promise(
    log: dict[int, list[tuple[int, str]]],
    acked: dict[str, list[int]],
    consumed: list[tuple[int, int, str]],
    expected: str,
) -> None:
    assert problems(log, Journals(acked=acked, consumed=consumed)) == [expected]
