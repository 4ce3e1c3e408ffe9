"""Tells subscribers that the metadata changed: (old image, new image), in order, once the change is durable.

Subscribers run synchronously, in the order in which they subscribed, and must neither block nor raise; what takes long
they spawn. `image` is already the new one when they run.
"""

from collections.abc import Callable

from automq.metadata.image import EMPTY, MetadataImage

Subscriber = Callable[[MetadataImage, MetadataImage], None]


class MetadataPublisher:
    """Holds the newest durable image of this process."""

    def __init__(self, image: MetadataImage = EMPTY) -> None:
        self._image = image
        self._subscribers: list[Subscriber] = []

    @property
    def image(self) -> MetadataImage:
        """The newest durable image."""
        return self._image

    def subscribe(self, callback: Subscriber) -> Callable[[], None]:
        """Call `callback` after every change from now on; calling the result ends that."""
        self._subscribers.append(callback)

        def unsubscribe() -> None:
            if callback in self._subscribers:
                self._subscribers.remove(callback)

        return unsubscribe

    def publish(self, image: MetadataImage) -> None:
        """`image` is durable. Images never go back."""
        if image is self._image:
            return
        assert image.record_number >= self._image.record_number
        old, self._image = self._image, image
        for subscriber in tuple(self._subscribers):
            subscriber(old, image)
