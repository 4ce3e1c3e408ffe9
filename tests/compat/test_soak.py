"""The short form of `make soak`: nothing grows; and its judge notices what does."""

import pathlib
from dataclasses import replace

import pytest

from tests.soak.__main__ import soak
from tests.soak.figures import Sample
from tests.soak.verify import LONG_GOALS, MB, SHORT_GOALS, judge

FIRST = Sample(
    at_s=300.0,
    rss=100 * MB,
    cpu_s=10.0,
    objects=120,
    kept_objects=20,
    ranges=1000,
    stored=120 * MB,
    readable=100 * MB,
    metadata=MB,
    slots=50,
    sent=2 * MB,
    produced=MB,
)
COUNT = 30


def samples(**a_minute: float) -> list[Sample]:
    """An hour, a look each two minutes; `a_minute` is what is added to a figure each minute."""
    made: list[Sample] = []
    added = {"at_s": 60.0, "cpu_s": 6.0, "sent": 60.0 * MB, "produced": 30.0 * MB, **a_minute}
    for number in range(COUNT):
        changed = {name: getattr(FIRST, name) + 2 * number * more for name, more in added.items()}
        made.append(replace(FIRST, **{name: type(getattr(FIRST, name))(value) for name, value in changed.items()}))
    return made


def failed(found: list[Sample]) -> list[str]:
    return [finding.name for finding in judge(found, LONG_GOALS) if not finding.holds]


@pytest.mark.timeout(280)
def test_nothing_grows_under_a_load_that_does_not_change(tmp_path: pathlib.Path) -> None:
    findings, clients = soak(tmp_path, "short")

    assert [str(finding) for finding in findings if not finding.holds] == []
    assert clients.failed == 0
    assert clients.produced > 20 * MB


def test_a_flat_run_is_flat() -> None:
    assert failed(samples()) == []
    assert all(finding.holds for finding in judge(samples(), SHORT_GOALS))


@pytest.mark.parametrize(
    ("name", "a_minute"),
    [
        ("RSS, MB", {"rss": 0.1 * MB}),
        ("live objects", {"objects": 1}),
        ("objects that are kept", {"objects": 1, "kept_objects": 1}),
        ("ranges", {"ranges": 10}),
        ("MB stored", {"stored": MB, "readable": MB}),
        ("slots of the write-ahead log", {"slots": 1}),
        ("bytes stored to readable", {"readable": -0.5 * MB}),
        ("MB of metadata", {"metadata": 0.02 * MB}),
        ("bytes PUT a byte produced, WAL excepted", {"sent": 80 * MB}),
    ],
)
def test_what_grows_is_found(name: str, a_minute: dict[str, float]) -> None:
    assert failed(samples(**a_minute)) == [name]


def test_cpu_that_grows_is_found() -> None:
    found = [replace(sample, cpu_s=sample.cpu_s + number**2) for number, sample in enumerate(samples())]

    assert failed(found) == ["CPU seconds a MB"]


def test_a_run_that_was_hardly_looked_at_shows_nothing() -> None:
    assert failed(samples()[:3]) == ["looks"]
