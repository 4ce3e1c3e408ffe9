"""The lock files answer every dependency that pyproject.toml names."""

import pathlib
import re
import tomllib

import pytest
from packaging.requirements import Requirement

ROOT = pathlib.Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
RUNTIME = PROJECT["project"]["dependencies"]
OPERATOR = PROJECT["project"]["optional-dependencies"]["operator"]
DEVELOPMENT = PROJECT["dependency-groups"]["dev"]


def locked(name: str) -> dict[str, str]:
    lines = (ROOT / name).read_text().splitlines()
    found = (re.match(r"([A-Za-z0-9._-]+)==([^ ;\\]+)", line) for line in lines)
    return {match[1].lower(): match[2] for match in found if match}


@pytest.mark.parametrize(
    ("file", "requirements"),
    [
        ("requirements-broker.lock", RUNTIME),
        ("requirements.lock", RUNTIME + OPERATOR),
        ("requirements-dev.lock", RUNTIME + OPERATOR + DEVELOPMENT),
    ],
)
def test_every_dependency_is_locked_at_an_allowed_version(file: str, requirements: list[str]) -> None:
    versions = locked(file)
    for requirement in map(Requirement, requirements):
        assert requirement.specifier.contains(versions[requirement.name.lower()]), f"{requirement}: run make lock"


def test_locks_name_no_host() -> None:
    for file in ("requirements-broker.lock", "requirements.lock", "requirements-dev.lock"):
        assert "://" not in (ROOT / file).read_text()


def test_a_broker_needs_nothing_of_the_operators() -> None:
    versions = locked("requirements-broker.lock")

    assert {"kopf", "kubernetes"} & set(versions) == set()
    assert versions.items() <= locked("requirements.lock").items()
