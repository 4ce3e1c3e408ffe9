"""The active controller: it holds the claim to the metadata log, decides commands in turn, and publishes images.

Every method that changes something is one atomic change: it returns, or raises, once everything that it saw is durable.
All of them raise `ApiError` for what has a Kafka code, `BrokerFenced` when the caller's (node, epoch) may not act any
more, `LogFenced` when another controller has taken over, `LogFailed` after `close`.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Final, TypeVar, Unpack

from automq.controller import brokers, configs, damage, format_levels, objects, streams, topics
from automq.controller.background import Background
from automq.controller.commands import Commands
from automq.controller.commit_check import judge_in_turns
from automq.controller.compaction_check import CompactionRequest, CompactionResult, judge_compaction
from automq.controller.controller_metrics import ControllerMetrics
from automq.controller.followers import Followers
from automq.controller.link import Leader
from automq.controller.membership import Membership
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
from automq.controller.mover import Mover
from automq.controller.reports import DamageReports
from automq.controller.taking_over import TakingOver
from automq.ids import BrokerEpoch, ClusterId, ControllerEpoch, NodeId, ObjectId, Offset, StreamId, TopicId
from automq.metadata.change import MetadataChange
from automq.metadata.claim import NO_EPOCH, ClaimantAddress
from automq.metadata.image import MetadataImage
from automq.metadata.lease import Lease
from automq.metadata.loader import Loaded
from automq.metadata.log import MetadataLog
from automq.metadata.patience import Patience
from automq.metadata.publisher import MetadataPublisher
from automq.metadata.records import FormatLevelRaised, MetadataRecord, PrefixOwnerSet
from automq.metadata.replay import MetadataMachine
from automq.replicated.driver import GradualDriver
from automq.replicated.machine import Decision, LogFailed
from automq.runtime.budget import BorrowingBudget
from automq.runtime.clock import Clock
from automq.runtime.entropy import Entropy
from automq.runtime.tasks import Tasks
from automq.runtime.wall_time import TrustedTime
from automq.s3stream.model import CommitRequest, CommitResult, RecoveredLog, StoreDamaged, StreamTrim, Trimmed, Unplaced
from automq.s3stream.ports import ObjectStorage, StoreError
from automq.steps import Steps

T = TypeVar("T")

log = logging.getLogger(__name__)

SETTLE_S: Final = 1.0
"""A slot takes a fraction of that; in an outage nobody should wait."""


class Controller:
    """One of a claim: started once, and dropped when it is lost.

    `on_fenced` is called once, with the reason, when another controller has taken over. `where` is this process's
    internal listener.

    `on_damaged` is called once when the metadata log has been damaged under us; nothing is decided from then on.

    `key_of` names the key of an object in the store, for those that are deleted.
    """

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
        metrics: ControllerMetrics,
        on_fenced: Callable[[str], None],
        on_damaged: Callable[[StoreDamaged], None],
        on_store: Callable[[StoreError | None], None],
        trusted_time: Callable[[], TrustedTime | None] = lambda: None,
        snapshot_memory: BorrowingBudget | None = None,
        where: ClaimantAddress | None = None,
    ) -> None:
        self._where = where
        self._settings, self._cluster_id, self._node = settings, cluster_id, node
        self._store, self._publisher, self._key_of = store, publisher, key_of
        self._clock, self._entropy, self._tasks = clock, entropy, tasks
        self._on_fenced, self._on_damaged = on_fenced, on_damaged
        self._trusted_time, self._snapshot_memory = trusted_time, snapshot_memory
        self._patience = Patience(entropy=entropy, on_store=on_store)
        self._metrics = metrics
        self.followers = Followers(clock)
        self._reports = DamageReports(gauge=metrics.damaged_keys)
        self._machine = MetadataMachine(publisher.image)
        self._epoch = ControllerEpoch(0)
        self._log: MetadataLog | None = None
        self._driver: GradualDriver[MetadataRecord, MetadataChange] | None = None
        self._commands: Commands | None = None
        self._background: Background | None = None
        self._membership: Membership | None = None
        self._lease: Lease | None = None
        self.moves = Mover(call=self._call, call_in_turns=self._call_in_turns, publisher=publisher, tasks=tasks)
        self._is_lost = False

    @property
    def epoch(self) -> ControllerEpoch:
        """The claim this process holds, once started."""
        return self._epoch

    @property
    def leader(self) -> Leader | None:
        """This process, as long as nobody has taken over as far as it knows."""
        return Leader(self._node, self._epoch) if self.is_active else None

    @property
    def record_number(self) -> int:
        """How many records are durable. Right after a command was answered: its own are, and what it was decided on."""
        return self._publisher.image.record_number

    @property
    def is_active(self) -> bool:
        """Whether nobody has taken over, as far as this process knows."""
        return self._driver is not None and self._driver.failure is None

    def damage_summary(self) -> str | None:
        """What this controller knows to be damaged, missing or out of reach, and goes on with."""
        waiting = None if self._membership is None else self._membership.waiting_summary()
        return "; ".join(filter(None, (self._reports.summary(), waiting))) or None

    async def start(
        self,
        *,
        owner: str | None,
        recorded_owner: str | None = None,
        known: Loaded | None = None,
        above: ControllerEpoch = NO_EPOCH,
        is_contest: bool = False,
    ) -> None:
        """Claim, fence and replay every lower epoch, publish the image, and record `owner` if it is a new one.

        To be called after `metadata.cluster` said that the prefix may be run, with the owner it found recorded, the log
        as it read it and the newest epoch that it knows of, and only once everything that could end the process was
        checked. Waits while the store fails (cancel to give up).
        Raises LogFenced when a newer claim was faster, StoreOwnedByAnother when the owner changed meanwhile,
        StoreUnsuitable, StoreDamaged, FormatTooNew.
        """
        assert self._driver is None
        taking_over = TakingOver(
            store=self._store,
            cluster_id=self._cluster_id,
            node=self._node,
            where=self._where,
            entropy=self._entropy,
            patience=self._patience,
            tasks=self._tasks,
            memory=self._snapshot_memory,
        )
        number = 0 if known is None else known.image.record_number
        self._epoch = await taking_over.claim(above=above, owner=owner, record_number=number, is_contest=is_contest)
        loaded = await taking_over.load(self._epoch, known, owners=(None, owner, recorded_owner))
        self._begin(loaded)
        self.moves.balance(self._settings, lambda: self.members.around.loads, self._clock, self._metrics)
        self.moves.start()
        records: list[MetadataRecord] = []
        level = format_levels.level_at_claim(loaded.image)
        if loaded.image.format_level < level:
            records.append(FormatLevelRaised(level=level))
        if loaded.image.prefix_owner != owner:
            records.append(PrefixOwnerSet(owner=owner))
        if records:
            await self._call(lambda _image: Decision(records, None))

    async def drained(self) -> None:
        """Everything is done that this process will do: let the lease say how long the log is.

        A store that fails is no error: a lost end of the log is only harder to notice then.
        """
        if self._lease is not None and self.is_active:
            try:
                await self._lease.renew()
            except StoreError as error:
                log.info("the last renewal of the lease failed", extra={"error": str(error)})

    def _begin(self, loaded: Loaded) -> None:
        """The claim is ours and the state is loaded: take commands."""
        self._log = MetadataLog(
            store=self._store,
            cluster_id=self._cluster_id,
            epoch=self._epoch,
            record_number=loaded.image.record_number,
            entropy=self._entropy,
            tasks=self._tasks,
            patience=self._patience,
            on_fenced=self._on_lost,
            on_damaged=self._on_lost,
            now=self._clock.boottime,
            on_durable=self.followers.on_durable,
        )
        self.followers.begin(loaded.image.record_number)
        self._machine = MetadataMachine(loaded.image, remembers=True)
        self._driver = GradualDriver(
            self._machine,
            self._log,
            capture=self._machine.take_change,
            publish=self._publisher.publish,
            on_failed=self._on_lost,
        )
        self._commands = Commands(self._machine, self._driver, self._log, records=self._metrics.records)
        self._publisher.replace(loaded.image)
        self._metrics.active.set(1)
        metadata_log = self._log
        self._lease = Lease(
            store=self._store,
            cluster_id=self._cluster_id,
            node=self._node,
            epoch=self._epoch,
            clock=self._clock,
            interval_s=self._settings.lease_interval_s,
            record_number=lambda: metadata_log.record_number,
            on_renewal=self._metrics.renewals.inc,
            trusted_time=self._trusted_time,
        )
        self._background = Background(
            settings=self._settings,
            store=self._store,
            clock=self._clock,
            tasks=self._tasks,
            patience=self._patience,
            publisher=self._publisher,
            log=self._log,
            cluster_id=self._cluster_id,
            entropy=self._entropy,
            snapshot_memory=self._snapshot_memory,
            prove_active=self._prove_active,
            orphans_deleted=self._metrics.orphans,
            reports=self._reports,
            lease=self._lease,
            key_of=self._key_of,
            destroy=self._destroy_superfluous,
            deleted=self._objects_deleted,
        )
        self._reports.replace("start", loaded.damaged)
        self._background.start(loaded)
        self._membership = Membership(
            node=self._node,
            session_s=self._settings.session_timeout_ms / 1000,
            publisher=self._publisher,
            commands=self._commands,
            proved_at=lambda: metadata_log.proved_at,
            clock=self._clock,
            tasks=self._tasks,
        )
        self._membership.start()

    async def close(self) -> None:
        """Stop background work; what is durable stays, what waits fails."""
        self._is_lost = True
        if self._log is not None:
            self._log.close()
        self._fall_silent(LogFailed("the controller was closed"))
        if self._log is not None:
            await self._log.drain(SETTLE_S)

    def _on_lost(self, error: Exception) -> None:
        """Another controller has taken over: no command, no lease and no deletion any more."""
        if self._is_lost:
            return
        self._is_lost = True
        if isinstance(error, StoreDamaged):
            # Nobody has taken over; but nothing can be decided without the log.
            self._fall_silent(error)
            self._on_damaged(error)
            return
        log.warning("controller fenced", extra={"controller_epoch": self._epoch, "why": str(error)})
        self._fall_silent(error)
        self._on_fenced(str(error))

    def _fall_silent(self, error: Exception) -> None:
        self._metrics.active.set(0)
        if self._membership is not None:
            self._membership.stop()
        self.moves.stop()
        if self._background is not None:
            self._background.stop()
        self.followers.fail(error)
        if self._driver is not None:
            self._driver.fail(error)

    async def _prove_active(self) -> None:
        """A record that changes nothing is durable: until then nobody else has written one."""
        await self._call(lambda image: Decision((FormatLevelRaised(level=image.format_level),), None))

    async def _call(self, decide: Callable[[MetadataImage], Decision[MetadataRecord, T]]) -> T:
        return await self._started().call(decide)

    async def _call_in_turns(self, decide: Callable[[MetadataImage], Steps[Decision[MetadataRecord, T]]]) -> T:
        return await self._started().call_in_turns(decide)

    def _started(self) -> Commands:
        if self._commands is None:
            raise LogFailed("the controller has not started")
        return self._commands

    @property
    def members(self) -> Membership:
        """Who lives, as this claim heard, once it has started."""
        assert self._membership is not None
        return self._membership

    # Brokers.

    async def register_broker(self, node: NodeId, **who: Unpack[brokers.Who]) -> Registration:
        """A new incarnation of `node`: fences the former ones, naming this one as their recoverer."""
        return await self._call(lambda image: brokers.register_broker(image, node, **who))

    async def fence_broker(
        self, node: NodeId, epoch: BrokerEpoch, *, recoverer: tuple[NodeId, BrokerEpoch]
    ) -> Sequence[WalToRecover]:
        """End (node, epoch), and whatever it was recovering; `recoverer` recovers the logs that are returned."""
        return await self._call(lambda image: brokers.fence_broker(image, node, epoch, recoverer=recoverer))

    async def wal_recovered(
        self,
        node: NodeId,
        epoch: BrokerEpoch,
        *,
        recoverer: tuple[NodeId, BrokerEpoch],
        recovered: RecoveredLog | None = None,
    ) -> None:
        """(node, epoch)'s log is committed, but for what was given up, and its end fenced."""
        done = RecoveredLog(fence=0) if recovered is None else recovered
        now_ms, around = self._clock.wall_ms(), self.members.around
        await self._call_in_turns(
            lambda image: damage.wal_recovered(
                image, node, epoch, recoverer=recoverer, recovered=done, now_ms=now_ms, around=around
            )
        )

    async def open_streams(self, node: NodeId, epoch: BrokerEpoch) -> None:
        """Raise the leader epoch of all of `node`'s partitions, in one record; only when its logs are recovered."""
        await self._call(lambda image: streams.open_streams(image, node, epoch))

    async def raise_format_level(self, level: int) -> None:
        """See `format_levels.raise_level`."""
        await self._call(lambda image: format_levels.raise_level(image, level))

    async def allocate_producer_ids(self, node: NodeId, epoch: BrokerEpoch, count: int = 1000) -> ProducerIdBlock:
        """Ids that nobody else ever gets."""
        return await self._call(lambda image: brokers.allocate_producer_ids(image, node, epoch, count))

    # Damage and repair.

    async def quarantine_wal(
        self,
        node: NodeId,
        epoch: BrokerEpoch,
        *,
        recoverer: tuple[NodeId, BrokerEpoch],
        found: damage.Damage,
        unplaced: Sequence[Unplaced] = (),
        by_serving: bool = False,
    ) -> None:
        """(node, epoch)'s log cannot be recovered, but for `unplaced` or at all: pin it, and quarantine its streams."""
        await self._call_in_turns(
            lambda image: damage.quarantine_wal(
                image,
                node,
                epoch,
                recoverer=recoverer,
                damage=found,
                unplaced=unplaced,
                now_ms=self._clock.wall_ms(),
                around=self.members.around,
                by_serving=by_serving,
            )
        )

    async def quarantine_streams(
        self, node: NodeId, epoch: BrokerEpoch, *, streams: Sequence[StreamId], found: damage.Damage
    ) -> None:
        """Streams that (node, epoch) owns take no append until what is damaged is repaired."""
        await self._call(
            lambda image: damage.quarantine_streams(
                image, node, epoch, streams=streams, damage=found, now_ms=self._clock.wall_ms()
            )
        )

    async def lose_before(
        self,
        node: NodeId,
        epoch: BrokerEpoch,
        *,
        recoverer: tuple[NodeId, BrokerEpoch],
        stream: StreamId,
        end: Offset,
    ) -> None:
        """What `stream` lacks below `end` lay in slots of (node, epoch)'s log that a person gave up."""
        await self._call(
            lambda image: damage.lose_before(
                image, node, epoch, recoverer=recoverer, stream=stream, end=end, now_ms=self._clock.wall_ms()
            )
        )

    async def repair(self, wanted: damage.Repair, *, by: str) -> None:
        """Record what a person gives up and what is whole again, together or not at all."""
        await self._call(lambda image: damage.repair(image, wanted, by=by, now_ms=self._clock.wall_ms()))

    # Topics and configs.

    async def create_topics(self, specs: Sequence[TopicSpec], *, validate_only: bool = False) -> list[TopicResult]:
        """One result for each name, in order; those without an error are created together."""
        return await self._call_in_turns(
            lambda image: topics.create_topics(
                image,
                specs,
                settings=self._settings,
                new_id=self._entropy.uuid,
                validate_only=validate_only,
                among=self._live(),
            )
        )

    async def delete_topics(self, wanted: Sequence[str | TopicId]) -> list[TopicResult]:
        """By name or id, one result each."""
        return await self._call_in_turns(lambda image: topics.delete_topics(image, wanted))

    async def create_partitions(
        self, specs: Sequence[PartitionsSpec], *, validate_only: bool = False
    ) -> list[TopicResult]:
        """Grow topics; one result for each name, in order."""
        return await self._call_in_turns(
            lambda image: topics.create_partitions(
                image, specs, settings=self._settings, validate_only=validate_only, among=self._live()
            )
        )

    async def alter_configs(
        self, alterations: Sequence[ConfigAlteration], *, validate_only: bool = False
    ) -> list[ConfigResult]:
        """Incremental or full, one result each; those without an error are applied together."""
        return await self._call_in_turns(
            lambda image: configs.alter_configs(
                image,
                alterations,
                message_limit=self._settings.message_limit,
                validate_only=validate_only,
            )
        )

    # Streams and objects: what BrokerStreams and BrokerObjects ask for.

    async def trim_streams(self, node: NodeId, epoch: BrokerEpoch, trims: Sequence[StreamTrim]) -> Sequence[Trimmed]:
        """See `StreamManager.trim`."""
        return await self._call_in_turns(lambda image: streams.trim_streams(image, node, epoch, trims))

    async def prepare_objects(self, node: NodeId, epoch: BrokerEpoch, count: int) -> Sequence[ObjectId]:
        """See `ObjectManager.prepare`."""
        return await self._call(
            lambda image: objects.prepare_objects(
                image, node, epoch, count, now_ms=self._clock.wall_ms(), expiry_ms=self._settings.object_expiry_ms
            )
        )

    async def commit_objects(self, request: CommitRequest) -> CommitResult:
        """See `ObjectManager.commit`. Raises ObjectRefused, CommitTooLarge."""
        return await self._call_in_turns(lambda image: judge_in_turns(image, request))

    async def commit_compaction(self, request: CompactionRequest) -> CompactionResult:
        """Swap ranges for those of compacted objects. Raises CompactionRefused, ObjectRefused, CommitTooLarge."""
        now_ms = self._clock.wall_ms()
        return await self._call_in_turns(lambda image: judge_compaction(image, request, now_ms=now_ms))

    async def confirm(self, node: NodeId, epoch: BrokerEpoch) -> None:
        """See `ObjectManager.confirm`. Raises BrokerFenced, StoreError."""
        await self._started().prove_unfenced()
        brokers.check_alive(self._publisher.image, node, epoch)

    def _live(self) -> topics.LiveBrokers:
        """Brokers that are known to be there, whoever follows and this one, with what their heartbeats told."""
        return {node: self.members.around.loads.get(node) for node in {self._node, *self.followers.live()}}

    # What the background asks for.

    async def _destroy_superfluous(self) -> int:
        return await self._call(lambda image: objects.destroy_superfluous(image, now_ms=self._clock.wall_ms()))

    async def _objects_deleted(self, gone: Sequence[ObjectId]) -> None:
        await self._call(lambda image: objects.objects_deleted(image, gone))
