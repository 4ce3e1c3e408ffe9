"""Pure: what the operator allows one cluster with regard to all others.

Two things that would be harmless to one cluster are not to many at once. An upgraded operator renders other pods: then
clusters are moved one at a time, well ones first, each after the one before it has been well for a while, so that a bad
image stops at the first. And brokers are replaced by force only a few at a time: what looks like many lost nodes may be
one lost network.
"""

from dataclasses import dataclass
from typing import Final

from automq_operator.plan import Permits, Plan

Key = tuple[str, str]
"""(namespace, name)."""

WELL_S: Final = 60.0
"""A cluster that was moved must be well for so long before the next is. An operator that has just begun to lead has
seen nothing yet and waits as long."""
REPLACED_MAX: Final = 3
"""Clusters in which a broker is being replaced by force at the same time."""
REPLACED_S: Final = 60.0
"""A replacement counts until its cluster is well, at most for so long."""


@dataclass(slots=True)
class _Member:
    pending: bool = False
    well_since: float | None = None
    moved: bool = False
    """It was moved to this release: whether it is well decides about the next."""
    moving_since: float | None = None
    replacing_since: float | None = None
    reported: bool = False


class Fleet:
    """All clusters of this operator. Fed by passes, asked before each; times are the operator's own clock."""

    def __init__(self, *, default_image: str, now: float) -> None:
        self._default_image, self._began_at = default_image, now
        self._members: dict[Key, _Member] = {}

    def join(self, key: Key) -> None:
        """A cluster is there; nobody is moved before it has been looked at once."""
        self._members.setdefault(key, _Member())

    def leave(self, key: Key) -> None:
        """A cluster is gone."""
        self._members.pop(key, None)

    def permits(self, key: Key, now: float) -> Permits:
        """What the next pass over this cluster may do."""
        self.join(key)
        waits_for = self._waits_for(key, now)
        return Permits(
            may_move=waits_for is None,
            waits_for=waits_for if waits_for is None else (waits_for or None),
            may_replace=self._replacing(key, now) < REPLACED_MAX,
        )

    def failed(self, key: Key) -> None:
        """Nothing could be decided about a cluster: it is not well, and nobody waits for its first report."""
        if key in self._members:
            self._members[key].reported, self._members[key].well_since = True, None

    def report(self, key: Key, plan: Plan, permits: Permits, *, replaced: bool, now: float) -> None:
        """What a pass found and did. `replaced`: it deleted a pod by force."""
        self.join(key)
        member = self._members[key]
        member.reported = True
        if plan.pending and permits.may_move and member.moving_since is None:
            member.moving_since, member.well_since = now, None
        member.pending = plan.pending and member.moving_since is None
        member.moved = plan.moved_by == self._default_image and plan.status.phase != "Paused"
        if not plan.well:
            member.well_since = None
        elif member.well_since is None:
            member.well_since = now
        if member.moving_since is not None and self._well(member, now):
            member.moving_since = None
        if replaced:
            member.replacing_since = now
        elif plan.well:
            member.replacing_since = None

    def _well(self, member: _Member, now: float) -> bool:
        return member.well_since is not None and now - member.well_since >= WELL_S

    def _waits_for(self, key: Key, now: float) -> str | None:
        """None when it is this cluster's turn; the name of the cluster before it, "" when that is nobody."""
        mine = self._members[key]
        if mine.moving_since is not None:
            return None
        if not mine.pending:
            return ""  # most clusters, most of the time: nothing below is worked out for them
        if now - self._began_at < WELL_S or not all(member.reported for member in self._members.values()):
            return ""
        for other, member in sorted(self._members.items()):
            was_moved = member.moved or member.moving_since is not None
            if other != key and was_moved and not self._well(member, now):
                return "/".join(other)
        first = min(
            (item for item in self._members.items() if item[1].pending),
            key=lambda item: (item[1].well_since is None, item[0]),
        )[0]
        return None if first == key else "/".join(first)

    def _replacing(self, key: Key, now: float) -> int:
        return sum(
            other != key and member.replacing_since is not None and now - member.replacing_since < REPLACED_S
            for other, member in self._members.items()
        )
