"""`python -m tests.bench.cluster_report [GROUP...] [--quick]`: the rows of a cluster, written to docs/benchmarks.md.

A group that is measured replaces its own rows there; the others stay, with the machine and load of their own run.
"""

import argparse
import datetime
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

from tests.bench.__main__ import machine, show
from tests.bench.cluster_groups import groups, rows
from tests.bench.report import Row
from tests.support.process import ROOT

PAGE = ROOT / "docs/benchmarks.md"
HEAD = "| row | goal | value | |\n|---|---|---|---|\n"


def section(name: str, found: list[Row], conditions: str) -> str:
    """A table of one group, with what it was measured on."""
    verdicts = {True: "holds", False: "**missed**", None: ""}
    lines = [
        f"| {row.name} | {row.goal.replace('<=', '≤')}{' ' + row.unit if row.goal else ''} "
        f"| {row.value:.3g} {row.unit} | {verdicts[row.holds]} |\n"
        for row in found
    ]
    return f"<!-- begin cluster {name} -->\n\n{conditions}\n\n{HEAD}{''.join(lines)}\n<!-- end cluster {name} -->"


def replaced(page: str, name: str, text: str) -> str:
    """The page with this group's section in its place. Raises ValueError where it has none."""
    found, count = re.subn(
        rf"<!-- begin cluster {name} -->.*?<!-- end cluster {name} -->", lambda _: text, page, count=1, flags=re.S
    )
    if not count:
        raise ValueError(f"{PAGE.name} has no section for {name}")
    return found


def conditions_of(name: str, busy: float) -> str:
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    today = datetime.datetime.now(tz=datetime.UTC).strftime("%-d %B %Y")
    return (
        f"`make bench-cluster GROUPS={name}`, {today}, commit `{commit.stdout.strip()}`, {machine()}; "
        f"the machine's CPU was {busy:.0%} busy meanwhile."
    )


def cpu_times() -> tuple[float, float]:
    """Busy and all ticks of the machine so far."""
    fields = [float(each) for each in pathlib.Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return sum(fields) - fields[3] - fields[4], sum(fields)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("groups", nargs="*", help=", ".join(groups(pathlib.Path(), quick=True)))
    parser.add_argument("--quick", action="store_true", help="once and briefly, not written: shows that it works")
    options = parser.parse_args()
    is_missed = False
    print(machine(), f"load {os.getloadavg()[0]:.1f}", flush=True)
    with tempfile.TemporaryDirectory(prefix="automq-bench-") as folder:
        for name in options.groups or list(groups(pathlib.Path(), quick=True)):
            before, began = cpu_times(), time.monotonic()
            found = []
            for row in rows(pathlib.Path(folder), [name], quick=options.quick):
                show(row)
                found.append(row)
                is_missed |= row.holds is False
            busy, all_ticks = (now - was for now, was in zip(cpu_times(), before, strict=True))
            print(f"{name} took {time.monotonic() - began:.0f} s, CPU {busy / max(1, all_ticks):.0%} busy", flush=True)
            if not options.quick:
                text = section(name, found, conditions_of(name, busy / max(1, all_ticks)))
                PAGE.write_text(replaced(PAGE.read_text(), name, text))
    return 1 if is_missed and not options.quick else 0


if __name__ == "__main__":
    sys.exit(main())
