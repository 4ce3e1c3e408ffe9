"""A double of what the planner sees of Kubernetes: objects, a StatefulSet that makes pods, nodes, brokers, a clock.

It does what the real ones do to an operator that hopes for the best: it refuses, answers late, drops zero values from
what is applied, shows an old state, lets probes go unanswered and brokers end. Nothing happens by itself: a test asks
for it, and for time to pass.
"""

import copy
import dataclasses
from collections.abc import Mapping
from typing import Any

import msgspec

from automq_operator import api, naming
from automq_operator.cluster import Cluster
from automq_operator.dynamic_configs import DEFAULTS
from automq_operator.observed import BrokerConfig, GonePod, Node, ObjectKey, Observed, Pod, Readyz, Refusal
from automq_operator.plan import (
    Action,
    Apply,
    DeleteObject,
    DeletePod,
    EndBroker,
    LabelPod,
    SetConfigs,
    SetDraining,
    Unregister,
    digest_of,
    key_of,
)
from automq_operator.resources import workload

UID = "11111111-2222-3333-4444-555555555555"
SERVING = Readyz(state="Serving", cluster_id="the-cluster-id")


def a_cluster(
    *, status: api.Status | None = None, deleting: bool = False, default_image: str = "automq:1", **spec: Any
) -> Cluster:
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
        default_image=default_image,
    )


