"""Pure: whether everything stayed as it was."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.soak.figures import Sample

SAMPLES_MIN = 8
MB = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Goals:
    """How much more there may be in the last part of a run than in the first one, and what never."""

    rss_growth: float
    growth: float
    """Of objects that are not kept, bytes stored, and slots."""
    cpu_growth: float
    """Of CPU seconds a produced byte: a machine that does much else makes them half as many again."""
    kept_growth: float | None
    """Of objects of streams that are never trimmed, and of ranges."""
    metadata_growth: float | None
    """None where the run is too short for snapshots."""
    stored_to_readable: float = 1.5
    sent_to_produced: float | None = 2.5


LONG_GOALS = Goals(rss_growth=0.02, growth=0.2, cpu_growth=0.25, kept_growth=0.2, metadata_growth=0.3)
# Too short for objects to be merged, and for snapshots.
SHORT_GOALS = Goals(rss_growth=0.15, growth=0.5, cpu_growth=1.0, kept_growth=None, metadata_growth=None)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One figure against its goal."""

    name: str
    first: float
    last: float
    goal: str
    holds: bool

    def __str__(self) -> str:
        return f"{'ok  ' if self.holds else 'FAIL'} {self.name}: {self.first:.4g} -> {self.last:.4g} ({self.goal})"


def judge(samples: Sequence[Sample], goals: Goals) -> list[Finding]:
    """Compare the first third of `samples` (none from before the load was at rest) with the last third."""
    if len(samples) < SAMPLES_MIN:
        return [
            Finding(name="looks", first=0, last=len(samples), goal=f"at least {SAMPLES_MIN}", holds=False),
        ]
    third = len(samples) // 3
    parts = samples[:third], samples[-third:]
    findings = [
        _flat("RSS, MB", parts, lambda sample: sample.rss / MB, goals.rss_growth, slack=1.0),
        _flat("live objects", parts, lambda sample: sample.objects - sample.kept_objects, goals.growth, slack=10),
        _flat("MB stored", parts, lambda sample: sample.stored / MB, goals.growth, slack=1.0),
        _flat("slots of the write-ahead log", parts, lambda sample: sample.slots, goals.growth, slack=20),
        _cpu(parts, goals.cpu_growth),
        _ratio(
            "bytes stored to readable", parts, lambda sample: sample.stored / sample.readable, goals.stored_to_readable
        ),
    ]
    if goals.kept_growth is not None:
        findings.append(
            _flat("objects that are kept", parts, lambda sample: sample.kept_objects, goals.kept_growth, slack=10)
        )
        findings.append(_flat("ranges", parts, lambda sample: sample.ranges, goals.kept_growth, slack=100))
    if goals.metadata_growth is not None:
        findings.append(_metadata(samples, goals.metadata_growth))
    if goals.sent_to_produced is not None:
        findings.append(_amplification(samples, goals.sent_to_produced))
    return findings


Parts = tuple[Sequence[Sample], Sequence[Sample]]


def _medians(parts: Parts, of: Callable[[Sample], float]) -> tuple[float, float]:
    first, last = (statistics.median(map(of, part)) for part in parts)
    return first, last


def _flat(name: str, parts: Parts, of: Callable[[Sample], float], growth: float, *, slack: float) -> Finding:
    first, last = _medians(parts, of)
    holds = last <= first * (1 + growth) + slack
    return Finding(name=name, first=first, last=last, goal=f"grows by {growth:.0%} at most", holds=holds)


def _ratio(name: str, parts: Parts, of: Callable[[Sample], float], limit: float) -> Finding:
    first, last = _medians(parts, of)
    return Finding(name=name, first=first, last=last, goal=f"at most {limit:g}", holds=last <= limit)


def _cpu(parts: Parts, growth: float) -> Finding:
    """CPU of each part for what was produced in it: the machine may have been slow in one of them."""
    first, last = ((part[-1].cpu_s - part[0].cpu_s) * MB / (part[-1].produced - part[0].produced) for part in parts)
    holds = last <= first * (1 + growth)
    return Finding(name="CPU seconds a MB", first=first, last=last, goal=f"grows by {growth:.0%} at most", holds=holds)


def _metadata(samples: Sequence[Sample], growth: float) -> Finding:
    """The log grows until a snapshot lets it go: its greatest size is what counts, in either half."""
    half = len(samples) // 2
    first, last = (max(sample.metadata for sample in part) / MB for part in (samples[:half], samples[half:]))
    holds = last <= first * (1 + growth)
    return Finding(name="MB of metadata", first=first, last=last, goal=f"grows by {growth:.0%} at most", holds=holds)


def _amplification(samples: Sequence[Sample], limit: float) -> Finding:
    half = len(samples) // 2
    first, last = (
        (part[-1].sent - part[0].sent) / (part[-1].produced - part[0].produced)
        for part in (samples[:half], samples[half:])
    )
    return Finding(
        name="bytes PUT a byte produced, WAL excepted",
        first=first,
        last=last,
        goal=f"at most {limit:g}",
        holds=last <= limit,
    )
