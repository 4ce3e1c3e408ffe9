"""Golden manifests: what a cluster becomes, to the letter."""

import dataclasses
from typing import Any

import pytest
import yaml

from automq_operator import api, naming
from automq_operator.children import Layout, own_settings
from automq_operator.resources import access, config, erase, network, policy, workload
from tests.support import golden
from tests.support.kubernetes_double import a_cluster

LISTENERS: list[dict[str, Any]] = [
    {"name": "internal", "port": 9092},
    {"name": "outside", "port": 9094, "type": "NodePort"},
]


LAYOUT = Layout(kept=(1,), node_ports={"outside": 30123}, broker_ports={("outside", 0): 30124})


def check(name: str, *manifests: dict[str, Any]) -> None:
    golden.check_text(f"operator/{name}.yaml", yaml.safe_dump_all(manifests, sort_keys=True, width=120))


def test_smallest_cluster() -> None:
    cluster = a_cluster(storage={"endpoint": None, "credentialsSecret": None})
    check(
        "smallest",
        access.service_account(cluster),
        config.config_map(cluster, {}),
        *network.services(cluster, [0]),
        workload.stateful_set(cluster, replicas=1),
        workload.disruption_budget(cluster),
        policy.network_policy(cluster),
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
        config.config_map(cluster, own_settings(cluster, LAYOUT)),
        workload.stateful_set(cluster, replicas=1),
        erase.erase_job(cluster),
    )


def test_override_of_the_container_keeps_what_it_does_not_name() -> None:
    cluster = a_cluster(template={"pod": {"spec": {"containers": [{"name": "broker", "imagePullPolicy": "Always"}]}}})
    container = workload.pod_template(cluster)["spec"]["containers"][0]
    assert container["imagePullPolicy"] == "Always"
    assert container["args"][0] == "broker"


OWN: dict[str, Any] = {
    "imagePullSecrets": [{"name": "registry"}],
    "serviceAccountName": "ours",
    "nodeSelector": {"disk": "fast"},
    "tolerations": [{"operator": "Exists"}],
    "securityContext": {"runAsUser": 1234},
    "priorityClassName": "high",
    "volumes": [{"name": "ca", "configMap": {"name": "ca"}}],
    "containers": [
        {
            "name": "broker",
            "env": [{"name": "AWS_CA_BUNDLE", "value": "/ca/ca.crt"}],
            "volumeMounts": [{"name": "ca", "mountPath": "/ca"}],
            "resources": {"limits": {"memory": "9Gi"}},
            "args": ["broker", "--more"],
        },
        {"name": "sidecar", "image": "proxy"},
    ],
}


def test_op14_erase_job_has_what_the_pods_have() -> None:
    metadata = {"labels": {"azure.workload.identity/use": "true"}, "annotations": {"sidecar.istio.io/inject": "false"}}
    cluster = a_cluster(template={"pod": {"metadata": metadata, "spec": OWN}})
    template = erase.erase_job(cluster)["spec"]["template"]
    pod = template["spec"]
    for field in ("imagePullSecrets", "serviceAccountName", "nodeSelector", "tolerations", "priorityClassName"):
        assert pod[field] == OWN[field], field
    assert pod["securityContext"]["runAsUser"] == 1234
    assert pod["securityContext"]["runAsNonRoot"]
    assert {volume["name"] for volume in pod["volumes"]} == {"tmp", "credentials", "ca"}
    assert template["metadata"]["labels"]["azure.workload.identity/use"] == "true"
    assert template["metadata"]["annotations"] == metadata["annotations"]
    (container,) = pod["containers"]
    assert container["env"] == [{"name": "AWS_CA_BUNDLE", "value": "/ca/ca.crt"}]
    assert {mount["name"] for mount in container["volumeMounts"]} == {"tmp", "credentials", "ca"}
    assert container["args"][0] == "erase"
    assert container["resources"]["limits"] == {"memory": "512Mi"}


def test_op14_pod_of_the_erase_job_is_no_broker_to_any_service() -> None:
    cluster = a_cluster()
    labels = erase.erase_job(cluster)["spec"]["template"]["metadata"]["labels"]
    for service in network.services(cluster, [0]):
        assert not service["spec"]["selector"].items() <= labels.items()


def test_op14_the_users_account_is_left_alone_by_a_deletion() -> None:
    job = {"metadata": {"name": "job", "uid": "job-uid"}}
    assert erase.erase_account(a_cluster(template={"pod": {"spec": OWN}}), job) is None
    made = erase.erase_account(a_cluster(), job)
    assert made is not None
    assert [owner["uid"] for owner in made["metadata"]["ownerReferences"]] == ["job-uid"]


def test_op14_account_carries_the_cloud_role() -> None:
    role = {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/kafka"}
    cluster = a_cluster(template={"serviceAccount": {"metadata": {"annotations": role, "labels": {"team": "a"}}}})
    metadata = access.service_account(cluster)["metadata"]
    assert metadata["annotations"] == role
    assert metadata["labels"]["team"] == "a"
    assert metadata["labels"][naming.CLUSTER_LABEL] == "demo"


def test_op14_pull_secrets_of_the_chart_reach_brokers_and_the_job() -> None:
    own = {"imagePullSecrets": [{"name": "registry"}]}
    cluster = dataclasses.replace(a_cluster(template={"pod": {"spec": own}}), pull_secrets=("one", "registry"))
    for pod in (workload.pod_template(cluster)["spec"], erase.erase_job(cluster)["spec"]["template"]["spec"]):
        assert pod["imagePullSecrets"] == [{"name": "one"}, {"name": "registry"}]
    assert "imagePullSecrets" not in workload.pod_template(a_cluster())["spec"]


def test_op15_node_port_is_answered_by_every_node() -> None:
    service = network.services(a_cluster(listeners=LISTENERS), [0])[-1]
    assert service["spec"]["type"] == "NodePort"
    assert service["spec"]["externalTrafficPolicy"] == "Cluster"


@pytest.mark.parametrize(
    ("config", "grace_s"),
    [({}, 30), ({"automq.shutdown.timeout.ms": "60001"}, 71), ({"automq.shutdown.timeout.ms": "soon"}, 30)],
)
def test_kubelet_waits_longer_than_the_broker_may_take_to_stop(config: dict[str, str], grace_s: int) -> None:
    spec = workload.pod_template(a_cluster(config=config))["spec"]
    assert spec["terminationGracePeriodSeconds"] == grace_s


def test_every_pod_is_restricted() -> None:
    cluster = a_cluster()
    for spec in (workload.pod_template(cluster)["spec"], erase.erase_job(cluster)["spec"]["template"]["spec"]):
        assert spec["securityContext"]["runAsNonRoot"]
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
