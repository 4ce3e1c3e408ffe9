"""How long to wait before trying again: exponential, with full jitter, bounded."""

from automq.runtime.entropy import Entropy


class Backoff:
    """Delays grow from `first_s` by doubling to `max_s`; each is drawn from its upper half."""

    def __init__(self, *, entropy: Entropy, first_s: float = 0.1, max_s: float = 10.0) -> None:
        assert 0 < first_s <= max_s
        self._entropy = entropy
        self._first_s = first_s
        self._max_s = max_s
        self._attempts = 0

    @property
    def attempts(self) -> int:
        """Delays handed out since the last success."""
        return self._attempts

    def next_s(self) -> float:
        """The next delay in seconds."""
        ceiling = min(self._max_s, self._first_s * 2.0 ** min(self._attempts, 30))
        self._attempts += 1
        return ceiling * (0.5 + 0.5 * self._entropy.fraction())

    def reset(self) -> None:
        """Something succeeded: start small again."""
        self._attempts = 0
