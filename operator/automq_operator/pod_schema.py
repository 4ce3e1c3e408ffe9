"""The part of a pod's spec that `spec.template.pod.spec` may override, as OpenAPI.

The API server refuses or drops a field that is not listed here, before anything is rendered from it: a typo that
arrived at the StatefulSet would be refused there, and the cluster would wait for a workload that never comes. What is
inside containers, volumes and affinity is Kubernetes' own and passed on as it is.
"""

from typing import Any, Final

Schema = dict[str, Any]

NAME: Final = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"
MAX_ITEMS: Final = 64


def _text(description: str, **more: Any) -> Schema:
    return {"type": "string", "maxLength": 253, "description": description, **more}


def _number(description: str, minimum: int) -> Schema:
    return {"type": "integer", "minimum": minimum, "description": description}


def _flag(description: str) -> Schema:
    return {"type": "boolean", "description": description}


def _open(description: str) -> Schema:
    """An object of Kubernetes' own."""
    return {"type": "object", "x-kubernetes-preserve-unknown-fields": True, "description": description}


def _texts(description: str) -> Schema:
    item = {"type": "string", "maxLength": 253}
    return {"type": "object", "maxProperties": MAX_ITEMS, "additionalProperties": item, "description": description}


def _list(description: str, item: Schema) -> Schema:
    return {"type": "array", "maxItems": MAX_ITEMS, "items": item, "description": description}


def _named(description: str, what: str) -> Schema:
    """A list of named things, which merges by name."""
    name = _text(f"Name of the {what}; one that the operator makes is merged with.", minLength=1)
    item = {
        "type": "object",
        "required": ["name"],
        "properties": {"name": name},
        "x-kubernetes-preserve-unknown-fields": True,
    }
    return _list(description, item)


_TOLERATION: Final[Schema] = {
    "type": "object",
    "properties": {
        "key": _text("Taint's key; empty with Exists: all."),
        "operator": {"type": "string", "enum": ["Exists", "Equal"], "description": "How the value is compared."},
        "value": _text("Taint's value."),
        "effect": {
            "type": "string",
            "enum": ["NoSchedule", "PreferNoSchedule", "NoExecute"],
            "description": "Taint's effect; default: all.",
        },
        "tolerationSeconds": {"type": "integer", "description": "How long a NoExecute taint is borne."},
    },
}

_PULL_SECRET: Final[Schema] = {
    "type": "object",
    "required": ["name"],
    "properties": {"name": _text("A Secret of this namespace.", pattern=NAME)},
}

_HOST_ALIAS: Final[Schema] = {
    "type": "object",
    "required": ["ip"],
    "properties": {
        "ip": _text("Address."),
        "hostnames": {
            "type": "array",
            "items": {"type": "string", "maxLength": 253},
            "maxItems": MAX_ITEMS,
            "description": "Its names.",
        },
    },
}

POD_SPEC: Final[Schema] = {
    "properties": {
        "affinity": _open("Which nodes and which neighbours."),
        "automountServiceAccountToken": _flag("Brokers need no token; sidecars may."),
        "containers": _named("`broker` is the operator's; others are sidecars.", "container"),
        "dnsConfig": _open("Name servers and search domains."),
        "dnsPolicy": {
            "type": "string",
            "enum": ["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"],
            "description": "Whose name servers.",
        },
        "enableServiceLinks": _flag("Variables for every Service of the namespace."),
        "hostAliases": _list("Lines of /etc/hosts.", _HOST_ALIAS),
        "hostNetwork": _flag("Use the node's network; needs a namespace that permits it."),
        "hostUsers": _flag("False: a user namespace of the pod's own."),
        "imagePullSecrets": _list("Secrets for the registry.", _PULL_SECRET),
        "initContainers": _named("Run before the broker.", "container"),
        "nodeSelector": _texts("Labels that the node must have."),
        "os": _open("The nodes' operating system."),
        "preemptionPolicy": {
            "type": "string",
            "enum": ["Never", "PreemptLowerPriority"],
            "description": "Whether other pods make room.",
        },
        "priorityClassName": _text("PriorityClass.", pattern=NAME),
        "readinessGates": _list("Conditions beside the probes.", _open("One condition.")),
        "resourceClaims": _named("Claims of dynamic resources.", "claim"),
        "resources": _open("Requests and limits of the pod as a whole."),
        "runtimeClassName": _text("RuntimeClass.", pattern=NAME),
        "schedulerName": _text("Scheduler.", pattern=NAME),
        "schedulingGates": _named("What must be removed before the pod is placed.", "gate"),
        "securityContext": _open("Of the pod; merged over what the restricted standard asks for."),
        "serviceAccountName": _text("A ServiceAccount of your own instead of the operator's.", pattern=NAME),
        "setHostnameAsFQDN": _flag("The pod's full name as its host name."),
        "shareProcessNamespace": _flag("Containers see each other's processes."),
        "terminationGracePeriodSeconds": _number("Between SIGTERM and SIGKILL.", 0),
        "tolerations": _list("Taints that are borne.", _TOLERATION),
        "topologySpreadConstraints": _list("How pods spread.", _open("One constraint.")),
        "volumes": _named("Volumes for containers of yours, or for the broker's mounts.", "volume"),
    },
}
"""Without what the StatefulSet or the operator decide: node, host name, restart policy, deadline, priority value."""
