"""Pure: how much may be in a cache that was loaded ahead and that nobody has read yet.

A half of the cache at most. Each thing that goes unread halves the worth of loading ahead: the limit falls by twice its
size; each that is read raises it again. A sixteenth is always tried, which is what a cache too small wastes.
"""

from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class Ahead(Generic[K]):
    """What was loaded ahead, by key."""

    __slots__ = ("_bytes", "_least", "_limit", "_most", "_sizes")

    def __init__(self, cache_bytes: int) -> None:
        self._most = cache_bytes // 2
        self._least = cache_bytes // 16
        self._limit = self._most
        self._sizes: dict[K, int] = {}
        self._bytes = 0

    @property
    def has_room(self) -> bool:
        """Whether something more may be loaded ahead."""
        return self._bytes < self._limit

    def begin(self, key: K, size: int) -> None:
        """It is loaded ahead from now on."""
        if key not in self._sizes:
            self._sizes[key] = size
            self._bytes += size

    def read(self, key: K) -> None:
        """Somebody wanted it: if it was loaded ahead, that was worth it."""
        self._limit = min(self._most, self._limit + self._take(key))

    def lose(self, key: K) -> None:
        """It goes from the cache: if nobody has read it, it was loaded for nothing."""
        self._limit = max(self._least, self._limit - 2 * self._take(key))

    def forget(self, key: K) -> None:
        """It was not loaded after all."""
        self._take(key)

    def _take(self, key: K) -> int:
        size = self._sizes.pop(key, 0)
        self._bytes -= size
        return size
