"""The engine of one broker incarnation: WAL, log cache, upload and caches wired into one append path and one read path."""

from collections.abc import Callable
from dataclasses import dataclass

from automq.ids import BrokerEpoch, ClusterId, NodeId
from automq.runtime.clock import Clock
from automq.runtime.entropy import Entropy
from automq.runtime.tasks import Tasks
from automq.runtime.telemetry import Metrics
from automq.s3stream.ports import ObjectManager, ObjectStorage, StreamManager

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageSettings:
    """What a broker may tune. Every number is a bound on memory, latency or requests."""

    arena_bytes: int = 256 * MIB
    """All produced bytes that are not committed yet, and the log cache: the memory bound of the write path."""
    upload_bytes: int = 64 * MIB
    upload_interval_ms: int = 10_000
    """A log-cache block is sealed and uploaded at this size, or this long after its first byte."""
    block_cache_bytes: int = 128 * MIB
    cold_read_bytes: int = 64 * MIB
    """Bytes of ranged GETs in flight for cold reads."""
    wal_interval_ms: float = 250.0
    """Under load a WAL slot is started at most this often, unless it is full."""
    wal_batch_bytes: int = 4 * MIB
    """Largest slot, and so the largest batch that can be appended."""
    wal_inflight: int = 8
    """Slots that may be on their way to the store at once."""


class StorageEngine:
    """See `stream.Storage`, the public face."""

    def __init__(
        self,
        *,
        settings: StorageSettings,
        cluster_id: ClusterId,
        node: NodeId,
        epoch: BrokerEpoch,
        store: ObjectStorage,
        objects: ObjectManager,
        streams: StreamManager,
        clock: Clock,
        entropy: Entropy,
        tasks: Tasks,
        metrics: Metrics,
        on_fenced: Callable[[str], None],
    ) -> None:
        raise NotImplementedError

    async def recover(self, node: NodeId, epoch: BrokerEpoch, trim_to: int) -> None:
        """Make everything acknowledged by (node, epoch) readable from objects, and end its log for ever.

        To be called after the record that fences (node, epoch) is durable, with the T that record froze, and before any
        of its streams is opened. May be repeated. Raises BrokerFenced when somebody else recovers it by now,
        CorruptData, StoreError.
        """
        raise NotImplementedError

    def start(self) -> None:
        """Take appends from now on."""
        raise NotImplementedError

    @property
    def append_bytes_max(self) -> int:
        """The largest batch `Stream.append` takes."""
        raise NotImplementedError

    def has_room(self, size: int) -> bool:
        """Whether a Produce request of `size` bytes fits; what is internal may use the reserve above that."""
        raise NotImplementedError

    def when_room(self, callback: Callable[[], None]) -> None:
        """Call `callback` once, when room has been made since; ask `has_room` again then."""
        raise NotImplementedError

    def when_durable(self, position: int, callback: Callable[[Exception | None], None]) -> None:
        """Call `callback` once: with None when WAL slot `position` is durable, in slot order (at once if it is), or with
        BrokerFenced/StreamClosed when that will never be known here."""
        raise NotImplementedError

    async def upload_now(self) -> None:
        """Seal what the log cache holds and return when it is committed: before a stream moves, and at shutdown."""
        raise NotImplementedError

    def fence(self, reason: str) -> None:
        """This incarnation is fenced, says the metadata log: no new PUT, no acknowledgement, no read from now on."""
        raise NotImplementedError

    async def close(self, upload: bool) -> None:
        """Refuse appends, make what was appended durable, with `upload` also commit it, and end. Cancel to cut short."""
        raise NotImplementedError
