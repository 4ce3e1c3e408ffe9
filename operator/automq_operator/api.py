"""The custom resource as typed, frozen values: what a user may write, what the operator reports.

These models are the source of `crds/automqclusters.automq.io.yaml` (see `crd`) and of docs/kubernetes.md. Every field
that is accepted means something; a field's description is what `kubectl explain` shows.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from automq_operator.peer_schema import PEER
from automq_operator.pod_schema import NAME, POD_SPEC

GROUP: Final = "automq.io"
VERSION: Final = "v1alpha1"
PLURAL: Final = "automqclusters"
KIND: Final = "AutoMQCluster"

MAX_NAME: Final = 40
"""Of a resource: its children's names are longer, and 63 characters are allowed in a label."""

# A port's name in Kubernetes: one letter at least, no two hyphens side by side.
PORT_NAME: Final = "^([0-9]-?)*[a-z](-?[a-z0-9])*$"
HOST: Final = r"^([A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])$"
# The same, with places for a broker's id.
HOST_TEMPLATE: Final = r"^(([A-Za-z0-9]|\{id\})(([-A-Za-z0-9.]|\{id\})*([A-Za-z0-9]|\{id\}))?|\[[0-9A-Fa-f:.]+\])$"
ID_PLACE: Final = "{id}"
URL: Final = r"^https?://([A-Za-z0-9]([-A-Za-z0-9._]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?/?$"
LABEL_VALUE: Final = "^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$"
QUALIFIED_NAME: Final = (
    "^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$"  # of a label or annotation
)

# Keys of `spec.config` that the operator writes itself, whole or by prefix.
OWNED_KEYS: Final = (
    "node.id",
    "broker.rack",
    "listeners",
    "advertised.listeners",
    "listener.security.protocol.map",
    "process.roles",
    "automq.broker.draining",
)
OWNED_PREFIXES: Final = (
    "automq.storage.",
    "automq.cluster.",
    "automq.http.",
    "automq.internal.",
    "automq.wal.type",
    "automq.termination.",
)

REPLICAS_MAX: Final = 100
ZONES_MAX: Final = 9
OPEN: Final = {"x-kubernetes-preserve-unknown-fields": True}

# What Kubernetes gives NodePorts from unless its API server was told otherwise; the chart can change it.
NODE_PORT_MIN: Final = 30000
NODE_PORT_MAX: Final = 32767

CONFIG_KEY: Final = "^[a-z0-9._-]+$"
ConfigKey = Annotated[str, Meta(pattern=CONFIG_KEY)]
"""Nothing that means something else in a properties file: a key must not bring further settings along."""

Label = Annotated[str, Meta(max_length=63, pattern=LABEL_VALUE)]


