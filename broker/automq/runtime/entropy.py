"""Randomness, as a port: nonces, ids and jitter."""

import random
import secrets
import uuid
from typing import Protocol


class Entropy(Protocol):
    """Seeded in simulations, the system's elsewhere."""

    def token(self, size: int) -> bytes:
        """`size` unpredictable bytes: nonces and ids."""
        ...

    def fraction(self) -> float:
        """Uniform in [0, 1): jitter and sampling."""
        ...

    def uuid(self) -> uuid.UUID:
        """A version 4 UUID."""
        ...


class SystemEntropy:
    """The operating system's randomness."""

    def token(self, size: int) -> bytes:
        return secrets.token_bytes(size)

    def fraction(self) -> float:
        return random.random()

    def uuid(self) -> uuid.UUID:
        return uuid.uuid4()


class SeededEntropy:
    """Repeats exactly for one seed."""

    def __init__(self, seed: int | str) -> None:
        self._random = random.Random(seed)

    def token(self, size: int) -> bytes:
        return self._random.randbytes(size)

    def fraction(self) -> float:
        return self._random.random()

    def uuid(self) -> uuid.UUID:
        return uuid.UUID(bytes=self._random.randbytes(16), version=4)
