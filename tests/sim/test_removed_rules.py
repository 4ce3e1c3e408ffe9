"""The table of removed rules is true: each recorded run fails without its rule, and passes with it."""

import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.timeout(600)
def test_each_rule_is_missed():
    done = subprocess.run(
        [sys.executable, "-m", "tests.sim.removed_rules", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=590,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
