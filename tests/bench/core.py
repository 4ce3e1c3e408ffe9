"""What the compiled core saves: the path of a Produce request with it and without, interleaved.

    python -m tests.bench core

CPU of one process that is handed requests, with a store that forgets (`tests.bench.produce_path`): no sockets, no disk.
"""

import os
import re
import statistics
import subprocess
import sys
from collections.abc import Iterator

from automq import core
from tests.bench.report import Row, at_least
from tests.support.process import ROOT

SHAPES = (
    ("1 record of 1 KB", 1_000, 0, 6_000),
    ("16 records of 1 KB", 16_000, 1_000, 4_000),
    ("160 records of 100 B", 16_000, 100, 2_000),
    ("64 records of 1 KB", 64_000, 1_000, 1_500),
    ("900 records of 1 KB", 900_000, 1_000, 150),
)
KINDS = (("pure, header", "1", ["--header"]), ("pure", "1", []), ("core", "0", []))


def cpu_us(size: int, record_bytes: int, requests: int, *, pure: str, options: list[str]) -> float:
    """Of one request."""
    command = ["produce_path", "--size", size, "--record", record_bytes, "--requests", requests, "--rounds", 3]
    ended = subprocess.run(
        [sys.executable, "-m", *[f"tests.bench.{command[0]}", *map(str, command[1:])], *options],
        cwd=ROOT,
        env={**os.environ, "AUTOMQ_PURE": pure},
        capture_output=True,
        text=True,
        timeout=600,
        check=True,
    )
    found = re.search(r"([0-9.]+) us CPU each", ended.stdout)
    assert found, ended.stdout + ended.stderr
    return float(found[1])


def rows(*, runs: int) -> Iterator[Row]:
    """Medians; every run measures each kind once."""
    if core.native is None:
        return
    for name, size, record_bytes, requests in SHAPES:
        found: dict[str, list[float]] = {}
        for _ in range(runs):
            for kind, pure, options in KINDS:
                each = cpu_us(size, record_bytes, requests, pure=pure, options=options)
                found.setdefault(kind, []).append(each)
        medians = {kind: statistics.median(values) for kind, values in found.items()}
        for kind, each in medians.items():
            yield Row(f"produce path, {name}: {kind}", each, "us")
        yield at_least(
            f"produce path, {name}: header only in Python / core", medians["pure, header"] / medians["core"], "x", 1.35
        )
