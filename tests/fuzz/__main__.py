"""`python -m tests.fuzz [--inputs N] [--compared N] [--seed S]`: prints what it did, or the input that failed.

What is left of `--inputs` beyond `--compared` only runs the compiled functions, and looks for crashes. With
AUTOMQ_SANITIZE=1 at `make dev`, and the sanitizer's library preloaded, every read and write is checked (`make fuzz`).
"""

import argparse
import itertools
import time

from automq import core
from automq.core.record_walk import walk_records
from tests.fuzz.records import walks


def run(*, inputs: int, compared: int, seed: int) -> int:
    """How many walks went to their end. Raises AssertionError with the first input on which twins disagree."""
    assert core.native is not None, f"there is nothing to fuzz: {core.why_pure}"
    native = core.native.walk_records
    whole = 0
    for number, walk in enumerate(itertools.islice(walks(seed), inputs)):
        found = native(*walk)
        whole += found[1] == walk.stop
        if number < compared:
            expected = walk_records(*walk)
            assert found == expected, f"seed {seed}, input {number}: {walk!r}: {found}, its twin {expected}"
    return whole


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--compared", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    began = time.monotonic()
    whole = run(inputs=options.inputs, compared=options.compared, seed=options.seed)
    print(
        f"{options.inputs:,} inputs, {min(options.compared, options.inputs):,} of them against the twin, {whole:,} of "
        f"them well-formed, {time.monotonic() - began:.0f} s"
    )


if __name__ == "__main__":
    main()
