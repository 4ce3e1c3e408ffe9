"""Pure: what a configuration value may be: Kafka's types, ranges, lists, and its sentence for what is refused."""

import enum
import re
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

_BLANK: Final = " \t\r\n"
_WHOLE: Final = re.compile(r"[+-]?[0-9]{1,20}")


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

    neutral: str | None = None
    """The only value that is accepted, for a key that means something which does not exist here."""

    def problem(self, text: str) -> str | None:
        """What is wrong with `text` as a value, or None."""
        problem = self.check(text)
        if problem is None and self.neutral is not None and self.canonical(text) != self.neutral:
            return f"it can only be {self.neutral or 'empty'}: {self.doc[0].lower()}{self.doc[1:].rstrip('.')}"
        return problem

    def canonical(self, text: str) -> str:
        """An accepted `text` as Kafka parses and shows it: trimmed, `true` for `TRUE`, `a,b` for `a, b`, each once."""
        trimmed = text.strip(_BLANK)
        match self.type:
            case ConfigType.BOOLEAN:
                return trimmed.lower()
            case ConfigType.INT | ConfigType.LONG | ConfigType.SHORT:
                return str(int(trimmed))
            case ConfigType.DOUBLE:
                return str(float(trimmed))
            case ConfigType.LIST:
                return ",".join(dict.fromkeys(split_list(trimmed)))
            case _:
                return trimmed

    @property
    def default_synonym(self) -> tuple[str, str] | None:
        """The broker-wide name at which Kafka's default stands, the one with the coarsest unit, and its value there."""
        if not self.synonyms:
            return None
        name = self.synonyms[-1]
        scale = self.scales.get(name, 1)
        return name, self.default if scale == 1 else str(int(self.default) // scale)

    def from_synonym(self, synonym: str, text: str) -> str:
        """The value that `synonym` = `text` means for this key."""
        scale = self.scales.get(synonym, 1)
        return text if scale == 1 or int(text) < 0 else str(int(text) * scale)


def boolean(text: str) -> str | None:
    """true or false, in any case."""
    return None if text.strip(_BLANK).lower() in ("true", "false") else "Expected value to be either true or false"


def whole(least: int, most: int) -> Check:
    """A whole number in [least, most]."""

    def check(text: str) -> str | None:
        trimmed = text.strip(_BLANK)
        limit, kind = (INT_MAX, "INT") if most <= INT_MAX else (LONG_MAX, "LONG")
        if _WHOLE.fullmatch(trimmed) is None or not -limit - 1 <= int(trimmed) <= limit:
            return f"Not a number of type {kind}"
        number = int(trimmed)
        if number < least:
            return f"Value must be at least {least}"
        return None if number <= most else f"Value must be no more than {most}"

    return check


def ratio(text: str) -> str | None:
    """A number in [0, 1]."""
    try:
        number = float(text.strip(_BLANK))
    except ValueError:
        return "Not a number of type DOUBLE"
    if number < 0:
        return "Value must be at least 0"
    return None if number <= 1 else "Value must be no more than 1"


def one_of(*words: str) -> Check:
    """One of `words`."""

    def check(text: str) -> str | None:
        return None if text.strip(_BLANK) in words else f"String must be one of: {', '.join(words)}"

    return check


def either(first: Check, second: Check, problem: str) -> Check:
    """What one of the two accepts; `problem` says what that is."""

    def check(text: str) -> str | None:
        refused = first(text)
        if refused is None or second(text) is None:
            return None
        return refused if refused.startswith("Not a number") else problem

    return check


def list_of(*words: str) -> Check:
    """A comma-separated list of some of `words`, which may be empty."""

    def check(text: str) -> str | None:
        items = split_list(text)
        if text.strip(_BLANK) and len(items) <= text.count(","):
            return "Values of the list must not be empty"
        if all(item in words for item in items):
            return None
        return f"String must be one of: {', '.join(words)}"

    return check


def any_list(text: str) -> str | None:
    """Anything."""
    return None


def throttled_replicas(text: str) -> str | None:
    """`*`, or partition:broker pairs."""
    items = split_list(text)
    if items == ["*"] or all(_is_pair(item) for item in items):
        return None
    return (
        "it must be the literal '*' or a list of replicas in the following format: "
        "[partitionId]:[brokerId],[partitionId]:[brokerId],..."
    )


def _is_pair(item: str) -> bool:
    partition, colon, broker = item.partition(":")
    return colon == ":" and partition.strip().isdigit() and broker.strip().isdigit()


def split_list(text: str) -> list[str]:
    """The items of a comma-separated list."""
    return [item.strip() for item in text.split(",") if item.strip()]
