"""Pure: the list of custom resources. A second one is an addition here."""

from collections.abc import Mapping, Sequence
from typing import Final

from automq_operator import api
from automq_operator.cluster import parse
from automq_operator.cluster_rules import CLUSTER_RULES
from automq_operator.planners import deletion
from automq_operator.reconcile import reconcile
from automq_operator.resource import Column, Planning, Resource, Rule
from automq_operator.topics import api as topic_api

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
    planning=Planning(parse=parse, planner=reconcile, released=deletion.released, deletion=deletion.plan),
)

_IMMUTABLE: Final = "cannot change: make a new resource"
TOPIC_RULES: Final[Mapping[tuple[str, ...], Sequence[Rule]]] = {
    (): [
        (
            "has(self.spec.topicName) || self.metadata.name.size() <= 249",
            "a topic's name has 249 characters at most: give it as spec.topicName",
            ".metadata.name",
        ),
    ],
    ("spec",): [
        ("self.cluster == oldSelf.cluster", f"cluster {_IMMUTABLE}", ".cluster"),
        (
            "has(self.topicName) == has(oldSelf.topicName) && "
            "(!has(self.topicName) || self.topicName == oldSelf.topicName)",
            f"topicName {_IMMUTABLE}",
            ".topicName",
        ),
        (
            "!has(self.topicName) || !self.topicName.startsWith('__')",
            "topicName may not begin with two underscores: those are Kafka's own",
            ".topicName",
        ),
        (
            "!has(self.topicName) || !(self.topicName in ['.', '..'])",
            "topicName may not be '.' or '..': Kafka refuses them",
            ".topicName",
        ),
    ],
    ("spec", "configs"): [
        (
            f"self.all(key, key.matches('{api.CONFIG_KEY}'))",
            "configs are Kafka's names: small letters, digits, '.', '-' and '_' only",
            "",
        ),
    ],
}
TOPIC_COLUMNS: Final = (
    Column(
        name="Synced",
        type="string",
        json_path=".status.conditions[?(@.type=='Synced')].status",
        description="Whether the topic is as the spec says",
    ),
    Column(
        name="Reason",
        type="string",
        json_path=".status.conditions[?(@.type=='Synced')].reason",
        description="Why it is or is not",
    ),
    Column(name="Cluster", type="string", json_path=".spec.cluster", description="Whose topic it is"),
    Column(name="Topic", type="string", json_path=".status.topicName", description="Its name in Kafka"),
    Column(name="Partitions", type="integer", json_path=".status.partitions", description="Partitions that it has"),
    Column(name="Age", type="date", json_path=".metadata.creationTimestamp"),
    Column(
        name="Message",
        type="string",
        json_path=".status.conditions[?(@.type=='Synced')].message",
        description="What happened, what to do",
        wide=True,
    ),
)

TOPIC: Final = Resource(
    kind=topic_api.KIND,
    plural=topic_api.PLURAL,
    short_name="amqt",
    description="A topic of an AutoMQCluster, kept as it is written here.",
    spec=topic_api.TopicSpec,
    status=topic_api.TopicStatus,
    rules=TOPIC_RULES,
    columns=TOPIC_COLUMNS,
    scale=False,
)

RESOURCES: Final = (CLUSTER, TOPIC)
