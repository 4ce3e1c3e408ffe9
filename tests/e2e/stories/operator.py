"""The operator dies, is upgraded, is removed, forgets: brokers do not notice, or one at a time."""

import time
from typing import Any

from tests.e2e import clients, faults
from tests.e2e.environment import Skipped, StepFailed, get, items, kubectl, run, wait_for
from tests.e2e.story import Figure
from tests.e2e.world import World

STEADY_S = 60.0
"""How long an upgraded cluster must be Ready before the next one is moved."""


def killed_leader_is_followed_by_the_other(world: World) -> Figure:
    leader = world.leader()

    def change() -> None:
        world.patch("demo", {"spec": {"config": {"num.partitions": "3"}}})
        kubectl("-n", world.system, "delete", "pod", leader, "--force", "--grace-period=0")

    seconds = faults.one_replacement(world, "demo", "leader-kill", change, timeout_s=120)
    assert world.leader() != leader
    return Figure(seconds, 25, "no acknowledgement")


def wiped_status_and_restarted_operator_restart_no_broker(world: World) -> None:
    cluster_id = world.status("demo")["clusterId"]

    def wipe() -> None:
        patch = '[{"op": "remove", "path": "/status"}]'
        kubectl("-n", world.namespace, "patch", "amq", "demo", "--subresource=status", "--type=json", "-p", patch)
        kubectl("-n", world.system, "rollout", "restart", "deployment", "automq-operator")
        kubectl("-n", world.system, "rollout", "status", "deployment", "automq-operator", "--timeout=120s")
        wait_for("the status is there again", lambda: world.status("demo").get("clusterId") == cluster_id, 60)
        time.sleep(8)

    faults.same_pod_throughout(world, "demo", "status-wiped", wipe)


def changed_operator_without_another_image_leaves_brokers_alone(world: World) -> None:
    def upgrade() -> None:
        world.helm_install("--set", "podAnnotations.upgraded=yes")
        kubectl("-n", world.system, "rollout", "status", "deployment", "automq-operator", "--timeout=120s")
        time.sleep(8)

    faults.same_pod_throughout(world, "demo", "operator-changed", upgrade)


def upgraded_operator_moves_one_cluster_after_the_other(world: World) -> Figure:
    """With another image: each once, the second only when the first has been Ready for a minute."""
    image = world.environment.next_image
    if image is None:
        raise Skipped("E2E_NEXT_IMAGE names no second image")
    names = ("demo", "second")
    world.patch("demo", {"spec": {"image": None}})
    world.apply("second")
    for name in names:
        wait_for(f"{name} settles", lambda name=name: _on(world, name, world.environment.image), 120)  # type: ignore[misc]
    pods: dict[str, list[str]] = {name: [_uid(world, name)] for name in names}
    world.helm_install(image=image)
    began = time.monotonic()
    moved: dict[str, float] = {}
    while len(moved) < len(names) and time.monotonic() - began < 300:
        for name in names:
            uid = _uid(world, name)
            if uid and uid not in pods[name]:
                pods[name].append(uid)
            if name not in moved and _on(world, name, image):
                moved[name] = time.monotonic()
        away = [name for name in names if world.condition(name, "Ready")[0] != "True"]
        if len(away) > 1:
            raise StepFailed("both clusters are away at the same time")
        time.sleep(0.5)
    if len(moved) < len(names):
        raise StepFailed(f"not moved after {time.monotonic() - began:.0f} s: {set(names) - set(moved)}")
    for name in names:
        if len(pods[name]) != 2:
            raise StepFailed(f"the pod of {name} was replaced {len(pods[name]) - 1} times")
    for name in names:
        world.wait_event(name, "RollingBroker")
    first, last = sorted(moved.values())
    if last - first < STEADY_S - 5:
        raise StepFailed(f"the second cluster followed after {last - first:.0f} s")
    world.delete("second")
    return Figure(last - began, 200, "two clusters moved")


def _uid(world: World, name: str) -> str:
    return str(world.pod(name).get("metadata", {}).get("uid", ""))


