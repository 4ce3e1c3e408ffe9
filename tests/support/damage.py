"""A bucket that things happen to while nobody looks: keys vanish, bits flip, ends are cut off, strangers leave files.

All of it is done to what lies in the bucket, not to an operation: for those, see `tests.support.faults`.
"""

from bisect import bisect_left, insort

from automq.s3stream.store.memory import MemoryStore


class Bucket(MemoryStore):
    """The store of a simulation, and what may become of it."""

    def find(self, part: str = "") -> list[str]:
        """Keys that contain `part`, in byte order."""
        return [key for key in self._keys if part in key]

    def body(self, key: str) -> bytes:
        """What lies there, without asking as a client would. Raises KeyError."""
        return self._bodies[key]

    def place(self, key: str, body: bytes) -> None:
        """Something lies at `key` from now on, whatever was there before, and whoever would take such a key."""
        if key not in self._bodies:
            insort(self._keys, key)
        self._bodies[key] = body
        if self._now_ms is not None:
            self._modified_ms[key] = self._now_ms()

    def vanish(self, key: str) -> bytes:
        """`key` is gone, and nobody deleted it; what lay there. Raises KeyError."""
        self._modified_ms.pop(key, None)
        del self._keys[bisect_left(self._keys, key)]
        return self._bodies.pop(key)

    def vanish_all(self, part: str = "") -> dict[str, bytes]:
        """All keys containing `part` are gone: a folder was removed, a prefix emptied, a bucket made anew."""
        return {key: self.vanish(key) for key in self.find(part)}

    def flip(self, key: str, at: int, *, bit: int = 0) -> None:
        """One bit of the byte at `at` (from the end, if negative) is another."""
        body = bytearray(self._bodies[key])
        body[at] ^= 1 << bit
        self._bodies[key] = bytes(body)

    def cut(self, key: str, size: int) -> None:
        """Only the first `size` bytes are left."""
        self._bodies[key] = self._bodies[key][:size]
