"""The steps of the run, in order. Each shows one promise on the real thing; a later one may build on an earlier one."""

import json
import time
from collections.abc import Callable
from typing import Any

from tests.e2e import clients
from tests.e2e.environment import PATIENCE, StepFailed, get, items, kubectl, refused, run, wait_for
from tests.e2e.world import Skipped, World

# The goals of an idle machine; E2E_PATIENCE stretches them where everything shares two cores.
READY_S_MAX = 20.0 * PATIENCE
SERVING_AGAIN_S_MAX = 15.0 * PATIENCE


def install_the_operator(world: World) -> None:
    was_there = bool(get("deployment", "automq-operator", world.system))
    world.helm_install()
    if was_there:  # left by an earlier run, perhaps with an image of the same name
        kubectl("-n", world.system, "rollout", "restart", "deployment", "automq-operator")
        kubectl("-n", world.system, "rollout", "status", "deployment", "automq-operator", "--timeout=90s")
    wait_for("the operator is available", lambda: world.operator_ready() >= 2, 90)


def apply_to_ready(world: World) -> float:
    world.bucket("demo-kafka")
    world.secret("demo-s3")
    began = time.monotonic()
    world.apply("demo", listeners=True)
    world.wait_ready("demo", 60)
    seconds = time.monotonic() - began
    if seconds > READY_S_MAX:
        raise StepFailed(f"apply to Ready took {seconds:.1f} s, more than {READY_S_MAX:.0f}")
    return seconds


def status_names_what_a_user_needs(world: World) -> None:
    status = world.status("demo")
    assert status["clusterId"], status
    assert status["prefix"] == f"{world.namespace}/demo"
    assert status["bootstrap"] == f"demo-kafka.{world.namespace}.svc:9092"
    assert status["selector"]
    scale = json.loads(kubectl("get", "--raw", world.path("demo") + "/scale"))
    assert scale["status"]["selector"] == status["selector"]


def produce_and_consume_from_a_pod(world: World) -> None:
    bootstrap = world.status("demo")["bootstrap"]
    clients.from_a_pod(world.namespace, world.environment.client_image, bootstrap, "from-a-pod", 200)


def produce_and_consume_from_outside(world: World) -> None:
    bootstrap = world.outside("demo")
    clients.create_topic(bootstrap, "outside")
    with clients.SteadyProducer(bootstrap, "outside") as producer:
        wait_for("records are acknowledged", lambda: len(producer.acked) > 100, 30)
    clients.check_exactly_once(bootstrap, "outside", producer)


def unchanged_cluster_causes_no_write(world: World) -> None:
    wait_for("the cluster is settled", lambda: world.condition("demo", "Progressing") == ("False", "Settled"), 30)
    time.sleep(3)
    before = world.operator_metric("automq_operator_api_writes")
    passes = world.operator_metric("automq_operator_reconcile_total")
    wait_for("three passes", lambda: world.operator_metric("automq_operator_reconcile_total") >= passes + 3, 60)
    wrote = world.operator_metric("automq_operator_api_writes") - before
    if wrote > 0:
        raise StepFailed(f"{wrote:.0f} writes for an unchanged cluster")


def killed_pod_is_serving_again(world: World) -> float:
    return world.through_a_fault("demo", "pod-kill", lambda: world.delete_pod("demo", force=True), SERVING_AGAIN_S_MAX)


def changed_config_replaces_the_pod_once(world: World) -> None:
    def change() -> None:
        world.patch("demo", {"spec": {"config": {"log.retention.ms": "7200000"}}})

    world.through_one_replacement("demo", "config-change", change)


def changed_image_replaces_the_pod_once(world: World) -> None:
    other = world.other_image()
    if other is None:
        raise Skipped("E2E_OTHER_IMAGE names no second tag")
    world.through_one_replacement("demo", "image-change", lambda: world.patch("demo", {"spec": {"image": other}}))


