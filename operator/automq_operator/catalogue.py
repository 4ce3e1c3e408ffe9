"""Pure: the list of custom resources. A second one is an addition here."""

from collections.abc import Mapping, Sequence
from typing import Final

from automq_operator import api
from automq_operator.reconcile import reconcile
from automq_operator.resource import Column, Resource, Rule


def _quoted(names: tuple[str, ...]) -> str:
    return "[" + ", ".join(f"'{name}'" for name in names) + "]"


_OWNED_KEY_RULE: Final = (
    f"self.all(key, !(key in {_quoted(api.OWNED_KEYS)}) && !{_quoted(api.OWNED_PREFIXES)}.exists(p, key.startsWith(p)))"
)


def _frozen(field: str) -> str:
    """A rule for an optional field that may neither change nor come nor go."""
    return f"has(self.{field}) == has(oldSelf.{field}) && (!has(self.{field}) || self.{field} == oldSelf.{field})"


# CEL rules by the path of the schema they belong to; () is the resource itself.
CLUSTER_RULES: Final[Mapping[tuple[str, ...], Sequence[Rule]]] = {
    (): [
        (
            "!has(oldSelf.status) || !has(oldSelf.status.clusterId) || ("
            "has(self.spec.storage.endpoint) == has(oldSelf.spec.storage.endpoint) && "
            "(!has(self.spec.storage.endpoint) || self.spec.storage.endpoint == oldSelf.spec.storage.endpoint))",
            "storage.endpoint cannot change any more: the cluster has an id there; make a new resource",
            ".spec.storage.endpoint",
        )
    ],
    # The one place that keeps clusters at one broker.
    ("spec", "replicas"): [("self <= 1", "replicas above 1 are not supported yet: a cluster has one broker", "")],
    ("spec", "storage"): [
        ("self.bucket == oldSelf.bucket", "storage.bucket cannot change: make a new resource", ".bucket"),
        (_frozen("prefix"), "storage.prefix cannot change, come or go: make a new resource", ".prefix"),
    ],
    ("spec", "wal"): [("self.type == oldSelf.type", "wal.type cannot change: make a new resource", ".type")],
    ("spec", "listeners"): [
        ("self.all(a, self.exists_one(b, a.name == b.name))", "listener names must be unique", ""),
        ("self.all(a, self.exists_one(b, a.port == b.port))", "listener ports must be unique", ""),
        ("self.exists(a, a.type == 'Internal')", "one listener of type Internal is needed", ""),
        ("self.all(a, a.port != 9404)", "port 9404 is the brokers' HTTP port", ""),
        (
            "self.all(a, a.type == 'NodePort' || (!has(a.host) && !has(a.nodePort)))",
            "host and nodePort belong to listeners of type NodePort",
            "",
        ),
    ],
    ("spec", "config"): [
        (
            _OWNED_KEY_RULE,
            "config may not name what the operator sets itself: " + ", ".join(api.OWNED_KEYS + api.OWNED_PREFIXES),
            "",
        )
    ],
}

CLUSTER_COLUMNS: Final = (
    Column(name="Ready", type="string", json_path=".status.ready", description="Serving and wanted brokers"),
    Column(name="Status", type="string", json_path=".status.phase", description="Summary"),
    Column(name="Want", type="integer", json_path=".spec.replicas", description="Wanted brokers"),
    Column(name="WAL", type="string", json_path=".spec.wal.type", description="Write-ahead log"),
    Column(name="Age", type="date", json_path=".metadata.creationTimestamp"),
    Column(
        name="Bootstrap",
        type="string",
        json_path=".status.bootstrap",
        description="Address for clients in the Kubernetes cluster",
        wide=True,
    ),
    Column(name="Cluster", type="string", json_path=".status.clusterId", description="Cluster id", wide=True),
)

CLUSTER: Final = Resource(
    kind=api.KIND,
    plural=api.PLURAL,
    short_name="amq",
    description="A Kafka cluster whose brokers keep every record in object storage.",
    spec=api.Spec,
    status=api.Status,
    rules=CLUSTER_RULES,
    columns=CLUSTER_COLUMNS,
    scale=True,
    planner=reconcile,
)

RESOURCES: Final = (CLUSTER,)
