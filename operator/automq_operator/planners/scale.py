"""Pure: how many pods the StatefulSet of each zone keeps, and whether all of them are there.

The only place that decides about shrinking. It takes the drained brokers as its argument: a StatefulSet gives up its
highest ordinals, so it may shrink to just above the highest broker that still has something.
"""

from collections.abc import Sequence, Set
from typing import Final

from automq_operator.cluster import Cluster
from automq_operator.observed import Observed
from automq_operator.plan import Finding, Proposal
from automq_operator.reasons import Reason
from automq_operator.view import Broker, View, own_workloads
from automq_operator.zones import ZONE_IDS, zone_of

MADE_READY: Final = (None, "ContainerCreating", "PodInitializing")
"""What the kubelet says of a container that will run in a moment, if anything."""


def replicas(*, wanted: int, live: int, drained: Set[int]) -> int:
    """What a StatefulSet keeps: at least what is wanted, and every broker, by its place there, that is not drained."""
    kept = live
    while kept > wanted and kept - 1 in drained:
        kept -= 1
    return max(wanted, kept)


def kept(*, wanted: Sequence[int], live: Sequence[int], drained: Set[int]) -> tuple[int, ...]:
    """What the StatefulSet of each zone keeps. `drained` are ids of brokers.

    Nobody is drained where no broker is to stay: each leaves what it has in the bucket, for whoever comes back.
    """
    if not any(wanted):
        return (0,) * len(wanted)
    places = [{node_id % ZONE_IDS for node_id in drained if zone_of(node_id) == zone} for zone in range(len(wanted))]
    return tuple(
        replicas(wanted=count, live=now, drained=gone) for count, now, gone in zip(wanted, live, places, strict=True)
    )


def live_by_zone(cluster: Cluster, observed: Observed) -> tuple[int, ...]:
    """What the live StatefulSet of each zone keeps now; 0 where there is none."""
    found = [(live or {}).get("spec") or {} for live in own_workloads(cluster, observed)]
    return tuple(int(spec.get("replicas") or 0) for spec in found)


def plan(view: View) -> Proposal:
    """Reports brokers that are missing or on their way, and all when they are to end."""
    wanted = view.cluster.spec.replicas
    surplus = [broker.name for broker in view.brokers if broker.id not in view.wanted_ids]
    if surplus and wanted == 0:
        return Proposal(findings=[Finding(reason=Reason.STOPPING, about=surplus)])
    coming = [item.name for item in view.wanted if _is_coming(item, view)]
    if coming and view.workload is not None:
        return Proposal(findings=[Finding(reason=Reason.STARTING, about=coming)])
    return Proposal()


def _is_coming(broker: Broker, view: View) -> bool:
    """It has no pod, or a new one that does not serve yet; not for ever, as Ready says what keeps it."""
    if broker.pod is None or broker.pod.deleting:
        return True
    is_on_its_way = broker.pod.waiting_reason in MADE_READY
    return not broker.serving and is_on_its_way and broker.pod.seen_s < view.limits.started_s
