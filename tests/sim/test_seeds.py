"""The short form of `make sim`: some seeds, each clean and large enough to count."""

import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]
SEEDS = 25


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
