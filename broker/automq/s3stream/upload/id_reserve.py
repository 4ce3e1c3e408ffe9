"""Ids of objects, prepared ahead: a broker that uploads often asks its controller once for several uploads.

As many more are asked for as were used lately, so that one that uploads seldom asks for none that it does not use. An
id is kept for a small part of the time after which the controller gives it up; what is not used by then is left to
that.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Final

from automq.ids import ObjectId
from automq.s3stream.ports import ObjectManager

# An upload has nearly all of the hour that the controller keeps an id for.
KEPT_S: Final = 300.0
AHEAD_MAX: Final = 16


class IdReserve:
    """Gives each id once."""

    def __init__(self, objects: ObjectManager) -> None:
        self._objects = objects
        self._ready: deque[tuple[float, ObjectId]] = deque()
        self._used: deque[float] = deque(maxlen=AHEAD_MAX)
        """When the newest ids were taken."""

    async def take(self, count: int) -> Sequence[ObjectId]:
        """Fresh ids, in order. Raises as `ObjectManager.prepare`."""
        now = asyncio.get_running_loop().time()
        while self._ready and self._ready[0][0] <= now - KEPT_S:
            self._ready.popleft()
        while self._used and self._used[0] <= now - KEPT_S:
            self._used.popleft()
        if len(self._ready) < count:
            prepared = await self._objects.prepare(count + len(self._used))
            self._ready.extend((now, object_id) for object_id in prepared)
        # No await from here on: whoever asks at the same time gets others.
        self._used.extend([now] * count)
        return [self._ready.popleft()[1] for _ in range(count)]

    def forget(self) -> None:
        """One was refused: the others are as old, and an upload under each of them would be in vain."""
        self._ready.clear()
