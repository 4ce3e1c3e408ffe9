"""What is refused: by the API server at once, or of a child later; and what a broker cannot live with."""

from tests.e2e import bad_specs
from tests.e2e.environment import StepFailed, accepted, get, kubectl, refused, wait_for
from tests.e2e.world import World


def bad_specs_are_refused_with_field_and_remedy(world: World) -> None:
    for name in bad_specs.BAD_NAMES:
        _must_be_refused(world.manifest(name), "metadata.name", bad_specs.NAME_WORD)
    for spec, field, word in bad_specs.BAD_SPECS:
        _must_be_refused(world.manifest("bad", spec=spec), field, word)
    for spec, field, word in bad_specs.BAD_CHANGES:
        _must_be_refused(world.manifest("demo", spec=spec, listeners=True), field, word)
    world.apply("over-zones", spec=bad_specs.ZONED)
    for spec, field, word in bad_specs.BAD_ZONED_CHANGES:
        _must_be_refused(world.manifest("over-zones", spec=spec), field, word)
    for spec in bad_specs.GOOD_ZONED_CHANGES:
        accepted(world.manifest("over-zones", spec=spec))
    world.delete("over-zones")


def odd_specs_are_accepted(world: World) -> None:
    for spec in bad_specs.GOOD_SPECS:
        accepted(world.manifest("n" * 40, spec=spec))


def _must_be_refused(manifest: str, field: str, word: str) -> None:
    message = refused(manifest)
    if field not in message or word not in message:
        raise StepFailed(f"refused without naming {field!r} and {word!r}:\n{manifest}\n{message}")


def refused_child_is_named_and_heals(world: World) -> None:
    """A mistake inside a container is Kubernetes' to judge; its words are the cluster's condition."""
    containers = [{"name": "broker", "imagePullPolcy": "Always"}]
    world.apply("refused", spec={"template": {"pod": {"spec": {"containers": containers}}}})
    wait_for("the refusal shows", lambda: world.condition("refused", "Ready") == ("False", "Refused"), 60)
    message = world.message("refused", "Ready")
    for word in ("StatefulSet/refused-broker", "imagePullPolcy"):
        if word not in message:
            raise StepFailed(f"the condition does not name {word}: {message}")
    world.wait_event("refused", "Refused")
    for service in ("refused-kafka", "refused-brokers"):
        assert get("service", service, world.namespace), "a bad field does not keep the good ones back"
    world.patch("refused", {"spec": {"template": None}})
    world.wait_ready("refused", 90)
    assert world.delete("refused") < 60


def out_of_memory_is_named_and_heals(world: World) -> None:
    small = {"requests": {"cpu": "50m", "memory": "48Mi"}, "limits": {"memory": "48Mi"}}
    # As much as it asks for would be refused in so small a pod: somebody says that it has more than it has.
    world.apply("oom", spec={"resources": small, "config": {"automq.memory.bytes": "268435456"}})
    wait_for("OOMKilled shows", lambda: "OOMKilled" in world.message("oom", "Ready"), 90)
    assert world.condition("oom", "Ready") == ("False", "BrokerDown"), world.condition("oom", "Ready")
    world.wait_event("oom", "BrokerDown")
    larger = {"requests": {"memory": "128Mi"}, "limits": {"memory": "1Gi"}}
    world.patch("oom", {"spec": {"resources": larger, "config": {"automq.memory.bytes": None}}})
    world.wait_ready("oom", 120)
    world.delete("oom")


def listener_that_is_removed_takes_its_port_along(world: World) -> None:
    more = [{"name": "internal", "port": 9092}, {"name": "second", "port": 9095}]
    world.apply("ports", spec={"listeners": more})
    world.wait_ready("ports", 90)
    world.patch("ports", {"spec": {"listeners": more[:1]}})

    def ports() -> set[int]:
        return {
            port["port"]
            for name in ("ports-kafka", "ports-brokers")
            for port in get("service", name, world.namespace)["spec"]["ports"]
        }

    wait_for("port 9095 is gone", lambda: 9095 not in ports(), 60)
    world.wait_ready("ports", 90)
    kubectl("-n", world.namespace, "delete", "amq", "ports", "--timeout=60s")
