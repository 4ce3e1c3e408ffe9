"""Pure: what the operator saw of one cluster, as plain values, and whether a live object already is as desired."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any, Final

import msgspec

ObjectKey = tuple[str, str]
"""(kind, name)."""


class Readyz(msgspec.Struct, frozen=True, rename="camel"):
    """A broker's word on itself, as its /readyz gives it."""

    state: str
    reason: str | None = None
    message: str | None = None
    node_id: int | None = None
    cluster_id: str | None = None
    version: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """A broker pod."""

    name: str
    uid: str
    node: str | None
    restart_hash: str
    config_hash: str
    ready: bool
    deleting: bool
    waiting_reason: str | None
    """Why the container does not run, in the kubelet's word (ImagePullBackOff, CrashLoopBackOff, ...)."""
    last_words: tuple[str, str] | None
    """Reason and message of the last end of the process, from the termination message."""
    scheduled: bool
    readyz: Readyz | None

    @property
    def serving(self) -> bool:
        """It serves clients now, as far as anybody can see."""
        return self.readyz is not None and self.readyz.state == "Serving" and not self.deleting


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A node that runs, or ran, one of the pods."""

    name: str
    ready: bool
    not_ready_s: float
    """Seconds for which it has been not ready; 0 when it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """Everything that is known of one cluster at one moment."""

    objects: Mapping[ObjectKey, Mapping[str, Any]] = field(default_factory=dict)
    """Live children and strangers of their names."""
    pods: Sequence[Pod] = ()
    nodes: Mapping[str, Node | None] = field(default_factory=dict)
    """Nodes of the pods by name; None where the node is gone."""

    def get(self, kind: str, name: str) -> Mapping[str, Any] | None:
        """A live object, whoever owns it."""
        return self.objects.get((kind, name))


def owned_by(live: Mapping[str, Any], uid: str) -> bool:
    """Whether the resource of this uid is the controller of the object."""
    references = live.get("metadata", {}).get("ownerReferences") or []
    return any(reference.get("uid") == uid and reference.get("controller") for reference in references)


_SUFFIXES: Final = {
    "": Decimal(1), "m": Decimal("0.001"), "k": Decimal(10**3), "M": Decimal(10**6), "G": Decimal(10**9),
    "T": Decimal(10**12), "Ki": Decimal(2**10), "Mi": Decimal(2**20), "Gi": Decimal(2**30), "Ti": Decimal(2**40),
}  # fmt: skip


def satisfied(desired: Any, live: Any) -> bool:
    """Whether every field of `desired` is in `live` with the same value.

    What the API server or others added does not count. Lists of named things are compared by name, since others may add
    to them; quantities by their amount, since the server writes them its own way.
    """
    if isinstance(desired, Mapping):
        return isinstance(live, Mapping) and all(
            satisfied(value, live.get(key)) if value not in ({}, []) else not live.get(key)
            for key, value in desired.items()
        )
    if isinstance(desired, list):
        return isinstance(live, list) and _lists_satisfied(desired, live)
    return bool(desired == live) or _same_quantity(desired, live)


def _lists_satisfied(desired: list[Any], live: list[Any]) -> bool:
    if all(isinstance(item, Mapping) and "name" in item for item in desired):
        named = {item["name"]: item for item in live if isinstance(item, Mapping) and "name" in item}
        return all(item["name"] in named and satisfied(item, named[item["name"]]) for item in desired)
    return len(desired) == len(live) and all(map(satisfied, desired, live))


def _same_quantity(desired: Any, live: Any) -> bool:
    left, right = _amount(desired), _amount(live)
    return left is not None and left == right


def _amount(text: Any) -> Decimal | None:
    if isinstance(text, bool) or not isinstance(text, (str, int)):
        return None
    body = str(text).rstrip("KMGTikm")
    suffix = str(text)[len(body) :]
    try:
        return Decimal(body) * _SUFFIXES[suffix] if body and suffix in _SUFFIXES else None
    except InvalidOperation:
        return None
