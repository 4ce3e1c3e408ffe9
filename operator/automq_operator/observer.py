"""Adapter: one cluster as it is now, from the cache, and from what its brokers answer. Only brokers are asked."""

import asyncio
import dataclasses
import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final

import aiohttp
import msgspec

from automq_operator import naming, runtime
from automq_operator.ages import Ages
from automq_operator.api_server import ApiError, ApiServer
from automq_operator.cache import Cache
from automq_operator.incarnations import Incarnations
from automq_operator.observed import GonePod, Node, ObjectKey, Observed, Pod, Readyz, Refusal
from automq_operator.resources import workload
from automq_operator.view import FENCED

log = logging.getLogger(__name__)

READYZ_TIMEOUT_S: Final = 2.0
READYZ_BYTES_MAX: Final = 64 * 1024
NODE_ASKED_S: Final = 10.0
"""A node that the cache does not have is asked for by name, not more often than this."""

NO_REFUSALS: Final[Mapping[ObjectKey, Refusal]] = {}


class Observer:
    """Reads only. Remembers when it first saw what has an age, by its own clock."""

    def __init__(self, cache: Cache, server: ApiServer, session: aiohttp.ClientSession) -> None:
        self._cache, self._server, self._session = cache, server, session
        self._ages = Ages()
        self._nodes: dict[str, Node] = {}
        self._nodes_stale = True
        self._incarnations: dict[tuple[str, str], Incarnations] = {}
        self._asked_nodes: dict[str, tuple[float, bool]] = {}

    def nodes_changed(self) -> None:
        """A node came, went or changed."""
        self._nodes_stale = True

    async def observe(
        self,
        namespace: str,
        name: str,
        *,
        refused: Mapping[ObjectKey, Refusal] = NO_REFUSALS,
        drifted: frozenset[ObjectKey] = frozenset(),
        strangers: Mapping[ObjectKey, Mapping[str, Any]] | None = None,
    ) -> Observed:
        """Everything a pass needs, at about one moment. `strangers` have names that are needed and not our label."""
        pods = await self._pods(namespace, name)
        nodes: Mapping[str, Node | None] = self._known_nodes()
        missing = {pod.node for pod in pods if pod.node is not None and pod.node not in nodes}
        if missing:
            lost = [node for node in sorted(missing) if await self._is_gone(node)]
            nodes = {**nodes, **dict.fromkeys(lost, None)}
        objects = {**(strangers or {}), **self._cache.children(namespace, name)}
        gone = await self._gone(namespace, name, pods, nodes)
        return Observed(objects=objects, pods=pods, nodes=nodes, refused=refused, drifted=drifted, gone=gone)

    async def _gone(
        self, namespace: str, name: str, pods: Sequence[Pod], nodes: Mapping[str, Node | None]
    ) -> tuple[GonePod, ...]:
        """Pods that the API server itself says are gone, whose brokers were heard before."""
        known = self._incarnations.setdefault((namespace, name), Incarnations())
        known.heard(pods)
        for pod in known.missing(pods):
            try:
                live = await self._server.get("Pod", namespace, pod.pod)
            except ApiError as error:
                log.warning("whether pod %s/%s is gone is not known: %s", namespace, pod.pod, error)
                continue
            if live is None or live["metadata"]["uid"] != pod.uid:
                known.is_gone(pod, runtime.monotonic())
        lost_nodes = frozenset(node for node, found in nodes.items() if found is None)
        return known.gone(pods, lost_nodes, runtime.monotonic())

    def ended_gone(self, namespace: str, name: str, uid: str) -> None:
        """The Kafka cluster knows of the end of a pod's broker."""
        if (known := self._incarnations.get((namespace, name))) is not None:
            known.forget(uid)

    def forget_cluster(self, namespace: str, name: str) -> None:
        """The resource is gone."""
        self._incarnations.pop((namespace, name), None)

    def _known_nodes(self) -> dict[str, Node]:
        """All nodes, each not ready one with its age; the same mapping for as long as nothing changes."""
        if self._nodes_stale or any(not node.ready for node in self._nodes.values()):
            now, found = runtime.monotonic(), {}
            for node in self._cache.nodes():
                age_s = self._ages.age_s(("node", node.name), now, holds=not node.ready)
                found[node.name] = dataclasses.replace(node, not_ready_s=age_s)
            self._nodes, self._nodes_stale = found, False
        return self._nodes

    async def _is_gone(self, name: str) -> bool:
        """The API server itself says that there is no such node: that a cache lacks one says nothing."""
        now = runtime.monotonic()
        asked_at, gone = self._asked_nodes.get(name, (-NODE_ASKED_S, False))
        if now - asked_at >= NODE_ASKED_S:
            try:
                gone = await self._server.get("Node", "", name) is None
            except ApiError as error:
                log.warning("whether node %s is gone is not known: %s", name, error)
                gone = False
            self._asked_nodes = {
                other: item for other, item in self._asked_nodes.items() if now - item[0] < NODE_ASKED_S
            }
            self._asked_nodes[name] = now, gone
        return gone

    async def _pods(self, namespace: str, name: str) -> list[Pod]:
        found = [(raw, owner) for raw in self._cache.pods(namespace, name) if (owner := _owner(raw, name)) is not None]
        return list(await asyncio.gather(*(self._pod(raw, owner) for raw, owner in found)))

    async def _pod(self, raw: Mapping[str, Any], owner_uid: str) -> Pod:
        metadata, status = raw["metadata"], raw.get("status") or {}
        annotations = metadata.get("annotations") or {}
        conditions = {item["type"]: item["status"] for item in status.get("conditions") or []}
        statuses = status.get("containerStatuses") or []
        container: Mapping[str, Any] = next((item for item in statuses if item["name"] == workload.CONTAINER), {})
        state = container.get("state") or {}
        running, deleting, address = "running" in state, "deletionTimestamp" in metadata, status.get("podIP")
        asked = bool(running and address and not deleting)
        readyz = await self.readyz(str(address)) if asked else None
        now, uid = runtime.monotonic(), metadata["uid"]
        return Pod(
            name=metadata["name"],
            uid=uid,
            owner_uid=owner_uid,
            node=(raw.get("spec") or {}).get("nodeName"),
            restart_hash=annotations.get(naming.HASH_ANNOTATION, ""),
            adopt=annotations.get(naming.ADOPT_ANNOTATION, ""),
            ready=conditions.get("Ready") == "True",
            deleting=deleting,
            waiting_reason=(state.get("waiting") or {}).get("reason"),
            last_words=_last_words(container),
            scheduled=conditions.get("PodScheduled") == "True",
            running=running,
            address=str(address) if address else None,
            labelled_draining=(metadata.get("labels") or {}).get(naming.DRAINING_LABEL) == "true",
            asked=asked,
            readyz=readyz,
            silent_s=self._ages.age_s(("silent", uid), now, holds=asked and readyz is None),
            seen_s=self._ages.age_s(("seen", uid), now),
            draining_s=self._ages.age_s(("draining", uid), now, holds=readyz is not None and readyz.draining),
            fenced_s=self._ages.age_s(("fenced", uid), now, holds=readyz is not None and readyz.state == FENCED),
        )

    async def readyz(self, address: str) -> Readyz | None:
        """A broker's own word; None when it does not answer, or not as a broker."""
        host = f"[{address}]" if ":" in address else address
        try:
            timeout = aiohttp.ClientTimeout(total=READYZ_TIMEOUT_S)
            async with self._session.get(f"http://{host}:{naming.HTTP_PORT}/readyz", timeout=timeout) as answer:
                body = bytearray()
                async for piece in answer.content.iter_any():
                    body += piece
                    if len(body) > READYZ_BYTES_MAX:
                        return None
                return msgspec.json.decode(body, type=Readyz)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
            return None

    def forget_pods(self, alive: set[str]) -> None:
        """Keep no age of pods and nodes that are gone."""
        kept: set[Any] = {(word, uid) for word in ("silent", "seen", "draining", "fenced") for uid in alive}
        self._ages.forget_all_but(kept | {("node", node.name) for node in self._cache.nodes()})


def _owner(raw: Mapping[str, Any], cluster: str) -> str | None:
    """uid of the StatefulSet of the cluster's name that controls the pod."""
    for reference in raw["metadata"].get("ownerReferences") or []:
        named = reference.get("kind") == "StatefulSet" and naming.is_workload(cluster, reference.get("name", ""))
        if reference.get("controller") and named:
            uid: str = reference["uid"]
            return uid
    return None


def _last_words(container: Mapping[str, Any]) -> tuple[str, str] | None:
    """Reason and message that the process left when it last ended."""
    for place in ("state", "lastState"):
        ended = (container.get(place) or {}).get("terminated")
        if ended is None:
            continue
        lines = (ended.get("message") or "").strip().splitlines()
        try:
            parsed = json.loads(lines[-1]) if lines else {}
            return str(parsed["reason"]), str(parsed["message"])
        except (ValueError, KeyError, TypeError):
            return "Unknown", f"exit code {ended.get('exitCode')}, {ended.get('reason', 'no reason given')}"
    return None
