"""The controller as everything in a broker calls it, wherever it is: asks through a link, and reads its own writes.

Every method returns, or raises a refusal, once the image here includes what the answer tells of. All of them raise
`ApiError` for what has a Kafka code, `BrokerFenced` when the caller's (node, epoch) may not act any more, and
`NotController` when nobody answers as the controller, which says nothing of the caller.
"""

from collections.abc import Callable, Sequence
from typing import Any

from automq.callbacks import ignore
from automq.controller import requests
from automq.controller.compaction_check import CompactionRequest, CompactionResult
from automq.controller.damage import Damage
from automq.controller.link import ControllerLink, Leader
from automq.controller.model import (
    BalancerView,
    ConfigAlteration,
    ConfigResult,
    MoveResult,
    PartitionsSpec,
    ProducerIdBlock,
    Reassignment,
    Registration,
    TopicResult,
    TopicSpec,
    WalToRecover,
)
from automq.controller.requests import Incarnation, Request
from automq.ids import BrokerEpoch, NodeId, ObjectId, Offset, StreamId, TopicId
from automq.metadata.publisher import MetadataPublisher
from automq.metadata.record_parts import IN_THE_BUCKET
from automq.metadata.records import FORMAT_LEVEL, Endpoint, WalDescriptor
from automq.s3stream.model import (
    BrokerFenced,
    CommitRequest,
    CommitResult,
    RecoveredLog,
    StoreDamaged,
    StreamTrim,
    Trimmed,
    Unplaced,
)