class Storage(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Where the cluster's data live. Everything is in this bucket; brokers keep nothing of their own."""

    bucket: Annotated[
        str,
        Meta(
            description="Bucket. Must exist; the operator never creates or deletes one.",
            min_length=3,
            max_length=63,
            pattern="^[A-Za-z0-9][A-Za-z0-9._-]*$",
        ),
    ]
    prefix: (
        Annotated[
            str,
            Meta(
                description="Folder inside the bucket; default <namespace>/<name>, shown in status.prefix. Immutable.",
                max_length=512,
                pattern="^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*$",
            ),
        ]
        | None
    ) = None
    region: (
        Annotated[str, Meta(description="Region of the bucket.", max_length=64, pattern="^[A-Za-z0-9._-]+$")] | None
    ) = None
    endpoint: (
        Annotated[
            str,
            Meta(
                description="URL of an S3 server other than Amazon's. Cannot change once the cluster has an id.",
                max_length=512,
                pattern=URL,
            ),
        ]
        | None
    ) = None
    path_style: Annotated[
        bool,
        Meta(description="Address the bucket in the path instead of the host name; most other S3 servers need it."),
    ] = True
    credentials_secret: (
        Annotated[
            str,
            Meta(
                description="Secret of this namespace with keys access-key, secret-key and optionally session-token. "
                "Without it brokers use the identity of their ServiceAccount or node.",
                max_length=253,
                pattern=NAME,
            ),
        ]
        | None
    ) = None
    adopt: (
        Annotated[
            str,
            Meta(
                description="Cluster id of data under this prefix that another owner left: naming it takes them over. "
                "Refused while that owner is alive.",
                max_length=64,
                pattern="^[A-Za-z0-9][A-Za-z0-9_-]*$",
            ),
        ]
        | None
    ) = None
    deletion_policy: Annotated[
        Literal["Retain", "Delete"],
        Meta(description="What happens to the data when this resource is deleted: Retain leaves the bucket alone, "
             "Delete removes this cluster's keys (never the bucket, never what another resource adopted)."),
    ] = "Retain"  # fmt: skip


class Wal(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The write-ahead log that acknowledges produce requests. Immutable."""

    type: Annotated[Literal["S3"], Meta(description="S3: slots in the bucket itself.")] = "S3"


Peer = Annotated[dict[str, object], Meta(description="A peer of a NetworkPolicy.", extra_json_schema=PEER)]


class NetworkPolicy(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The NetworkPolicy of the broker pods: who may open connections to them."""

    enabled: Annotated[
        bool,
        Meta(
            description="Clients reach the listeners' ports, brokers each other, the operator listeners and probes; "
            "nothing else reaches a broker."
        ),
    ] = True
    metrics_from: Annotated[
        list[Peer],
        Meta(
            description="Who may read port 9404 (metrics and probes) beside the operator, as peers of a NetworkPolicy; "
            "default: every pod of the Kubernetes cluster.",
            max_length=32,
        ),
    ] = []


class Listener(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """An address that Kafka clients connect to."""

    name: Annotated[
        str,
        Meta(description="Name, unique in the list: small letters, digits, hyphens.", pattern=PORT_NAME, max_length=15),
    ]
    port: Annotated[int, Meta(description="Port of the broker, unique in the list.", ge=1024, le=65535)]
    type: Annotated[
        Literal["Internal", "NodePort", "LoadBalancer"],
        Meta(
            description="Internal: for clients in the Kubernetes cluster. NodePort: for clients outside, through a "
            "port of every node for each broker and one to begin with. LoadBalancer: the same through load balancers."
        ),
    ] = "Internal"
    host: (
        Annotated[
            str,
            Meta(
                description="Advertised host of a broker; {id} in it stands for the broker's id. Default: the address "
                "of the broker's node, or of its load balancer.",
                max_length=253,
                pattern=HOST_TEMPLATE,
            ),
        ]
        | None
    ) = None
    bootstrap_host: (
        Annotated[
            str,
            Meta(
                description="Host that clients outside begin with, for status.listeners and external-dns.",
                max_length=253,
                pattern=HOST,
            ),
        ]
        | None
    ) = None
    annotations: Annotated[
        dict[str, str],
        Meta(
            description="Added to the annotations of this listener's Services; {id} stands for the broker's id on "
            "those of one broker, and an annotation that has it is left out of the bootstrap's."
        ),
    ] = {}
    load_balancer_class: (
        Annotated[
            str,
            Meta(
                description="Which controller makes the load balancers, where there are several.",
                max_length=253,
                pattern=QUALIFIED_NAME,
            ),
        ]
        | None
    ) = None
    allow_from: Annotated[
        list[Peer],
        Meta(
            description="Who may connect, as peers of a NetworkPolicy; default: everybody. Its ipBlocks are the source "
            "ranges of load balancers as well.",
            max_length=32,
        ),
    ] = []
    node_port: (
        Annotated[
            int,
            Meta(
                description="Port of the nodes that clients begin with; default: one that Kubernetes chooses, as it "
                "does for each broker.",
                # The API server's bounds only: a chart may have been told of others.
                extra_json_schema={"minimum": NODE_PORT_MIN, "maximum": NODE_PORT_MAX},
            ),
        ]
        | None
    ) = None


class Resources(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Requests and limits of the broker container."""

    requests: Annotated[dict[str, str | int], Meta(description="What the scheduler reserves.")] = msgspec.field(
        default_factory=lambda: {"cpu": "500m", "memory": "1Gi"}
    )
    limits: Annotated[dict[str, str | int], Meta(description="What the container may not exceed.")] = msgspec.field(
        default_factory=lambda: {"memory": "2Gi"}
    )


class PodMetadata(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Labels and annotations added to the broker pods."""

    labels: Annotated[dict[str, Label], Meta(description="Added to the pods' labels; the operator's own win.")] = {}
    annotations: Annotated[dict[str, str], Meta(description="Added to the pods' annotations.")] = {}


class PodTemplate(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Overrides of the broker pod."""

    metadata: PodMetadata = PodMetadata()
    spec: Annotated[
        dict[str, object],
        Meta(
            description="Merged over the pod spec that the operator makes. Lists of named things merge by name, so "
            "`containers: [{name: broker, env: [...]}]` adds variables to the broker.",
            extra_json_schema=POD_SPEC,
        ),
    ] = {}


class Autoscaling(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A HorizontalPodAutoscaler on this resource's own scale: it writes spec.replicas, the operator only reads it."""

    max_replicas: Annotated[int, Meta(description="Most brokers.", ge=1, le=REPLICAS_MAX)]
    min_replicas: Annotated[int, Meta(description="Fewest brokers.", ge=1, le=REPLICAS_MAX)] = 1
    target_cpu: (
        Annotated[
            int,
            Meta(
                description="CPU of the broker container to keep to, in percent of its request, on average. Default: "
                "70 where there are no metrics.",
                ge=1,
                le=1000,
            ),
        ]
        | None
    ) = msgspec.field(default=None, name="targetCPU")
    metrics: Annotated[
        list[Annotated[dict[str, object], Meta(description="One metric.", extra_json_schema=OPEN)]],
        Meta(description="More metrics, as autoscaling/v2 has them.", max_length=16),
    ] = []
    behavior: Annotated[
        dict[str, object], Meta(description="How fast, as autoscaling/v2 has it.", extra_json_schema=OPEN)
    ] = {}


class Topology(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The zones that brokers are spread over."""

    zones: Annotated[
        list[Annotated[str, Meta(min_length=1, max_length=63, pattern=LABEL_VALUE)]],
        Meta(
            description="Zones, as the label of the nodes names them: a StatefulSet for each, brokers spread evenly, "
            "broker.rack is the zone. May be added at the end, and not leave.",
            min_length=1,
            max_length=ZONES_MAX,
        ),
    ]
    key: Annotated[
        str, Meta(description="Label of the nodes that names the zone.", max_length=253, pattern=QUALIFIED_NAME)
    ] = "topology.kubernetes.io/zone"


class AccountMetadata(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Labels and annotations added to the brokers' ServiceAccount."""

    labels: Annotated[dict[str, Label], Meta(description="Added to its labels; the operator's own win.")] = {}
    annotations: Annotated[
        dict[str, str],
        Meta(
            description="Added to its annotations, such as eks.amazonaws.com/role-arn: the cloud role of the brokers."
        ),
    ] = {}


class AccountTemplate(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Overrides of the brokers' ServiceAccount."""

    metadata: AccountMetadata = AccountMetadata()


class Template(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Overrides of what the operator makes."""

    pod: PodTemplate = PodTemplate()
    service_account: AccountTemplate = AccountTemplate()


class Spec(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What the user wants."""

    storage: Annotated[Storage, Meta(description="Where the data live.")]
    replicas: Annotated[
        int,
        Meta(
            description="Number of brokers; 0 stops all. Leave it out of Git where an autoscaler sets it.",
            ge=0,
            le=REPLICAS_MAX,
        ),
    ] = 1
    image: (
        Annotated[
            str,
            Meta(
                description="Image of the brokers; default: the operator's own.",
                min_length=1,
                max_length=512,
                pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@-]*$",
            ),
        ]
        | None
    ) = None
    paused: Annotated[bool, Meta(description="The operator observes and reports but changes nothing.")] = False
    wal: Annotated[Wal, Meta(description="The write-ahead log.")] = Wal()
    listeners: Annotated[
        list[Listener],
        Meta(description="Addresses for clients; one Internal listener at least.", min_length=1, max_length=8),
    ] = msgspec.field(default_factory=lambda: [Listener(name="internal", port=9092)])
    config: Annotated[
        dict[ConfigKey, str], Meta(description="Broker settings in Kafka's names. Those the operator owns are refused.")
    ] = {}
    resources: Annotated[Resources, Meta(description="Requests and limits of the broker container.")] = Resources()
    autoscaling: Annotated[Autoscaling, Meta(description="Scale by load. Leave replicas out of Git then.")] | None = (
        None
    )
    topology: Annotated[Topology, Meta(description="Spread brokers over zones.")] | None = None
    network_policy: Annotated[NetworkPolicy, Meta(description="Who may connect to the brokers.")] = NetworkPolicy()
    template: Annotated[Template, Meta(description="Overrides of what the operator makes.")] = Template()


class Condition(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One aspect of the cluster's state, as in all Kubernetes APIs."""

    type: Annotated[str, Meta(description="Which aspect.")]
    status: Annotated[Literal["True", "False", "Unknown"], Meta(description="Whether it holds.")]
    reason: Annotated[str, Meta(description="One word of a closed set; docs/kubernetes.md explains each.")]
    message: Annotated[str, Meta(description="What happened, to what, what to do.")]
    last_transition_time: Annotated[str, Meta(description="When the status last changed.")]
    observed_generation: Annotated[int, Meta(description="The generation of the spec that was looked at.")] = 0


class ListenerStatus(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Where to connect."""

    name: Annotated[str, Meta(description="Name of the listener.")]
    bootstrap: Annotated[str, Meta(description="Value for clients' bootstrap.servers.")]


class BrokerStatus(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One broker as its pod and its /readyz show it."""

    id: Annotated[int, Meta(description="node.id.")]
    pod: Annotated[str, Meta(description="Name of the pod.")]
    node: Annotated[str, Meta(description="Node that it runs on.")] | None = None
    zone: Annotated[str, Meta(description="Zone that it belongs to, where the cluster names some.")] | None = None
    state: Annotated[str, Meta(description="State of its /readyz, or Missing, Pending, Unreachable.")] = "Missing"
    reason: Annotated[str, Meta(description="Reason of its /readyz or of its last end.")] | None = None
    leaders: Annotated[int, Meta(description="Partitions that it leads.")] | None = None


class Status(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What the operator observed and did."""

    observed_generation: Annotated[int, Meta(description="The generation of the spec that this status is about.")] = 0
    phase: Annotated[
        str, Meta(description="Summary for people: Pending, Ready, Degraded, Paused, Stopped or Deleting.")
    ] = "Pending"
    cluster_id: (
        Annotated[str, Meta(description="Id of the cluster under the prefix, once a broker served it.")] | None
    ) = None
    prefix: Annotated[str, Meta(description="Folder in the bucket.")] | None = None
    replicas: Annotated[int, Meta(description="Broker pods that exist.")] = 0
    ready_replicas: Annotated[int, Meta(description="Broker pods that serve.")] = 0
    ready: Annotated[str, Meta(description="Serving and wanted brokers, as 1/1.")] = "0/0"
    selector: Annotated[str, Meta(description="Label selector of the broker pods, for the scale subresource.")] = ""
    bootstrap: Annotated[str, Meta(description="Address for clients inside the Kubernetes cluster.")] | None = None
    listeners: Annotated[list[ListenerStatus], Meta(description="Addresses by listener.")] = []
    brokers: Annotated[list[BrokerStatus], Meta(description="The brokers, by id.")] = []
    joining: Annotated[
        list[int],
        Meta(description="Ids of brokers that were added and have not served yet: Ready does not wait for them."),
    ] = []
    dynamic_configs: Annotated[
        list[str],
        Meta(
            description="Settings that were set while brokers ran, and are unset once spec.config does not name them."
        ),
    ] = []
    conditions: Annotated[
        list[Condition],
        Meta(
            description="Ready, StorageReady, Progressing, ScalingSettled, Paused; AutoscalingActive and ConfigApplied "
            "where there is something to say."
        ),
    ] = []


def parse_spec(raw: object) -> Spec:
    """The spec as the API server stores it. Raises msgspec.ValidationError, whose message names the field."""
    return msgspec.convert(raw, Spec)


def parse_status(raw: object) -> Status:
    """The status as the API server stores it; unknown fields of other versions are passed over."""
    return msgspec.convert(raw or {}, Status)


def inside_port(raw: Mapping[str, Any]) -> int:
    """The port of brokers for clients inside the Kubernetes cluster, of a spec that may not parse."""
    for listener in raw.get("listeners") or []:
        if not isinstance(listener, dict) or not isinstance(listener.get("port"), int):
            continue
        if listener.get("type", "Internal") == "Internal":
            return int(listener["port"])
    return Spec(storage=Storage(bucket="none")).listeners[0].port


def to_yaml_dict(model: msgspec.Struct) -> dict[str, object]:
    """A model as the API server takes it: camelCase, without nulls at any depth."""
    built = _without_nulls(msgspec.to_builtins(model))
    assert isinstance(built, dict)
    return built


def _without_nulls(value: object) -> object:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value
