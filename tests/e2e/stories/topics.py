"""Topics as resources: made, grown, refused what Kafka cannot do, removed; bad ones refused by the API server."""

from typing import Any

import yaml
from confluent_kafka.admin import AdminClient

from tests.e2e import bad_specs
from tests.e2e.environment import StepFailed, accepted, get, kubectl, refused, wait_for
from tests.e2e.world import World

RESOURCE, TOPIC = "orders", "Orders_of_a_resource"


def topic_is_made_grown_and_removed(world: World) -> None:
    spec = {"cluster": "demo", "topicName": TOPIC, "partitions": 3, "deletionPolicy": "Delete"}
    kubectl("apply", "-f", "-", stdin=_manifest(world, RESOURCE, {**spec, "configs": {"retention.ms": "86400000"}}))
    wait_for("the topic is made", lambda: _synced(world) == ("True", "Settled"), 60)
    admin = AdminClient({"bootstrap.servers": world.outside("demo")})
    assert _partitions(admin) == 3, _partitions(admin)
    kubectl("apply", "-f", "-", stdin=_manifest(world, RESOURCE, {**spec, "partitions": 5}))
    wait_for("it has grown", lambda: _partitions(admin) == 5, 60)
    kubectl("apply", "-f", "-", stdin=_manifest(world, RESOURCE, {**spec, "partitions": 4}))
    wait_for("that it cannot shrink is said", lambda: _synced(world)[0] == "False", 60)
    kubectl("-n", world.namespace, "delete", "amqt", RESOURCE, "--timeout=30s")
    wait_for("it is removed", lambda: _partitions(admin) == 0, 60)


def bad_topics_are_refused_with_field_and_remedy(world: World) -> None:
    for name, spec, field, word in bad_specs.BAD_TOPICS:
        _must_be_refused(_manifest(world, name, spec), field, word)
    for name, spec in bad_specs.GOOD_TOPICS:
        accepted(_manifest(world, name, spec))
    kubectl("apply", "-f", "-", stdin=_manifest(world, "fixed", bad_specs.TOPIC))
    for spec, field, word in bad_specs.BAD_TOPIC_CHANGES:
        _must_be_refused(_manifest(world, "fixed", spec), field, word)
    kubectl("-n", world.namespace, "delete", "amqt", "fixed", "--timeout=30s")


def _manifest(world: World, name: str, spec: dict[str, Any]) -> str:
    metadata = {"name": name, "namespace": world.namespace}
    return yaml.safe_dump(
        {"apiVersion": "automq.io/v1alpha1", "kind": "AutoMQTopic", "metadata": metadata, "spec": spec}
    )


def _must_be_refused(manifest: str, field: str, word: str) -> None:
    message = refused(manifest)
    if field not in message or word not in message:
        raise StepFailed(f"refused without naming {field!r} and {word!r}:\n{manifest}\n{message}")


def _synced(world: World) -> tuple[str, str]:
    for condition in get("amqt", RESOURCE, world.namespace).get("status", {}).get("conditions", []):
        return condition["status"], condition["reason"]
    return "", ""


def _partitions(admin: AdminClient) -> int:
    """0 where there is no such topic."""
    found = admin.list_topics(timeout=10).topics.get(TOPIC)
    return len(found.partitions) if found is not None else 0
