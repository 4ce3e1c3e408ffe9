"""`python -m tests.sim --seeds N --seed-base B`, or `--seed X` for one seed with its trace.

A line a seed: result, seed, simulated seconds, acknowledged records, faults, starts, store operations, CPU seconds.
"""

import argparse
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.sim import cluster_world
from tests.sim.cluster_coverage import IN_EVERY_CLUSTER_BATCH, IN_LARGE_CLUSTER_BATCHES
from tests.sim.cluster_world import run_cluster_seed
from tests.sim.coverage import IN_EVERY_BATCH, IN_LARGE_BATCHES, missing, wanted_of
from tests.sim.damage_seeds import run_damage_seed
from tests.sim.isolation import Finished, run_all
from tests.sim.world import ACKNOWLEDGED_MIN, Outcome, run_seed

SIMULATED_S_MIN = 60
FAULTS_MIN = 5
TRACE_LINES = 60


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description="Run seeds of the simulation.")
    parser.add_argument("--seeds", type=int, default=100, help="how many")
    parser.add_argument("--seed-base", type=int, default=0, help="the first")
    parser.add_argument("--seed", help="only this one, with its trace")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="at a time")
    parser.add_argument("--every", action="store_true", help="a line for every seed, not only for those that fail")
    parser.add_argument("--damage", action="store_true", help="clusters that work, are damaged and start again")
    parser.add_argument("--cluster", action="store_true", help="clusters of several brokers")
    options = parser.parse_args()
    run = run_damage_seed if options.damage else run_cluster_seed if options.cluster else run_seed
    if options.seed is not None:
        return run_one(run, int(options.seed) if options.seed.lstrip("-").isdigit() else options.seed)
    seeds = list(range(options.seed_base, options.seed_base + options.seeds))
    if options.damage:
        return run_damaged(seeds, jobs=options.jobs, every=options.every)
    return run_many(CLUSTERS if options.cluster else BROKERS, seeds, jobs=options.jobs, every=options.every)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A world, and what makes a batch of its seeds count."""

    run: Callable[[Any], Outcome]
    acknowledged_min: int
    wanted: tuple[str, ...]
    wanted_of_many: tuple[str, ...] = ()
    option: str = ""


BROKERS = Kind(run=run_seed, acknowledged_min=ACKNOWLEDGED_MIN, wanted=IN_EVERY_BATCH, wanted_of_many=IN_LARGE_BATCHES)
CLUSTERS = Kind(
    run=run_cluster_seed,
    acknowledged_min=cluster_world.ACKNOWLEDGED_MIN,
    wanted=IN_EVERY_CLUSTER_BATCH,
    wanted_of_many=IN_LARGE_CLUSTER_BATCHES,
    option=" CLUSTER=1",
)


def run_one(run: Callable[[Any], Outcome], seed: int | str) -> int:
    """Show everything that is known of one seed."""
    (finished,) = run_all(run, [seed], jobs=1)
    outcome: Outcome | None = finished.result
    if outcome is None:
        print(finished.error)
        return 1
    print("\n".join(outcome.trace))
    print("; ".join(outcome.faults) if run is run_damage_seed else line_of(finished))
    print(f"fingerprint {outcome.fingerprint}")
    for violation in outcome.violations:
        print(f"VIOLATION {violation}")
    return 1 if outcome.violations else 0


def run_damaged(seeds: list[int], *, jobs: int, every: bool) -> int:
    """Run damaged clusters; what was done, what became of them, and what should not have."""
    failed: list[int] = []
    for finished in run_all(run_damage_seed, seeds, jobs=jobs):
        outcome: Outcome | None = finished.result
        problems = [finished.error or "no result"] if outcome is None else outcome.violations
        if problems:
            failed.append(finished.argument)
        if every or problems:
            story = "; ".join(outcome.faults) if outcome is not None else ""
            print(f"{'FAIL' if problems else 'ok  '} {finished.argument:6d} {story}", flush=True)
        for problem in problems:
            print(f"    {problem}")
    print(f"{len(seeds)} damaged clusters from {seeds[0]}: {len(failed)} failed {' '.join(map(str, sorted(failed)))}")
    return 1 if failed else 0


def run_many(kind: Kind, seeds: list[int], *, jobs: int, every: bool) -> int:
    """Run them all; a failing one is shown with the command that repeats it."""
    failed: list[int] = []
    reached: list[dict[str, int]] = []
    acknowledged = faults = 0
    cpu_s: list[float] = []
    for number, finished in enumerate(run_all(kind.run, seeds, jobs=jobs), 1):
        outcome: Outcome | None = finished.result
        problems = problems_of(finished, kind.acknowledged_min)
        if outcome is not None:
            acknowledged += outcome.acknowledged
            faults += len(outcome.faults)
            reached.append(outcome.coverage)
        cpu_s.append(finished.cpu_s)
        if every or problems:
            print(line_of(finished), flush=True)
        if problems:
            failed.append(finished.argument)
            for problem in problems:
                print(f"    {problem}")
            if outcome is not None and len(failed) <= 3:
                print("\n".join(f"    | {line}" for line in outcome.trace[-TRACE_LINES:]))
            print(f"    repeat it: make sim{kind.option} SEED={finished.argument}", flush=True)
        elif number % 50 == 0 and sys.stdout.isatty():
            print(f"{number} of {len(seeds)} seeds, {len(failed)} failed", flush=True)
    cpu_s.sort()
    print(
        f"{len(seeds)} seeds from {seeds[0]}: {len(failed)} failed; {acknowledged} records acknowledged, "
        f"{faults} faults; CPU seconds a seed: median {cpu_s[len(cpu_s) // 2]:.2f}, most {cpu_s[-1]:.2f}"
    )
    if failed:
        print(f"failed: {' '.join(map(str, sorted(failed)))}")
    complete = show_coverage(kind, reached)
    return 1 if failed or not complete else 0


def show_coverage(kind: Kind, reached: list[dict[str, int]]) -> bool:
    """Print what the batch has reached; whether that is everything, where the batch is large enough to ask."""
    for what in (*kind.wanted, *kind.wanted_of_many):
        counted = [counts.get(what, 0) for counts in reached]
        print(f"{sum(counted):8d} {what}, in {sum(map(bool, counted))} seeds")
    unreached = missing(reached, wanted_of(len(reached), kind.wanted, kind.wanted_of_many))
    for what in unreached:
        print(f"NOT REACHED: {what}")
    return not unreached


def problems_of(finished: Finished, acknowledged_min: int) -> list[str]:
    """Violations, and what makes a seed too small to count."""
    outcome: Outcome | None = finished.result
    if outcome is None:
        return [finished.error or "no result"]
    problems = list(outcome.violations)
    if not problems:
        if outcome.simulated_s < SIMULATED_S_MIN:
            problems.append(f"only {outcome.simulated_s:.0f} simulated seconds")
        if outcome.acknowledged < acknowledged_min:
            problems.append(f"only {outcome.acknowledged} records acknowledged")
        if len(outcome.faults) < FAULTS_MIN:
            problems.append(f"only {len(outcome.faults)} faults")
    return problems


def line_of(finished: Finished) -> str:
    """Fixed columns."""
    outcome: Outcome | None = finished.result
    if outcome is None:
        return f"FAIL {finished.argument!s:>8}"
    result = "FAIL" if outcome.violations else "ok  "
    return (
        f"{result} {outcome.seed!s:>8} {outcome.simulated_s:6.1f} s {outcome.acknowledged:6d} acks "
        f"{len(outcome.faults):3d} faults {outcome.starts:3d} starts {outcome.store_operations:6d} store "
        f"{finished.cpu_s:5.2f} cpu"
    )


if __name__ == "__main__":
    sys.exit(main())
