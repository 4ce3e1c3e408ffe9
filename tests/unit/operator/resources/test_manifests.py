"""Golden manifests: what a cluster becomes, to the letter."""

from typing import Any

import yaml

from automq_operator import api
from automq_operator.resources import access, config, erase, network, workload
from tests.support import golden
from tests.support.kubernetes_double import a_cluster

LISTENERS: list[dict[str, Any]] = [
    {"name": "internal", "port": 9092},
    {"name": "outside", "port": 9094, "type": "NodePort"},
]


def check(name: str, *manifests: dict[str, Any]) -> None:
    golden.check_text(f"operator/{name}.yaml", yaml.safe_dump_all(manifests, sort_keys=True, width=120))


def test_smallest_cluster() -> None:
    cluster = a_cluster(storage={"endpoint": None, "credentialsSecret": None})
    check(
        "smallest",
        access.service_account(cluster),
        config.config_map(cluster),
        *network.services(cluster),
        workload.stateful_set(cluster, {}, replicas=1),
        workload.disruption_budget(cluster),
    )


def test_cluster_with_everything() -> None:
    cluster = a_cluster(
        status=api.Status(cluster_id="the-cluster-id"),
        listeners=LISTENERS,
        config={"log.retention.ms": "1000", "odd": "back\\slash\nline"},
        image="registry.example/automq:7",
        resources={"requests": {"cpu": "1"}, "limits": {"cpu": 2, "memory": "4Gi"}},
        template={
            "pod": {
                "metadata": {"labels": {"team": "a"}, "annotations": {"x": "y"}},
                "spec": {
                    "nodeSelector": {"disk": "fast"},
                    "containers": [{"name": "broker", "env": [{"name": "EXTRA", "value": "1"}]}, {"name": "sidecar"}],
                },
            }
        },
    )
    check(
        "everything",
        config.config_map(cluster),
        workload.stateful_set(cluster, {"outside": 30123}, replicas=1),
        erase.erase_job(cluster),
    )


def test_override_of_the_container_keeps_what_it_does_not_name() -> None:
    cluster = a_cluster(template={"pod": {"spec": {"containers": [{"name": "broker", "imagePullPolicy": "Always"}]}}})
    container = workload.pod_template(cluster, {})["spec"]["containers"][0]
    assert container["imagePullPolicy"] == "Always"
    assert container["args"][0] == "broker"


def test_every_pod_is_restricted() -> None:
    cluster = a_cluster()
    for spec in (workload.pod_template(cluster, {})["spec"], erase.erase_job(cluster)["spec"]["template"]["spec"]):
        assert spec["securityContext"]["runAsNonRoot"]
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
