"""Tells subscribers what of the metadata changed, in order, once the change is durable.

Whoever follows names the aspects it cares for and is not called for any other change: a record costs what it touched,
however large the cluster is. Subscribers run synchronously, in the order in which they subscribed, and must neither
block nor raise; what takes long they spawn. `image` is already the new one when they run.

Whoever changed something elsewhere reads its own write once `wait` has returned.
"""

import asyncio
import heapq
import itertools
from collections.abc import Callable, Collection

from automq.metadata.change import Aspect, MetadataChange
from automq.metadata.image import EMPTY, MetadataImage

Subscriber = Callable[[MetadataChange], None]


class MetadataPublisher:
    """Holds the newest durable image of this process."""

    def __init__(self, image: MetadataImage = EMPTY) -> None:
        self._image = image
        self._subscribers: list[tuple[Subscriber, Collection[Aspect] | None]] = []
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        """A heap: record number, order of arrival."""
        self._arrivals = itertools.count()

    @property
    def image(self) -> MetadataImage:
        """The newest durable image."""
        return self._image

    def subscribe(self, callback: Subscriber, *, to: Collection[Aspect] | None = None) -> Callable[[], None]:
        """Call `callback` after every change of these aspects, or of anything, from now on.

        Calling the result ends that.
        """
        subscription = (callback, to)
        self._subscribers.append(subscription)

        def unsubscribe() -> None:
            if subscription in self._subscribers:
                self._subscribers.remove(subscription)

        return unsubscribe

    async def wait(self, record_number: int) -> None:
        """Return once `image` includes so many records, and every subscriber was told; at once when it does."""
        if self._image.record_number >= record_number:
            return
        reached: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (record_number, next(self._arrivals), reached))
        await reached

    def publish(self, change: MetadataChange) -> None:
        """`change.new` is durable. Changes follow one another without a gap."""
        assert change.old is self._image
        assert change.new.record_number >= self._image.record_number
        self._image = change.new
        for callback, aspects in tuple(self._subscribers):
            if aspects is None or change.touches(aspects):
                callback(change)
        while self._waiting and self._waiting[0][0] <= self._image.record_number:
            reached = heapq.heappop(self._waiting)[2]
            if not reached.done():
                reached.set_result(None)

    def replace(self, image: MetadataImage) -> None:
        """`image` is durable, and what led to it is not known one by one. Images never go back."""
        if image is not self._image:
            self.publish(MetadataChange.between(self._image, image))