def killed_leader_is_followed_by_the_other(world: World) -> None:
    leader = world.leader()

    def change() -> None:
        world.patch("demo", {"spec": {"config": {"log.retention.ms": "3600000"}}})
        kubectl("-n", world.system, "delete", "pod", leader, "--force", "--grace-period=0")

    world.through_one_replacement("demo", "leader-kill", change, timeout_s=90)
    assert world.leader() != leader


def upgraded_operator_leaves_the_broker_alone(world: World) -> None:
    uid = world.pod("demo")["metadata"]["uid"]
    world.helm_install("--set", "podAnnotations.upgraded=yes")
    wait_for("the operator is available", lambda: world.operator_ready() >= 2, 90)
    kubectl("-n", world.system, "rollout", "status", "deployment", "automq-operator", "--timeout=90s")
    time.sleep(5)
    assert world.pod("demo")["metadata"]["uid"] == uid


def frozen_node_is_replaced_and_its_zombie_is_fenced(world: World) -> float:
    return world.through_a_lost_node("demo", "frozen", "freeze", "thaw")


def cut_node_is_replaced(world: World) -> float:
    return world.through_a_lost_node("demo", "cut", "cut", "join")


def bad_specs_are_refused_with_their_field(world: World) -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"replicas": 2}, "spec.replicas"),
        ({"config": {"node.id": "7"}}, "spec.config"),
        ({"listeners": [{"name": "a", "port": 9092}, {"name": "a", "port": 9093}]}, "spec.listeners"),
        ({"listeners": [{"name": "a", "port": 9092}, {"name": "b", "port": 9092}]}, "spec.listeners"),
        ({"wal": {"type": "Block"}}, "spec.wal.type"),
        ({"storage": {}}, "spec.storage.bucket"),
    ]
    for spec, field in cases:
        message = refused(world.manifest("bad", spec=spec))
        if field not in message:
            raise StepFailed(f"{spec} was refused without naming {field}: {message}")
    for spec, field in (({"storage": {"bucket": "other"}}, "bucket"), ({"storage": {"prefix": "x"}}, "prefix")):
        message = refused(world.manifest("demo", spec=spec, listeners=True))
        if field not in message:
            raise StepFailed(f"{spec} was refused without naming {field}: {message}")


def missing_secret_is_named_and_heals(world: World) -> None:
    world.heals(
        "nosecret", "StoreCredentialsRejected", {"credentialsSecret": "later-s3"}, lambda: world.secret("later-s3")
    )


def wrong_credentials_are_named_and_heal(world: World) -> None:
    world.secret("wrong-s3", secret_key="not the key")
    repair = lambda: world.secret("wrong-s3")  # noqa: E731 - a name would say no more
    world.heals("wrongkey", "StoreCredentialsRejected", {"credentialsSecret": "wrong-s3"}, repair)


def missing_bucket_is_named_and_heals(world: World) -> None:
    world.heals("nobucket", "BucketNotFound", {"bucket": "later-kafka"}, lambda: world.bucket("later-kafka"))


def unreachable_store_is_named_and_heals(world: World) -> None:
    if world.environment.s3_command is None:
        raise Skipped("E2E_S3_COMMAND cannot stop the S3 server")
    uid = world.pod("demo")["metadata"]["uid"]
    run(*world.environment.s3_command.split(), "stop")
    try:
        wait_for(
            "the outage shows", lambda: world.condition("demo", "StorageReady") == ("False", "StoreUnreachable"), 90
        )
    finally:
        run(*world.environment.s3_command.split(), "start")
    wait_for("it heals", lambda: world.condition("demo", "StorageReady") == ("True", "Available"), 90)
    assert world.pod("demo")["metadata"]["uid"] == uid, "a broker is never restarted for its store"


def clusters_live_side_by_side(world: World) -> None:
    world.apply("second")
    world.namespace_with_secret("elsewhere")
    world.apply("demo", namespace="elsewhere")
    world.wait_ready("second", 60)
    world.wait_ready("demo", 60, namespace="elsewhere")
    ids = {world.status("demo")["clusterId"], world.status("second")["clusterId"]}
    ids.add(world.status("demo", namespace="elsewhere")["clusterId"])
    assert len(ids) == 3, ids
    kubectl("-n", "elsewhere", "delete", "amq", "demo", "--timeout=60s")