def _on(world: World, name: str, image: str) -> bool:
    pod: dict[str, Any] = world.pod(name)
    if not pod or pod["spec"]["containers"][0]["image"] != image or "deletionTimestamp" in pod["metadata"]:
        return False
    return world.condition(name, "Ready")[0] == "True"


def uninstalled_operator_takes_nothing_along(world: World) -> None:
    """Clusters serve on, can be deleted, and are taken up again by the next installation."""
    world.apply("spare")
    world.wait_ready("spare", 90)

    def away_and_back() -> None:
        run("helm", "uninstall", "automq-operator", "--namespace", world.system, "--wait", timeout_s=120)
        assert get("crd", "automqclusters.automq.io", "default"), "the CRD is kept"
        for name in ("demo", "spare"):
            assert "deletionTimestamp" not in get("amq", name, world.namespace)["metadata"], f"{name} is being deleted"
        bootstrap = world.outside("demo")
        clients.create_topic(bootstrap, "no-operator")
        world.delete("spare", timeout_s=30)
        wait_for("its pods are gone", lambda: not items("pod", world.namespace, "automq.io/cluster=spare"), 60)
        world.helm_install()
        wait_for("the operator is available", lambda: world.operator_ready() >= 2, 90)
        world.patch("demo", {"spec": {"template": {"pod": {"metadata": {"annotations": None}}}}})
        time.sleep(5)

    faults.same_pod_throughout(world, "demo", "uninstalled", away_and_back)
    generation = get("amq", "demo", world.namespace)["metadata"]["generation"]
    wait_for("it is looked after", lambda: world.status("demo")["observedGeneration"] == generation, 30)


def release_without_the_crd_takes_nothing_along(world: World) -> None:
    """`crds.install=false` on an upgrade: Helm removes what is no longer rendered, but not this."""

    def change() -> None:
        world.helm_install("--set", "crds.install=false")
        assert get("crd", "automqclusters.automq.io", "default"), "the CRD is kept"
        assert "deletionTimestamp" not in get("amq", "demo", world.namespace)["metadata"]
        world.helm_install()
        wait_for("the operator is available", lambda: world.operator_ready() >= 2, 90)

    faults.same_pod_throughout(world, "demo", "without-crd", change)


def both_replicas_killed_in_a_roll_finish_it(world: World) -> Figure:
    """Whoever comes back looks at the whole state, and nothing was held in memory."""

    def change_and_kill() -> None:
        world.patch("demo", {"spec": {"config": {"num.partitions": "4"}}})
        uid = _uid(world, "demo")
        wait_for("the roll has begun", lambda: _uid(world, "demo") != uid or _ending(world, "demo"), 60)
        selector = "app.kubernetes.io/name=automq-operator"
        kubectl("-n", world.system, "delete", "pod", "-l", selector, "--force", "--grace-period=0", "--wait=false")

    seconds = faults.one_replacement(world, "demo", "both-killed", change_and_kill, timeout_s=120)
    wait_for("the operator is available", lambda: world.operator_ready() >= 2, 90)
    return Figure(seconds, 45, "no acknowledgement")


def _ending(world: World, name: str) -> bool:
    return "deletionTimestamp" in world.pod(name).get("metadata", {})


def people_who_view_read_and_people_who_edit_write(world: World) -> None:
    """By the roles that every Kubernetes cluster has; /scale included, status excluded."""
    for role, may, may_not in (
        (
            "view",
            ("get amq", "list amq", "get amq/scale"),
            ("patch amq", "delete amq", "update amq/scale", "patch amq/status"),
        ),
        ("edit", ("create amq", "patch amq", "delete amq", "update amq/scale"), ("patch amq/status",)),
    ):
        person = f"{role}-person"
        kubectl("-n", world.namespace, "create", "rolebinding", person, f"--clusterrole={role}", f"--user={person}")
        for ask in may + may_not:
            verb, _, what = ask.partition(" ")
            resource, _, part = what.partition("/")
            command = ["auth", "can-i", verb, resource, f"--as={person}", *([f"--subresource={part}"] if part else [])]
            words = kubectl("-n", world.namespace, *command, check=False)
            assert words.strip() == ("yes" if ask in may else "no"), (role, ask, words)
        kubectl("-n", world.namespace, "delete", "rolebinding", person)
