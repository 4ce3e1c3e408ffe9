"""What only the long run shows: five brokers rolled, an operator that dies in a roll, and nothing left at the end."""

import time

from tests.e2e.environment import get, items, kubectl, run, wait_for
from tests.e2e.stories.cluster import NAME, leaders, pods_ready, scale, settled, under_load
from tests.e2e.story import Figure
from tests.e2e.world import World

OWN_LABEL = "automq.io/cluster"
CHILDREN = ("statefulset", "service", "configmap", "serviceaccount", "pdb", "hpa", "networkpolicy", "pod", "job")


def five_brokers_are_rolled_under_load(world: World) -> Figure:
    scale(world, 5)
    wait_for("five pods are Ready", lambda: pods_ready(world, 5), 240)
    settled(world)
    before = _uids(world, 5)
    seconds, silence = under_load(world, "roll-of-five", lambda: _roll(world, "five", kill=False))
    assert not before & _uids(world, 5), "each was replaced"
    scale(world, 3)
    settled(world)
    wait_for("every broker leads its share", lambda: set(leaders(world.outside(NAME), "roll-of-five")) == {0, 1, 2}, 60)
    return Figure(seconds, 90, f"five brokers rolled, longest silence {silence:.1f} s")


def operator_killed_in_a_roll_finishes_it(world: World) -> Figure:
    before = _uids(world, 3)
    seconds, silence = under_load(world, "killed-in-a-roll", lambda: _roll(world, "killed", kill=True))
    assert not before & _uids(world, 3), "each was replaced"
    return Figure(seconds, 120, f"three brokers rolled, both replicas of the operator killed, silence {silence:.1f} s")


def nothing_is_left_but_the_bucket_and_the_definitions(world: World) -> None:
    """Clusters deleted, then the operator uninstalled."""
    for resource in items("amq", world.namespace):
        world.delete(resource["metadata"]["name"], timeout_s=120)
    for kind in CHILDREN:
        wait_for(f"every {kind} is gone", lambda kind=kind: not items(kind, world.namespace, OWN_LABEL), 60)  # type: ignore[misc]
    run("helm", "uninstall", "automq-operator", "--namespace", world.system, "--wait", timeout_s=120)
    ours = "app.kubernetes.io/name=automq-operator"
    for kind in ("deployment", "pod", "serviceaccount", "role", "rolebinding", "configmap", "service"):
        wait_for(f"every {kind} is gone", lambda kind=kind: not items(kind, world.system, ours), 60)  # type: ignore[misc]
    for kind in ("clusterrole", "clusterrolebinding"):
        assert not items(kind, world.system, ours), f"a {kind} is left"
    for name in ("automqclusters.automq.io", "automqtopics.automq.io"):
        assert get("crd", name, "default"), f"{name} is kept"
    assert world.keys(f"{world.namespace}/{NAME}/"), "the data are kept"


def _roll(world: World, text: str, *, kill: bool) -> float:
    kubectl("-n", world.namespace, "annotate", "--overwrite", "amq", NAME, f"automq.io/restart={text}")
    began = time.monotonic()
    wait_for("a broker is out of date", lambda: world.condition(NAME, "Progressing")[0] == "True", 30, 0.1)
    if kill:
        uids = _uids(world, 3)
        wait_for("the first one is replaced", lambda: len(_uids(world, 3) & uids) < 3, 90)
        selector = "app.kubernetes.io/name=automq-operator"
        kubectl("-n", world.system, "delete", "pod", "-l", selector, "--force", "--grace-period=0", "--wait=false")
        wait_for("all are replaced", lambda: not _uids(world, 3) & uids, 240)
    settled(world, timeout_s=240)
    return time.monotonic() - began


def _uids(world: World, count: int) -> set[str]:
    found = [get("pod", f"{NAME}-broker-{node_id}", world.namespace) for node_id in range(count)]
    return {pod["metadata"]["uid"] for pod in found if pod}
