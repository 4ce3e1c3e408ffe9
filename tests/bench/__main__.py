"""`python -m tests.bench [GROUP...] [--quick]`: prints every row with the machine, writes build/bench.json."""

import argparse
import json
import os
import pathlib
import platform
import shutil
import sys
import tempfile

from tests.bench.report import Row
from tests.bench.rows import MEMORY_S, all_rows
from tests.support.process import ROOT


def machine() -> str:
    """What the figures were measured on."""
    model = platform.machine()
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    return f"{os.cpu_count()} x {model}, Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}"


def show(row: Row) -> None:
    verdict = {True: "holds", False: "MISSED", None: ""}[row.holds]
    print(f"{row.name:62} {row.value:12.3f} {row.unit:12} {row.goal:12} {verdict}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "groups",
        nargs="*",
        help="throughput, requests, latency, consumer, metadata, commits, readers, idle, bill, memory, restart, "
        "compaction, kinds, core, growth, validation, testing",
    )
    parser.add_argument("--quick", action="store_true", help="once and briefly: shows that it works, not how fast")
    parser.add_argument(
        "--folder", type=pathlib.Path, help="where brokers keep their data (default: a temporary folder)"
    )
    parser.add_argument(
        "--memory-minutes", type=float, help="how long the load of the group `memory` lasts (default: 3)"
    )
    options = parser.parse_args()

    folder = options.folder or pathlib.Path(tempfile.mkdtemp(prefix="automq-bench-"))
    memory_s = MEMORY_S if options.memory_minutes is None else options.memory_minutes * 60
    groups = all_rows(folder, quick=options.quick, memory_s=memory_s)
    print(machine(), flush=True)
    rows: list[Row] = []
    try:
        for name in options.groups or groups:
            for row in groups[name]():
                rows.append(row)
                show(row)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        target = ROOT / "build/bench.json"
        target.parent.mkdir(exist_ok=True)
        target.write_text(json.dumps([row.as_dict() for row in rows], indent=1) + "\n")
    return 0 if options.quick or all(row.holds is not False for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
