"""What pods are made from does not change with the release: an upgrade would take it for a wish of the user's.

The numbers are what releases have written into clusters that exist. A field that is new, at its default, may not change
them: it would end the hold of an upgrade, and every cluster would be restarted at once.
"""

from typing import Any

import pytest

from automq_operator import naming
from automq_operator.children import Layout, children
from automq_operator.resources import config
from tests.support.kubernetes_double import a_cluster

LAYOUT = Layout(kept=(1,), node_ports={"outside": 30123})
MORE: dict[str, Any] = {
    "listeners": [
        {"name": "internal", "port": 9092},
        {"name": "outside", "port": 9094, "type": "NodePort", "host": "h.example"},
    ],
    "config": {"a": "1"},
    "image": "x:1",
    "template": {"pod": {"spec": {"nodeSelector": {"a": "b"}}}},
}


@pytest.mark.parametrize(
    ("spec", "inputs", "restart"),
    [
        ({}, {"ConfigMap": "a5905c84642313c9", "StatefulSet": "a34466a0222ea477"}, "3af98f7124e3fc2c"),
        (MORE, {"ConfigMap": "b9e6cbc47d67352e", "StatefulSet": "f2819052ee23698b"}, "dab0cc280a4251e1"),
    ],
)
def test_finding_09_a_new_release_finds_the_wishes_and_the_pods_that_an_older_one_wrote_down(
    spec: dict[str, Any], inputs: dict[str, str], restart: str
) -> None:
    found = {child.kind: child for child in children(a_cluster(**spec), LAYOUT)}
    assert {kind: config.digest(child.inputs(LAYOUT)) for kind, child in found.items() if child.inputs} == inputs
    template = found["StatefulSet"].render(LAYOUT)["spec"]["template"]
    assert template["metadata"]["annotations"][naming.HASH_ANNOTATION] == restart


def test_what_pods_are_made_from_is_a_wish() -> None:
    def wish(**spec: Any) -> str:
        (found,) = [child for child in children(a_cluster(**spec), LAYOUT) if child.kind == "StatefulSet"]
        assert found.inputs is not None
        return config.digest(found.inputs(LAYOUT))

    assert wish(config={"log.retention.ms": "1"}) != wish()
    assert wish(resources={"limits": {"memory": "3Gi"}}) != wish()
    for other in ({"networkPolicy": {"enabled": False}}, {"autoscaling": {"maxReplicas": 1}}, {"paused": True}):
        assert wish(**other) == wish()
