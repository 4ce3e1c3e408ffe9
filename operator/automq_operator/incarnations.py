"""Pure: which broker ran in which pod, so that a pod that is gone for good says which incarnation of a broker is.

A pod's uid is never given again, so the incarnation that answered from it can be ended by its epoch without touching
its successor. Held in memory: an operator that begins anew knows of none, and sessions decide as they do without it.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from automq_operator import naming
from automq_operator.observed import GonePod, Pod

GONE_S: Final = 60.0
"""A pod that is gone is remembered so long: by then its broker's session has ended in any case."""


class Incarnations:
    """Of one cluster. Times are the operator's own clock."""

    def __init__(self) -> None:
        self._known: dict[str, GonePod] = {}
        """By uid: what is to be told of each pod once it is gone."""
        self._gone: dict[str, float] = {}
        """uid to the time at which it was found gone."""

    def heard(self, pods: Iterable[Pod]) -> None:
        """Brokers say who they are."""
        for pod in pods:
            epoch = pod.readyz.broker_epoch if pod.readyz is not None else None
            broker = naming.node_id(pod.name)
            if epoch is not None and broker >= 0:
                self._known[pod.uid] = GonePod(pod=pod.name, uid=pod.uid, broker=broker, epoch=epoch)

    def missing(self, pods: Sequence[Pod]) -> list[GonePod]:
        """Known pods that are not among these: that may be a late cache, and is to be asked for."""
        there = {pod.uid for pod in pods}
        return [known for uid, known in self._known.items() if uid not in there and uid not in self._gone]

    def is_gone(self, pod: GonePod, now: float) -> None:
        """The API server says that there is no pod of this uid."""
        self._gone.setdefault(pod.uid, now)

    def forget(self, uid: str) -> None:
        """The cluster knows."""
        self._known.pop(uid, None)
        self._gone.pop(uid, None)

    def gone(self, pods: Sequence[Pod], lost_nodes: frozenset[str], now: float) -> tuple[GonePod, ...]:
        """Those that are gone, and those that are silent on a node whose object is gone. By name and uid."""
        for uid in [uid for uid, since in self._gone.items() if now - since >= GONE_S]:
            self.forget(uid)
        silent = {pod.uid for pod in pods if pod.node in lost_nodes and pod.readyz is None}
        found = [known for uid, known in self._known.items() if uid in self._gone or uid in silent]
        return tuple(sorted(found, key=lambda item: (item.pod, item.uid)))
