"""The walks in ARCHITECTURE.md name modules and functions that exist."""

import importlib
import pathlib
import re
from collections.abc import Iterator

import pytest

ROOT = pathlib.Path(__file__).parents[2]
WALKS = (ROOT / "ARCHITECTURE.md").read_text().partition("## Two walks")[2].partition("\n## ")[0]
NAME = re.compile(r"`([a-z_0-9]+(?:\.\w+)+)`")
STEP = re.compile(r"^\d+\. .*$", re.MULTILINE)
PACKAGES = ("automq", "automq_operator")


def found(package: str, name: str) -> bool:
    """Whether `name` is a module of the package, or something in one, however deep."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            thing = importlib.import_module(".".join([package, *parts[:length]]))
        except ModuleNotFoundError:
            continue
        for attribute in parts[length:]:
            if not hasattr(thing, attribute):
                return False
            thing = getattr(thing, attribute)
        return True
    return False


def names() -> Iterator[str]:
    yield from NAME.findall(WALKS)


@pytest.mark.parametrize("name", sorted(set(names())))
def test_a_walk_names_what_exists(name: str) -> None:
    assert any(found(package, name) for package in PACKAGES)


def test_each_step_says_where_it_happens() -> None:
    steps = STEP.findall(WALKS)
    assert len(steps) > 15
    assert [step for step in steps if not NAME.search(step)] == []
