"""Pure: which brokers a cluster has. Over zones they are spread evenly, one StatefulSet each, with ids of their own.

The id of a broker says its zone, so that nothing has to be remembered about it: those of zone 2 are 2000, 2001 and so
on, and its pods have them as ordinals. A cluster without zones is one that has one zone.
"""

from collections.abc import Sequence
from typing import Final

ZONE_IDS: Final = 1000
"""Ids that each zone has; more than a cluster may have brokers."""


def zone_of(node_id: int) -> int:
    """Index of the zone of a broker."""
    return node_id // ZONE_IDS


def counts(replicas: int, zones: int) -> tuple[int, ...]:
    """Brokers of each zone: those that come first have one more where it is not even."""
    return tuple((replicas + zones - 1 - zone) // zones for zone in range(zones))


def ids(by_zone: Sequence[int]) -> frozenset[int]:
    """Of all brokers, from how many each zone has."""
    return frozenset(zone * ZONE_IDS + place for zone, count in enumerate(by_zone) for place in range(count))
