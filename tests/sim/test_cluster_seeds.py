"""The short form of `make sim CLUSTER=1`: some seeds of several brokers, clean, which reach what they must."""

import os
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
SEEDS = 25
BASE = 0
# A guard against a hang, no measure: these are a CPU minute.
HANGS_S = 1500


def simulate(*arguments: str, hash_seed: int = 0) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.sim", "--cluster", *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": str(hash_seed)},
        capture_output=True,
        text=True,
        timeout=HANGS_S,
        check=False,
    )


def fingerprint_of(seed: int, hash_seed: int) -> str:
    done = simulate("--seed", str(seed), hash_seed=hash_seed)
    found = re.search(r"^fingerprint (\S+)$", done.stdout, re.MULTILINE)
    assert found is not None, done.stdout[-2000:] + done.stderr[-2000:]
    return found.group(1)


@pytest.mark.timeout(HANGS_S)
def test_seeds_of_clusters_are_clean():
    done = simulate("--seeds", str(SEEDS), "--seed-base", str(BASE), "--jobs", "2")

    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


@pytest.mark.timeout(HANGS_S)
def test_a_seed_of_a_cluster_repeats_under_another_hash_seed():
    assert fingerprint_of(8, 1) == fingerprint_of(8, 4711)
