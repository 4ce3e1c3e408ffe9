"""Proof that the simulation can find bugs: each rule of the logs is taken out in turn, and some run must fail.

`python -m tests.sim.removed_rules` looks, for every rule without a directed schedule, for the first seed that fails
without it, and writes the table in docs/simulation.md. `python -m tests.sim.removed_rules NAME...` looks at some only.
"""

import argparse
import importlib
import json
import os
import pathlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.sim.isolation import run_all
from tests.sim.metadata_schedules import SCHEDULES as METADATA_SCHEDULES
from tests.sim.metadata_world import MetadataWorld
from tests.support.sim_loop import run_world

ROOT = pathlib.Path(__file__).parents[2]
PROOFS = pathlib.Path(__file__).with_name("removed_rules.json")
DOCUMENT = ROOT / "docs/simulation.md"
BEGIN, END = "<!-- removed rules: begin -->", "<!-- removed rules: end -->"
SEEDS = 500


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule, and what its absence looks like: `places` are replaced by what `removed` makes of them."""

    name: str
    says: str
    places: tuple[str, ...]
    removed: Callable[[Any], Any]
    schedule: str | None = None
    """A directed schedule that fails without it; None asks the seeds."""


def apply(rule: Rule) -> None:
    """Take the rule out of this process."""
    for place in rule.places:
        module_name, _, path = place.partition(":")
        owner: Any = importlib.import_module(module_name)
        *parents, name = path.split(".")
        for parent in parents:
            owner = getattr(owner, parent)
        setattr(owner, name, rule.removed(getattr(owner, name)))


def run_proof(argument: tuple[str | None, str | int]) -> list[str]:
    """The violations of a seed or schedule, without the named rule (None: with all of them)."""
    rule_name, proof = argument
    if rule_name is not None:
        apply(RULES[rule_name])
    if isinstance(proof, int):
        from tests.sim.world import run_seed

        return run_seed(proof).violations
    return run_schedule(proof)


def run_schedule(name: str) -> list[str]:
    """The violations of a directed schedule."""
    world = MetadataWorld(1)

    async def main() -> None:
        await METADATA_SCHEDULES[name](world)
        await world.check()

    try:
        run_world(world.loop, main())
    except (RuntimeError, AssertionError) as error:
        world.violations.append(f"{type(error).__name__}: {error}")
    return world.violations


def returns(value: Any) -> Callable[[Any], Any]:
    """A function that always says `value`."""
    return lambda original: lambda *args, **options: value


def does_nothing(original: Any) -> Any:
    """A function without effect."""
    return lambda *args, **options: None


def _landed(original: Any) -> Any:
    from automq.s3stream.store.conditional import Verdict

    return lambda *args: Verdict.LANDED


def _taken(original: Any) -> Any:
    from automq.s3stream.store.conditional import Verdict

    return lambda *args: Verdict.TAKEN


LOADER = "automq.metadata.loader:"
SNAPSHOTS = "automq.metadata.snapshots:"
CONDITIONAL = "automq.s3stream.store.conditional:"

ALL: tuple[Rule, ...] = (
    Rule(
        "unknown outcome",
        "In order: no answer is no outcome; the same bytes are asked for again.",
        (CONDITIONAL + "judge_failure",),
        _landed,
        "refused_append",
    ),
    Rule(
        "409 is no loss",
        "In order: 409 means that nothing happened; the same bytes are asked for again.",
        (CONDITIONAL + "judge_conflict",),
        _taken,
        "conflict_on_an_append",
    ),
    Rule(
        "412 is decided by the nonce: ours",
        "In order: a slot that holds our own bytes is an earlier try whose answer was lost.",
        (CONDITIONAL + "judge_found",),
        _taken,
        "lost_answer_of_an_append",
    ),
    Rule(
        "412 is decided by the nonce: another's",
        "In order: a slot found taken by another nonce means fenced.",
        (CONDITIONAL + "judge_found",),
        _landed,
        "claimant_dies_before_it_fences",
    ),
    Rule(
        "fence lower epochs",
        "Controller epochs: a new controller fences every lower epoch, in ascending order, before its own slot 0.",
        (LOADER + "fences_lower_epochs",),
        returns(False),
        "claimant_dies_before_it_fences",
    ),
    Rule(
        "void win",
        "Controller epochs: after winning a slot as fence, any higher slot voids the win.",
        (LOADER + "check_not_void",),
        does_nothing,
        "fence_into_a_trimmed_slot",
    ),
    Rule(
        "which fences count",
        "Controller epochs: only a fence counts that is its epoch's highest or that a replay without a gap reaches.",
        (LOADER + "fence_counts",),
        returns(True),
        "void_fence_of_a_dead_claimant",
    ),
    Rule(
        "gap means reload",
        "Controller epochs: every slot carries the cumulative record number; a gap means reload.",
        (LOADER + "check_contiguous",),
        does_nothing,
        "slots_trimmed_under_a_reader",
    ),
    Rule(
        "slots below the boundary only",
        "Snapshots: slots are deleted only below the snapshot before the newest.",
        (SNAPSHOTS + "below_boundary",),
        returns(True),
        "slots_after_the_newest_snapshot",
    ),
    Rule(
        "durable snapshots",
        "Speculation stays inside: snapshots hold durable state only.",
        (SNAPSHOTS + "is_durable_state",),
        returns(True),
        "snapshot_while_appends_are_on_their_way",
    ),
    Rule(
        "metadata fences stay",
        "Fences stay: a fence slot of the metadata log, its epoch's newest slot, is never deleted.",
        (SNAPSHOTS + "is_fence", SNAPSHOTS + "newest_of_each_epoch"),
        lambda original: (lambda *args: {}) if original.__name__ == "newest_of_each_epoch" else (lambda info: False),
        "paused_controller_wakes_up_after_the_trim",
    ),
)
RULES = {rule.name: rule for rule in ALL}
assert len(RULES) == len(ALL)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim.removed_rules", description=__doc__)
    parser.add_argument("names", nargs="*", help="rules; all of them unless given")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    proofs: dict[str, int | str] = json.loads(PROOFS.read_text()) if PROOFS.exists() else {}
    missing = 0
    for name in options.names or RULES:
        proof = find_proof(RULES[name], proofs.get(name), seeds=options.seeds, jobs=options.jobs)
        print(f"{name}: {proof if proof is not None else 'NOTHING FAILS WITHOUT IT'}", flush=True)
        if proof is None:
            missing += 1
            proofs.pop(name, None)
        else:
            proofs[name] = proof
        PROOFS.write_text(json.dumps({key: proofs[key] for key in RULES if key in proofs}, indent=2) + "\n")
    write_table(proofs)
    return 1 if missing else 0


def find_proof(rule: Rule, known: int | str | None, *, seeds: int, jobs: int) -> int | str | None:
    """What fails without `rule` and passes with it."""
    if rule.schedule is not None:
        return rule.schedule if fails(rule.name, rule.schedule) and not fails(None, rule.schedule) else None
    if isinstance(known, int) and fails(rule.name, known) and not fails(None, known):
        return known
    for finished in run_all(run_proof, [(rule.name, seed) for seed in range(seeds)], jobs=jobs):
        if (finished.error is not None or finished.result) and not fails(None, finished.argument[1]):
            return int(finished.argument[1])
    return None


def fails(rule_name: str | None, proof: int | str) -> bool:
    """Whether that run has violations, ends badly, or not at all."""
    (finished,) = run_all(run_proof, [(rule_name, proof)], jobs=1)
    return finished.error is not None or bool(finished.result)


def write_table(proofs: dict[str, int | str]) -> None:
    """The rows of docs/simulation.md."""
    if not DOCUMENT.exists():
        return
    text = DOCUMENT.read_text()
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    DOCUMENT.write_text(before + BEGIN + "\n" + table(proofs) + END + after)


def table(proofs: dict[str, int | str]) -> str:
    """One row a rule."""
    lines = ["| rule | where it is kept | fails without it |", "|---|---|---|"]
    for rule in ALL:
        places = ", ".join(f"`{place.removeprefix('automq.').replace(':', '.')}`" for place in rule.places)
        proof = proofs.get(rule.name, "")
        shown = f"seed {proof}" if isinstance(proof, int) else f"schedule `{proof}`"
        lines.append(f"| {rule.says} | {places} | {shown} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
