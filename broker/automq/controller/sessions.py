"""Pure: which brokers the controller has heard of lately. Seconds are of any clock that does not go back.

A session ages only while the controller's own loop runs: after a turn or a pause that took too long, what arrived
meanwhile may still lie in the sockets, so everybody begins anew. Where more than half of the sessions expire
together the controller is likelier to be the one that is cut off: it proves that it leads, and waits one more session.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from automq.ids import BrokerEpoch, NodeId

Incarnation = tuple[NodeId, BrokerEpoch]

PAUSE_S_MAX: Final = 0.5
"""A loop that was away for longer may have messages of everybody to read."""
TOGETHER_S: Final = 1.0
"""Sessions that expire within so long expire together."""
HEARTBEAT_S_MAX: Final = 1.0
"""How often a broker says that it is there, at least."""
BEATS: Final = 4
"""Heartbeats in a session: three of them fit before its end, so that two may be lost."""


def heartbeat_interval_s(session_s: float) -> float:
    """How often to say that one is there where a session lasts so long."""
    return min(HEARTBEAT_S_MAX, session_s / BEATS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a look at the sessions found."""

    expired: Sequence[Incarnation] = ()
    """To be fenced."""
    is_proof_needed: bool = False
    """Too many are silent: prove that this controller leads, and call `proved`."""


SILENT: Final = Verdict()


class Sessions:
    """Of one claim. `own` is the controller's own node: it lives as long as anybody looks here."""

    def __init__(self, *, session_s: float, own: NodeId, now: float) -> None:
        self._session_s = session_s
        self._own = own
        self._looked = now
        self._heartbeat_at: dict[Incarnation, float] = {}
        self._proved: set[Incarnation] = set()
        """Silent when the controller proved that it leads: their one more session is running."""

    @property
    def count(self) -> int:
        """Brokers that are expected to be heard of."""
        return len(self._heartbeat_at)

    def follow(self, brokers: Iterable[Incarnation], now: float) -> None:
        """These are registered and not fenced: who is new gets a whole session."""
        wanted = [key for key in brokers if key[0] != self._own]
        for key in [key for key in self._heartbeat_at if key not in wanted]:
            del self._heartbeat_at[key]
            self._proved.discard(key)
        for key in wanted:
            self._heartbeat_at.setdefault(key, now)

    def hear(self, key: Incarnation, now: float) -> None:
        """A heartbeat has arrived. Of an incarnation that is not expected it says nothing."""
        if key in self._heartbeat_at:
            self._heartbeat_at[key] = now
            self._proved.discard(key)

    def is_alive_since(self, key: Incarnation, since: float) -> bool:
        """Whether a heartbeat has arrived since then."""
        return self._heartbeat_at.get(key, since) > since

    def tick(self, now: float) -> None:
        """To be called often. Rule: time in which the loop did not run ages nobody."""
        if now - self._looked > PAUSE_S_MAX:
            self._begin_anew(self._heartbeat_at, now)
        self._looked = now

    def verdict(self) -> Verdict:
        """To be called some turns behind `tick`, so that what the sockets hold is read."""
        late = [key for key in sorted(self._heartbeat_at) if self._silent_s(key) >= self._session_s]
        if not late:
            return SILENT
        if self._is_mass(late):
            return Verdict(is_proof_needed=True)
        return Verdict(expired=late)

    def proved(self, now: float) -> None:
        """This controller leads, by a look at the log that began after `verdict`. Rule: one more whole session."""
        silent = [key for key in self._heartbeat_at if self._silent_s(key) >= self._session_s - TOGETHER_S]
        self._begin_anew(silent, now)
        self._proved.update(silent)

    def _silent_s(self, key: Incarnation) -> float:
        return self._looked - self._heartbeat_at[key]

    def _is_mass(self, late: Collection[Incarnation]) -> bool:
        """Rule: more than half within a second, the controller's own broker counted, and not proved yet."""
        if self._proved.issuperset(late):
            return False
        silent = [key for key in self._heartbeat_at if self._silent_s(key) >= self._session_s - TOGETHER_S]
        return 2 * len(silent) > len(self._heartbeat_at) + 1

    def _begin_anew(self, keys: Iterable[Incarnation], now: float) -> None:
        for key in list(keys):
            self._heartbeat_at[key] = now
