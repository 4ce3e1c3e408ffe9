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
from typing import Any

from tests.sim.isolation import run_all
from tests.sim.metadata_schedules import SCHEDULES as METADATA_SCHEDULES
from tests.sim.metadata_world import MetadataWorld
from tests.sim.rules import Rule
from tests.sim.rules_engine import ENGINE_RULES
from tests.sim.rules_logs import LOG_RULES
from tests.support.sim_loop import run_world

ROOT = pathlib.Path(__file__).parents[2]
PROOFS = pathlib.Path(__file__).with_name("removed_rules.json")
DOCUMENT = ROOT / "docs/simulation.md"
BEGIN, END = "<!-- removed rules: begin -->", "<!-- removed rules: end -->"
SEEDS = 500


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


ALL: tuple[Rule, ...] = (*LOG_RULES, *ENGINE_RULES)
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
