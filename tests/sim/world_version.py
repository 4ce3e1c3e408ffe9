"""Which worlds the seeds stand for: raise VERSION whenever what a seed draws, does or checks changes.

A recorded seed proves that a rule is missed only in the world it was found in. So the table of removed rules records
the version and the digest of the worlds it was made with; `tests/sim/test_world_version.py` fails when either is stale,
and `make removed-rules` makes the table anew.
"""

import ast
import hashlib
import pathlib
from collections.abc import Mapping
from typing import Any

VERSION = 35

TESTS = pathlib.Path(__file__).parents[1]
SOURCES = (
    "sim/accounting.py",
    "sim/actors.py",
    "sim/administrator.py",
    "sim/cluster_history.py",
    "sim/cluster_nemesis.py",
    "sim/cluster_world.py",
    "sim/group.py",
    "sim/history.py",
    "sim/memory.py",
    "sim/nemesis.py",
    "sim/operator.py",
    "sim/sizes.py",
    "sim/store_faults.py",
    "sim/world.py",
    "support/batches.py",
    "support/client.py",
    "support/cluster.py",
    "support/damage.py",
    "support/faults.py",
    "support/network.py",
    "support/sim_loop.py",
    "support/sim_platform.py",
)
"""What a seed's story depends on, besides the product."""


def digest(sources: Mapping[str, str] | None = None) -> str:
    """Of the code of the worlds: comments, docstrings and layout do not count."""
    texts = sources or {name: (TESTS / name).read_text() for name in SOURCES}
    found = hashlib.blake2b(digest_size=8)
    for name, text in texts.items():
        found.update(f"{name} {ast.dump(_without_docstrings(ast.parse(text)))}".encode())
    return found.hexdigest()


def current() -> dict[str, Any]:
    """What is to be recorded beside a table made now."""
    return {"version": VERSION, "digest": digest()}


def problem(recorded: Mapping[str, Any]) -> str | None:
    """Why a table recorded with these worlds is stale; None when it is not."""
    if recorded.get("version") != VERSION:
        return (
            f"the table was made with worlds {recorded.get('version')}, these are {VERSION}: run `make removed-rules`"
        )
    if recorded.get("digest") != digest():
        return (
            f"the worlds have changed since version {VERSION}: raise VERSION in tests/sim/world_version.py, and run "
            "`make removed-rules`"
        )
    return None


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            # Those after an attribute, too: any expression that is only a text.
            node.body = [part for part in node.body if not _is_text(part)] or [ast.Pass()]
    return tree


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
