"""Pure: decisions put into words, for conditions and Events. What is decided is decided elsewhere."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from automq_operator.cluster import Cluster
from automq_operator.observed import ObjectKey, Refusal
from automq_operator.plan import Action, DeletePod, EndBroker, Finding, Note, SetConfigs, SetDraining
from automq_operator.reasons import Reason

MESSAGE_CHARACTERS_MAX: Final = 1024
"""The Event API takes no more, and nobody reads more."""
NAMES_MAX: Final = 8


_FIELDS: Final = (
    (re.compile(r" or automq\.cluster\.owner\b"), ""),
    (re.compile(r"automq\.storage\.adopt=(\S+)"), r"spec.storage.adopt: \1"),
    (re.compile(r"automq\.storage\.adopt"), "spec.storage.adopt"),
    (re.compile(r"automq\.storage\.uri"), "spec.storage"),
    (re.compile(r"automq\.storage\.credentials\.dir"), "spec.storage.credentialsSecret"),
    (re.compile(r"automq\.cluster\.id"), "status.clusterId"),
    (re.compile(r"automq\.cluster\.owner"), "metadata.uid"),
)
"""Settings that the operator writes, and the fields of the resource that they come from."""


def in_fields(text: str) -> str:
    """A broker's words with the resource's fields for its settings: `spec.config` would refuse those."""
    for pattern, replacement in _FIELDS:
        text = pattern.sub(replacement, text)
    return text


def named(key: ObjectKey) -> str:
    """An object as kubectl takes it."""
    return f"{key[0]}/{key[1]}"


def _names(about: Sequence[str]) -> str:
    more = f" and {len(about) - NAMES_MAX} more" if len(about) > NAMES_MAX else ""
    return ", ".join(about[:NAMES_MAX]) + more


_FINDINGS: Final[Mapping[Reason, Callable[[Finding], str]]] = {
    Reason.REFUSED: lambda it: f"{it.about[0]}: {_answer(it.about[1], it.about[2])}",
    Reason.NAME_CONFLICT: lambda it: f"{_names(it.about)} exists and is not this cluster's; rename or remove it",
    Reason.WAITING_FOR_NODE_PORT: lambda it: f"no port yet for {_names(it.about)}",
    Reason.WAITING_FOR_LOAD_BALANCER: lambda it: f"no address yet for {_names(it.about)}",
    Reason.DEPLOYING: lambda it: f"applying {_names(it.about)}",
    Reason.UPGRADE_PENDING: lambda it: (
        "the upgraded operator will restart the brokers when it is this cluster's turn"
        + (f"; {it.about[0]} is before it" if it.about[0] else "")
    ),
    Reason.REPLACING: lambda it: f"replacing {_names(it.about)}: node lost",
    Reason.MOST_NODES_NOT_READY: lambda it: (
        f"the node of {_names(it.about)} is not ready, and neither are most nodes: nothing is replaced"
    ),
    Reason.NO_NODE_LEFT: lambda it: f"the node of {_names(it.about)} is lost, and no other Ready node can take it",
    Reason.FENCED: lambda it: f"restarting {_names(it.about)}, which the cluster gave up",
    Reason.ROLLING: lambda it: f"{_names(it.about)} out of date",
    Reason.SCALING_IN: lambda it: f"{_names(it.about)} not wanted any more",
    Reason.DRAINING: lambda it: f"emptying {_names(it.about)}, as automq.io/drain asks",
    Reason.CONFIGURING: lambda it: f"setting {_names(it.about)} without a restart",
    Reason.STARTING: lambda it: f"waiting for {_names(it.about)} to be made and to serve",
    Reason.SETTLED: lambda _: "everything is as the spec says",
    Reason.STOPPING: lambda it: f"stopping {_names(it.about)}",
    Reason.ERASING: lambda it: f"emptying {it.about[0]}; see {it.about[1]}",
    Reason.DATA_LEFT_BEHIND: lambda it: it.about[0],
    Reason.PAUSED: lambda _: "the cluster is paused: nothing is changed",
}


def _answer(status: str, message: str) -> str:
    return f"{status} {message}" if status != "0" else f"no answer: {message}"


def message(finding: Finding) -> str:
    """What a condition says of it."""
    return _FINDINGS[finding.reason](finding)


def action_note(action: Action) -> Note | None:
    """The Event for an action that people want to know of."""
    if isinstance(action, SetDraining):
        text = f"emptying {action.name}" if action.on else f"{action.name} may be given partitions again"
        return Note(reason="DrainingBroker" if action.on else "FillingBroker", message=text)
    if isinstance(action, EndBroker):
        text = f"pod {action.name} is gone, and broker {action.broker} with it: the cluster is told at once"
        return Note(reason="BrokerGone", message=text, warning=True, about=action.uid)
    if isinstance(action, SetConfigs):
        whom = "all brokers" if action.broker is None else action.name
        parts = [f"{name}={value}" for name, value in sorted(action.set.items())] + [
            f"{name} unset" for name in sorted(action.unset)
        ]
        text = f"without a restart, of {whom}: {', '.join(parts)}"
        return Note(reason="SettingConfigs", message=text[:MESSAGE_CHARACTERS_MAX])
    if not isinstance(action, DeletePod):
        return None
    if action.why is Reason.REPLACING:
        text = f"pod {action.name} is on node {action.node}, which is lost; its successor fences it in the store"
        return Note(reason="ReplacingBroker", message=text, warning=True, about=action.uid)
    if action.why is Reason.FENCED:
        text = f"restarting {action.name}: the cluster gave it up while it could not be reached, and it is fenced"
        return Note(reason="RestartingFencedBroker", message=text, warning=True, about=action.uid)
    text = f"restarting {action.name}: its configuration or image changed"
    return Note(reason="RollingBroker", message=text, about=action.uid)


def refusal_note(key: ObjectKey, refusal: Refusal) -> Note:
    """The Event for an action that was not carried out."""
    text = f"{named(key)}: {_answer(str(refusal.status), refusal.message)}"
    return Note(reason="Refused", message=text[:MESSAGE_CHARACTERS_MAX], warning=True, about=named(key))


def erasing(cluster: Cluster) -> Note:
    """A deletion begins to empty the prefix."""
    return Note(reason="Erasing", message=f"emptying {cluster.store_uri} of what {cluster.uid} owns")


def erased(cluster: Cluster) -> Note:
    """A deletion has emptied the prefix."""
    return Note(reason="Erased", message=f"nothing that {cluster.uid} owns is left in {cluster.store_uri}")


def data_left_behind(body: Mapping[str, Any], *, why: str) -> Note:
    """A deletion ends with data left. Made from a resource that may not parse."""
    metadata, storage = body["metadata"], (body.get("spec") or {}).get("storage") or {}
    prefix = storage.get("prefix") or f"{metadata.get('namespace')}/{metadata.get('name')}"
    cluster_id = (body.get("status") or {}).get("clusterId")
    endpoint, path_style = storage.get("endpoint"), storage.get("pathStyle", True)
    options = {
        "endpoint": endpoint,
        "region": storage.get("region"),
        "path_style": "true" if endpoint and path_style else None,
    }
    query = "&".join(f"{key}={value}" for key, value in options.items() if value)
    uri = f"s3://{storage.get('bucket')}/{prefix}" + (f"?{query}" if query else "")
    held = (
        f"cluster {cluster_id} is still there" if cluster_id else "if brokers wrote anything there, it is still there"
    )
    text = (
        f"{uri} keeps its data: {why}; {held}. Remove it with: automq erase '{uri}' --owner {metadata.get('uid')}, "
        f"or take it over in a new resource with spec.storage.adopt"
    )
    return Note(reason="DataLeftBehind", message=text[:MESSAGE_CHARACTERS_MAX], warning=True)