class ControllerClient:
    """One of a broker. `metadata` is the image that its callers read.

    `on_behind` is called when an answer told of more than it shows.
    """

    def __init__(
        self, link: ControllerLink, metadata: MetadataPublisher, *, on_behind: Callable[[], None] = ignore
    ) -> None:
        self._link = link
        self._metadata = metadata
        self._on_behind = on_behind

    @property
    def leader(self) -> Leader | None:
        """Who is the controller, as far as is known here."""
        return self._link.leader

    async def _ask(self, request: Request) -> Any:
        """Rule: who changed something reads its own write, and who was refused reads why."""
        answer = await self._link.ask(request)
        # Whoever must not act any more, or knows of damage, need not see more of the metadata first.
        if not isinstance(answer.error, BrokerFenced | StoreDamaged):
            await self._reached(answer.record_number)
        if answer.error is not None:
            raise answer.error
        return answer.value

    async def _reached(self, record_number: int) -> None:
        if self._metadata.image.record_number < record_number:
            self._on_behind()
            await self._metadata.wait(record_number)

    # Brokers.

    async def register_broker(
        self,
        node: NodeId,
        *,
        rack: str | None,
        endpoints: Sequence[Endpoint],
        format_level: int = FORMAT_LEVEL,
        incarnation: bytes = b"",
        wal: WalDescriptor = IN_THE_BUCKET,
        after: BrokerEpoch | None = None,
    ) -> Registration:
        """A new incarnation of `node`: fences the former ones, naming this one as their recoverer.

        With `after` only where that is its newest one; BrokerFenced otherwise.
        """
        request = requests.RegisterBroker(node, rack, endpoints, format_level, incarnation, wal, after)
        found: Registration = await self._ask(request)
        return found

    async def fence_broker(self, node: NodeId, epoch: BrokerEpoch, *, recoverer: Incarnation) -> Sequence[WalToRecover]:
        """End (node, epoch), and whatever it was recovering; `recoverer` recovers the logs that are returned."""
        found: Sequence[WalToRecover] = await self._ask(requests.FenceBroker(node, epoch, recoverer))
        return found

    async def wal_recovered(
        self, node: NodeId, epoch: BrokerEpoch, *, recoverer: Incarnation, recovered: RecoveredLog
    ) -> None:
        """(node, epoch)'s log is committed, but for what was given up, and its end fenced."""
        await self._ask(requests.WalRecovered(node, epoch, recoverer, recovered))

    async def unregister_broker(self, node: NodeId, epoch: BrokerEpoch | None = None) -> None:
        """Forget a fenced node that owns nothing; with `epoch`, end that incarnation first, unless it lives."""
        await self._ask(requests.UnregisterBroker(node, epoch))

    async def open_streams(self, node: NodeId, epoch: BrokerEpoch) -> None:
        """Raise the leader epoch of all of `node`'s partitions, in one record; only when its logs are recovered."""
        await self._ask(requests.OpenStreams(node, epoch))

    async def raise_format_level(self, level: int) -> None:
        """Records of that level may be written from now on, and programs that do not read it never start again."""
        await self._ask(requests.RaiseFormatLevel(level))

    async def allocate_producer_ids(self, node: NodeId, epoch: BrokerEpoch, count: int = 1000) -> ProducerIdBlock:
        """Ids that nobody else ever gets."""
        found: ProducerIdBlock = await self._ask(requests.AllocateProducerIds(node, epoch, count))
        return found

    # Partitions that change hands.

    async def alter_reassignments(
        self, wanted: Sequence[Reassignment], *, allows_factor_change: bool = True
    ) -> list[MoveResult]:
        """One result for each: what is to move does so some time later."""
        found: list[MoveResult] = await self._ask(requests.AlterReassignments(wanted, allows_factor_change))
        return found

    async def elect_leaders(self, wanted: Sequence[tuple[str, int]] | None) -> list[MoveResult]:
        """One result for each; with None one for each that has another leader than its first replica."""
        found: list[MoveResult] = await self._ask(requests.ElectLeaders(wanted))
        return found

    async def stop_broker(self, node: NodeId, epoch: BrokerEpoch) -> bool:
        """(node, epoch) wants to end; False: nobody else can take what it leads."""
        found: bool = await self._ask(requests.StopBroker(node, epoch))
        return found

    async def end_broker(self, node: NodeId, epoch: BrokerEpoch) -> None:
        """(node, epoch), which leads nothing, ends here: it is fenced, and its log needs no recovery."""
        await self._ask(requests.EndBroker(node, epoch))

    async def describe_balancer(self, moves_max: int) -> BalancerView:
        """What the balancer sees, would do and did, with at most so many of its last moves."""
        found: BalancerView = await self._ask(requests.DescribeBalancer(moves_max))
        return found

    # Damage.

    async def quarantine_wal(
        self,
        node: NodeId,
        epoch: BrokerEpoch,
        *,
        recoverer: Incarnation,
        found: Damage,
        unplaced: Sequence[Unplaced] = (),
        by_serving: bool = False,
    ) -> None:
        """(node, epoch)'s log cannot be recovered, but for `unplaced` or at all: pin it, and quarantine its streams.

        The rest is given on; to a recoverer of the same node only when that serves already (`by_serving`).
        """
        await self._ask(requests.QuarantineWal(node, epoch, recoverer, found, unplaced, by_serving))

    async def quarantine_streams(
        self, node: NodeId, epoch: BrokerEpoch, *, streams: Sequence[StreamId], found: Damage
    ) -> None:
        """Streams that (node, epoch) owns take no append until what is damaged is repaired."""
        await self._ask(requests.QuarantineStreams(node, epoch, streams, found))

    async def lose_before(
        self, node: NodeId, epoch: BrokerEpoch, *, recoverer: Incarnation, stream: StreamId, end: Offset
    ) -> None:
        """What `stream` lacks below `end` lay in slots of (node, epoch)'s log that a person gave up."""
        await self._ask(requests.LoseBefore(node, epoch, recoverer, stream, end))

    # Topics and configs.

    async def create_topics(self, specs: Sequence[TopicSpec], *, validate_only: bool = False) -> list[TopicResult]:
        """One result for each name, in order; those without an error are created together."""
        found: list[TopicResult] = await self._ask(requests.CreateTopics(specs, validate_only))
        return found

    async def delete_topics(self, wanted: Sequence[str | TopicId]) -> list[TopicResult]:
        """By name or id, one result each."""
        topics = [(topic, None) if isinstance(topic, str) else (None, topic) for topic in wanted]
        found: list[TopicResult] = await self._ask(requests.DeleteTopics(topics))
        return found

    async def create_partitions(
        self, specs: Sequence[PartitionsSpec], *, validate_only: bool = False
    ) -> list[TopicResult]:
        """Grow topics; one result for each name, in order."""
        found: list[TopicResult] = await self._ask(requests.CreatePartitions(specs, validate_only))
        return found

    async def alter_configs(
        self, alterations: Sequence[ConfigAlteration], *, validate_only: bool = False
    ) -> list[ConfigResult]:
        """Incremental or full, one result each; those without an error are applied together."""
        found: list[ConfigResult] = await self._ask(requests.AlterConfigs(alterations, validate_only))
        return found

    # Streams and objects: what BrokerStreams, BrokerObjects and the compactor ask for.

    async def trim_streams(self, node: NodeId, epoch: BrokerEpoch, trims: Sequence[StreamTrim]) -> Sequence[Trimmed]:
        """See `StreamManager.trim`."""
        found: Sequence[Trimmed] = await self._ask(requests.TrimStreams(node, epoch, trims))
        return found

    async def prepare_objects(self, node: NodeId, epoch: BrokerEpoch, count: int) -> Sequence[ObjectId]:
        """See `ObjectManager.prepare`."""
        found: Sequence[ObjectId] = await self._ask(requests.PrepareObjects(node, epoch, count))
        return found

    async def commit_objects(self, request: CommitRequest) -> CommitResult:
        """See `ObjectManager.commit`. Raises ObjectRefused, CommitTooLarge."""
        found: CommitResult = await self._ask(requests.CommitObjects(request))
        return found

    async def commit_compaction(self, request: CompactionRequest) -> CompactionResult:
        """Swap ranges for those of compacted objects. Raises CompactionRefused, ObjectRefused, CommitTooLarge."""
        found: CompactionResult = await self._ask(requests.CommitCompaction(request))
        return found

    async def confirm(self, node: NodeId, epoch: BrokerEpoch) -> None:
        """See `ObjectManager.confirm`. Raises BrokerFenced, StoreError."""
        await self._ask(requests.Confirm(node, epoch))
