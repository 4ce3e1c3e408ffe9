"""Pure: an SVG of what the demo saw, throughput of each broker over time, stalls of clients, and what was done when."""

import html
from collections.abc import Sequence
from dataclasses import dataclass, field

WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 1000, 420, 60, 60, 60
COLOURS = ("#4e79a7", "#f28e2b", "#59a14f", "#b07aa1", "#76b7b2", "#edc948")


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at the cluster, `at` seconds after the beginning."""

    at: float
    megabytes_per_s: dict[int, float]
    """By broker."""
    leaders: dict[int, int]
    """By broker: partitions that it leads."""


@dataclass(slots=True)
class Record:
    """Everything that was seen."""

    samples: list[Sample] = field(default_factory=list)
    events: list[tuple[float, str]] = field(default_factory=list)
    stalls: list[tuple[float, float]] = field(default_factory=list)
    """Beginning and end of times in which no record was acknowledged."""


def svg(record: Record) -> str:
    """Brokers stacked, stalls as red bars, events as lines with their names."""
    end = max((sample.at for sample in record.samples), default=1.0) or 1.0
    most = max((sum(sample.megabytes_per_s.values()) for sample in record.samples), default=1.0) or 1.0

    def x(at: float) -> float:
        return round(LEFT + at / end * (WIDTH - LEFT - 20), 1)

    def y(value: float) -> float:
        return round(HEIGHT - BOTTOM - value / most * (HEIGHT - TOP - BOTTOM), 1)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif" '
        f'font-size="11"><rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>'
    ]
    nodes = sorted({node for sample in record.samples for node in sample.megabytes_per_s})
    below = [0.0] * len(record.samples)
    for number, node in enumerate(nodes):
        above = [
            base + sample.megabytes_per_s.get(node, 0.0) for base, sample in zip(below, record.samples, strict=True)
        ]
        parts.append(_band(record.samples, below, above, x, y, COLOURS[number % len(COLOURS)]))
        parts.append(
            f'<rect x="{LEFT + number * 90}" y="{HEIGHT - 22}" width="10" height="10" '
            f'fill="{COLOURS[number % len(COLOURS)]}"/>'
            f'<text x="{LEFT + 14 + number * 90}" y="{HEIGHT - 13}">broker {node}</text>'
        )
        below = above
    for began, ended in record.stalls:
        width = max(x(ended) - x(began), 1)
        parts.append(
            f'<rect x="{x(began)}" y="{TOP}" width="{width:.1f}" height="{HEIGHT - TOP - BOTTOM}" '
            f'fill="#e15759" fill-opacity="0.5"/>'
        )
    for number, (at, name) in enumerate(record.events):
        parts.append(
            f'<line x1="{x(at)}" x2="{x(at)}" y1="{TOP - 8}" y2="{HEIGHT - BOTTOM}" stroke="#555" '
            f'stroke-dasharray="3,3"/><text x="{x(at) + 2}" y="{16 + number % 4 * 12}">{html.escape(name)}</text>'
        )
    parts.append(
        f'<text x="4" y="{y(most) + 4}">{most:.1f} MB/s</text><text x="4" y="{y(0)}">0</text>'
        f'<text x="{WIDTH - 60}" y="{HEIGHT - 40}">{end:.0f} s</text></svg>\n'
    )
    return "\n".join(parts)


def _band(
    samples: Sequence[Sample], below: Sequence[float], above: Sequence[float], x: object, y: object, colour: str
) -> str:
    assert callable(x)
    assert callable(y)
    there = [f"{x(sample.at)},{y(value)}" for sample, value in zip(samples, above, strict=True)]
    back = [f"{x(sample.at)},{y(value)}" for sample, value in zip(samples, below, strict=True)][::-1]
    return f'<polygon points="{" ".join(there + back)}" fill="{colour}" fill-opacity="0.8"/>'
