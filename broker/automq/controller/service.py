"""The active controller: it holds the claim to the metadata log, decides commands in turn, and publishes images.

Every method that changes something is one atomic change: it returns, or raises, once everything that it saw is durable.
Raises of all of them: `ApiError` for what has a Kafka code, `BrokerFenced` when the caller's (node, epoch) or this
controller may not act any more.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from automq.controller.model import (
    ConfigAlteration,
    ConfigResult,
    ControllerSettings,
    PartitionsSpec,
    ProducerIdBlock,
    Registration,
    TopicResult,
    TopicSpec,
    WalToRecover,
)
from automq.ids import BrokerEpoch, ClusterId, ControllerEpoch, NodeId, ObjectId, Offset, StreamEpoch, StreamId, TopicId
from automq.metadata.publisher import MetadataPublisher
from automq.metadata.records import Endpoint
from automq.runtime.clock import Clock
from automq.runtime.entropy import Entropy
from automq.runtime.tasks import Tasks
from automq.runtime.telemetry import Metrics
from automq.s3stream.model import CommitRequest, CommitResult
from automq.s3stream.ports import ObjectStorage, StoreError


class Controller(Protocol):
    """Interface first; the implementation follows in this module under the same name."""

    def __init__(
        self,
        *,
        settings: ControllerSettings,
        cluster_id: ClusterId,
        node: NodeId,
        store: ObjectStorage,
        publisher: MetadataPublisher,
        key_of: Callable[[ObjectId], str],
        clock: Clock,
        entropy: Entropy,
        tasks: Tasks,
        metrics: Metrics,
        on_fenced: Callable[[str], None],
        on_store: Callable[[StoreError | None], None],
    ) -> None: ...

    @property
    def epoch(self) -> ControllerEpoch:
        """The claim this process holds, once started."""
        ...

    async def start(self, *, owner: str | None) -> None:
        """Claim, fence and replay every lower epoch, publish the image, and record `owner` if it is a new one.

        To be called after `metadata.cluster.open_or_format` and only once everything that could end the process was
        checked. Retries store failures for ever (cancel to give up). Raises CorruptData, FormatTooNew.
        """
        ...

    async def close(self) -> None:
        """Stop background work; what is durable stays, what waits fails."""
        ...

    # Brokers.

    async def register_broker(self, node: NodeId, *, rack: str | None, endpoints: Sequence[Endpoint]) -> Registration:
        """A new incarnation of `node`: fences the former ones, naming this one as their recoverer."""
        ...

    async def fence_broker(
        self, node: NodeId, epoch: BrokerEpoch, *, recoverer: tuple[NodeId, BrokerEpoch]
    ) -> Sequence[WalToRecover]:
        """End (node, epoch), and whatever it was recovering; `recoverer` recovers the logs that are returned."""
        ...

    async def wal_recovered(self, node: NodeId, epoch: BrokerEpoch, *, recoverer: tuple[NodeId, BrokerEpoch]) -> None:
        """(node, epoch)'s log is committed whole and its end fenced."""
        ...

    async def unregister_broker(self, node: NodeId) -> None:
        """Forget a fenced node that owns nothing."""
        ...

    async def open_streams(self, node: NodeId, epoch: BrokerEpoch) -> None:
        """Raise the leader epoch of all of `node`'s partitions, in one record; only when its logs are recovered."""
        ...

    async def allocate_producer_ids(self, node: NodeId, epoch: BrokerEpoch, count: int = 1000) -> ProducerIdBlock:
        """Ids that nobody else ever gets."""
        ...

    # Topics and configs.

    async def create_topics(self, specs: Sequence[TopicSpec], *, validate_only: bool = False) -> list[TopicResult]:
        """One result for each name, in order; those without an error are created together."""
        ...

    async def delete_topics(self, topics: Sequence[str | TopicId]) -> list[TopicResult]:
        """By name or id, one result each."""
        ...

    async def create_partitions(
        self, specs: Sequence[PartitionsSpec], *, validate_only: bool = False
    ) -> list[TopicResult]:
        """Grow topics."""
        ...

    async def alter_configs(
        self, alterations: Sequence[ConfigAlteration], *, validate_only: bool = False
    ) -> list[ConfigResult]:
        """Incremental or full, one result each; those without an error are applied together."""
        ...

    # Streams and objects: what LocalStreams and LocalObjects call.

    async def trim_stream(
        self, node: NodeId, epoch: BrokerEpoch, stream: StreamId, stream_epoch: StreamEpoch, new_start: Offset
    ) -> None:
        """See `StreamManager.trim`."""
        ...

    async def prepare_objects(self, node: NodeId, epoch: BrokerEpoch, count: int) -> Sequence[ObjectId]:
        """See `ObjectManager.prepare`."""
        ...

    async def commit_object(self, request: CommitRequest) -> CommitResult:
        """See `ObjectManager.commit`."""
        ...
