"""Pure: what a resource that is being deleted still needs before its finalizer may go.

Retain and a deletion that is past its limit are decided from the resource's metadata alone, before anything that can
fail is looked at; see `released`. With Delete the brokers go first, then a Job empties the prefix. It needs the
resource's UID and no cluster id: a broker may have made the cluster without anybody having heard of it. Where the Job
cannot do its work, what is left is said before the resource is released.
"""

from collections.abc import Mapping
from typing import Any, Final

from automq_operator import naming
from automq_operator.cluster import Cluster
from automq_operator.observed import Observed
from automq_operator.plan import Action, Apply, DeleteObject, DeletePod, DeletionPlan, Finding, Limits, Permits
from automq_operator.planners.lost import is_lost
from automq_operator.reasons import Reason
from automq_operator.resources import erase
from automq_operator.view import View, own_workloads
from automq_operator.wording import data_left_behind, erased, erasing, named

UNHEARD_OF_S: Final = 60.0
"""A cluster that never reported an id has probably written nothing: its deletion waits no longer than this."""
TERMINATING: Final = "because it is being terminated"
"""What the API server says of an object that is to be made in a namespace that is being deleted."""


def limit_s(body: Mapping[str, Any], limits: Limits) -> float:
    """How long this deletion may wait for its prefix to be emptied."""
    known = (body.get("status") or {}).get("clusterId") is not None
    return limits.erase_s if known else min(limits.erase_s, UNHEARD_OF_S)


def released(body: Mapping[str, Any], *, deleting_s: float, limits: Limits) -> DeletionPlan | None:
    """The end of a deletion that needs no look at anything; None when there is something to do first.

    `body` may be of any release and may not parse: a resource that cannot be understood can still be deleted.
    """
    storage = (body.get("spec") or {}).get("storage") or {}
    if storage.get("deletionPolicy") != "Delete":
        return DeletionPlan(done=True)
    if deleting_s <= limit_s(body, limits):
        return None
    return _left(body, f"it was not emptied within {limit_s(body, limits):.0f} s")


def plan(
    cluster: Cluster, observed: Observed, body: Mapping[str, Any], *, limits: Limits, permits: Permits
) -> DeletionPlan:
    """Policy Delete: brokers first, then the prefix."""
    live = [found["metadata"] for found in own_workloads(cluster, observed) if found is not None]
    names = [metadata["name"] for metadata in live]
    # In the foreground: each stays until its pods are gone, so that they can be told by its uid.
    actions = [
        DeleteObject(kind="StatefulSet", name=metadata["name"], uid=metadata["uid"], foreground=True)
        for metadata in live
        if "deletionTimestamp" not in metadata
    ]
    if actions:
        return DeletionPlan(actions=actions, finding=Finding(reason=Reason.STOPPING, about=names))
    if live or observed.pods:
        view = View(cluster, observed, limits=limits, permits=permits, kept=cluster.wanted_by_zone())
        lost = [broker.pod for broker in view.brokers if broker.pod is not None and is_lost(broker, limits)]
        return DeletionPlan(
            actions=[DeletePod(name=pod.name, uid=pod.uid, force=True) for pod in lost],
            finding=Finding(reason=Reason.STOPPING, about=[pod.name for pod in observed.pods] or names),
        )
    return _erase(cluster, observed, body)


def _erase(cluster: Cluster, observed: Observed, body: Mapping[str, Any]) -> DeletionPlan:
    key = ("Job", naming.erase_job(cluster.name, cluster.uid))
    job = observed.get(*key)
    at_work = Finding(reason=Reason.ERASING, about=[cluster.store_uri, named(key)])
    if job is None:
        refusal = observed.refused.get(key)
        if refusal is not None and TERMINATING in refusal.message:
            return _left(body, "its namespace is being deleted, and nothing can be run there any more")
        finding = at_work
        if refusal is not None:
            finding = Finding(reason=Reason.REFUSED, about=[named(key), str(refusal.status), refusal.message])
        return DeletionPlan(
            actions=[Apply(manifest=erase.erase_job(cluster))], notes=[erasing(cluster)], finding=finding
        )
    if not is_ours(job, cluster.uid):
        # A stranger's: neither its end nor its failure says anything about our data.
        return DeletionPlan(finding=Finding(reason=Reason.NAME_CONFLICT, about=[named(key)]))
    conditions = (job.get("status") or {}).get("conditions") or []
    finished = {item["type"]: item for item in conditions if item["status"] == "True"}
    removal = DeleteObject(kind="Job", name=key[1], uid=job["metadata"]["uid"])
    if "Complete" in finished:
        return DeletionPlan(done=True, actions=[removal], notes=[erased(cluster)])
    if "Failed" in finished:
        if finished["Failed"].get("reason") == "PodFailurePolicy":
            words = f"`kubectl logs job/{key[1]}` says why the data were not removed, and trying again cannot help"
            return _left(body, words)
        return DeletionPlan(actions=[removal], finding=at_work)  # it tried several times: make it anew
    account = _account(cluster, observed, job)
    return DeletionPlan(actions=account, notes=[erasing(cluster)], finding=at_work)


def _account(cluster: Cluster, observed: Observed, job: Mapping[str, Any]) -> list[Action]:
    """The Job's pod needs the brokers' account, which goes with the resource when that is deleted in the foreground."""
    wanted = erase.erase_account(cluster, job)
    if wanted is None:
        return []
    live = observed.get("ServiceAccount", wanted["metadata"]["name"])
    references = (live or {"metadata": {}})["metadata"].get("ownerReferences") or []
    if any(reference.get("uid") == job["metadata"]["uid"] for reference in references):
        return []
    if live is not None and not observed.owned("ServiceAccount", wanted["metadata"]["name"], cluster.uid):
        return []  # somebody else's, which pods use all the same
    return [Apply(manifest=wanted)]


def is_ours(live: Mapping[str, Any], uid: str) -> bool:
    """Whether what is nobody's dependent was made for the resource of this uid."""
    return bool((live["metadata"].get("annotations") or {}).get(naming.OWNER_ANNOTATION) == uid)


def _left(body: Mapping[str, Any], why: str) -> DeletionPlan:
    note = data_left_behind(body, why=why)
    return DeletionPlan(done=True, notes=[note], finding=Finding(reason=Reason.DATA_LEFT_BEHIND, about=[note.message]))
