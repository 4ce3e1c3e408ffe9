"""Properties of the code itself: size, docstrings, containers that are no packages, paths of no one machine."""

import ast
import pathlib
import re
import subprocess

import pytest

ROOT = pathlib.Path(__file__).parents[2]
PACKAGES = {"broker": ROOT / "broker/automq"}
FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 70
MODULES = sorted(path for package in PACKAGES.values() for path in package.rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))


@pytest.mark.parametrize("path", MODULES + TESTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_module_is_tidy(path: pathlib.Path) -> None:
    text = path.read_text()
    tree = ast.parse(text)

    assert ast.get_docstring(tree), "a module starts by saying what it is"
    assert len(text.splitlines()) <= FILE_LINES_MAX
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno < FUNCTION_LINES_MAX, node.name


@pytest.mark.parametrize("folder", ["broker", "operator"])
def test_container_folder_is_not_a_package(folder: str) -> None:
    """With an __init__.py, `operator/` would shadow the standard library's operator."""
    assert not (ROOT / folder / "__init__.py").exists()


def test_assertions_are_on() -> None:
    assert __debug__


MACHINE_PATH = re.compile(rb"(?<![\w.{}/:-])/(work|root|home|Users)/\w")
"""A folder that another machine does not have."""


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="no clone: which files are the project's is not known")
def test_no_file_names_a_path_of_one_machine() -> None:
    files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.split(b"\0")
    named = [
        f"{name}: {found.group().decode()}"
        for name in filter(None, (file.decode() for file in files))
        if (ROOT / name).is_file() and (found := MACHINE_PATH.search((ROOT / name).read_bytes()))
    ]
    assert named == []
