"""Pure: what a resource that is being deleted still needs before its finalizer may go.

Retain and a deletion that is past its limit are decided from the resource's metadata alone, before anything that can
fail is looked at; see `released`.
"""

from collections.abc import Mapping
from typing import Any

from automq_operator import naming
from automq_operator.cluster import Cluster
from automq_operator.observed import Observed, owned_by
from automq_operator.plan import Apply, DeleteObject, DeletePod, DeletionPlan, Limits, Permits
from automq_operator.planners.lost import is_lost
from automq_operator.resources import erase
from automq_operator.view import View
from automq_operator.wording import data_left_behind, erased, erasing


def released(body: Mapping[str, Any], *, deleting_s: float, limits: Limits) -> DeletionPlan | None:
    """The end of a deletion that needs no look at anything; None when there is something to do first.

    `body` may be of any release and may not parse: a resource that cannot be understood can still be deleted.
    """
    storage = (body.get("spec") or {}).get("storage") or {}
    if storage.get("deletionPolicy") != "Delete":
        return DeletionPlan(done=True)
    if deleting_s <= limits.erase_s:
        return None
    return DeletionPlan(done=True, notes=[data_left_behind(body, after_s=limits.erase_s)])


def plan(cluster: Cluster, observed: Observed, *, limits: Limits, permits: Permits) -> DeletionPlan:
    """Policy Delete: brokers first, then the prefix."""
    if cluster.status.cluster_id is None:
        return DeletionPlan(done=True)
    name = naming.workload(cluster.name)
    live = observed.owned("StatefulSet", name, cluster.uid)
    if live is not None and "deletionTimestamp" not in live["metadata"]:
        # In the foreground: it stays until its pods are gone, so that they can be told by its uid.
        action = DeleteObject(kind="StatefulSet", name=name, uid=live["metadata"]["uid"], foreground=True)
        return DeletionPlan(actions=[action])
    if live is not None or observed.pods:
        view = View(cluster, observed, limits=limits, permits=permits, replicas=cluster.spec.replicas)
        lost = [broker.pod for broker in view.brokers if broker.pod is not None and is_lost(broker, limits)]
        return DeletionPlan(actions=[DeletePod(name=pod.name, uid=pod.uid, force=True) for pod in lost])
    return _erase(cluster, observed)


def _erase(cluster: Cluster, observed: Observed) -> DeletionPlan:
    name = naming.erase_job(cluster.name)
    job = observed.get("Job", name)
    if job is None:
        return DeletionPlan(actions=[Apply(manifest=erase.erase_job(cluster))], notes=[erasing(cluster)])
    if not owned_by(job, cluster.uid):
        return DeletionPlan()  # a stranger's: neither its end nor its failure says anything about our data
    conditions = (job.get("status") or {}).get("conditions") or []
    finished = {item["type"] for item in conditions if item["status"] == "True"}
    if "Complete" in finished:
        return DeletionPlan(done=True, notes=[erased(cluster)])
    if "Failed" in finished:  # tried several times: make it anew until the time is over
        return DeletionPlan(actions=[DeleteObject(kind="Job", name=name, uid=job["metadata"]["uid"])])
    return DeletionPlan()
