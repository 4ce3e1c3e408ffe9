"""Pure: the list of custom resources. A second one is an addition here."""

from typing import Final

from automq_operator import api
from automq_operator.cluster import parse
from automq_operator.cluster_rules import CLUSTER_RULES
from automq_operator.planners import deletion
from automq_operator.reconcile import reconcile
from automq_operator.resource import Column, Resource

CLUSTER_COLUMNS: Final = (
    Column(name="Ready", type="string", json_path=".status.ready", description="Serving and wanted brokers"),
    Column(name="Status", type="string", json_path=".status.phase", description="Summary"),
    Column(
        name="Reason",
        type="string",
        json_path=".status.conditions[?(@.type=='Ready')].reason",
        description="Why it is or is not Ready",
    ),
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
    Column(
        name="Message",
        type="string",
        json_path=".status.conditions[?(@.type=='Ready')].message",
        description="What happened, to what, what to do",
        wide=True,
    ),
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
    parse=parse,
    planner=reconcile,
    released=deletion.released,
    deletion=deletion.plan,
)

RESOURCES: Final = (CLUSTER,)
