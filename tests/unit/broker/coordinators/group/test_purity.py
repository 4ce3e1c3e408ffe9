"""Modules that decide import nothing that acts."""

import ast
import pathlib

import pytest

import automq.coordinators.group

SHELL = {"coordinator", "group_metrics", "ports", "record_log", "shard_runner"}
FOLDER = pathlib.Path(automq.coordinators.group.__file__).parent
PURE = sorted(path for path in FOLDER.glob("*.py") if path.stem not in SHELL)
FORBIDDEN = ("asyncio", "time", "os", "socket", "random", "threading", "logging", "automq.runtime", "automq.partition")


@pytest.mark.parametrize("path", PURE, ids=lambda path: path.stem)
def test_a_pure_module_does_not_act(path: pathlib.Path) -> None:
    tree = ast.parse(path.read_text())
    imported = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    imported += [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    assert not [name for name in imported if name.startswith(FORBIDDEN)]
