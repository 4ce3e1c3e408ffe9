"""Listings of our own keys: strangers are passed over, and named once in the log."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from automq.s3stream.ports import ObjectInfo, ObjectStorage
from automq.s3stream.store.layout import parse_key

T = TypeVar("T")

log = logging.getLogger(__name__)

# Whoever puts more strange keys into a prefix knows by then.
NAMED_MAX: Final = 1000
PAGE_KEYS: Final = 1000
PAGES_MAX: Final = 5
EXAMPLES: Final = 5


@dataclass(frozen=True, slots=True)
class Listed(Generic[T]):
    """A key of ours, and what a folder's pattern made of it."""

    parsed: T
    info: ObjectInfo


class Strangers:
    """Keys that are not ours, each named once."""

    def __init__(self) -> None:
        self._named: set[str] = set()

    def name(self, key: str) -> None:
        """Tell of `key`, unless that was done before."""
        if key not in self._named and len(self._named) < NAMED_MAX:
            self._named.add(key)
            log.warning(
                "ignored a key that is none of this program's; remove it if nobody needs it", extra={"key": repr(key)}
            )


# Of this process: a stranger is met again at every listing.
_STRANGERS: Final = Strangers()


def select_own(
    infos: Sequence[ObjectInfo], parse: Callable[[str], T | None], *, strangers: Strangers = _STRANGERS
) -> list[Listed[T]]:
    """Those lines of a listing that `parse` knows, in their order."""
    found: list[Listed[T]] = []
    for info in infos:
        parsed = parse(info.key)
        if parsed is None:
            strangers.name(info.key)
        else:
            found.append(Listed(parsed, info))
    return found


async def list_own(
    store: ObjectStorage,
    prefix: str,
    parse: Callable[[str], T | None],
    *,
    start_after: str = "",
    limit: int = 1_000_000,
    strangers: Strangers = _STRANGERS,
) -> list[Listed[T]]:
    """At most `limit` keys below `prefix` and after `start_after` that `parse` knows, in byte order.

    Fewer than `limit` are all there are, however many strangers lie between them. Raises StoreError.
    """
    found: list[Listed[T]] = []
    while True:
        asked = limit - len(found)
        infos = await store.list(prefix, start_after=start_after, limit=asked)
        found.extend(select_own(infos, parse, strangers=strangers))
        if len(infos) < asked or len(found) >= limit:
            return found
        start_after = infos[-1].key


async def describe_strangers(store: ObjectStorage) -> str:
    """One sentence on the keys of a prefix that are none of ours. Looks at some pages only. Raises StoreError."""
    strangers: list[str] = []
    looked = 0
    start_after = ""
    for _ in range(PAGES_MAX):
        infos = await store.list("", start_after=start_after, limit=PAGE_KEYS)
        looked += len(infos)
        strangers.extend(info.key for info in infos if parse_key(info.key) is None)
        if len(infos) < PAGE_KEYS:
            break
        start_after = infos[-1].key
    if not strangers:
        return f"none among the first {looked} keys"
    named = ", ".join(map(repr, strangers[:EXAMPLES]))
    return f"{len(strangers)} of the first {looked} keys are none of this program's: {named}"
