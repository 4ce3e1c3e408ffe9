"""The short form of `make sim`: some seeds, each clean and large enough to count."""

import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]
SEEDS = 25
# Twice each kind of damage.
DAMAGED = 28


def simulate(*arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.sim", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


def test_seeds_are_clean():
    simulate("--seeds", str(SEEDS), "--jobs", "1")


def test_damaged_clusters_lose_nothing_without_a_word():
    simulate("--damage", "--seeds", str(DAMAGED), "--jobs", "1")
