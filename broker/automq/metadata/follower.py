"""Following the metadata log: what others append shows in the image here, in order; nothing is written.

Where the controller answers, it is asked first: it has what comes next as soon as that is durable. A follower that it
has nothing for, because it is far behind, reads the bucket. A look there costs one small read while nothing comes. Now
and then it is a whole one, by the loader's rules: it finds higher claims, fences, and that slots were trimmed which
were not read yet; then the newest snapshot is loaded, and subscribers are given one change for all that happened. A
store that cannot be read only makes the image older.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Final

from automq.metadata.loader import Loaded, LogLoader
from automq.metadata.log_format import LogPosition
from automq.metadata.publisher import MetadataPublisher
from automq.runtime.clock import Clock

LOOK_INTERVAL_S: Final = 1.0
WHOLE_LOOK_INTERVAL_S: Final = 10.0
"""Some listings: what a change of the controller takes to show when nobody tells of it."""


class NotAnswered(Exception):
    """The controller does not answer, or has not what comes next: read the bucket."""


SlotBytes = tuple[LogPosition, bytes]
AskForSlots = Callable[[int], Awaitable[Sequence[SlotBytes]]]
"""Slots behind so many records, as soon as there are any; none when there were none for a while. Raises NotAnswered."""


class LogFollower:
    """One of a broker; `loader` is its own."""

    def __init__(
        self,
        *,
        loader: LogLoader,
        publisher: MetadataPublisher,
        clock: Clock,
        interval_s: float = LOOK_INTERVAL_S,
        ask: AskForSlots | None = None,
        on_read: Callable[[float], None] = lambda _began: None,
    ) -> None:
        """`on_read` is called with the `boottime` in seconds at which a whole read began that the image includes."""
        self._on_read = on_read
        self._ask = ask
        self._loader = loader
        self._publisher = publisher
        self._clock = clock
        self._interval_s = interval_s
        self._loaded: Loaded | None = None
        self._next_bucket_poll_at = self._bucket_polled_at = 0.0
        self._notified = asyncio.Event()

    def notify(self) -> None:
        """There is something new: look at once."""
        self._notified.set()

    async def run(self, known: Loaded) -> None:
        """Follow from what was read last, for ever. Raises StoreDamaged, FormatTooNew: nothing may be served then."""
        self._loaded = known
        self._next_bucket_poll_at = self._bucket_polled_at = self._clock.monotonic()
        self._publisher.replace(known.image)
        while True:
            if await self._follow_controller():
                continue
            before = self._publisher.image.record_number
            # Rule: where nobody answers as the controller, whole looks show that this broker is not fenced.
            if self._ask is not None:
                self._next_bucket_poll_at = min(self._next_bucket_poll_at, self._bucket_polled_at + self._interval_s)
            await self.poll()
            if self._ask is not None and self._publisher.image.record_number > before:
                # Now the controller may have what comes next.
                continue
            try:
                async with asyncio.timeout(self._interval_s):
                    await self._notified.wait()
            except TimeoutError:
                pass

    @property
    def known(self) -> Loaded:
        """What was read last."""
        return self._known()

    async def _follow_controller(self) -> bool:
        """Whether the controller has answered, and all that it had is published."""
        if self._ask is None:
            return False
        try:
            slots = await self._ask(self._known().image.record_number)
        except NotAnswered:
            return False
        for position, body in slots:
            loaded = await self._loader.apply(self._known(), position, body)
            if loaded is None:
                return False
            self._publish(loaded)
        return True

    async def poll(self) -> None:
        """Publish what has come. Raises StoreDamaged, FormatTooNew."""
        # Before the look: who tells of something during it makes another one.
        self._notified.clear()
        while True:
            known = self._known()
            loaded = await self._loader.read_next(known)
            if loaded is known:
                break
            if loaded is not None:
                self._publish(loaded)
                continue
            await self._poll_bucket()
            if self._known().resume == known.resume:
                break
        if self._clock.monotonic() >= self._next_bucket_poll_at:
            await self._poll_bucket()

    async def _poll_bucket(self) -> None:
        """By all the rules of loading."""
        began = self._clock.boottime()
        loaded = await self._loader.read_on(self._known())
        self._bucket_polled_at = self._clock.monotonic()
        self._next_bucket_poll_at = self._bucket_polled_at + WHOLE_LOOK_INTERVAL_S
        self._publish(loaded)
        if self._publisher.image.record_number >= loaded.image.record_number:
            self._on_read(began)

    def _publish(self, loaded: Loaded) -> None:
        if loaded.image.record_number > self._publisher.image.record_number:
            if loaded.change is not None and loaded.change.old is self._publisher.image:
                self._publisher.publish(loaded.change)
            else:
                self._publisher.replace(loaded.image)
        if loaded.image.record_number == self._publisher.image.record_number:
            # The very image that was published: what comes next is a change of that.
            self._loaded = replace(loaded, image=self._publisher.image, change=None)

    def _known(self) -> Loaded:
        assert self._loaded is not None
        return self._loaded
