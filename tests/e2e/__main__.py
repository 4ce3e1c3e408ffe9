"""`python -m tests.e2e [STEP...]`: every step, or those named after the installation; then a closing line."""

import argparse
import sys
import time

from tests.e2e.environment import Missing, StepFailed, from_environ
from tests.e2e.steps import STEPS, install_the_operator
from tests.e2e.world import Skipped, World


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("steps", nargs="*", help="only these, by name")
    parser.add_argument("--keep", action="store_true", help="leave everything there at the end")
    parser.add_argument("--go-on", action="store_true", help="do not stop at the first failure")
    options = parser.parse_args()
    try:
        world = World(from_environ())
    except Missing as missing:
        print(f"e2e: SKIPPED, {missing}")
        return 0
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    chosen = [step for step in STEPS if not options.steps or step.__name__ in options.steps]
    if options.steps and install_the_operator not in chosen:
        chosen.insert(0, install_the_operator)
    for step in chosen:
        began = time.monotonic()
        outcome, detail = "passed", ""
        try:
            figure = step(world)
            detail = f"{figure:.1f} s" if isinstance(figure, float) else ""
        except Skipped as reason:
            outcome, detail = "skipped", str(reason)
        except (StepFailed, AssertionError, KeyError) as error:
            outcome, detail = "failed", f"{type(error).__name__}: {error}"
        counts[outcome] += 1
        print(f"{step.__name__:56} {time.monotonic() - began:7.1f} s  {outcome:8} {detail}", flush=True)
        if outcome == "failed" and not options.go_on:
            break
    if not options.keep:
        world.clean_up()
    print(f"e2e: {counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped")
    return 1 if counts["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
