"""The table of removed rules is true: each recorded run fails without its rule, and passes with it."""

import importlib
import pathlib
import subprocess
import sys

import pytest

from tests.sim.coverage import PROBES
from tests.sim.removed_rules import ALL, NotThere, apply
from tests.sim.rules import Rule, without
from tests.sim.sizes import LIMITS

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


def owner_of(place):
    module, _, path = place.partition(":")
    *parents, name = path.split(".")
    owner = importlib.import_module(module)
    for parent in parents:
        owner = getattr(owner, parent)
    return owner, name


@pytest.mark.parametrize("rule", ALL, ids=lambda rule: rule.name)
def test_the_places_of_a_rule_exist(rule):
    for owner, name in map(owner_of, rule.places):
        assert hasattr(owner, name), (owner, name)


def test_what_a_rule_takes_out_must_be_there():
    rule = Rule("no rule", "", ("tests.sim.rules:does_nothing",), without(("what is not there", "")))

    with pytest.raises(NotThere, match="does_nothing"):
        apply(rule)


@pytest.mark.parametrize("place", [*PROBES, *(place for places in LIMITS.values() for place in places)])
def test_the_places_that_are_watched_or_made_small_exist(place):
    owner, name = owner_of(place)
    assert name in vars(owner)
