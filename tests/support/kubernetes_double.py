"""A small double of what the planner sees of Kubernetes: objects, a StatefulSet that makes pods, nodes, brokers."""

import copy
from typing import Any

from automq_operator import api, naming
from automq_operator.cluster import Cluster
from automq_operator.observed import Node, Observed, Pod, Readyz
from automq_operator.reconcile import Action, Apply, DeleteObject, DeletePod
from automq_operator.resources import workload

UID = "11111111-2222-3333-4444-555555555555"


def a_cluster(*, status: api.Status | None = None, deleting: bool = False, **spec: Any) -> Cluster:
    """A cluster as the API server would give it; `spec` in the resource's own spelling."""
    storage = {"bucket": "demo-kafka", "region": "us-east-1", "endpoint": "http://minio.example:9000"}
    storage |= {"credentialsSecret": "demo-s3"} | spec.pop("storage", {})
    return Cluster(
        name="demo",
        namespace="team",
        uid=UID,
        generation=1,
        deleting=deleting,
        spec=api.parse_spec({"storage": storage, **spec}),
        status=status or api.Status(),
        default_image="automq:1",
    )


class World:
    """Carries actions out as Kubernetes would, at once or when asked to `settle`."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], dict[str, Any]] = {}
        self.pods: dict[str, Pod] = {}
        self.node = Node(name="node1", ready=True, not_ready_s=0.0)
        self.readyz = Readyz(state="Serving", cluster_id="the-cluster-id")
        self.writes = 0
        self._uids = 0

    def observed(self) -> Observed:
        pods = [self.pods[name] for name in sorted(self.pods)]
        nodes = {"node1": self.node, "node2": Node(name="node2", ready=True, not_ready_s=0.0)}
        return Observed(objects=copy.deepcopy(self.objects), pods=pods, nodes=nodes)

    def carry_out(self, action: Action) -> None:
        self.writes += 1
        match action:
            case Apply(manifest=manifest):
                self._apply(copy.deepcopy(dict(manifest)))
            case DeletePod(name=name, uid=uid):
                if name in self.pods and self.pods[name].uid == uid:
                    del self.pods[name]
            case DeleteObject(kind=kind, name=name, uid=uid):
                live = self.objects.get((kind, name))
                if live is not None and live["metadata"]["uid"] == uid:
                    del self.objects[kind, name]

    def _apply(self, manifest: dict[str, Any]) -> None:
        key = (manifest["kind"], manifest["metadata"]["name"])
        before = self.objects.get(key)
        self._uids += 1
        manifest["metadata"]["uid"] = before["metadata"]["uid"] if before else f"uid-{self._uids}"
        manifest["metadata"]["generation"] = before["metadata"]["generation"] + 1 if before else 1
        if manifest["kind"] == "Service" and manifest["spec"].get("type") == "NodePort":
            for port in manifest["spec"]["ports"]:
                port.setdefault("nodePort", 30123)
        if manifest["kind"] == "StatefulSet":
            manifest["status"] = {"observedGeneration": manifest["metadata"]["generation"]}
        self.objects[key] = manifest

    def settle(self, cluster: Cluster) -> None:
        """The StatefulSet controller makes missing pods; brokers start."""
        live = self.objects.get(("StatefulSet", naming.workload(cluster.name)))
        wanted = live["spec"]["replicas"] if live else 0
        for node_id in range(wanted):
            name = naming.pod(cluster.name, node_id)
            if live is not None and name not in self.pods:
                self._uids += 1
                annotations = live["spec"]["template"]["metadata"]["annotations"]
                self.pods[name] = self.a_pod(name, f"uid-{self._uids}", annotations)

    def a_pod(self, name: str, uid: str, annotations: dict[str, str]) -> Pod:
        return Pod(
            name=name,
            uid=uid,
            node="node1" if self.node.ready else "node2",
            restart_hash=annotations[naming.HASH_ANNOTATION],
            config_hash=annotations[workload.CONFIG_HASH_ANNOTATION],
            ready=True,
            deleting=False,
            waiting_reason=None,
            last_words=None,
            scheduled=True,
            readyz=self.readyz,
        )
