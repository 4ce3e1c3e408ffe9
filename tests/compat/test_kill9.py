"""The short form of `make chaos`: a few kills under real clients; and the judge itself can find what it looks for."""

import pathlib

import pytest

from tests.chaos.__main__ import run
from tests.chaos.verify import Journals, problems

LOG = {0: [(0, "a:0"), (1, "b:0"), (2, "a:1")]}
ACKED = {"a": [0, 1], "b": [0]}
CONSUMED = [(0, 0, "a:0"), (0, 1, "b:0"), (0, 2, "a:1")]


def test_nothing_is_lost_or_doubled_by_kill_9(tmp_path: pathlib.Path) -> None:
    assert run(tmp_path, kills=5, store=None, seed=1, rate=100.0) == []


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
