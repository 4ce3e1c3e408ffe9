"""What the operator knows of Kubernetes without asking: kopf's indices, corrected by what it wrote and what it listed.

A watch is late, and may lose the end of an object: when kopf lists anew after a gap it does not take back what has gone
meanwhile. So an answer to a write of our own is shown until the watch has caught up, and every few minutes one list a
kind, over all clusters, says what is really there. Nothing is asked for a single cluster.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from automq_operator import naming
from automq_operator.kinds import CHILD_KINDS, RESOURCE_KINDS, WATCHED_KINDS
from automq_operator.observed import Node, ObjectKey, Taint

Manifest = Mapping[str, Any]
Index = Mapping[tuple[str, str], Iterable[Any]]

ENDED_MAX: Final = 4096
"""A list takes seconds at most; so many objects do not end meanwhile."""
INDEXED_KINDS: Final = (*RESOURCE_KINDS, *WATCHED_KINDS, "Node")


def index_name(kind: str) -> str:
    """The id of kopf's index of a kind."""
    return f"index_{kind.lower()}"


def place(kind: str, body: Manifest) -> tuple[str, str]:
    """Under which key an object is in its index: its cluster, or itself."""
    metadata = body["metadata"]
    namespace = metadata.get("namespace") or ""
    if kind in WATCHED_KINDS:
        return namespace, (metadata.get("labels") or {}).get(naming.CLUSTER_LABEL, "")
    return namespace, metadata["name"]


def kept(kind: str, body: Manifest) -> Any:
    """What is kept of an object: nodes are many and large, and of managedFields only ours is looked at."""
    if kind == "Node":
        return node(body)
    metadata = dict(body["metadata"])
    metadata["managedFields"] = [
        entry for entry in metadata.get("managedFields") or [] if entry.get("manager") == naming.FIELD_MANAGER
    ]
    return {**body, "metadata": metadata}


def node(raw: Manifest) -> Node:
    """What planners need to know of a node. Its age is the observer's."""
    spec = raw.get("spec") or {}
    conditions = {item["type"]: item["status"] for item in (raw.get("status") or {}).get("conditions") or []}
    return Node(
        name=raw["metadata"]["name"],
        ready=conditions.get("Ready") == "True",
        schedulable=not spec.get("unschedulable"),
        address=_address(raw),
        labels=dict(raw["metadata"].get("labels") or {}),
        taints=[
            Taint(key=taint["key"], value=taint.get("value") or "", effect=taint["effect"])
            for taint in spec.get("taints") or []
        ],
    )


def _address(raw: Manifest) -> str | None:
    """The address for those outside if there is one, else that for those inside."""
    found = {item["type"]: item["address"] for item in (raw.get("status") or {}).get("addresses") or []}
    return next(
        (found[kind] for kind in ("ExternalIP", "ExternalDNS", "InternalIP", "Hostname") if kind in found), None
    )


def version_of(body: Manifest) -> int:
    """A resourceVersion as a number, to tell the newer of two states of one object; 0 when it is none."""
    text = body["metadata"].get("resourceVersion") or ""
    return int(text) if text.isdecimal() else 0


