"""Pure: the vocabulary of decisions. Planners return these, `reconcile` merges them, the loop carries them out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from automq_operator import api, naming
from automq_operator.observed import ObjectKey, Refusal
from automq_operator.reasons import Reason

BROKER = "Broker"
"""In the place of a kind: what was asked of the Kafka cluster about a broker."""
CONFIG = "Config"
"""The same: what was asked about settings, of all brokers or of one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Apply:
    """Server-side apply of a whole child."""

    manifest: Mapping[str, Any]
    uid: str | None = None
    """Of the live object, which is ours; None when there was none. Another of its name is not touched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeletePod:
    """Delete one pod; `force` when its node cannot confirm (grace 0: the broker is fenced by its successor)."""

    name: str
    uid: str
    force: bool
    why: Reason = Reason.ROLLING
    node: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteObject:
    """Delete a child that is not wanted any more. Guarded by uid."""

    kind: str
    name: str
    uid: str
    foreground: bool = False
    """It stays, being deleted, until what it owns is gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelPod:
    """Have autoscalers count a pod, or not."""

    name: str
    uid: str
    draining: bool


Addresses = tuple[tuple[str, int], ...]
"""Brokers that may be asked, as (host, port), in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SetDraining:
    """Have a broker emptied, or end that; asked of the Kafka cluster."""

    name: str
    """Of its pod."""
    broker: int
    on: bool
    through: Addresses


@dataclass(frozen=True, slots=True, kw_only=True)
class Unregister:
    """Have the Kafka cluster forget a broker that is gone."""

    name: str
    """Of the pod that it had."""
    broker: int
    through: Addresses


@dataclass(frozen=True, slots=True, kw_only=True)
class SetConfigs:
    """Set and unset settings while brokers run; asked of the Kafka cluster."""

    name: str
    """Of the cluster, or of the pod of the one broker that this is about."""
    broker: int | None
    """None: of all brokers."""
    set: Mapping[str, str]
    unset: Sequence[str]
    through: Addresses


@dataclass(frozen=True, slots=True, kw_only=True)
class EndBroker:
    """Tell the Kafka cluster that an incarnation of a broker is gone: its pod is. No pass waits for the answer."""

    name: str
    """Of the pod that is gone."""
    uid: str
    broker: int
    epoch: int
    through: Addresses


Action = Apply | DeletePod | DeleteObject | LabelPod | SetDraining | SetConfigs | Unregister | EndBroker


def key_of(action: Action) -> ObjectKey:
    """What an action is about: its refusal is kept under this."""
    match action:
        case Apply(manifest=manifest):
            return manifest["kind"], manifest["metadata"]["name"]
        case DeletePod(name=name) | LabelPod(name=name):
            return "Pod", name
        case SetDraining(name=name) | Unregister(name=name):
            return BROKER, name
        case EndBroker(name=name, uid=uid):
            return BROKER, f"{name}/{uid}"
        case SetConfigs(name=name):
            return CONFIG, name
        case DeleteObject(kind=kind, name=name):
            return kind, name


def digest_of(action: Action) -> str:
    """Tells two actions on the same object apart: what was refused is tried again at once when it is another."""
    match action:
        case Apply(manifest=manifest):
            annotations = manifest["metadata"].get("annotations") or {}
            return str(annotations.get(naming.APPLIED_ANNOTATION, ""))
        case DeletePod(uid=uid) | DeleteObject(uid=uid):
            return uid
        case LabelPod(uid=uid, draining=draining):
            return f"{uid} draining={draining}"
        case SetDraining(on=on):
            return f"draining={on}"
        case SetConfigs(set=set, unset=unset):
            return f"set={sorted(set.items())} unset={sorted(unset)}"
        case Unregister():
            return "unregister"
        case EndBroker(epoch=epoch):
            return f"end {epoch}"


def may_try(refused: Mapping[ObjectKey, Refusal], action: Action) -> bool:
    """What was refused is tried again when its time has come, or when it is another."""
    refusal = refused.get(key_of(action))
    return refusal is None or refusal.due or refusal.digest != digest_of(action)


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A Kubernetes Event for what was decided. Told once for as long as passes go on to decide it."""

    reason: str
    message: str
    warning: bool = False
    about: str = ""
    """uid of what it is about: the same words about another object are news."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a planner found, before it is put into words."""

    reason: Reason
    about: Sequence[str] = ()
    """Names of what it is about, for the words."""
    count: int = 0
    wanted: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Disruption:
    """An action that takes a broker away from its clients; budgets decide whether it may happen now."""

    broker: int
    action: DeletePod
    voluntary: bool
    broken: bool = False
    """The broker does not serve anyway, by its own word or the kubelet's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """What one planner wants."""

    actions: Sequence[Action] = ()
    disruptions: Sequence[Disruption] = ()
    findings: Sequence[Finding] = ()
    """Empty when nothing is under way."""
    notes: Sequence[Note] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Permits:
    """What the operator as a whole allows this cluster now; see `fleet`."""

    may_move: bool = True
    """Its brokers may be moved to what this release of the operator renders."""
    waits_for: str | None = None
    """The cluster before it, while it may not."""
    may_replace: bool = True
    """One of its brokers may be replaced by force."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do now, what to report, what to tell."""

    actions: Sequence[Action] = ()
    notes: Sequence[Note] = ()
    wanted: frozenset[ObjectKey] = frozenset()
    """What it would act on, with those that were refused and whose time has not come: other refusals are history."""
    status: api.Status
    converged: bool
    """Nothing is under way: the next look may wait for an event."""
    well: bool = False
    """Ready holds and nothing but an upgrade is under way or in the way."""
    pending: bool = False
    """An upgraded operator would render its pods differently and waits for its turn."""
    moved_by: str | None = None
    """The operator's image that its pods were last moved to by an upgrade."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeletionPlan:
    """What a resource that is being deleted still needs; `done` releases the finalizer once the actions are done."""

    actions: Sequence[Action] = ()
    notes: Sequence[Note] = ()
    finding: Finding | None = None
    """For the status: what the deletion waits for, or what it leaves behind."""
    done: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How patient the operator is, in seconds."""

    node_lost_s: float = 5.0
    """A node that has been not ready for so long is given up; brokers are fenced in the store, so this is safe."""
    node_lost_serving_s: float = 60.0
    """The same for a node whose broker still answers that it serves."""
    replaced_s: float = 60.0
    """A broker that was replaced has so long to serve before the next lost one is replaced."""
    started_s: float = 60.0
    """A pod that was just made counts as being under way for so long."""
    silent_s: float = 10.0
    """A Ready pod whose broker has not answered the operator for so long is reported."""
    drain_s: float = 60.0
    """A restart waits so long for its broker to be emptied."""
    fenced_s: float = 5.0
    """A broker that its cluster has given up is restarted after so long."""
    joined_s: float = 60.0
    """A broker that was just made has so long to get its share before scaling counts as done without it."""
    address_s: float = 30.0
    """A broker that was just made is not restarted for the address of its load balancer."""
    erase_s: float = 600.0
    """A deletion waits so long for the prefix to be emptied, then ends."""
