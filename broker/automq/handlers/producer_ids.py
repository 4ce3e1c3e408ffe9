"""Producer ids of this broker: blocks from the controller, given out one by one."""

from collections.abc import Awaitable, Callable
from typing import Final

from automq.controller.model import ProducerIdBlock

BLOCK: Final = 1000
"""Ids to a block: one metadata record for a thousand producers, and a restart wastes no more."""


class ProducerIds:
    """Gives out ids that nobody else ever gets."""

    def __init__(self, allocate: Callable[[int], Awaitable[ProducerIdBlock]]) -> None:
        self._allocate = allocate
        self._next = 0
        self._end = 0

    async def take(self) -> int:
        """A fresh id. Raises what the controller raises."""
        while self._next == self._end:
            # Two callers may both ask: the second block replaces what is left of the first, which costs ids only.
            block = await self._allocate(BLOCK)
            self._next, self._end = block.first, block.first + block.count
        self._next += 1
        return self._next - 1