class Cache:
    """One for the whole operator. `bind` is called once, when kopf has filled its indices."""

    def __init__(self) -> None:
        self._indices: dict[str, Index] = {}
        self._newer: dict[tuple[str, str, str], Manifest] = {}
        """(kind, namespace, name) -> a state that the watch has not shown yet."""
        self._gone: dict[str, frozenset[str]] = {}
        """Kind -> uids that the index still has and a list had no more."""
        self._ended: dict[str, None] = {}
        """uids of which the watch has shown the end, the latest."""

    @property
    def bound(self) -> bool:
        """The indices are there."""
        return bool(self._indices)

    def bind(self, indices: Mapping[str, Any]) -> None:
        """`indices` by the names of `index_name`, as kopf hands them to every handler."""
        self._indices = {kind: indices[index_name(kind)] for kind in INDEXED_KINDS if index_name(kind) in indices}

    def resource(self, kind: str, namespace: str, name: str) -> Manifest | None:
        """One custom resource; None when there is none."""
        for body in self._of(kind, (namespace, name)):
            return body
        return None

    def resources(self, kind: str, namespace: str) -> list[Manifest]:
        """All custom resources of a kind in a namespace."""
        names = {key[1] for key in self._indices.get(kind, {}) if key[0] == namespace}
        names |= {place_of[2] for place_of in self._newer if place_of[:2] == (kind, namespace)}
        found = [self.resource(kind, namespace, name) for name in sorted(names)]
        return [body for body in found if body is not None]

    def children(self, namespace: str, cluster: str) -> dict[ObjectKey, Manifest]:
        """Everything that carries the cluster's label, pods excepted, whoever owns it."""
        found = {}
        for kind in CHILD_KINDS:
            for body in self._of(kind, (namespace, cluster)):
                found[kind, body["metadata"]["name"]] = body
        return found

    def pods(self, namespace: str, cluster: str) -> list[Manifest]:
        """Pods that carry the cluster's label."""
        return sorted(self._of("Pod", (namespace, cluster)), key=lambda body: str(body["metadata"]["name"]))

    def nodes(self) -> Iterator[Node]:
        """All nodes."""
        for nodes in self._indices.get("Node", {}).values():
            yield from nodes

    def _of(self, kind: str, key: tuple[str, str]) -> list[Manifest]:
        gone = self._gone.get(kind, frozenset())
        found: dict[str, Manifest] = {}
        for body in self._indices.get(kind, {}).get(key, ()):
            metadata = body["metadata"]
            if metadata.get("uid") in gone or metadata.get("uid") in self._ended:
                continue
            name = metadata["name"]
            before = found.get(name)
            if before is None or version_of(before) < version_of(body):
                found[name] = body
        for place_of, newer in list(self._newer.items()):
            if place_of[0] != kind or place_of[1] != key[0] or place(kind, newer) != key:
                continue
            live = found.get(place_of[2])
            if live is not None and version_of(live) >= version_of(newer):
                del self._newer[place_of]
            else:
                found[place_of[2]] = newer
        return list(found.values())

    def wrote(self, kind: str, body: Manifest) -> None:
        """The answer to a write: what the object is now. An answer that is no object says nothing."""
        metadata = body.get("metadata") or {}
        if not metadata.get("name") or not metadata.get("uid"):
            return
        self._newer[kind, metadata.get("namespace") or "", metadata["name"]] = kept(kind, body)

    def deleted(self, kind: str, namespace: str, name: str, uid: str) -> None:
        """The watch says that it is gone."""
        newer = self._newer.get((kind, namespace, name))
        if newer is not None and newer["metadata"].get("uid") == uid:
            del self._newer[kind, namespace, name]
        self._ended[uid] = None
        while len(self._ended) > ENDED_MAX:
            del self._ended[next(iter(self._ended))]

    def known(self, kind: str) -> dict[str, int]:
        """uid -> version of every object of a kind as it is shown now: what a list that begins now may correct."""
        found: dict[str, int] = {}
        for bodies in self._indices.get(kind, {}).values():
            found.update({body["metadata"]["uid"]: version_of(body) for body in bodies})
        for (of, _, _), newer in self._newer.items():
            if of == kind:
                found[newer["metadata"]["uid"]] = version_of(newer)
        return found

    def listed(self, kind: str, items: Iterable[Manifest], *, known: Mapping[str, int]) -> int:
        """Take a whole list for the truth; returns how many objects the watch had not shown as they are.

        `known` is from before the list was asked for: what came later is not the list's business.
        """
        corrected, alive = 0, set()
        for item in items:
            uid = item["metadata"]["uid"]
            alive.add(uid)
            if uid not in self._ended and known.get(uid, -1) < version_of(item):
                self.wrote(kind, item)
                corrected += 1
        lost = frozenset(known.keys() - alive)
        for key, newer in list(self._newer.items()):
            if key[0] == kind and newer["metadata"]["uid"] in lost:
                del self._newer[key]
        corrected += len(lost - self._gone.get(kind, frozenset()))
        self._gone[kind] = lost
        return corrected
