"""Passes of the planner over the double, for tests of planners."""

import dataclasses
from typing import Any

from automq_operator.cluster import Cluster
from automq_operator.plan import DeletePod, Limits, Permits, Plan
from automq_operator.reconcile import reconcile
from tests.support.kubernetes_double import World, a_cluster

LIMITS = Limits()
NOW = "2026-01-01T00:00:00Z"


def one_pass(cluster: Cluster, world: World, permits: Permits | None = None) -> tuple[Cluster, Plan]:
    """Decide, carry out, let Kubernetes do its part."""
    plan = reconcile(cluster, world.observed(), now=NOW, limits=LIMITS, permits=permits)
    for action in plan.actions:
        world.carry_out(action)
    world.settle(cluster)
    return dataclasses.replace(cluster, status=plan.status), plan


def decide(cluster: Cluster, world: World, permits: Permits | None = None) -> Plan:
    """Decide only."""
    return reconcile(cluster, world.observed(), now=NOW, limits=LIMITS, permits=permits)


def converge(cluster: Cluster, world: World, passes: int = 12) -> Cluster:
    """Until nothing is under way."""
    for _ in range(passes):
        before = cluster.status
        cluster, plan = one_pass(cluster, world)
        if plan.converged and not plan.actions and cluster.status == before:
            return cluster
    raise AssertionError(f"not settled after {passes} passes: {plan}")


def changed(cluster: Cluster, **spec: Any) -> Cluster:
    """The same cluster after the user has changed its spec."""
    made = a_cluster(**spec)
    generation = cluster.generation + 1
    return dataclasses.replace(made, status=cluster.status, generation=generation, default_image=cluster.default_image)


def deletions(plan: Plan) -> list[tuple[str, bool]]:
    """(pod, by force)."""
    return [(action.name, action.force) for action in plan.actions if isinstance(action, DeletePod)]


def reasons(cluster: Cluster) -> dict[str, tuple[str, str]]:
    """Condition -> (status, reason)."""
    return {condition.type: (condition.status, condition.reason) for condition in cluster.status.conditions}
