"""One version, said twice."""

import pathlib
import tomllib

import automq


def test_package_and_project_have_one_version() -> None:
    project = tomllib.loads((pathlib.Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]

    assert automq.__version__ == project["version"]
