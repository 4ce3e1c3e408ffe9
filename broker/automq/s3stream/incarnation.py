"""Who one engine is, and what it works with."""

from dataclasses import dataclass

from automq.ids import BrokerEpoch, ClusterId, NodeId
from automq.runtime.clock import Clock
from automq.runtime.entropy import Entropy
from automq.runtime.ledger import MemoryLedger
from automq.runtime.tasks import Tasks
from automq.runtime.telemetry import Metrics
from automq.s3stream.ports import ObjectStorage
from automq.s3stream.settings import StorageSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Incarnation:
    """One life of a broker: (node, epoch) names its log and is never used again."""

    cluster_id: ClusterId
    node: NodeId
    epoch: BrokerEpoch
    settings: StorageSettings
    ledger: MemoryLedger
    """It has at least the limits of `settings`."""
    store: ObjectStorage
    clock: Clock
    entropy: Entropy
    tasks: Tasks
    metrics: Metrics
