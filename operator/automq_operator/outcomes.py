"""Pure: what became of the actions of earlier passes. The next pass decides with it, and reports it."""

from collections.abc import Set
from dataclasses import dataclass
from typing import Final

from automq_operator.observed import ObjectKey, Refusal

REFUSED_FIRST_S: Final = 5.0
REFUSED_MAX_S: Final = 300.0
"""What the API server refuses it goes on to refuse, until a person, a quota or a policy changes."""
PASSING_FIRST_S: Final = 1.0
PASSING_MAX_S: Final = 30.0
PASSING_TOLD_AFTER: Final = 3
"""A conflict or a busy API server is news only when it lasts."""


@dataclass(slots=True)
class _Failure:
    refusal: Refusal
    passing: bool
    failures: int
    next_at: float


class Outcomes:
    """Of one cluster, by object. Times are the operator's own clock."""

    def __init__(self) -> None:
        self._failures: dict[ObjectKey, _Failure] = {}

    def failed(
        self,
        key: ObjectKey,
        *,
        digest: str,
        status: int,
        message: str,
        passing: bool,
        now: float,
        retry_after_s: float | None = None,
    ) -> None:
        """An action was not carried out."""
        before = self._failures.get(key)
        again = before is not None and before.refusal.digest == digest
        failures = before.failures + 1 if before is not None and again else 1
        first, longest = (PASSING_FIRST_S, PASSING_MAX_S) if passing else (REFUSED_FIRST_S, REFUSED_MAX_S)
        delay = max(min(longest, first * 2 ** min(failures - 1, 10)), retry_after_s or 0.0)
        refusal = Refusal(status=status, message=message, digest=digest)
        self._failures[key] = _Failure(refusal, passing, failures, now + delay)

    def done(self, key: ObjectKey) -> None:
        """An action was carried out."""
        self._failures.pop(key, None)

    def keep(self, wanted: Set[ObjectKey]) -> None:
        """Forget failures of what nobody wants to do any more."""
        for key in self._failures.keys() - wanted:
            del self._failures[key]

    def refused(self, now: float) -> dict[ObjectKey, Refusal]:
        """What still stands."""
        return {
            key: Refusal(
                status=failure.refusal.status,
                message=failure.refusal.message,
                digest=failure.refusal.digest,
                due=now >= failure.next_at,
            )
            for key, failure in self._failures.items()
            if not failure.passing or failure.failures >= PASSING_TOLD_AFTER
        }

    def next_s(self, now: float) -> float | None:
        """Seconds until the first may be tried again; None when nothing failed."""
        return max(0.0, min(item.next_at for item in self._failures.values()) - now) if self._failures else None
