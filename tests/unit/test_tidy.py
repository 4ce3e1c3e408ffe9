"""Properties of the code itself: size, docstrings, containers that are no packages, mirrored tests."""

import ast
import pathlib

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
