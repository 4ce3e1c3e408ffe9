"""Every directed schedule is harmless as long as all rules are kept; run in children, as seeds are."""

import os

from tests.sim.broker_schedules import SCHEDULES as BROKER_SCHEDULES
from tests.sim.commit_schedules import SCHEDULES as COMMIT_SCHEDULES
from tests.sim.isolation import run_all
from tests.sim.metadata_schedules import SCHEDULES as METADATA_SCHEDULES
from tests.sim.removed_rules import ALL, run_schedule

NAMES = [*METADATA_SCHEDULES, *COMMIT_SCHEDULES, *BROKER_SCHEDULES]


def test_schedules_are_harmless():
    found = {
        done.argument: done.error or done.result for done in run_all(run_schedule, NAMES, jobs=os.cpu_count() or 1)
    }

    assert {name: problems for name, problems in found.items() if problems} == {}


def test_schedules_have_names_of_their_own():
    assert len(set(NAMES)) == len(NAMES)


def test_every_schedule_of_a_rule_exists():
    assert {rule.schedule for rule in ALL if rule.schedule is not None} <= set(NAMES)
