"""What may be wrong with the store for a while, in the worlds of one broker and of several."""

import random

from automq.s3stream.ports import (
    BucketNotFound,
    StoreAccessDenied,
    StoreCredentialsRejected,
    StoreUnavailable,
)
from tests.support.cluster import Cluster
from tests.support.faults import FaultRates

PARTS = ("", "", "/wal/", "/meta/", "/data/", "/meta/lease")
OPERATIONS = ("get", "get_range", "list", "create", "create_bulk", "put", "delete")
ANSWERS = (StoreUnavailable, StoreAccessDenied, StoreCredentialsRejected, BucketNotFound)


class StoreFaults:
    """Faults that end by themselves."""

    def __init__(self, cluster: Cluster, dice: random.Random) -> None:
        self._cluster, self._dice = cluster, dice

    async def outage(self) -> None:
        """It answers nobody."""
        part = self._dice.choice(PARTS)
        seconds = self._dice.choice((0.5, 3.0, 10.0)) * self._dice.uniform(0.5, 1.5)
        self._cluster.fault(f"store outage of {part or 'everything'} for {seconds:.1f} s")
        self._cluster.store.outage(seconds, part=part)

    async def outage_of_some_operations(self) -> None:
        """A right was taken away, a disk is full, a proxy refuses a method: the rest works."""
        dice = self._dice
        names = dice.sample(OPERATIONS, dice.randint(1, 3))
        part, seconds = dice.choice(PARTS), dice.choice((1.0, 4.0, 12.0)) * dice.uniform(0.5, 1.5)
        error = dice.choice(ANSWERS)
        self._cluster.fault(
            f"{error.__name__} to {', '.join(sorted(names))} of {part or 'everything'} for {seconds:.1f} s"
        )
        self._cluster.store.outage(seconds, part=part, names=names, error=error)

    async def flaky_store(self) -> None:
        """Throttled, slow, forgetful."""
        dice = self._dice
        seconds, rate = dice.uniform(2, 12), dice.choice((0.02, 0.1, 0.3))
        self._cluster.fault(f"flaky store for {seconds:.1f} s")
        names = ("refused", "lost", "late", "conflict", "slow", "twice", "repeated", "cut")
        self._cluster.store.rates = FaultRates(**{name: rate * dice.random() for name in names})
        self._cluster.loop.call_later(seconds, self._calm)

    def _calm(self) -> None:
        self._cluster.store.rates = FaultRates()
