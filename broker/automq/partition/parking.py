"""Appends that wait while their partition changes hands: all are made, or all refused, in the order of their arrival.

A partition that is sealed takes none, and mostly has a new owner within a fraction of a second: whoever waits that long
need not look for it meanwhile. The waiting has a bound (`PARKED_S`), the seal has none: when nobody waits any more what
comes is refused at once.
"""

from collections.abc import Callable
from typing import Final

PARKED_S: Final = 0.5
"""For an append to a partition that is sealed here."""
ARRIVING_S: Final = 1.0
"""For one to a partition that is about to be opened here."""
PARKED_MAX: Final = 1_000
"""Requests of one partition: each has memory of the receive account. What comes above is refused."""

Parked = Callable[[bool], None]
"""Called once, in the turn of the decision: with True append now, with False answer that the partition is elsewhere."""


class Parking:
    """Of one partition, from its seal on."""

    def __init__(self) -> None:
        self._parked: dict[Parked, None] = {}
        self._takes = True

    def park(self, parked: Parked) -> bool:
        """Wait; False when nobody does any more, or too many do: refuse it."""
        if not self._takes or len(self._parked) >= PARKED_MAX:
            return False
        self._parked[parked] = None
        return True

    def leave(self, parked: Parked) -> None:
        """It has waited long enough, and is not called any more."""
        self._parked.pop(parked, None)

    def lift(self) -> None:
        """The partition takes appends again."""
        self._end(True)

    def refuse(self) -> None:
        """It is elsewhere, or nobody knows for too long: from now on everything is refused."""
        self._end(False)

    def _end(self, takes: bool) -> None:
        self._takes = False
        parked, self._parked = self._parked, {}
        for each in parked:
            each(takes)
