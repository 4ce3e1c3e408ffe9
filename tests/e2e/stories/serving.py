"""A cluster comes to be, serves, and is quiet."""

import json
import time

from tests.e2e import clients
from tests.e2e.environment import StepFailed, get, kubectl, wait_for
from tests.e2e.story import Figure
from tests.e2e.world import World


def install_the_operator(world: World) -> None:
    was_there = bool(get("deployment", "automq-operator", world.system))
    world.helm_install()
    if was_there:  # left by an earlier run, perhaps with an image of the same name
        kubectl("-n", world.system, "rollout", "restart", "deployment", "automq-operator")
        kubectl("-n", world.system, "rollout", "status", "deployment", "automq-operator", "--timeout=90s")
    wait_for("the operator is available", lambda: world.operator_ready() >= 2, 90)


def apply_to_ready(world: World) -> Figure:
    world.bucket(world.bucket_name)
    world.secret("demo-s3")
    began = time.monotonic()
    world.apply("demo", listeners=True)
    world.wait_ready("demo", 90)
    return Figure(time.monotonic() - began, 20, "apply to Ready")


def status_names_what_a_user_needs(world: World) -> None:
    status = world.status("demo")
    assert status["clusterId"], status
    assert status["prefix"] == f"{world.namespace}/demo"
    assert status["bootstrap"] == f"demo-kafka.{world.namespace}.svc:9092"
    assert status["selector"]
    scale = json.loads(kubectl("get", "--raw", world.path("demo") + "/scale"))
    assert scale["status"]["selector"] == status["selector"]
    (row,) = kubectl("-n", world.namespace, "get", "amq", "demo", "-o", "wide", "--no-headers").splitlines()
    for word in ("1/1", "Ready", "Serving", status["clusterId"], "1 of 1 brokers serve"):
        assert word in row, row
    world.wait_event("demo", "Ready")


def addresses_in_the_status_are_what_clients_use(world: World) -> None:
    """Exactly as they are written there, from outside the Kubernetes cluster."""
    listeners = {item["name"]: item["bootstrap"] for item in world.status("demo")["listeners"]}
    assert listeners["internal"] == world.status("demo")["bootstrap"]
    clients.create_topic(listeners["outside"], "from-the-status")


def produce_and_consume_from_a_pod(world: World) -> None:
    bootstrap = world.status("demo")["bootstrap"]
    clients.from_a_pod(world.namespace, world.environment.client_image, bootstrap, "from-a-pod", 200)


def produce_and_consume_from_outside(world: World) -> None:
    bootstrap = world.outside("demo")
    clients.create_topic(bootstrap, "outside")
    with clients.SteadyProducer(bootstrap, "outside") as producer:
        wait_for("records are acknowledged", lambda: len(producer.acked) > 100, 30)
    clients.check_exactly_once(bootstrap, "outside", producer)


def every_node_leads_to_the_broker(world: World) -> None:
    """Clients that know one node only, and not the broker's."""
    home = world.node_of("demo")
    for node, bootstrap in world.node_ports("demo").items():
        if node != home:
            clients.create_topic(bootstrap, f"through-{node}")
            with clients.SteadyProducer(bootstrap, f"through-{node}") as producer:
                wait_for(f"records are acknowledged through {node}", lambda p=producer: len(p.acked) > 20, 30)  # type: ignore[misc]
            clients.check_exactly_once(bootstrap, f"through-{node}", producer)


def unchanged_cluster_causes_no_write(world: World) -> None:
    wait_for("the cluster is settled", lambda: world.condition("demo", "Progressing") == ("False", "Settled"), 30)
    time.sleep(3)
    before = world.operator_metric("automq_operator_api_writes")
    passes = world.operator_metric("automq_operator_reconcile_total")
    wait_for("another pass", lambda: world.operator_metric("automq_operator_reconcile_total") > passes, 60)
    time.sleep(5)
    wrote = world.operator_metric("automq_operator_api_writes") - before
    if wrote > 0:
        raise StepFailed(f"{wrote:.0f} writes for an unchanged cluster")
