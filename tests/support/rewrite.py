"""A function of the product with something taken out of its source: rules are missed where they act.

    create_once = rewritten(conditional.create_once, ("verdict, failure = (Verdict.UNKNOWN, error)", "raise"))

What is to be replaced is given as `ast.unparse` writes it, so that it depends on no layout and on no comment.
"""

import ast
import inspect
import textwrap
from typing import Any


class NotInSource(Exception):
    """What is to be replaced is not there, or not there once: the product has changed under the test."""


def rewritten(function: Any, *changes: tuple[str, str]) -> Any:
    """`function` with each text of `changes` replaced by another. Raises NotInSource."""
    source = normal(function)
    for old, new in changes:
        if source.count(old) != 1:
            raise NotInSource(f"{old!r} is {source.count(old)} times in {function.__qualname__}:\n{source}")
        source = source.replace(old, new)
    names: dict[str, Any] = {}
    exec(compile(source, f"<{function.__qualname__} rewritten>", "exec"), function.__globals__, names)
    made = names[function.__name__]
    made.__qualname__ = function.__qualname__
    return made


def normal(function: Any) -> str:
    """The source of `function` as `ast.unparse` writes it."""
    return ast.unparse(ast.parse(textwrap.dedent(inspect.getsource(function))))
