"""Runs the scripts of `groups/`: the classic group protocol, one story a file."""

import pathlib

import pytest

from tests.support.group_world import GroupWorld
from tests.support.scenario import run_scenario

SCRIPTS = sorted((pathlib.Path(__file__).parent / "groups").glob("*.txt"))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_scenario(path: pathlib.Path) -> None:
    run_scenario(path, GroupWorld().execute)
