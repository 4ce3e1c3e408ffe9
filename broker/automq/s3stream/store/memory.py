"""A store in this process's memory, for tests and the simulation: deterministic, and it never waits.

Bodies are copied when they are taken, so that a caller who changes a buffer afterwards changes nothing here.
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Sequence

from automq.s3stream.ports import Buffer, ObjectExists, ObjectInfo, ObjectNotFound, UnfinishedUpload
from automq.s3stream.store.keys import InvalidKey, check_deletable, check_key


class MemoryStore:
    """A map and its sorted keys."""

    def __init__(self, *, now_ms: Callable[[], int] | None = None) -> None:
        """`now_ms` is the store's own clock; without one, nothing is known of when an object was written."""
        self._now_ms = now_ms
        self._modified_ms: dict[str, int] = {}
        self._bodies: dict[str, bytes] = {}
        self._keys: list[str] = []

    async def get(self, key: str) -> bytes:
        try:
            return self._bodies[check_key(key)]
        except KeyError:
            raise ObjectNotFound(f"memory: has no {key}") from None

    async def get_range(self, key: str, start: int, end: int) -> Buffer:
        assert 0 <= start < end
        return memoryview(await self.get(key))[start:end]

    async def put(self, key: str, body: Sequence[Buffer]) -> None:
        self._put(check_key(key), b"".join(body))

    async def create(self, key: str, body: Sequence[Buffer]) -> None:
        if check_key(key) in self._bodies:
            raise ObjectExists(f"memory: already has {key}")
        self._put(key, b"".join(body))

    def place(self, key: str, body: bytes) -> None:
        """Put what no program of ours would: a console's folder marker, an editor's copy."""
        self._put(key, body)

    async def create_bulk(self, key: str, body: Sequence[Buffer]) -> None:
        await self.create(key, body)

    async def delete(self, keys: Sequence[str]) -> None:
        for key in keys:
            self._modified_ms.pop(key, None)
            if self._bodies.pop(check_deletable(key), None) is not None:
                del self._keys[bisect_left(self._keys, key)]

    async def list(self, prefix: str, *, start_after: str = "", limit: int = 1_000_000) -> list[ObjectInfo]:
        first = max(bisect_left(self._keys, prefix), bisect_right(self._keys, start_after))
        found: list[ObjectInfo] = []
        for index in range(first, len(self._keys)):
            key = self._keys[index]
            if len(found) >= limit or not key.startswith(prefix):
                break
            found.append(ObjectInfo(key, len(self._bodies[key]), self._modified_ms.get(key)))
        return found

    async def time_ms(self) -> int | None:
        return self._now_ms() if self._now_ms is not None else None

    async def list_uploads(self, prefix: str) -> Sequence[UnfinishedUpload]:
        return []

    async def abort_uploads(self, uploads: Sequence[UnfinishedUpload]) -> None:
        """There are none."""

    async def close(self) -> None:
        """Nothing to close; the objects stay, as a bucket's do."""

    def _put(self, key: str, body: bytes) -> None:
        if key not in self._bodies:
            self._check_nesting(key)
            insort(self._keys, key)
        self._bodies[key] = body
        if self._now_ms is not None:
            self._modified_ms[key] = self._now_ms()

    def _check_nesting(self, key: str) -> None:
        """No key may be another key plus `/...`: some stores refuse or hide such pairs."""
        following = bisect_left(self._keys, f"{key}/")
        if following < len(self._keys) and self._keys[following].startswith(f"{key}/"):
            raise InvalidKey(f"{key} is a folder of other keys")
        position = key.find("/")
        while position != -1:
            if key[:position] in self._bodies:
                raise InvalidKey(f"{key} lies below the key {key[:position]}")
            position = key.find("/", position + 1)
