"""A Kubernetes API in memory behind the port that loops use, and a cluster's loop on it, without kopf and sockets.

It keeps what a real one keeps (uids, versions, managed fields, finalizers), and does what a real one does to a client:
it refuses, delays, is away, shows its watchers an old state, and has strangers' objects that carry no label.
"""

import asyncio
import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import aiohttp

from automq_operator import api, naming
from automq_operator.api_server import ApiError, ApiServer
from automq_operator.cache import INDEXED_KINDS, Cache, index_name, kept, place
from automq_operator.catalogue import CLUSTER
from automq_operator.fleet import Fleet
from automq_operator.kafka_admin import AdminFailed, KafkaAdmin
from automq_operator.kinds import WATCHED_KINDS
from automq_operator.loop import ClusterLoop, Tools
from automq_operator.observed import BrokerConfig, Readyz
from automq_operator.observer import Observer
from automq_operator.plan import Limits, Note
from automq_operator.telemetry import Health
from tests.support.kubernetes_double import SERVING, UID, without_zeros

Key = tuple[str, str, str]
"""(kind, namespace, name)."""


def a_resource(name: str = "demo", *, uid: str = UID, **spec: Any) -> dict[str, Any]:
    """An AutoMQCluster as the API server keeps it; `spec` in its own spelling."""
    storage = {"bucket": "demo-kafka"} | spec.pop("storage", {})
    return {
        "apiVersion": f"{api.GROUP}/{api.VERSION}",
        "kind": api.KIND,
        "metadata": {"name": name, "namespace": "team", "uid": uid, "generation": 1},
        "spec": {"storage": storage, **spec},
    }


class MemoryServer:
    """The verbs of `ApiServer`."""

    def __init__(self) -> None:
        self.objects: dict[Key, dict[str, Any]] = {}
        self.refuses: dict[tuple[str, str], ApiError] = {}
        """(verb, kind) -> what is answered."""
        self.delay_s = 0.0
        self.fenced = False
        self.calls: list[str] = []
        self.writes = 0
        self._versions = 100

    def put(self, body: dict[str, Any]) -> dict[str, Any]:
        """As anybody else would: the object is there."""
        self._versions += 1
        metadata = body["metadata"]
        metadata.setdefault("uid", f"uid-{self._versions}")
        metadata["resourceVersion"] = str(self._versions)
        self.objects[body["kind"], metadata.get("namespace") or "", metadata["name"]] = body
        return body

    def nodes(self, *names: str, ready: bool = True) -> None:
        for name in names:
            conditions = [{"type": "Ready", "status": "True" if ready else "Unknown"}]
            self.put({"kind": "Node", "metadata": {"name": name}, "status": {"conditions": conditions}})

    async def _answer(self, verb: str, kind: str, name: str) -> None:
        self.calls.append(f"{verb} {kind}/{name}")
        await asyncio.sleep(self.delay_s)
        if (verb, kind) in self.refuses:
            raise self.refuses[verb, kind]

    async def get(self, kind: str, namespace: str, name: str) -> Mapping[str, Any] | None:
        await self._answer("get", kind, name)
        found = self.objects.get((kind, namespace, name))
        return copy.deepcopy(found)

    async def list(self, kind: str, namespace: str | None, selector: str = "") -> list[Mapping[str, Any]]:
        await self._answer("list", kind, "*")
        return [copy.deepcopy(body) for key, body in self.objects.items() if key[0] == kind and watched(kind, body)]

    async def apply(self, manifest: Mapping[str, Any], uid: str | None = None) -> Mapping[str, Any]:
        kind, metadata = manifest["kind"], manifest["metadata"]
        self.writes += 1
        await self._answer("apply", kind, metadata["name"])
        key = (kind, metadata["namespace"], metadata["name"])
        before = self.objects.get(key)
        if uid is not None and (before is None or before["metadata"]["uid"] != uid):
            raise ApiError(status=409, message="the UID in the precondition does not match", what="apply")
        made = without_zeros(copy.deepcopy(dict(manifest)))
        entry = {"manager": naming.FIELD_MANAGER, "operation": "Apply", "fieldsV1": _fields(made)}
        made["metadata"]["managedFields"] = [entry]
        made["metadata"]["uid"] = before["metadata"]["uid"] if before else None
        if before is None:
            del made["metadata"]["uid"]
        generation = before["metadata"].get("generation", 0) + 1 if before else 1
        made["metadata"]["generation"] = generation
        if kind == "StatefulSet":
            made["status"] = {"observedGeneration": generation}
        if kind == "Service" and made["spec"].get("type") == "NodePort":
            for port in made["spec"]["ports"]:
                port.setdefault("nodePort", 30123)
        return copy.deepcopy(self.put(made))

    def meddle(self, kind: str, name: str, spec: Mapping[str, Any]) -> None:
        """Somebody else changes fields, and so takes them over."""
        body = copy.deepcopy(self.objects[kind, "team", name])
        body["spec"] |= spec
        for entry in body["metadata"]["managedFields"]:
            for field in spec:
                entry["fieldsV1"].get("spec", {}).pop(field, None)
        self.put(body)

    async def set_finalizers(self, body: Mapping[str, Any], finalizers: Sequence[str]) -> Mapping[str, Any]:
        metadata = body["metadata"]
        self.writes += 1
        await self._answer("finalizers", body["kind"], metadata["name"])
        key = (body["kind"], metadata["namespace"], metadata["name"])
        live = self.objects.get(key)
        if live is None:
            raise ApiError(status=404, message="not found", what="finalizers")
        if live["metadata"]["resourceVersion"] != metadata["resourceVersion"]:
            raise ApiError(status=409, message="the object has been modified", what="finalizers")
        made = copy.deepcopy(live)
        made["metadata"]["finalizers"] = list(finalizers)
        if not finalizers and "deletionTimestamp" in made["metadata"]:
            del self.objects[key]  # what is removed gets no new version
        else:
            self.put(made)
        return copy.deepcopy(made)

    def check_leading(self, what: str) -> None:
        if self.fenced:
            raise ApiError(status=0, message="this replica no longer leads", what=what)

    async def set_labels(
        self, kind: str, namespace: str, name: str, *, uid: str, labels: Mapping[str, str | None]
    ) -> Mapping[str, Any]:
        self.writes += 1
        await self._answer("label", kind, name)
        live = self.objects.get((kind, namespace, name))
        if live is None or live["metadata"]["uid"] != uid:
            raise ApiError(status=409, message="the UID in the precondition does not match", what="label")
        made = copy.deepcopy(live)
        kept = {**(made["metadata"].get("labels") or {}), **labels}
        made["metadata"]["labels"] = {key: value for key, value in kept.items() if value is not None}
        return copy.deepcopy(self.put(made))

    async def delete(self, kind: str, namespace: str, name: str, *, uid: str, **how: Any) -> Mapping[str, Any] | None:
        self.writes += 1
        await self._answer("delete", kind, name)
        live = self.objects.get((kind, namespace, name))
        if live is None or live["metadata"]["uid"] != uid:
            return None
        if how.get("foreground"):
            return copy.deepcopy(self.put(ending(live)))
        del self.objects[kind, namespace, name]
        return None

    async def write_status(
        self, namespace: str, name: str, status: Mapping[str, Any], *, kind: str = api.KIND
    ) -> Mapping[str, Any]:
        self.writes += 1
        await self._answer("status", kind, name)
        live = copy.deepcopy(self.objects[kind, namespace, name])
        live["status"] = json.loads(json.dumps(status))
        return copy.deepcopy(self.put(live))

    def status(self, name: str = "demo") -> api.Status:
        return api.parse_status(self.objects[api.KIND, "team", name].get("status"))

    def conditions(self, name: str = "demo") -> dict[str, tuple[str, str]]:
        return {item.type: (item.status, item.reason) for item in self.status(name).conditions}


