"""Store operations that are tried until they succeed: an outage of any length is waited out, never a reason to give up.

Only for what may be repeated: reads, listings, overwrites of one's own keys, deletes. Creating a key exactly once is
`s3stream.store.conditional`.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from automq.runtime.backoff import Backoff
from automq.runtime.entropy import Entropy
from automq.s3stream.ports import ObjectNotFound, StoreError

T = TypeVar("T")

OnStore = Callable[[StoreError | None], None]
"""Told of every failure of the store, and with None when it works again."""


class Patience:
    """Tries again with backoff. Cancel to give up."""

    def __init__(self, *, entropy: Entropy, on_store: OnStore) -> None:
        self._entropy = entropy
        self.on_store = on_store

    async def retry_forever(self, operation: Callable[[], Awaitable[T]]) -> T:
        """The result of `operation`. Raises ObjectNotFound, which is an answer, and whatever is no StoreError."""
        backoff = Backoff(entropy=self._entropy)
        while True:
            try:
                result = await operation()
            except ObjectNotFound:
                self._healed(backoff)
                raise
            except StoreError as error:
                self.on_store(error)
                await asyncio.sleep(backoff.next_s())
            else:
                self._healed(backoff)
                return result

    def _healed(self, backoff: Backoff) -> None:
        if backoff.attempts:
            self.on_store(None)
