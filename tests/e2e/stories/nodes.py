"""Nodes that are lost, and nodes that only the API server has lost."""

import time

from tests.e2e import faults
from tests.e2e.environment import StepFailed, wait_for
from tests.e2e.story import Figure
from tests.e2e.world import World


def frozen_node_is_replaced_and_its_zombie_is_fenced(world: World) -> Figure:
    return Figure(faults.lost_node(world, "demo", "frozen", "freeze", "thaw"), 60, "frozen to Ready elsewhere")


def cut_node_is_replaced(world: World) -> Figure:
    return Figure(faults.lost_node(world, "demo", "cut", "cut", "join"), 60, "cut to Ready elsewhere")


def most_nodes_frozen_is_no_reason_to_replace_anything(world: World) -> Figure:
    """Kubelets of all nodes but the first are silent, the broker serves on: so it is left alone."""
    faults.away_from_the_first_node(world, "demo")
    silent = [node for node in faults.nodes() if node != "node1"]
    if 2 * len(silent) <= len(faults.nodes()):
        raise StepFailed("the run needs three nodes")

    def freeze() -> None:
        try:
            for node in silent:
                world.environment.node("freeze", node)
            wait_for("Kubernetes has noticed", lambda: not any(map(faults.is_ready, silent)), 60)
            # Longer than the operator's patience with one node, shorter than Kubernetes' own with a pod (20 s here).
            time.sleep(12)
        finally:
            faults.mend(world, "thaw", *silent)

    return Figure(faults.same_pod_throughout(world, "demo", "most-frozen", freeze), 5, "no acknowledgement")