def ending(body: Mapping[str, Any]) -> dict[str, Any]:
    """The object, being deleted."""
    from automq_operator import runtime

    now = runtime.rfc3339(runtime.wall_time())
    return {**body, "metadata": {**body["metadata"], "deletionTimestamp": now}}


def _fields(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _fields(item) for key, item in value.items()}
    return {}


def watched(kind: str, body: Mapping[str, Any]) -> bool:
    """Whether watches with the cluster's label show it."""
    return kind not in WATCHED_KINDS or naming.CLUSTER_LABEL in (body["metadata"].get("labels") or {})


class Watches(Mapping[str, Any]):
    """kopf's indices over a memory server. `lost`: they show the moment at which they were lost."""

    def __init__(self, server: MemoryServer) -> None:
        self._server = server
        self._shown: dict[Key, dict[str, Any]] | None = None

    def lose(self) -> None:
        self._shown = dict(self._server.objects)

    def find(self) -> None:
        self._shown = None

    def __getitem__(self, name: str) -> "_Index":
        kind = next(kind for kind in INDEXED_KINDS if index_name(kind) == name)
        return _Index(kind, self)

    def __iter__(self) -> Iterator[str]:
        return iter(map(index_name, INDEXED_KINDS))

    def __len__(self) -> int:
        return len(INDEXED_KINDS)

    def objects(self, kind: str) -> dict[tuple[str, str], list[Any]]:
        found: dict[tuple[str, str], list[Any]] = {}
        for key, body in (self._server.objects if self._shown is None else self._shown).items():
            if key[0] == kind and watched(kind, body):
                found.setdefault(place(kind, body), []).append(kept(kind, body))
        return found


class _Index(Mapping[tuple[str, str], Any]):
    def __init__(self, kind: str, watches: Watches) -> None:
        self._kind, self._watches = kind, watches

    def __getitem__(self, key: tuple[str, str]) -> Any:
        return self._watches.objects(self._kind)[key]

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._watches.objects(self._kind))

    def __len__(self) -> int:
        return len(self._watches.objects(self._kind))


