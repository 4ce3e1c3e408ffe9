"""Adapter: looks at one cluster's children, pods, nodes and the brokers' own /readyz."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any, Final

import aiohttp
import msgspec

from automq_operator import naming, runtime
from automq_operator.api_server import ApiServer
from automq_operator.children import children
from automq_operator.cluster import Cluster
from automq_operator.observed import Node, ObjectKey, Observed, Pod, Readyz, Refusal, Taint
from automq_operator.resources import workload

READYZ_TIMEOUT_S: Final = 2.0


class Observer:
    """Reads only."""

    def __init__(self, server: ApiServer, session: aiohttp.ClientSession) -> None:
        self._server, self._session = server, session

    async def observe(self, cluster: Cluster, refused: Mapping[ObjectKey, Refusal]) -> Observed:
        """Everything a pass needs, at about one moment."""
        names = [child.key for child in children(cluster)]
        if cluster.deleting:
            names.append(("Job", naming.erase_job(cluster.name, cluster.uid)))
        found = zip(names, await asyncio.gather(*(self._get(cluster, *key) for key in names)), strict=True)
        objects = {key: live for key, live in found if live is not None}
        label = f"{naming.CLUSTER_LABEL}={cluster.name}"
        for service in await self._server.list("Service", cluster.namespace, label):
            objects.setdefault(("Service", service["metadata"]["name"]), service)
        nodes = {node.name: node for node in map(_node, await self._server.list("Node", None))}
        return Observed(objects=objects, pods=await self._pods(cluster), nodes=nodes, refused=refused)

    async def _get(self, cluster: Cluster, kind: str, name: str) -> Mapping[str, Any] | None:
        return await self._server.get(kind, cluster.namespace, name)

    async def _pods(self, cluster: Cluster) -> list[Pod]:
        raw = await self._server.list("Pod", cluster.namespace, naming.selector(cluster.name))
        raw.sort(key=lambda pod: pod["metadata"]["name"])
        name = naming.workload(cluster.name)
        ours = [(pod, owner) for pod in raw if (owner := _owner(pod, name)) is not None]
        return list(await asyncio.gather(*(self._pod(pod, owner) for pod, owner in ours)))

    async def _pod(self, raw: Mapping[str, Any], owner_uid: str) -> Pod:
        metadata, status = raw["metadata"], raw.get("status", {})
        annotations = metadata.get("annotations") or {}
        conditions = {item["type"]: item["status"] for item in status.get("conditions") or []}
        container: Mapping[str, Any] = next(
            (item for item in status.get("containerStatuses") or [] if item["name"] == workload.CONTAINER), {}
        )
        running = "running" in (container.get("state") or {})
        deleting = "deletionTimestamp" in metadata
        address = status.get("podIP")
        return Pod(
            name=metadata["name"],
            uid=metadata["uid"],
            owner_uid=owner_uid,
            node=raw["spec"].get("nodeName"),
            restart_hash=annotations.get(naming.HASH_ANNOTATION, ""),
            adopt=annotations.get(naming.ADOPT_ANNOTATION, ""),
            ready=conditions.get("Ready") == "True",
            deleting=deleting,
            waiting_reason=((container.get("state") or {}).get("waiting") or {}).get("reason"),
            last_words=_last_words(container),
            scheduled=conditions.get("PodScheduled") == "True",
            running=running,
            asked=bool(running and address and not deleting),
            readyz=await self.readyz(address) if running and address and not deleting else None,
        )

    async def readyz(self, address: str) -> Readyz | None:
        """A broker's own word; None when it does not answer."""
        host = f"[{address}]" if ":" in address else address
        try:
            timeout = aiohttp.ClientTimeout(total=READYZ_TIMEOUT_S)
            async with self._session.get(f"http://{host}:{naming.HTTP_PORT}/readyz", timeout=timeout) as answer:
                return msgspec.json.decode(await answer.read(), type=Readyz)
        except (aiohttp.ClientError, TimeoutError, msgspec.MsgspecError):
            return None


def _owner(pod: Mapping[str, Any], workload_name: str) -> str | None:
    """uid of the StatefulSet of this name that controls the pod."""
    for reference in pod["metadata"].get("ownerReferences") or []:
        if reference.get("controller") and (reference["kind"], reference["name"]) == ("StatefulSet", workload_name):
            uid: str = reference["uid"]
            return uid
    return None


def _node(raw: Mapping[str, Any]) -> Node:
    name, spec = raw["metadata"]["name"], raw.get("spec") or {}
    conditions = {item["type"]: item for item in (raw.get("status") or {}).get("conditions") or []}
    condition = conditions.get("Ready", {})
    ready = condition.get("status") == "True"
    return Node(
        name=name,
        ready=ready,
        not_ready_s=0.0 if ready else runtime.seconds_since(condition.get("lastTransitionTime")),
        schedulable=not spec.get("unschedulable"),
        labels=raw["metadata"].get("labels") or {},
        taints=[Taint(key=t["key"], value=t.get("value", ""), effect=t["effect"]) for t in spec.get("taints") or []],
    )


def _last_words(container: Mapping[str, Any]) -> tuple[str, str] | None:
    """Reason and message that the process left when it last ended."""
    for place in ("state", "lastState"):
        ended = (container.get(place) or {}).get("terminated")
        if ended is None:
            continue
        lines = (ended.get("message") or "").strip().splitlines()
        try:
            said = json.loads(lines[-1]) if lines else {}
            return str(said["reason"]), str(said["message"])
        except (ValueError, KeyError, TypeError):
            return "Unknown", f"exit code {ended.get('exitCode')}, {ended.get('reason', 'no reason given')}"
    return None
