"""Who may connect to brokers: every connection that is needed, judged as a policy engine does, and no other."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from automq_operator.children import Layout, children
from automq_operator.cluster import Cluster
from automq_operator.resources import policy
from tests.support.kubernetes_double import a_cluster

BROKER = {"automq.io/cluster": "demo", "automq.io/role": "broker"}
OPERATOR = {"app.kubernetes.io/name": "automq-operator"}
LISTENERS: list[dict[str, Any]] = [
    {"name": "internal", "port": 9092},
    {"name": "team", "port": 9094, "allowFrom": [{"namespaceSelector": {"matchLabels": {"team": "a"}}}]},
]


def _cluster(**spec: Any) -> Cluster:
    return dataclasses.replace(a_cluster(listeners=LISTENERS, **spec), operator_namespace="automq")


def _matches(selector: Mapping[str, Any] | None, labels: Mapping[str, str]) -> bool:
    return selector is not None and (selector.get("matchLabels") or {}).items() <= labels.items()


def _may(cluster: Cluster, port: int, *, namespace: str, pod: Mapping[str, str] | None, team: str = "") -> bool:
    """`pod` None: from outside the Kubernetes cluster."""
    labels = {"kubernetes.io/metadata.name": namespace, "team": team}
    for rule in policy.network_policy(cluster)["spec"]["ingress"]:
        if "ports" in rule and port not in [item["port"] for item in rule["ports"]]:
            continue
        if "from" not in rule:
            return True
        for peer in rule["from"]:
            if pod is None or "ipBlock" in peer:
                continue
            here = _matches(peer["namespaceSelector"], labels) if "namespaceSelector" in peer else namespace == "team"
            if here and ("podSelector" not in peer or _matches(peer["podSelector"], pod)):
                return True
    return False


def test_clients_reach_the_listeners_that_are_open_to_them() -> None:
    cluster = _cluster()
    assert _may(cluster, 9092, namespace="", pod=None)
    assert _may(cluster, 9092, namespace="elsewhere", pod={})
    assert _may(cluster, 9094, namespace="elsewhere", pod={}, team="a")
    assert not _may(cluster, 9094, namespace="elsewhere", pod={}, team="b")
    assert not _may(cluster, 9094, namespace="", pod=None)
    assert not _may(cluster, 22, namespace="team", pod={})


def test_brokers_alone_reach_each_other_on_the_internal_port_and_on_no_other_that_is_closed() -> None:
    cluster = _cluster()
    assert _may(cluster, 9405, namespace="team", pod=BROKER)
    assert not _may(cluster, 9999, namespace="team", pod=BROKER)
    assert not _may(cluster, 9405, namespace="team", pod=BROKER | {"automq.io/cluster": "other"})
    assert not _may(cluster, 9405, namespace="elsewhere", pod=BROKER)
    assert not _may(cluster, 9405, namespace="team", pod={})
    assert not _may(cluster, 9405, namespace="automq", pod=OPERATOR)


def test_the_operator_reaches_listeners_and_probes() -> None:
    cluster = _cluster(networkPolicy={"metricsFrom": [{"namespaceSelector": {"matchLabels": {"team": "watch"}}}]})
    for port in (9092, 9094, 9404):
        assert _may(cluster, port, namespace="automq", pod=OPERATOR)
    assert not _may(cluster, 9404, namespace="elsewhere", pod=OPERATOR)


def test_metrics_are_for_pods_unless_they_are_for_fewer() -> None:
    assert _may(_cluster(), 9404, namespace="elsewhere", pod={})
    assert not _may(_cluster(), 9404, namespace="", pod=None)
    narrow = _cluster(networkPolicy={"metricsFrom": [{"namespaceSelector": {"matchLabels": {"team": "watch"}}}]})
    assert _may(narrow, 9404, namespace="elsewhere", pod={}, team="watch")
    assert not _may(narrow, 9404, namespace="elsewhere", pod={})


def test_it_is_about_the_brokers_of_this_cluster_and_about_nothing_that_they_begin() -> None:
    spec = policy.network_policy(_cluster())["spec"]
    assert spec["podSelector"] == {"matchLabels": BROKER}
    assert spec["policyTypes"] == ["Ingress"]


def test_it_is_there_unless_it_is_not_wanted() -> None:
    layout = Layout(kept=(1,), node_ports={})
    assert "NetworkPolicy" in {child.kind for child in children(a_cluster(), layout)}
    off = a_cluster(networkPolicy={"enabled": False})
    assert "NetworkPolicy" not in {child.kind for child in children(off, layout)}
