"""Children that fail, crash or hang cost one result each."""

import os
import time

from tests.sim.isolation import run_all


def work(argument):
    match argument:
        case "raise":
            raise ValueError("no")
        case "die":
            os._exit(7)
        case "hang":
            time.sleep(60)
    return [argument] * 1000


def results(arguments, **options):
    return {done.argument: done for done in run_all(work, arguments, jobs=3, **options)}


def test_results_come_back():
    found = results(range(10))

    assert {argument: done.result[0] for argument, done in found.items()} == {number: number for number in range(10)}
    assert all(done.error is None and done.cpu_s >= 0 for done in found.values())


def test_failures_cost_one_result():
    found = results(["raise", "die", "fine"])

    assert "ValueError: no" in found["raise"].error
    assert "status 7" in found["die"].error
    assert found["fine"].error is None


def test_a_hang_is_ended():
    found = results(["hang", "fine"], wall_s_max=0.5)

    assert "hangs" in found["hang"].error
    assert found["fine"].error is None
