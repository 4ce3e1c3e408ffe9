"""Every directed schedule is harmless as long as all rules are kept; run in children, as seeds are."""

import os

import pytest

from tests.sim.coverage import IN_SCHEDULES, missing
from tests.sim.isolation import run_all
from tests.sim.removed_rules import ALL
from tests.sim.schedules import NAMES, run_counted


@pytest.fixture(scope="module")
def finished():
    return list(run_all(run_counted, NAMES, jobs=os.cpu_count() or 1))


def test_schedules_are_harmless(finished):
    found = {done.argument: done.error or done.result[0] for done in finished}

    assert {name: problems for name, problems in found.items() if problems} == {}


def test_schedules_reach_what_seeds_seldom_do(finished):
    assert missing((done.result[1] for done in finished if done.error is None), IN_SCHEDULES) == []


def test_every_schedule_of_a_rule_exists():
    assert {rule.schedule for rule in ALL if rule.schedule is not None} <= set(NAMES)
