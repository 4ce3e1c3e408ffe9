"""Listeners for clients outside through load balancers, which this cluster of Kubernetes need not have a maker of."""

import json
import time

from tests.e2e import clients
from tests.e2e.environment import get, kubectl, wait_for
from tests.e2e.world import World

LISTENERS = [{"name": "internal", "port": 9092}, {"name": "public", "port": 9094, "type": "LoadBalancer"}]
# Nobody's; kube-proxy leads pods from there to the Service once its status says so.
BEGIN, OWN = "203.0.113.9", "203.0.113.10"


def load_balancer_listener_is_served_once_it_has_an_address(world: World) -> None:
    world.apply("balanced", spec={"listeners": LISTENERS})
    world.wait_ready("balanced", 90)
    waiting = ("True", "WaitingForLoadBalancer")
    wait_for("it says what it waits for", lambda: world.condition("balanced", "Progressing") == waiting, 30)
    uid = world.pod("balanced")["metadata"]["uid"]
    for service, address in (("balanced-kafka-public", BEGIN), ("balanced-public-0", OWN)):
        patch = {"status": {"loadBalancer": {"ingress": [{"ip": address}]}}}
        kubectl(
            "-n", world.namespace, "patch", "service", service, "--subresource=status", "--type=merge",
            "-p", json.dumps(patch),
        )  # fmt: skip
    wait_for("the broker is restarted", lambda: world.pod("balanced").get("metadata", {}).get("uid", uid) != uid, 90)
    settled = ("False", "Settled")
    wait_for("nothing is waited for", lambda: world.condition("balanced", "Progressing") == settled, 90)
    world.wait_ready("balanced", 90)
    once = world.pod("balanced")["metadata"]["uid"]
    time.sleep(40)
    assert world.pod("balanced")["metadata"]["uid"] == once, "its own word was not understood"
    addresses = {item["name"]: item["bootstrap"] for item in world.status("balanced")["listeners"]}
    assert addresses["public"] == f"{BEGIN}:9094", addresses
    client = world.environment.client_image
    clients.from_a_pod(world.namespace, client, addresses["public"], "through-a-load-balancer", 100)
    _policy_comes_and_goes(world)
    world.delete("balanced")


def _policy_comes_and_goes(world: World) -> None:
    def there() -> bool:
        return bool(get("networkpolicy", "balanced-broker", world.namespace))

    assert there()
    world.patch("balanced", {"spec": {"networkPolicy": {"enabled": False}}})
    wait_for("the policy is gone", lambda: not there(), 30)
