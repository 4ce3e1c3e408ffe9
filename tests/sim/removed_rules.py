"""Proof that the simulation can find bugs: each rule of the logs is taken out in turn, and some run must fail.

`python -m tests.sim.removed_rules` runs every recorded proof again; where one does not hold any more it looks for the
first seed that fails without the rule, and it writes the table in docs/simulation.md. What is found is recorded at
once: stopped, it goes on where it was. `python -m tests.sim.removed_rules NAME...` looks at some rules only.
"""

import argparse
import importlib
import json
import os
import pathlib
import sys
from typing import Any

from tests.sim import world_version
from tests.sim.isolation import Finished, run_all
from tests.sim.rules import Rule
from tests.sim.rules_cluster import CLUSTER_RULES
from tests.sim.rules_commit import COMMIT_RULES
from tests.sim.rules_compaction import COMPACTION_RULES
from tests.sim.rules_damage import DAMAGE_RULES
from tests.sim.rules_engine import ENGINE_RULES
from tests.sim.rules_limits import LIMIT_RULES
from tests.sim.rules_logs import LOG_RULES
from tests.sim.rules_prefix import PREFIX_RULES
from tests.sim.schedules import run_schedule
from tests.sim.world import run_seed
from tests.support.rewrite import NotInSource

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
        if not hasattr(owner, name):
            raise NotThere(place)
        try:
            replacement = rule.removed(getattr(owner, name))
        except NotInSource as error:
            raise NotThere(f"{place}: {error}") from error
        setattr(owner, name, replacement)


class NotThere(Exception):
    """A place that a rule names does not exist: the product has changed under the table."""


def run_proof(argument: tuple[str | None, str | int]) -> list[str]:
    """The violations of a seed or schedule, without the named rule (None: with all of them)."""
    rule_name, proof = argument
    if rule_name is not None:
        apply(RULES[rule_name])
    if isinstance(proof, int):
        return run_seed(proof).violations
    return run_schedule(proof)


ALL: tuple[Rule, ...] = (
    *LOG_RULES,
    *ENGINE_RULES,
    *PREFIX_RULES,
    *COMMIT_RULES,
    *COMPACTION_RULES,
    *DAMAGE_RULES,
    *LIMIT_RULES,
    *CLUSTER_RULES,
)
RULES = {rule.name: rule for rule in ALL}
assert len(RULES) == len(ALL)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim.removed_rules", description=__doc__)
    parser.add_argument("names", nargs="*", help="rules; all of them unless given")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--check", action="store_true", help="only check what is recorded, and the table")
    options = parser.parse_args()
    world, proofs = read_proofs()
    if options.check:
        return check(proofs, jobs=options.jobs)
    current = world_version.current()
    if world.get("version") == current["version"] and world.get("digest") != current["digest"]:
        print(world_version.problem(world))
        return 1
    names = options.names or list(RULES)
    holding = still_failing({name: proofs[name] for name in names if name in proofs}, jobs=options.jobs)
    missing = 0
    for name in names:
        if name in holding:
            continue
        proof, why = find_proof(RULES[name], seeds=options.seeds, jobs=options.jobs)
        print(f"{name}: {proof if proof is not None else 'NOTHING FAILS WITHOUT IT'}: {why}", flush=True)
        if proof is None:
            missing += 1
            proofs.pop(name, None)
        else:
            proofs[name] = proof
        write_proofs(world, proofs)
    print(f"{len(names)} rules: {len(holding)} as recorded, {missing} that nothing misses")
    if not missing and len(names) == len(RULES):
        world = current
    write_proofs(world, proofs)
    write_table(proofs)
    return 1 if missing else 0


def read_proofs() -> tuple[dict[str, Any], dict[str, int | str]]:
    """With which worlds the table was made, and what fails without each rule."""
    recorded = json.loads(PROOFS.read_text()) if PROOFS.exists() else {}
    return recorded.get("world", {}), recorded.get("proofs", {})


def write_proofs(world: dict[str, Any], proofs: dict[str, int | str]) -> None:
    """Record both."""
    ordered = {name: proofs[name] for name in RULES if name in proofs}
    PROOFS.write_text(json.dumps({"world": world, "proofs": ordered}, indent=2) + "\n")


def still_failing(proofs: dict[str, int | str], *, jobs: int) -> set[str]:
    """The rules whose recorded run fails without them, and passes with them."""
    wanted = {name: proof for name, proof in proofs.items() if RULES[name].schedule in (None, proof)}
    failing = {
        finished.argument[0] for finished in run_all(run_proof, list(wanted.items()), jobs=jobs) if symptom_of(finished)
    }
    runs: list[tuple[str | None, int | str]] = [(None, proof) for proof in dict.fromkeys(wanted.values())]
    clean = {finished.argument[1] for finished in run_all(run_proof, runs, jobs=jobs) if not symptom_of(finished)}
    return {name for name in failing if wanted[name] in clean}


def check(proofs: dict[str, int | str], *, jobs: int) -> int:
    """Every recorded run fails without its rule, and passes with all of them."""
    problems = [f"{name}: nothing is recorded" for name in RULES if name not in proofs]
    problems += [f"{name}: is no rule" for name in proofs if name not in RULES]
    runs: list[tuple[str | None, int | str]] = [(name, proofs[name]) for name in RULES if name in proofs]
    runs += [(None, proof) for proof in dict.fromkeys(proofs.values())]
    for finished in run_all(run_proof, runs, jobs=jobs):
        name, proof = finished.argument
        found = symptom_of(finished)
        if name is not None and not found:
            problems.append(f"{name}: {proof} does not fail without it")
        if name is None and found:
            problems.append(f"{proof} fails with all rules: {found}")
    if table(proofs) not in DOCUMENT.read_text():
        problems.append(f"the table in {DOCUMENT.relative_to(ROOT)} is not what is recorded: run `make removed-rules`")
    print("\n".join(problems) or f"{len(runs)} runs, all as recorded")
    return 1 if problems else 0


def find_proof(rule: Rule, *, seeds: int, jobs: int) -> tuple[int | str | None, str]:
    """What fails without `rule` and passes with it, and how it fails."""
    if rule.schedule is not None:
        why = symptom(rule.name, rule.schedule)
        harmless = not symptom(None, rule.schedule)
        return (rule.schedule, why) if why and harmless else (None, "" if harmless else "it fails with the rule, too")
    for finished in run_all(run_proof, [(rule.name, seed) for seed in range(seeds)], jobs=jobs):
        seed: int = finished.argument[1]
        if symptom_of(finished) and not symptom(None, seed):
            return seed, symptom_of(finished)
    return None, ""


def symptom(rule_name: str | None, proof: int | str) -> str:
    """What that run comes to without the rule; empty if all is well."""
    (finished,) = run_all(run_proof, [(rule_name, proof)], jobs=1)
    return symptom_of(finished)


def symptom_of(finished: Finished) -> str:
    """The first violation, or how the run ended."""
    if finished.error is not None:
        assert NotThere.__name__ not in finished.error, finished.error
        return finished.error.strip().splitlines()[-1]
    violations: list[str] = finished.result
    return violations[0] if violations else ""


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