def taken_prefix_is_refused(world: World) -> None:
    world.apply("thief", storage={"prefix": f"{world.namespace}/demo"})
    wait_for(
        "the prefix is refused",
        lambda: world.condition("thief", "StorageReady") == ("False", "StoreOwnedByAnother"),
        60,
    )
    cluster_id = world.status("demo")["clusterId"]
    message = world.message("thief", "StorageReady")
    if cluster_id not in message:
        raise StepFailed(f"the condition does not name {cluster_id}: {message}")
    kubectl("-n", world.namespace, "delete", "amq", "thief", "--timeout=60s")
    assert world.condition("demo", "Ready")[0] == "True"


def deleted_cluster_leaves_the_bucket_and_nothing_else(world: World) -> None:
    world.kept = clients.read_all(world.outside("demo"), "outside")
    world.kept_id = world.status("demo")["clusterId"]
    kubectl("-n", world.namespace, "delete", "amq", "demo", "--timeout=60s")
    selector = "automq.io/cluster=demo"
    for kind in ("statefulset", "service", "configmap", "serviceaccount", "pdb", "pod"):
        wait_for(f"every {kind} is gone", lambda kind=kind: not items(kind, world.namespace, selector), 60)  # type: ignore[misc]
    assert world.keys("demo-kafka", f"{world.namespace}/demo/"), "the data are kept"


def adopting_cluster_has_all_the_data(world: World) -> None:
    prefix = f"{world.namespace}/demo"
    world.apply("heir", listeners=True, storage={"prefix": prefix, "adopt": world.kept_id})
    world.wait_ready("heir", 90)
    assert clients.read_all(world.outside("heir"), "outside") == world.kept


def delete_policy_empties_the_prefix(world: World) -> None:
    world.patch("second", {"spec": {"storage": {"deletionPolicy": "Delete"}}})
    kubectl("-n", world.namespace, "delete", "amq", "second", "--timeout=120s")
    left = world.keys("demo-kafka", f"{world.namespace}/second/")
    assert left == [], left[:5]
    assert world.keys("demo-kafka", f"{world.namespace}/demo/"), "others' data are kept"


def deletion_ends_when_the_store_is_gone(world: World) -> None:
    if world.environment.s3_command is None:
        raise Skipped("E2E_S3_COMMAND cannot stop the S3 server")
    world.patch("heir", {"spec": {"storage": {"deletionPolicy": "Delete"}}})
    run(*world.environment.s3_command.split(), "stop")
    try:
        kubectl("-n", world.namespace, "delete", "amq", "heir", f"--timeout={world.erase_s + 90}s")
        events = [event["reason"] for event in items("events", world.namespace)]
        assert "DataLeftBehind" in events, events
    finally:
        run(*world.environment.s3_command.split(), "start")


STEPS: list[Callable[[World], float | None]] = [
    install_the_operator,
    apply_to_ready,
    status_names_what_a_user_needs,
    produce_and_consume_from_a_pod,
    produce_and_consume_from_outside,
    unchanged_cluster_causes_no_write,
    bad_specs_are_refused_with_their_field,
    killed_pod_is_serving_again,
    changed_config_replaces_the_pod_once,
    changed_image_replaces_the_pod_once,
    killed_leader_is_followed_by_the_other,
    upgraded_operator_leaves_the_broker_alone,
    frozen_node_is_replaced_and_its_zombie_is_fenced,
    cut_node_is_replaced,
    missing_secret_is_named_and_heals,
    wrong_credentials_are_named_and_heal,
    missing_bucket_is_named_and_heals,
    unreachable_store_is_named_and_heals,
    clusters_live_side_by_side,
    taken_prefix_is_refused,
    deleted_cluster_leaves_the_bucket_and_nothing_else,
    adopting_cluster_has_all_the_data,
    delete_policy_empties_the_prefix,
    deletion_ends_when_the_store_is_gone,
]
