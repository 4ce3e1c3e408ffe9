"""Pure: which of a store's abilities fail, since when, and how that shows. Takes `now`; monotonic seconds throughout.

A store is not up or down: it may read and take no write, or do everything but delete. So each ability has a record of
its own. It fails from its first failure (or from a request that gets no answer) until a success *of its own*; no other
ability's success says anything about it. A failure that nobody has repeated for a minute, because nobody uses the
ability any more, is forgotten: nothing is known then, and nothing is said.
"""

import enum
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from automq.s3stream.ports import StoreConflict, StoreError, StoreUnavailable
from automq.server.lifecycle.refusals import reason_of
from automq.server.lifecycle.states import Reason


class Ability(enum.Enum):
    """What a store is asked to do; the worst to lose first: that is the order in which they are told."""

    CREATE = "create"
    """Nothing is acknowledged without it."""
    GET = "get"
    """Nothing that is not in memory is read without it, and a fence is not noticed."""
    PUT = "put"
    """Uploads and the lease."""
    LIST = "list"
    DELETE = "delete"


READINESS: Final = frozenset({Ability.CREATE, Ability.GET})
"""Without one of these a broker is not ready; what else fails is told and counted."""

FAILING_S: Final = 10.0
"""While serving, one failed request is nothing: clients see retries only. After so long somebody should look."""
FORGOTTEN_S: Final = 60.0
"""After so long without any request a failure is forgotten. What matters is asked again far more often."""
SHOWN_AFTER_S: Final = 1.0
"""A failure that a retry has mended by then has no log line."""
NO_ANSWER_S: Final[Mapping[Ability, float]] = {
    Ability.CREATE: 10.0,
    Ability.GET: 10.0,
    # Many requests in one call: pieces of an object, pages of a listing, batches of keys.
    Ability.PUT: 60.0,
    Ability.LIST: 60.0,
    Ability.DELETE: 60.0,
}
"""A request that waits for so long has failed as far as anybody can tell."""


@dataclass(slots=True)
class Outage:
    """One ability that fails, from its first failure to its next success."""

    ability: Ability
    since: float
    error: StoreError
    reason: Reason
    reason_seen: float
    """When an error last had this reason."""
    used: float
    """When a request last failed."""
    is_logged: bool = False

    def lasted_s(self, now: float) -> float:
        """Seconds since its first failure."""
        return now - self.since

    def add(self, error: StoreError, now: float) -> None:
        """Another failure. A reason is not replaced by a vaguer one while it is still seen: that would flicker."""
        reason = reason_of(error)
        self.used = now
        if (
            reason is self.reason
            or self.reason is Reason.STORE_UNREACHABLE
            or (reason is not Reason.STORE_UNREACHABLE or now - self.reason_seen > FAILING_S)
        ):
            self.error, self.reason, self.reason_seen = error, reason, now


@dataclass(slots=True, eq=False)
class Request:
    """One request on its way."""

    ability: Ability
    since: float


@dataclass(slots=True)
class Abilities:
    """What the outcomes of all requests so far say about the store."""

    outages: dict[Ability, Outage] = field(default_factory=dict)
    _worked: dict[Ability, float] = field(default_factory=lambda: dict.fromkeys(Ability, float("-inf")))
    """When each last succeeded."""
    _in_flight: dict[Ability, dict[Request, None]] = field(default_factory=lambda: {ability: {} for ability in Ability})
    """Oldest first."""

    def began(self, ability: Ability, now: float) -> Request:
        """A request leaves."""
        request = Request(ability, now)
        self._in_flight[ability][request] = None
        return request

    def dropped(self, request: Request) -> None:
        """Whoever asked does not wait for the outcome any more. Idempotent."""
        self._in_flight[request.ability].pop(request, None)

    def succeeded(self, request: Request, now: float) -> Outage | None:
        """An answer, such as "not found" is. Returns the outage that this ends."""
        self.dropped(request)
        self._worked[request.ability] = now
        return self.outages.pop(request.ability, None)

    def failed(self, request: Request, error: StoreError, now: float) -> None:
        """A failure, or an answer that nothing was done."""
        self.dropped(request)
        self._fail(request.ability, error, since=now, now=now)

    def check(self, now: float) -> Sequence[Outage]:
        """To be called about once a second: notices requests without an answer. Returns outages that are forgotten."""
        for ability, requests in self._in_flight.items():
            oldest = next(iter(requests), None)
            if oldest is None:
                continue
            silent_since = max(oldest.since, self._worked[ability])
            if now - silent_since >= NO_ANSWER_S[ability]:
                error = StoreUnavailable(f"no answer to a {ability.value} for {NO_ANSWER_S[ability]:.0f} s")
                self._fail(ability, error, since=silent_since, now=now)
        forgotten = [
            outage
            for ability, outage in self.outages.items()
            if not self._in_flight[ability] and now - outage.used >= FORGOTTEN_S
        ]
        for outage in forgotten:
            del self.outages[outage.ability]
        return forgotten

    def blocking(self, now: float) -> Outage | None:
        """While a broker starts everything has to work: the worst outage, at once."""
        return _worst(
            outage
            for outage in self.outages.values()
            # A 409 is the store at work on the same key; only when it does not end it is trouble.
            if not isinstance(outage.error, StoreConflict) or outage.lasted_s(now) >= FAILING_S
        )

    def lasting(self, now: float) -> Outage | None:
        """While a broker serves: the worst outage that has lasted."""
        return _worst(outage for outage in self.outages.values() if outage.lasted_s(now) >= FAILING_S)

    def is_ready(self, now: float) -> bool:
        """Whether nothing has failed for long without which a broker is of no use."""
        return not any(
            outage.ability in READINESS and outage.lasted_s(now) >= FAILING_S for outage in self.outages.values()
        )

    def _fail(self, ability: Ability, error: StoreError, *, since: float, now: float) -> None:
        outage = self.outages.get(ability)
        if outage is None:
            self.outages[ability] = Outage(ability, since, error, reason_of(error), reason_seen=now, used=now)
        else:
            outage.add(error, now)


_RANKS: Final = {ability: rank for rank, ability in enumerate(Ability)}


def _worst(outages: Iterable[Outage]) -> Outage | None:
    return min(outages, key=lambda outage: _RANKS[outage.ability], default=None)
