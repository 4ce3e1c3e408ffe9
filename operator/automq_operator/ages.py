"""Pure: for how long something has held, by the clock of whoever looks.

Times that other machines wrote are not compared with ours: a node's clock may be anywhere.
"""

from collections.abc import Hashable
from typing import Final

AGE_MAX_S: Final = 120.0
"""Above every limit that an age is compared with: an age stops here, so that what stands still looks the same."""


class Ages:
    """When each thing was first seen to hold."""

    def __init__(self) -> None:
        self._since: dict[Hashable, float] = {}

    def age_s(self, key: Hashable, now: float, *, holds: bool = True) -> float:
        """Seconds since `key` first held without interruption; 0 when it does not hold."""
        if not holds:
            self._since.pop(key, None)
            return 0.0
        return min(AGE_MAX_S, now - self._since.setdefault(key, now))

    def forget_all_but(self, keys: set[Hashable]) -> None:
        """Keep nothing of what is gone."""
        for key in self._since.keys() - keys:
            del self._since[key]