class DoubleObserver(Observer):
    """Brokers answer what a test says, by the address of their pod."""

    def __init__(self, cache: Cache, server: MemoryServer) -> None:
        super().__init__(cache, cast(ApiServer, server), cast(aiohttp.ClientSession, None))
        self.answers: dict[str, Readyz | None] = {}
        self.asked = 0

    async def readyz(self, address: str) -> Readyz | None:
        self.asked += 1
        return self.answers.get(address, SERVING)


class MemoryKafka(KafkaAdmin):
    """A Kafka cluster that does what it is asked, or fails with what a test says."""

    def __init__(self) -> None:
        self.known: dict[int, bool] = {}
        self.calls: list[tuple[str, int]] = []
        self.may_answer = asyncio.Event()
        """Whether who is told of a broker that is gone answers."""
        self.set_fails: AdminFailed | None = None
        self.end_fails: AdminFailed | None = None
        self.listed = 0
        self.described = 0
        self.shared_configs: dict[str, str] = {}
        self.fails: AdminFailed | None = None

    async def set_draining(self, through: Sequence[tuple[str, int]], broker: int, *, on: bool) -> None:
        self.calls.append(("drain" if on else "fill", broker))
        if self.fails is not None:
            raise self.fails

    async def brokers(self, through: Sequence[tuple[str, int]]) -> Mapping[int, bool]:
        self.listed += 1
        if self.fails is not None:
            raise self.fails
        return dict(self.known)

    async def unregister(self, through: Sequence[tuple[str, int]], broker: int) -> None:
        self.calls.append(("unregister", broker))
        if self.fails is not None:
            raise self.fails
        self.known.pop(broker, None)

    async def end(self, through: Sequence[tuple[str, int]], broker: int, epoch: int, *, timeout_s: float) -> None:
        self.calls.append((f"end {epoch}", broker))
        await self.may_answer.wait()
        if self.end_fails is not None:
            raise self.end_fails

    async def configs(self, address: tuple[str, int], broker: int, names: Sequence[str]) -> dict[str, BrokerConfig]:
        self.described += 1
        if self.fails is not None:
            raise self.fails
        return {name: BrokerConfig(shared=self.shared_configs.get(name)) for name in names}

    async def set_configs(
        self, through: Sequence[tuple[str, int]], broker: int | None, *, set: Mapping[str, str], unset: Sequence[str]
    ) -> None:
        self.calls.append(("set configs", -1 if broker is None else broker))
        if (failed := self.fails or self.set_fails) is not None:
            raise failed
        self.shared_configs |= set
        for name in unset:
            self.shared_configs.pop(name, None)


class Harness:
    """One operator's worth of loops over a memory server."""

    def __init__(self, server: MemoryServer | None = None, *, limits: Limits | None = None) -> None:
        self.server = server or MemoryServer()
        self.watches = Watches(self.server)
        self.cache = Cache()
        self.cache.bind(self.watches)
        self.observer = DoubleObserver(self.cache, self.server)
        self.health = Health()
        self.kafka = MemoryKafka()
        self.told: list[Note] = []
        self.tools = Tools(
            server=cast(ApiServer, self.server),
            cache=self.cache,
            observer=self.observer,
            fleet=Fleet(default_image="automq:1", now=-1000.0),
            health=self.health,
            emit_event=lambda _, note: self.told.append(note),
            limits=limits or Limits(),
            default_image="automq:1",
            admin=self.kafka,
        )

    def loop(self, name: str = "demo") -> ClusterLoop:
        return ClusterLoop(self.tools, CLUSTER, "team", name)

    def start_pods(self, name: str = "demo") -> None:
        """What the StatefulSet controller and kubelets do."""
        live = self.server.objects.get(("StatefulSet", "team", naming.workload(name)))
        if live is None or "deletionTimestamp" in live["metadata"]:
            return
        for node_id in range(live["spec"]["replicas"]):
            pod = naming.pod(name, node_id)
            if ("Pod", "team", pod) not in self.server.objects:
                self.server.put(a_pod(pod, live))


def a_pod(name: str, live: Mapping[str, Any], **status: Any) -> dict[str, Any]:
    """A pod as this StatefulSet makes it, running and Ready."""
    metadata, template = live["metadata"], live["spec"]["template"]
    owner = {"kind": "StatefulSet", "name": metadata["name"], "uid": metadata["uid"], "controller": True}
    conditions = [{"type": "Ready", "status": "True"}, {"type": "PodScheduled", "status": "True"}]
    container = {"name": "broker", "state": {"running": {}}}
    return {
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": metadata["namespace"],
            "labels": template["metadata"]["labels"],
            "annotations": template["metadata"]["annotations"],
            "ownerReferences": [owner],
        },
        "spec": {**template["spec"], "nodeName": "node1"},
        "status": {"conditions": conditions, "containerStatuses": [container], "podIP": name, **status},
    }
