"""What a rule is that can be taken out, and the usual ways to do so."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.support.rewrite import rewritten


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule, and what its absence looks like: `places` are replaced by what `removed` makes of them."""

    name: str
    says: str
    places: tuple[str, ...]
    removed: Callable[[Any], Any]
    schedule: str | None = None
    """A directed schedule that fails without it; None asks the seeds."""


def without(*changes: tuple[str, str]) -> Callable[[Any], Any]:
    """A function with each text of `changes` replaced by another (`tests.support.rewrite`), under all of its names."""

    def removed(original: Any) -> Any:
        original.__code__ = rewritten(original, *changes).__code__
        return original

    return removed


def returns(value: Any) -> Callable[[Any], Any]:
    """A function that always says `value`."""
    return lambda original: lambda *args, **options: value


def does_nothing(original: Any) -> Any:
    """A function without effect."""
    return lambda *args, **options: None


def does_nothing_async(original: Any) -> Any:
    """The same, to be awaited."""

    async def nothing(*args: Any, **options: Any) -> None:
        return None

    return nothing