class World:
    """Carries actions out as Kubernetes would, at once or when asked to `settle`."""

    def __init__(self) -> None:
        self.objects: dict[ObjectKey, dict[str, Any]] = {}
        self.pods: dict[str, Pod] = {}
        self.nodes = {
            name: Node(name=name, ready=True, labels={"disk": "fast"}) for name in ("node1", "node2", "node3")
        }
        self.readyz: Readyz = SERVING
        """What brokers that start say."""
        self.refuses: dict[ObjectKey, tuple[int, str]] = {}
        """Applies of these are answered with this."""
        self.unavailable_images: set[str] = set()
        self.silent: set[str] = set()
        """Pods whose brokers do not answer the operator."""
        self.draining: set[int] = set()
        """Brokers that the Kafka cluster is told to empty: kept in its metadata, whatever becomes of pods."""
        self.stuck: set[int] = set()
        """Brokers that cannot be emptied."""
        self.registered: dict[int, bool] = {}
        """Brokers that the Kafka cluster knows, each with whether it is fenced."""
        self.shared_configs: dict[str, str] = {}
        """Settings that the Kafka cluster has for all brokers: kept in its metadata, whatever becomes of pods."""
        self.own_configs: dict[int, dict[str, str]] = {}
        self.started_with: dict[int, dict[str, str]] = {}
        """What each broker found in its file when it started."""
        self.refused_values: dict[str, str] = {}
        """Values that the Kafka cluster does not take, with its words."""
        self.ended: list[tuple[int, int]] = []
        """(broker, epoch) of incarnations that the Kafka cluster was told to be gone."""
        self.gone: list[GonePod] = []
        self.asked_of_brokers: list[tuple[str, int]] = []
        self.drifted: set[ObjectKey] = set()
        self.refused: dict[ObjectKey, Refusal] = {}
        self.now = 0.0
        self.writes = 0
        self.deleted_pods: list[str] = []
        self._since: dict[str, float] = {}
        self._uids = 0
        self._stale: Observed | None = None

    def observed(self) -> Observed:
        """What an operator sees now; after `lose_watches` what it saw then."""
        if self._stale is not None:
            return dataclasses.replace(self._stale, refused=dict(self.refused))
        pods = [self._as_seen(self.pods[name]) for name in sorted(self.pods)]
        return Observed(
            objects=copy.deepcopy(self.objects),
            pods=pods,
            nodes={name: self._node_as_seen(node) for name, node in self.nodes.items()},
            refused=dict(self.refused),
            drifted=frozenset(self.drifted),
            registered=dict(self.registered) or None,
            gone=tuple(self.gone),
            configs={
                int(pod.name.rpartition("-")[2]): self._configs(int(pod.name.rpartition("-")[2]))
                for pod in pods
                if pod.readyz is not None and pod.readyz.state == "Serving"
            },
        )

    def _configs(self, node_id: int) -> dict[str, BrokerConfig]:
        own, file = self.own_configs.get(node_id, {}), self.started_with.get(node_id, {})
        return {
            name: BrokerConfig(own=own.get(name), shared=self.shared_configs.get(name), started_with=file.get(name))
            for name in DEFAULTS
        }

    def _set_configs(self, action: SetConfigs) -> None:
        said = [self.refused_values[value] for value in action.set.values() if value in self.refused_values]
        if said:
            self.refused[key_of(action)] = Refusal(status=42, message="; ".join(said), digest=digest_of(action))
        else:
            self.refused.pop(key_of(action), None)
        kept = self.shared_configs if action.broker is None else self.own_configs.setdefault(action.broker, {})
        kept |= {name: value for name, value in action.set.items() if value not in self.refused_values}
        for name in action.unset:
            kept.pop(name, None)

    def lose_watches(self) -> None:
        """The operator sees this moment until `find_watches`."""
        self._stale = self.observed()

    def find_watches(self) -> None:
        self._stale = None

    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    def _age(self, key: str, holds: bool) -> float:
        if not holds:
            self._since.pop(key, None)
            return 0.0
        return self.now - self._since.setdefault(key, self.now)

    def _as_seen(self, pod: Pod) -> Pod:
        asked = pod.running and not pod.deleting
        readyz = self._occupied(pod) if asked and pod.name not in self.silent else None
        silent_s = self._age(f"silent {pod.uid}", asked and readyz is None)
        seen_s = self._age(f"seen {pod.uid}", True)
        draining_s = self._age(f"draining {pod.uid}", readyz is not None and readyz.draining)
        fenced_s = self._age(f"fenced {pod.uid}", readyz is not None and readyz.state == "Fenced")
        ages = {"silent_s": silent_s, "seen_s": seen_s, "draining_s": draining_s, "fenced_s": fenced_s}
        return dataclasses.replace(pod, asked=asked, readyz=readyz, **ages)

    def _occupied(self, pod: Pod) -> Readyz | None:
        """Its word, with what it leads: a broker that is told to give everything away has done so a moment later."""
        said, node_id = pod.readyz, int(pod.name.rpartition("-")[2])
        if said is None or said.state != "Serving":
            return said
        draining = node_id in self.draining
        empty = draining and node_id not in self.stuck
        why = None if empty else ("it leads 4 partitions" if draining else "it is not being drained")
        led = 0 if empty else 4
        return msgspec.structs.replace(said, draining=draining, empty=empty, not_empty=why, led_partitions=led)

    def _node_as_seen(self, node: Node) -> Node:
        return dataclasses.replace(node, not_ready_s=self._age(f"node {node.name}", not node.ready))

    def lose_node(self, name: str, *, for_s: float = 60.0) -> None:
        """Kubernetes says that it is not ready; what runs there goes on, unheard by the kubelet's word."""
        self.nodes[name] = dataclasses.replace(self.nodes[name], ready=False)
        self._since.setdefault(f"node {name}", self.now - for_s)

    def carry_out(self, action: Action) -> None:
        self.writes += 1
        match action:
            case Apply(manifest=manifest):
                self._apply(copy.deepcopy(dict(manifest)))
            case DeletePod(name=name, uid=uid):
                if name in self.pods and self.pods[name].uid == uid:
                    self.deleted_pods.append(name)
                    del self.pods[name]
            case LabelPod(name=name, uid=uid, draining=draining):
                if name in self.pods and self.pods[name].uid == uid:
                    self.change_pod(name, labelled_draining=draining)
            case SetDraining(broker=broker, on=on):
                self.asked_of_brokers.append(("drain" if on else "fill", broker))
                (self.draining.add if on else self.draining.discard)(broker)
            case EndBroker(broker=broker, epoch=epoch):
                self.asked_of_brokers.append(("end", broker))
                self.ended.append((broker, epoch))
                self.registered[broker] = True
            case SetConfigs():
                self._set_configs(action)
            case Unregister(broker=broker):
                self.asked_of_brokers.append(("unregister", broker))
                if self.registered.get(broker):
                    del self.registered[broker]
                    self.draining.discard(broker)
            case DeleteObject(kind=kind, name=name, uid=uid, foreground=foreground):
                live = self.objects.get((kind, name))
                if live is None or live["metadata"]["uid"] != uid:
                    return
                if foreground:
                    live["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
                else:
                    del self.objects[kind, name]

    def _apply(self, manifest: dict[str, Any]) -> None:
        key = (manifest["kind"], manifest["metadata"]["name"])
        if key in self.refuses:
            status, message = self.refuses[key]
            digest = manifest["metadata"]["annotations"][naming.APPLIED_ANNOTATION]
            self.refused[key] = Refusal(status=status, message=message, digest=digest)
            return
        self.refused.pop(key, None)
        self.drifted.discard(key)
        before = self.objects.get(key)
        self._uids += 1
        manifest = without_zeros(manifest)
        if before and "status" in before:
            manifest["status"] = before["status"]
        manifest["metadata"]["uid"] = before["metadata"]["uid"] if before else f"uid-{self._uids}"
        manifest["metadata"]["generation"] = before["metadata"]["generation"] + 1 if before else 1
        if manifest["kind"] == "Service" and manifest["spec"].get("type") == "NodePort":
            for port in manifest["spec"]["ports"]:
                port.setdefault("nodePort", 30123)
        if manifest["kind"] == "StatefulSet":
            manifest["status"] = {"observedGeneration": manifest["metadata"]["generation"]}
        self.objects[key] = manifest

    def meddle(self, kind: str, name: str, spec: Mapping[str, Any]) -> None:
        """Somebody else changes fields that the operator had applied."""
        self.objects[kind, name]["spec"] |= spec
        self.drifted.add((kind, name))

    def give_address(self, service: str, **ingress: str) -> None:
        """The controller of load balancers has made one: `ip` or `hostname`."""
        self.objects["Service", service]["status"] = {"loadBalancer": {"ingress": [ingress]}}

    def settle(self, cluster: Cluster) -> None:
        """The StatefulSet controller makes missing pods; brokers start; what is being deleted and empty goes."""
        for kind, name in list(self.objects):
            if kind == "StatefulSet" and naming.is_workload(cluster.name, name):
                self._reconcile_workload(name)
        serving = {
            int(name.rpartition("-")[2])
            for name, pod in self.pods.items()
            if pod.readyz is not None and pod.readyz.state == "Serving"
        }
        self.registered = {node_id: node_id not in serving for node_id in {*self.registered, *serving}}

    def _reconcile_workload(self, workload_name: str) -> None:
        live = self.objects["StatefulSet", workload_name]
        own = {name for name, pod in self.pods.items() if pod.owner_uid == live["metadata"]["uid"]}
        if "deletionTimestamp" in live["metadata"]:
            if not own:
                del self.objects["StatefulSet", workload_name]
            return
        start = live["spec"].get("ordinals", {}).get("start", 0)
        wanted = {f"{workload_name}-{start + place}" for place in range(live["spec"]["replicas"])}
        for name in sorted(wanted - set(self.pods), key=lambda name: int(name.rpartition("-")[2])):
            self._uids += 1
            self.pods[name] = self.a_pod(name, live)
        for name in own - wanted:
            del self.pods[name]

    def a_pod(self, name: str, live: Mapping[str, Any]) -> Pod:
        """A pod as this StatefulSet makes it, on the first node that takes one."""
        template = live["spec"]["template"]
        annotations = template["metadata"]["annotations"]
        wanted = template["spec"].get("nodeSelector", {})
        node = next((node.name for node in self.nodes.values() if _is_schedulable(node, wanted)), None)
        images = {container["name"]: container["image"] for container in template["spec"]["containers"]}
        runs = node is not None and images[workload.CONTAINER] not in self.unavailable_images
        return Pod(
            name=name,
            uid=f"uid-{self._uids}",
            owner_uid=live["metadata"]["uid"],
            node=node,
            restart_hash=annotations[naming.HASH_ANNOTATION],
            adopt=annotations.get(naming.ADOPT_ANNOTATION, ""),
            ready=runs and self.readyz.state == "Serving",
            deleting=False,
            waiting_reason=None if runs or node is None else "ImagePullBackOff",
            last_words=None,
            scheduled=node is not None,
            running=runs,
            address=f"address-of-{name}" if runs else None,
            readyz=self._said(name, template) if runs else None,
        )

    def _said(self, name: str, template: Mapping[str, Any]) -> Readyz:
        """A broker's word, with what it read in the file of its own, if it has one."""
        (container,) = [item for item in template["spec"]["containers"] if item["name"] == workload.CONTAINER]
        file = container["args"][-1].rpartition("/")[2].replace("$(POD_NAME)", name)
        text = next((data[file] for data in self._config_maps() if file in data), "")
        lines = dict(line.partition("=")[::2] for line in text.splitlines())
        self.started_with[int(name.rpartition("-")[2])] = {key: lines[key] for key in lines if key in DEFAULTS}
        told = lines.get("advertised.listeners")
        if told is None:
            return self.readyz
        advertised = {name.upper(): address for name, address in (item.split("://") for item in told.split(","))}
        return msgspec.structs.replace(self.readyz, advertised=advertised)

    def _config_maps(self) -> list[dict[str, str]]:
        return [live["data"] for (kind, _), live in self.objects.items() if kind == "ConfigMap"]

    def change_pod(self, name: str, **fields: Any) -> None:
        self.pods[name] = dataclasses.replace(self.pods[name], **fields)


def _is_schedulable(node: Node, wanted: Mapping[str, str]) -> bool:
    return node.ready and node.schedulable and wanted.items() <= node.labels.items()


def without_zeros(value: Any) -> Any:
    """As typed objects come back: a field of its type's zero value is not there."""
    if isinstance(value, dict):
        kept = {key: without_zeros(item) for key, item in value.items()}
        return {
            key: item for key, item in kept.items() if item not in (False, 0, "", None, [], {}) or key == "replicas"
        }
    if isinstance(value, list):
        return [without_zeros(item) for item in value]
    return value
