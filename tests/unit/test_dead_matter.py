"""Nothing lies about and nothing goes round: modules are reached and in no circle, every definition is named."""

import ast
import pathlib
from collections import Counter
from collections.abc import Iterator

ROOT = pathlib.Path(__file__).parents[2]
PACKAGES = ("broker/automq", "operator/automq_operator")
ENTRIES = {
    "automq.__main__",
    "automq.server.compaction.main",
    "automq.testing.plugin",
    "automq_operator.__main__",
    "automq_operator.generate",
}
"""What is run: the console script, the compaction process, pytest's plugin, the operator, its generator."""
LOADED_BY_NAME = ("automq.protocol.messages.", "automq.s3stream.store.")
"""`apis` loads the messages of an API, served yet or not (every API has an error answer); a URI's scheme its store."""
GENERATORS = {
    "automq.server.observability.face": "the tables of docs/broker.md",
    "automq.server.observability.metrics_document": "docs/metrics.md",
}
CALLED_BY_LIBRARIES = {
    *("connection_made", "connection_lost", "data_received", "eof_received", "pause_writing", "resume_writing"),
    "emit",
    "load_credentials",
    "pytest_addoption",
}
"""Methods that asyncio, logging, botocore and pytest find by their names."""
PROGRAMMING_INTERFACE = ("automq.testing.",)
"""Users' tests call it."""
FOR_SIMULATION = {
    "SeededEntropy": "the simulation's own entropy, of a seed",
    "InlineWorkers": "the simulation's own workers: they run at once",
}
OBSERVED = {
    "judge": "the commit check in one turn, which the tests of the engine decide with",
    "pack_columns": "packs the synthetic weeks of tests and benchmarks as uploads pack theirs",
    "uncommitted": "what an outage may not let grow",
    "session_count": "whom the controller's end of the link knows",
    "free": "the other half of what a budget shows",
    "is_retriable": "Kafka's own division of its errors",
}
"""Named by tests alone, and why they are there all the same."""


def modules() -> dict[str, pathlib.Path]:
    found = {}
    for package in PACKAGES:
        base = (ROOT / package).parent
        for path in (ROOT / package).rglob("*.py"):
            name = ".".join(path.relative_to(base).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = path
    return found


MODULES = modules()
TREES = {name: ast.parse(path.read_text()) for name, path in MODULES.items()}


def imported(name: str) -> Iterator[str]:
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def reached() -> set[str]:
    """Modules that an entry point imports, at any distance, with the packages around them."""
    found: set[str] = set()
    waiting = [*ENTRIES, *GENERATORS, *(name for name in MODULES if name.startswith(LOADED_BY_NAME))]
    while waiting:
        name = waiting.pop()
        if name in found or name not in MODULES:
            continue
        found.add(name)
        parts = name.split(".")
        waiting += [".".join(parts[:length]) for length in range(1, len(parts))]
        waiting += imported(name)
    return found


def names_used() -> Counter[str]:
    """Names, attributes, and dotted names in strings, over the whole product."""
    used: Counter[str] = Counter()
    for tree in TREES.values():
        for node in ast.walk(tree):
            if isinstance(node, ast.Name):
                used[node.id] += 1
            elif isinstance(node, ast.Attribute):
                used[node.attr] += 1
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                words = node.value.replace(":", ".").split(".")
                used.update(word for word in words if word.isidentifier())
    for source in (ROOT / "broker").rglob("*.pyx"):
        used.update(source.read_text().replace("(", " ").replace(".", " ").replace(",", " ").split())
    return used


def is_called_elsewhere(module: str, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> bool:
    """By a library, by Python, by a decorator that registers it, or by users."""
    registers = any(isinstance(item, ast.Call) for item in node.decorator_list) and not isinstance(node, ast.ClassDef)
    return (
        registers
        or node.name in CALLED_BY_LIBRARIES
        or node.name in FOR_SIMULATION
        or node.name in OBSERVED
        or (node.name.startswith("__") and node.name.endswith("__"))
        or module in GENERATORS
        or module == "automq_operator.generate"
        or module.startswith((*LOADED_BY_NAME, *PROGRAMMING_INTERFACE))
    )


def test_every_module_is_imported() -> None:
    simulated = {name for name in MODULES if name.rpartition(".")[2] in FOR_SIMULATION}
    assert sorted(set(MODULES) - reached() - simulated) == []


def test_no_modules_import_one_another() -> None:
    """Not for types either, at any distance: what is needed from above is a port that the lower one owns."""
    left = {name: set(imported(name)) - {name, name.rpartition(".")[0]} for name in MODULES}
    while ended := [name for name, others in left.items() if not others & left.keys()]:
        left = {name: others for name, others in left.items() if name not in ended}
    assert sorted(left) == []


def test_every_definition_is_named_somewhere() -> None:
    used = names_used()
    dead = [
        f"{module}.{node.name}"
        for module, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        and not used[node.name]
        and not is_called_elsewhere(module, node)
    ]
    assert sorted(dead) == []


def test_exceptions_are_needed() -> None:
    """Whatever is named by the product now, or gone, is taken out of the lists."""
    used = names_used()
    defined = {getattr(node, "name", "") for tree in TREES.values() for node in ast.walk(tree)} | {
        name.rpartition(".")[2] for name in MODULES
    }
    assert [name for name in OBSERVED if used[name] or name not in defined] == []
    assert [name for name in FOR_SIMULATION if name not in defined] == []
