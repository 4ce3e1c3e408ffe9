"""Pure: what the operator saw of one cluster, as plain values.

Absence, silence and refusal are three things. What is not in `objects` was looked for and is not there; a broker that
was asked and did not answer has `asked` and no `readyz`; what the API server refused is in `refused`, in its words.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

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
    advertised: dict[str, str] | None = None
    """What clients are told, by listener, as HOST:PORT. Older releases do not say."""
    broker_epoch: int | None = None
    """Of this incarnation, once it is registered."""
    led_partitions: int | None = None
    draining: bool = False
    """The cluster's metadata say that it is to be emptied, as this broker's own image shows."""
    empty: bool = False
    """It is to go and has nothing that would be missed."""
    not_empty: str | None = None
    """Why it is not empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """A pod that a StatefulSet of the cluster's name made."""

    name: str
    uid: str
    owner_uid: str
    """uid of the StatefulSet that controls it."""
    node: str | None
    restart_hash: str
    adopt: str
    """`storage.adopt` at the time that it was made."""
    ready: bool
    """The kubelet's word: its own probe of /readyz is answered with 200."""
    deleting: bool
    waiting_reason: str | None
    """Why the container does not run, in the kubelet's word (ImagePullBackOff, CrashLoopBackOff, ...)."""
    last_words: tuple[str, str] | None
    """Reason and message of the last end of the process, from the termination message."""
    scheduled: bool
    running: bool
    """The container's process runs."""
    address: str | None = None
    """Of the pod."""
    labelled_draining: bool = False
    """Autoscalers do not count it."""
    asked: bool = False
    """The operator asked for its /readyz."""
    readyz: Readyz | None = None
    silent_s: float = 0.0
    """Seconds since the operator first asked without an answer; 0 when it answers."""
    seen_s: float = 0.0
    """Seconds since the operator first saw this pod."""
    draining_s: float = 0.0
    """Seconds since the operator first heard that it is being emptied; 0 when it is not."""
    fenced_s: float = 0.0
    """Seconds since the operator first heard that it is fenced; 0 when it is not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GonePod:
    """A pod that is gone for good, by the word of the API server, and the broker that ran in it."""

    pod: str
    uid: str
    broker: int
    epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Taint:
    """Keeps pods without a matching toleration away from a node."""

    key: str
    value: str
    effect: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A node of the Kubernetes cluster."""

    name: str
    ready: bool
    not_ready_s: float = 0.0
    """Seconds since the operator first saw that it is not ready, by the operator's own clock; 0 when it is."""
    schedulable: bool = True
    address: str | None = None
    """Where clients outside reach its ports, as far as Kubernetes knows."""
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: Sequence[Taint] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerConfig:
    """Where one setting of a broker is set, by its own answer; None where it is not."""

    own: str | None = None
    """For this broker alone, while it ran."""
    shared: str | None = None
    """For all brokers, while they ran."""
    started_with: str | None = None
    """In the file that it read when it started."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """What became of an action that the API server did not carry out."""

    status: int
    """HTTP status; 0 when there was no answer."""
    message: str
    """The API server's words."""
    digest: str = ""
    """Of the manifest that was refused: another one is tried at once."""
    due: bool = False
    """It is time to try the same again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """Everything that is known of one cluster at one moment."""

    objects: Mapping[ObjectKey, Mapping[str, Any]] = field(default_factory=dict)
    """Live children and strangers of their names."""
    pods: Sequence[Pod] = ()
    nodes: Mapping[str, Node | None] = field(default_factory=dict)
    """All nodes by name; None for one that a pod is on and that the API server says is gone. A name that is missing
    here says nothing."""
    refused: Mapping[ObjectKey, Refusal] = field(default_factory=dict)
    """What the actions of earlier passes came to, as long as that still stands."""
    drifted: frozenset[ObjectKey] = frozenset()
    """Children of which another has changed a field that is ours since we applied it."""
    registered: Mapping[int, bool] | None = None
    """Brokers that the Kafka cluster knows, each with whether it is fenced; None when none of them was heard."""
    gone: tuple[GonePod, ...] = ()
    """Whose brokers the Kafka cluster may not know to be gone."""
    configs: Mapping[int, Mapping[str, BrokerConfig]] = field(default_factory=dict)
    """Settings that may be set while brokers run, of each broker that was asked and answered."""

    def get(self, kind: str, name: str) -> Mapping[str, Any] | None:
        """A live object, whoever owns it."""
        return self.objects.get((kind, name))

    def owned(self, kind: str, name: str, uid: str) -> Mapping[str, Any] | None:
        """A live object, if the resource of this uid is its controller."""
        live = self.objects.get((kind, name))
        return live if live is not None and owned_by(live, uid) else None


def owned_by(live: Mapping[str, Any], uid: str) -> bool:
    """Whether the resource of this uid is the controller of the object."""
    references = live.get("metadata", {}).get("ownerReferences") or []
    return any(reference.get("uid") == uid and reference.get("controller") for reference in references)
