"""One seed in two processes with different hash seeds gives one story."""

import os
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]


def fingerprint_of(seed: int, hash_seed: int) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "tests.sim", "--seed", str(seed)],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": str(hash_seed)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    found = re.search(r"^fingerprint (\S+)$", done.stdout, re.MULTILINE)
    assert found is not None, done.stdout[-2000:] + done.stderr[-2000:]
    return found.group(1)


@pytest.mark.parametrize("seed", [3, 27])
def test_a_seed_repeats_under_another_hash_seed(seed):
    assert fingerprint_of(seed, 1) == fingerprint_of(seed, 4711)


def test_another_seed_is_another_story():
    assert fingerprint_of(3, 1) != fingerprint_of(4, 1)
