"""Seeds that are recorded were recorded in the worlds that there are."""

from tests.sim.removed_rules import read_proofs
from tests.sim.world_version import VERSION, current, digest, problem


def test_the_table_of_removed_rules_was_made_with_these_worlds():
    world, _ = read_proofs()

    assert problem(world) is None


def test_a_world_that_changed_makes_the_table_stale():
    assert "raise VERSION" in problem({"version": VERSION, "digest": "0" * 16})
    assert f"these are {VERSION}" in problem({**current(), "version": VERSION - 1})
    assert problem({}) is not None
    assert problem(current()) is None


def test_only_what_runs_counts():
    one = digest({"a.py": '"""Says."""\n\n\ndef f(x):\n    """Tells."""\n    return x + 1  # why\n'})

    assert one == digest({"a.py": '"""Says more."""\ndef f(x):\n    return (x + 1)\n'})
    assert one != digest({"a.py": '"""Says."""\ndef f(x):\n    return x + 2\n'})
