"""What the API server checks of an AutoMQCluster beyond types and bounds.

Rules are CEL; a message names the field and the remedy. They keep back what a child of the cluster would be refused
for, since a refusal at once, to whoever asked, is worth more than a condition later.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from automq_operator import api
from automq_operator.resource import Rule

DNS_1035: Final = "^[a-z]([-a-z0-9]*[a-z0-9])?$"


def _quoted(names: tuple[str, ...]) -> str:
    return "[" + ", ".join(f"'{name}'" for name in names) + "]"


_OWNED_KEY_RULE: Final = (
    f"self.all(key, !(key in {_quoted(api.OWNED_KEYS)}) && !{_quoted(api.OWNED_PREFIXES)}.exists(p, key.startsWith(p)))"
)

_QUALIFIED: Final = f"self.all(key, key.size() <= 253 && key.matches('{api.QUALIFIED_NAME}'))"


def _frozen(field: str) -> str:
    """A rule for an optional field that may neither change nor come nor go."""
    return f"has(self.{field}) == has(oldSelf.{field}) && (!has(self.{field}) || self.{field} == oldSelf.{field})"


def _quantities(side: str) -> Rule:
    """Every value of requests or limits is a quantity."""
    rule = f"self.{side}.all(name, type(self.{side}[name]) == int || isQuantity(self.{side}[name]))"
    return rule, f"{side} must be quantities, such as 500m, 2 or 1Gi", f".{side}"


# CEL rules by the path of the schema they belong to; () is the resource itself.
CLUSTER_RULES: Final[Mapping[tuple[str, ...], Sequence[Rule]]] = {
    (): [
        (
            # Only for a new resource: one that is there must be able to lose its finalizer, whatever its name.
            "oldSelf.hasValue() || "
            f"(self.metadata.name.size() <= {api.MAX_NAME} && self.metadata.name.matches('{DNS_1035}'))",
            f"metadata.name must be {api.MAX_NAME} characters at most, small letters, digits and hyphens, a letter "
            "first: the names of Services are made from it",
            ".metadata.name",
        ),
        (
            "!has(oldSelf.status) || !has(oldSelf.status.clusterId) || ("
            "has(self.spec.storage.endpoint) == has(oldSelf.spec.storage.endpoint) && "
            "(!has(self.spec.storage.endpoint) || self.spec.storage.endpoint == oldSelf.spec.storage.endpoint))",
            "storage.endpoint cannot change any more: the cluster has an id there; make a new resource",
            ".spec.storage.endpoint",
        ),
    ],
    ("spec", "resources"): [
        _quantities("requests"),
        _quantities("limits"),
        (
            "self.requests.all(name, !(name in self.limits) || "
            "!quantity(string(self.requests[name])).isGreaterThan(quantity(string(self.limits[name]))))",
            "requests may not be above limits; without requests of your own they are cpu 500m and memory 1Gi: lower "
            "resources.requests or raise resources.limits",
            ".requests",
        ),
    ],
    ("spec", "template", "pod", "metadata", "labels"): [
        (_QUALIFIED, "labels must be named [PREFIX/]NAME: letters, digits, '-', '_', '.'; 63 characters at most", "")
    ],
    ("spec", "template", "pod", "metadata", "annotations"): [
        (_QUALIFIED, "annotations must be named [PREFIX/]NAME: letters, digits, '-', '_', '.'; 63 characters", "")
    ],
    ("spec", "template", "serviceAccount", "metadata", "labels"): [
        (_QUALIFIED, "labels must be named [PREFIX/]NAME: letters, digits, '-', '_', '.'; 63 characters at most", "")
    ],
    ("spec", "template", "serviceAccount", "metadata", "annotations"): [
        (_QUALIFIED, "annotations must be named [PREFIX/]NAME: letters, digits, '-', '_', '.'; 63 characters", "")
    ],
    ("spec", "autoscaling"): [
        ("self.minReplicas <= self.maxReplicas", "minReplicas may not be above maxReplicas", ".minReplicas"),
    ],
    ("spec",): [
        (
            "!has(oldSelf.topology) || (has(self.topology) && self.topology.key == oldSelf.topology.key && "
            "oldSelf.topology.zones.all(z, self.topology.zones.indexOf(z) == oldSelf.topology.zones.indexOf(z)))",
            "topology.zones may be added at the end, and not leave or change places: ids of brokers follow from them",
            ".topology",
        ),
        (
            "!has(self.autoscaling) || (has(self.autoscaling.metrics) && self.autoscaling.metrics.size() > 0 && "
            "!has(self.autoscaling.targetCPU)) || 'cpu' in self.resources.requests",
            "autoscaling by CPU needs resources.requests.cpu: targetCPU is a share of it",
            ".autoscaling",
        ),
    ],
    ("spec", "storage"): [
        ("self.bucket == oldSelf.bucket", "storage.bucket cannot change: make a new resource", ".bucket"),
        (_frozen("prefix"), "storage.prefix cannot change, come or go: make a new resource", ".prefix"),
        (
            "!has(self.prefix) || !self.prefix.split('/').exists(part, part == '.' || part == '..')",
            "storage.prefix may have no part '.' or '..'",
            ".prefix",
        ),
    ],
    ("spec", "topology", "zones"): [
        ("self.all(a, self.exists_one(b, a == b))", "topology.zones must be unique", ""),
    ],
    ("spec", "wal"): [("self.type == oldSelf.type", "wal.type cannot change: make a new resource", ".type")],
    ("spec", "listeners"): [
        ("self.all(a, self.exists_one(b, a.name == b.name))", "listener names must be unique", ""),
        ("self.all(a, self.exists_one(b, a.port == b.port))", "listener ports must be unique", ""),
        ("self.exists(a, a.type == 'Internal')", "one listener of type Internal is needed", ""),
        ("self.all(a, a.port != 9404)", "port 9404 is the brokers' HTTP port: choose another", ""),
        ("self.all(a, a.port != 9405)", "port 9405 is where brokers reach each other: choose another", ""),
        ("self.all(a, a.name != 'http')", "the name http is that of the brokers' HTTP port: choose another", ""),
        (
            "self.all(a, !has(a.nodePort) || self.exists_one(b, has(b.nodePort) && a.nodePort == b.nodePort))",
            "nodePorts must be unique",
            "",
        ),
        (
            "self.all(a, a.type == 'NodePort' || !has(a.nodePort))",
            "nodePort belongs to listeners of type NodePort",
            "",
        ),
        (
            "self.all(a, a.type == 'LoadBalancer' || !has(a.loadBalancerClass))",
            "loadBalancerClass belongs to listeners of type LoadBalancer",
            "",
        ),
        (
            "self.all(a, a.type != 'Internal' || (!has(a.host) && !has(a.bootstrapHost) && "
            "(!has(a.annotations) || a.annotations.size() == 0)))",
            "host, bootstrapHost and annotations belong to listeners of type NodePort or LoadBalancer",
            "",
        ),
        (
            f"self.all(a, a.type != 'LoadBalancer' || !has(a.host) || a.host.contains('{api.ID_PLACE}'))",
            "host of a LoadBalancer listener needs {id}: every broker has a load balancer of its own",
            "",
        ),
    ],
    ("spec", "config"): [
        (
            _OWNED_KEY_RULE,
            "config may not name what the operator sets itself: " + ", ".join(api.OWNED_KEYS + api.OWNED_PREFIXES),
            "",
        ),
        (
            f"self.all(key, key.matches('{api.CONFIG_KEY}'))",
            "config keys are Kafka's names: small letters, digits, '.', '-' and '_' only",
            "",
        ),
    ],
}
