"""Pure: every setting of the broker, declared once, in the sections of the settings tree.

Numbers have their reasons in `doc`: docs/broker.md shows them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from automq.server.config.setting import (
    INT32_MAX,
    INT64_MAX,
    KIB,
    MIB,
    REQUIRED,
    Address,
    Listener,
    address,
    boolean,
    count_map,
    integer,
    listener_list,
    one_of,
    protocol_map,
    setting,
    store_uri,
    string,
)

ARENA_BYTES_MIN: Final = 16 * MIB
# In the bucket the log is as safe as objects are; on a volume it is as safe as the volume.
UPLOAD_INTERVAL_MS: Final[Mapping[str, int]] = {"s3": 300_000, "block": 10_000, "file": 10_000}

# Kafka's settings that people bring along and that mean nothing here, with what to do instead.
REMEDIES: Final[Mapping[str, str]] = {
    "log.dirs": "records live in the object store: set automq.storage.uri",
    "log.dir": "records live in the object store: set automq.storage.uri",
    "process.roles": "every broker can be the controller: remove it",
    "controller.quorum.voters": "the object store elects the controller: remove it",
    "controller.quorum.bootstrap.servers": "the object store elects the controller: remove it",
    "controller.listener.names": "there is no controller listener: remove it",
    "zookeeper.connect": "there is no ZooKeeper: remove it",
    "broker.id": "use node.id",
    "inter.broker.listener.name": "brokers reach each other at automq.internal.listener: set that, or remove it",
    "num.network.threads": "one event loop serves all connections: remove it",
    "num.io.threads": "one event loop serves all requests: remove it",
    "num.recovery.threads.per.data.dir": "nothing is recovered from a disk: remove it",
    "transaction.state.log.replication.factor": "transactions are not served yet: remove it",
    "transaction.state.log.min.isr": "transactions are not served yet: remove it",
    "s3.region": "say it in automq.storage.uri: s3://BUCKET?region=REGION",
    "s3.endpoint": "say it in automq.storage.uri: s3://BUCKET?endpoint=URL",
}


WAL_BATCH_BYTES_MAX: Final = 4 * MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSettings:
    """Who this broker is, and where clients find it."""

    node_id: int = setting(
        "node.id",
        integer(),
        default=REQUIRED,
        doc="The broker's id: unique in the cluster, the same at every start. A second process with the same id fences "
        "the first.",
        used_by="server/broker",
    )
    rack: str | None = setting(
        "broker.rack",
        string(),
        default=None,
        doc="The zone: clients see it in Metadata, and consumers of it may read here what other brokers lead.",
        used_by="handlers/metadata_answers",
    )
    listeners: tuple[Listener, ...] = setting(
        "listeners",
        listener_list(),
        default=(Listener(name="PLAINTEXT", address=Address(host="", port=9092)),),
        default_text="PLAINTEXT://:9092",
        doc="Where to listen. An empty host means every interface; port 0 takes a free port.",
        used_by="server/broker",
    )
    advertised: tuple[Listener, ...] = setting(
        "advertised.listeners",
        listener_list(),
        default=(),
        default_text="listeners, with the machine's name for an empty host",
        doc="What clients are told for each listener, by name. Metadata answers with the listener that the request "
        "came in on.",
        used_by="handlers/metadata_answers",
    )
    internal: Address | None = setting(
        "automq.internal.listener",
        address(),
        default=None,
        default_text="the host of the first of listeners, a free port",
        doc="Where the other brokers of the cluster reach this one. It speaks no Kafka, and nobody proves who he is: "
        "it belongs on a network that only brokers reach. Behind a firewall it needs a fixed port.",
        used_by="server/broker",
    )
    internal_advertised: Address | None = setting(
        "automq.internal.advertised.listener",
        address(),
        default=None,
        default_text="automq.internal.listener, with the machine's name for an empty host",
        doc="What the other brokers are told. Each of them must be able to connect there; port 0 stands for the one "
        "that is listened on.",
        used_by="server/broker",
    )
    protocols: dict[str, str] = setting(
        "listener.security.protocol.map",
        protocol_map(),
        default=lambda _machine: {"PLAINTEXT": "PLAINTEXT"},
        default_text="PLAINTEXT:PLAINTEXT",
        doc="The protocol of each listener name. PLAINTEXT is the only one served.",
        used_by="server/config/settings",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSettings:
    """Which cluster this is, and where it lies."""

    storage_uri: str = setting(
        "automq.storage.uri",
        store_uri(),
        default=REQUIRED,
        doc="Where the cluster's objects lie: `s3://BUCKET[/PREFIX][?endpoint=URL&region=R&path_style=true]` or "
        "`file:///FOLDER`.",
        used_by="s3stream/store",
    )
    credentials_folder: str | None = setting(
        "automq.storage.credentials.dir",
        string(),
        default=None,
        doc="Folder with the files `access-key`, `secret-key` and optionally `session-token`, read again whenever the "
        "store refuses them. Without it botocore's own chain is used (environment, web identity, instance role).",
        used_by="s3stream/store",
    )
    cluster_id: str | None = setting(
        "automq.cluster.id",
        string(),
        default=None,
        doc="The cluster that must be found at the prefix; an empty or another's prefix is then refused, never "
        "formatted. Without it an empty prefix becomes a new cluster.",
        used_by="metadata/cluster",
    )
    owner: str | None = setting(
        "automq.cluster.owner",
        string(),
        default=None,
        doc="Who may run this cluster (on Kubernetes the UID of the resource). Recorded when the cluster is made; "
        "another owner, or none, is refused afterwards.",
        used_by="metadata/cluster",
    )
    adopt: str | None = setting(
        "automq.storage.adopt",
        string(),
        default=None,
        doc="A cluster id: take that cluster over from its recorded owner, once the lease is no longer renewed.",
        used_by="metadata/cluster",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """The write-ahead log, the caches and the upload."""

    wal_type: str = setting(
        "automq.wal.type",
        one_of(
            "s3",
            refusals={
                "block": "the block write-ahead log does not exist yet; use s3",
                "file": "the file write-ahead log does not exist yet; use s3, which works on file:// stores too",
            },
        ),
        default="s3",
        doc="The kind of write-ahead log. `s3` keeps it in the object store itself, on `file://` stores too.",
        used_by="s3stream/wal",
    )
    wal_interval_ms: int | None = setting(
        "automq.wal.interval.ms",
        integer(least=1, most=10_000),
        default=None,
        default_text="250 on s3://, 2 on file://",
        doc="Pace of write-ahead log writes under load; after silence a write leaves at once. Longer means fewer "
        "requests to pay for and later acknowledgements.",
        used_by="s3stream/wal",
    )
    wal_batch_bytes: int = setting(
        "automq.wal.batch.bytes",
        integer(least=64 * KIB, most=WAL_BATCH_BYTES_MAX),
        default=WAL_BATCH_BYTES_MAX,
        doc="Largest write-ahead log slot that batches share: reaching it writes at once, and a larger batch has one "
        "of its own. 4 MiB fit the time-out of one request at 1 MB/s, and a lost one is cheap to ask again.",
        used_by="s3stream/wal",
    )
    wal_in_flight: int = setting(
        "automq.wal.in.flight",
        integer(least=1, most=64),
        default=8,
        doc="Write-ahead log PUTs in flight at once; acknowledgements stay in order.",
        used_by="s3stream/wal",
    )
    memory_bytes_asked: int | None = setting(
        "automq.memory.bytes",
        integer(least=1 * MIB, most=INT64_MAX),
        default=None,
        default_text="45 % of the memory limit, 1073741824 at most",
        doc="Memory for everything that grows with traffic, clients and data: arenas, caches and their indexes, "
        "uploads, recovery, what is received and what readers have not taken; see [Memory](#memory). The rest of the "
        "limit is the interpreter's and the metadata's. The limit is the cgroup's, version 1 or 2, or the machine's "
        "memory where there is none.",
        used_by="server/config/memory",
    )
    arena_bytes_asked: int | None = setting(
        "automq.arena.bytes",
        integer(least=ARENA_BYTES_MIN, most=INT64_MAX),
        default=None,
        default_text="a quarter of automq.memory.bytes",
        doc="Memory for records that are not uploaded yet and for the newest ones: write-ahead log buffer, log cache "
        "and upload source in one. 256 MiB carry an upload of 64 MiB, the next one filling, and readers of the tail.",
        used_by="s3stream/arena",
    )
    block_cache_bytes_asked: int | None = setting(
        "automq.block.cache.bytes",
        integer(least=0, most=INT64_MAX),
        default=None,
        default_text="an eighth of automq.memory.bytes",
        doc="Memory for blocks read back from objects. 128 MiB keep a few catching-up readers with read-ahead apart.",
        used_by="s3stream/cache",
    )
    upload_bytes_asked: int | None = setting(
        "automq.upload.bytes",
        integer(least=1 * MIB, most=INT64_MAX),
        default=None,
        default_text="67108864, or a quarter of automq.arena.bytes when that is lower",
        doc="Records gathered before they are uploaded as one object. Larger objects mean fewer requests and longer "
        "recovery.",
        used_by="s3stream/upload",
    )
    upload_interval_ms_asked: int | None = setting(
        "automq.upload.interval.ms",
        integer(least=100, most=3_600_000),
        default=None,
        default_text="300000 with automq.wal.type=s3, 10000 with block and file",
        doc="Upload at the latest this long after the first record, or after 1,000 write-ahead log slots. Nobody waits "
        "for an upload, so what it bounds is how much a restart must recover, and how much the loss of a volume would "
        "take where the log lies outside the bucket. A broker without writes uploads nothing.",
        used_by="s3stream/upload",
    )
    orphan_sweep_interval_ms: int = setting(
        "automq.orphan.sweep.interval.ms",
        integer(least=60_000, most=INT64_MAX),
        default=3_600_000,
        doc="How often the active controller lists the bucket for what nothing refers to (late slots and objects, half "
        "uploads), removes of it what is older than an hour, and looks whether everything that must be there is.",
        used_by="controller/orphans",
    )

    @property
    def upload_interval_ms(self) -> int:
        """What was asked for, else what suits the write-ahead log."""
        default = UPLOAD_INTERVAL_MS[self.wal_type]
        return default if self.upload_interval_ms_asked is None else self.upload_interval_ms_asked


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """Sockets, limits and the process itself."""

    http: Address = setting(
        "automq.http.address",
        address(),
        default=Address(host="0.0.0.0", port=9404),
        doc="Where /metrics, /livez and /readyz are answered.",
        used_by="server/observability/probes",
    )
    shutdown_timeout_ms: int = setting(
        "automq.shutdown.timeout.ms",
        integer(least=0, most=3_600_000),
        default=20_000,
        doc="How long SIGTERM may take; then the process ends without the upload, which the next start does instead. "
        "20 s leave room in Kubernetes' 30 s.",
        used_by="server/broker",
    )
    termination_message_path: str | None = setting(
        "automq.termination.message.path",
        string(),
        default=None,
        doc="File that the last line of a failing process is also written to (on Kubernetes `/dev/termination-log`).",
        used_by="server/runner",
    )
    request_bytes_max: int = setting(
        "socket.request.max.bytes",
        integer(least=1024),
        default=104_857_600,
        doc="Largest request; a larger one closes its connection before anything is allocated for it.",
        used_by="server/network/listener",
    )
    queued_request_bytes_max: int = setting(
        "queued.max.request.bytes",
        integer(least=-1, most=INT64_MAX),
        default=-1,
        default_text="-1: a fifth of automq.memory.bytes",
        doc="Memory for requests that are still coming in or may not start yet, of all connections together. A quarter "
        "of it is for requests up to 2 MiB, the rest for larger ones; a request that does not fit is refused, "
        "connections beyond it are not read until there is room.",
        used_by="server/network/listener",
    )
    connections_max_asked: int = setting(
        "max.connections",
        integer(least=1),
        default=INT32_MAX,
        default_text="2147483647: as many as descriptors and memory carry",
        doc="Most connections; a new one beyond them is closed at once. Fewer where the process may not open so many "
        "files, less a reserve for the store, or where `automq.memory.bytes` does not carry them: the log says how "
        "many at start.",
        used_by="server/network/listener",
    )
    connections_per_host_max: int = setting(
        "max.connections.per.ip",
        integer(least=0),
        default=INT32_MAX,
        doc="Most connections of one address; a new one beyond them is closed at once.",
        used_by="server/network/listener",
    )
    connections_per_host_overrides: dict[str, int] = setting(
        "max.connections.per.ip.overrides",
        count_map(),
        default=lambda _machine: {},
        default_text="none",
        doc="The same for some addresses, as in `10.0.0.7:200,[2001:db8::1]:50`. Names are not looked up.",
        used_by="server/network/listener",
    )
    idle_ms_max: int = setting(
        "connections.max.idle.ms",
        integer(least=-1, most=INT64_MAX),
        default=600_000,
        doc="A connection without requests for so long is closed; -1 means never.",
        used_by="server/network/listener",
    )
    fetch_bytes_max: int = setting(
        "fetch.max.bytes",
        integer(least=1024),
        default=57_671_680,
        doc="Most bytes that one Fetch answers, whatever it asks for.",
        used_by="handlers/fetch",
    )
    fetch_session_slots: int = setting(
        "max.incremental.fetch.session.cache.slots",
        integer(),
        default=1000,
        doc="Incremental fetch sessions kept; without a free one clients send full requests.",
        used_by="partition/fetch_session",
    )

    metric_topics_max: int = setting(
        "automq.metrics.topics.max",
        integer(most=10_000),
        default=200,
        doc="Topics that have metrics of their own; the others share one series. 0 leaves only that.",
        used_by="partition/traffic",
    )
    metric_groups_max: int = setting(
        "automq.metrics.groups.max",
        integer(most=10_000),
        default=200,
        doc="Groups that have metrics of their own (lag, members, rebalances), the longest known first. 0: none.",
        used_by="coordinators/group",
    )
    log_format: str = setting(
        "automq.log.format",
        one_of("text", "json"),
        default="text",
        doc="Log lines as `TIME LEVEL logger: phrase key=value ...`, or as one JSON object a line.",
        used_by="server/observability/logs",
    )
    log_level: str = setting(
        "automq.log.level",
        one_of("debug", "info", "warning", "error"),
        default="info",
        doc="The lowest level that is logged.",
        used_by="server/observability/logs",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicSettings:
    """Topics: how they come to be, and what the broker does for them."""

    partitions_default: int = setting(
        "num.partitions",
        integer(least=1, most=100_000),
        default=1,
        doc="Partitions of a topic that is made without a number.",
        used_by="handlers/admin_topics",
    )
    replication_factor_default: int = setting(
        "default.replication.factor",
        integer(least=1, most=16),
        default=1,
        doc="Replication factor that a topic made without one shows. It is nominal: the object store replicates.",
        used_by="handlers/admin_topics",
    )
    auto_create: bool = setting(
        "auto.create.topics.enable",
        boolean(),
        default=True,
        doc="Whether Metadata makes a topic that a client asks for and allows to be made.",
        used_by="handlers/metadata_answers",
    )
    produce_validation: str = setting(
        "automq.produce.validation",
        one_of("records", "header"),
        default="records",
        doc="What of a produced batch is checked: every record as Kafka does, or its header alone. With `header` a "
        "client can store what no consumer can read, and its word decides on retention; it saves about a "
        "microsecond a record.",
        used_by="partition/record_validation",
    )
    delete_enabled: bool = setting(
        "delete.topic.enable",
        boolean(),
        default=True,
        doc="Whether DeleteTopics deletes.",
        used_by="handlers/admin_topics",
    )
    retention_check_interval_ms: int = setting(
        "log.retention.check.interval.ms",
        integer(least=1, most=INT64_MAX),
        default=300_000,
        doc="How often retention by time and size is applied.",
        used_by="partition/manager",
    )
    producer_id_expiration_ms: int = setting(
        "producer.id.expiration.ms",
        integer(least=1),
        default=86_400_000,
        doc="How long a partition remembers an idempotent producer that is silent.",
        used_by="partition/producer_state",
    )
