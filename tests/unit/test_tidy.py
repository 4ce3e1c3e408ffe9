"""Properties of the code itself: size, docstrings, words, identity functions, containers, paths of no one machine."""

import ast
import pathlib
import re
import subprocess
from collections.abc import Iterator

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


PRODUCT = sorted(path for folder in ("broker", "operator") for path in (ROOT / folder).rglob("*.py"))
HOUSE_WORDS = {
    *("give", "gives", "glance", "homeless", "hurry", "hurries", "insist", "insists", "look", "looks"),
    *("say", "says", "said", "settle", "settles", "settled", "tell", "tells", "told"),
}
"""Names made of them tell nobody anything: Kafka, Kubernetes and storage have a word (poll, report, wait, converge)."""
HOUSE_PHRASES = re.compile(r"\b(lets? go|letting go|newest word|homeless|at a glance|insists?)\b", re.IGNORECASE)


def names(text: str) -> Iterator[str]:
    """Every name that the code itself chooses."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr


def test_names_are_words_of_the_field() -> None:
    """A name that is refused here wants a word that Kafka, Kubernetes or storage engineers use for it."""
    refused = []
    for path in PRODUCT:
        text = path.read_text()
        words = {name: {word.lower() for word in re.findall(r"[a-z]+|[A-Z][a-z]*", name)} for name in names(text)}
        refused += [f"{path.relative_to(ROOT)}: {name}" for name, parts in sorted(words.items()) if HOUSE_WORDS & parts]
        refused += [f"{path.relative_to(ROOT)}: {found.group()}" for found in HOUSE_PHRASES.finditer(text)]
    assert refused == []


HOUSE_VERBS = re.compile(
    r"\b(?:hurry|hurries|hurried|settles?|settled|glances?|insists?|falls? silent|fallen silent)\b"
    r"|`on_\w+`(?: and `on_\w+`)? (?:is|are|was) told",
    re.IGNORECASE,
)
"""Of docstrings: a callback is called, a queue drains, a state converges."""
SAYS_NOTHING = re.compile(r"(everything|nothing|the same|as above|see above|an? \w+)\.?", re.IGNORECASE)


def public_docstrings(path: pathlib.Path) -> Iterator[tuple[str, str]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            name, text = getattr(node, "name", ""), ast.get_docstring(node)
            if text is not None and not name.startswith("_"):
                yield name, text


def test_docstrings_of_public_names_have_words_of_the_field_and_say_something() -> None:
    refused = [
        f"{path.relative_to(ROOT)}: {name}: {text.splitlines()[0]}"
        for path in PRODUCT
        for name, text in public_docstrings(path)
        if HOUSE_VERBS.search(text) or SAYS_NOTHING.fullmatch(text.strip())
    ]
    assert refused == []


def returns_its_argument(node: ast.AST) -> bool:
    """An identity: a function of one argument that does nothing but return it."""
    if not isinstance(node, ast.FunctionDef) or len(node.body) - (ast.get_docstring(node) is not None) != 1:
        return False
    last, arguments = node.body[-1], {argument.arg for argument in node.args.args}
    return isinstance(last, ast.Return) and isinstance(last.value, ast.Name) and last.value.id in arguments - {"self"}


def test_no_function_is_there_to_be_replaced() -> None:
    """A rule is tested where it acts: an identity that only a test patches is no rule."""
    found = [
        f"{path.relative_to(ROOT)}: {ast.unparse(node).splitlines()[0]}"
        for path in PRODUCT
        for node in ast.walk(ast.parse(path.read_text()))
        if returns_its_argument(node)
    ]
    assert found == []


def does_nothing(node: ast.AST) -> bool:
    """A function of a module that returns nothing and has no body but a docstring."""
    if not isinstance(node, ast.FunctionDef) or not isinstance(node.returns, ast.Constant) or node.decorator_list:
        return False
    return all(
        isinstance(line, ast.Pass) or isinstance(getattr(line, "value", None), ast.Constant) for line in node.body
    )


def test_there_is_one_callback_that_does_nothing() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {node.name}"
        for path in PACKAGES["broker"].rglob("*.py")
        for node in ast.parse(path.read_text()).body
        if does_nothing(node)
    ]
    assert found == ["broker/automq/callbacks.py: ignore"]


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
