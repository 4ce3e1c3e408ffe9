"""Pure: what a configuration value may be: Kafka's types, ranges and lists, with a sentence for what is refused."""

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

INT_MAX: Final = 2**31 - 1
LONG_MAX: Final = 2**63 - 1


class ConfigType(enum.IntEnum):
    """The type of a value, as DescribeConfigs numbers it."""

    BOOLEAN = 1
    STRING = 2
    INT = 3
    SHORT = 4
    LONG = 5
    DOUBLE = 6
    LIST = 7
    CLASS = 8
    PASSWORD = 9


Check = Callable[[str], str | None]
"""A text to what is wrong with it, or None."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigDefinition:
    """One configuration key."""

    name: str
    type: ConfigType
    default: str
    check: Check
    doc: str
    synonyms: tuple[str, ...] = ()
    """The broker-wide defaults it has, the one that wins first."""
    scales: Mapping[str, int] = field(default_factory=dict)
    """Synonyms in another unit, and what to multiply theirs with."""

    def problem(self, text: str) -> str | None:
        """What is wrong with `text` as a value, or None."""
        return self.check(text)

    def from_synonym(self, synonym: str, text: str) -> str:
        """The value that `synonym` = `text` means for this key."""
        scale = self.scales.get(synonym, 1)
        return text if scale == 1 or int(text) < 0 else str(int(text) * scale)


def boolean(text: str) -> str | None:
    """true or false, in any case."""
    return None if text.strip().lower() in ("true", "false") else "it must be true or false"


def whole(least: int, most: int) -> Check:
    """A whole number in [least, most]."""

    def check(text: str) -> str | None:
        try:
            number = int(text.strip())
        except ValueError:
            return f"it must be a whole number from {least} to {most}"
        return None if least <= number <= most else f"it must be from {least} to {most}"

    return check


def ratio(text: str) -> str | None:
    """A number in [0, 1]."""
    try:
        number = float(text.strip())
    except ValueError:
        return "it must be a number from 0 to 1"
    return None if 0 <= number <= 1 else "it must be from 0 to 1"


def one_of(*words: str) -> Check:
    """One of `words`."""

    def check(text: str) -> str | None:
        return None if text.strip() in words else f"it must be one of {', '.join(words)}"

    return check


def either(first: Check, second: Check) -> Check:
    """What one of the two accepts."""

    def check(text: str) -> str | None:
        return None if second(text) is None else first(text)

    return check


def list_of(*words: str) -> Check:
    """A comma-separated, non-empty list of some of `words`, none twice."""

    def check(text: str) -> str | None:
        items = split_list(text)
        if items and all(item in words for item in items) and len(set(items)) == len(items):
            return None
        return f"it must be a list of {', '.join(words)}, each at most once"

    return check


def throttled_replicas(text: str) -> str | None:
    """`*`, or partition:broker pairs."""
    items = split_list(text)
    if items == ["*"] or all(_is_pair(item) for item in items):
        return None
    return "it must be * or a list of partition:broker pairs"


def _is_pair(item: str) -> bool:
    partition, colon, broker = item.partition(":")
    return colon == ":" and partition.strip().isdigit() and broker.strip().isdigit()


def split_list(text: str) -> list[str]:
    """The items of a comma-separated list."""
    return [item.strip() for item in text.split(",") if item.strip()]
