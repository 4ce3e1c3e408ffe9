"""What the controller is asked and what it answers: values that cross the module's border."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from automq.ids import BrokerEpoch, NodeId, StreamId, TopicId
from automq.protocol.errors import ApiError


class MessageLimit(NamedTuple):
    """The upper bound of `max.message.bytes`: the largest batch that is taken."""

    bytes_max: int
    reason: str = ""
    """Which numbers it is the smallest of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ControllerSettings:
    """What a broker may tune of its controller. Every interval is a bound on requests or on waiting."""

    partitions_default: int = 1
    replication_factor_default: int = 1
    message_limit: MessageLimit = MessageLimit(64 * 1024 * 1024)
    lease_interval_s: float = 5.0
    """One PUT of the lease at most this often; the only write of an idle cluster."""
    poll_interval_s: float = 1.0
    """How often an idle controller looks for a fence in its own next slot."""
    snapshot_records: int = 10_000
    snapshot_bytes: int = 16 * 1024 * 1024
    snapshot_slots: int = 1_000
    snapshot_ranges: int = 250_000
    """A snapshot is written after so many records, bytes, slots, or ranges of committed objects since the last one:
    what a start must replay at most. A range takes five microseconds."""
    balances: bool = True
    """Whether partitions move so that brokers carry the same."""
    balance_interval_s: float = 10.0
    session_timeout_ms: int = 3_000
    """A broker without a heartbeat for so long is fenced."""
    object_expiry_ms: int = 3_600_000
    """A prepared object that nobody committed for so long is destroyed: longer than any upload is tried."""
    object_grace_ms: int = 60_000
    """Bytes of a destroyed object are kept for so long: readers that found it before may still read it."""
    sweep_interval_s: float = 10.0
    orphan_sweep_interval_s: float = 3600.0
    """How often the bucket is listed for what nothing refers to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicSpec:
    """A topic to be. None leaves a number to the broker's default."""

    name: str
    partitions: int | None = None
    replication_factor: int | None = None
    assignments: Mapping[int, Sequence[NodeId]] | None = None
    """Partition index to replicas; the first is asked to lead. Excludes `partitions` and `replication_factor`."""
    configs: Mapping[str, str | None] = field(default_factory=dict)
    is_internal: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicResult:
    """What became of one topic. With an error nothing was changed for it."""

    name: str
    topic_id: TopicId | None = None
    partitions: int = 0
    replication_factor: int = 0
    error: ApiError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionsSpec:
    """A topic to grow to `count` partitions."""

    name: str
    count: int
    assignments: Sequence[Sequence[NodeId]] | None = None
    """Replicas of each partition that is added."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reassignment:
    """One partition and the replicas that it is to have; None: a move of it is to be given up."""

    topic: str
    index: int
    replicas: Sequence[NodeId] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveResult:
    """What became of one partition of a request. Without an error it is where it was asked to be, or moves there."""

    topic: str
    index: int
    error: ApiError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigChange:
    """One step of an incremental alteration."""

    name: str
    operation: int
    """Kafka's numbers: set 0, delete 1, append 2, subtract 3."""
    value: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigAlteration:
    """Changes of one resource. Resource types are Kafka's numbers: topic 2, broker 4.

    Incremental: `changes` in order. Full (the old AlterConfigs): `replacement` is everything that is overridden
    afterwards.
    """

    resource_type: int
    resource_name: str
    changes: Sequence[ConfigChange] = ()
    replacement: Mapping[str, str | None] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigResult:
    """What became of one resource's alteration."""

    resource_type: int
    resource_name: str
    error: ApiError | None = None


class PartitionLoad(NamedTuple):
    """Bytes a second of one partition, as its leader measures them."""

    stream: StreamId
    in_bytes: int
    out_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerLoad:
    """What a broker has to do, as its heartbeat tells; rates are of the last seconds."""

    in_bytes_per_second: int = 0
    out_bytes_per_second: int = 0
    request_cpu_percent: int = 0
    """Of one core: how busy the event loop is, which is where requests are served."""
    partitions: int = 0
    unuploaded_bytes: int = 0
    """Appended, and in no object yet: what a recovery of its log would have to read."""
    heaviest: Sequence[PartitionLoad] | None = None
    """The partitions with most bytes in and out, the heaviest first, a bounded number; the rates above are of all of
    them. None: as it said before."""

    @property
    def weight(self) -> int:
        """One number, to compare brokers by."""
        return self.in_bytes_per_second + self.out_bytes_per_second + self.unuploaded_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerView:
    """A broker as the balancer sees it."""

    broker: NodeId
    rack: str | None
    share: float
    """What it carries, relative to the mean."""
    partitions: int
    bytes_per_second: float
    """In and out together."""
    loop_busy: float
    """Share of a core."""
    unuploaded_bytes: int
    takes: bool
    """Whether it may be given something: it is not on its way out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveView:
    """A move of the balancer, made or planned. To undo it, move the partition back to `source`."""

    topic: str
    partition: int
    source: NodeId
    target: NodeId
    reason: str
    expected: str
    at_ms: int | None = None
    """When it was decided; None: it is planned."""
    state: str = "planned"
    """Or `moving`, `done`; `elsewhere` when it was given up or something else has moved the partition since."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BalancerView:
    """What the balancer does."""

    enabled: bool
    """By the settings of the controller."""
    paused: bool
    """By the cluster's dynamic config."""
    since_ms: int
    """When this controller took over."""
    decided: int
    """Moves since then."""
    moving: int
    """Of those of any controller, how many are under way."""
    brokers: Sequence[BrokerView]
    planned: Sequence[MoveView]
    """What it would move now."""
    moves: Sequence[MoveView]
    """What it has moved, the newest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeartbeatAnswer:
    """What the controller says to a broker that says that it is there."""

    record_number: int
    """How many records are durable."""
    proof_age_s: float | None = None
    """How long ago the look at the log began that last found this controller leading; None before the first."""
    is_fenced: bool = False
    """The broker is not the current incarnation of its node, or is fenced."""
    session_s: float | None = None
    """So long without a heartbeat, and it is fenced, whatever its own settings say; None of an older controller."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WalToRecover:
    """A write-ahead log that its new recoverer must read from `trim_to` on, commit, and end."""

    node: NodeId
    epoch: BrokerEpoch
    trim_to: int
    lost: Sequence[tuple[int, int | None]] = ()
    """Slots [start, end) that a person gave up: they are passed over. With end None the log ends at start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """A broker's new incarnation, and the logs that it must recover before it opens streams."""

    node: NodeId
    epoch: BrokerEpoch
    wals: Sequence[WalToRecover]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProducerIdBlock:
    """Producer ids [first, first + count), given to one broker and never again."""

    first: int
    count: int
